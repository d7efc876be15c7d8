//! The ledger of a disk: what each segment holds, exactly, and the damage that is known.
//!
//! One place books every change, in operation, replay and rebuild alike, so that all three give
//! the same figures. Bytes of a segment are live (records of live shards), or tombstones that the
//! index points to, or garbage; there is nothing else but the segment's header.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use model::ids::ShardId;
use model::shard::LogPosition;

use super::shared::Shared;
use crate::index::{DamagedRegion, DamagedShard, IndexError, Location, SavedIndex, SegmentUse};
use crate::lock::lock;
use crate::segment::SEGMENT_HEADER_BYTES;

/// Live and garbage bytes of a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    segments: BTreeMap<u64, SegmentUse>,
    /// Those of them that are marked as superseded.
    superseded: BTreeSet<u64>,
    damage: BTreeSet<DamagedRegion>,
    /// Live shards whose records are damaged, and where those lie: they hold their segments until
    /// they are repaired or deleted.
    damaged_shards: BTreeMap<ShardId, Location>,
}

/// The sums over all segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) live_bytes: u64,
    /// Everything else that is log, tombstones included.
    pub(crate) garbage_bytes: u64,
    /// The part of the garbage that is tombstones which the index points to.
    pub(crate) tombstone_bytes: u64,
    pub(crate) shards: u64,
}

impl Ledger {
    pub(crate) fn from_saved(saved: &SavedIndex) -> Self {
        let marked = saved.segments.iter().filter(|(_, used)| used.superseded);
        Self {
            segments: saved.segments.iter().copied().collect(),
            superseded: marked.map(|(number, _)| *number).collect(),
            damage: saved.damage.iter().copied().collect(),
            damaged_shards: saved.damaged_shards.iter().copied().collect(),
        }
    }

    /// Puts what a checkpoint keeps of the ledger into `saved`.
    pub(crate) fn save(&self, saved: &mut SavedIndex) {
        saved.segments = self.segments();
        saved.damage = self.damage();
        saved.damaged_shards = self.damaged_shards.iter().map(|(id, at)| (*id, *at)).collect();
    }

    pub(crate) fn segments(&self) -> Vec<(u64, SegmentUse)> {
        self.segments.iter().map(|(number, used)| (*number, *used)).collect()
    }

    pub(crate) fn used(&self, segment: u64) -> Option<SegmentUse> {
        self.segments.get(&segment).copied()
    }

    pub(crate) fn damage(&self) -> Vec<DamagedRegion> {
        self.damage.iter().copied().collect()
    }

    pub(crate) fn highest_segment(&self) -> Option<u64> {
        self.segments.last_key_value().map(|(number, _)| *number)
    }

    /// The log position at which a segment begins.
    pub(crate) fn start_of(&self, segment: u64) -> Option<u64> {
        self.segments.get(&segment).map(|used| used.start)
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

    /// The log position of a record; `None` when its segment isn't known.
    pub(crate) fn position(&self, location: &Location) -> Option<LogPosition> {
        let used = self.segments.get(&location.segment)?;
        Some(used.start + u64::from(location.offset))
    }

    /// A shard lives at `location`.
    pub(crate) fn live(&mut self, location: &Location) {
        let used = self.segments.entry(location.segment).or_default();
        used.live_bytes += u64::from(location.record_bytes);
        used.shards += 1;
    }

    /// The record of shard `id` at `location` has become garbage.
    pub(crate) fn dead(&mut self, id: ShardId, location: &Location) {
        self.shard_sound(id, location);
        if let Some(used) = self.segments.get_mut(&location.segment) {
            used.live_bytes = used.live_bytes.saturating_sub(u64::from(location.record_bytes));
            used.shards = used.shards.saturating_sub(1);
        }
    }

    /// A later record has taken the place of the one of shard `id` at `location`.
    pub(crate) fn superseded(&mut self, id: ShardId, location: &Location) {
        self.dead(id, location);
        if let Some(used) = self.segments.get_mut(&location.segment) {
            used.superseded = true;
            self.superseded.insert(location.segment);
        }
    }

    /// The segments that may hold records of shards that live elsewhere by now.
    pub(crate) fn superseded_segments(&self) -> impl Iterator<Item = u64> {
        self.superseded.iter().copied()
    }

    /// The index points to a tombstone of `bytes` in `segment`.
    pub(crate) fn tombstone_kept(&mut self, segment: u64, bytes: u64) {
        self.segments.entry(segment).or_default().tombstone_bytes += bytes;
    }

    /// The index points to it no more.
    pub(crate) fn tombstone_dropped(&mut self, segment: u64, bytes: u64) {
        if let Some(used) = self.segments.get_mut(&segment) {
            used.tombstone_bytes = used.tombstone_bytes.saturating_sub(bytes);
        }
    }

    /// A segment is gone, durably, and with it what is known of it.
    pub(crate) fn removed(&mut self, segment: u64) -> Option<SegmentUse> {
        self.damage.retain(|region| region.segment != segment);
        self.damaged_shards.retain(|_, location| location.segment != segment);
        self.superseded.remove(&segment);
        self.segments.remove(&segment)
    }

    /// A region is damaged. Tells whether that is news.
    pub(crate) fn damaged(&mut self, region: DamagedRegion) -> bool {
        self.damage.insert(region)
    }

    pub(crate) fn damaged_regions(&self) -> usize {
        self.damage.len()
    }

    /// The record of the live shard `id` at `location` is damaged. Tells whether that is news.
    /// Use [`Shared::shard_damaged`], which makes sure that the shard still lives there.
    pub(crate) fn shard_damaged(&mut self, id: ShardId, location: Location) -> bool {
        self.damaged_shards.insert(id, location) != Some(location)
    }

    /// The record at `location` isn't a damaged live one after all, or no more.
    pub(crate) fn shard_sound(&mut self, id: ShardId, location: &Location) {
        if self.damaged_shards.get(&id) == Some(location) {
            self.damaged_shards.remove(&id);
        }
    }

    /// How many live shards are damaged.
    pub(crate) fn damaged_shard_count(&self) -> usize {
        self.damaged_shards.len()
    }

    /// At most `limit` damaged live shards behind `after`, in key order.
    pub(crate) fn damaged_shards(&self, after: Option<ShardId>, limit: usize) -> Vec<DamagedShard> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.damaged_shards.range((from, Bound::Unbounded));
        behind.take(limit).map(|(id, location)| (*id, *location)).collect()
    }

    /// The segments that damaged live shards hold.
    pub(crate) fn watched_segments(&self) -> BTreeSet<u64> {
        self.damaged_shards.values().map(|location| location.segment).collect()
    }

    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for used in self.segments.values() {
            totals.live_bytes += used.live_bytes;
            totals.shards += used.shards;
            totals.tombstone_bytes += used.tombstone_bytes;
            let records = used.end.saturating_sub(SEGMENT_HEADER_BYTES);
            totals.garbage_bytes += records.saturating_sub(used.live_bytes);
        }
        totals
    }
}

impl Shared {
    /// Books that the record of shard `id` at `location` is damaged, if the shard still lives
    /// there: until it is repaired or deleted it is listed and its segment is kept. Tells whether
    /// that is news.
    pub(crate) fn shard_damaged(
        &self,
        id: ShardId,
        location: Location,
    ) -> Result<bool, IndexError> {
        let news = lock(&self.ledger).shard_damaged(id, location);
        // Looked up after it was booked: the writer changes the index first and the ledger then,
        // so that one of the two sees what the other did.
        if self.index.get(id)? == Some(location) {
            return Ok(news);
        }
        lock(&self.ledger).shard_sound(id, &location);
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use model::ids::{ExtentId, PgId, SessionId};

    use super::*;

    fn shard(sequence: u32) -> ShardId {
        let extent = ExtentId { pg: PgId(1), session: SessionId(1), sequence };
        ShardId { extent, stripe: 0, slot: 0 }
    }

    fn at(segment: u64, offset: u32) -> Location {
        Location { segment, offset, record_bytes: 100, payload_bytes: 4 }
    }

    #[test]
    fn every_byte_is_live_or_garbage() {
        let mut ledger = Ledger::default();
        ledger.reach(1, 1000, SEGMENT_HEADER_BYTES + 388);
        ledger.live(&at(1, 128));
        ledger.live(&at(1, 228));
        ledger.live(&at(1, 328));
        ledger.tombstone_kept(1, 88);
        ledger.dead(shard(1), &at(1, 128));
        let expected =
            Totals { live_bytes: 200, garbage_bytes: 188, tombstone_bytes: 88, shards: 2 };
        assert_eq!(ledger.totals(), expected);
        assert_eq!(ledger.position(&at(1, 228)), Some(1228));
        assert_eq!(ledger.superseded_segments().count(), 0);
        ledger.superseded(shard(2), &at(1, 228));
        assert_eq!(ledger.superseded_segments().collect::<Vec<_>>(), [1]);
        ledger.tombstone_dropped(1, 88);
        let expected =
            Totals { live_bytes: 100, garbage_bytes: 288, tombstone_bytes: 0, shards: 1 };
        assert_eq!(ledger.totals(), expected);
        let mut saved = SavedIndex::default();
        ledger.save(&mut saved);
        assert_eq!(Ledger::from_saved(&saved), ledger);
        assert!(ledger.removed(1).is_some());
        assert_eq!(ledger, Ledger::default());
    }

    #[test]
    fn a_damaged_shard_is_listed_until_its_record_is_dead() {
        let mut ledger = Ledger::default();
        for sequence in 1..=3 {
            ledger.live(&at(u64::from(sequence), 128));
            assert!(ledger.shard_damaged(shard(sequence), at(u64::from(sequence), 128)));
        }
        assert!(!ledger.shard_damaged(shard(2), at(2, 128)), "no news");
        assert_eq!(ledger.watched_segments().into_iter().collect::<Vec<_>>(), [1, 2, 3]);
        let listed = ledger.damaged_shards(Some(shard(1)), 1);
        assert_eq!(listed, [(shard(2), at(2, 128))]);
        ledger.dead(shard(2), &at(9, 128));
        assert_eq!(ledger.damaged_shard_count(), 3, "another record of it");
        ledger.dead(shard(2), &at(2, 128));
        ledger.superseded(shard(3), &at(3, 128));
        assert_eq!(ledger.damaged_shards(None, 9), [(shard(1), at(1, 128))]);
        let mut saved = SavedIndex::default();
        ledger.save(&mut saved);
        assert_eq!(Ledger::from_saved(&saved), ledger);
        ledger.removed(1);
        assert_eq!(ledger.damaged_shard_count(), 0);
    }
}
