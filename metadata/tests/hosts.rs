//! Clusters of several nodes in one process: each with a keeper, disks and a network of its own.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metadata::client::{MetadataClient, ReplicaBook};
use metadata::keeper::{Keeper, KeeperParts, MayFound, Placement, ReplicaDoors};
use metadata::raft::types::Batch;
use metadata::raft::{RaftMessages, RaftRequest, RaftResponse};
use metadata::replica::World;
use metadata::serve::MetadataService;
use metadata::session::Writer;
use model::cluster_map::ClusterMap;
use model::coding::Coding;
use model::command::{Command, CommandEnvelope, CommandId, Outcome};
use model::ids::{DiskUuid, NodeId, NodeUuid, ReplicaId, TokenId};
use model::node::{JoinToken, NodeRegistration, Roles};
use model::query::{
    Answer, MetadataError, MetadataRequest, MetadataResponse, MetadataStatus, PlanWanted, Query,
};
use model::time::Timestamp;
use wire::BoxFuture;
use wire::clock::{Clock, SystemClock};
use wire::disk::{Disk, RealDisk};
use wire::network::{
    InProcess, Network, NetworkError, NetworkFaults, Peer, Service, SimulatedNetwork,
};

use crate::harness::{CLUSTER, bucket, create_bucket, key, put};

/// A hub that several nodes' networks lead to.
pub struct Hub<Q, R>(Arc<InProcess<Q, R>>);

impl<Q: Send + 'static, R: Send + 'static> Network<Q, R> for Hub<Q, R> {
    fn call(
        &self,
        peer: Peer,
        request: Q,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<R, NetworkError>> {
        self.0.call(peer, request, deadline)
    }
}

type RaftNet = SimulatedNetwork<Hub<RaftRequest, RaftResponse>>;
type ServiceNet = SimulatedNetwork<Hub<MetadataRequest, MetadataResponse>>;

/// What all nodes share: the hub.
pub struct Hosts {
    pub root: tempfile::TempDir,
    clock: Arc<dyn Clock>,
    raft: Arc<InProcess<RaftRequest, RaftResponse>>,
    service: Arc<InProcess<MetadataRequest, MetadataResponse>>,
    pub hosts: Vec<Host>,
    map: Mutex<Option<Arc<ClusterMap>>>,
    /// A client beside the nodes.
    pub client: Arc<MetadataClient>,
}

/// A node.
pub struct Host {
    pub node: NodeId,
    pub keeper: Option<Keeper>,
    raft: Arc<RaftNet>,
    service: Arc<ServiceNet>,
    doors: Arc<Doors>,
    directories: Vec<PathBuf>,
}

struct Doors {
    slow: Arc<Slowness>,
    raft: Arc<InProcess<RaftRequest, RaftResponse>>,
    service: Arc<InProcess<MetadataRequest, MetadataResponse>>,
    open: Mutex<Vec<ReplicaId>>,
}

impl ReplicaDoors for Doors {
    fn open(
        &self,
        replica: ReplicaId,
        messages: &Arc<RaftMessages>,
        service: &Arc<MetadataService>,
    ) {
        let messages = Slow { inner: Arc::clone(messages), how: Arc::clone(&self.slow) };
        self.raft.register(Peer(replica.0), Arc::new(messages));
        self.service.register(Peer(replica.0), Arc::clone(service) as _);
        self.open.lock().unwrap_or_else(PoisonError::into_inner).push(replica);
    }

    fn close(&self, replica: ReplicaId) {
        self.raft.remove(Peer(replica.0));
        self.service.remove(Peer(replica.0));
        self.open.lock().unwrap_or_else(PoisonError::into_inner).retain(|id| *id != replica);
    }
}

/// How slowly a node takes entries and snapshots.
#[derive(Default)]
struct Slowness {
    entries_ms: AtomicU64,
    pieces_ms: AtomicU64,
    /// Pieces of snapshots that came.
    pieces: AtomicU64,
}

struct Slow {
    inner: Arc<RaftMessages>,
    how: Arc<Slowness>,
}

impl Service<RaftRequest, RaftResponse> for Slow {
    fn serve(&self, request: RaftRequest) -> BoxFuture<'_, RaftResponse> {
        Box::pin(async move {
            let delay = match &request {
                RaftRequest::Append(rpc) if !rpc.entries.is_empty() => {
                    self.how.entries_ms.load(Ordering::Relaxed)
                }
                RaftRequest::SnapshotPiece { .. } => {
                    self.how.pieces.fetch_add(1, Ordering::Relaxed);
                    self.how.pieces_ms.load(Ordering::Relaxed)
                }
                _ => 0,
            };
            if delay > 0 {
                SystemClock::new().sleep(Duration::from_millis(delay)).await;
            }
            self.inner.serve(request).await
        })
    }
}

pub fn registration(node: u8) -> NodeRegistration {
    NodeRegistration {
        uuid: NodeUuid([node; 16]),
        name: format!("n{node}"),
        address: format!("n{node}:7"),
        roles: Roles::ALL,
        rack: String::new(),
        zone: String::new(),
        level: 1,
    }
}

impl Hosts {
    /// A cluster of one node, with so many replicas, and six registered disks.
    pub async fn found(replicas: usize) -> Self {
        let mut hosts = Self::empty();
        hosts.start(1, replicas, MayFound::Yes).await;
        hosts.init(replicas).await;
        let outcome = hosts.propose(Command::RegisterNode(registration(1))).await;
        assert_eq!(outcome, Outcome::NodeRegistered(NodeId(1)));
        hosts
    }

    pub fn empty() -> Self {
        // Shown by `--nocapture`.
        let _ = tracing_subscriber::fmt().with_test_writer().try_init();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let raft = Arc::new(InProcess::new(Arc::clone(&clock)));
        let service = Arc::new(InProcess::new(Arc::clone(&clock)));
        let client = Arc::new(MetadataClient::new(
            Arc::clone(&service) as _,
            Arc::new(ReplicaBook::new((1..40).map(ReplicaId).collect())),
            Arc::clone(&clock),
        ));
        let root = tempfile::tempdir().expect("made");
        Self { root, clock, raft, service, hosts: Vec::new(), map: Mutex::default(), client }
    }

    pub async fn init(&self, replicas: usize) {
        let coding = Coding::parse("4+2").expect("valid");
        let replicas = ReplicaId(replicas as u64);
        self.propose(Command::InitCluster { cluster: CLUSTER, coding, replicas }).await;
        for disk in 1..=6u8 {
            self.propose(Command::RegisterDisk {
                uuid: DiskUuid([disk; 16]),
                node: NodeId(1),
                rack: String::new(),
                zone: String::new(),
                weight: 10,
                path: String::new(),
            })
            .await;
        }
        let token = JoinToken {
            id: TokenId([1; 16]),
            secret_sha256: vec![1; 32].into(),
            roles: Roles::ALL,
            expires: Timestamp(u64::MAX),
            uses_left: 100,
        };
        assert_eq!(self.propose(Command::CreateToken(token)).await, Outcome::Done);
        self.first_map().await;
    }

    pub async fn propose(&self, command: Command) -> Outcome {
        self.client.propose_one(command).await.expect("proposed")
    }

    /// Lets a node with one disk join, and starts it.
    pub async fn join(&mut self) {
        let number = self.hosts.len() as u8 + 1;
        let command = Command::JoinNode {
            token: TokenId([1; 16]),
            secret_sha256: vec![1; 32].into(),
            node: registration(number),
        };
        let joined = self.propose(command).await;
        assert_eq!(joined, Outcome::NodeRegistered(NodeId(u32::from(number))));
        self.start(number, 1, MayFound::No).await;
    }

    /// Starts node `number` (again), with so many disks.
    pub async fn start(&mut self, number: u8, disks: usize, may_found: MayFound) {
        let directories: Vec<PathBuf> =
            (0..disks).map(|disk| self.root.path().join(format!("n{number}d{disk}"))).collect();
        for directory in &directories {
            std::fs::create_dir_all(directory).expect("made");
        }
        let at = usize::from(number) - 1;
        if self.hosts.len() == at {
            let clock = || Arc::clone(&self.clock);
            let seed = u64::from(number);
            self.hosts.push(Host {
                node: NodeId(u32::from(number)),
                keeper: None,
                raft: Arc::new(SimulatedNetwork::new(Hub(Arc::clone(&self.raft)), clock(), seed)),
                service: Arc::new(SimulatedNetwork::new(
                    Hub(Arc::clone(&self.service)),
                    clock(),
                    seed,
                )),
                doors: Arc::new(Doors {
                    slow: Arc::default(),
                    raft: Arc::clone(&self.raft),
                    service: Arc::clone(&self.service),
                    open: Mutex::default(),
                }),
                directories: directories.clone(),
            });
        }
        let known = self.client.book().replicas();
        let host = &mut self.hosts[at];
        host.directories.clone_from(&directories);
        let client = Arc::new(MetadataClient::new(
            Arc::clone(&host.service) as _,
            Arc::new(ReplicaBook::new(known)),
            Arc::clone(&self.clock),
        ));
        let source = move || -> Vec<Arc<dyn Disk>> {
            let open = directories.iter().filter_map(|path| RealDisk::open(path).ok());
            open.map(|disk| Arc::new(disk) as Arc<dyn Disk>).collect()
        };
        let among = Placement::Among { node: host.node, doors: Arc::clone(&host.doors) as _ };
        let raft_peers = Arc::new(InProcess::new(Arc::clone(&self.clock)));
        let service_peers = Arc::new(InProcess::new(Arc::clone(&self.clock)));
        let parts = KeeperParts {
            world: World {
                cluster: CLUSTER,
                raft_network: Arc::clone(&host.raft) as _,
                clock: Arc::clone(&self.clock),
            },
            placement: among,
            replicas: disks,
            disks: Arc::new(source),
            raft_peers,
            service_peers,
            client,
        };
        host.keeper = Some(Keeper::start(parts, may_found).await.expect("started"));
    }

    pub async fn stop(&mut self, number: usize) {
        if let Some(keeper) = self.hosts[number - 1].keeper.take() {
            keeper.shutdown().await;
        }
    }

    pub async fn stop_all(&mut self) {
        for number in 1..=self.hosts.len() {
            self.stop(number).await;
        }
    }

    pub fn directory(&self, number: usize, disk: usize) -> PathBuf {
        self.hosts[number - 1].directories[disk].clone()
    }

    pub fn replicas_of(&self, number: usize) -> Vec<ReplicaId> {
        let doors = &self.hosts[number - 1].doors;
        doors.open.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Cuts a node off from all others, or lets it back.
    pub fn isolate(&self, number: usize, cut: bool) {
        let own = self.replicas_of(number);
        let others = (1..=self.hosts.len()).filter(|other| *other != number);
        let others: Vec<ReplicaId> = others.flat_map(|other| self.replicas_of(other)).collect();
        for (at, host) in self.hosts.iter().enumerate() {
            let peers = if at + 1 == number { &others } else { &own };
            for peer in peers {
                if cut {
                    host.raft.cut(Peer(peer.0));
                    host.service.cut(Peer(peer.0));
                } else {
                    host.raft.heal(Peer(peer.0));
                    host.service.heal(Peer(peer.0));
                }
            }
        }
    }

    /// Spoils every node's network.
    pub fn set_faults(&self, faults: NetworkFaults) {
        for host in &self.hosts {
            host.raft.set_faults(faults);
            host.service.set_faults(faults);
        }
    }

    /// A client on a node's network.
    pub fn client_of(&self, number: usize) -> MetadataClient {
        MetadataClient::new(
            Arc::clone(&self.hosts[number - 1].service) as _,
            Arc::new(ReplicaBook::new(self.client.book().replicas())),
            Arc::clone(&self.clock),
        )
    }

    pub async fn map(&self) -> ClusterMap {
        match self.client.query(Query::ClusterMap { known_epoch: 0 }).await.expect("answered") {
            Answer::ClusterMap(Some(map)) => map,
            other => panic!("{other:?}"),
        }
    }

    pub async fn leader(&self) -> Option<MetadataStatus> {
        // Also those that the map doesn't have yet.
        for id in (1..40).map(ReplicaId) {
            if let Ok(status) = self.client.status(id).await
                && status.state == "leader"
            {
                return Some(status);
            }
        }
        None
    }

    /// The number of the node that has the leader.
    pub async fn leading(&self) -> usize {
        self.until("a leader", async |hosts| hosts.leader().await.is_some()).await;
        let leader = self.leader().await.expect("there").replica;
        let has = |number: &usize| self.replicas_of(*number).contains(&leader);
        (1..=self.hosts.len()).find(has).expect("on a node")
    }

    /// Waits until `done`; fails after a minute.
    pub async fn until(&self, what: &str, mut done: impl AsyncFnMut(&Self) -> bool) {
        let clock = SystemClock::new();
        while !done(self).await {
            let state = self.leader().await.map(|status| (status.replica, status.voters));
            assert!(clock.monotonic() < Duration::from_mins(1), "{what}: {state:?}");
            clock.sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until exactly these nodes have so many voters, and no more replicas than that are
    /// placed.
    pub async fn until_voters(&self, wanted: &[(usize, usize)]) {
        self.until("the voters", async |hosts| {
            let Some(leader) = hosts.leader().await else {
                return false;
            };
            let votes = |number: usize| {
                let own = hosts.replicas_of(number);
                leader.voters.iter().filter(|id| own.contains(id)).count()
            };
            let total: usize = wanted.iter().map(|(_, count)| count).sum();
            leader.voters.len() == total
                && wanted.iter().all(|(number, count)| votes(*number) == *count)
                && hosts.map().await.replicas.len() == total
        })
        .await;
    }

    pub async fn writer(&self) -> Writer {
        Writer::open(Arc::clone(&self.client), "gateway").await.expect("opened")
    }

    pub async fn has(&self, name: &str) -> bool {
        let query = Query::Object { bucket: bucket(), key: key(name), plan: PlanWanted::Whole };
        matches!(self.client.query(query).await.expect("answered"), Answer::Object(_))
    }

    /// The map as it was when all disks were up: nobody reports them, and no shards are written.
    async fn first_map(&self) -> Arc<ClusterMap> {
        let known = self.map.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(map) = known {
            return map;
        }
        let map = Arc::new(self.map().await);
        *self.map.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&map));
        map
    }

    /// Puts objects; gives the longest time that one took.
    pub async fn put_some(&self, writer: &Writer, names: std::ops::Range<u64>) -> Duration {
        let map = self.first_map().await;
        let mut longest = Duration::ZERO;
        for number in names {
            let clock = SystemClock::new();
            put(writer, &map, &format!("o{number}"), number).await;
            longest = longest.max(clock.monotonic());
        }
        longest
    }
}

/// Three nodes with a replica each, a bucket and ten objects.
async fn three() -> (Hosts, Writer) {
    let mut hosts = Hosts::found(1).await;
    hosts.join().await;
    hosts.join().await;
    hosts.until_voters(&[(1, 1), (2, 1), (3, 1)]).await;
    let writer = hosts.writer().await;
    create_bucket(&writer).await;
    hosts.put_some(&writer, 0..10).await;
    (hosts, writer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_make_a_quorum_and_are_proved_the_same() {
    let (mut hosts, writer) = three().await;
    let check = hosts.client.check().await.expect("checked");
    assert!(check.is_clean() && check.replicas.len() == 3, "{check:?}");
    // And while it is being written.
    let (check, _) = tokio::join!(hosts.client.check(), hosts.put_some(&writer, 10..60));
    let check = check.expect("checked");
    assert!(check.is_clean() && check.replicas.len() == 3, "{check:?}");
    hosts.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minority_cut_off_changes_nothing_and_a_majority_stops_everything_cleanly() {
    let (mut hosts, writer) = three().await;
    let leading = hosts.leading().await;
    hosts.isolate(leading, true);
    // Its clients get no wrong answer: none at all.
    let asked = async {
        for id in hosts.replicas_of(leading) {
            let request = MetadataRequest::Query(Query::Buckets {
                prefix: String::new(),
                after: String::new(),
                limit: 1,
            });
            let clock = SystemClock::new();
            while clock.monotonic() < Duration::from_secs(3) {
                let answer = hosts.hosts[leading - 1]
                    .service
                    .call(Peer(id.0), request.clone(), Duration::from_secs(5))
                    .await;
                assert!(
                    !matches!(answer, Ok(MetadataResponse::Answer(_))) || lonely_before(&clock),
                    "{answer:?}"
                );
            }
        }
    };
    let (longest, ()) = tokio::join!(hosts.put_some(&writer, 10..20), asked);
    // Under 3 s, but for a host that is busy with other tests.
    assert!(longest < Duration::from_secs(4), "{longest:?}");
    // One more, and there is no quorum.
    let next = (1..=3).find(|number| *number != leading).expect("another");
    let before = hosts.leader().await;
    hosts.isolate(next, true);
    let clock = SystemClock::new();
    let stuck =
        wire::clock::timeout(&clock, Duration::from_secs(4), hosts.put_some(&writer, 20..21));
    assert!(stuck.await.is_err(), "{before:?}");
    hosts.isolate(next, false);
    hosts.isolate(leading, false);
    hosts.put_some(&writer, 21..25).await;
    for number in (0..20).chain(21..25) {
        assert!(hosts.has(&format!("o{number}")).await, "{number}");
    }
    let check = hosts.client.check().await.expect("checked");
    assert!(check.is_clean() && check.replicas.len() == 3, "{check:?}");
    hosts.stop_all().await;
}

/// A leader that was just cut off may answer what a quorum confirmed before.
fn lonely_before(clock: &SystemClock) -> bool {
    clock.monotonic() < Duration::from_millis(50)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lead_is_handed_over_when_asked_and_before_a_stop() {
    let (mut hosts, writer) = three().await;
    let before = hosts.leader().await.expect("leads");
    let clock = SystemClock::new();
    let now = hosts.client.transfer(None).await.expect("handed over");
    assert_ne!(now, before.replica);
    assert!(clock.monotonic() < Duration::from_secs(2), "{:?}", clock.monotonic());
    let back = hosts.client.transfer(Some(before.replica)).await.expect("handed back");
    assert_eq!(back, before.replica);
    assert_eq!(
        hosts.client.transfer(Some(ReplicaId(99))).await,
        Err(model::query::MetadataError::Unavailable)
    );
    let longest = hosts.put_some(&writer, 10..15).await;
    assert!(longest < Duration::from_secs(1), "a refused transfer stops nothing: {longest:?}");
    // A planned stop of the leader's process costs no election.
    let leading = hosts.leading().await;
    let keeper = hosts.hosts[leading - 1].keeper.take().expect("runs");
    let ((), longest) = tokio::join!(keeper.shutdown(), hosts.put_some(&writer, 15..40));
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    hosts.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_to_a_replica_that_dies_is_given_up() {
    let (mut hosts, writer) = three().await;
    let leading = hosts.leading().await;
    let heir = (1..=3).find(|number| *number != leading).expect("another");
    let id = hosts.replicas_of(heir)[0];
    // It is heard of still, but the request to take the lead never arrives.
    hosts.isolate(heir, true);
    let refused = hosts.client.transfer(Some(id)).await;
    assert!(refused.is_err() || refused.is_ok_and(|leader| leader != id), "{refused:?}");
    let longest = hosts.put_some(&writer, 10..20).await;
    assert!(longest < Duration::from_secs(4), "{longest:?}");
    hosts.isolate(heir, false);
    hosts.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grown_server_spreads_over_three_nodes() {
    let mut hosts = Hosts::found(5).await;
    hosts.until_voters(&[(1, 5)]).await;
    let writer = hosts.writer().await;
    create_bucket(&writer).await;
    hosts.put_some(&writer, 0..20).await;
    hosts.join().await;
    hosts.put_some(&writer, 20..25).await;
    hosts.join().await;
    hosts.until_voters(&[(1, 1), (2, 1), (3, 1)]).await;
    hosts.put_some(&writer, 25..30).await;
    for number in 0..30 {
        assert!(hosts.has(&format!("o{number}")).await, "{number}");
    }
    hosts
        .until("the surplus wiped", async |hosts| {
            let holds = |disk: usize| hosts.directory(1, disk).join("metadata/identity").exists();
            (0..5).filter(|disk| holds(*disk)).count() == 1
        })
        .await;
    let check = hosts.client.check().await.expect("checked");
    assert!(check.is_clean() && check.replicas.len() == 3, "{check:?}");
    // The whole first node may go now.
    hosts.stop(1).await;
    let longest = hosts.put_some(&writer, 30..35).await;
    assert!(longest < Duration::from_secs(4), "{longest:?}");
    hosts.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_disk_of_a_node_is_filled_again_under_a_new_id() {
    let (mut hosts, writer) = three().await;
    for number in [hosts.leading().await % 3 + 1, hosts.leading().await] {
        let lost = hosts.replicas_of(number);
        let path = hosts.directory(number, 0);
        crate::harness::TestCluster::delete(&path);
        hosts.put_some(&writer, 10..15).await;
        std::fs::create_dir(&path).expect("made");
        hosts.until_voters(&[(1, 1), (2, 1), (3, 1)]).await;
        assert_ne!(hosts.replicas_of(number), lost);
        let check = hosts.client.check().await.expect("checked");
        assert!(check.is_clean() && check.replicas.len() == 3, "{check:?}");
    }
    hosts.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_removed_and_another_node_takes_its_place() {
    let (mut hosts, writer) = three().await;
    // A fourth has no need to keep one, until it is asked to.
    hosts.join().await;
    let id = hosts.client.add_replica(NodeId(4)).await.expect("asked");
    hosts.until("a spare", async |hosts| !hosts.replicas_of(4).is_empty()).await;
    assert_ne!(hosts.replicas_of(4), [id]);
    hosts.until("placed", async |hosts| hosts.map().await.replicas.len() == 4).await;
    assert_eq!(hosts.leader().await.expect("leads").voters.len(), 3);
    // A node stops for good.
    let leaving = hosts.replicas_of(3)[0];
    hosts.stop(3).await;
    let refused = hosts.propose(Command::RemoveNode { node: NodeId(3) }).await;
    assert!(matches!(refused, Outcome::Refused(_)));
    assert_eq!(hosts.propose(Command::ForgetReplica { replica: leaving }).await, Outcome::Done);
    assert_eq!(hosts.propose(Command::RemoveNode { node: NodeId(3) }).await, Outcome::Done);
    hosts.until_voters(&[(1, 1), (2, 1), (4, 1)]).await;
    hosts.put_some(&writer, 10..20).await;
    // If it comes back nevertheless, it has no say, and what it had is wiped.
    hosts.start(3, 1, MayFound::No).await;
    hosts.until("gone", async |hosts| hosts.replicas_of(3).is_empty()).await;
    hosts.until_voters(&[(1, 1), (2, 1), (4, 1)]).await;
    hosts.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_replica_comes_back_under_a_new_id() {
    let (mut hosts, writer) = three().await;
    hosts.put_some(&writer, 10..40).await;
    for file in ["identity", "state.redb", "raft-log/hard-state", "raft-log/0000000000000001.log"] {
        let number = hosts.leading().await % 3 + 1;
        let lost = hosts.replicas_of(number);
        hosts.stop(number).await;
        let path = hosts.directory(number, 0).join("metadata").join(file);
        let mut content = std::fs::read(&path).expect("read");
        if file == "state.redb" {
            for page in content.chunks_mut(4096).skip(1).filter(|page| page[100] != 0) {
                page[100] ^= 0x40;
            }
        } else {
            content[if file.ends_with("log") { 140 } else { 20 }] ^= 4;
        }
        std::fs::write(&path, content).expect("written");
        hosts.start(number as u8, 1, MayFound::No).await;
        hosts.until_voters(&[(1, 1), (2, 1), (3, 1)]).await;
        assert_ne!(hosts.replicas_of(number), lost, "{file}");
        let check = hosts.client.check().await.expect("checked");
        assert!(check.is_clean() && check.replicas.len() == 3, "{file}: {check:?}");
    }
    for number in 0..40 {
        assert!(hosts.has(&format!("o{number}")).await, "{number}");
    }
    hosts.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_leaves_a_leader_that_it_can_no_longer_reach() {
    let (mut hosts, _) = three().await;
    let leading = hosts.leading().await;
    let other = leading % 3 + 1;
    let client = Arc::new(hosts.client_of(other));
    let writer = Writer::open(client, "other").await.expect("opened");
    hosts.put_some(&writer, 10..12).await;
    // What is sent to the leader vanishes: nothing tells the client that it is gone.
    hosts.isolate(leading, true);
    let longest = hosts.put_some(&writer, 12..15).await;
    assert!(longest < Duration::from_secs(4), "{longest:?}");
    hosts.isolate(leading, false);
    hosts.until_voters(&[(1, 1), (2, 1), (3, 1)]).await;
    hosts.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_restart_at_once() {
    let (mut hosts, _) = three().await;
    hosts.stop_all().await;
    for number in 1..=3 {
        hosts.start(number, 1, MayFound::No).await;
    }
    for number in 0..10 {
        assert!(hosts.has(&format!("o{number}")).await, "{number}");
    }
    hosts.until_voters(&[(1, 1), (2, 1), (3, 1)]).await;
    let ids: Vec<u64> = hosts.map().await.replicas.iter().map(|place| place.replica.0).collect();
    assert_eq!(ids.len(), 3);
    assert_eq!(ids[0], 1, "nobody was replaced: {ids:?}");
    hosts.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_take_effect_once_over_a_network_that_loses_messages() {
    let (mut hosts, writer) = three().await;
    hosts.set_faults(NetworkFaults {
        requests_lost_per_mille: 50,
        answers_lost_per_mille: 50,
        delay_max: Duration::from_millis(10),
    });
    let lossy = Arc::new(hosts.client_of(2));
    let spoilt = Writer::open(lossy, "other").await.expect("opened");
    let map = hosts.first_map().await;
    for number in 100..140 {
        put(&spoilt, &map, &format!("o{number}"), number).await;
    }
    hosts.set_faults(NetworkFaults::default());
    for number in 100..140 {
        assert!(hosts.has(&format!("o{number}")).await, "{number}");
    }
    assert_eq!(hosts.leader().await.expect("leads").objects, 50);
    drop(writer);
    let check = hosts.client.check().await.expect("checked");
    assert!(check.is_clean() && check.replicas.len() == 3, "{check:?}");
    hosts.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_follower_is_waited_for_before_the_log_forgets_what_it_needs() {
    let (mut hosts, writer) = three().await;
    let leading = hosts.leading().await;
    let slow = leading % 3 + 1;
    let id = hosts.replicas_of(slow)[0];
    let leader = hosts.replicas_of(leading)[0];
    let how = Arc::clone(&hosts.hosts[slow - 1].doors.slow);
    how.entries_ms.store(800, Ordering::Relaxed);
    let ask = || {
        let command = Command::QueueRepair { lacking: Vec::new() };
        let envelope = CommandEnvelope {
            id: CommandId::default(),
            acknowledged_below: 0,
            proposed: Timestamp(1),
            command,
        };
        let request = MetadataRequest::Propose(vec![envelope]);
        hosts.service.call(Peer(leader.0), request, Duration::from_secs(10))
    };
    let refused = |answer: &Result<MetadataResponse, NetworkError>| {
        matches!(answer, Ok(MetadataResponse::Failed(MetadataError::Overloaded)))
    };
    // More entries at once than the queue of proposals would make of them.
    let raft = hosts.hosts[leading - 1].keeper.as_ref().expect("runs").replicas()[0].raft().clone();
    for _ in 0..11 {
        let writes = (0..300).map(|_| raft.client_write(Batch::new(Vec::new(), &[])));
        for written in futures_util::future::join_all(writes).await {
            written.expect("committed");
        }
    }
    let clock = SystemClock::new();
    let mut answer = ask().await;
    while !refused(&answer) {
        assert!(matches!(answer, Ok(MetadataResponse::Outcomes(_))), "{answer:?}");
        assert!(clock.monotonic() < Duration::from_secs(5), "never refused");
        answer = ask().await;
    }
    let lag = async |hosts: &Hosts| {
        let of = async |id| hosts.client.status(id).await.expect("told").last_log_index;
        of(leader).await.saturating_sub(of(id).await)
    };
    let found = lag(&hosts).await;
    assert!(found > 1500 && found < metadata::limits::LOG_ENTRIES_KEPT, "{found}");
    // It is as fast as the others again, and has caught up without a snapshot.
    how.entries_ms.store(0, Ordering::Relaxed);
    hosts.put_some(&writer, 10..12).await;
    hosts.until("caught up", async |hosts| lag(hosts).await < 5).await;
    assert_eq!(how.pieces.load(Ordering::Relaxed), 0);
    assert_eq!(hosts.replicas_of(slow), [id]);
    hosts.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_on_its_way_stops_nobody() {
    let (mut hosts, writer) = three().await;
    let map = hosts.first_map().await;
    for many in 0..20u64 {
        let puts = (0..100).map(|one| {
            let (writer, map) = (&writer, &map);
            async move {
                let number = 1000 + many * 100 + one;
                put(writer, map, &format!("{number:0900}"), number).await
            }
        });
        futures_util::future::join_all(puts).await;
    }
    for host in &hosts.hosts {
        for replica in host.keeper.as_ref().expect("runs").replicas() {
            replica.raft().trigger().snapshot().await.expect("asked");
        }
    }
    hosts
        .until("snapshots", async |hosts| {
            let leader = hosts.leader().await.expect("leads");
            leader.snapshot_index + 50 > leader.last_log_index
        })
        .await;
    for host in &hosts.hosts {
        for replica in host.keeper.as_ref().expect("runs").replicas() {
            let covered = hosts.client.status(replica.id()).await.expect("told").snapshot_index;
            replica.raft().trigger().purge_log(covered).await.expect("asked");
        }
    }
    // The fourth gets a snapshot over a line of 2 MiB/s.
    hosts.join().await;
    let how = Arc::clone(&hosts.hosts[3].doors.slow);
    how.pieces_ms.store(500, Ordering::Relaxed);
    hosts.client.add_replica(NodeId(4)).await.expect("asked");
    hosts.until("it begins", async |_| how.pieces.load(Ordering::Relaxed) > 0).await;
    let mut longest = Duration::ZERO;
    let mut number = 10;
    while how.pieces.load(Ordering::Relaxed) < 3 {
        longest = longest.max(hosts.put_some(&writer, number..number + 1).await);
        number += 1;
    }
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    assert!(number > 12, "commits went on: {number}");
    hosts
        .until("it has all", async |hosts| {
            let [id] = hosts.replicas_of(4)[..] else { return false };
            let Some(leader) = hosts.leader().await else { return false };
            let status = hosts.client.status(id).await;
            status.is_ok_and(|status| status.last_applied_index + 5 > leader.last_log_index)
        })
        .await;
    let check = hosts.client.check().await.expect("checked");
    assert!(check.is_clean() && check.replicas.len() == 4, "{check:?}");
    hosts.stop_all().await;
}
