//! Who is let in, and who isn't.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use model::ids::{ClusterId, NodeId};
use model::node::Roles;
use wire::clock::{Clock, SystemClock};
use wire::rpc::{Refusal, Route, RpcClient, RpcError, Security, ServerLimits, call_anonymous};
use wire::tls::{Authority, Credentials};

use crate::raw;
use crate::world::*;

async fn asked(world: &World, security: Security) -> Result<Told, RpcError> {
    client(security).call(&route(&world.address), ask::<2>(Op::Echo, 1), LONG).await
}

fn is_unreachable(told: &Result<Told, RpcError>) -> bool {
    matches!(told, Err(RpcError::Unreachable { .. }))
}

#[tokio::test]
async fn a_certificate_counts_from_its_first_to_its_last_second_give_or_take_five_minutes() {
    let authority = authority();
    let world = serve(tls(&authority, 1, Roles::ALL)).await;
    let issued = |ago: i64, lifetime: u64| {
        let from = OtherTime(SystemClock::new(), -ago).now();
        let who = identity(2, Roles::GATEWAY);
        let (certificate, key) = certificate(&authority, &who, from, Duration::from_secs(lifetime));
        let authority = authority.certificate();
        Security::Tls(Credentials::new(&certificate, key.der(), authority).expect("they fit"))
    };
    // Ended a minute ago, ten minutes ago; begins in four minutes (and five of skew), in eleven.
    assert!(asked(&world, issued(3660, 3600)).await.is_ok());
    assert!(is_unreachable(&asked(&world, issued(4200, 3600)).await));
    assert!(asked(&world, issued(-540, 3600)).await.is_ok());
    assert!(is_unreachable(&asked(&world, issued(-660, 3600)).await));
    assert_eq!(world.service.begun().len(), 1);

    // A server whose certificate has ended is as little believed.
    let Security::Tls(expired) = issued(4200, 3600) else { panic!("it is TLS") };
    let world = serve(Security::Tls(expired)).await;
    assert!(is_unreachable(&asked(&world, tls(&authority, 3, Roles::GATEWAY)).await));
    assert!(world.service.begun().is_empty());
}

#[tokio::test]
async fn other_authorities_certificates_are_refused() {
    let (ours, theirs) = (authority(), authority());
    let world = serve(tls(&ours, 1, Roles::ALL)).await;
    // The same cluster id, another authority: neither side believes the other.
    assert!(is_unreachable(&asked(&world, tls(&theirs, 2, Roles::GATEWAY)).await));
    // A client that would believe the server shows another authority's certificate.
    let (other, key) = certificate(&theirs, &identity(2, Roles::GATEWAY), now(), DAY);
    let told = shows(&world, &ours, &other, key.der()).await;
    assert!(told.is_err(), "{told:?}");
    // Another cluster, another authority.
    let elsewhere = Authority::create(ClusterId([9; 16]), now()).expect("an authority");
    let mut who = identity(2, Roles::GATEWAY);
    who.cluster = ClusterId([9; 16]);
    let (foreign, key) = certificate(&elsewhere, &who, now(), DAY);
    let foreign = Credentials::new(&foreign, key.der(), elsewhere.certificate());
    assert!(is_unreachable(&asked(&world, Security::Tls(foreign.expect("they fit"))).await));
    assert!(world.service.begun().is_empty());
}

/// Shows the server a certificate, whatever it is, and says hello as node 2. Ok if the server does.
async fn shows(
    world: &World,
    authority: &Authority,
    certificate: &[u8],
    key: &[u8],
) -> std::io::Result<()> {
    let mut stream = raw::connect(world, authority, Some((certificate, key))).await;
    raw::say_hello(&mut stream, Some(&identity(2, Roles::GATEWAY))).await
}

#[tokio::test]
async fn a_certificate_of_the_right_authority_for_another_cluster_is_refused() {
    let authority = authority();
    let world = serve(tls(&authority, 1, Roles::ALL)).await;
    let good = identity(2, Roles::GATEWAY).to_string();
    let foreign = good.replace("c1c1", "d1d1");
    for (uris, is_let_in) in [
        (vec![good.clone()], true),
        (vec![foreign.clone()], false),
        (vec![good.clone(), foreign.clone()], false),
        (vec![good.clone(), good.clone()], false),
        (vec![], false),
        (vec!["https://example.com".to_owned()], false),
        (vec![good.replace("gateway", "king")], false),
    ] {
        let (certificate, key) = raw::forged(&authority, &uris);
        let told = shows(&world, &authority, &certificate, &key).await;
        assert_eq!(told.is_ok(), is_let_in, "{uris:?}: {told:?}");
    }
}

#[tokio::test]
async fn a_hello_that_is_not_the_certificates_is_refused() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let authority = authority();
    let world = serve(tls(&authority, 1, Roles::ALL)).await;
    let (certificate, key) = raw::forged(&authority, &[identity(2, Roles::GATEWAY).to_string()]);
    for (said, is_let_in) in [
        (identity(2, Roles::GATEWAY), true),
        (identity(2, Roles::ALL), false),
        (identity(3, Roles::GATEWAY), false),
    ] {
        let mut stream = raw::connect(&world, &authority, Some((&certificate, &key))).await;
        stream.write_all(&raw::hello(&said)).await.expect("written");
        let mut hello = [0; 48];
        assert_eq!(stream.read_exact(&mut hello).await.is_ok(), is_let_in, "{said}");
    }
    // A stranger can't say that it is somebody.
    let mut stream = raw::connect(&world, &authority, None).await;
    stream.write_all(&raw::hello(&identity(2, Roles::ALL))).await.expect("written");
    assert!(stream.read_exact(&mut [0; 48]).await.is_err());
}

#[tokio::test]
async fn a_role_may_ask_only_what_is_its_own() {
    let authority = authority();
    let world = serve(tls(&authority, 1, Roles::ALL)).await;
    let call = async |roles, node| {
        let client = client(tls(&authority, node, roles));
        client.call::<AskMetadata, Told>(&route(&world.address), ask(Op::Gateways, 1), LONG).await
    };
    let refused = RpcError::Refused { address: world.address.clone(), why: Refusal::NotAllowed };
    assert_eq!(call(Roles::STORAGE_NODE, 2).await, Err(refused.clone()));
    assert_eq!(call(Roles::METADATA, 3).await, Err(refused));
    assert!(world.service.begun().is_empty());
    assert!(call(Roles::GATEWAY, 4).await.is_ok());
}

#[tokio::test]
async fn a_server_must_be_the_node_that_is_wanted_and_have_the_role() {
    let authority = authority();
    let world = serve(tls(&authority, 5, Roles::STORAGE_NODE)).await;
    let client = client(tls(&authority, 2, Roles::GATEWAY));
    let wanted = |node| Route { node: Some(NodeId(node)), ..route(&world.address) };
    let right = client.call::<AskShards, Told>(&wanted(5), ask(Op::Echo, 1), LONG).await;
    assert!(right.is_ok(), "{right:?}");
    let wrong = client.call::<AskShards, Told>(&wanted(6), ask(Op::Echo, 2), LONG).await;
    assert!(is_unreachable(&wrong), "{wrong:?}");
    // It keeps no metadata, so what it said to such a request would be worth nothing.
    let wrong = client.call::<AskMetadata, Told>(&wanted(5), ask(Op::Echo, 3), LONG).await;
    assert!(is_unreachable(&wrong), "{wrong:?}");
    assert_eq!(world.service.begun().len(), 1);
}

#[tokio::test]
async fn strangers_may_only_ask_what_strangers_may() {
    let authority = authority();
    let world = serve(tls(&authority, 1, Roles::METADATA)).await;
    let pin = Authority::pin(authority.certificate());
    let call = |request| call_anonymous::<AskMembership, Told>(&world.address, pin, request, LONG);
    let (told, certificate) = call(ask(Op::Open, 1)).await.expect("open to all");
    assert_eq!((told.number, certificate.as_slice()), (1, authority.certificate()));
    assert_eq!(
        world.service.caller.lock().expect("not poisoned").as_ref().expect("one").identity,
        None
    );
    let refused = RpcError::Refused { address: world.address.clone(), why: Refusal::NotAllowed };
    assert_eq!(call(ask(Op::Echo, 2)).await.expect_err("not open"), refused);
    // No more than a little.
    let large = |bytes: usize| {
        let attachments = vec![vec![0; bytes].into()];
        AskMembership { op: Op::Open, number: 3, attachments }
    };
    assert!(call(large(60 << 10)).await.is_ok());
    assert!(call(large(64 << 10)).await.is_err());
    // Nor from a server that isn't of this authority, or keeps no metadata.
    let other = Authority::pin(self::authority().certificate());
    let told = call_anonymous::<AskMembership, Told>(&world.address, other, ask(Op::Open, 4), LONG);
    assert!(matches!(told.await, Err(RpcError::Unreachable { .. })));
    let storage = serve(tls(&authority, 2, Roles::STORAGE_NODE)).await;
    let told = call_anonymous::<AskMembership, Told>(&storage.address, pin, ask(Op::Open, 5), LONG);
    assert!(matches!(told.await, Err(RpcError::Unreachable { .. })));
    assert_eq!(world.service.begun(), [1, 3].into());
}

#[tokio::test]
async fn strangers_get_few_connections() {
    let authority = authority();
    let limits = ServerLimits { anonymous_connections_per_address_max: 2, ..patient_limits() };
    let world = serve_with(tls(&authority, 1, Roles::METADATA), limits, clock()).await;
    let pin = Authority::pin(authority.certificate());
    let waiting = |number| {
        let address = world.address.clone();
        tokio::spawn(async move {
            let request = AskMembership { op: Op::Open, number, attachments: Vec::new() };
            call_anonymous::<AskMembership, Told>(&address, pin, request, LONG).await
        })
    };
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = raw::connect(&world, &authority, None).await;
        raw::say_hello(&mut stream, None).await.expect("let in");
        held.push(stream);
    }
    let refused = waiting(1).await.expect("no panic");
    assert!(matches!(refused, Err(RpcError::Unreachable { .. })), "{refused:?}");
    // Nodes are none of them.
    assert!(asked(&world, tls(&authority, 2, Roles::GATEWAY)).await.is_ok());
    drop(held);
    tokio::time::timeout(LONG, async {
        while waiting(2).await.expect("no panic").is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("there is room again");
}

#[tokio::test]
async fn a_new_certificate_is_shown_from_the_next_handshake_on() {
    let authority = authority();
    let servers = credentials(&authority, 1, Roles::ALL);
    let clients = credentials(&authority, 2, Roles::STORAGE_NODE);
    let world = serve(Security::Tls(Arc::clone(&servers))).await;
    let client = client(Security::Tls(Arc::clone(&clients)));
    let seen = || {
        let caller = world.service.caller.lock().expect("not poisoned");
        caller.as_ref().and_then(|caller| caller.identity.clone()).expect("a node").roles
    };
    let address = route(&world.address);
    let on_metadata = client.call::<AskMetadata, Told>(&address, ask(Op::Echo, 1), LONG);
    on_metadata.await.expect("answered");
    assert_eq!(seen(), Roles::STORAGE_NODE);
    let waiting = tokio::spawn({
        let (client, address) = (Arc::clone(&client), address.clone());
        async move { client.call::<AskMetadata, Told>(&address, ask(Op::Wait, 2), LONG).await }
    });
    world.service.until(|service| service.working.load(Ordering::SeqCst) == 1).await;

    let (fresh, key) = certificate(&authority, &identity(2, Roles::GATEWAY), now(), DAY);
    clients.replace(&fresh, key.der()).expect("of the same node");
    let (fresh, key) = certificate(&authority, &identity(1, Roles::METADATA), now(), DAY);
    servers.replace(&fresh, key.der()).expect("of the same node");

    // The open connection is as it was, and what is under way on it goes on.
    client.call::<AskMetadata, Told>(&address, ask(Op::Echo, 3), LONG).await.expect("answered");
    assert_eq!(seen(), Roles::STORAGE_NODE);
    world.service.gate.add_permits(1);
    waiting.await.expect("no panic").expect("answered");
    // Another connection shows both new ones.
    client.call::<AskRaft, Told>(&address, ask(Op::Echo, 4), LONG).await.expect("answered");
    assert_eq!(seen(), Roles::GATEWAY);
    let lost = client.call::<AskShards, Told>(&address, ask(Op::Echo, 5), LONG).await;
    assert!(is_unreachable(&lost), "the server keeps no shards any more: {lost:?}");
}

#[tokio::test]
async fn other_clusters_meet_in_plain_mode_neither() {
    let world = serve(plain(1, Roles::ALL)).await;
    let mut who = identity(2, Roles::GATEWAY);
    who.cluster = ClusterId([9; 16]);
    assert!(is_unreachable(&asked(&world, Security::Plain(who)).await));
    // Nor do plain and TLS.
    assert!(is_unreachable(&asked(&world, tls(&authority(), 2, Roles::GATEWAY)).await));
    let world = serve(tls(&authority(), 1, Roles::ALL)).await;
    assert!(is_unreachable(&asked(&world, plain(2, Roles::GATEWAY)).await));
}

#[tokio::test]
async fn a_peer_is_believed_no_longer_than_its_certificate() {
    // The server's clock runs a day fast from some moment on: then the certificate has ended.
    struct Leaps(SystemClock, Arc<std::sync::atomic::AtomicBool>);
    impl Clock for Leaps {
        fn now(&self) -> model::time::Timestamp {
            let leap = if self.1.load(Ordering::SeqCst) { 2 * 24 * 3600 } else { 0 };
            OtherTime(SystemClock::new(), leap).now()
        }
        fn monotonic(&self) -> Duration {
            self.0.monotonic()
        }
        fn sleep(&self, duration: Duration) -> wire::BoxFuture<'static, ()> {
            self.0.sleep(duration.min(Duration::from_millis(100)))
        }
    }
    let authority = authority();
    let leaps = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let time = Arc::new(Leaps(SystemClock::new(), Arc::clone(&leaps)));
    let security = tls(&authority, 1, Roles::ALL);
    let world = serve_with(security, patient_limits(), time).await;
    let options = patient();
    let client = RpcClient::new(tls(&authority, 2, Roles::GATEWAY), options, clock());
    let client = client.expect("a client");
    let call = async || {
        client.call::<AskMetadata, Told>(&route(&world.address), ask(Op::Echo, 1), LONG).await
    };
    assert!(call().await.is_ok());
    leaps.store(true, Ordering::SeqCst);
    tokio::time::timeout(LONG, async {
        while call().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("it is shown out");
}
