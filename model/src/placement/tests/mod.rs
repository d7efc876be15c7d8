//! Placement at 3 to 10,000 disks, on even and lopsided topologies.

mod chain;
mod change;
mod drain;
mod first;
mod growth;
mod loss;

use std::collections::BTreeMap;

use super::groups::Lot;
use super::targets::{ONE, Rules, Shares};
use super::topology::{Kind, Level, Places, Tree};
use super::{Limits, pgs_to_add, plan_moves, whole_plan};
use crate::cluster_map::{ClusterMap, Disk, DiskState, Pg, Standing};
use crate::coding::Coding;
use crate::ids::{ClusterId, DiskId, DiskUuid, NodeId};

/// Numbers that follow from a seed (xorshift64*).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, end: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) * u64::from(end)) >> 32) as u32
    }
}

fn disk(id: u32, node: u32, rack: u32, zone: u32, weight: u32) -> Disk {
    let mut uuid = [0u8; 16];
    uuid[..4].copy_from_slice(&id.wrapping_mul(0x9e37_79b9).to_le_bytes());
    Disk {
        id: DiskId(id),
        uuid: DiskUuid(uuid),
        node: NodeId(node),
        rack: format!("r{rack}"),
        zone: format!("z{zone}"),
        weight,
        state: DiskState::Up,
        path: String::new(),
        standing: Standing::default(),
    }
}

/// `racks` racks of as many nodes of as many disks, all of one zone and one size.
fn even(racks: u32, nodes: u32, disks: u32) -> Vec<Disk> {
    (0..racks * nodes * disks)
        .map(|at| {
            let node = at / disks;
            disk(at + 1, node + 1, node / nodes, 0, 1000)
        })
        .collect()
}

/// Racks of 1 to 5 nodes of 1 to 6 disks of weights that differ up to tenfold, in up to 3 zones.
fn lopsided(random: &mut Random, least: usize) -> Vec<Disk> {
    let mut disks: Vec<Disk> = Vec::new();
    let zones = 1 + random.below(3);
    let (mut rack, mut node) = (0, 0);
    while disks.len() < least {
        rack += 1;
        for _ in 0..=random.below(5) {
            node += 1;
            let weight = 500 + random.below(1500);
            for _ in 0..=random.below(6) {
                let weight = weight * (1 + random.below(3));
                disks.push(disk(disks.len() as u32 + 1, node, rack, rack % zones, weight));
            }
        }
    }
    disks
}

fn cluster(disks: Vec<Disk>, coding: &str) -> ClusterMap {
    let coding = Coding::parse(coding).expect("valid");
    let mut map = ClusterMap { disks, ..ClusterMap::new(ClusterId::default(), coding) };
    map.pgs = pgs_to_add(&map);
    map
}

/// What each disk should have, in slots, in all.
fn shares(map: &ClusterMap) -> BTreeMap<DiskId, f64> {
    let mut all = BTreeMap::new();
    for shares in shares_by_lot(map).values() {
        for (disk, share) in shares {
            *all.entry(*disk).or_insert(0.0) += share;
        }
    }
    all
}

fn shares_by_lot(map: &ClusterMap) -> BTreeMap<Lot, BTreeMap<DiskId, f64>> {
    let tree = Tree::new(&map.disks, &Places::new(&map.disks), Disk::share);
    let mut sizes: BTreeMap<Lot, u32> = BTreeMap::new();
    for pg in &map.pgs {
        *sizes.entry(Lot::of(pg)).or_default() += 1;
    }
    let mut by_coding: BTreeMap<Coding, Shares> = BTreeMap::new();
    let mut found = BTreeMap::new();
    for (lot, groups) in sizes {
        let filled = by_coding
            .entry(lot.coding)
            .or_insert_with(|| Shares::new(&tree, Rules::new(&tree, lot.coding)));
        let share_of = |at| match tree.kind(at) {
            Kind::Disk(disk) => {
                let share = filled.at(at) as f64 / ONE as f64 * f64::from(groups);
                Some((map.disks[disk as usize].id, share))
            }
            Kind::Bundle | Kind::Domain(_) => None,
        };
        found.insert(lot, (0..tree.len()).filter_map(share_of).collect());
    }
    found
}

fn counts<'a>(pgs: impl Iterator<Item = &'a Pg>) -> BTreeMap<DiskId, f64> {
    let mut counts = BTreeMap::new();
    for id in pgs.flat_map(|pg| &pg.disks) {
        *counts.entry(*id).or_insert(0.0) += 1.0;
    }
    counts
}

/// Every disk is within `part` of its share, or `slots`, whichever is more.
fn check_balance(map: &ClusterMap, part: f64, slots: f64, context: &str) {
    let counts = counts(map.pgs.iter());
    for (disk, share) in shares(map) {
        let count = counts.get(&disk).copied().unwrap_or_default();
        let tolerated = (share * part).max(slots) + 0.001;
        assert!(
            (count - share).abs() <= tolerated,
            "{context}: disk {disk} has {count} slots, its share is {share}"
        );
    }
}

/// No group has a disk twice, and no domain more of a group than the topology makes necessary.
fn check_rules(map: &ClusterMap, context: &str) {
    assert_eq!(broken_rules(map), 0, "{context}");
    let known: BTreeMap<DiskId, &Disk> = map.disks.iter().map(|disk| (disk.id, disk)).collect();
    for pg in &map.pgs {
        assert_eq!(pg.disks.len(), usize::from(pg.coding.width()), "{context}");
        let mut disks = pg.disks.clone();
        disks.sort_unstable();
        disks.dedup();
        assert_eq!(disks.len(), pg.disks.len(), "{context}: group {}", pg.id);
        assert!(disks.iter().all(|id| known.contains_key(id)));
    }
}

/// Slots that more of their groups are in a domain than the rules allow.
fn broken_rules(map: &ClusterMap) -> u32 {
    let places = Places::new(&map.disks);
    let tree = Tree::new(&map.disks, &places, Disk::share);
    let mut by_coding: BTreeMap<Coding, Rules> = BTreeMap::new();
    let mut broken = 0;
    for pg in &map.pgs {
        let rules = *by_coding.entry(pg.coding).or_insert_with(|| Rules::new(&tree, pg.coding));
        for level in Level::ALL {
            let mut counts: BTreeMap<u32, u8> = BTreeMap::new();
            for id in &pg.disks {
                let at = map.disks.binary_search_by_key(id, |disk| disk.id).expect("known");
                if map.disks[at].state != DiskState::Out {
                    *counts.entry(places.domain(at, level)).or_default() += 1;
                }
            }
            let most = rules.most(level);
            broken += counts.values().map(|n| u32::from(n.saturating_sub(most))).sum::<u32>();
        }
    }
    broken
}

/// The least that must move: what the disks lack of their shares now that they didn't before.
fn least_moved(before: &ClusterMap, after: &ClusterMap) -> f64 {
    let old = shares_by_lot(before);
    let mut least = 0.0;
    for (lot, shares) in shares_by_lot(after) {
        for (disk, share) in shares {
            let had = old.get(&lot).and_then(|old| old.get(&disk)).copied().unwrap_or_default();
            least += (share - had).max(0.0);
        }
    }
    least
}
