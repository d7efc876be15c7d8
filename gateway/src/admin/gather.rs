//! Asks the metadata, and this process, for what `/status` and `/health/ready` tell.
//!
//! In: the metadata's replicas. Out: a [`ClusterStatus`]. All are asked at once and each question has
//! a short deadline of its own, so that a cluster in trouble still tells what it knows.

pub(in crate::admin) mod picture;
mod readiness;
mod reasons;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use engine::Engine;
use futures_util::future::join_all;
use metadata::backup::BackupProgress;
use metadata::client::MetadataClient;
use model::cluster_map::{ClusterMap, Disk, DiskState};
use model::ids::{DiskId, NodeId, PgId, ReplicaId};
use model::level::MOVING;
use model::node::{Node, Roles};
use model::query::{Answer, MetadataStatus, Query};
use model::recovery::Held;
use model::shard::DiskReport;
use model::time::Timestamp;
use tokio::sync::watch;
use wire::clock::timeout;

use crate::admin::backup_targets::BackupTargetStatus;
use crate::admin::classes::RecodeOrders;
use crate::admin::figures::{Figures, Judged};
use crate::admin::health::{Health, Repairs};
use crate::admin::standing::{replicas_to_lose, report_of};
use crate::admin::status::{
    ClusterStatus, DiskStatus, FaultTolerance, HeldStatus, MetadataSummary, NodeStatus,
    ProcessStatus, RepairStatus, ReplicaStatus, UNREACHABLE, Usage,
};

use readiness::{Looks, SILENCE_MAX};
use reasons::ahead_ms;

/// Tells where a metadata replica is kept; only the process that keeps it knows.
pub type ReplicaPlace = Arc<dyn Fn(ReplicaId) -> Option<String> + Send + Sync>;

/// Tells when this process' certificate for the internal network ends.
pub type CertificateEnd = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// How long one question may take: probes ask every few seconds.
const QUESTION_DEADLINE: Duration = Duration::from_secs(2);

/// A gateway whose copy of the cluster map wasn't confirmed for so long isn't ready, though the
/// metadata answers: it asks every second.
const MAP_AGE_MAX: Duration = Duration::from_secs(30);

/// The process that answers.
#[derive(Clone)]
pub struct Process {
    /// What it does.
    pub roles: Roles,
    /// Its node; `None` where it is the only process.
    pub node: Option<NodeId>,
    /// Turns true with the order to stop.
    pub stopping: watch::Receiver<bool>,
    /// The engine of a gateway.
    pub engine: Option<Engine>,
}

/// Asks for the state of the cluster.
#[derive(Clone)]
pub struct StatusGatherer {
    client: Arc<MetadataClient>,
    place: ReplicaPlace,
    process: Process,
    backups: Vec<Arc<BackupProgress>>,
    /// When the metadata last answered, by the monotonic clock; at first, when this began.
    heard: Arc<Mutex<Duration>>,
    looks: Arc<Looks>,
    silence_max: Duration,
    /// The newest map that was seen here.
    known: Arc<Mutex<Option<Arc<ClusterMap>>>>,
    figures: Arc<tokio::sync::Mutex<Figures>>,
    recode_orders: Arc<RecodeOrders>,
    certificate: Option<CertificateEnd>,
}

/// What the replicas and the leader answered.
struct Found {
    replicas: Vec<(ReplicaId, Option<MetadataStatus>)>,
    map: FoundMap,
    /// Groups that hold nothing and are out of use, as far as is known; ascending.
    unused: Vec<PgId>,
    /// What is held, as far as is known.
    held: Option<Held>,
    /// How long the metadata hasn't answered.
    silence: Duration,
    /// The repair queue.
    repairs: Repairs,
    /// By how many milliseconds each replica's clock is ahead of ours, where it says.
    clocks_ahead_ms: Vec<(ReplicaId, i64)>,
}

/// What the question for the cluster map gave.
enum FoundMap {
    /// No answer.
    Silence,
    /// There is none yet.
    Unmade,
    /// The map, and what it comes to where that was asked for.
    Made(Arc<ClusterMap>, Box<Judged>),
}

impl FoundMap {
    fn made(&self) -> Option<&ClusterMap> {
        match self {
            Self::Silence | Self::Unmade => None,
            Self::Made(map, _) => Some(map),
        }
    }

    fn judged(&self) -> Option<&Judged> {
        match self {
            Self::Silence | Self::Unmade => None,
            Self::Made(_, judged) => Some(judged),
        }
    }
}

impl StatusGatherer {
    /// Asks by `client`; `place` knows where replicas are kept.
    pub fn new(client: Arc<MetadataClient>, place: ReplicaPlace, process: Process) -> Self {
        let heard = Arc::new(Mutex::new(client.clock().monotonic()));
        let (backups, looks) = (Vec::new(), Arc::default());
        Self {
            client,
            place,
            process,
            backups,
            heard,
            looks,
            silence_max: SILENCE_MAX,
            known: Arc::default(),
            figures: Arc::default(),
            recode_orders: Arc::default(),
            certificate: None,
        }
    }

    /// Tells of these targets of backups, too.
    #[must_use]
    pub fn with_backups(self, backups: Vec<Arc<BackupProgress>>) -> Self {
        Self { backups, ..self }
    }

    /// Warns when the certificate of this process ends soon.
    #[must_use]
    pub fn with_certificate(self, end: CertificateEnd) -> Self {
        Self { certificate: Some(end), ..self }
    }

    /// Takes metadata that was heard before for present until it is silent for so long [default: 5 s].
    #[must_use]
    pub fn with_silence_max(self, silence_max: Duration) -> Self {
        Self { silence_max, ..self }
    }

    /// The way to the metadata.
    pub(super) const fn client(&self) -> &Arc<MetadataClient> {
        &self.client
    }

    /// All that is known.
    pub async fn status(&self) -> ClusterStatus {
        let found = self.find().await;
        let map = found.map.made();
        let leader = found.leader();
        let Health { status: health, margin, reasons, .. } = self.health_of(&found);
        let Judged { tolerance, groups, mut standings, moves, durability, .. } =
            found.map.judged().cloned().unwrap_or_default();
        let disk_status = |map: &ClusterMap| {
            let status = |disk: &Disk| DiskStatus {
                standing: standings.remove(&disk.id).unwrap_or_default(),
                ..DiskStatus::new(disk, report_of(found.reports(), disk.id))
            };
            map.disks.iter().map(status).collect()
        };
        let engine = self.process.engine.as_ref();
        ClusterStatus {
            cluster: map.map(|map| map.cluster.to_string()),
            coding: map.map(|map| map.coding.to_string()),
            map_epoch: map.map(|map| map.epoch),
            disks: map.map(disk_status).unwrap_or_default(),
            placement_groups: groups,
            fault_tolerance: FaultTolerance {
                more_disks: tolerance.more_disks(),
                more_metadata_replicas: found
                    .voters()
                    .map(|(voters, healthy)| replicas_to_lose(voters, healthy)),
            },
            usage: Usage {
                buckets: leader.map(|leader| leader.buckets),
                objects: leader.map(|leader| leader.objects),
                object_bytes: leader.map(|leader| leader.object_bytes),
            },
            repair_queue: leader.map(|leader| leader.repairs),
            repair: engine
                .map(|engine| RepairStatus::new(engine.repair_progress()))
                .unwrap_or_default(),
            garbage_extents: leader.map(|leader| leader.garbage),
            metadata: self.summary(&found),
            held: found.held.as_ref().map(HeldStatus::new),
            nodes: map.map(|map| found.nodes(map)).unwrap_or_default(),
            process: self.process(&found),
            tolerance,
            moves,
            withheld_nodes: leader
                .map(|leader| leader.withheld.iter().map(|node| node.0).collect())
                .unwrap_or_default(),
            durability,
            health,
            margin,
            reasons,
        }
    }

    /// One look at the cluster, and what it comes to.
    async fn find(&self) -> Found {
        let clock = self.client.clock().as_ref();
        let held = timeout(clock, QUESTION_DEADLINE, self.find_held());
        let front = timeout(clock, QUESTION_DEADLINE, self.find_urgent_repair());
        let (mut found, held, front) = futures_util::join!(self.ask(), held, front);
        found.held = held.ok().flatten();
        found.repairs = front.ok().flatten().unwrap_or_default();
        if let Some(queued) = found.leader().map(|leader| leader.repairs) {
            found.repairs.queued = queued;
        }
        self.judge(found).await
    }

    /// What the replicas and the leader say of the cluster and its disks.
    async fn ask(&self) -> Found {
        let clock = self.client.clock().as_ref();
        let known = self.known_map();
        let kept = known.iter().flat_map(|map| &map.replicas).map(|place| place.replica);
        let ids: BTreeSet<ReplicaId> =
            self.client.book().replicas().into_iter().chain(kept).collect();
        let replicas = join_all(ids.into_iter().map(|id| async move {
            let asked = clock.now();
            let status = timeout(clock, QUESTION_DEADLINE, self.client.status(id)).await;
            let mut status = status.ok().and_then(Result::ok);
            if let Some(status) = &mut status {
                status.disks.sort_unstable_by_key(|report| report.disk);
            }
            let ahead =
                status.as_ref().and_then(|status| ahead_ms(status.time, asked, clock.now()));
            (id, status, ahead)
        }));
        let map_and_unused = async {
            let map = self.ask_map(known.clone()).await;
            let unused = match map.made() {
                Some(map) => self.ask_unused(map).await,
                None => Vec::new(),
            };
            (map, unused)
        };
        let (replicas, (map, unused)) = futures_util::join!(replicas, map_and_unused);
        let silence = self.note(!matches!(map, FoundMap::Silence));
        let ahead = |(id, _, ahead): &(ReplicaId, _, Option<i64>)| Some((*id, (*ahead)?));
        let clocks_ahead_ms = replicas.iter().filter_map(ahead).collect();
        let replicas = replicas.into_iter().map(|(id, status, _)| (id, status)).collect();
        let (held, repairs) = (None, Repairs::default());
        Found { replicas, map, unused, held, silence, repairs, clocks_ahead_ms }
    }

    /// The groups of a map that hold nothing and are out of use. Where nobody tells, all count.
    async fn ask_unused(&self, map: &ClusterMap) -> Vec<PgId> {
        // An older release wouldn't understand the question; mostly there is nothing to ask.
        if map.level_in_use() < MOVING {
            return Vec::new();
        }
        let out_of_use: Vec<PgId> = map.pgs_out_of_use().iter().map(|pg| pg.id).collect();
        if out_of_use.is_empty() {
            return Vec::new();
        }
        let query = self.client.query(Query::UnusedGroups);
        match timeout(self.client.clock().as_ref(), QUESTION_DEADLINE, query).await {
            Ok(Ok(Answer::UnusedGroups(mut unused))) => {
                // By another map it may be another coding that is used.
                unused.retain(|pg| out_of_use.binary_search(pg).is_ok());
                unused
            }
            _ => Vec::new(),
        }
    }

    /// The newest map that this process knows.
    fn known_map(&self) -> Option<Arc<ClusterMap>> {
        let engine = self.process.engine.as_ref();
        let of_engine = engine.and_then(|engine| engine.follow_cluster_map().borrow().clone());
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Of two copies of the same one that of last time, which figures were computed of.
        [of_engine, known.clone()].into_iter().flatten().max_by_key(|map| map.epoch)
    }

    /// The map as it is now: it is sent only when it isn't the one that is known.
    async fn ask_map(&self, known: Option<Arc<ClusterMap>>) -> FoundMap {
        let known_epoch = known.as_ref().map_or(0, |map| map.epoch);
        let query = self.client.query(Query::ClusterMap { known_epoch });
        let map = match timeout(self.client.clock().as_ref(), QUESTION_DEADLINE, query).await {
            Ok(Ok(Answer::ClusterMap(Some(map)))) => Arc::new(map),
            Ok(Ok(Answer::ClusterMap(None))) => match known {
                Some(map) => map,
                None => return FoundMap::Unmade,
            },
            Ok(Ok(Answer::Refused(_))) => return FoundMap::Unmade,
            _ => return FoundMap::Silence,
        };
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&map));
        FoundMap::Made(map, Box::default())
    }

    /// Adds what a look comes to. One is computed at a time, apart from the threads that answer.
    async fn judge(&self, found: Found) -> Found {
        let FoundMap::Made(map, _) = &found.map else { return found };
        let (map, gatherer) = (Arc::clone(map), self.clone());
        let (held, silence) = (found.held.clone(), found.silence);
        // Held until it is computed, also when nobody waits for it any more.
        let mut figures = Arc::clone(&self.figures).lock_owned().await;
        let judged = tokio::task::spawn_blocking(move || {
            let judged = Box::new(figures.judged(&gatherer.seen(&found, &map)));
            Found { map: FoundMap::Made(map, judged), ..found }
        });
        // Of what could not be judged nothing good is told.
        judged.await.unwrap_or_else(|_| Found {
            replicas: Vec::new(),
            map: FoundMap::Silence,
            unused: Vec::new(),
            held,
            silence,
            repairs: Repairs::default(),
            clocks_ahead_ms: Vec::new(),
        })
    }

    /// What is held, where this process may ask that: storage nodes may not.
    async fn find_held(&self) -> Option<Held> {
        let roles = self.process.roles;
        if !roles.contains(Roles::METADATA) && !roles.contains(Roles::GATEWAY) {
            return None;
        }
        match self.client.query(Query::Held).await {
            Ok(Answer::Held(held)) => held,
            _ => None,
        }
    }

    /// Takes note of whether the metadata answered; how long it hasn't.
    fn note(&self, answered: bool) -> Duration {
        let now = self.client.clock().monotonic();
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if answered {
            *heard = now;
        }
        // A gateway asks all the time, and knows better.
        let silence = self.process.engine.as_ref().and_then(Engine::metadata_silence);
        if answered { Duration::ZERO } else { silence.unwrap_or(now.saturating_sub(*heard)) }
    }

    fn process(&self, found: &Found) -> ProcessStatus {
        let engine = self.process.engine.as_ref();
        let map = engine.and_then(|engine| engine.follow_cluster_map().borrow().clone());
        ProcessStatus {
            roles: self.process.roles.to_string(),
            node: self.process.node.map(|node| node.0),
            stopping: *self.process.stopping.borrow(),
            jobs: engine
                .map(|engine| engine.leased_jobs().into_iter().map(str::to_owned).collect())
                .unwrap_or_default(),
            map_age_seconds: engine.and_then(Engine::map_age).map(|age| age.as_secs()),
            map_epoch: map.map(|map| map.epoch),
            metadata_silent_seconds: found.silence.as_secs(),
        }
    }

    fn summary(&self, found: &Found) -> MetadataSummary {
        let leader = found.leader();
        let replica = |(id, status): &(ReplicaId, Option<MetadataStatus>)| {
            let status = status.as_ref();
            let node = found.map.made().and_then(|map| map.node_of(*id));
            ReplicaStatus {
                replica: id.0,
                disk: (self.place)(*id),
                node: node.map(|node| node.id.0),
                votes: leader.map(|leader| leader.voters.contains(id)),
                lag: status.zip(leader).map(|(status, leader)| {
                    leader.last_log_index.saturating_sub(status.last_applied_index)
                }),
                state: status.map_or(UNREACHABLE, |status| &status.state).to_owned(),
                applied: status.map(|status| status.last_applied_index),
                digests_match: status.zip(leader).and_then(digests_match),
            }
        };
        let map = found.map.made();
        MetadataSummary {
            leader: leader.map(|leader| leader.replica.0),
            leader_disk: leader.and_then(|leader| (self.place)(leader.replica)),
            term: leader.map(|leader| leader.term),
            replicas: found.replicas.iter().map(replica).collect(),
            backups: self.backup_targets(),
            level: map.map(ClusterMap::level_in_use),
            level_to_come: map.map(ClusterMap::level_to_come),
            nodes_behind: map
                .map(|map| map.nodes_behind().map(|node| node.id.0).collect())
                .unwrap_or_default(),
        }
    }

    fn backup_targets(&self) -> Vec<BackupTargetStatus> {
        let now = self.client.clock().now();
        self.backups.iter().map(|progress| BackupTargetStatus::new(progress, now)).collect()
    }
}

impl Found {
    /// The leader of the highest term: a deposed one may not know it yet.
    fn leader(&self) -> Option<&MetadataStatus> {
        let known = self.replicas.iter().filter_map(|(_, status)| status.as_ref());
        known.filter(|status| status.state == "leader").max_by_key(|status| status.term)
    }

    fn suspects(&self) -> &[DiskId] {
        self.leader().map_or(&[], |leader| &leader.suspects)
    }

    fn reports(&self) -> &[DiskReport] {
        self.leader().map_or(&[], |leader| &leader.disks)
    }

    /// How many replicas vote, and how many of those are well.
    fn voters(&self) -> Option<(usize, usize)> {
        let voters = &self.leader()?.voters;
        let well = |id: &&ReplicaId| {
            self.replicas.iter().any(|(replica, status)| {
                replica == *id && status.as_ref().is_some_and(|status| status.state != "fenced")
            })
        };
        Some((voters.len(), voters.iter().filter(well).count()))
    }

    fn nodes(&self, map: &ClusterMap) -> Vec<NodeStatus> {
        let mut disks: BTreeMap<NodeId, u64> = BTreeMap::new();
        for disk in map.disks.iter().filter(|disk| disk.state != DiskState::Out) {
            *disks.entry(disk.node).or_default() += 1;
        }
        let heard = self.leader().map(|leader| &*leader.nodes).unwrap_or_default();
        let silence: BTreeMap<NodeId, u64> =
            heard.iter().map(|heard| (heard.node, heard.silence_ms / 1000)).collect();
        let of = |node: &Node| NodeStatus {
            disks: disks.get(&node.id).copied().unwrap_or(0),
            ..self.node(map, node, silence.get(&node.id).copied())
        };
        map.nodes.iter().map(of).collect()
    }

    fn node(&self, map: &ClusterMap, node: &Node, silence: Option<u64>) -> NodeStatus {
        let Node { id, registration, .. } = node;
        let kept = map.replicas.iter().filter(|place| place.node == *id);
        let replicas: Vec<u64> = kept.map(|place| place.replica.0).collect();
        let answered = |(replica, status): &(ReplicaId, Option<MetadataStatus>)| {
            status.is_some() && replicas.contains(&replica.0)
        };
        let silent_seconds = if self.replicas.iter().any(answered) { Some(0) } else { silence };
        NodeStatus {
            id: id.0,
            name: registration.name.clone(),
            roles: registration.roles.to_string(),
            address: registration.address.clone(),
            rack: node.rack().to_owned(),
            zone: node.zone().to_owned(),
            level: registration.level,
            silent_seconds,
            disks: 0,
            replicas,
        }
    }

    /// Why the metadata doesn't answer, as far as its replicas tell.
    fn why_silent(&self) -> String {
        let silent = |(id, status): &(ReplicaId, Option<MetadataStatus>)| {
            status.is_none().then(|| id.0.to_string())
        };
        let silent: Vec<String> = self.replicas.iter().filter_map(silent).collect();
        let silent_ones = silent.join(", ");
        match (self.leader(), silent.len() == self.replicas.len(), silent.is_empty()) {
            _ if self.replicas.is_empty() => "no answer has come yet".to_owned(),
            (_, true, _) => "none of its replicas can be reached".to_owned(),
            (None, _, true) => "it has no leader".to_owned(),
            (None, _, false) => {
                format!("it has no leader, and replicas {silent_ones} can't be reached")
            }
            (Some(leader), _, true) => {
                format!("replica {} leads and does not answer in time", leader.replica.0)
            }
            (Some(leader), _, false) => format!(
                "replica {} leads, perhaps without a majority; replicas {silent_ones} can't be reached",
                leader.replica.0
            ),
        }
    }
}

/// Whether two replicas have the same tables; `None` when they stand at different entries.
fn digests_match((one, other): (&MetadataStatus, &MetadataStatus)) -> Option<bool> {
    (one.last_applied_index == other.last_applied_index).then(|| one.tables == other.tables)
}
