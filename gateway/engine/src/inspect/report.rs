//! What is asked of an object's shards, and what is answered.

use std::sync::Arc;
use std::time::Duration;

use model::cluster_map::ClusterMap;
use model::command::Refusal;
use model::extent::Extent;
use model::ids::DiskId;
use model::moves::SlotMove;
use model::names::{BucketName, ObjectKey};
use model::query::MetadataError;
use model::version::Version;

use crate::outstanding::{ExtentStanding, SlotProspect};
use crate::repair::FailedRepair;

/// What is to be looked at, and how closely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectRequest {
    /// The bucket.
    pub bucket: BucketName,
    /// The key.
    pub key: ObjectKey,
    /// Extents that hold bytes from here on.
    pub from: u64,
    /// At most so many extents.
    pub limit: usize,
    /// Whether disks read and verify every byte of the shards, rather than look into their index.
    pub verify: bool,
}

/// An object's shards.
#[derive(Clone, Debug)]
pub struct ObjectReport {
    /// The cluster map that it was looked at by.
    pub map: Arc<ClusterMap>,
    /// The version.
    pub version: Version,
    /// The extents, in order; the last may be the one of its recovery record.
    pub extents: Vec<ExtentReport>,
    /// Where to go on, when there are more extents.
    pub next: Option<u64>,
    /// Whether this gateway repairs, and so knows of failures.
    pub repairs_here: bool,
}

/// An extent's shards.
#[derive(Clone, Debug)]
pub struct ExtentReport {
    /// Where its first byte lies in the object; `None` for the recovery record.
    pub offset: Option<u64>,
    /// The extent; its `missing` are the slots that lack shards now, by the tables.
    pub extent: Extent,
    /// Whether the metadata's tables know it; if not, it was deleted a moment ago.
    pub is_known: bool,
    /// Shards to spare, of those that can be read now by metadata and map.
    pub spare: i16,
    /// How it stands; `None` when it lacks nothing.
    pub standing: Option<ExtentStanding>,
    /// The last attempt to repair it, if that failed and it was this gateway's.
    pub failed: Option<FailedRepair>,
    /// The slots.
    pub slots: Vec<SlotReport>,
    /// Shards on disks that have no right to them.
    pub strays: Vec<Stray>,
}

/// A slot of an extent.
#[derive(Clone, Debug)]
pub struct SlotReport {
    /// The slot.
    pub slot: u8,
    /// The disk that it is on.
    pub disk: DiskId,
    /// Shards that it has.
    pub shards: u32,
    /// Their bytes.
    pub bytes: u64,
    /// What the disk says.
    pub state: SlotState,
    /// Shards that the disk has and doesn't know to be damaged.
    pub present: u32,
    /// Shards that it knows to be damaged.
    pub damaged: u32,
    /// Whether the metadata's tables say that it lacks shards.
    pub is_lacking: bool,
    /// What becomes of what it lacks, if it does: by the tables, or as its disk is down or given up.
    pub prospect: Option<SlotProspect>,
    /// How long until its disk is given up, at the earliest, if that is down.
    pub out_in: Option<Duration>,
    /// The move of the slot that is under way.
    pub moving: Option<MoveReport>,
}

/// A move of a slot, as far as it concerns one extent.
#[derive(Clone, Debug)]
pub struct MoveReport {
    /// The move.
    pub what: SlotMove,
    /// Shards of the extent that the new disk has; `None` when it doesn't answer.
    pub present: Option<u32>,
    /// Extents of the group that were put on the new disk, and all of them, where this gateway does
    /// it.
    pub progress: Option<(u64, u64)>,
}

/// What a disk says of a slot's shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// The extent is too short to use the slot.
    Unused,
    /// It has them all; with verification, every byte is the one that was written.
    Present,
    /// Some aren't there.
    Missing,
    /// All are there, and some are damaged.
    Damaged,
    /// It doesn't answer, for this reason.
    Unreachable(String),
}

/// Shards of a slot on a disk that the slot isn't on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stray {
    /// The disk.
    pub disk: DiskId,
    /// The slot.
    pub slot: u8,
    /// Shards.
    pub shards: u32,
}

/// Why an object couldn't be looked at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InspectError {
    /// There is no such bucket.
    #[error("there is no such bucket")]
    NoSuchBucket,
    /// There is no such object.
    #[error("there is no such object in the bucket")]
    NoSuchObject,
    /// The metadata refuses the question.
    #[error("the metadata refuses: {0}")]
    Refused(Refusal),
    /// The metadata can't be asked: try later.
    #[error("the metadata service is not available")]
    Unavailable,
}

impl From<MetadataError> for InspectError {
    fn from(_: MetadataError) -> Self {
        Self::Unavailable
    }
}
