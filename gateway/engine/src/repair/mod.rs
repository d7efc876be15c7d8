//! Repair: extents that lack shards get them back.
//!
//! In: the metadata's repair queue, the most endangered extents first. Out: shards on their disks
//! and, once those were read back, a command that takes their slots out of the queue.
//!
//! [`plan`] decides what an extent needs and where it goes; [`stripe`] reads `k'` verified shards of
//! a stripe and computes the lacking ones; [`extent`] restores one extent; [`run`] works off the
//! queue; [`backoff`] keeps what can't be repaired from holding up what can, and [`patience`] from
//! holding up other work.
//!
//! What always holds: nothing is deleted or overwritten but a record that its own disk calls
//! damaged; a slot leaves the queue only when its disk has verified every shard of it on stable
//! storage; a rebuilt stripe is coded again and compared with the parity that it was read from.

mod backoff;
mod extent;
mod patience;
mod plan;
mod run;
mod stripe;

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use crate::buffers::Budget;
use crate::pace::Pace;

pub(crate) use backoff::Backoff;
pub use backoff::FailedRepair;
pub(crate) use patience::{REPAIRS_COUNTED, RepairPatience};
pub(crate) use plan::stripes_with;
pub(crate) use run::{rate_after_a_loss, run, work_left};
pub(crate) use stripe::{StripeTask, rebuild_stripe};

/// What repair shares with the rest of the engine.
pub(crate) struct RepairDesk {
    /// Bytes of stripes that are held at once, by repair and by moves.
    pub(crate) budget: Budget,
    /// The bandwidth that repair and moves share.
    pub(crate) pace: Pace,
    /// What failed lately, while this gateway repairs.
    pub(crate) backoff: Backoff,
    /// Something entered the queue.
    wake: Notify,
    extents: AtomicU64,
    shards: AtomicU64,
    bytes: AtomicU64,
    failures: AtomicU64,
    lost: AtomicU64,
    waiting: AtomicU64,
}

/// What repair has come to since the engine began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RepairProgress {
    /// Extents that left the queue, or had some of their slots repaired.
    pub extents: u64,
    /// Shards that were rebuilt.
    pub shards: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Attempts that failed; they are repeated.
    pub failures: u64,
    /// Extents of which more was found lost than parity makes up for, or whose shards contradict
    /// each other.
    pub lost: u64,
    /// Extents of the queue that could not be repaired when it was last gone through: their disk is
    /// away, too few shards are left, or an attempt failed lately.
    pub waiting: u64,
}

impl RepairDesk {
    pub(crate) fn new(budget_bytes: u64, pace: Pace) -> Self {
        Self {
            budget: Budget::new(budget_bytes),
            pace,
            backoff: Backoff::default(),
            wake: Notify::new(),
            extents: AtomicU64::new(0),
            shards: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
        }
    }

    /// Has the queue looked at now.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// What it has come to.
    pub(crate) fn progress(&self) -> RepairProgress {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        RepairProgress {
            extents: read(&self.extents),
            shards: read(&self.shards),
            bytes: read(&self.bytes),
            failures: read(&self.failures),
            lost: read(&self.lost),
            waiting: read(&self.waiting),
        }
    }
}

/// Why an extent wasn't repaired, or not all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RepairFailure {
    /// Too few of its shards are in reach.
    #[error("too few of its shards can be read now")]
    OutOfReach,
    /// More shards are lost than parity makes up for.
    #[error("it has lost more shards than its parity makes up for")]
    Lost,
    /// The shards that were read don't belong together, though each verifies.
    #[error("its shards contradict each other")]
    Contradiction,
    /// The disk that lacks the shard doesn't take it.
    #[error("a disk does not take its shard back")]
    TargetFailed,
    /// The disk doesn't find the shard sound after it took it.
    #[error("a disk took a shard and does not have it")]
    NotThere,
    /// There is no memory for it now.
    #[error("there is no memory for it now")]
    Busy,
}

impl RepairFailure {
    /// The word used in metrics.
    fn as_str(self) -> &'static str {
        match self {
            Self::OutOfReach => "out-of-reach",
            Self::Lost => "lost",
            Self::Contradiction => "contradiction",
            Self::TargetFailed => "target-failed",
            Self::NotThere => "not-there",
            Self::Busy => "busy",
        }
    }
}
