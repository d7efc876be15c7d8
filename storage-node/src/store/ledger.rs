//! The ledger of a disk: what each segment holds, exactly, and the damage that is known.
//!
//! One place books every change, in operation, replay and rebuild alike, so that all three give
//! the same figures.

use std::collections::{BTreeMap, BTreeSet};

use crate::index::{DamagedRegion, Location, SavedIndex, SegmentUse};
use crate::segment::SEGMENT_HEADER_BYTES;

/// Live and garbage bytes of a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    segments: BTreeMap<u64, SegmentUse>,
    damage: BTreeSet<DamagedRegion>,
}

/// The sums over all segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) live_bytes: u64,
    pub(crate) garbage_bytes: u64,
    pub(crate) shards: u64,
}

impl Ledger {
    pub(crate) fn from_saved(saved: &SavedIndex) -> Self {
        Self {
            segments: saved.segments.iter().copied().collect(),
            damage: saved.damage.iter().copied().collect(),
        }
    }

    pub(crate) fn segments(&self) -> Vec<(u64, SegmentUse)> {
        self.segments.iter().map(|(number, used)| (*number, *used)).collect()
    }

    pub(crate) fn damage(&self) -> Vec<DamagedRegion> {
        self.damage.iter().copied().collect()
    }

    pub(crate) fn highest_segment(&self) -> Option<u64> {
        self.segments.last_key_value().map(|(number, _)| *number)
    }

    pub(crate) fn knows(&self, segment: u64) -> bool {
        self.segments.contains_key(&segment)
    }

    /// A segment reaches to `end`; `start` is its place in the log.
    pub(crate) fn reach(&mut self, segment: u64, start: u64, end: u64) {
        let used = self.segments.entry(segment).or_default();
        used.start = start;
        used.end = used.end.max(end);
    }

    /// A shard lives at `location`.
    pub(crate) fn live(&mut self, location: &Location) {
        let used = self.segments.entry(location.segment).or_default();
        used.live_bytes += u64::from(location.record_bytes);
        used.shards += 1;
    }

    /// The record at `location` has become garbage.
    pub(crate) fn dead(&mut self, location: &Location) {
        if let Some(used) = self.segments.get_mut(&location.segment) {
            used.live_bytes = used.live_bytes.saturating_sub(u64::from(location.record_bytes));
            used.shards = used.shards.saturating_sub(1);
        }
    }

    /// A region is damaged. Tells whether that is news.
    pub(crate) fn damaged(&mut self, region: DamagedRegion) -> bool {
        self.damage.insert(region)
    }

    pub(crate) fn damaged_regions(&self) -> usize {
        self.damage.len()
    }

    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for used in self.segments.values() {
            totals.live_bytes += used.live_bytes;
            totals.shards += used.shards;
            let records = used.end.saturating_sub(SEGMENT_HEADER_BYTES);
            totals.garbage_bytes += records.saturating_sub(used.live_bytes);
        }
        totals
    }
}
