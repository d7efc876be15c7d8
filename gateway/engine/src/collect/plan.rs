//! Which disks must delete what, and which extents are done with. Pure.

use std::collections::{BTreeMap, BTreeSet};

use model::cluster_map::{ClusterMap, DiskState};
use model::command::GarbageKey;
use model::ids::{DiskId, ExtentId};
use model::query::GarbageItem;

/// The work that follows from a page of garbage.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct CollectPlan {
    /// What each disk is to delete.
    pub(super) deletes: BTreeMap<DiskId, Vec<ExtentId>>,
    /// Extents with the disks that must have confirmed before they are forgotten.
    waiting: Vec<(GarbageKey, BTreeSet<DiskId>)>,
}

impl CollectPlan {
    /// Plans a page. Disks that are out hold nothing that counts. An extent with a disk that is
    /// down waits until it is back or out, without a request to the others.
    pub(super) fn new(map: &ClusterMap, items: &[GarbageItem]) -> Self {
        let mut plan = Self::default();
        for item in items {
            let Some(disks) = disks_to_ask(map, item.key.extent) else { continue };
            for disk in &disks {
                plan.deletes.entry(*disk).or_default().push(item.key.extent);
            }
            plan.waiting.push((item.key, disks));
        }
        plan
    }

    /// The extents that all their disks have confirmed.
    pub(super) fn collected(&self, confirmed: &BTreeSet<(DiskId, ExtentId)>) -> Vec<GarbageKey> {
        self.waiting
            .iter()
            .filter(|(key, disks)| {
                disks.iter().all(|disk| confirmed.contains(&(*disk, key.extent)))
            })
            .map(|(key, _)| *key)
            .collect()
    }
}

/// `None` when the extent can't be collected now.
fn disks_to_ask(map: &ClusterMap, extent: ExtentId) -> Option<BTreeSet<DiskId>> {
    let mut disks = BTreeSet::new();
    let pg = map.pg(extent.pg)?;
    // A disk that a slot moves to may have it, too. While it is down nobody waits for it: the move is
    // given up, and what was left over is deleted later.
    let is_up = |id: &DiskId| map.disk(*id).is_some_and(|disk| disk.state == DiskState::Up);
    disks.extend(pg.moves.iter().map(|under_way| under_way.to).filter(is_up));
    for id in &pg.disks {
        match map.disk(*id)?.state {
            DiskState::Up | DiskState::Full => {
                disks.insert(*id);
            }
            DiskState::Down => return None,
            DiskState::Out => {}
        }
    }
    Some(disks)
}

#[cfg(test)]
mod tests {
    use model::coding::Coding;
    use model::ids::{PgId, SessionId};
    use model::time::Timestamp;

    use super::*;
    use crate::three_disks::in_order;

    fn item(pg: u32, sequence: u32) -> GarbageItem {
        let extent = ExtentId { pg: PgId(pg), session: SessionId(1), sequence };
        let coding = Coding::parse("2+1").expect("valid");
        GarbageItem { key: GarbageKey { since: Timestamp(1), extent }, coding, length: 5 }
    }

    #[test]
    fn an_extent_is_forgotten_when_all_its_disks_confirmed() {
        let plan = CollectPlan::new(&in_order([DiskState::Up; 3]), &[item(0, 1), item(0, 2)]);
        assert_eq!(plan.deletes.len(), 3);
        let extent = |sequence| item(0, sequence).key.extent;
        let mut confirmed: BTreeSet<_> = (0..3).map(|disk| (DiskId(disk), extent(1))).collect();
        confirmed.insert((DiskId(0), extent(2)));
        assert_eq!(plan.collected(&confirmed), [item(0, 1).key]);
    }

    #[test]
    fn a_disk_that_is_out_is_not_asked_and_one_that_is_down_is_waited_for() {
        let out = in_order([DiskState::Up, DiskState::Out, DiskState::Full]);
        let plan = CollectPlan::new(&out, &[item(0, 1)]);
        assert_eq!(plan.deletes.keys().copied().collect::<Vec<_>>(), [DiskId(0), DiskId(2)]);
        let down = in_order([DiskState::Up, DiskState::Down, DiskState::Up]);
        assert_eq!(CollectPlan::new(&down, &[item(0, 1)]), CollectPlan::default());
        // A PG that this map doesn't know yet.
        assert_eq!(CollectPlan::new(&out, &[item(7, 1)]), CollectPlan::default());
    }
}
