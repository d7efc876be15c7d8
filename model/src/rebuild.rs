//! Placement groups, found again by what lies on the disks.
//!
//! In: the disks of the map, and which slots of which groups each of them holds shards of. Out: the
//! groups that the map lacks, and what didn't fit. Pure. What always holds: the groups follow those
//! of the map without a gap, each has as many slots as its coding is wide, and no disk twice.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::cluster_map::{ClusterMap, Disk, DiskState, Pg};
use crate::coding::Coding;
use crate::ids::{DiskId, PgId};
use crate::placement::{Placer, best_coding};

/// Stands for a disk that isn't known: a slot that nothing was found of while every disk has
/// another. Never a disk's number. A group with it takes no new extents.
pub const NO_DISK: DiskId = DiskId(0);

/// Placement groups of a cluster, at most: what claims to be of a greater one is damaged.
pub const PGS_MAX: u32 = 1 << 20;

/// Shards of one slot of a group that a disk holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The group.
    pub pg: PgId,
    /// The slot.
    pub slot: u8,
    /// The disk.
    pub disk: DiskId,
    /// The coding that the shards have.
    pub coding: Coding,
    /// How many there are.
    pub shards: u64,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// The groups that the map lacks, ascending.
    pub pgs: Vec<Pg>,
    /// Shards that lie where no slot of theirs is: they can't be read from there.
    pub misplaced: Vec<Finding>,
}

/// Finds the groups behind those of `map`. Where several disks hold shards of a slot, the one with
/// the most has it. Groups and slots of which nothing was found are placed as new ones: they had no
/// shards, or only such as are lost.
pub fn rebuild_pgs(map: &ClusterMap, findings: &[Finding]) -> Rebuilt {
    let mut rebuilt = Rebuilt::default();
    let first = map.pgs.len() as u32;
    let mut by_pg: BTreeMap<PgId, Vec<Finding>> = BTreeMap::new();
    for finding in findings {
        if finding.pg.0 < first {
            let pg = map.pg(finding.pg);
            let disk = pg.and_then(|pg| pg.disks.get(usize::from(finding.slot)));
            if disk != Some(&finding.disk) {
                rebuilt.misplaced.push(*finding);
            }
        } else if finding.pg.0 < PGS_MAX {
            by_pg.entry(finding.pg).or_default().push(*finding);
        } else {
            rebuilt.misplaced.push(*finding);
        }
    }
    let Some(last) = by_pg.keys().next_back().copied() else { return rebuilt };
    let candidates: Vec<&Disk> =
        map.disks.iter().filter(|disk| disk.state != DiskState::Out).collect();
    let mut placers: BTreeMap<Coding, Option<Placer<'_>>> = BTreeMap::new();
    for number in first..=last.0 {
        let id = PgId(number);
        let mut found = by_pg.remove(&id).unwrap_or_default();
        // The most shards first, so that what is left over is the least.
        found.sort_by_key(|finding| (Reverse(finding.shards), finding.slot, finding.disk));
        let coding = match found.first() {
            Some(most) => most.coding,
            None => best_coding(map.coding, candidates.len()).unwrap_or(map.coding),
        };
        let placer = placers
            .entry(coding)
            .or_insert_with(|| Placer::new(&map.disks, coding, weight_unless_out));
        let placed = placer.as_ref().map_or_else(Vec::new, |placer| placer.place(id));
        let mut disks = rebuilt.settle(coding, found, map);
        fill(&mut disks, &placed, &candidates);
        rebuilt.pgs.push(Pg::new(id, coding, disks));
    }
    rebuilt
}

/// A disk that is to be empty may hold what is found of a group all the same.
fn weight_unless_out(disk: &Disk) -> u32 {
    if disk.state == DiskState::Out { 0 } else { disk.weight.max(1) }
}

impl Rebuilt {
    /// Gives the slots to the disks that hold the most of them.
    fn settle(&mut self, coding: Coding, found: Vec<Finding>, map: &ClusterMap) -> Vec<DiskId> {
        let mut disks = vec![NO_DISK; usize::from(coding.width())];
        for finding in found {
            let is_taken = disks.contains(&finding.disk);
            let fits = finding.coding == coding && map.disk(finding.disk).is_some();
            match disks.get_mut(usize::from(finding.slot)) {
                Some(slot) if fits && !is_taken && *slot == NO_DISK => *slot = finding.disk,
                _ => self.misplaced.push(finding),
            }
        }
        disks
    }
}

/// Gives the slots without a disk one each: where it would be placed anew, else any that is left.
fn fill(disks: &mut [DiskId], placed: &[DiskId], candidates: &[&Disk]) {
    for slot in 0..disks.len() {
        let Some(wanted) = placed.get(slot).filter(|wanted| !disks.contains(wanted)) else {
            continue;
        };
        if disks[slot] == NO_DISK {
            disks[slot] = *wanted;
        }
    }
    for slot in 0..disks.len() {
        let left = candidates.iter().find(|disk| !disks.contains(&disk.id));
        if let (true, Some(left)) = (disks[slot] == NO_DISK, left) {
            disks[slot] = left.id;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster_map::Standing;
    use crate::ids::{ClusterId, DiskUuid, NodeId};
    use crate::placement::pgs_to_add;

    fn map(disks: u32) -> ClusterMap {
        let disk = |id: u32| Disk {
            id: DiskId(id),
            uuid: DiskUuid([id as u8; 16]),
            node: NodeId(id),
            rack: String::new(),
            zone: String::new(),
            weight: 1,
            state: DiskState::Up,
            path: String::new(),
            standing: Standing::default(),
        };
        let coding = Coding::parse("4+2").expect("valid");
        let disks = (1..=disks).map(disk).collect();
        ClusterMap { disks, ..ClusterMap::new(ClusterId::default(), coding) }
    }

    fn findings(pgs: &[Pg], keep: impl Fn(u32, u8) -> bool) -> Vec<Finding> {
        let mut all = Vec::new();
        for pg in pgs {
            for (slot, disk) in (0u8..).zip(&pg.disks).filter(|(slot, _)| keep(pg.id.0, *slot)) {
                all.push(Finding { pg: pg.id, slot, disk: *disk, coding: pg.coding, shards: 9 });
            }
        }
        all
    }

    #[test]
    fn the_groups_are_found_again_even_by_few_shards() {
        let mut known = map(9);
        known.pgs = pgs_to_add(&known);
        let lost = ClusterMap { pgs: Vec::new(), ..known.clone() };
        let whole = rebuild_pgs(&lost, &findings(&known.pgs, |_, _| true));
        assert_eq!((whole.pgs, whole.misplaced), (known.pgs.clone(), Vec::new()));
        // Small extents leave most data slots empty, and some groups have none at all.
        let last = known.pgs.len() as u32 - 1;
        let some = findings(&known.pgs, |pg, slot| pg == last || (pg % 3 > 0 && slot % 4 == 0));
        let partly = rebuild_pgs(&lost, &some);
        assert_eq!((partly.pgs.len(), partly.misplaced.len()), (known.pgs.len(), 0));
        for pg in &partly.pgs {
            let mut disks = pg.disks.clone();
            disks.sort_unstable();
            disks.dedup();
            assert_eq!(disks.len(), 6, "a disk for each slot, also where nothing was found");
        }
        for found in &some {
            assert_eq!(partly.pgs[found.pg.0 as usize].disks[usize::from(found.slot)], found.disk);
        }
        // What the map has already stays.
        let half = ClusterMap { pgs: known.pgs[..40].to_vec(), ..known.clone() };
        let rest = rebuild_pgs(&half, &findings(&known.pgs, |_, _| true));
        assert_eq!((rest.pgs.as_slice(), rest.misplaced.len()), (&known.pgs[40..], 0));
        assert_eq!(rebuild_pgs(&known, &some), Rebuilt::default());
    }

    #[test]
    fn what_contradicts_itself_is_told() {
        let map = map(7);
        let coding = map.coding;
        let at = |slot: u8, disk: u32, shards: u64| Finding {
            pg: PgId(1),
            slot,
            disk: DiskId(disk),
            coding,
            shards,
        };
        let other = Finding { coding: Coding::parse("3+2").expect("valid"), ..at(3, 5, 2) };
        let far = Finding { pg: PgId(u32::MAX), ..at(0, 1, 1) };
        let all = [at(0, 1, 5), at(0, 2, 50), at(1, 2, 4), at(2, 99, 1), at(77, 3, 1), other, far];
        let rebuilt = rebuild_pgs(&map, &all);
        assert_eq!(rebuilt.pgs.len(), 2);
        let pg = &rebuilt.pgs[1];
        assert_eq!((pg.id, pg.disks[0]), (PgId(1), DiskId(2)));
        let mut told = rebuilt.misplaced;
        told.sort_unstable();
        let mut expected = vec![at(0, 1, 5), at(1, 2, 4), at(2, 99, 1), at(77, 3, 1), other, far];
        expected.sort_unstable();
        assert_eq!(told, expected);
        let mut disks = pg.disks.clone();
        disks.sort_unstable();
        disks.dedup();
        assert_eq!(disks.len(), 6);
    }

    #[test]
    fn a_lost_disk_leaves_a_slot_open_when_there_is_no_other() {
        let known = map(6);
        let pgs = pgs_to_add(&known);
        let mut left = map(6);
        left.disks.remove(2);
        let found = findings(&pgs, |_, _| true)
            .into_iter()
            .filter(|finding| finding.disk != DiskId(3))
            .collect::<Vec<_>>();
        let rebuilt = rebuild_pgs(&left, &found);
        assert_eq!(rebuilt.pgs.len(), pgs.len());
        for (before, after) in pgs.iter().zip(&rebuilt.pgs) {
            let expected: Vec<DiskId> = before
                .disks
                .iter()
                .map(|disk| if *disk == DiskId(3) { NO_DISK } else { *disk })
                .collect();
            assert_eq!(after.disks, expected);
            assert!(!left.is_open(after));
        }
    }
}
