//! Clusters of several nodes in one process: each with a keeper, disks and a network of its own.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metadata::client::{MetadataClient, ReplicaBook};
use metadata::keeper::{Keeper, KeeperParts, MayFound, Placement, ReplicaDoors};
use metadata::raft::{RaftMessages, RaftRequest, RaftResponse};
use metadata::replica::World;
use metadata::serve::MetadataService;
use metadata::session::Writer;
use model::cluster_map::ClusterMap;
use model::coding::Coding;
use model::command::{Command, CommandEnvelope, CommandId, Outcome};
use model::ids::{DiskUuid, NodeId, NodeUuid, ReplicaId, TokenId};
use model::node::{JoinToken, NodeRegistration, Roles};
use model::query::{Answer, MetadataRequest, MetadataResponse, MetadataStatus, PlanWanted, Query};
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
    pub service: Arc<InProcess<MetadataRequest, MetadataResponse>>,
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
    pub service: Arc<ServiceNet>,
    pub doors: Arc<Doors>,
    directories: Vec<PathBuf>,
}

pub struct Doors {
    pub slow: Arc<Slowness>,
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
pub struct Slowness {
    pub entries_ms: AtomicU64,
    pub pieces_ms: AtomicU64,
    /// Pieces of snapshots that came.
    pub pieces: AtomicU64,
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
        // As the first release did: a node of that may come.
        let command = Command::InitCluster { cluster: CLUSTER, coding, replicas, level: 0 };
        self.propose(command).await;
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

    /// Proposes at one replica, as a proposer does that doesn't look at the map before.
    pub async fn propose_at(&self, replica: ReplicaId, commands: Vec<Command>) -> Vec<Outcome> {
        let envelope = |command| CommandEnvelope {
            id: CommandId::default(),
            acknowledged_below: 0,
            proposed: self.clock.now(),
            command,
        };
        let request = MetadataRequest::Propose(commands.into_iter().map(envelope).collect());
        let answer = self.service.call(Peer(replica.0), request, Duration::from_secs(5)).await;
        match answer {
            Ok(MetadataResponse::Outcomes(outcomes)) => outcomes,
            other => panic!("{other:?}"),
        }
    }

    /// Lets a node with one disk join, and starts it.
    pub async fn join(&mut self) {
        let number = self.hosts.len() as u8 + 1;
        let command = Command::JoinNode {
            token: TokenId([1; 16]),
            secret_sha256: vec![1; 32].into(),
            node: registration(number),
            proven: None,
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
    pub async fn first_map(&self) -> Arc<ClusterMap> {
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
pub async fn three() -> (Hosts, Writer) {
    let mut hosts = Hosts::found(1).await;
    hosts.join().await;
    hosts.join().await;
    hosts.until_voters(&[(1, 1), (2, 1), (3, 1)]).await;
    let writer = hosts.writer().await;
    create_bucket(&writer).await;
    hosts.put_some(&writer, 0..10).await;
    (hosts, writer)
}
