//! A connection breaks at any byte: a request that is said not to have arrived has reached no
//! handler.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::node::Roles;
use wire::clock::SimulatedClock;
use wire::rpc::{RpcClient, RpcError, Security, ServerLimits};

use crate::world::*;

/// Asks through a proxy that cuts after so many bytes; says whether the request is said not to have
/// arrived.
async fn cut_after(
    world: &World,
    security: Security,
    bytes: usize,
    asked: AskMetadata,
) -> Option<bool> {
    let proxy = proxy(&world.address, bytes).await;
    let client = client(security);
    let number = asked.number;
    let told = client.call::<_, Told>(&route(&proxy.address), asked, LONG).await;
    match told {
        Ok(told) => {
            assert_eq!(told.number, number);
            None
        }
        Err(error) => {
            // A handler that runs has been begun by now, or never is: the connection is gone.
            let is_unreachable = error.is_before_handler();
            if is_unreachable {
                assert!(!world.service.begun().contains(&number), "byte {bytes}: {error}");
            }
            Some(is_unreachable)
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_request_cut_at_every_byte() {
    let world = serve(plain(1, Roles::ALL)).await;
    let attachments = vec![Bytes::from_static(b"an attachment"), Bytes::new()];
    // Hello, chunk, head, table, header, attachment.
    let whole = 48 + 16 + 24 + 8 + 9 + 13;
    for bytes in 0..=whole + 1 {
        let number = bytes as u64;
        let asked = AskMetadata { op: Op::Echo, number, attachments: attachments.clone() };
        let lost = cut_after(&world, plain(2, Roles::GATEWAY), bytes, asked).await;
        match bytes {
            // Without the hello there is no connection over which anything could be sent.
            ..48 => assert_eq!(lost, Some(true), "{bytes}"),
            // The client has given all away: it can't know.
            // It is cut as soon as the server has the hello; its own may not come back.
            48 => assert!(lost.is_some()),
            49.. if bytes < whole => {
                assert_eq!(lost, Some(false), "{bytes}");
                assert!(!world.service.begun().contains(&number));
            }
            _ => assert_ne!(lost, Some(true), "{bytes}"),
        }
    }
    assert!(world.service.begun().contains(&(whole as u64 + 1)), "the last was whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_over_tls_cut_at_many_bytes() {
    let authority = authority();
    let world = serve(tls(&authority, 1, Roles::ALL)).await;
    let (mut unreachable, mut unknown, mut answered) = (0, 0, 0);
    for bytes in (0..3000).step_by(37) {
        let asked = ask::<2>(Op::Echo, bytes as u64);
        match cut_after(&world, tls(&authority, 2, Roles::GATEWAY), bytes, asked).await {
            Some(true) => unreachable += 1,
            Some(false) => unknown += 1,
            None => answered += 1,
        }
    }
    // The handshake, the request, and beyond.
    assert!(unreachable > 10 && unknown > 0 && answered > 10, "{unreachable} {unknown} {answered}");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_requests_cut_while_they_are_sent() {
    let world = serve(plain(1, Roles::ALL)).await;
    let (mut unreachable, mut unknown) = (0, 0);
    for round in 0..12u64 {
        let bytes = 48 + round as usize * 700_001;
        let attachments = vec![vec![round as u8; 8 << 20].into()];
        let asked = AskMetadata { op: Op::Echo, number: round, attachments };
        match cut_after(&world, plain(2, Roles::GATEWAY), bytes, asked).await {
            Some(true) => unreachable += 1,
            Some(false) => unknown += 1,
            None => panic!("it can't have arrived whole"),
        }
        assert!(world.service.begun().is_empty());
    }
    assert!(unreachable > 0, "{unreachable} {unknown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_wait_behind_others_when_the_line_breaks() {
    let limits = ServerLimits { requests_in_flight_max: 4, ..patient_limits() };
    let world = serve_with(plain(1, Roles::ALL), limits, clock()).await;
    let proxy = proxy(&world.address, usize::MAX).await;
    let client = client(plain(2, Roles::GATEWAY));
    let payload = Bytes::from(vec![7; 1 << 20]);
    let calls: Vec<_> = (0..64u64)
        .map(|number| {
            let (client, route) = (Arc::clone(&client), route(&proxy.address));
            let attachments = vec![payload.clone()];
            let asked = AskMetadata { op: Op::Wait, number, attachments };
            tokio::spawn(async move { (number, client.call::<_, Told>(&route, asked, LONG).await) })
        })
        .collect();
    // The server reads no more than these four.
    world.service.until(|service| service.begun().len() == 4).await;
    // Nor is there another way to it: what wasn't sent is tried once more over a new connection.
    let cut = Arc::clone(&proxy.cut);
    drop(proxy);
    cut.notify_waiters();
    let mut unreachable = 0;
    for call in calls {
        let (number, told) = call.await.expect("no panic");
        let error = told.expect_err("nothing was answered");
        if error.is_before_handler() {
            unreachable += 1;
            assert!(!world.service.begun().contains(&number));
        }
    }
    assert!(unreachable >= 16, "{unreachable}: most of them never left");
}

#[tokio::test]
async fn a_peer_that_is_not_there_is_unreachable_at_once_and_then_left_alone_for_a_while() {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = nobody.local_addr().expect("an address").to_string();
    drop(nobody);
    let time = SimulatedClock::new();
    let client = RpcClient::new(plain(2, Roles::GATEWAY), patient(), Arc::new(time.clone()));
    let client = client.expect("a client");
    let call = |number| put(&client, &address, ask::<2>(Op::Echo, number));
    let error = call(1).await.expect_err("nobody is there");
    assert!(matches!(error, RpcError::Unreachable { .. }), "{error}");
    // Now somebody is there, and isn't asked before the pause is over.
    let listener = tokio::net::TcpListener::bind(&address).await.expect("the same port");
    for number in 2..100 {
        let error = call(number).await.expect_err("it is left alone");
        assert!(matches!(error, RpcError::Unreachable { .. }), "{error}");
    }
    time.advance(Duration::from_secs(1));
    tokio::select! {
        told = call(100) => panic!("nobody says hello: {told:?}"),
        knocked = listener.accept() => drop(knocked.expect("the client")),
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    // It says hello, and then nothing: a process that was stopped.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let silent = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = listener.accept().await.expect("the client");
        stream.read_exact(&mut [0; 48]).await.expect("its hello");
        let hello = crate::raw::hello(&identity(1, Roles::ALL));
        stream.write_all(&hello).await.expect("written");
        std::future::pending::<()>().await;
    });
    let (options, time) = (patient(), Hurried::by(20));
    let client = RpcClient::new(plain(2, Roles::GATEWAY), options, time).expect("a client");
    let hour = Duration::from_hours(1);
    let route = route(&address);
    let told = client.call::<AskMetadata, Told>(&route, ask(Op::Echo, 1), hour);
    let told = tokio::time::timeout(LONG, told).await.expect("it is given up");
    assert!(matches!(told, Err(RpcError::TimedOut { .. })), "{told:?}");
    silent.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_its_time_is_waited_for() {
    // The server's seconds are short, the client's not so: it gives up after two of the machine's.
    let world = serve_with(plain(1, Roles::ALL), patient_limits(), Hurried::by(10)).await;
    let options = patient();
    let client =
        RpcClient::new(plain(2, Roles::GATEWAY), options, Hurried::by(2)).expect("a client");
    let hour = Duration::from_hours(1);
    let there = route(&world.address);
    let long = client.call::<AskMetadata, Told>(&there, ask(Op::Wait, 1), hour);
    let release = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        world.service.gate.add_permits(1);
    };
    let (long, ()) = tokio::join!(long, release);
    assert!(long.is_ok(), "its handler took long: {long:?}");
    // 1 MiB takes four seconds and a half, either way.
    let proxy = slow_proxy(&world.address, usize::MAX, Duration::from_millis(280)).await;
    let there = route(&proxy.address);
    let large = AskShards { op: Op::Echo, number: 2, attachments: vec![vec![0; 1 << 20].into()] };
    let told = client.call::<_, Told>(&there, large, hour).await;
    assert!(told.is_ok(), "its line is slow: {told:?}");
}
