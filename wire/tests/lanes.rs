//! What is urgent doesn't wait for what is large.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use model::node::Roles;
use wire::rpc::{ClientOptions, RpcClient, ServerLimits};

use crate::world::*;

#[tokio::test(flavor = "multi_thread")]
async fn small_requests_pass_large_ones_on_the_same_connection() {
    let authority = authority();
    let world = serve(tls(&authority, 1, Roles::ALL)).await;
    let options = ClientOptions { shard_connections_max: 1, ..patient() };
    let client = RpcClient::new(tls(&authority, 2, Roles::GATEWAY), options, clock());
    let client = client.expect("a client");
    let payload = Bytes::from(vec![7; 64 << 20]);
    let large_done = Arc::new(AtomicUsize::new(0));
    let large: Vec<_> = (0..3u64)
        .map(|number| {
            let (client, route) = (Arc::clone(&client), route(&world.address));
            let (done, attachments) = (Arc::clone(&large_done), vec![payload.clone()]);
            tokio::spawn(async move {
                let asked = AskShards { op: Op::Echo, number, attachments };
                client.call::<_, Told>(&route, asked, LONG).await.expect("answered");
                done.fetch_add(1, Ordering::SeqCst);
            })
        })
        .collect();
    // As many small ones as one after the other come through before the first large one is over.
    let mut passed = 0;
    while large_done.load(Ordering::SeqCst) == 0 {
        let asked = ask::<1>(Op::Echo, 1000 + passed);
        client.call::<_, Told>(&route(&world.address), asked, LONG).await.expect("answered");
        passed += 1;
    }
    assert!(passed >= 20, "only {passed} small requests passed 64 MiB");
    for call in large {
        call.await.expect("no panic");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn raft_and_metadata_do_not_wait_for_shards_that_nobody_reads() {
    let limits = ServerLimits {
        requests_in_flight_max: 2,
        bytes_in_flight_max: 1 << 20,
        ..patient_limits()
    };
    let world = serve_with(plain(1, Roles::ALL), limits, clock()).await;
    let client = client(plain(2, Roles::METADATA));
    let payload = Bytes::from(vec![7; 4 << 20]);
    let stuck: Vec<_> = (0..40u64)
        .map(|number| {
            let (client, route) = (Arc::clone(&client), route(&world.address));
            let asked = AskShards { op: Op::Wait, number, attachments: vec![payload.clone()] };
            tokio::spawn(async move { client.call::<_, Told>(&route, asked, LONG).await })
        })
        .collect();
    world.service.until(|service| !service.begun().is_empty()).await;
    // And metadata's own requests, all of which wait for Raft, don't hold that up.
    let waiting: Vec<_> = (100..110u64)
        .map(|number| {
            let (client, route) = (Arc::clone(&client), route(&world.address));
            tokio::spawn(async move {
                client.call::<AskMetadata, Told>(&route, ask(Op::Wait, number), LONG).await
            })
        })
        .collect();
    world.service.until(|service| service.begun().iter().any(|number| *number >= 100)).await;
    for number in 1000..1020 {
        let told = put(&client, &world.address, ask::<3>(Op::Echo, number));
        assert!(told.await.is_ok());
    }
    world.service.gate.add_permits(50);
    for call in stuck.into_iter().chain(waiting) {
        call.await.expect("no panic").expect("answered in the end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_reads_no_more_than_it_has_room_for() {
    let limits = ServerLimits { requests_in_flight_max: 3, ..patient_limits() };
    let world = serve_with(plain(1, Roles::ALL), limits, clock()).await;
    let options = ClientOptions { shard_connections_max: 2, ..patient() };
    let client = RpcClient::new(plain(2, Roles::GATEWAY), options, clock()).expect("a client");
    let most = Arc::new(AtomicUsize::new(0));
    let calls: Vec<_> = (0..200u64)
        .map(|number| {
            let (client, route) = (Arc::clone(&client), route(&world.address));
            let (service, most) = (Arc::clone(&world.service), Arc::clone(&most));
            tokio::spawn(async move {
                let asked = ask::<1>(Op::Wait, number);
                client.call::<_, Told>(&route, asked, LONG).await.expect("answered");
                most.fetch_max(service.working.load(Ordering::SeqCst), Ordering::SeqCst);
            })
        })
        .collect();
    for _ in 0..200 {
        world.service.until(|service| service.working.load(Ordering::SeqCst) > 0).await;
        most.fetch_max(world.service.working.load(Ordering::SeqCst), Ordering::SeqCst);
        world.service.gate.add_permits(1);
        tokio::task::yield_now().await;
    }
    for call in calls {
        call.await.expect("no panic");
    }
    let most = most.load(Ordering::SeqCst);
    assert!((1..=6).contains(&most), "{most} at once on two connections of three");
}
