//! What an extent of the repair queue needs, and which disks are to get it. Pure.
//!
//! A lacking shard goes back to the disk of its slot. Giving the slot to another disk is a change
//! of the cluster map, after which this plan names that disk.

use model::cluster_map::{ClusterMap, DiskState};
use model::extent::Extent;
use model::ids::DiskId;
use model::upkeep::RepairItem;

/// A slot that lacks shards, and the disk that is to have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) slot: u8,
    pub(super) disk: DiskId,
}

/// How to repair an extent, as far as that is possible now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RepairPlan {
    /// The extent; `missing` are all slots that lack shards.
    pub(super) extent: Extent,
    /// The slots that can be repaired now; not empty.
    pub(super) targets: Vec<Target>,
    /// One more loss would be one too many: bandwidth isn't limited.
    pub(super) is_urgent: bool,
}

impl RepairPlan {
    /// `None` when no disk of a lacking slot takes shards now, or the map doesn't know the PG.
    pub(super) fn new(map: &ClusterMap, item: &RepairItem) -> Option<Self> {
        let targets: Vec<Target> = item
            .extent
            .missing
            .iter()
            .filter_map(|slot| {
                // A slot that moves gets its shards on its new disk, from whoever moves it.
                let is_moving =
                    map.pg(item.extent.id.pg).is_some_and(|pg| pg.move_of(slot).is_some());
                let disk = map.disk_of(item.extent.id, slot).filter(|_| !is_moving)?;
                (disk.state == DiskState::Up).then_some(Target { slot, disk: disk.id })
            })
            .collect();
        let is_urgent = item.spare <= 0;
        (!targets.is_empty()).then(|| Self { extent: item.extent.clone(), targets, is_urgent })
    }
}

/// The stripes of an extent that have a shard in `slot`.
pub(crate) fn stripes_with(extent: &Extent, slot: u8) -> impl Iterator<Item = u16> + '_ {
    (0..extent.stripe_count()).filter(move |stripe| {
        extent.stripe_geometry(*stripe).is_some_and(|geometry| geometry.uses_slot(slot))
    })
}

#[cfg(test)]
mod tests {
    use model::coding::Coding;
    use model::extent::SlotSet;
    use model::ids::ExtentId;

    use super::*;
    use crate::three_disks::in_reverse;

    fn item(missing: u32, spare: i16) -> RepairItem {
        let coding = Coding::parse("2+1").expect("valid");
        let id = ExtentId::default();
        RepairItem {
            extent: Extent { id, coding, length: 5, missing: SlotSet(missing), epoch: 0 },
            spare,
        }
    }

    #[test]
    fn shards_go_back_to_the_disks_of_their_slots() {
        use DiskState::{Down, Full, Out, Up};
        let targets = |states, missing| {
            RepairPlan::new(&in_reverse(states), &item(missing, 1)).map(|plan| {
                plan.targets.iter().map(|target| (target.slot, target.disk.0)).collect::<Vec<_>>()
            })
        };
        assert_eq!(targets([Up; 3], 0b101), Some(vec![(0, 2), (2, 0)]));
        assert_eq!(targets([Down, Up, Up], 0b101), Some(vec![(0, 2)]));
        assert_eq!(targets([Up, Up, Full], 0b001), None);
        assert_eq!(targets([Up, Up, Out], 0b001), None);
        // A slot that the PG doesn't have.
        assert_eq!(targets([Up; 3], 0b1000), None);
        let urgent =
            |spare| RepairPlan::new(&in_reverse([Up; 3]), &item(1, spare)).map(|p| p.is_urgent);
        assert_eq!((urgent(1), urgent(0), urgent(-1)), (Some(false), Some(true), Some(true)));
    }

    #[test]
    fn a_short_last_stripe_leaves_slots_out() {
        let coding = Coding::parse("4+2").expect("valid");
        let id = ExtentId::default();
        let extent =
            Extent { id, coding, length: (8 << 20) + 100, missing: SlotSet::default(), epoch: 0 };
        let stripes = |slot| stripes_with(&extent, slot).collect::<Vec<_>>();
        assert_eq!(stripes(0), [0, 1, 2]);
        assert_eq!(stripes(3), [0, 1]);
        assert_eq!(stripes(5), [0, 1, 2]);
    }
}
