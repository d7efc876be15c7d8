//! Orders to disks, nodes and moves by the admin listener, with one metadata replica in memory that
//! takes notes of what is proposed to it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use gateway::admin::status::{ClusterStatus, DiskStatus};
use gateway::admin::upkeep::orders::{Changed, UpkeepStatus};
use gateway::admin::upkeep::progress::MovesStatus;
use gateway::admin::upkeep::stop::StopAnswer;
use gateway::admin::{AdminHandler, AdminParts, Process, StatusGatherer};
use gateway::http::listener::{ListenerOptions, serve};
use metadata::client::{MetadataClient, ReplicaBook};
use model::cluster_map::{ClusterMap, Disk, DiskState, UpkeepWish};
use model::command::{Command, Outcome, Refusal};
use model::ids::{DiskId, DiskUuid, NodeId, NodeUuid, ReplicaId};
use model::moves::{MoveEnd, MoveReason, MoveResult, SlotMove};
use model::node::{FEATURE_LEVEL, Node, NodePlace, NodeRegistration, ReplicaPlace, Roles};
use model::query::{Answer, MetadataRequest, MetadataResponse, MetadataStatus, Query};
use model::time::Timestamp;
use model::upkeep::RepairPage;
use tokio::net::TcpListener;
use tokio::sync::watch;
use wire::BoxFuture;
use wire::clock::{Clock, SystemClock};
use wire::network::{InProcess, Peer, Service};

use crate::world::client::{Call, Reply};
use crate::world::cluster_map;

/// The metadata: it changes what it is told of upkeep, and only notes the rest.
struct Replica {
    map: Mutex<ClusterMap>,
    /// What others propose of the upkeep, each just before what is proposed next.
    others: Mutex<Vec<UpkeepWish>>,
    proposed: Mutex<Vec<Command>>,
}

impl Service<MetadataRequest, MetadataResponse> for Replica {
    fn serve(&self, request: MetadataRequest) -> BoxFuture<'_, MetadataResponse> {
        let mut map = self.map.lock().expect("no panic");
        let response = match request {
            MetadataRequest::Status => MetadataResponse::Status(Box::new(MetadataStatus {
                replica: ReplicaId(1),
                leader: Some(ReplicaId(1)),
                state: "leader".to_owned(),
                voters: vec![ReplicaId(1)],
                suspects: vec![DiskId(5)],
                withheld: vec![NodeId(6)],
                ..MetadataStatus::default()
            })),
            MetadataRequest::Propose(commands) => {
                let mut proposed = self.proposed.lock().expect("no panic");
                let mut outcomes = Vec::new();
                for envelope in commands {
                    let mut outcome = Outcome::Done;
                    if let Command::SetUpkeep { known, wish } = &envelope.command {
                        let other = self.others.lock().expect("no panic").pop();
                        map.upkeep = other.unwrap_or(map.upkeep);
                        if map.upkeep == *known {
                            map.upkeep = *wish;
                        } else {
                            outcome = Outcome::Refused(Refusal::UpkeepChanged);
                        }
                    }
                    proposed.push(envelope.command);
                    outcomes.push(outcome);
                }
                MetadataResponse::Outcomes(outcomes)
            }
            MetadataRequest::Query(Query::Repairs { .. }) => {
                MetadataResponse::Answer(Box::new(Answer::Repairs(RepairPage::default())))
            }
            _ => {
                let map = Answer::ClusterMap(Some(map.clone()));
                MetadataResponse::Answer(Box::new(map))
            }
        };
        Box::pin(std::future::ready(response))
    }
}

/// Seven nodes with a disk each, 4+2, and the metadata on the first.
fn map() -> ClusterMap {
    let mut map = cluster_map();
    let seventh = Disk { id: DiskId(6), uuid: DiskUuid([7; 16]), ..map.disks[0].clone() };
    map.disks.push(seventh);
    for disk in &mut map.disks {
        disk.node = NodeId(disk.id.0 + 1);
    }
    let node = |id: u32| {
        let registration = NodeRegistration {
            uuid: NodeUuid([id as u8; 16]),
            name: format!("host{id}"),
            address: format!("10.0.0.{id}:9002"),
            roles: Roles::ALL,
            rack: String::new(),
            zone: "east".to_owned(),
            level: FEATURE_LEVEL,
        };
        Node::new(NodeId(id), registration)
    };
    map.nodes = (1..=7).map(node).collect();
    map.level = FEATURE_LEVEL;
    map.replicas = vec![ReplicaPlace { replica: ReplicaId(1), node: NodeId(1) }];
    map.pgs = model::placement::pgs_to_add(&ClusterMap { pgs: Vec::new(), ..map.clone() });
    map
}

struct Listening {
    address: SocketAddr,
    replica: Arc<Replica>,
    _stop: watch::Sender<bool>,
}

impl Listening {
    async fn start(map: ClusterMap, roles: Roles) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let replica = Arc::new(Replica {
            map: Mutex::new(map),
            others: Mutex::default(),
            proposed: Mutex::default(),
        });
        let network = Arc::new(InProcess::new(Arc::clone(&clock)));
        network.register(Peer(1), Arc::clone(&replica) as Arc<_>);
        let book = Arc::new(ReplicaBook::new(vec![ReplicaId(1)]));
        let client = Arc::new(MetadataClient::new(network, book, Arc::clone(&clock)));
        let (stop, stopping) = watch::channel(false);
        let process =
            Process { roles, node: Some(NodeId(1)), stopping: stopping.clone(), engine: None };
        let handler = AdminHandler::new(AdminParts {
            gatherer: StatusGatherer::new(client, Arc::new(|_| None), process),
            metrics: Arc::new(String::new),
            clock: Arc::clone(&clock),
            jobs: None,
            orders: None,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let options = ListenerOptions::default();
        tokio::spawn(serve(listener, Arc::new(handler), options, clock, stopping));
        Self { address, replica, _stop: stop }
    }

    async fn get(&self, path: &str) -> Reply {
        Call::new(self.address, "GET", path).send_unsigned().await
    }

    async fn post(&self, path: &str, body: &str) -> Reply {
        Call::new(self.address, "POST", path)
            .header("content-type", "application/json")
            .body(body.to_owned())
            .send_unsigned()
            .await
    }

    /// What was proposed since it was last asked.
    fn proposed(&self) -> Vec<Command> {
        std::mem::take(&mut *self.replica.proposed.lock().expect("no panic"))
    }
}

fn document<T: serde::de::DeserializeOwned>(reply: &Reply) -> T {
    serde_json::from_str(reply.text()).expect("the document")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_are_planned_and_proposed() {
    let listening = Listening::start(map(), Roles::GATEWAY).await;
    let check = async |path: &str, body: &str, expected: Vec<Command>, sentence: &str| {
        let with_plan = match body {
            "" => r#"{"plan":true}"#.to_owned(),
            body => body.replacen('{', r#"{"plan":true,"#, 1),
        };
        let planned: Changed = document(&listening.post(path, &with_plan).await.is(200));
        assert!(!planned.changed, "{planned:?}");
        assert!(planned.plan.tolerance_before.sentence.starts_with("survives any 2 disks"));
        assert_eq!(listening.proposed(), [], "a plan changes nothing");
        let changed: Changed = document(&listening.post(path, body).await.is(200));
        assert_eq!((changed.changed, changed.sentence.as_str()), (!expected.is_empty(), sentence));
        assert_eq!(changed.plan, planned.plan);
        assert_eq!(listening.proposed(), expected);
    };
    let (disk, node) = (DiskId(3), NodeId(4));
    let drained = Command::DrainDisk { disk, is_draining: true };
    check("/disks/3/drain", "", vec![drained.clone()], "Disk 3 is drained.").await;
    check("/nodes/4/drain", "", vec![drained], "All disks of node 4 are drained.").await;
    check("/disks/3/undrain", "", vec![], "Disk 3 is no longer drained.").await;
    let out = Command::GiveUpDisk { disk, is_out: true };
    check("/disks/3/out", "", vec![out], "Disk 3 is out.").await;
    let weighed = Command::WeighDisk { disk, weight: Some(7) };
    check("/disks/3/weigh", r#"{"weight":7}"#, vec![weighed], "Disk 3 is given a weight of 7.")
        .await;
    // The zone that it is in stays.
    let place = NodePlace { rack: "r9".to_owned(), zone: "east".to_owned() };
    let placed = Command::PlaceNode { node, place };
    check("/nodes/4/move", r#"{"rack":"r9"}"#, vec![placed], "Node 4 is in rack r9.").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_that_cannot_be_say_why() {
    let mut map = map();
    map.disks[0].state = DiskState::Down;
    map.disks[1].state = DiskState::Down;
    let listening = Listening::start(map, Roles::METADATA).await;
    let check = async |path: &str, body: &str, status: u16, text: &str| {
        let reply = listening.post(path, body).await.is(status);
        assert!(reply.text().contains(text), "{path}: {}", reply.text());
    };
    check("/disks/99/drain", "", 404, "There is no disk 99.").await;
    check("/nodes/99/drain", "", 404, "There is no node 99.").await;
    check("/nodes/99/move", r#"{"rack":"r"}"#, 404, "There is no node 99.").await;
    check("/disks/1/drain", r#"{"plans":true}"#, 400, "unknown field `plans`").await;
    check("/disks/1/drain", "{", 400, "can't be read").await;
    check("/disks/1/weigh", "", 400, "missing field `weight`").await;
    check("/disks/1/weigh", r#"{"weight":0}"#, 400, "A weight is from 1").await;
    check("/disks/1/weigh", r#"{"weight":-1}"#, 400, "can't be read").await;
    check("/nodes/1/move", "", 400, "missing field `rack`").await;
    check("/disks/3/out", "", 409, "couldn't be read without disk 3").await;
    check("/moves/cancel", r#"{"pg":0,"slot":0}"#, 404, "Slot 0 of placement group 0").await;
    check("/moves/cancel", r#"{"pg":999999,"slot":0}"#, 404, "no placement group 999999").await;
    check("/upkeep", r#"{"down_after_seconds":1}"#, 400, "down after 1 s").await;
    check("/upkeep", r#"{"bytes_per_second":1}"#, 400, "to stop moves, pause them").await;
    assert_eq!(listening.proposed(), []);
    listening.get("/nodes/99/ok-to-stop").await.is(404);
    listening.get("/disks/1/drain").await.is(405);
    listening.post("/moves", "").await.is(405);
    listening.post("/disks/1/fold", "").await.is(404);
    let form = Call::new(listening.address, "POST", "/disks/1/drain").body("{}");
    form.send_unsigned().await.is(415);
    let page = Call::new(listening.address, "GET", "/moves").header("origin", "http://evil");
    page.send_unsigned().await.is(403);
    for path in ["/disks", "/moves", "/upkeep", "/nodes/1/ok-to-stop"] {
        let mut named = Call::new(listening.address, "GET", path);
        named.headers = vec![("host".to_owned(), "evil.test".to_owned())];
        named.send_unsigned().await.is(403);
    }
    assert_eq!(listening.proposed(), []);

    // Who insists gets it.
    listening.post("/disks/3/out", r#"{"force":true}"#).await.is(200);
    let out = Command::GiveUpDisk { disk: DiskId(3), is_out: true };
    assert_eq!(listening.proposed(), [out]);

    let storage = Listening::start(self::map(), Roles::STORAGE_NODE).await;
    let refused = storage.post("/disks/1/drain", "").await.is(501);
    assert!(refused.text().contains("neither a gateway nor a metadata node"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_may_stop_or_not_by_the_status() {
    let listening = Listening::start(map(), Roles::GATEWAY).await;
    // Disk 5 is suspect, so one more may go.
    let yes: StopAnswer = document(&listening.get("/nodes/3/ok-to-stop").await.is(200));
    assert!(yes.ok && yes.node == 3, "{yes:?}");
    let no: StopAnswer = document(&listening.get("/nodes/1/ok-to-stop").await.is(409));
    assert!(!no.ok && no.reasons[0].contains("no majority"), "{no:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moves_and_upkeep_are_shown_and_set() {
    let mut map = map();
    let to = map.disks.iter().map(|disk| disk.id).find(|id| !map.pgs[0].disks.contains(id));
    let to = to.expect("one disk of seven");
    let since = Timestamp(77);
    map.pgs[0].moves.push(SlotMove {
        slot: 1,
        to,
        reason: MoveReason::Balance,
        since,
        fault: None,
    });
    map.disks[2].standing.is_draining = true;
    let listening = Listening::start(map, Roles::GATEWAY).await;
    let moves: MovesStatus = document(&listening.get("/moves").await.is(200));
    assert_eq!(moves.under_way.len(), 1);
    assert!(moves.wanted.drain.slots > 10 && moves.paused.is_none(), "{moves:?}");

    listening.post("/moves/cancel", r#"{"pg":0,"slot":1}"#).await.is(200);
    let (pg, result) = (model::ids::PgId(0), MoveResult::Cancelled);
    let end = MoveEnd { pg, slot: 1, to, result, since };
    assert_eq!(listening.proposed(), [Command::EndMove(end)]);

    let set = r#"{"bytes_per_second":1048576,"out_after_seconds":900}"#;
    let upkeep: UpkeepStatus = document(&listening.post("/upkeep", set).await.is(200));
    assert_eq!((upkeep.out_after.seconds, upkeep.bytes_per_second), (900, Some(1 << 20)));
    let paused: UpkeepStatus = document(&listening.post("/moves/pause", "").await.is(200));
    assert!(paused.is_paused && paused.out_after == upkeep.out_after, "the rest stays");
    assert_eq!(listening.proposed().len(), 2);
    let shown: UpkeepStatus = document(&listening.get("/upkeep").await.is(200));
    assert_eq!(shown, paused);
    let moves: MovesStatus = document(&listening.get("/moves").await.is(200));
    assert_eq!(moves.paused.expect("paused").reason, "operator");
    listening.post("/moves/pause", "").await.is(200);
    assert_eq!(listening.proposed(), [], "it is so already");

    let disks: Vec<DiskStatus> = document(&listening.get("/disks").await.is(200));
    assert_eq!(disks[2].state_words(), "up, draining");
    assert_eq!(disks[5].state_words(), "up, suspect");
    assert_eq!(disks[to.0 as usize].standing.moving_in, 1);
    let status: ClusterStatus = document(&listening.get("/status").await.is(200));
    assert_eq!((status.moves.balance, &*status.withheld_nodes.clone()), (1, &[6][..]));
    assert!(status.tolerance.sentence.starts_with("survives any 2 disks"), "{status:?}");
    assert_eq!(status.tolerance.metadata[0].survives, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_change_of_the_upkeep_meanwhile_stays() {
    let listening = Listening::start(map(), Roles::GATEWAY).await;
    let others = |wishes: Vec<UpkeepWish>| {
        *listening.replica.others.lock().expect("no panic") = wishes;
    };
    let rate = |bytes_per_second| UpkeepWish { bytes_per_second, ..UpkeepWish::default() };
    others(vec![rate(Some(50 << 20))]);
    let paused: UpkeepStatus = document(&listening.post("/moves/pause", "").await.is(200));
    assert_eq!((paused.is_paused, paused.bytes_per_second), (true, Some(50 << 20)));
    let shown: UpkeepStatus = document(&listening.get("/upkeep").await.is(200));
    assert_eq!(shown, paused);
    assert_eq!(listening.proposed().len(), 2);
    // Others that never end are no reason to go on for ever, nor to undo what they do.
    others((1..50).map(|rate_mib| rate(Some(rate_mib << 20))).collect());
    let refused = listening.post("/upkeep", r#"{"down_after_seconds":20}"#).await;
    refused.is(409);
    assert_eq!(listening.proposed().len(), 5);
}
