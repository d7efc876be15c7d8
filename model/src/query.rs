//! Queries, and the protocol between a gateway and a metadata replica.
//!
//! Every query but the status is linearizable: it sees every command that was acknowledged before
//! it was sent (I-4).

use minicbor::{Decode, Encode};

use crate::bucket::Bucket;
use crate::class::RecodePage;
use crate::cluster_map::ClusterMap;
use crate::coding::Coding;
use crate::command::{CommandEnvelope, GarbageKey, Outcome, Refusal};
use crate::extent::Extent;
use crate::ids::{DiskId, ExtentId, NodeId, PgId, ReplicaId, UploadId};
use crate::names::{BucketName, ClassName, ObjectKey};
use crate::node::{Authority, JoinToken};
use crate::recovery::{BackupBegun, BackupPiece, Held};
use crate::shard::DiskReport;
use crate::time::Timestamp;
use crate::upkeep::{ExtentPage, ExtentState, RepairCursor, RepairPage};
use crate::upload::{Upload, UploadedPart};
use crate::version::{ETag, Version};

/// A request to a metadata replica.
#[derive(Clone, Debug, Encode, Decode)]
pub enum MetadataRequest {
    /// Carry out commands, in order among themselves but not as one step.
    #[n(0)]
    Propose(
        #[n(0)]
        #[cbor(with = "crate::encoding::few")]
        Vec<CommandEnvelope>,
    ),
    /// Answer a query.
    #[n(1)]
    Query(#[n(0)] Query),
    /// A storage node reports its disks.
    #[n(2)]
    Heartbeat(#[n(0)] Heartbeat),
    /// Tell about this replica; answered by any, leader or not.
    #[n(3)]
    Status,
    /// Begin a backup of everything that is acknowledged by now.
    #[n(4)]
    BeginBackup,
    /// Give a piece of a backup; answered by the replica that began it, leader or not. `Unavailable`
    /// when it isn't there any more: begin another.
    #[n(5)]
    ReadBackup {
        /// The backup.
        #[n(0)]
        id: u64,
        /// Where the piece begins.
        #[n(1)]
        offset: u64,
    },
    /// Forget a backup.
    #[n(6)]
    EndBackup {
        /// The backup.
        #[n(0)]
        id: u64,
    },
    /// Hand the lead over; answered by the leader when somebody else leads. `Unavailable` when
    /// nobody takes it: the leader leads on.
    #[n(7)]
    Transfer {
        /// To this voter; none for the one that lacks least.
        #[n(0)]
        to: Option<ReplicaId>,
    },
    /// Read every row and tell the digests of all tables as of one log entry, once that is
    /// applied; answered by any replica, leader or not. `Unavailable` when the replica is past it.
    #[n(8)]
    Digest {
        /// The index of the entry.
        #[n(0)]
        at: u64,
    },
}

/// The answer to a [`MetadataRequest`].
#[derive(Clone, Debug, Encode, Decode)]
pub enum MetadataResponse {
    /// To `Propose`: an outcome for each command.
    #[n(0)]
    Outcomes(#[n(0)] Vec<Outcome>),
    /// To `Query`.
    #[n(1)]
    Answer(#[n(0)] Box<Answer>),
    /// To `Heartbeat`: the epoch of the cluster map.
    #[n(2)]
    HeartbeatTaken {
        /// The epoch.
        #[n(0)]
        epoch: u64,
    },
    /// To `Status`.
    #[n(3)]
    Status(#[n(0)] Box<MetadataStatus>),
    /// The request failed as a whole.
    #[n(4)]
    Failed(#[n(0)] MetadataError),
    /// To `BeginBackup`.
    #[n(5)]
    BackupBegun(#[n(0)] BackupBegun),
    /// To `ReadBackup`.
    #[n(6)]
    BackupPiece(#[n(0)] BackupPiece),
    /// To `EndBackup`.
    #[n(7)]
    BackupEnded,
    /// To `Transfer`: who leads now.
    #[n(8)]
    Transferred(#[n(0)] ReplicaId),
    /// To `Digest`.
    #[n(9)]
    Digest(#[n(0)] Box<ReplicaDigest>),
}

/// Why a metadata request failed as a whole; each variant says what the caller can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum MetadataError {
    /// Ask the leader, if it is known, else another replica. Nothing was done.
    #[error("this replica is not the leader")]
    #[n(0)]
    NotLeader {
        /// The leader.
        #[n(0)]
        leader: Option<ReplicaId>,
    },
    /// There is no quorum, or the replica isn't ready: try later. Nothing was done.
    #[error("the metadata service is not available")]
    #[n(1)]
    Unavailable,
    /// A proposal may or may not take effect: propose again under the same id (I-5).
    #[error("the outcome of the proposal is unknown")]
    #[n(2)]
    Unknown,
    /// Too much is queued: try later. Nothing was done.
    #[error("the metadata service is overloaded")]
    #[n(3)]
    Overloaded,
    /// This replica's data is damaged and it is fenced (I-13): ask another.
    #[error("this metadata replica is fenced")]
    #[n(4)]
    Fenced,
}

/// A linearizable question.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Query {
    /// One bucket.
    #[n(0)]
    Bucket {
        /// Its name.
        #[n(0)]
        name: BucketName,
    },
    /// All buckets whose name begins so, ascending.
    #[n(1)]
    Buckets {
        /// The prefix.
        #[n(0)]
        prefix: String,
        /// Names behind this one.
        #[n(1)]
        after: String,
        /// At most this many.
        #[n(2)]
        limit: u32,
    },
    /// The current version of an object, and how to read a range of it.
    #[n(2)]
    Object {
        /// The bucket.
        #[n(0)]
        bucket: BucketName,
        /// The key.
        #[n(1)]
        key: ObjectKey,
        /// What the caller will read.
        #[n(2)]
        plan: PlanWanted,
    },
    /// A page of objects.
    #[n(3)]
    Objects(#[n(0)] ListObjects),
    /// One upload.
    #[n(4)]
    Upload {
        /// The bucket.
        #[n(0)]
        bucket: BucketName,
        /// The key.
        #[n(1)]
        key: ObjectKey,
        /// The upload.
        #[n(2)]
        upload: UploadId,
    },
    /// A page of uploads.
    #[n(5)]
    Uploads(#[n(0)] ListUploads),
    /// A page of an upload's parts.
    #[n(6)]
    Parts {
        /// The bucket.
        #[n(0)]
        bucket: BucketName,
        /// The key.
        #[n(1)]
        key: ObjectKey,
        /// The upload.
        #[n(2)]
        upload: UploadId,
        /// Parts behind this number.
        #[n(3)]
        after: u16,
        /// At most this many.
        #[n(4)]
        limit: u32,
    },
    /// The parts of a committed multipart object (GetObjectAttributes): numbers, sizes and
    /// checksums behind `after`.
    #[n(7)]
    ObjectParts {
        /// The bucket.
        #[n(0)]
        bucket: BucketName,
        /// The key.
        #[n(1)]
        key: ObjectKey,
        /// Parts behind this number.
        #[n(2)]
        after: u16,
        /// At most this many.
        #[n(3)]
        limit: u32,
    },
    /// Garbage that is old enough, oldest first.
    #[n(8)]
    Garbage {
        /// Extents that lost their owner before this time.
        #[n(0)]
        before: Timestamp,
        /// At most this many.
        #[n(1)]
        limit: u32,
    },
    /// The repair queue, the fewest surviving shards first.
    #[n(9)]
    Repairs {
        /// Start behind this place.
        #[n(0)]
        after: Option<RepairCursor>,
        /// At most this many items.
        #[n(1)]
        limit: u32,
    },
    /// The extents of a PG, owned or garbage, ascending by id.
    #[n(10)]
    Extents {
        /// The PG.
        #[n(0)]
        pg: PgId,
        /// Start behind this extent.
        #[n(1)]
        after: Option<ExtentId>,
        /// At most this many.
        #[n(2)]
        limit: u32,
    },
    /// What is known of each of these extents, at most as many as one answer has rows.
    #[n(11)]
    ExtentStates {
        /// The extents.
        #[n(0)]
        extents: Vec<ExtentId>,
    },
    /// The cluster map; `None` in the answer when it has this epoch still.
    #[n(12)]
    ClusterMap {
        /// The epoch that the caller has; 0 for none.
        #[n(0)]
        known_epoch: u64,
    },
    /// The certificate authority, if there is one, and the join tokens. For metadata nodes only.
    #[n(13)]
    Trust,
    /// What is held, since the metadata was put back; `None` when nothing is.
    #[n(14)]
    Held,
    /// What of a bucket is to be recoded: none without an order.
    #[n(15)]
    ToRecode {
        /// The bucket.
        #[n(0)]
        bucket: BucketName,
        /// Keys behind this one; empty to begin.
        #[n(1)]
        after: String,
        /// Objects that are looked at, at most.
        #[n(2)]
        limit: u32,
        /// For the bucket's order; or as if there were one for this class.
        #[n(3)]
        class: Option<ClassName>,
    },
    /// The PGs that hold no extent, of those that are out of use: see [`ClusterMap::pgs_out_of_use`].
    /// None while something is held, as extents may be there that the tables don't know.
    #[n(16)]
    UnusedGroups,
}

/// What a reader wants of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum PlanWanted {
    /// Its version only.
    #[n(0)]
    Nothing,
    /// All of it.
    #[n(1)]
    Whole,
    /// From a byte to the end.
    #[n(2)]
    From(#[n(0)] u64),
    /// From the first byte to the last, both included, cut at the end.
    #[n(3)]
    Between(#[n(0)] u64, #[n(1)] u64),
    /// The last bytes.
    #[n(4)]
    Last(#[n(0)] u64),
    /// A part by its S3 number.
    #[n(5)]
    Part(#[n(0)] u16),
}

impl PlanWanted {
    /// The byte range that is meant of an object of `size` bytes; `None` when no byte of it exists
    /// (S3's InvalidRange), and for `Nothing` and `Part`.
    pub fn resolve(self, size: u64) -> Option<std::ops::Range<u64>> {
        match self {
            Self::Nothing | Self::Part(_) => None,
            Self::Whole => Some(0..size),
            Self::From(first) => (first < size).then_some(first..size),
            Self::Between(first, last) => {
                (first <= last && first < size).then(|| first..last.saturating_add(1).min(size))
            }
            Self::Last(count) => (count > 0 && size > 0).then(|| size.saturating_sub(count)..size),
        }
    }
}

/// ListObjects.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ListObjects {
    /// The bucket.
    #[n(0)]
    pub bucket: BucketName,
    /// Keys that begin so.
    #[n(1)]
    pub prefix: String,
    /// Keys that have this behind the prefix are rolled up into common prefixes; empty for none.
    #[n(2)]
    pub delimiter: String,
    /// Keys and common prefixes behind this one; empty to begin. When it is itself a common
    /// prefix, all keys below it are passed over.
    #[n(3)]
    pub after: String,
    /// Keys and common prefixes together, at most.
    #[n(4)]
    pub limit: u32,
}

/// ListMultipartUploads.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ListUploads {
    /// The bucket.
    #[n(0)]
    pub bucket: BucketName,
    /// Keys that begin so.
    #[n(1)]
    pub prefix: String,
    /// As in [`ListObjects`].
    #[n(2)]
    pub delimiter: String,
    /// Keys behind this one (or equal to it, when `upload_marker` is set); empty to begin.
    #[n(3)]
    pub key_marker: String,
    /// Uploads of `key_marker` behind this one.
    #[n(4)]
    pub upload_marker: Option<UploadId>,
    /// Uploads and common prefixes together, at most.
    #[n(5)]
    pub limit: u32,
}

/// The answer to a [`Query`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Answer {
    /// To `Bucket`.
    #[n(0)]
    Bucket(#[n(0)] Bucket),
    /// To `Buckets`.
    #[n(1)]
    Buckets(#[n(0)] Vec<Bucket>),
    /// To `Object`.
    #[n(2)]
    Object(#[n(0)] ObjectFound),
    /// To `Objects`.
    #[n(3)]
    Objects(#[n(0)] ObjectPage),
    /// To `Upload`.
    #[n(4)]
    Upload(#[n(0)] Upload),
    /// To `Uploads`.
    #[n(5)]
    Uploads(#[n(0)] UploadPage),
    /// To `Parts` .
    #[n(6)]
    Parts(#[n(0)] PartPage),
    /// To `ObjectParts`: the version, the parts without their extents, and whether more follow.
    #[n(7)]
    ObjectParts(#[n(0)] ObjectPartPage),
    /// To `Garbage`.
    #[n(8)]
    Garbage(#[n(0)] Vec<GarbageItem>),
    /// To `Repairs`.
    #[n(9)]
    Repairs(#[n(0)] RepairPage),
    /// To `Extents`.
    #[n(10)]
    Extents(#[n(0)] ExtentPage),
    /// To `ExtentStates`: one for each, in order.
    #[n(11)]
    ExtentStates(#[n(0)] Vec<ExtentState>),
    /// To `ClusterMap`.
    #[n(12)]
    ClusterMap(#[n(0)] Option<ClusterMap>),
    /// To `Trust`.
    #[n(13)]
    Trust(#[n(0)] Box<Trust>),
    /// It can't be answered, because of this.
    #[n(14)]
    Refused(#[n(0)] Refusal),
    /// To `Held`.
    #[n(15)]
    Held(#[n(0)] Option<Held>),
    /// To `ToRecode`.
    #[n(16)]
    ToRecode(#[n(0)] RecodePage),
    /// To `UnusedGroups`: ascending.
    #[n(17)]
    UnusedGroups(#[n(0)] Vec<PgId>),
}

/// What nodes are admitted by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Trust {
    /// The certificate authority.
    #[n(0)]
    pub authority: Option<Authority>,
    /// The join tokens that haven't been used up or forgotten.
    #[n(1)]
    pub tokens: Vec<JoinToken>,
}

/// An object, and the extents that hold the range that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ObjectFound {
    /// The version.
    #[n(0)]
    pub version: Version,
    /// The byte range of the object that the plan covers; `None` when nothing was asked for, or
    /// what was asked for doesn't exist (InvalidRange, InvalidPartNumber).
    #[n(1)]
    pub range: Option<std::ops::Range<u64>>,
    /// The extents that hold it, in order.
    #[n(2)]
    pub extents: Vec<PlannedExtent>,
}

/// An extent of a read plan.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PlannedExtent {
    /// Where its first byte lies in the object.
    #[n(0)]
    pub offset: u64,
    /// The extent.
    #[n(1)]
    pub extent: Extent,
}

/// A page of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct ObjectPage {
    /// Keys, ascending.
    #[n(0)]
    pub objects: Vec<ObjectSummary>,
    /// Common prefixes, ascending.
    #[n(1)]
    pub common_prefixes: Vec<String>,
    /// When more follow: the last key or common prefix of this page.
    #[n(2)]
    pub next: Option<String>,
}

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ObjectSummary {
    /// Its key.
    #[n(0)]
    pub key: ObjectKey,
    /// Bytes.
    #[n(1)]
    pub size: u64,
    /// Entity tag.
    #[n(2)]
    pub etag: ETag,
    /// When it was committed.
    #[n(3)]
    pub modified: Timestamp,
    /// Its checksum's algorithm and kind.
    #[n(4)]
    pub checksum: Option<crate::upload::UploadChecksum>,
    /// Its storage class; `None` for `STANDARD`.
    #[n(5)]
    pub class: Option<ClassName>,
}

/// A page of uploads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct UploadPage {
    /// Uploads, ascending by key, then by time of initiation.
    #[n(0)]
    pub uploads: Vec<(ObjectKey, Upload)>,
    /// Common prefixes, ascending.
    #[n(1)]
    pub common_prefixes: Vec<String>,
    /// When more follow: key and upload (none behind a common prefix) to go on behind.
    #[n(2)]
    pub next: Option<(String, Option<UploadId>)>,
}

/// A page of parts.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PartPage {
    /// The upload.
    #[n(0)]
    pub upload: Upload,
    /// Parts, ascending by number.
    #[n(1)]
    pub parts: Vec<UploadedPart>,
    /// Whether more follow.
    #[n(2)]
    pub truncated: bool,
}

/// A page of the parts of a committed object.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ObjectPartPage {
    /// The version.
    #[n(0)]
    pub version: Version,
    /// Parts, ascending by number; their extents are left out.
    #[n(1)]
    pub parts: Vec<crate::version::Part>,
    /// Whether more follow.
    #[n(2)]
    pub truncated: bool,
}

/// An extent to be deleted.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct GarbageItem {
    /// Its key in the garbage table.
    #[n(0)]
    pub key: GarbageKey,
    /// Its coding.
    #[n(1)]
    pub coding: Coding,
    /// Its bytes.
    #[n(2)]
    pub length: u64,
}

/// What a storage node tells the metadata leader every second.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Heartbeat {
    /// The node.
    #[n(0)]
    pub node: NodeId,
    /// Its disks.
    #[n(1)]
    pub disks: Vec<DiskReport>,
}

/// What a replica tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct MetadataStatus {
    /// The replica.
    #[n(0)]
    pub replica: ReplicaId,
    /// The leader that it knows.
    #[n(1)]
    pub leader: Option<ReplicaId>,
    /// Raft term.
    #[n(2)]
    pub term: u64,
    /// Raft state: `leader`, `follower`, `candidate`, `learner`, `fenced`.
    #[n(3)]
    pub state: String,
    /// Index of the last log entry.
    #[n(4)]
    pub last_log_index: u64,
    /// Index of the last applied entry.
    #[n(5)]
    pub last_applied_index: u64,
    /// Index that the latest snapshot covers.
    #[n(6)]
    pub snapshot_index: u64,
    /// Voters of the current membership.
    #[n(7)]
    pub voters: Vec<ReplicaId>,
    /// Epoch of the cluster map.
    #[n(8)]
    pub map_epoch: u64,
    /// Rows and digest of each table at `last_applied_index`, for comparison between replicas.
    #[n(9)]
    pub tables: Vec<TableDigest>,
    /// Buckets and objects, for people.
    #[n(10)]
    pub buckets: u64,
    /// Objects.
    #[n(11)]
    pub objects: u64,
    /// Bytes of all objects.
    #[n(12)]
    pub object_bytes: u64,
    /// Extents waiting for collection.
    #[n(13)]
    pub garbage: u64,
    /// Extents waiting for repair.
    #[n(14)]
    pub repairs: u64,
    /// The last reports of the storage nodes' disks; on the leader only.
    #[n(15)]
    pub disks: Vec<DiskReport>,
    /// How long ago each node's last heartbeat came; on the leader only.
    #[n(16)]
    #[cbor(default)]
    pub nodes: Vec<NodeHeard>,
    /// Disks that are silent and not down yet; on the leader only.
    #[n(17)]
    #[cbor(default)]
    pub suspects: Vec<DiskId>,
    /// Nodes of which so many are silent at once that their disks aren't given up without an operator;
    /// on the leader only.
    #[n(18)]
    #[cbor(default)]
    pub withheld: Vec<NodeId>,
    /// The replica's clock when it answered; 0 from a release that doesn't say.
    #[n(19)]
    #[cbor(default)]
    pub time: Timestamp,
}

/// When a node was last heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct NodeHeard {
    /// The node.
    #[n(0)]
    pub node: NodeId,
    /// Milliseconds since its last heartbeat.
    #[n(1)]
    pub silence_ms: u64,
}

/// A replica's tables as of one log entry, every row read and verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct ReplicaDigest {
    /// The replica.
    #[n(0)]
    pub replica: ReplicaId,
    /// The term of the entry's leader.
    #[n(1)]
    pub term: u64,
    /// The index of the entry.
    #[n(2)]
    pub index: u64,
    /// The tables.
    #[n(3)]
    pub tables: Vec<CheckedTable>,
}

/// A table whose rows were read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct CheckedTable {
    /// What its rows amount to.
    #[n(0)]
    pub digest: TableDigest,
    /// What is wrong: a row fails its checksum, or the rows aren't those that were written. None
    /// when the table is whole.
    #[n(1)]
    pub damage: Option<String>,
}

/// The count and multiset digest of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct TableDigest {
    /// Its name.
    #[n(0)]
    pub table: String,
    /// Rows.
    #[n(1)]
    pub rows: u64,
    /// Sum, modulo 2^64, of the hash of every row: independent of order.
    #[n(2)]
    pub digest: u64,
}

#[cfg(test)]
mod tests {
    use super::PlanWanted;

    #[test]
    fn ranges_resolve_as_s3_has_them() {
        let check = |wanted: PlanWanted, size, expected| {
            assert_eq!(wanted.resolve(size), expected, "{wanted:?} of {size}");
        };
        check(PlanWanted::Whole, 0, Some(0..0));
        check(PlanWanted::From(0), 0, None);
        check(PlanWanted::From(9), 10, Some(9..10));
        check(PlanWanted::From(10), 10, None);
        check(PlanWanted::Between(2, 4), 10, Some(2..5));
        check(PlanWanted::Between(2, u64::MAX), 10, Some(2..10));
        check(PlanWanted::Between(4, 2), 10, None);
        check(PlanWanted::Last(3), 10, Some(7..10));
        check(PlanWanted::Last(30), 10, Some(0..10));
        check(PlanWanted::Last(0), 10, None);
        check(PlanWanted::Last(5), 0, None);
    }
}
