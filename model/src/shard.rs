//! What a gateway and a storage node say to each other: the shard protocol.
//!
//! Each request names one disk and carries a batch, so that many shards take one round trip.

use std::sync::Arc;

use bytes::Bytes;

use crate::coding::Coding;
use crate::ids::{ClusterId, DiskId, DiskUuid, ExtentId, Incarnation, PgId, ShardId};
use crate::time::Timestamp;

/// A position in a disk's log: bytes appended since the disk was formatted. Grows for ever.
pub type LogPosition = u64;

/// One shard to append.
#[derive(Clone, Debug)]
pub struct ShardAppend {
    /// Its name. Appending an id that the disk holds already is refused, unless the bytes are the
    /// same ones (a retry).
    pub id: ShardId,
    /// The coding of its extent.
    pub coding: Coding,
    /// Bytes of the whole stripe, from which its geometry follows.
    pub stripe_bytes: u32,
    /// The shard itself.
    pub payload: Bytes,
    /// `checksum::block_checksums(id, payload)`, computed by the sender before it sent anything.
    pub checksums: Arc<[u64]>,
    /// The sealed owner, at most `limits::OWNER_BYTES_MAX`.
    pub owner: Bytes,
}

/// One range of a shard to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardRead {
    /// The shard.
    pub id: ShardId,
    /// The first byte wanted.
    pub offset: u32,
    /// How many bytes; the range must lie within the shard.
    pub length: u32,
}

/// The verified blocks that hold a range of a shard.
#[derive(Clone, Debug)]
pub struct ShardBlocks {
    /// The first block in `payload`.
    pub first_block: u32,
    /// Whole blocks (the last may be the shard's short one), verified by the storage node.
    pub payload: Bytes,
    /// Their checksums, to be verified again after the network.
    pub checksums: Vec<u64>,
    /// Bytes of the whole shard.
    pub shard_bytes: u32,
    /// The sealed owner, as it was appended: what is rebuilt from this shard belongs to it too.
    pub owner: Bytes,
}

/// A request to one disk.
#[derive(Clone, Debug)]
pub enum ShardRequest {
    /// Append shards; with `sync`, answer when they are durable.
    Append {
        /// The disk.
        disk: DiskId,
        /// The shards, appended in order.
        shards: Vec<ShardAppend>,
        /// Whether to answer only when they are on stable storage.
        sync: bool,
    },
    /// Answer when everything up to `position` is on stable storage.
    Sync {
        /// The disk.
        disk: DiskId,
        /// The incarnation that the position is of; another one is refused.
        incarnation: Incarnation,
        /// The position that an append answered.
        position: LogPosition,
    },
    /// Read ranges of shards; each answer stands by itself.
    Read {
        /// The disk.
        disk: DiskId,
        /// The ranges.
        reads: Vec<ShardRead>,
    },
    /// Delete every shard of these extents on this disk; answers when the tombstones are durable.
    /// Only for extents that the metadata has proved ownerless (I-9), or that the caller wrote in
    /// its own live session and never proposed to commit.
    Delete {
        /// The disk.
        disk: DiskId,
        /// The extents; those that the disk doesn't hold are no error.
        extents: Vec<ExtentId>,
    },
    /// List the shards of a PG, in key order.
    Inventory {
        /// The disk.
        disk: DiskId,
        /// The PG.
        pg: PgId,
        /// Start behind this shard.
        after: Option<ShardId>,
        /// At most this many (and at most 10,000).
        limit: u32,
    },
    /// Read and verify every shard of these extents that the disk holds, whole; answers when they
    /// are on stable storage.
    Verify {
        /// The disk.
        disk: DiskId,
        /// The extents; those that the disk doesn't hold are no error.
        extents: Vec<ExtentId>,
    },
    /// List the live shards that are known to be damaged, in key order.
    Damaged {
        /// The disk.
        disk: DiskId,
        /// Start behind this shard.
        after: Option<ShardId>,
        /// At most this many (and at most 10,000).
        limit: u32,
    },
    /// Begin a pass of scrub over the whole disk now, or end the one under way. Its progress is in
    /// the disk's report.
    Scrub {
        /// The disk.
        disk: DiskId,
        /// What to do.
        order: ScrubOrder,
    },
    /// Report on all disks of the node.
    Status,
}

/// What a scrub is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScrubOrder {
    /// Verify the whole disk from its beginning, at most at this rate (0: as fast as it goes).
    Begin {
        /// Bytes per second.
        bytes_per_second: u64,
    },
    /// End the pass that was asked for; the paced one goes on where it was.
    End,
}

/// What the verification of one shard found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardState {
    /// Every byte is the one that was written.
    Sound,
    /// It is damaged: reconstruct it.
    Damaged,
}

/// The answer to a [`ShardRequest`], variant by variant.
#[derive(Clone, Debug)]
pub enum ShardResponse {
    /// To `Append`.
    Appended {
        /// The run of the disk that took them.
        incarnation: Incarnation,
        /// The log position behind the last of them.
        position: LogPosition,
    },
    /// To `Sync`.
    Synced,
    /// To `Read`: an answer for each range, in order.
    Read(Vec<Result<ShardBlocks, ShardError>>),
    /// To `Delete`.
    Deleted,
    /// To `Inventory`: shard and its length.
    Inventory(Vec<(ShardId, u32)>),
    /// To `Verify`: every shard that the disk should have by its own index, in key order.
    Verified(Vec<(ShardId, ShardState)>),
    /// To `Damaged`.
    Damaged(Vec<ShardId>),
    /// To `Scrub`.
    ScrubOrdered,
    /// To `Status`.
    Status(Vec<DiskReport>),
    /// The request failed as a whole.
    Failed(ShardError),
}

/// Why a shard request failed; each variant says what the caller can do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShardError {
    /// The disk doesn't hold the shard. Proves nothing about the cluster (I-9): reconstruct and
    /// report.
    #[error("disk {0} has no shard {1}")]
    NotFound(DiskId, ShardId),
    /// The stored bytes fail their checksum, or the record is damaged: reconstruct and report.
    #[error("shard {1} on disk {0} is damaged")]
    Corrupt(DiskId, ShardId),
    /// What was sent fails its checksum or its limits: a fault on the way or of the sender.
    #[error("the shard request is not valid: {0}")]
    Invalid(&'static str),
    /// The shard id is already taken by other bytes: a bug of the sender; never overwritten (I-3).
    #[error("shard {0} exists with other content")]
    Exists(ShardId),
    /// The sync is for an earlier run of the disk: what it covers may be lost; write again.
    #[error("disk {0} was restarted since the append")]
    WrongIncarnation(DiskId),
    /// The disk takes no writes until space is freed. Reads and deletes go on.
    #[error("disk {0} is full")]
    Full(DiskId),
    /// The disk takes no writes since a write or sync failed; reads may work.
    #[error("disk {0} is read-only after a failed write or sync")]
    ReadOnly(DiskId),
    /// The disk is gone or unusable.
    #[error("disk {0} has failed")]
    Failed(DiskId),
    /// This node has no such disk: the caller's cluster map is old.
    #[error("no disk {0} here")]
    NoSuchDisk(DiskId),
    /// A queue is full: try later or elsewhere.
    #[error("disk {0} is overloaded")]
    Overloaded(DiskId),
}

/// The state of a disk as its own node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
pub enum DiskHealth {
    /// Reads and writes.
    #[n(0)]
    Ok,
    /// Reads and deletes only, for want of space.
    #[n(1)]
    Full,
    /// Reads only, since a write or sync failed.
    #[n(2)]
    ReadOnly,
    /// Nothing.
    #[n(3)]
    Failed,
}

impl DiskHealth {
    /// The word used in metrics, logs and `admin status`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Full => "full",
            Self::ReadOnly => "read-only",
            Self::Failed => "failed",
        }
    }
}

/// What a node reports of one of its disks.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct DiskReport {
    /// The disk.
    #[n(0)]
    pub disk: DiskId,
    /// Its identity.
    #[n(1)]
    pub uuid: DiskUuid,
    /// The cluster that it was formatted for.
    #[n(2)]
    pub cluster: ClusterId,
    /// Its state.
    #[n(3)]
    pub health: DiskHealth,
    /// Why it isn't `Ok`, or what is damaged on it although it is; for people.
    #[n(4)]
    pub reason: Option<String>,
    /// Bytes of the file system.
    #[n(5)]
    pub capacity_bytes: u64,
    /// Bytes of the file system that are free.
    #[n(6)]
    pub free_bytes: u64,
    /// Bytes of live records.
    #[n(7)]
    pub live_bytes: u64,
    /// Bytes of records that nothing points to any more.
    #[n(8)]
    pub garbage_bytes: u64,
    /// Live shards.
    #[n(9)]
    pub shards: u64,
    /// The run of the disk.
    #[n(10)]
    pub incarnation: Incarnation,
    /// Free bytes below which the disk takes no new shards.
    #[n(11)]
    #[cbor(default)]
    pub reserve_bytes: u64,
    /// Live shards that are known to be damaged and wait for their repair.
    #[n(12)]
    #[cbor(default)]
    pub damaged_shards: u64,
    /// How far its verification is.
    #[n(13)]
    #[cbor(default)]
    pub scrub: ScrubReport,
    /// What reclaiming space has come to.
    #[n(14)]
    #[cbor(default)]
    pub compaction: CompactionReport,
}

/// How far the verification of a disk is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct ScrubReport {
    /// When the pass under way began; 0 when there is none.
    #[n(0)]
    pub began: Timestamp,
    /// Bytes of the log that this pass has verified.
    #[n(1)]
    pub verified_bytes: u64,
    /// Bytes of the log that this pass is to verify.
    #[n(2)]
    pub total_bytes: u64,
    /// When the last whole pass began; 0 when there was none.
    #[n(3)]
    pub last_began: Timestamp,
    /// When the last whole pass ended: everything older than its begin was verified in between.
    #[n(4)]
    pub last_ended: Timestamp,
    /// Whether the pass under way was asked for.
    #[n(5)]
    pub on_demand: bool,
}

/// What compaction has done since the disk was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct CompactionReport {
    /// Bytes of records that were copied.
    #[n(0)]
    pub moved_bytes: u64,
    /// Bytes of segments that were deleted.
    #[n(1)]
    pub reclaimed_bytes: u64,
    /// Segments that were deleted.
    #[n(2)]
    pub segments: u64,
    /// Bytes of records that clients had appended.
    #[n(3)]
    pub appended_bytes: u64,
}
