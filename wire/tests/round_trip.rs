//! What is asked is answered, whatever its shape.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use model::ids::NodeId;
use model::node::Roles;
use model::rpc::Service;
use wire::network::{InProcess, Network, NetworkError, Peer};
use wire::rpc::{Refusal, Route, Routes, RpcError, RpcNetwork, Security};

use crate::world::*;

fn pattern(bytes: usize, seed: usize) -> Bytes {
    (0..bytes).map(|at| (at * 31 + at / 253 + seed) as u8).collect::<Vec<_>>().into()
}

async fn round_trips(server: Security, client_security: Security) {
    let world = serve(server).await;
    let client = client(client_security);
    let shapes: [&[usize]; 9] = [
        &[],
        &[0],
        &[1, 0, 2],
        &[32 << 10],
        &[(32 << 10) - 9, 0],
        &[64 << 10, 64 << 10],
        &[1 << 20, 0, 0, 3, 777_777],
        &vec![100; 4096],
        &[16 << 20, 48 << 20],
    ];
    for (number, shape) in shapes.into_iter().enumerate() {
        let attachments: Vec<_> =
            shape.iter().enumerate().map(|(seed, bytes)| pattern(*bytes, seed)).collect();
        let asked = AskShards { op: Op::Echo, number: number as u64, attachments };
        let told: Told =
            client.call(&route(&world.address), asked.clone(), LONG).await.expect("answered");
        assert_eq!(told.number, asked.number);
        assert!(told.attachments == asked.attachments, "shape {number} came back otherwise");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attachments_of_every_shape_come_back_over_tls() {
    let authority = authority();
    let server = tls(&authority, 1, Roles::ALL);
    round_trips(server, tls(&authority, 2, Roles::GATEWAY)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attachments_of_every_shape_come_back_in_plain() {
    round_trips(plain(1, Roles::ALL), plain(2, Roles::GATEWAY)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_is_called_by_its_name() {
    let world = serve(plain(1, Roles::ALL)).await;
    let client = client(plain(2, Roles::GATEWAY));
    let port = world.address.rsplit_once(':').expect("a port").1;
    let asked = AskShards { op: Op::Echo, number: 5, attachments: Vec::new() };
    let named = route(&format!("localhost:{port}"));
    let told: Told = client.call(&named, asked.clone(), LONG).await.expect("answered");
    assert_eq!(told.number, asked.number);
    // No name ends so (RFC 6761).
    let nowhere = route(&format!("storage.invalid:{port}"));
    let failed = client.call::<_, Told>(&nowhere, asked, LONG).await.expect_err("no such name");
    assert!(failed.is_before_handler(), "{failed}");
    assert!(failed.to_string().contains("storage.invalid"), "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_at_once_get_their_own_answers() {
    let authority = authority();
    let world = serve(tls(&authority, 1, Roles::ALL)).await;
    let client = client(tls(&authority, 2, Roles::GATEWAY));
    let route = Arc::new(route(&world.address));
    let bytes = pattern(300_000, 0);
    let calls = (0..500u64).map(|number| {
        let (client, route) = (Arc::clone(&client), Arc::clone(&route));
        let begins = (number * 197) as usize;
        let payload = bytes.slice(begins..begins + (number as usize * 1009) % 200_000);
        tokio::spawn(async move {
            let asked = AskShards { op: Op::Echo, number, attachments: vec![payload] };
            let told: Told = client.call(&route, asked.clone(), LONG).await.expect("answered");
            assert!(told.number == number && told.attachments == asked.attachments);
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.expect("no panic");
    }
    assert_eq!(world.service.begun().len(), 500);
}

#[tokio::test]
async fn who_asks_is_told_to_the_service() {
    let authority = authority();
    let world = serve(tls(&authority, 1, Roles::ALL)).await;
    let roles = Roles::GATEWAY.and(Roles::METADATA);
    let client = client(tls(&authority, 9, roles));
    let _: Told = client
        .call(&route(&world.address), ask::<2>(Op::Gateways, 1), LONG)
        .await
        .expect("allowed");
    let caller = world.service.caller.lock().expect("not poisoned").clone().expect("somebody");
    assert_eq!(caller.identity, Some(identity(9, roles)));
    assert!(caller.address.ip().is_loopback());
}

#[tokio::test]
async fn refusals_say_whether_a_handler_saw_the_request() {
    let world = serve(plain(1, Roles::ALL)).await;
    let client = client(plain(2, Roles::STORAGE_NODE));
    let route = route(&world.address);
    let call = |request: AskMetadata| client.call::<_, Told>(&route, request, LONG);
    let refused = |why| Err(RpcError::Refused { address: world.address.clone(), why });
    assert_eq!(call(ask(Op::Gateways, 1)).await, refused(Refusal::NotAllowed));
    assert_eq!(call(ask(Op::Garbled, 2)).await, refused(Refusal::Unreadable));
    let elsewhere = Route { target: 8, ..route.clone() };
    let nobody = client.call::<AskMetadata, Told>(&elsewhere, ask(Op::Echo, 3), LONG).await;
    assert_eq!(nobody, refused(Refusal::NotHere));
    assert!(world.service.begun().is_empty(), "none of these may reach a handler");
    for why in [Refusal::NotAllowed, Refusal::Unreadable, Refusal::NotHere, Refusal::GoingAway] {
        assert!(why.is_before_handler());
    }
    let failed = call(ask(Op::Panic, 4)).await;
    assert_eq!(failed, refused(Refusal::Failed));
    assert!(!failed.expect_err("failed").is_before_handler());
    // The connection is as good as before.
    assert!(call(ask(Op::Echo, 5)).await.is_ok());
    world.services.remove(Service::Metadata, 7);
    assert_eq!(call(ask(Op::Echo, 6)).await, refused(Refusal::NotHere));
}

#[tokio::test]
async fn a_frame_that_is_too_large_is_not_sent() {
    let world = serve(plain(1, Roles::ALL)).await;
    let client = client(plain(2, Roles::GATEWAY));
    let large = Bytes::from(vec![0; (32 << 20) + 1]);
    let asked = AskShards { op: Op::Echo, number: 1, attachments: vec![large.clone(), large] };
    let told = client.call::<_, Told>(&route(&world.address), asked, LONG).await;
    assert_eq!(told, Err(RpcError::TooLarge));
    // An answer that is too large is the server's fault.
    let told = put(&client, &world.address, ask::<1>(Op::Give, (64 << 20) + 1));
    let refused = RpcError::Refused { address: world.address.clone(), why: Refusal::Failed };
    assert_eq!(told.await, Err(refused));
}

#[tokio::test]
async fn a_deadline_travels_and_ends_the_work() {
    let world = serve(plain(1, Roles::ALL)).await;
    let client = client(plain(2, Roles::GATEWAY));
    let route = route(&world.address);
    let waiting =
        client.call::<AskMetadata, Told>(&route, ask(Op::Wait, 1), Duration::from_millis(50));
    assert!(matches!(
        waiting.await,
        Err(RpcError::TimedOut { .. } | RpcError::Refused { why: Refusal::Expired, .. })
    ));
    world.service.until(|service| service.working.load(Ordering::SeqCst) == 0).await;
    assert_eq!(world.service.begun().len(), 1);
}

#[tokio::test]
async fn a_call_that_is_given_up_is_dropped_at_the_server() {
    let world = serve(plain(1, Roles::ALL)).await;
    let client = client(plain(2, Roles::GATEWAY));
    let route = Arc::new(route(&world.address));
    let waiting = tokio::spawn({
        let (client, route) = (Arc::clone(&client), Arc::clone(&route));
        async move { client.call::<AskMetadata, Told>(&route, ask(Op::Wait, 1), LONG).await }
    });
    world.service.until(|service| service.working.load(Ordering::SeqCst) == 1).await;
    waiting.abort();
    world.service.until(|service| service.working.load(Ordering::SeqCst) == 0).await;
    // Not by the connection's end: the next call goes over it.
    assert!(client.call::<AskMetadata, Told>(&route, ask(Op::Echo, 2), LONG).await.is_ok());
}

/// Peer 1 is here, 2 is at the server, 3 is nowhere, 4 has no listener.
struct Known(String);

impl Routes for Known {
    fn route(&self, peer: Peer) -> Option<Route> {
        match peer.0 {
            2 => Some(Route { node: Some(NodeId(1)), ..route(&self.0) }),
            4 => Some(route("127.0.0.1:1")),
            _ => None,
        }
    }
}

#[tokio::test]
async fn a_network_reaches_peers_here_and_there() {
    struct Here;
    impl wire::network::Service<AskMetadata, Told> for Here {
        fn serve(&self, request: AskMetadata) -> wire::BoxFuture<'_, Told> {
            let number = request.number + 1000;
            Box::pin(async move { Told { number, attachments: Vec::new() } })
        }
    }
    let authority = authority();
    let world = serve(tls(&authority, 1, Roles::METADATA)).await;
    let client = client(tls(&authority, 2, Roles::GATEWAY));
    let local = Arc::new(InProcess::new(clock()));
    local.register(Peer(1), Arc::new(Here));
    let routes = Arc::new(Known(world.address.clone()));
    let network = RpcNetwork::new(client, routes, Some(local));
    let call = |peer, request| network.call(Peer(peer), request, LONG);
    let told = |number| Ok(Told { number, attachments: Vec::new() });
    assert_eq!(call(1, ask(Op::Echo, 5)).await, told(1005));
    assert_eq!(call(2, ask(Op::Echo, 6)).await, told(6));
    assert_eq!(call(3, ask(Op::Echo, 7)).await, Err(NetworkError::Unreachable(Peer(3))));
    assert_eq!(call(4, ask(Op::Echo, 8)).await, Err(NetworkError::Unreachable(Peer(4))));
    assert_eq!(call(2, ask(Op::Panic, 9)).await, Err(NetworkError::TimedOut(Peer(2))));
}
