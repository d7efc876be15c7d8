//! The state of the cluster as `/status` answers it.
//!
//! The JSON document is these types, field by field; fields are added, never renamed. What always
//! holds: a number that isn't known is `null`, never 0.

use engine::RepairProgress;
use model::cluster_map::{ClusterMap, Disk};
use model::moves::MoveReason;
use model::recovery::Held;
use model::shard::{CompactionReport, DiskReport, ScrubReport};
use model::time::Timestamp;
use s3::date;
use serde::{Deserialize, Serialize};

use crate::admin::backup_targets::BackupTargetStatus;
use crate::admin::figures::durability::DurabilityStatus;
use crate::admin::health::{Colour, Margin, Reason};
use crate::admin::upkeep::tolerance::ToleranceStatus;

/// The document.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// The cluster's id, in hex; `null` while the metadata can't be asked.
    pub cluster: Option<String>,
    /// The coding of new objects, as `K+M`.
    pub coding: Option<String>,
    /// The epoch of the cluster map.
    pub map_epoch: Option<u64>,
    /// Every disk that ever was, ascending by id.
    pub disks: Vec<DiskStatus>,
    /// The placement groups.
    pub placement_groups: PlacementGroups,
    /// What may still fail.
    pub fault_tolerance: FaultTolerance,
    /// What is stored.
    pub usage: Usage,
    /// Extents that wait for repair.
    pub repair_queue: Option<u64>,
    /// What repair has come to in this run of the server.
    #[serde(default)]
    pub repair: RepairStatus,
    /// Extents of deleted objects whose shards wait for deletion.
    pub garbage_extents: Option<u64>,
    /// The metadata replicas.
    pub metadata: MetadataSummary,
    /// What is held, where the metadata was put back from a backup or begun anew; `null` when nothing
    /// is, while the metadata can't be asked, and from a process that only keeps shards.
    #[serde(default)]
    pub held: Option<HeldStatus>,
    /// The nodes, ascending by id; none while the cluster is one process that was never opened to
    /// others.
    #[serde(default)]
    pub nodes: Vec<NodeStatus>,
    /// The process that was asked.
    #[serde(default)]
    pub process: ProcessStatus,
    /// What may be lost before data is, and why not more.
    #[serde(default)]
    pub tolerance: ToleranceStatus,
    /// Slots on their way to other disks.
    #[serde(default)]
    pub moves: MovesUnderWay,
    /// Nodes of which so many are silent at once that their disks aren't given up without an operator.
    #[serde(default)]
    pub withheld_nodes: Vec<u32>,
    /// How likely an object is to last; `null` while there are too few disks for the coding.
    #[serde(default)]
    pub durability: Option<DurabilityStatus>,
    /// What the reasons come to.
    #[serde(default)]
    pub health: Colour,
    /// How far data is from being lost.
    #[serde(default)]
    pub margin: Margin,
    /// Why the cluster isn't ready, or isn't as it should be; empty when all is well.
    pub reasons: Vec<Reason>,
}

/// A disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskStatus {
    /// Its number.
    pub id: u32,
    /// Where it is on its node.
    pub path: String,
    /// Its node's number.
    pub node: u32,
    /// The cluster's view: `up`, `full`, `down`, `out`.
    pub state: String,
    /// The node's view: `ok`, `full`, `read-only`, `failed`; `null` without a report.
    pub health: Option<String>,
    /// Why it isn't `ok`.
    pub reason: Option<String>,
    /// Bytes of the file system.
    pub capacity_bytes: Option<u64>,
    /// Bytes of the file system that are free.
    pub free_bytes: Option<u64>,
    /// Bytes of live shards.
    pub live_bytes: Option<u64>,
    /// Bytes of deleted shards that still take room.
    pub garbage_bytes: Option<u64>,
    /// Live shards.
    pub shards: Option<u64>,
    /// Free bytes below which it takes no new shards.
    #[serde(default)]
    pub reserve_bytes: Option<u64>,
    /// Live shards that are known to be damaged and wait for their repair.
    #[serde(default)]
    pub damaged_shards: Option<u64>,
    /// How far its verification is.
    #[serde(default)]
    pub scrub: Option<ScrubStatus>,
    /// What reclaiming space has come to since it was opened.
    #[serde(default)]
    pub compaction: Option<CompactionStatus>,
    /// What operators and its own behaviour add to its state, and what share of the data it has.
    #[serde(default)]
    pub standing: DiskStanding,
}

/// What is known of a disk beside its state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskStanding {
    /// It is to be empty.
    pub draining: bool,
    /// An operator gave it up.
    pub given_up: bool,
    /// It is silent, and not down yet.
    pub suspect: bool,
    /// Since when it is in its state, ISO 8601; `null` when that was before this was kept.
    pub since: Option<String>,
    /// How often it went down of late.
    pub flaps: u32,
    /// Its weight by its size.
    pub weight: u32,
    /// The weight that an operator gave it in place of that.
    pub weight_set: Option<u32>,
    /// Slots of placement groups that it has.
    pub slots: u64,
    /// Slots on their way to it.
    pub moving_in: u64,
    /// Of its slots, those on their way to other disks.
    pub moving_out: u64,
}

/// Slots on their way to other disks, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovesUnderWay {
    /// Of disks that were given up.
    pub lost: u64,
    /// Of disks that are drained.
    pub drain: u64,
    /// Too close to others of their group.
    pub spread: u64,
    /// Of disks that have more than their share.
    pub balance: u64,
    /// Whether an operator paused all but the first of these.
    pub is_paused: bool,
}

/// How far the verification of a disk is. Times are ISO 8601.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubStatus {
    /// When the pass under way began; `null` when there is none.
    pub began: Option<String>,
    /// Bytes that it has verified.
    pub verified_bytes: u64,
    /// Bytes that it is to verify.
    pub total_bytes: u64,
    /// Whether it was asked for.
    pub on_demand: bool,
    /// When the last whole pass began; `null` when there was none.
    pub last_began: Option<String>,
    /// When it ended: all that is older than its begin was verified in between.
    pub last_ended: Option<String>,
    /// Seconds from the epoch to that end, for machines.
    pub last_ended_seconds: Option<u64>,
}

/// What reclaiming space has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactionStatus {
    /// Bytes of records that were copied.
    pub moved_bytes: u64,
    /// Bytes of segments that were deleted.
    pub reclaimed_bytes: u64,
    /// Segments that were deleted.
    pub segments: u64,
    /// Bytes that clients had appended.
    pub appended_bytes: u64,
}

/// What repair has come to in this run of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairStatus {
    /// Extents that got all or some of their shards back.
    pub extents: u64,
    /// Shards that were rebuilt.
    pub shards: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// Extents of which more was found lost than parity makes up for.
    pub lost: u64,
    /// Extents that can't be repaired for now: a disk is away, too few shards are left, or an
    /// attempt failed lately.
    pub waiting: u64,
}

/// The placement groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementGroups {
    /// All of them.
    pub total: u64,
    /// Those that take new objects.
    pub open: u64,
    /// Those with too few disks to be read.
    pub unreadable: u64,
}

/// What may still fail without loss of service to reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultTolerance {
    /// Any so many more disks may fail and every placement group can still be read; `null` when
    /// that isn't known, -1 when some data can't be read already.
    pub more_disks: Option<i64>,
    /// So many more metadata replicas may fail and a majority is left; below 0 there is none.
    pub more_metadata_replicas: Option<i64>,
}

/// What is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Buckets.
    pub buckets: Option<u64>,
    /// Objects.
    pub objects: Option<u64>,
    /// Bytes of all objects, without parity.
    pub object_bytes: Option<u64>,
}

/// The metadata replicas.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataSummary {
    /// The leader.
    pub leader: Option<u64>,
    /// The disk that the leader is kept on.
    pub leader_disk: Option<String>,
    /// The Raft term.
    pub term: Option<u64>,
    /// The replicas, ascending by id.
    pub replicas: Vec<ReplicaStatus>,
    /// The targets of backups, as this process knows them; none where it takes none.
    #[serde(default)]
    pub backups: Vec<BackupTargetStatus>,
    /// The feature level that all nodes have, and that commands keep to.
    #[serde(default)]
    pub level: Option<u32>,
    /// The feature level once the nodes that are of an older release have the newer one.
    #[serde(default)]
    pub level_to_come: Option<u32>,
    /// Those nodes.
    #[serde(default)]
    pub nodes_behind: Vec<u32>,
}

/// A metadata replica.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaStatus {
    /// Its id.
    pub replica: u64,
    /// The disk that it is kept on; only the process that keeps it knows.
    pub disk: Option<String>,
    /// The node that keeps it.
    #[serde(default)]
    pub node: Option<u32>,
    /// Whether it votes.
    #[serde(default)]
    pub votes: Option<bool>,
    /// Log entries that the leader has and it hasn't applied yet.
    #[serde(default)]
    pub lag: Option<u64>,
    /// `leader`, `follower`, `candidate`, `learner`, `fenced`, or `unreachable`.
    pub state: String,
    /// The index of the last log entry that it has applied.
    pub applied: Option<u64>,
    /// Whether its tables have the leader's digests; `null` when they stand at different entries
    /// and so can't be compared.
    pub digests_match: Option<bool>,
}

/// What lies on the disks and isn't collected, because the metadata may be older than it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldStatus {
    /// Whether there was no backup: everything comes from the disks.
    pub from_shards: bool,
    /// The time of the last change that the backup knows, ISO 8601; `null` without a backup.
    pub since: Option<String>,
    /// The log index that the backup was taken at; `null` without a backup.
    pub index: Option<u64>,
    /// Whether the placement groups of the disks were adopted, which a recovery begins with.
    pub groups_adopted: bool,
    /// The last writer session that is held: what an order to release it names.
    pub until: u64,
}

/// A node: one process of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its number.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// What it does: role names with commas between them.
    pub roles: String,
    /// Host and port of its internal listener.
    pub address: String,
    /// Its rack; empty when there is but one.
    pub rack: String,
    /// Its zone; empty when there is but one.
    pub zone: String,
    /// The feature level of its release.
    pub level: u32,
    /// Seconds since it was last heard; `null` when it wasn't since the metadata's leader began to
    /// lead, or when there is no leader.
    pub silent_seconds: Option<u64>,
    /// Disks that it keeps.
    pub disks: u64,
    /// Metadata replicas that it keeps.
    pub replicas: Vec<u64>,
}

/// The process that answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessStatus {
    /// What it does: role names with commas between them.
    pub roles: String,
    /// Its node's number; `null` where it is the only process.
    pub node: Option<u32>,
    /// Whether it was told to stop.
    pub stopping: bool,
    /// The jobs that it does for the whole cluster, as no other gateway does now.
    pub jobs: Vec<String>,
    /// Seconds since its copy of the cluster map was the newest for certain; gateways only.
    pub map_age_seconds: Option<u64>,
    /// The epoch of that copy.
    pub map_epoch: Option<u64>,
    /// Seconds for which the metadata hasn't answered it; 0 while it does.
    pub metadata_silent_seconds: u64,
}

/// The word for a replica that doesn't answer.
pub const UNREACHABLE: &str = "unreachable";

impl DiskStatus {
    /// What the map and the last report say of a disk.
    pub fn new(disk: &Disk, report: Option<&DiskReport>) -> Self {
        Self {
            id: disk.id.0,
            path: disk.path.clone(),
            node: disk.node.0,
            state: disk.state.as_str().to_owned(),
            health: report.map(|report| report.health.as_str().to_owned()),
            reason: report.and_then(|report| report.reason.clone()),
            capacity_bytes: report.map(|report| report.capacity_bytes),
            free_bytes: report.map(|report| report.free_bytes),
            live_bytes: report.map(|report| report.live_bytes),
            garbage_bytes: report.map(|report| report.garbage_bytes),
            shards: report.map(|report| report.shards),
            reserve_bytes: report.map(|report| report.reserve_bytes),
            damaged_shards: report.map(|report| report.damaged_shards),
            scrub: report.map(|report| ScrubStatus::new(&report.scrub)),
            compaction: report.map(|report| CompactionStatus::new(&report.compaction)),
            standing: DiskStanding::default(),
        }
    }

    /// Its state, with what is to be known beside it.
    pub fn state_words(&self) -> String {
        let standing = &self.standing;
        let words = [
            (standing.suspect, "suspect"),
            (standing.draining && standing.slots == 0, "drained"),
            (standing.draining && standing.slots > 0, "draining"),
            (standing.given_up, "given up"),
        ];
        let mut all = self.state.clone();
        for (_, word) in words.iter().filter(|(is_so, _)| *is_so) {
            all.push_str(", ");
            all.push_str(word);
        }
        all
    }
}

impl ScrubStatus {
    fn new(report: &ScrubReport) -> Self {
        let known = |time: Timestamp| (time != Timestamp(0)).then(|| date::iso8601(time));
        Self {
            began: known(report.began),
            verified_bytes: report.verified_bytes,
            total_bytes: report.total_bytes,
            on_demand: report.on_demand,
            last_began: known(report.last_began),
            last_ended: known(report.last_ended),
            last_ended_seconds: known(report.last_ended).map(|_| report.last_ended.as_seconds()),
        }
    }

    /// How much of the pass under way is done, in percent; `None` when there is none.
    pub fn percent(&self) -> Option<u64> {
        self.began.as_ref()?;
        let (done, total) = (u128::from(self.verified_bytes), u128::from(self.total_bytes));
        // Never 100 before the end.
        Some((done * 100 / total.max(1)).min(99) as u64)
    }
}

impl HeldStatus {
    /// What the metadata answered.
    pub fn new(held: &Held) -> Self {
        let has_backup = !held.from_shards;
        Self {
            from_shards: held.from_shards,
            since: has_backup.then(|| date::iso8601(held.since)),
            index: has_backup.then_some(held.index),
            groups_adopted: held.has_pgs,
            until: held.until().0,
        }
    }
}

impl CompactionStatus {
    fn new(report: &CompactionReport) -> Self {
        let CompactionReport { moved_bytes, reclaimed_bytes, segments, appended_bytes } = *report;
        Self { moved_bytes, reclaimed_bytes, segments, appended_bytes }
    }
}

impl RepairStatus {
    /// What the engine counted.
    pub fn new(progress: RepairProgress) -> Self {
        let RepairProgress { extents, shards, bytes, failures, lost, waiting } = progress;
        Self { extents, shards, bytes, failures, lost, waiting }
    }
}

impl MovesUnderWay {
    /// As the map has them.
    pub fn new(map: &ClusterMap) -> Self {
        let mut moves = Self { is_paused: map.upkeep.is_paused, ..Self::default() };
        for begun in map.pgs.iter().flat_map(|pg| &pg.moves) {
            let count = match begun.reason {
                MoveReason::Lost => &mut moves.lost,
                MoveReason::Drain => &mut moves.drain,
                MoveReason::Spread => &mut moves.spread,
                MoveReason::Balance => &mut moves.balance,
            };
            *count += 1;
        }
        moves
    }
}
