//! What a scrub has come to, readable while it runs.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of a scrub under way.
#[derive(Debug, Default)]
pub struct ScrubMeter {
    done: AtomicU64,
    total: AtomicU64,
    sound: AtomicU64,
    damaged: AtomicU64,
    missing: AtomicU64,
    unreached: AtomicU64,
    queued: AtomicU64,
}

/// The counts at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubFigures {
    /// How far it is, in the scope's unit.
    pub done: u64,
    /// Where it ends; 0 while that isn't known.
    pub total: u64,
    /// Shards that are whole.
    pub sound: u64,
    /// Shards that are damaged.
    pub damaged: u64,
    /// Shards that their disk doesn't have.
    pub missing: u64,
    /// Shards whose disk couldn't be asked.
    pub unreached: u64,
    /// Extents that were put into the repair queue, or were in it already.
    pub queued: u64,
}

impl ScrubMeter {
    /// The counts now.
    pub fn figures(&self) -> ScrubFigures {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        ScrubFigures {
            done: read(&self.done),
            total: read(&self.total),
            sound: read(&self.sound),
            damaged: read(&self.damaged),
            missing: read(&self.missing),
            unreached: read(&self.unreached),
            queued: read(&self.queued),
        }
    }

    pub(super) fn set_total(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }

    pub(super) fn set_done(&self, done: u64) {
        self.done.store(done, Ordering::Relaxed);
        // Things may come while it runs.
        self.total.fetch_max(done, Ordering::Relaxed);
    }

    pub(super) fn advance(&self, by: u64) {
        let done = self.done.fetch_add(by, Ordering::Relaxed) + by;
        self.total.fetch_max(done, Ordering::Relaxed);
    }

    pub(super) fn add_sound(&self, shards: u64) {
        self.sound.fetch_add(shards, Ordering::Relaxed);
        metrics::counter!("drystone_scrub_shards_total", "state" => "sound").increment(shards);
    }

    pub(super) fn add_damaged(&self, shards: u64) {
        self.damaged.fetch_add(shards, Ordering::Relaxed);
        metrics::counter!("drystone_scrub_shards_total", "state" => "damaged").increment(shards);
    }

    pub(super) fn add_missing(&self, shards: u64) {
        self.missing.fetch_add(shards, Ordering::Relaxed);
        metrics::counter!("drystone_scrub_shards_total", "state" => "missing").increment(shards);
    }

    pub(super) fn add_unreached(&self, shards: u64) {
        self.unreached.fetch_add(shards, Ordering::Relaxed);
        metrics::counter!("drystone_scrub_shards_total", "state" => "unreached").increment(shards);
    }

    pub(super) fn add_queued(&self, extents: u64) {
        self.queued.fetch_add(extents, Ordering::Relaxed);
    }
}
