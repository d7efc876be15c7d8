//! Nodes that were removed from the cluster while their certificates are good.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use model::ids::NodeId;
use model::node::Roles;
use tokio::net::TcpListener;
use wire::rpc::{Admitted, Refusal, RpcError, RpcServer, Security, Services};
use wire::tls::Authority;

use crate::raw;
use crate::world::*;

/// Those that were removed.
#[derive(Default)]
struct Removed(Mutex<BTreeSet<NodeId>>);

impl Removed {
    fn add(&self, node: u32) {
        self.0.lock().expect("not poisoned").insert(NodeId(node));
    }
}

impl Admitted for Removed {
    fn is_removed(&self, node: NodeId) -> bool {
        self.0.lock().expect("not poisoned").contains(&node)
    }
}

/// A server that asks `removed`; with the membership service as a metadata node has it, or without.
async fn serve_among(security: Security, removed: &Arc<Removed>, has_membership: bool) -> World {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let (service, services) = (Obedient::new(), Services::among(Arc::clone(removed) as _));
    services.add::<AskShards, Told>(7, Arc::clone(&service) as _);
    services.add::<AskMetadata, Told>(7, Arc::clone(&service) as _);
    if has_membership {
        services.add::<AskMembership, Told>(7, Arc::clone(&service) as _);
    }
    let kept = Arc::clone(&services);
    let server = RpcServer::start(listener, security, kept, patient_limits(), Hurried::by(10));
    World { service, services, server: server.expect("started"), address }
}

fn is_unreachable(told: &Result<Told, RpcError>) -> bool {
    matches!(told, Err(RpcError::Unreachable { .. }))
}

async fn shows_hello(world: &World, authority: &Authority, node: u32) -> bool {
    let who = identity(node, Roles::GATEWAY);
    let (certificate, key) = certificate(authority, &who, now(), DAY);
    let mut stream = raw::connect(world, authority, Some((&certificate, key.der()))).await;
    raw::say_hello(&mut stream, Some(&who)).await.is_ok()
}

#[tokio::test]
async fn a_removed_node_is_not_met_where_only_nodes_are_answered() {
    let authority = authority();
    let removed = Arc::new(Removed::default());
    let world = serve_among(tls(&authority, 1, Roles::STORAGE_NODE), &removed, false).await;
    removed.add(2);
    assert!(!shows_hello(&world, &authority, 2).await, "hung up on before the hello");
    let two = client(tls(&authority, 2, Roles::GATEWAY));
    assert!(is_unreachable(&put(&two, &world.address, ask::<1>(Op::Echo, 1)).await));
    // What strangers may ask, it may not ask with that certificate either.
    assert!(is_unreachable(&put(&two, &world.address, ask::<1>(Op::Open, 2)).await));
    assert!(world.service.begun().is_empty());
    // The others are as welcome as before.
    assert!(shows_hello(&world, &authority, 3).await);
    let three = client(tls(&authority, 3, Roles::GATEWAY));
    put(&three, &world.address, ask::<1>(Op::Echo, 3)).await.expect("answered");
}

#[tokio::test]
async fn connections_of_a_node_are_cut_once_it_is_removed() {
    let authority = authority();
    let removed = Arc::new(Removed::default());
    let world = serve_among(tls(&authority, 1, Roles::STORAGE_NODE), &removed, false).await;
    let (two, three) =
        (client(tls(&authority, 2, Roles::GATEWAY)), client(tls(&authority, 3, Roles::GATEWAY)));
    put(&two, &world.address, ask::<1>(Op::Echo, 1)).await.expect("a node");
    put(&three, &world.address, ask::<1>(Op::Echo, 2)).await.expect("a node");
    // Requests that are under way are dropped, those of others go on.
    let address = world.address.clone();
    let waiting = {
        let (two, address) = (Arc::clone(&two), address.clone());
        tokio::spawn(async move { put(&two, &address, ask::<1>(Op::Wait, 3)).await })
    };
    let others = {
        let (three, address) = (Arc::clone(&three), address.clone());
        tokio::spawn(async move { put(&three, &address, ask::<1>(Op::Wait, 4)).await })
    };
    world.service.until(|service| service.begun().len() == 4).await;
    removed.add(2);
    let dropped = waiting.await.expect("no panic");
    assert!(matches!(dropped, Err(RpcError::TimedOut { .. })), "{dropped:?}");
    // Nor does it come back over a new connection.
    let again = put(&two, &address, ask::<1>(Op::Echo, 5)).await;
    assert!(is_unreachable(&again), "{again:?}");
    world.service.gate.add_permits(1);
    others.await.expect("no panic").expect("answered");
    assert!(!world.service.begun().contains(&5));
}

#[tokio::test]
async fn the_membership_service_alone_tells_a_removed_node_what_became_of_it() {
    let authority = authority();
    let removed = Arc::new(Removed::default());
    let world = serve_among(tls(&authority, 1, Roles::ALL), &removed, true).await;
    removed.add(2);
    let two = client(tls(&authority, 2, Roles::ALL));
    put(&two, &world.address, ask::<4>(Op::Echo, 1)).await.expect("answered");
    let caller = world.service.caller.lock().expect("not poisoned").clone().expect("asked");
    assert_eq!(caller.identity.expect("known").node, NodeId(2));
    // Whatever its roles, and whoever else may ask it.
    let refused = [
        put(&two, &world.address, ask::<1>(Op::Echo, 2)).await,
        put(&two, &world.address, ask::<2>(Op::Echo, 3)).await,
        put(&two, &world.address, ask::<2>(Op::Open, 4)).await,
    ];
    for told in refused {
        let is_refused = matches!(told, Err(RpcError::Refused { why: Refusal::NotAllowed, .. }));
        assert!(is_refused, "{told:?}");
    }
    assert_eq!(world.service.begun(), [1].into());
}
