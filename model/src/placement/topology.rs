//! The topology as a tree: zones of racks of nodes of disks.
//!
//! In: disks with their labels and shares. Out: which zone, rack and node a disk is in, as small
//! numbers ([`Places`]), and the tree of the disks that are to hold data ([`Tree`]). What always
//! holds: both depend on what the disks are and not on their order; a parent comes before its
//! children, and the children of one parent follow each other; no parent has more than
//! [`FANOUT_MAX`], so that a descent costs the depth and not the number of disks.

use std::collections::BTreeMap;
use std::ops::Range;

use twox_hash::XxHash3_64;

use crate::cluster_map::Disk;
use crate::ids::NodeId;

/// Children of a parent; more are gathered under parents of their own, which stand for nothing in
/// the world.
pub(super) const FANOUT_MAX: usize = 16;

/// The domains that a disk is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// A site, or what else fails at once.
    Zone,
    /// A rack.
    Rack,
    /// A storage node.
    Node,
}

impl Level {
    /// All of them, widest first.
    pub const ALL: [Self; 3] = [Self::Zone, Self::Rack, Self::Node];

    /// One of it, and several.
    pub const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Zone => ("zone", "zones"),
            Self::Rack => ("rack", "racks"),
            Self::Node => ("node", "nodes"),
        }
    }
}

/// Which domains the disks are in.
pub(super) struct Places {
    /// Zone, rack and node of each disk, in the order of the disks.
    of: Vec<[u32; 3]>,
    /// What the domains of each level are called.
    names: [Vec<String>; 3],
}

impl Places {
    /// A node is in one rack, and a rack in one zone: where the labels of a node's disks differ
    /// those of its lowest disk count. Racks of the same name in two zones are two racks.
    pub(super) fn new(disks: &[Disk]) -> Self {
        let mut nodes: BTreeMap<NodeId, &Disk> = BTreeMap::new();
        for disk in disks {
            let lowest = nodes.entry(disk.node).or_insert(disk);
            if disk.id < lowest.id {
                *lowest = disk;
            }
        }
        let mut zones: BTreeMap<&str, u32> = BTreeMap::new();
        let mut racks: BTreeMap<(&str, &str), u32> = BTreeMap::new();
        for disk in nodes.values() {
            zones.insert(&disk.zone, 0);
            racks.insert((&disk.zone, &disk.rack), 0);
        }
        (0..).zip(zones.values_mut()).for_each(|(number, zone)| *zone = number);
        (0..).zip(racks.values_mut()).for_each(|(number, rack)| *rack = number);
        let number = |disk: &Disk| {
            let zone = zones.get(disk.zone.as_str()).copied().unwrap_or_default();
            let key = (disk.zone.as_str(), disk.rack.as_str());
            [zone, racks.get(&key).copied().unwrap_or_default()]
        };
        let numbers: BTreeMap<NodeId, [u32; 3]> = (0..)
            .zip(&nodes)
            .map(|(node, (id, lowest))| {
                let [zone, rack] = number(lowest);
                (*id, [zone, rack, node])
            })
            .collect();
        let of = disks.iter().filter_map(|disk| numbers.get(&disk.node).copied()).collect();
        let names = [
            zones.keys().map(ToString::to_string).collect(),
            racks.keys().map(|(_, rack)| (*rack).to_owned()).collect(),
            nodes.keys().map(ToString::to_string).collect(),
        ];
        Self { of, names }
    }

    /// The zone, rack and node of a disk.
    pub(super) fn of(&self, disk: usize) -> [u32; 3] {
        self.of[disk]
    }

    /// The domain of a level that a disk is in.
    pub(super) fn domain(&self, disk: usize, level: Level) -> u32 {
        self.of[disk][level as usize]
    }

    /// What a domain is called.
    pub(super) fn name(&self, level: Level, domain: u32) -> &str {
        self.names[level as usize].get(domain as usize).map_or("", String::as_str)
    }

    /// How many domains of a level there are.
    pub(super) fn count(&self, level: Level) -> usize {
        self.names[level as usize].len()
    }
}

/// What a place in the tree stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Some children of a parent that has too many; and the root.
    Bundle,
    /// A zone, rack or node.
    Domain(Level),
    /// The disk with this place in the list of disks.
    Disk(u32),
}

/// The disks that are to hold data.
pub(super) struct Tree {
    kinds: Vec<Kind>,
    parents: Vec<u32>,
    children: Vec<Range<usize>>,
    weights: Vec<u32>,
    disks: usize,
}

impl Tree {
    /// The root.
    pub(super) const ROOT: usize = 0;

    /// Of `disks` those whose share isn't 0.
    pub(super) fn new(disks: &[Disk], places: &Places, share: impl Fn(&Disk) -> u32) -> Self {
        let shares: Vec<u32> = disks.iter().map(share).collect();
        let mut order: Vec<usize> = (0..disks.len()).filter(|disk| shares[*disk] > 0).collect();
        order.sort_by_cached_key(|disk| (places.of(*disk), rank(&disks[*disk])));
        let mut tree = Self {
            kinds: vec![Kind::Bundle],
            parents: vec![0],
            children: Vec::from([Range::default()]),
            weights: vec![0],
            disks: order.len(),
        };
        // Parents to which their children are yet to be given, with what is to be below them.
        let mut open = vec![(Self::ROOT, Some(Level::Zone), split(&order, places, 0))];
        let mut next = 0;
        while next < open.len() {
            let (parent, level, parts) = std::mem::take(&mut open[next]);
            next += 1;
            let first = tree.kinds.len();
            if parts.len() > FANOUT_MAX {
                let bundles = parts.len().div_ceil(FANOUT_MAX).min(FANOUT_MAX);
                for bundle in 0..bundles {
                    let ends = [bundle, bundle + 1].map(|end| end * parts.len() / bundles);
                    let child = tree.add(parent, Kind::Bundle, 0);
                    open.push((child, level, parts[ends[0]..ends[1]].to_vec()));
                }
            } else {
                for part in parts {
                    match level {
                        Some(level) => {
                            let child = tree.add(parent, Kind::Domain(level), 0);
                            let below = Level::ALL.into_iter().find(|other| *other > level);
                            let depth = level as usize + 1;
                            open.push((child, below, split(part, places, depth)));
                        }
                        None => {
                            for disk in part {
                                tree.add(parent, Kind::Disk(*disk as u32), shares[*disk]);
                            }
                        }
                    }
                }
            }
            tree.children[parent] = first..tree.kinds.len();
        }
        tree
    }

    fn add(&mut self, parent: usize, kind: Kind, weight: u32) -> usize {
        self.kinds.push(kind);
        self.parents.push(parent as u32);
        self.children.push(Range::default());
        self.weights.push(weight);
        self.kinds.len() - 1
    }

    /// All places.
    pub(super) fn len(&self) -> usize {
        self.kinds.len()
    }

    /// How many of them are disks.
    pub(super) fn disks(&self) -> usize {
        self.disks
    }

    /// What a place stands for.
    pub(super) fn kind(&self, at: usize) -> Kind {
        self.kinds[at]
    }

    /// The share of a disk.
    pub(super) fn weight(&self, at: usize) -> u32 {
        self.weights[at]
    }

    /// The place above; the root is above itself.
    pub(super) fn parent(&self, at: usize) -> usize {
        self.parents[at] as usize
    }

    /// The places below.
    pub(super) fn children(&self, at: usize) -> Range<usize> {
        self.children[at].clone()
    }
}

/// Cuts disks that are in order into runs of the same domain at a depth: zone, rack, node, disk.
fn split<'a>(order: &'a [usize], places: &Places, depth: usize) -> Vec<&'a [usize]> {
    let is_same = |one: &usize, other: &usize| {
        depth < Level::ALL.len() && places.of(*one)[depth] == places.of(*other)[depth]
    };
    order.chunk_by(is_same).collect()
}

/// Where a disk comes among its equals: an order that nothing else follows, so that neighbours in
/// it aren't neighbours in a rack.
pub(super) fn rank(disk: &Disk) -> (u64, u32) {
    (XxHash3_64::oneshot(&disk.uuid.0), disk.id.0)
}
