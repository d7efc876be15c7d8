//! What a gateway and a storage node say to each other: the shard protocol.
//!
//! Each request names one disk and carries a batch, so that many shards take one round trip.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use minicbor::{Decode, Encode};

use crate::coding::Coding;
use crate::encoding::Attached;
use crate::ids::{ClusterId, DiskId, DiskUuid, ExtentId, Incarnation, PgId, ShardId};
use crate::time::Timestamp;

/// A position in a disk's log: bytes appended since the disk was formatted. Grows for ever.
pub type LogPosition = u64;

/// One shard to append.
#[derive(Clone, Debug, Encode, Decode)]
#[cbor(context_bound = "Attached")]
pub struct ShardAppend {
    /// Its name. Appending an id that the disk holds already is refused, unless the bytes are the
    /// same ones (a retry).
    #[n(0)]
    pub id: ShardId,
    /// The coding of its extent.
    #[n(1)]
    pub coding: Coding,
    /// Bytes of the whole stripe, from which its geometry follows.
    #[n(2)]
    pub stripe_bytes: u32,
    /// The shard itself.
    #[n(3)]
    #[cbor(with = "crate::encoding::attachment")]
    pub payload: Bytes,
    /// `checksum::block_checksums(id, payload)`, computed by the sender before it sent anything.
    #[n(4)]
    #[cbor(with = "crate::encoding::checksums")]
    pub checksums: Arc<[u64]>,
    /// The sealed owner, at most `limits::OWNER_BYTES_MAX`.
    #[n(5)]
    #[cbor(with = "crate::encoding::inline")]
    pub owner: Bytes,
}

/// One range of a shard to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ShardRead {
    /// The shard.
    #[n(0)]
    pub id: ShardId,
    /// The first byte wanted.
    #[n(1)]
    pub offset: u32,
    /// How many bytes; the range must lie within the shard.
    #[n(2)]
    pub length: u32,
}

/// The verified blocks that hold a range of a shard.
#[derive(Clone, Debug, Encode, Decode)]
#[cbor(context_bound = "Attached")]
pub struct ShardBlocks {
    /// The first block in `payload`.
    #[n(0)]
    pub first_block: u32,
    /// Whole blocks (the last may be the shard's short one), verified by the storage node.
    #[n(1)]
    #[cbor(with = "crate::encoding::attachment")]
    pub payload: Bytes,
    /// Their checksums, to be verified again after the network.
    #[n(2)]
    #[cbor(with = "crate::encoding::checksums")]
    pub checksums: Vec<u64>,
    /// Bytes of the whole shard.
    #[n(3)]
    pub shard_bytes: u32,
    /// The sealed owner, as it was appended: what is rebuilt from this shard belongs to it too.
    #[n(4)]
    #[cbor(with = "crate::encoding::inline")]
    pub owner: Bytes,
    /// The coding of its extent, as it was appended.
    #[n(5)]
    pub coding: Coding,
    /// Bytes of the whole stripe, as they were appended.
    #[n(6)]
    pub stripe_bytes: u32,
}

/// A request to one disk.
#[derive(Clone, Debug, Encode, Decode)]
#[cbor(context_bound = "Attached")]
pub enum ShardRequest {
    /// Append shards; with `sync`, answer when they are durable.
    #[n(0)]
    Append {
        /// The disk.
        #[n(0)]
        disk: DiskId,
        /// The shards, appended in order.
        #[n(1)]
        shards: Vec<ShardAppend>,
        /// Whether to answer only when they are on stable storage.
        #[n(2)]
        sync: bool,
    },
    /// Answer when everything up to `position` is on stable storage.
    #[n(1)]
    Sync {
        /// The disk.
        #[n(0)]
        disk: DiskId,
        /// The incarnation that the position is of; another one is refused.
        #[n(1)]
        incarnation: Incarnation,
        /// The position that an append answered.
        #[n(2)]
        position: LogPosition,
    },
    /// Read ranges of shards; each answer stands by itself.
    #[n(2)]
    Read {
        /// The disk.
        #[n(0)]
        disk: DiskId,
        /// The ranges.
        #[n(1)]
        reads: Vec<ShardRead>,
    },
    /// Delete every shard of these extents on this disk; answers when the tombstones are durable.
    /// Only for extents that the metadata has proved ownerless (I-9), or that the caller wrote in
    /// its own live session and never proposed to commit.
    #[n(3)]
    Delete {
        /// The disk.
        #[n(0)]
        disk: DiskId,
        /// The extents; those that the disk doesn't hold are no error.
        #[n(1)]
        extents: Vec<ExtentId>,
    },
    /// List the shards of a PG, in key order.
    #[n(4)]
    Inventory {
        /// The disk.
        #[n(0)]
        disk: DiskId,
        /// The PG.
        #[n(1)]
        pg: PgId,
        /// Start behind this shard.
        #[n(2)]
        after: Option<ShardId>,
        /// At most this many (and at most 10,000).
        #[n(3)]
        limit: u32,
    },
    /// Read and verify every shard of these extents that the disk holds, whole; answers when they
    /// are on stable storage.
    #[n(5)]
    Verify {
        /// The disk.
        #[n(0)]
        disk: DiskId,
        /// The extents; those that the disk doesn't hold are no error.
        #[n(1)]
        extents: Vec<ExtentId>,
    },
    /// List the live shards that are known to be damaged, in key order.
    #[n(6)]
    Damaged {
        /// The disk.
        #[n(0)]
        disk: DiskId,
        /// Start behind this shard.
        #[n(1)]
        after: Option<ShardId>,
        /// At most this many (and at most 10,000).
        #[n(2)]
        limit: u32,
    },
    /// Begin a pass of scrub over the whole disk now, or end the one under way. Its progress is in
    /// the disk's report.
    #[n(7)]
    Scrub {
        /// The disk.
        #[n(0)]
        disk: DiskId,
        /// What to do.
        #[n(1)]
        order: ScrubOrder,
    },
    /// Report on all disks of the node.
    #[n(8)]
    Status,
    /// List the PGs that the disk holds shards of, ascending.
    #[n(9)]
    Groups {
        /// The disk.
        #[n(0)]
        disk: DiskId,
        /// Start behind this PG.
        #[n(1)]
        after: Option<PgId>,
        /// At most this many (and at most 10,000).
        #[n(2)]
        limit: u32,
    },
}

/// What a scrub is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ScrubOrder {
    /// Verify the whole disk from its beginning, at most at this rate (0: as fast as it goes).
    #[n(0)]
    Begin {
        /// Bytes per second.
        #[n(0)]
        bytes_per_second: u64,
    },
    /// End the pass that was asked for; the paced one goes on where it was.
    #[n(1)]
    End,
}

/// What the verification of one shard found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum ShardState {
    /// Every byte is the one that was written.
    #[n(0)]
    Sound,
    /// It is damaged: reconstruct it.
    #[n(1)]
    Damaged,
}

/// The answer to a [`ShardRequest`], variant by variant.
#[derive(Clone, Debug, Encode, Decode)]
#[cbor(context_bound = "Attached")]
pub enum ShardResponse {
    /// To `Append`.
    #[n(0)]
    Appended {
        /// The run of the disk that took them.
        #[n(0)]
        incarnation: Incarnation,
        /// The log position behind the last of them.
        #[n(1)]
        position: LogPosition,
    },
    /// To `Sync`.
    #[n(1)]
    Synced,
    /// To `Read`: an answer for each range, in order.
    #[n(2)]
    Read(#[n(0)] Vec<Result<ShardBlocks, ShardError>>),
    /// To `Delete`.
    #[n(3)]
    Deleted,
    /// To `Inventory`: shard and its length.
    #[n(4)]
    Inventory(#[n(0)] Vec<(ShardId, u32)>),
    /// To `Verify`: every shard that the disk should have by its own index, in key order.
    #[n(5)]
    Verified(#[n(0)] Vec<(ShardId, ShardState)>),
    /// To `Damaged`.
    #[n(6)]
    Damaged(#[n(0)] Vec<ShardId>),
    /// To `Scrub`.
    #[n(7)]
    ScrubOrdered,
    /// To `Status`.
    #[n(8)]
    Status(#[n(0)] Vec<DiskReport>),
    /// The request failed as a whole.
    #[n(9)]
    Failed(#[n(0)] ShardError),
    /// To `Groups`.
    #[n(10)]
    Groups(#[n(0)] Vec<PgId>),
}

/// Why a shard request failed; each variant says what the caller can do.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum ShardError {
    /// The disk doesn't hold the shard. Proves nothing about the cluster (I-9): reconstruct and
    /// report.
    #[error("disk {0} has no shard {1}")]
    #[n(0)]
    NotFound(#[n(0)] DiskId, #[n(1)] ShardId),
    /// The stored bytes fail their checksum, or the record is damaged: reconstruct and report.
    #[error("shard {1} on disk {0} is damaged")]
    #[n(1)]
    Corrupt(#[n(0)] DiskId, #[n(1)] ShardId),
    /// What was sent fails its checksum or its limits: a fault on the way or of the sender.
    #[error("the shard request is not valid: {0}")]
    #[n(2)]
    Invalid(#[n(0)] Cow<'static, str>),
    /// The shard id is already taken by other bytes: a bug of the sender; never overwritten (I-3).
    #[error("shard {0} exists with other content")]
    #[n(3)]
    Exists(#[n(0)] ShardId),
    /// The sync is for an earlier run of the disk: what it covers may be lost; write again.
    #[error("disk {0} was restarted since the append")]
    #[n(4)]
    WrongIncarnation(#[n(0)] DiskId),
    /// The disk takes no writes until space is freed. Reads and deletes go on.
    #[error("disk {0} is full")]
    #[n(5)]
    Full(#[n(0)] DiskId),
    /// The disk takes no writes since a write or sync failed; reads may work.
    #[error("disk {0} is read-only after a failed write or sync")]
    #[n(6)]
    ReadOnly(#[n(0)] DiskId),
    /// The disk is gone or unusable.
    #[error("disk {0} has failed")]
    #[n(7)]
    Failed(#[n(0)] DiskId),
    /// This node has no such disk: the caller's cluster map is old.
    #[error("no disk {0} here")]
    #[n(8)]
    NoSuchDisk(#[n(0)] DiskId),
    /// A queue is full: try later or elsewhere.
    #[error("disk {0} is overloaded")]
    #[n(9)]
    Overloaded(#[n(0)] DiskId),
}

/// The state of a disk as its own node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
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
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
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

impl DiskReport {
    /// How much of its file system is taken, by whatever, in percent; `None` when its size isn't
    /// known.
    pub fn taken_percent(&self) -> Option<u64> {
        let taken = self.capacity_bytes.saturating_sub(self.free_bytes);
        let percent = (u128::from(taken) * 100).checked_div(u128::from(self.capacity_bytes))?;
        u64::try_from(percent).ok()
    }
}

/// How far the verification of a disk is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
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
