//! Compares the extents that the metadata names with the shards that a disk lists. Pure.

use std::collections::{BTreeMap, BTreeSet};

use model::ids::{ExtentId, ShardId};
use model::upkeep::ExtentEntry;

use crate::repair::stripes_with;

/// How a disk differs from the metadata, within a range of extent ids.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// Shards that the disk should have and doesn't list, of slots that aren't known to lack any.
    pub(super) missing: Vec<ShardId>,
    /// Extents that the disk has shards of and the metadata didn't name.
    pub(super) strangers: BTreeSet<ExtentId>,
    /// Shards of an owned extent that no slot or stripe of it gives a place on this disk.
    pub(super) misplaced: u64,
}

/// Compares. Both lists must be whole for the same range, and `known` the older one: what was
/// committed before it was read had its shards by then.
pub(super) fn compare(known: &[ExtentEntry], slot: u8, found: &[(ShardId, u32)]) -> Difference {
    let mut difference = Difference::default();
    let mut found: BTreeMap<ShardId, u32> = found.iter().copied().collect();
    let mut named = BTreeSet::new();
    for entry in known {
        let extent = &entry.extent;
        named.insert(extent.id);
        if !entry.is_owned {
            continue;
        }
        for stripe in stripes_with(extent, slot) {
            let id = ShardId { extent: extent.id, stripe, slot };
            let bytes = extent.stripe_geometry(stripe).map(|geometry| geometry.stored_bytes(slot));
            let is_there = found.remove(&id).is_some_and(|length| Some(length) == bytes);
            if !is_there && !extent.missing.contains(slot) {
                difference.missing.push(id);
            }
        }
    }
    let garbage: BTreeSet<ExtentId> =
        known.iter().filter(|entry| !entry.is_owned).map(|entry| entry.extent.id).collect();
    for id in found.keys() {
        if !named.contains(&id.extent) {
            difference.strangers.insert(id.extent);
        } else if !garbage.contains(&id.extent) {
            difference.misplaced += 1;
        }
    }
    difference
}

#[cfg(test)]
mod tests {
    use model::coding::Coding;
    use model::extent::{Extent, SlotSet};
    use model::ids::{PgId, SessionId};

    use super::*;

    fn entry(sequence: u32, length: u64, missing: u32, is_owned: bool) -> ExtentEntry {
        let id = ExtentId { pg: PgId(3), session: SessionId(2), sequence };
        let coding = Coding::parse("4+2").expect("valid");
        ExtentEntry {
            extent: Extent { id, coding, length, missing: SlotSet(missing), epoch: 0 },
            is_owned,
        }
    }

    fn shard(sequence: u32, stripe: u16, slot: u8) -> ShardId {
        ShardId { extent: entry(sequence, 1, 0, true).extent.id, stripe, slot }
    }

    #[test]
    fn what_should_be_there_and_is_not_is_missing() {
        let known =
            [entry(1, 5 << 20, 0, true), entry(2, 100, 0, true), entry(3, 100, 0b10_0000, true)];
        let whole = [(shard(1, 0, 5), 1 << 20), (shard(1, 1, 5), 256 << 10), (shard(2, 0, 5), 128)];
        assert_eq!(compare(&known, 5, &whole), Difference::default(), "3 is known to lack it");
        let missing = |found: &[(ShardId, u32)]| compare(&known, 5, found).missing;
        assert_eq!(missing(&whole[1..]), [shard(1, 0, 5)]);
        assert_eq!(missing(&[]), [shard(1, 0, 5), shard(1, 1, 5), shard(2, 0, 5)]);
        // One of another length is none.
        let short = [whole[0], (shard(1, 1, 5), 7), whole[2]];
        assert_eq!(missing(&short), [shard(1, 1, 5)]);
        // A small extent has no shard in slot 1.
        assert_eq!(compare(&known[1..2], 1, &[]), Difference::default());
    }

    #[test]
    fn what_nobody_named_is_a_stranger_and_garbage_is_the_collectors() {
        let known = [entry(1, 100, 0, true), entry(2, 100, 0, false)];
        let found = [
            (shard(1, 0, 0), 100),
            (shard(2, 0, 0), 100),
            (shard(7, 0, 0), 100),
            (shard(7, 1, 0), 100),
            (shard(9, 0, 0), 1),
        ];
        let difference = compare(&known, 0, &found);
        let strangers = [shard(7, 0, 0).extent, shard(9, 0, 0).extent];
        assert_eq!(difference.strangers, BTreeSet::from(strangers));
        assert_eq!((difference.missing.len(), difference.misplaced), (0, 0));
        // Of an owned extent nothing is a stranger, wherever it lies.
        let found = [(shard(1, 0, 0), 100), (shard(1, 0, 4), 128), (shard(1, 9, 0), 1)];
        let difference = compare(&known, 0, &found);
        assert_eq!((difference.strangers.len(), difference.misplaced), (0, 2));
    }
}
