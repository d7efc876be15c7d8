//! Over how many groups of disks placement spreads the stripes, and how many shards of a stripe
//! share a node or a rack.
//!
//! A cluster loses something when any one of its groups does. Groups over the same disks share
//! their fate and count once: six disks with 4+2 are one group, however many PGs there are.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster_map::{ClusterMap, Disk, DiskState, Standing};
use crate::coding::Coding;
use crate::ids::{ClusterId, DiskId, DiskUuid, NodeId};
use crate::placement::Placer;

use super::degraded::choose;

/// PG slots that each disk gets (design §7), for clusters which are only thought of.
const SLOTS_PER_DISK: u64 = 100;

/// PGs that are placed at most: a larger cluster is told by as many of its groups.
const PLACED_MAX: u64 = 4096;

/// Disks, nodes and racks of a cluster that is only thought of: disks of one size, dealt out to
/// the nodes in turn, and nodes to the racks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Disks in all.
    pub disks: u32,
    /// Nodes, at least one and no more than disks.
    pub nodes: u32,
    /// Racks, at least one and no more than nodes.
    pub racks: u32,
}

impl Topology {
    /// A cluster map with these disks, all up, and no PG yet.
    pub fn map(&self, coding: Coding) -> ClusterMap {
        let disks = (0..self.disks).map(|number| {
            let node = number % self.nodes.max(1);
            let mut uuid = [0; 16];
            uuid[..4].copy_from_slice(&number.to_le_bytes());
            Disk {
                id: DiskId(number + 1),
                uuid: DiskUuid(uuid),
                node: NodeId(node + 1),
                rack: format!("rack {}", node % self.racks.max(1) + 1),
                zone: String::new(),
                weight: 1024,
                state: DiskState::Up,
                path: String::new(),
                standing: Standing::default(),
            }
        });
        ClusterMap { disks: disks.collect(), ..ClusterMap::new(ClusterId::default(), coding) }
    }

    /// A cluster map with the PGs that placement gives it, the first 4096 of them at most; none
    /// where there are fewer disks than the coding has shards.
    pub fn placed(&self, coding: Coding) -> ClusterMap {
        let mut map = self.map(coding);
        let pgs = self.pgs(coding).min(PLACED_MAX) as u32;
        if let Some(placer) = Placer::new(&map.disks, coding, Disk::share) {
            map.pgs = placer.table(0..pgs);
        }
        map
    }

    /// PGs that the cluster gets.
    fn pgs(&self, coding: Coding) -> u64 {
        (u64::from(self.disks) * SLOTS_PER_DISK).div_ceil(u64::from(coding.width()))
    }
}

/// How the stripes of a coding lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// Groups of different disks; what is lost with one is not lost with another.
    pub groups: u64,
    /// The most shards of one stripe that a node keeps.
    pub shards_per_node: u8,
    /// The most shards of one stripe that a rack keeps.
    pub shards_per_rack: u8,
}

impl Spread {
    /// How placement spreads `coding` over a cluster that is thought of.
    pub fn of_topology(topology: Topology, coding: Coding) -> Self {
        let map = topology.placed(coding);
        let (placed, pgs) = (map.pgs.len() as u64, topology.pgs(coding));
        let found = Self::of_map(&map, coding);
        if placed == 0 || placed == pgs {
            return found;
        }
        // Those that weren't placed may be over the same disks: at most every PG is a group of its
        // own, and there are no more groups than ways to choose the disks.
        let ways = choose(topology.disks, u32::from(coding.width()));
        Self { groups: (pgs as f64).min(ways.round()) as u64, ..found }
    }

    /// How the PGs of `coding` in this map lie.
    pub fn of_map(map: &ClusterMap, coding: Coding) -> Self {
        let mut groups = BTreeSet::new();
        let (mut shards_per_node, mut shards_per_rack) = (0, 0);
        for pg in map.pgs.iter().filter(|pg| pg.coding == coding) {
            let group = sorted(&pg.disks);
            if groups.contains(&group) {
                continue;
            }
            let disks: Vec<&Disk> = group.iter().filter_map(|id| map.disk(*id)).collect();
            shards_per_node = most(disks.iter().map(|disk| disk.node)).max(shards_per_node);
            shards_per_rack =
                most(disks.iter().map(|disk| (&disk.zone, &disk.rack))).max(shards_per_rack);
            groups.insert(group);
        }
        Self { groups: groups.len() as u64, shards_per_node, shards_per_rack }
    }
}

/// The groups of different disks among the PGs of `coding`, each by the places of its disks in
/// `map.disks`.
pub fn groups_of(map: &ClusterMap, coding: Coding) -> Vec<Vec<usize>> {
    let groups: BTreeSet<Vec<DiskId>> =
        map.pgs.iter().filter(|pg| pg.coding == coding).map(|pg| sorted(&pg.disks)).collect();
    let place = |id: &DiskId| map.disks.binary_search_by_key(id, |disk| disk.id).ok();
    groups.iter().map(|group| group.iter().filter_map(place).collect()).collect()
}

fn sorted(disks: &[DiskId]) -> Vec<DiskId> {
    let mut disks = disks.to_vec();
    disks.sort_unstable();
    disks
}

/// How often the most frequent of `domains` occurs.
fn most<D: Ord>(domains: impl Iterator<Item = D>) -> u8 {
    let mut counts: BTreeMap<D, u8> = BTreeMap::new();
    for domain in domains {
        *counts.entry(domain).or_default() += 1;
    }
    counts.into_values().max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(disks: u32, nodes: u32, racks: u32, coding: &str) -> Spread {
        let coding = Coding::parse(coding).expect("valid");
        Spread::of_topology(Topology { disks, nodes, racks }, coding)
    }

    #[test]
    fn six_disks_of_4_2_are_one_group() {
        let found = spread(6, 3, 3, "4+2");
        assert_eq!(found, Spread { groups: 1, shards_per_node: 2, shards_per_rack: 2 });
    }

    #[test]
    fn racks_share_the_shards_as_published() {
        for (coding, racks, most) in [
            ("8+4", 3, 4),
            ("8+4", 4, 3),
            ("8+4", 6, 2),
            ("6+3", 3, 3),
            ("6+3", 5, 2),
            ("4+2", 3, 2),
        ] {
            let found = spread(60, 60, racks, coding);
            assert_eq!(found.shards_per_rack, most, "{coding} over {racks} racks");
            assert_eq!(found.shards_per_node, 1);
        }
    }

    #[test]
    fn many_disks_make_about_a_group_a_pg() {
        let found = spread(40, 40, 1, "4+2");
        assert!((640..=667).contains(&found.groups), "{}", found.groups);
        let few = spread(7, 7, 1, "4+2");
        assert_eq!(few.groups, 7);
    }

    #[test]
    fn a_large_cluster_is_sampled() {
        let found = spread(10_000, 1000, 20, "8+4");
        assert_eq!(found.groups, 83_334);
        assert_eq!((found.shards_per_node, found.shards_per_rack), (1, 1));
    }
}
