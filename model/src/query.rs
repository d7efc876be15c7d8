//! Queries, and the protocol between a gateway and a metadata replica.
//!
//! Every query but the status is linearizable: it sees every command that was acknowledged before
//! it was sent (I-4).

use minicbor::{Decode, Encode};

use crate::bucket::Bucket;
use crate::cluster_map::ClusterMap;
use crate::coding::Coding;
use crate::command::{CommandEnvelope, GarbageKey, Outcome, Refusal};
use crate::extent::Extent;
use crate::ids::{ExtentId, NodeId, PgId, ReplicaId, UploadId};
use crate::names::{BucketName, ObjectKey};
use crate::shard::DiskReport;
use crate::time::Timestamp;
use crate::upkeep::{ExtentPage, ExtentState, RepairCursor, RepairPage};
use crate::upload::{Upload, UploadedPart};
use crate::version::{ETag, Version};

/// A request to a metadata replica.
#[derive(Clone, Debug)]
pub enum MetadataRequest {
    /// Carry out commands, in order among themselves but not as one step.
    Propose(Vec<CommandEnvelope>),
    /// Answer a query.
    Query(Query),
    /// A storage node reports its disks.
    Heartbeat(Heartbeat),
    /// Tell about this replica; answered by any, leader or not.
    Status,
}

/// The answer to a [`MetadataRequest`].
#[derive(Clone, Debug)]
pub enum MetadataResponse {
    /// To `Propose`: an outcome for each command.
    Outcomes(Vec<Outcome>),
    /// To `Query`.
    Answer(Box<Answer>),
    /// To `Heartbeat`: the epoch of the cluster map.
    HeartbeatTaken {
        /// The epoch.
        epoch: u64,
    },
    /// To `Status`.
    Status(Box<MetadataStatus>),
    /// The request failed as a whole.
    Failed(MetadataError),
}

/// Why a metadata request failed as a whole; each variant says what the caller can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// Ask the leader, if it is known, else another replica. Nothing was done.
    #[error("this replica is not the leader")]
    NotLeader {
        /// The leader.
        leader: Option<ReplicaId>,
    },
    /// There is no quorum, or the replica isn't ready: try later. Nothing was done.
    #[error("the metadata service is not available")]
    Unavailable,
    /// A proposal may or may not take effect: propose again under the same id (I-5).
    #[error("the outcome of the proposal is unknown")]
    Unknown,
    /// Too much is queued: try later. Nothing was done.
    #[error("the metadata service is overloaded")]
    Overloaded,
    /// This replica's data is damaged and it is fenced (I-13): ask another.
    #[error("this metadata replica is fenced")]
    Fenced,
}

/// A linearizable question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// One bucket.
    Bucket {
        /// Its name.
        name: BucketName,
    },
    /// All buckets whose name begins so, ascending.
    Buckets {
        /// The prefix.
        prefix: String,
        /// Names behind this one.
        after: String,
        /// At most this many.
        limit: u32,
    },
    /// The current version of an object, and how to read a range of it.
    Object {
        /// The bucket.
        bucket: BucketName,
        /// The key.
        key: ObjectKey,
        /// What the caller will read.
        plan: PlanWanted,
    },
    /// A page of objects.
    Objects(ListObjects),
    /// One upload.
    Upload {
        /// The bucket.
        bucket: BucketName,
        /// The key.
        key: ObjectKey,
        /// The upload.
        upload: UploadId,
    },
    /// A page of uploads.
    Uploads(ListUploads),
    /// A page of an upload's parts.
    Parts {
        /// The bucket.
        bucket: BucketName,
        /// The key.
        key: ObjectKey,
        /// The upload.
        upload: UploadId,
        /// Parts behind this number.
        after: u16,
        /// At most this many.
        limit: u32,
    },
    /// The parts of a committed multipart object (GetObjectAttributes): numbers, sizes and
    /// checksums behind `after`.
    ObjectParts {
        /// The bucket.
        bucket: BucketName,
        /// The key.
        key: ObjectKey,
        /// Parts behind this number.
        after: u16,
        /// At most this many.
        limit: u32,
    },
    /// Garbage that is old enough, oldest first.
    Garbage {
        /// Extents that lost their owner before this time.
        before: Timestamp,
        /// At most this many.
        limit: u32,
    },
    /// The repair queue, the fewest surviving shards first.
    Repairs {
        /// Start behind this place.
        after: Option<RepairCursor>,
        /// At most this many items.
        limit: u32,
    },
    /// The extents of a PG, owned or garbage, ascending by id.
    Extents {
        /// The PG.
        pg: PgId,
        /// Start behind this extent.
        after: Option<ExtentId>,
        /// At most this many.
        limit: u32,
    },
    /// What is known of each of these extents, at most as many as one answer has rows.
    ExtentStates {
        /// The extents.
        extents: Vec<ExtentId>,
    },
    /// The cluster map; `None` in the answer when it has this epoch still.
    ClusterMap {
        /// The epoch that the caller has; 0 for none.
        known_epoch: u64,
    },
}

/// What a reader wants of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanWanted {
    /// Its version only.
    Nothing,
    /// All of it.
    Whole,
    /// From a byte to the end.
    From(u64),
    /// From the first byte to the last, both included, cut at the end.
    Between(u64, u64),
    /// The last bytes.
    Last(u64),
    /// A part by its S3 number.
    Part(u16),
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListObjects {
    /// The bucket.
    pub bucket: BucketName,
    /// Keys that begin so.
    pub prefix: String,
    /// Keys that have this behind the prefix are rolled up into common prefixes; empty for none.
    pub delimiter: String,
    /// Keys and common prefixes behind this one; empty to begin. When it is itself a common
    /// prefix, all keys below it are passed over.
    pub after: String,
    /// Keys and common prefixes together, at most.
    pub limit: u32,
}

/// ListMultipartUploads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListUploads {
    /// The bucket.
    pub bucket: BucketName,
    /// Keys that begin so.
    pub prefix: String,
    /// As in [`ListObjects`].
    pub delimiter: String,
    /// Keys behind this one (or equal to it, when `upload_marker` is set); empty to begin.
    pub key_marker: String,
    /// Uploads of `key_marker` behind this one.
    pub upload_marker: Option<UploadId>,
    /// Uploads and common prefixes together, at most.
    pub limit: u32,
}

/// The answer to a [`Query`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To `Bucket`.
    Bucket(Bucket),
    /// To `Buckets`.
    Buckets(Vec<Bucket>),
    /// To `Object`.
    Object(ObjectFound),
    /// To `Objects`.
    Objects(ObjectPage),
    /// To `Upload`.
    Upload(Upload),
    /// To `Uploads`.
    Uploads(UploadPage),
    /// To `Parts` .
    Parts(PartPage),
    /// To `ObjectParts`: the version, the parts without their extents, and whether more follow.
    ObjectParts(ObjectPartPage),
    /// To `Garbage`.
    Garbage(Vec<GarbageItem>),
    /// To `Repairs`.
    Repairs(RepairPage),
    /// To `Extents`.
    Extents(ExtentPage),
    /// To `ExtentStates`: one for each, in order.
    ExtentStates(Vec<ExtentState>),
    /// To `ClusterMap`.
    ClusterMap(Option<ClusterMap>),
    /// It can't be answered, because of this.
    Refused(Refusal),
}

/// An object, and the extents that hold the range that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectFound {
    /// The version.
    pub version: Version,
    /// The byte range of the object that the plan covers; `None` when nothing was asked for, or
    /// what was asked for doesn't exist (InvalidRange, InvalidPartNumber).
    pub range: Option<std::ops::Range<u64>>,
    /// The extents that hold it, in order.
    pub extents: Vec<PlannedExtent>,
}

/// An extent of a read plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedExtent {
    /// Where its first byte lies in the object.
    pub offset: u64,
    /// The extent.
    pub extent: Extent,
}

/// A page of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectPage {
    /// Keys, ascending.
    pub objects: Vec<ObjectSummary>,
    /// Common prefixes, ascending.
    pub common_prefixes: Vec<String>,
    /// When more follow: the last key or common prefix of this page.
    pub next: Option<String>,
}

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectSummary {
    /// Its key.
    pub key: ObjectKey,
    /// Bytes.
    pub size: u64,
    /// Entity tag.
    pub etag: ETag,
    /// When it was committed.
    pub modified: Timestamp,
    /// Its checksum's algorithm and kind.
    pub checksum: Option<crate::upload::UploadChecksum>,
}

/// A page of uploads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadPage {
    /// Uploads, ascending by key, then by time of initiation.
    pub uploads: Vec<(ObjectKey, Upload)>,
    /// Common prefixes, ascending.
    pub common_prefixes: Vec<String>,
    /// When more follow: key and upload (none behind a common prefix) to go on behind.
    pub next: Option<(String, Option<UploadId>)>,
}

/// A page of parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartPage {
    /// The upload.
    pub upload: Upload,
    /// Parts, ascending by number.
    pub parts: Vec<UploadedPart>,
    /// Whether more follow.
    pub truncated: bool,
}

/// A page of the parts of a committed object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectPartPage {
    /// The version.
    pub version: Version,
    /// Parts, ascending by number; their extents are left out.
    pub parts: Vec<crate::version::Part>,
    /// Whether more follow.
    pub truncated: bool,
}

/// An extent to be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GarbageItem {
    /// Its key in the garbage table.
    pub key: GarbageKey,
    /// Its coding.
    pub coding: Coding,
    /// Its bytes.
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetadataStatus {
    /// The replica.
    pub replica: ReplicaId,
    /// The leader that it knows.
    pub leader: Option<ReplicaId>,
    /// Raft term.
    pub term: u64,
    /// Raft state: `leader`, `follower`, `candidate`, `learner`, `fenced`.
    pub state: String,
    /// Index of the last log entry.
    pub last_log_index: u64,
    /// Index of the last applied entry.
    pub last_applied_index: u64,
    /// Index that the latest snapshot covers.
    pub snapshot_index: u64,
    /// Voters of the current membership.
    pub voters: Vec<ReplicaId>,
    /// Epoch of the cluster map.
    pub map_epoch: u64,
    /// Rows and digest of each table at `last_applied_index`, for comparison between replicas.
    pub tables: Vec<TableDigest>,
    /// Buckets and objects, for people.
    pub buckets: u64,
    /// Objects.
    pub objects: u64,
    /// Bytes of all objects.
    pub object_bytes: u64,
    /// Extents waiting for collection.
    pub garbage: u64,
    /// Extents waiting for repair.
    pub repairs: u64,
    /// The last reports of the storage nodes' disks; on the leader only.
    pub disks: Vec<DiskReport>,
}

/// The count and multiset digest of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableDigest {
    /// Its name.
    pub table: String,
    /// Rows.
    pub rows: u64,
    /// Sum, modulo 2^64, of the hash of every row: independent of order.
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
