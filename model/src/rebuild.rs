//! Placement groups, found again by what lies on the disks.
//!
//! In: the disks of the map, and which slots of which groups each of them holds shards of. Out: the
//! groups that the map lacks, and what didn't fit; and of the groups that it has the slots that are on
//! other disks by now, since they moved after the map was written down. Pure. What always holds: the
//! groups follow those of the map without a gap, each has as many slots as its coding is wide, and no
//! disk twice.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use minicbor::{Decode, Encode};

use crate::assignment::assign;
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

/// Shards of one slot of a group that the map has, on one disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotShards {
    /// The slot.
    pub slot: u8,
    /// The disk.
    pub disk: DiskId,
    /// How many of them are of extents that the tables don't know: they are found where the map has
    /// the slot, or not at all.
    pub held: u64,
    /// How many there are, but for those that were written since the tables were put back.
    pub shards: u64,
}

/// A slot that moved after the tables were written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SlotFound {
    /// The group.
    #[n(0)]
    pub pg: PgId,
    /// The slot.
    #[n(1)]
    pub slot: u8,
    /// The disk that has it by the map.
    #[n(2)]
    pub from: DiskId,
    /// The disk that has its shards.
    #[n(3)]
    pub to: DiskId,
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

/// The slots of a group that are on other disks than the map says. When a slot has moved, its new disk
/// has all of its shards, and its old one gets none any more. So the slots are where the most shards
/// are in their place, those first that the tables don't know; and where that says nothing, where the
/// map has them.
pub fn settle_pg(map: &ClusterMap, pg: &Pg, found: &[SlotShards]) -> Vec<SlotFound> {
    let mut disks = pg.disks.clone();
    for shards in found {
        if !disks.contains(&shards.disk) {
            disks.push(shards.disk);
        }
    }
    let is_usable = |id: DiskId| map.disk(id).is_some_and(|disk| disk.state != DiskState::Out);
    let weight = |slot: usize, column: usize| -> i128 {
        let disk = disks[column];
        let is_own = column == slot;
        if !is_own && !is_usable(disk) {
            return -1;
        }
        let here = |shards: &&SlotShards| usize::from(shards.slot) == slot && shards.disk == disk;
        let (held, shards) = found
            .iter()
            .find(here)
            .map_or((0, 0), |shards| (i128::from(shards.held), i128::from(shards.shards)));
        // Sums of shards stay below one held one.
        (held << 72) + shards * 2 + i128::from(is_own)
    };
    let columns = assign(pg.disks.len(), disks.len(), weight);
    let slots = (0u8..).zip(pg.disks.iter().zip(columns));
    let changed = slots.filter(|(slot, (_, column))| usize::from(*slot) != *column);
    let settled: Vec<SlotFound> = changed
        .map(|(slot, (from, column))| SlotFound { pg: pg.id, slot, from: *from, to: disks[column] })
        .collect();
    // What gives a slot to no disk that could have it is no better than the map.
    if settled.iter().all(|slot| is_usable(slot.to)) { settled } else { Vec::new() }
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

    fn shards(slot: u8, disk: u32, held: u64, shards: u64) -> SlotShards {
        SlotShards { slot, disk: DiskId(disk), held, shards }
    }

    /// The disks of a group of 4+2 on disks 1 to 6, of 9, by what is found.
    fn settled(map: &ClusterMap, found: &[SlotShards]) -> Vec<u32> {
        let mut pg = Pg::new(PgId(3), map.coding, (1..=6).map(DiskId).collect());
        for slot in settle_pg(map, &pg, found) {
            let disk = &mut pg.disks[usize::from(slot.slot)];
            assert_eq!((slot.pg, slot.from), (pg.id, *disk));
            *disk = slot.to;
        }
        pg.disks.iter().map(|disk| disk.0).collect()
    }

    #[test]
    fn slots_that_moved_are_where_their_shards_are() {
        let mut map = map(9);
        let check = |map: &ClusterMap, found: &[SlotShards], expected: [u32; 6]| {
            assert_eq!(settled(map, found), expected, "{found:?}");
        };
        let unmoved = [1, 2, 3, 4, 5, 6];
        check(&map, &[], unmoved);
        check(&map, &[shards(0, 1, 0, 5), shards(5, 6, 2, 9)], unmoved);
        // Its left-over shards were deleted, or not; the disk before has no new ones.
        check(&map, &[shards(0, 7, 0, 5)], [7, 2, 3, 4, 5, 6]);
        check(&map, &[shards(0, 1, 0, 5), shards(0, 7, 1, 6)], [7, 2, 3, 4, 5, 6]);
        // Of what was deleted since the disk before may have a lot.
        check(&map, &[shards(0, 1, 0, 500), shards(0, 7, 1, 6)], [7, 2, 3, 4, 5, 6]);
        // A copy that never came to its end, and one that the map's own disk has as well.
        check(&map, &[shards(0, 1, 3, 9), shards(0, 7, 2, 8)], unmoved);
        check(&map, &[shards(0, 1, 3, 9), shards(0, 7, 3, 9)], unmoved);
        // Twice moved.
        let twice = [shards(2, 3, 0, 4), shards(2, 8, 2, 6), shards(2, 9, 5, 9)];
        check(&map, &twice, [1, 2, 9, 4, 5, 6]);
        // A slot went away and another came: what is left of the first is never deleted there.
        let other = [shards(0, 1, 0, 4), shards(0, 7, 2, 6), shards(3, 1, 1, 5)];
        check(&map, &other, [7, 2, 3, 1, 5, 6]);
        // Two disks changed their slots, and what had none takes what is left.
        check(&map, &[shards(3, 1, 0, 5), shards(0, 4, 1, 6)], [4, 2, 3, 1, 5, 6]);
        check(&map, &[shards(3, 1, 0, 5)], [4, 2, 3, 1, 5, 6]);
        // A disk that was given up has nothing.
        map.disk_mut(DiskId(7)).expect("known").state = DiskState::Out;
        check(&map, &[shards(0, 7, 3, 5)], unmoved);
        check(&map, &[shards(0, 77, 3, 5)], unmoved);
    }
}
