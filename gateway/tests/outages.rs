//! The metadata goes away: requests wait a little, then get a 503 in time, and all is well again
//! when it is back.

use std::sync::atomic::Ordering;
use std::time::Duration;

use engine::EngineOptions;
use gateway::http::listener::ListenerOptions;
use wire::clock::{Clock, SystemClock};

use crate::world::World;

/// The shape of the defaults, in less time.
const PATIENCE: Duration = Duration::from_millis(600);

async fn world() -> World {
    let options = EngineOptions {
        metadata_patience: PATIENCE,
        map_interval: Duration::from_millis(50),
        ..EngineOptions::default()
    };
    World::start_with(options, ListenerOptions::default()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_election_is_waited_for() {
    let world = world().await;
    world.call("PUT", "/bucket/key").body("before").send().await.is(200);
    world.metadata.away.store(true, Ordering::Relaxed);
    let election = async {
        // The three requests, and whoever keeps the cluster map.
        while world.metadata.waiting.load(Ordering::Relaxed) < 4 {
            tokio::task::yield_now().await;
        }
        world.metadata.away.store(false, Ordering::Relaxed);
    };
    let put = world.call("PUT", "/bucket/other").body("during").send();
    let get = world.call("GET", "/bucket/key").send();
    let list = world.call("GET", "/bucket?list-type=2").send();
    let ((), put, get, list) = tokio::join!(election, put, get, list);
    put.is(200);
    assert_eq!(get.is(200).text(), "before");
    list.is(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_without_metadata_says_so_in_time_and_recovers() {
    let world = world().await;
    world.call("PUT", "/bucket/key").body("before").send().await.is(200);
    world.metadata.away.store(true, Ordering::Relaxed);
    let clock = SystemClock::new();
    let began = clock.monotonic();
    for call in [
        world.call("GET", "/bucket/key"),
        world.call("PUT", "/bucket/key").body("after"),
        world.call("PUT", "/another"),
        world.call("DELETE", "/bucket/key"),
        world.call("GET", "/"),
    ] {
        let reply = call.send().await;
        reply.is_error(503, "ServiceUnavailable");
        assert_eq!(reply.header("retry-after"), Some("1"));
    }
    // The first waited; whoever came after it was told at once.
    let took = clock.monotonic().saturating_sub(began);
    assert!(took < PATIENCE * 3, "{took:?}");
    let silence = world.engine.metadata_silence().expect("silent");
    assert!(silence >= PATIENCE, "{silence:?}");
    world.metadata.away.store(false, Ordering::Relaxed);
    let back = clock.monotonic();
    // Who asks meanwhile is refused, until the map's keeper has heard it.
    let reply = loop {
        let reply = world.call("GET", "/bucket/key").send().await;
        if reply.status == 200 {
            break reply;
        }
        reply.is_error(503, "ServiceUnavailable");
        let waited = clock.monotonic().saturating_sub(back);
        assert!(waited < Duration::from_secs(10), "it doesn't come back");
    };
    assert_eq!(reply.text(), "before");
    assert_eq!(world.engine.metadata_silence(), None);
    world.call("PUT", "/bucket/key").body("after").send().await.is(200);
}
