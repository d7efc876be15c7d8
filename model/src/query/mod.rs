//! Queries, and the protocol between a gateway and a metadata replica.
//!
//! Every query but the status is linearizable: it sees every command that was acknowledged before
//! it was sent (I-4).

mod answer;
mod status;

use minicbor::{Decode, Encode};

use crate::command::{CommandEnvelope, Outcome};
use crate::ids::{ExtentId, NodeId, PgId, ReplicaId, UploadId};
use crate::names::{BucketName, ClassName, ObjectKey};
use crate::recovery::{BackupBegun, BackupPiece};
use crate::shard::DiskReport;
use crate::time::Timestamp;
use crate::upkeep::RepairCursor;

pub use answer::{
    Answer, GarbageItem, ObjectFound, ObjectPage, ObjectPartPage, ObjectSummary, PartPage,
    PlannedExtent, Trust, UploadPage,
};
pub use status::{CheckedTable, MetadataStatus, NodeHeard, ReplicaDigest, TableDigest};

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
    /// The PGs that hold no extent, of those that are out of use: see [`crate::cluster_map::ClusterMap::pgs_out_of_use`].
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
