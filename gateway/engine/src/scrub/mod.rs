//! Scrub on demand: has everything of a disk, a PG, a bucket, an object, or of the whole cluster
//! verified now, and queues what is damaged or missing for repair.
//!
//! In: a scope and a rate. Out: counts, while it runs and at its end. A disk scrubs itself, and is
//! then compared with the metadata; every other scope follows the metadata's extents and asks their
//! disks to verify them, so that a shard that a disk has forgotten is found, too.
//!
//! What always holds: a shard that couldn't be asked for is counted as not reached, never as sound
//! or missing; only shards of extents that have an owner count as lost.

mod disk;
mod extents;
mod meter;
mod plan;
mod run;
mod verify;

use model::command::Refusal;
use model::ids::{DiskId, PgId};
use model::names::{BucketName, ObjectKey};
use model::query::MetadataError;

pub use meter::{ScrubFigures, ScrubMeter};
pub(crate) use run::run;
pub(crate) use verify::{
    damaged_shards, disk_reports, extent_states, inventory, lacking, queue_repairs, verify,
};

/// What is to be scrubbed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScrubScope {
    /// One disk, all of its segments.
    Disk(DiskId),
    /// The extents of a PG.
    Pg(PgId),
    /// The objects of a bucket.
    Bucket(BucketName),
    /// One object.
    Object(BucketName, ObjectKey),
    /// The extents of all PGs.
    All,
}

impl ScrubScope {
    /// What its progress is counted in.
    pub fn unit(&self) -> &'static str {
        match self {
            Self::Disk(_) => "bytes",
            Self::Pg(_) | Self::Object(..) => "extents",
            Self::Bucket(_) => "objects",
            Self::All => "placement groups",
        }
    }
}

/// A scrub to be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrubRequest {
    /// What.
    pub scope: ScrubScope,
    /// At most this fast; 0 for as fast as the disks go.
    pub bytes_per_second: u64,
}

/// Why a scrub did not come to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScrubError {
    /// The metadata says no: there is no such bucket or key.
    #[error(transparent)]
    Refused(Refusal),
    /// The metadata can't be asked.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The cluster has no such disk.
    #[error("there is no disk {0}")]
    NoSuchDisk(DiskId),
    /// The cluster has no such PG.
    #[error("there is no placement group {0}")]
    NoSuchPg(PgId),
    /// The disk doesn't answer, or refuses.
    #[error("disk {0} can't be scrubbed: {1}")]
    Disk(DiskId, String),
    /// Somebody ended the disk's scrub, or its node was restarted.
    #[error("the scrub of disk {0} was ended before it was done")]
    Ended(DiskId),
    /// It was told to stop.
    #[error("it was stopped")]
    Stopped,
}
