//! The order to stop: balancers get time to notice, requests in flight end, nobody waits for ever.

use std::time::Duration;

use engine::EngineOptions;
use gateway::http::listener::{ListenerOptions, Stopped};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use wire::clock::{Clock, SystemClock};

use crate::connections::{read_all, read_until};
use crate::world::World;

async fn world(listening: ListenerOptions) -> World {
    World::start_with(EngineOptions::default(), listening).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_balancers_notice_each_answer_is_the_last_of_its_connection() {
    let drain_delay = Duration::from_millis(800);
    let world = world(ListenerOptions { drain_delay, ..ListenerOptions::default() }).await;
    let head = world.call("HEAD", "/bucket").head("");
    let mut kept = TcpStream::connect(world.address).await.expect("connected");
    kept.write_all(head.as_bytes()).await.expect("sent");
    let answer = read_until(&mut kept, "\r\n\r\n").await.to_lowercase();
    assert!(!answer.contains("connection: close"), "{answer}");
    let clock = SystemClock::new();
    let ordered = clock.monotonic();
    world.order_stop();
    // From when the order has arrived, an answer says so.
    loop {
        kept.write_all(head.as_bytes()).await.expect("sent");
        let answer = read_until(&mut kept, "\r\n\r\n").await.to_lowercase();
        assert!(answer.contains("200 ok"), "{answer}");
        if answer.contains("connection: close") {
            break;
        }
        assert!(clock.monotonic().saturating_sub(ordered) < drain_delay, "no answer is the last");
    }
    assert_eq!(read_all(&mut kept).await, "");
    // Who hasn't noticed yet is served all the same.
    let mut late = TcpStream::connect(world.address).await.expect("connected");
    late.write_all(head.as_bytes()).await.expect("sent");
    let answer = read_all(&mut late).await.to_lowercase();
    assert!(answer.contains("200 ok") && answer.contains("connection: close"), "{answer}");
    assert!(clock.monotonic().saturating_sub(ordered) < drain_delay, "too slow a machine to tell");
    let address = world.address;
    assert_eq!(world.stop().await, Stopped::Finished);
    assert!(clock.monotonic().saturating_sub(ordered) >= drain_delay);
    TcpStream::connect(address).await.expect_err("nobody listens");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_in_flight_is_finished_and_a_standing_one_is_cut_off() {
    let shutdown_grace = Duration::from_millis(700);
    let world = world(ListenerOptions { shutdown_grace, ..ListenerOptions::default() }).await;
    let call = world.call("PUT", "/bucket/key").payload("UNSIGNED-PAYLOAD");
    let head = call.head("content-length: 10\r\nexpect: 100-continue\r\n");
    let (mut going_on, mut standing) = (
        TcpStream::connect(world.address).await.expect("connected"),
        TcpStream::connect(world.address).await.expect("connected"),
    );
    for stream in [&mut going_on, &mut standing] {
        stream.write_all(head.as_bytes()).await.expect("sent");
        read_until(stream, "100 Continue").await;
    }
    world.order_stop();
    going_on.write_all(b"0123456789").await.expect("sent");
    let answer = read_all(&mut going_on).await;
    assert!(answer.contains("200 OK"), "{answer}");
    assert_eq!(world.stop().await, Stopped::CutOff(1));
    assert_eq!(read_all(&mut standing).await, "");
}
