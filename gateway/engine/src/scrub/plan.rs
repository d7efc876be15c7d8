//! Which disk is to verify what: a page of extents becomes a lane of batches for each disk. Pure.

use std::collections::BTreeMap;

use model::cluster_map::{ClusterMap, DiskState};
use model::extent::Extent;
use model::ids::{DiskId, ShardId};
use model::shard::ShardState;

use crate::repair::stripes_with;

/// Bytes of shards that one request has verified at most, so that it ends well within its deadline
/// on a slow disk; a single extent may have more.
const BATCH_BYTES_MAX: u64 = 32 << 20;

/// Extents in one request.
const BATCH_EXTENTS_MAX: usize = 256;

/// What one request asks a disk to verify.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Batch {
    /// Positions in the page, each with the slot that the disk keeps.
    pub(super) slots: Vec<(usize, u8)>,
    /// Bytes of the shards.
    pub(super) bytes: u64,
}

/// The work that a page of extents gives.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ScrubPlan {
    /// What each disk is asked, in order.
    pub(super) lanes: BTreeMap<DiskId, Vec<Batch>>,
    /// Shards on disks that can't be asked.
    pub(super) unreached: u64,
}

impl ScrubPlan {
    pub(super) fn new(map: &ClusterMap, page: &[Extent]) -> Self {
        let mut plan = Self::default();
        for (at, extent) in page.iter().enumerate() {
            for slot in 0..extent.coding.width() {
                let (shards, bytes) = share(extent, slot);
                if shards == 0 {
                    continue;
                }
                let disk = map
                    .disk_of(extent.id, slot)
                    .filter(|disk| matches!(disk.state, DiskState::Up | DiskState::Full));
                match disk {
                    Some(disk) => plan.put(disk.id, at, slot, bytes),
                    None => plan.unreached += shards,
                }
            }
        }
        plan
    }

    fn put(&mut self, disk: DiskId, at: usize, slot: u8, bytes: u64) {
        let lane = self.lanes.entry(disk).or_default();
        let has_room = |batch: &Batch| {
            batch.slots.len() < BATCH_EXTENTS_MAX && batch.bytes + bytes <= BATCH_BYTES_MAX
        };
        if !lane.last().is_some_and(has_room) {
            lane.push(Batch::default());
        }
        if let Some(batch) = lane.last_mut() {
            batch.slots.push((at, slot));
            batch.bytes += bytes;
        }
    }
}

/// Shards that an extent has in `slot`, and their bytes.
pub(super) fn share(extent: &Extent, slot: u8) -> (u64, u64) {
    let stored = |stripe: u16| {
        extent.stripe_geometry(stripe).map_or(0, |geometry| u64::from(geometry.stored_bytes(slot)))
    };
    stripes_with(extent, slot)
        .fold((0, 0), |(shards, bytes), stripe| (shards + 1, bytes + stored(stripe)))
}

/// Shards of one slot of an extent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) sound: u64,
    pub(super) damaged: u64,
    pub(super) missing: u64,
}

/// Compares what a disk should have in a slot with what it verified.
pub(super) fn tally(extent: &Extent, slot: u8, verified: &BTreeMap<ShardId, ShardState>) -> Tally {
    let mut tally = Tally::default();
    for stripe in stripes_with(extent, slot) {
        match verified.get(&ShardId { extent: extent.id, stripe, slot }) {
            Some(ShardState::Sound) => tally.sound += 1,
            Some(ShardState::Damaged) => tally.damaged += 1,
            None => tally.missing += 1,
        }
    }
    tally
}

#[cfg(test)]
mod tests {
    use model::coding::Coding;
    use model::extent::SlotSet;
    use model::ids::ExtentId;

    use super::*;
    use crate::three_disks::in_order;

    fn extent(sequence: u32, length: u64) -> Extent {
        let id = ExtentId { sequence, ..ExtentId::default() };
        let coding = Coding::parse("2+1").expect("valid");
        Extent { id, coding, length, missing: SlotSet::default(), epoch: 0 }
    }

    #[test]
    fn batches_are_bounded_and_leave_nothing_out() {
        let up = in_order([DiskState::Up; 3]);
        // 64 KiB each: shards of 32 KiB.
        let page: Vec<Extent> = (0..300).map(|sequence| extent(sequence, 64 << 10)).collect();
        let plan = ScrubPlan::new(&up, &page);
        assert_eq!((plan.lanes.len(), plan.unreached), (3, 0));
        for lane in plan.lanes.values() {
            let sizes: Vec<usize> = lane.iter().map(|batch| batch.slots.len()).collect();
            assert_eq!(sizes, [256, 44]);
        }
        // 48 MiB each: shards of 24 MiB, one in a batch.
        let page: Vec<Extent> = (0..3).map(|sequence| extent(sequence, 48 << 20)).collect();
        for lane in ScrubPlan::new(&up, &page).lanes.values() {
            assert_eq!(lane.iter().map(|batch| batch.bytes).collect::<Vec<_>>(), [24 << 20; 3]);
        }
    }

    #[test]
    fn disks_that_are_away_are_counted_and_slots_without_shards_are_not() {
        let one_down = in_order([DiskState::Up, DiskState::Full, DiskState::Down]);
        let plan = ScrubPlan::new(&one_down, &[extent(1, 100), extent(2, 9 << 20)]);
        // The small extent has no shard in slot 1; the large one has three stripes.
        let lane = |disk| plan.lanes[&DiskId(disk)][0].slots.clone();
        assert_eq!((lane(0), lane(1)), (vec![(0, 0), (1, 0)], vec![(1, 1)]));
        assert_eq!(plan.unreached, 1 + 3);
    }

    #[test]
    fn what_a_disk_does_not_mention_is_missing() {
        let extent = extent(1, 9 << 20);
        let id = |stripe| ShardId { extent: extent.id, stripe, slot: 2 };
        let verified = BTreeMap::from([(id(0), ShardState::Sound), (id(2), ShardState::Damaged)]);
        assert_eq!(tally(&extent, 2, &verified), Tally { sound: 1, damaged: 1, missing: 1 });
        assert_eq!(tally(&extent, 0, &verified).missing, 3);
    }
}
