//! Recovery: what tables that are older than the disks don't know, or that know nothing, is found
//! again by what lies on the disks.
//!
//! In: the inventories of all disks, and the owners that are sealed into their shards. Out: objects,
//! adopted by the metadata, and a report of what could not be. [`groups`] and [`settle`] find the groups
//! and the slots that moved, [`scan`] the extents; [`home`] puts shards where they are looked for,
//! [`plan`] puts bodies together, [`records`] reads what owners can't tell, [`run`] has it all adopted.
//!
//! What always holds: only extents of held sessions that the tables don't know are adopted; only whole
//! bodies, whose every byte was read and verified, or that a record names; nothing is deleted. Carried
//! out again, it goes on with what is left.
//!
//! What can't be known: an object that was deleted or overwritten shortly before comes back, while its
//! shards are there; a body that was finished and refused, or whose client never heard of it, too.

mod groups;
mod home;
mod plan;
mod records;
mod report;
mod run;
mod scan;
mod settle;

use std::sync::Arc;

use model::checksum::{ChecksumAlgorithm, StoredChecksum};
use model::command::Refusal;
use model::ids::DiskId;
use model::query::MetadataError;

pub use plan::IncompleteReason;
pub(crate) use records::{Recorded, owner_tells_all, read_record, write_record};
pub use report::{RecoverFigures, RecoverMeter, RecoverPhase, RecoverProblem};
pub(crate) use run::run;

/// Computes the digests of one body.
pub trait BodyDigest: Send {
    /// Takes the next bytes.
    fn update(&mut self, bytes: &[u8]);

    /// The MD5, and the checksum if one was wanted.
    fn finish(self: Box<Self>) -> ([u8; 16], Option<StoredChecksum>);
}

/// Begins a digest, with a checksum of this algorithm.
pub type NewDigest = dyn Fn(Option<ChecksumAlgorithm>) -> Box<dyn BodyDigest> + Send + Sync;

/// A recovery to be carried out.
#[derive(Clone)]
pub struct RecoverRequest {
    /// Whose the buckets are to be that have to be made.
    pub bucket_owner: String,
    /// Disks that are lost for good. Every other disk of the map that isn't out must answer while the
    /// placement groups are looked for: what only it knows would be placed elsewhere for ever.
    pub lost_disks: Vec<DiskId>,
    /// How many disks the cluster ever had: the highest number of one. Must be told where nothing
    /// knows it, which is without a backup.
    pub disks: Option<u32>,
    /// At most so many bytes of bodies are read a second; 0 for as fast as the disks go.
    pub bytes_per_second: u64,
    /// Computes entity tags and checksums, which the disks don't have.
    pub digests: Arc<NewDigest>,
}

/// Why a recovery did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    /// The tables were neither put back nor begun anew: they know all that there is.
    #[error("nothing is held: the metadata was not restored")]
    NothingHeld,
    /// A disk doesn't answer, and the placement groups can't be found without it: have its node
    /// started, or say that it is lost.
    #[error("disk {0} does not answer: start its node, or say that it is lost")]
    DiskAway(DiskId),
    /// Nothing knows how many disks there are to wait for.
    #[error(
        "without a backup, nothing tells how many disks there were, and what only a disk knows that \
         comes back too late is placed elsewhere for ever: say the highest disk number that the \
         cluster had (--disks)"
    )]
    DisksNotTold,
    /// A disk is not in the map, and the groups can't be settled without it.
    #[error(
        "disk {0} is not there yet, and what only it knows would be placed elsewhere for ever: \
         start its node, or say that it is lost or was removed (--lost-disk)"
    )]
    DiskUnknown(DiskId),
    /// The metadata says no.
    #[error("the metadata refused what was found: {0}")]
    Refused(Refusal),
    /// The metadata can't be asked.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// It was told to stop.
    #[error("it was stopped")]
    Stopped,
}
