//! What a recovery has come to, readable while it runs.

use std::sync::{Mutex, PoisonError};

use model::command::Refusal;
use model::ids::{DiskId, PgId, UploadId};

use super::IncompleteReason;

/// Problems that are told one by one; beyond that they are only counted.
const PROBLEMS_MAX: usize = 1000;

/// How far a recovery is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecoverPhase {
    /// It looks for placement groups.
    #[default]
    Groups,
    /// It lists the disks.
    Scan,
    /// It reads bodies and has them adopted.
    Adopt,
    /// It has come to its end.
    Done,
}

impl RecoverPhase {
    /// The word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Groups => "looking for placement groups",
            Self::Scan => "listing the disks",
            Self::Adopt => "adopting objects",
            Self::Done => "done",
        }
    }
}

/// Something that wasn't recovered, or not wholly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecoverProblem {
    /// A disk couldn't be listed: what only it knows is missing.
    DiskUnreached(DiskId),
    /// A disk has held shards of slots that are on other disks, and those didn't take them: they
    /// aren't found, and are deleted once nothing is held any more. Carried out again when the disks
    /// take shards, the recovery finds them.
    Misplaced {
        /// The disk.
        disk: DiskId,
        /// The group.
        pg: PgId,
        /// How many.
        shards: u64,
    },
    /// A body isn't whole, and wasn't adopted.
    Incomplete {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
        /// The part number; 0 for a body put in one request.
        part: u16,
        /// Why.
        reason: IncompleteReason,
    },
    /// A body, or a record of one, couldn't be read, and wasn't adopted.
    Unreadable {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
    },
    /// An object was adopted, but its headers aren't known.
    WithoutHeaders {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
    },
    /// The parts of an upload that the metadata doesn't know, and of which no completion is recorded.
    UploadUnfinished {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
        /// The upload.
        upload: UploadId,
        /// Its whole parts.
        parts: u64,
    },
    /// The metadata didn't take an object.
    Refused {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
        /// Why.
        refusal: Refusal,
    },
    /// The names that an owner has aren't valid ones.
    InvalidName {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
    },
}

/// The counts at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoverFigures {
    /// How far it is.
    pub phase: RecoverPhase,
    /// Placement groups that were found again.
    pub groups: u64,
    /// Slots that moved after the tables were written down, and are where they were found.
    pub settled_slots: u64,
    /// Shards that were given to the disk of their slot.
    pub brought_home: u64,
    /// Shards that lie where no slot of theirs is.
    pub misplaced_shards: u64,
    /// Extents on the disks, of held sessions.
    pub extents: u64,
    /// Extents that the tables knew already.
    pub known_extents: u64,
    /// Extents whose owner couldn't be read, or is sealed with another key.
    pub ownerless_extents: u64,
    /// Whole bodies and records that were found.
    pub bodies: u64,
    /// Objects that were adopted.
    pub adopted: u64,
    /// Bytes of these.
    pub adopted_bytes: u64,
    /// Parts of uploads that the tables knew, adopted.
    pub adopted_parts: u64,
    /// Bodies of keys that have a newer one.
    pub superseded: u64,
    /// Bodies that aren't whole.
    pub incomplete: u64,
    /// Bodies and records that couldn't be read.
    pub unreadable: u64,
    /// Objects that were adopted without their headers.
    pub without_headers: u64,
    /// Uploads whose completion isn't recorded.
    pub unfinished_uploads: u64,
    /// Objects and parts that the metadata refused.
    pub refused: u64,
    /// Problems, the first thousand one by one.
    pub problems: Vec<RecoverProblem>,
}

/// Counts of a recovery under way.
#[derive(Debug, Default)]
pub struct RecoverMeter(Mutex<RecoverFigures>);

impl RecoverMeter {
    /// The counts now.
    pub fn figures(&self) -> RecoverFigures {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut RecoverFigures)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Tells a problem; counts it where it has a count of its own.
    pub(super) fn problem(&self, problem: RecoverProblem) {
        self.change(|figures| {
            match &problem {
                RecoverProblem::DiskUnreached(_) | RecoverProblem::InvalidName { .. } => {}
                RecoverProblem::Misplaced { shards, .. } => figures.misplaced_shards += shards,
                RecoverProblem::Incomplete { .. } => figures.incomplete += 1,
                RecoverProblem::Unreadable { .. } => figures.unreadable += 1,
                RecoverProblem::WithoutHeaders { .. } => figures.without_headers += 1,
                RecoverProblem::UploadUnfinished { .. } => figures.unfinished_uploads += 1,
                RecoverProblem::Refused { .. } => figures.refused += 1,
            }
            if figures.problems.len() < PROBLEMS_MAX {
                figures.problems.push(problem);
            }
        });
    }
}
