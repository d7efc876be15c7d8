//! Orders to the cluster by the admin listener, and what it tells of nodes, replicas and itself.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gateway::admin::orders::{
    AddReplicaOrder, CheckReport, CheckedReplica, Leadership, NewToken, RemoveReplicaOrder,
    Replica, Token, TokenOrder, TransferOrder,
};
use gateway::admin::status::{ClusterStatus, NodeStatus};
use gateway::admin::{
    AdminHandler, AdminOrders, AdminParts, OrderError, Process, StatusGatherer, render,
};
use gateway::http::listener::{ListenerOptions, serve};
use metadata::client::{MetadataClient, ReplicaBook};
use model::cluster_map::{ClusterMap, DiskState};
use model::ids::{NodeId, NodeUuid, ReplicaId};
use model::node::{FEATURE_LEVEL, Node, NodeRegistration, ReplicaPlace, Roles};
use model::query::{
    Answer, MetadataError, MetadataRequest, MetadataResponse, MetadataStatus, NodeHeard,
};
use tokio::net::TcpListener;
use tokio::sync::watch;
use wire::BoxFuture;
use wire::clock::{Clock, SystemClock};
use wire::network::{InProcess, Peer, Service};

use crate::world::client::{Call, Reply};
use crate::world::cluster_map;

/// Takes notes of what it is told to do.
#[derive(Default)]
struct Notes {
    orders: Mutex<Vec<String>>,
    fails: Mutex<Option<OrderError>>,
}

impl Notes {
    fn done<T: Send + 'static>(
        &self,
        order: String,
        answer: T,
    ) -> BoxFuture<'_, Result<T, OrderError>> {
        self.orders.lock().expect("no panic").push(order);
        let fails = self.fails.lock().expect("no panic").clone();
        Box::pin(std::future::ready(fails.map_or(Ok(answer), Err)))
    }
}

fn token(id: &str) -> Token {
    let (roles, expires) = ("gateway".to_owned(), "2026-11-21T10:00:00.000Z".to_owned());
    Token { id: id.to_owned(), roles, expires, uses_left: 1 }
}

impl AdminOrders for Notes {
    fn transfer(&self, order: TransferOrder) -> BoxFuture<'_, Result<Leadership, OrderError>> {
        self.done(format!("{order:?}"), Leadership { leader: 2, node: Some(2), term: 9 })
    }

    fn add_replica(&self, order: AddReplicaOrder) -> BoxFuture<'_, Result<Replica, OrderError>> {
        self.done(format!("{order:?}"), Replica { replica: 4, node: Some(3), voters: vec![1, 4] })
    }

    fn remove_replica(
        &self,
        order: RemoveReplicaOrder,
    ) -> BoxFuture<'_, Result<Replica, OrderError>> {
        self.done(format!("{order:?}"), Replica { replica: 4, node: Some(3), voters: vec![1] })
    }

    fn check(&self) -> BoxFuture<'_, Result<CheckReport, OrderError>> {
        let replica = CheckedReplica { replica: 1, identical: Some(true), ..Default::default() };
        let report = CheckReport { ok: true, index: 7, replicas: vec![replica] };
        self.done("check".to_owned(), report)
    }

    fn create_token(&self, order: TokenOrder) -> BoxFuture<'_, Result<NewToken, OrderError>> {
        let secret = "drystone-join-abc".to_owned();
        self.done(format!("{order:?}"), NewToken { secret, token: token("ab") })
    }

    fn tokens(&self) -> BoxFuture<'_, Result<Vec<Token>, OrderError>> {
        self.done("tokens".to_owned(), vec![token("ab")])
    }

    fn revoke_token(&self, id: String) -> BoxFuture<'_, Result<(), OrderError>> {
        self.done(format!("revoke {id}"), ())
    }

    fn remove_node(&self, node: u32) -> BoxFuture<'_, Result<(), OrderError>> {
        self.done(format!("remove node {node}"), ())
    }
}

/// A replica of three; the third never answers.
struct OneReplica {
    id: u64,
    map: ClusterMap,
    has_leader: Arc<AtomicBool>,
}

impl Service<MetadataRequest, MetadataResponse> for OneReplica {
    fn serve(&self, request: MetadataRequest) -> BoxFuture<'_, MetadataResponse> {
        let has_leader = self.has_leader.load(Ordering::Relaxed);
        let leads = has_leader && self.id == 1;
        let response = match request {
            MetadataRequest::Status => MetadataResponse::Status(Box::new(MetadataStatus {
                replica: ReplicaId(self.id),
                leader: has_leader.then_some(ReplicaId(1)),
                state: if leads { "leader" } else { "follower" }.to_owned(),
                last_log_index: 100,
                last_applied_index: if self.id == 1 { 100 } else { 97 },
                voters: vec![ReplicaId(1), ReplicaId(2), ReplicaId(3)],
                nodes: vec![NodeHeard { node: NodeId(3), silence_ms: 12_900 }],
                ..MetadataStatus::default()
            })),
            _ if leads => {
                let map = Answer::ClusterMap(Some(self.map.clone()));
                MetadataResponse::Answer(Box::new(map))
            }
            _ => MetadataResponse::Failed(MetadataError::Unavailable),
        };
        Box::pin(std::future::ready(response))
    }
}

/// A cluster of three nodes with a replica on each.
fn map() -> ClusterMap {
    let node = |id: u32| Node {
        place: None,
        id: NodeId(id),
        registration: NodeRegistration {
            uuid: NodeUuid([id as u8; 16]),
            name: format!("host{id}"),
            address: format!("10.0.0.{id}:9002"),
            roles: Roles::ALL,
            rack: String::new(),
            zone: String::new(),
            level: FEATURE_LEVEL,
        },
    };
    let place = |id: u32| ReplicaPlace { replica: ReplicaId(u64::from(id)), node: NodeId(id) };
    ClusterMap {
        nodes: (1..4).map(node).collect(),
        replicas: (1..4).map(place).collect(),
        ..cluster_map()
    }
}

struct Listening {
    address: SocketAddr,
    has_leader: Arc<AtomicBool>,
    process_stops: watch::Sender<bool>,
    _listener_stops: watch::Sender<bool>,
}

/// The admin listener of a process without a gateway.
async fn listen(map: ClusterMap, orders: Option<Arc<Notes>>, roles: Roles) -> Listening {
    listen_through(map, orders, roles, Duration::ZERO).await
}

/// One that takes metadata that it heard before for present for so long.
async fn listen_through(
    map: ClusterMap,
    orders: Option<Arc<Notes>>,
    roles: Roles,
    silence_max: Duration,
) -> Listening {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let network = Arc::new(InProcess::new(Arc::clone(&clock)));
    let has_leader = Arc::new(AtomicBool::new(true));
    for id in [1, 2] {
        let has_leader = Arc::clone(&has_leader);
        let replica = OneReplica { id, map: map.clone(), has_leader };
        network.register(Peer(id), Arc::new(replica) as Arc<_>);
    }
    let book = Arc::new(ReplicaBook::new(vec![ReplicaId(3), ReplicaId(1), ReplicaId(2)]));
    let client = Arc::new(MetadataClient::new(network, book, Arc::clone(&clock)));
    let (process_stops, stopping) = watch::channel(false);
    let process = Process { roles, node: Some(NodeId(2)), stopping, engine: None };
    let handler = AdminHandler::new(AdminParts {
        gatherer: StatusGatherer::new(client, Arc::new(|_| None), process)
            .with_silence_max(silence_max),
        metrics: Arc::new(|| "up 1\n".to_owned()),
        clock: Arc::clone(&clock),
        jobs: None,
        orders: orders.map(|orders| orders as Arc<_>),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(serve(listener, Arc::new(handler), ListenerOptions::default(), clock, stopped));
    Listening { address, has_leader, process_stops, _listener_stops: stop }
}

async fn send(address: SocketAddr, method: &str, path: &str, body: &str) -> Reply {
    let mut call = Call::new(address, method, path).body(body.to_owned());
    if method == "POST" {
        call = call.header("content-type", "application/json");
    }
    call.send_unsigned().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_are_carried_out() {
    let notes = Arc::new(Notes::default());
    let listening = listen(map(), Some(Arc::clone(&notes)), Roles::METADATA).await;
    let address = listening.address;
    let leader = send(address, "POST", "/metadata/transfer", r#"{"node":2}"#).await.is(200);
    let leader: Leadership = serde_json::from_str(leader.text()).expect("a document");
    assert_eq!((leader.leader, leader.term), (2, 9));
    send(address, "POST", "/metadata/transfer", "").await.is(200);
    send(address, "POST", "/metadata/add", r#"{"node":3}"#).await.is(201);
    send(address, "POST", "/metadata/remove", r#"{"replica":4}"#).await.is(200);
    let report = send(address, "GET", "/metadata/check", "").await.is(200);
    let report: CheckReport = serde_json::from_str(report.text()).expect("a document");
    assert!(report.ok);
    let order = r#"{"roles":"gateway","expires_seconds":60,"uses":1}"#;
    let new = send(address, "POST", "/cluster/tokens", order).await.is(201);
    let new: NewToken = serde_json::from_str(new.text()).expect("a document");
    assert_eq!((&*new.secret, &*new.token.id), ("drystone-join-abc", "ab"));
    assert!(!format!("{new:?}").contains("abc"), "the secret is in no log");
    let all = send(address, "GET", "/cluster/tokens", "").await.is(200);
    assert!(!all.text().contains("secret"), "{}", all.text());
    send(address, "DELETE", "/cluster/tokens/ab", "").await.is(200);
    send(address, "POST", "/nodes/3/remove", "").await.is(200);
    assert_eq!(
        *notes.orders.lock().expect("no panic"),
        [
            "TransferOrder { replica: None, node: Some(2) }",
            "TransferOrder { replica: None, node: None }",
            "AddReplicaOrder { node: 3 }",
            "RemoveReplicaOrder { replica: 4 }",
            "check",
            "TokenOrder { roles: \"gateway\", expires_seconds: 60, uses: 1 }",
            "tokens",
            "revoke ab",
            "remove node 3",
        ]
    );
    for (error, status) in [
        (OrderError::Invalid("that is no node.".to_owned()), 400),
        (OrderError::NotFound("there is no such node.".to_owned()), 404),
        (OrderError::Refused("the node keeps disks.".to_owned()), 409),
        (OrderError::Unavailable("there is no leader.".to_owned()), 503),
        (OrderError::Failed("it broke.".to_owned()), 500),
    ] {
        *notes.fails.lock().expect("no panic") = Some(error.clone());
        let reply = send(address, "POST", "/nodes/3/remove", "").await.is(status);
        assert_eq!(reply.text(), format!("{error}\n"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_that_are_none_reach_nobody() {
    let notes = Arc::new(Notes::default());
    let listening = listen(map(), Some(Arc::clone(&notes)), Roles::METADATA).await;
    let address = listening.address;
    // What a web page could send.
    let post = |path: &str| Call::new(address, "POST", path).body("{}");
    post("/metadata/transfer").send_unsigned().await.is(415);
    let page = post("/nodes/1/remove").header("content-type", "application/json");
    page.header("origin", "http://example.com").send_unsigned().await.is(403);
    for (method, path) in [("GET", "/metadata/check"), ("DELETE", "/cluster/tokens/ab")] {
        let page = Call::new(address, method, path).header("origin", "http://example.com");
        page.send_unsigned().await.is(403);
    }
    for (method, path, body, status) in [
        ("GET", "/metadata/transfer", "", 405),
        ("POST", "/metadata/check", "", 405),
        ("DELETE", "/cluster/tokens", "", 405),
        ("POST", "/cluster/tokens/ab", "", 405),
        ("OPTIONS", "/metadata/add", "", 405),
        ("POST", "/metadata/add", "", 400),
        ("POST", "/metadata/add", r#"{"node":"x"}"#, 400),
        ("POST", "/metadata/transfer", r#"{"host":1}"#, 400),
        ("POST", "/metadata/remove", "nonsense", 400),
        ("POST", "/nodes/x/remove", "", 404),
        ("DELETE", "/nodes/1", "", 405),
    ] {
        send(address, method, path, body).await.is(status);
    }
    let long = format!(r#"{{"roles":"{}"}}"#, "r".repeat(20_000));
    send(address, "POST", "/cluster/tokens", &long).await.is(413);
    assert!(notes.orders.lock().expect("no panic").is_empty());
    // A process that keeps no metadata says so, and one without a gateway scrubs nothing.
    let other = listen(map(), None, Roles::STORAGE_NODE).await;
    send(other.address, "POST", "/metadata/transfer", "").await.is(501);
    send(other.address, "GET", "/metadata/check", "").await.is(501);
    send(other.address, "POST", "/scrub", r#"{"scope":"all"}"#).await.is(501);
    assert_eq!(send(other.address, "GET", "/jobs", "").await.is(200).text(), "[]");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_and_replicas_are_shown() {
    let listening = listen(map(), None, Roles::METADATA).await;
    let status = send(listening.address, "GET", "/status", "").await.is(200);
    let status: ClusterStatus = serde_json::from_str(status.text()).expect("the document");
    let replicas: Vec<_> = status
        .metadata
        .replicas
        .iter()
        .map(|replica| (replica.replica, replica.node, replica.lag, &*replica.state))
        .collect();
    let expected = [
        (1, Some(1), Some(0), "leader"),
        (2, Some(2), Some(3), "follower"),
        (3, Some(3), None, "unreachable"),
    ];
    assert_eq!(replicas, expected);
    assert_eq!((&*status.process.roles, status.process.node), ("metadata", Some(2)));
    let nodes = send(listening.address, "GET", "/nodes", "").await.is(200);
    let nodes: Vec<NodeStatus> = serde_json::from_str(nodes.text()).expect("the document");
    assert_eq!(nodes, status.nodes);
    let heard: Vec<_> = nodes.iter().map(|node| (node.id, node.silent_seconds)).collect();
    assert_eq!(heard, [(1, Some(0)), (2, Some(0)), (3, Some(12))]);
    let text = render::text(&status);
    assert!(text.contains("Metadata leader: replica 1 on node 1"), "{text}");
    assert!(text.contains("12 s ago") && text.contains("10.0.0.3:9002"), "{text}");
    assert!(text.contains("Asked      metadata on node 2\n"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_says_why() {
    let mut gone = map();
    for disk in gone.disks.iter_mut().take(3) {
        disk.state = DiskState::Out;
    }
    // Three disks too many stop clients, and so a gateway, but not a storage node's work.
    let node = listen(gone.clone(), None, Roles::STORAGE_NODE).await;
    let ready = send(node.address, "GET", "/health/ready", "").await.is(200);
    assert!(ready.text().contains("\"DATA_UNREADABLE\""), "{}", ready.text());
    let gateway = listen(gone, None, Roles::GATEWAY).await;
    let ready = send(gateway.address, "GET", "/health/ready", "").await.is(503);
    assert!(ready.text().contains("disks 0, 1, 2 can't be read"), "{}", ready.text());

    node.process_stops.send_replace(true);
    let ready = send(node.address, "GET", "/health/ready", "").await.is(503);
    assert!(ready.text().contains("\"STOPPING\""), "{}", ready.text());
    send(node.address, "GET", "/health/live", "").await.is(200);

    let lost = listen(map(), None, Roles::METADATA).await;
    send(lost.address, "GET", "/health/ready", "").await.is(200);
    lost.has_leader.store(false, Ordering::Relaxed);
    let why = "s: it has no leader, and replicas 3 can't be reached.";
    loop {
        // Not ready at once; why, the look tells that goes on meanwhile.
        let ready = send(lost.address, "GET", "/health/ready", "").await.is(503);
        if ready.text().contains(why) {
            break;
        }
        assert!(ready.text().contains("s: no answer has come yet."), "{}", ready.text());
    }
    send(lost.address, "GET", "/health/live", "").await.is(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_election_is_no_reason_and_is_not_waited_for() {
    let clock = SystemClock::new();
    let minute = Duration::from_mins(1);
    let lasting = listen_through(map(), None, Roles::METADATA, minute).await;
    send(lasting.address, "GET", "/health/ready", "").await.is(200);
    lasting.has_leader.store(false, Ordering::Relaxed);
    let began = clock.monotonic();
    // The first look goes on; the later answers don't wait for it either.
    for _ in 0..3 {
        let ready = send(lasting.address, "GET", "/health/ready", "").await.is(200);
        assert!(!ready.text().contains("META_NO_QUORUM"), "{}", ready.text());
    }
    // A question without an answer takes two seconds.
    let took = clock.monotonic().saturating_sub(began);
    assert!(took < Duration::from_millis(1900), "{took:?}");
    // Metadata that was never heard isn't waited for, however patient the rest is.
    let never = listen_through(map(), None, Roles::METADATA, minute).await;
    never.has_leader.store(false, Ordering::Relaxed);
    let ready = send(never.address, "GET", "/health/ready", "").await.is(503);
    assert!(ready.text().contains("\"META_NO_QUORUM\""), "{}", ready.text());
    assert!(ready.text().contains("no answer has come yet"), "{}", ready.text());
    never.has_leader.store(true, Ordering::Relaxed);
    while send(never.address, "GET", "/health/ready", "").await.status != 200 {}
}
