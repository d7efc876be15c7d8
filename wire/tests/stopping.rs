//! A server ends in order: what it was asked is answered, and nothing more is asked of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use model::node::Roles;
use wire::rpc::RpcError;

use crate::world::*;

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_flight_are_answered_and_new_ones_are_unreachable() {
    let authority = authority();
    let world = serve(tls(&authority, 1, Roles::ALL)).await;
    let client = client(tls(&authority, 2, Roles::GATEWAY));
    let route = Arc::new(route(&world.address));
    let waiting: Vec<_> = (0..5u64)
        .map(|number| {
            let (client, route) = (Arc::clone(&client), Arc::clone(&route));
            tokio::spawn(async move {
                client.call::<AskMetadata, Told>(&route, ask(Op::Wait, number), LONG).await
            })
        })
        .collect();
    world.service.until(|service| service.begun().len() == 5).await;
    let stopping = tokio::spawn(world.server.stop(LONG));
    // Until the server has taken note, requests may still be answered; then never more.
    let mut number = 100;
    let error = loop {
        number += 1;
        let asked = ask::<2>(Op::Echo, number);
        match client.call::<_, Told>(&route, asked, LONG).await {
            Ok(_) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    assert!(error.is_before_handler(), "{error}");
    assert!(!world.service.begun().contains(&number));
    assert!(!stopping.is_finished());
    world.service.gate.add_permits(5);
    for call in waiting {
        call.await.expect("no panic").expect("answered");
    }
    tokio::time::timeout(LONG, stopping).await.expect("it stops").expect("no panic");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_longer_than_the_grace_is_dropped() {
    let world = serve(plain(1, Roles::ALL)).await;
    let client = client(plain(2, Roles::GATEWAY));
    let route = Arc::new(route(&world.address));
    let waiting = tokio::spawn({
        let (client, route) = (Arc::clone(&client), Arc::clone(&route));
        async move { client.call::<AskMetadata, Told>(&route, ask(Op::Wait, 1), LONG).await }
    });
    world.service.until(|service| service.begun().len() == 1).await;
    let stopping = world.server.stop(Duration::from_millis(50));
    tokio::time::timeout(LONG, stopping).await.expect("it stops");
    assert_eq!(world.service.working.load(Ordering::SeqCst), 0);
    let error = waiting.await.expect("no panic").expect_err("it was dropped");
    assert!(matches!(error, RpcError::TimedOut { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_back_is_found_again() {
    let world = serve(plain(1, Roles::ALL)).await;
    let client = client(plain(2, Roles::GATEWAY));
    let route = route(&world.address);
    client.call::<AskMetadata, Told>(&route, ask(Op::Echo, 1), LONG).await.expect("answered");
    world.server.stop(LONG).await;
    let error = client.call::<AskMetadata, Told>(&route, ask(Op::Echo, 2), LONG).await;
    assert!(matches!(error, Err(RpcError::Unreachable { .. })), "{error:?}");
    let listener = tokio::net::TcpListener::bind(&world.address).await.expect("the same port");
    let _server = wire::rpc::RpcServer::start(
        listener,
        plain(1, Roles::ALL),
        Arc::clone(&world.services),
        wire::rpc::ServerLimits::default(),
        clock(),
    )
    .expect("started");
    tokio::time::timeout(LONG, async {
        while client.call::<AskMetadata, Told>(&route, ask(Op::Echo, 3), LONG).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("found");
}

#[tokio::test]
async fn a_client_that_is_dropped_hangs_up() {
    let world = serve(plain(1, Roles::ALL)).await;
    let client = client(plain(2, Roles::GATEWAY));
    let route = route(&world.address);
    let mut waiting = Box::pin(client.call::<AskMetadata, Told>(&route, ask(Op::Wait, 1), LONG));
    tokio::select! {
        _ = &mut waiting => panic!("it waits"),
        () = world.service.until(|service| service.begun().len() == 1) => {}
    }
    drop(waiting);
    drop(client);
    world.service.until(|service| service.working.load(Ordering::SeqCst) == 0).await;
    // Nobody is left, so there is nothing to wait for.
    tokio::time::timeout(LONG, world.server.stop(Duration::from_hours(1))).await.expect("it stops");
}
