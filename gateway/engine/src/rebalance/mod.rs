//! Rebalance: slots of placement groups move to other disks.
//!
//! In: the cluster map, with the moves that are under way. Out: the slots' shards on their new disks,
//! read back there, and the commands that begin and end moves.
//!
//! [`steer`] has moves begun and given up, which [`plan`] decides; one gateway does that. [`carry`] has
//! those carried out that go to nodes whose lease the gateway has: [`slot`] puts one slot's shards on
//! its new disk, in batches ([`batch`]) of shards copied from the old one or rebuilt from the others
//! ([`source`]). [`strays`] deletes what moves left behind, of which [`deletions`] keeps
//! note.
//!
//! What always holds: the old disk's shards count until the metadata has given the slot to the new disk,
//! and that it does only when nothing is missing there (I-12). A shard is deleted from a disk that has
//! no right to it any more only when the disk that has the right was just seen to have it whole, or when
//! its extent has no owner (I-9).

mod batch;
mod carry;
mod deletions;
mod plan;
mod slot;
mod source;
mod steer;
mod strays;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use model::ids::{DiskId, PgId};
use model::moves::Move;
use tokio::sync::Notify;

pub(crate) use carry::run as carry;
use deletions::Deletions;
pub use plan::PauseReason;
pub(crate) use steer::run as steer;

/// What rebalancing shares with the rest of the engine.
#[derive(Default)]
pub(crate) struct RebalanceDesk {
    /// Something may have changed what is to move.
    wake: Notify,
    /// Moves were begun.
    carry: Notify,
    slots: AtomicU64,
    cancelled: AtomicU64,
    extents: AtomicU64,
    shards: AtomicU64,
    bytes: AtomicU64,
    rebuilt_bytes: AtomicU64,
    failures: AtomicU64,
    strays: AtomicU64,
    brought_home: AtomicU64,
    under_way: Mutex<BTreeMap<(PgId, u8), MoveProgress>>,
    paused: Mutex<Option<PauseReason>>,
    places_of_strays: Mutex<BTreeSet<(DiskId, PgId)>>,
    deletions: Deletions,
}

/// How far a move is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MoveProgress {
    /// The move.
    pub what: Move,
    /// Extents of its group when it was begun.
    pub extents_total: u64,
    /// Extents whose shards the new disk has.
    pub extents_done: u64,
    /// Bytes that the new disk took.
    pub bytes: u64,
}

/// What rebalancing has come to since the engine began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RebalanceProgress {
    /// Slots that were given to their new disks.
    pub slots: u64,
    /// Moves that were given up.
    pub cancelled: u64,
    /// Extents whose shards were put on a new disk.
    pub extents: u64,
    /// Their shards.
    pub shards: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes among them of slots that were lost.
    pub rebuilt_bytes: u64,
    /// Attempts that failed; they are repeated.
    pub failures: u64,
    /// Extents whose left-over shards were deleted from disks that have no right to them.
    pub strays: u64,
    /// Left-over shards that their disks had lost, and that were given to them.
    pub brought_home: u64,
    /// Moves that this gateway works on.
    pub under_way: Vec<MoveProgress>,
    /// Why nothing is begun that would be, if so.
    pub paused: Option<PauseReason>,
}

impl RebalanceDesk {
    /// Has the map looked at now.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// What it has come to.
    pub(crate) fn progress(&self) -> RebalanceProgress {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        RebalanceProgress {
            slots: read(&self.slots),
            cancelled: read(&self.cancelled),
            extents: read(&self.extents),
            shards: read(&self.shards),
            bytes: read(&self.bytes),
            rebuilt_bytes: read(&self.rebuilt_bytes),
            failures: read(&self.failures),
            strays: read(&self.strays),
            brought_home: read(&self.brought_home),
            under_way: self.moves().values().copied().collect(),
            paused: *self.paused.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    fn moves(&self) -> std::sync::MutexGuard<'_, BTreeMap<(PgId, u8), MoveProgress>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, what: Move) {
        let progress = MoveProgress { what, extents_total: 0, extents_done: 0, bytes: 0 };
        self.moves().insert((what.pg, what.slot), progress);
    }

    fn end(&self, what: Move) {
        self.moves().remove(&(what.pg, what.slot));
    }

    /// Counts into a move's progress.
    fn advance(&self, what: Move, change: impl FnOnce(&mut MoveProgress)) {
        if let Some(progress) = self.moves().get_mut(&(what.pg, what.slot)) {
            change(progress);
        }
    }

    /// Nothing is worked on here any more.
    fn forget(&self) {
        self.moves().clear();
    }

    /// Nothing is decided here any more.
    fn hand_over(&self) {
        self.deletions.hand_over();
        metrics::gauge!("drystone_moves_under_way").set(0.0);
        metrics::gauge!("drystone_stray_groups").set(0.0);
        self.set_paused(None);
        self.set_places_of_strays(BTreeSet::new());
    }

    /// Disks with left-over shards that are to be deleted soon, and of which groups.
    fn places_of_strays(&self) -> BTreeSet<(DiskId, PgId)> {
        self.places_of_strays.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_places_of_strays(&self, places: BTreeSet<(DiskId, PgId)>) {
        *self.places_of_strays.lock().unwrap_or_else(PoisonError::into_inner) = places;
    }

    fn set_paused(&self, reason: Option<PauseReason>) {
        *self.paused.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }
}

/// Why a slot's shards didn't get to their new disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MoveFailure {
    /// The new disk doesn't take them.
    #[error("the new disk does not take its shards")]
    TargetFailed,
    /// Some shards can neither be read nor rebuilt now.
    #[error("some shards can be neither read nor rebuilt now")]
    SourcesOutOfReach,
    /// The move isn't in the map any more.
    #[error("the move was given up")]
    Gone,
    /// The metadata can't be asked.
    #[error("the metadata service is not available")]
    Unavailable,
}

impl MoveFailure {
    /// The word used in metrics.
    const fn as_str(self) -> &'static str {
        match self {
            Self::TargetFailed => "target-failed",
            Self::SourcesOutOfReach => "sources-out-of-reach",
            Self::Gone => "gone",
            Self::Unavailable => "unavailable",
        }
    }
}

impl From<model::query::MetadataError> for MoveFailure {
    fn from(_: model::query::MetadataError) -> Self {
        Self::Unavailable
    }
}
