//! What became of a command: its outcome, or why it was refused.

use minicbor::{Decode, Encode};

use crate::checksum::StoredChecksum;
use crate::ids::{BucketId, DiskId, NodeId, ReplicaId, SessionId};
use crate::node::Lease;
use crate::time::Timestamp;
use crate::version::ETag;

/// What a command did.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Outcome {
    /// It is done; there is nothing to say of it.
    #[n(0)]
    Done,
    /// To `RegisterDisk`.
    #[n(1)]
    DiskRegistered(#[n(0)] DiskId),
    /// To `AllocateReplica`.
    #[n(2)]
    ReplicaAllocated(#[n(0)] ReplicaId),
    /// To `OpenSession`.
    #[n(3)]
    SessionOpened(#[n(0)] SessionId),
    /// To `CreateBucket`.
    #[n(4)]
    BucketCreated(#[n(0)] BucketId),
    /// To `CommitObject`, `CopyObject`, `PutPart` and `CompleteUpload`.
    #[n(5)]
    Committed(#[n(0)] Committed),
    /// To `DeleteObject`.
    #[n(6)]
    Deleted {
        /// Whether there was something to delete.
        #[n(0)]
        existed: bool,
    },
    /// It changed nothing, because of this.
    #[n(7)]
    Refused(#[n(0)] Refusal),
    /// To `RegisterNode` and `JoinNode`.
    #[n(8)]
    NodeRegistered(#[n(0)] NodeId),
    /// To `TakeLease`: who has it now.
    #[n(9)]
    Leased(#[n(0)] Lease),
}

/// What was committed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Committed {
    /// Its entity tag.
    #[n(0)]
    pub etag: ETag,
    /// Its time.
    #[n(1)]
    pub modified: Timestamp,
    /// Its checksum.
    #[n(2)]
    pub checksum: Option<StoredChecksum>,
}

/// Why a command or query could not be carried out. Deterministic: the same on every replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum Refusal {
    /// The cluster isn't made yet, or another one.
    #[error("the cluster is not initialised")]
    #[n(0)]
    NoCluster,
    /// There is no such disk.
    #[error("no such disk")]
    #[n(1)]
    NoSuchDisk,
    /// There is no such bucket.
    #[error("no such bucket")]
    #[n(2)]
    NoSuchBucket,
    /// The bucket exists and is the proposer's own.
    #[error("the bucket exists already and is yours")]
    #[n(3)]
    BucketAlreadyOwned,
    /// The bucket exists and is another's.
    #[error("the bucket name is taken")]
    #[n(4)]
    BucketTaken,
    /// The bucket holds objects or uploads.
    #[error("the bucket is not empty")]
    #[n(5)]
    BucketNotEmpty,
    /// The cluster has as many buckets as it may.
    #[error("too many buckets")]
    #[n(6)]
    TooManyBuckets,
    /// There is no such object.
    #[error("no such key")]
    #[n(7)]
    NoSuchKey,
    /// There is no such upload.
    #[error("no such upload")]
    #[n(8)]
    NoSuchUpload,
    /// A condition doesn't hold.
    #[error("a precondition does not hold")]
    #[n(9)]
    PreconditionFailed,
    /// A part isn't there or isn't the one named.
    #[error("part {number} is missing or has another entity tag or checksum")]
    #[n(10)]
    InvalidPart {
        /// The first such part.
        #[n(0)]
        number: u16,
    },
    /// A part other than the last is smaller than S3 allows.
    #[error("part {number} is smaller than 5 MiB")]
    #[n(11)]
    PartTooSmall {
        /// The first such part.
        #[n(0)]
        number: u16,
    },
    /// The object would be larger than S3 allows.
    #[error("the object is larger than 5 TiB")]
    #[n(12)]
    ObjectTooLarge,
    /// The session that wrote an extent has ended: write again in a new session.
    #[error("the writer session has ended")]
    #[n(13)]
    SessionEnded,
    /// The source of a copy has another body by now: read it again.
    #[error("the source of the copy changed")]
    #[n(14)]
    SourceChanged,
    /// The command breaks a rule that its proposer must keep (a bug, or a hostile peer).
    #[error("the command is not valid")]
    #[n(15)]
    InvalidCommand,
    /// The join token isn't known, has ended, is used up, or is for other roles.
    #[error("the join token is not valid")]
    #[n(16)]
    TokenInvalid,
    /// There is no such node.
    #[error("no such node")]
    #[n(17)]
    NoSuchNode,
    /// The node keeps disks or metadata replicas still.
    #[error("the node is in use")]
    #[n(18)]
    NodeInUse,
    /// The cluster has a certificate authority already.
    #[error("the cluster has a certificate authority already")]
    #[n(19)]
    AuthorityExists,
    /// Nothing is held, or not this: only what tables that were put back don't know can be adopted.
    #[error("the writer session is not held")]
    #[n(20)]
    NotHeld,
    /// The key has a newer version.
    #[error("there is a newer version")]
    #[n(21)]
    Superseded,
    /// The placement groups are settled (`AdoptPgs`), and the disk isn't in them.
    #[error(
        "the disk came back after the placement groups were settled without it; it is left as it is"
    )]
    #[n(22)]
    GroupsSettled,
    /// A node of the cluster is of a release that doesn't know this command yet
    /// (`Command::level`). Nothing was done; it can be done when the last node is upgraded.
    #[error("not every node of the cluster is of a release that knows this")]
    #[n(23)]
    LevelTooLow,
    /// None of the moves fits the cluster map as it is now; or so many slots of an extent were given
    /// to other disks while it was written that it is to be written again.
    #[error("slots have moved since the map was read that this goes by")]
    #[n(24)]
    MovesOutdated,
    /// There are extents whose shards the new disk doesn't have yet.
    #[error("the new disk does not have all shards yet")]
    #[n(25)]
    MoveUnfinished,
    /// There is no such storage class.
    #[error("no such storage class")]
    #[n(26)]
    NoSuchClass,
    /// Buckets use the storage class, or are being recoded to it.
    #[error("the storage class is in use")]
    #[n(27)]
    ClassInUse,
    /// There are as many storage classes as there may be.
    #[error("too many storage classes")]
    #[n(28)]
    TooManyClasses,
    /// The bucket has another order to be recoded by now, or none.
    #[error("the bucket's order to be recoded has changed")]
    #[n(29)]
    RecodeChanged,
    /// How the cluster keeps itself whole was changed since it was read that this goes by.
    #[error("how the cluster keeps itself whole was changed meanwhile")]
    #[n(30)]
    UpkeepChanged,
}
