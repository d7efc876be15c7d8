//! What may be lost before data is.
//!
//! In: the cluster map, which disks can be read, and where the metadata's voters are. Out: how many of
//! any disks, nodes, racks and zones may be lost while every group can still be read, or written as an
//! acknowledged stripe has to be (I-1), and why not one more. What is down or given up counts as lost
//! already. Exact: a loss of `f` domains hurts when some group has more in its `f` greatest domains
//! than it has to spare.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

use super::topology::{Level, Places};
use crate::cluster_map::{ClusterMap, Disk, DiskState, Pg};
use crate::ids::NodeId;

/// What may be lost. `Display` says it in a sentence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tolerance {
    /// While every group can be read; by unit, disks first. Nodes, racks and zones are left out where
    /// there is but one, and all are when there are no groups.
    pub reading: Vec<Reach>,
    /// While every group has as many shards as an acknowledged stripe needs.
    pub writing: Vec<Reach>,
}

/// What is lost at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// A disk, or of the metadata one replica.
    Single,
    /// All disks of a node, a rack or a zone.
    Domain(Level),
}

/// How many of a unit may be lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The unit.
    pub unit: Unit,
    /// Any so many of them; `None` when too much is lost already.
    pub survives: Option<u32>,
    /// Why not one more; of those that would do harm the one that would do the most.
    pub limit: Limit,
}

/// Domains that can't all be lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What they are called.
    pub domains: Vec<String>,
    /// Shards that they have together, of a group that would suffer.
    pub shards: u32,
    /// Shards of that group that are lost already.
    pub lost: u32,
    /// Shards of that group.
    pub width: u32,
    /// Groups that would suffer.
    pub pgs: usize,
}

/// A voter of the metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voter {
    /// The node that keeps it.
    pub node: NodeId,
    /// Whether it answers, and may vote.
    pub is_well: bool,
}

/// What of the metadata may be lost while a majority of the voters is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataReach {
    /// The unit.
    pub unit: Unit,
    /// Any so many of them; `None` when there is no majority.
    pub survives: Option<u32>,
}

impl Tolerance {
    /// Of a cluster whose disks can be read when they are up or full.
    pub fn new(map: &ClusterMap) -> Self {
        Self::with(map, |disk| match disk.state {
            DiskState::Up | DiskState::Full => true,
            DiskState::Down | DiskState::Out => false,
        })
    }

    /// Of a cluster whose disks can be read as `is_readable` says.
    pub fn with(map: &ClusterMap, is_readable: impl Fn(&Disk) -> bool) -> Self {
        if map.pgs.is_empty() {
            return Self::default();
        }
        let places = Places::new(&map.disks);
        let mut reading = Vec::new();
        let mut writing = Vec::new();
        let levels = [Level::Node, Level::Rack, Level::Zone];
        let units = [Unit::Single].into_iter().chain(levels.map(Unit::Domain));
        for unit in units.filter(|unit| unit.is_told(&places)) {
            let domain = |at: usize| match unit {
                Unit::Single => at as u32,
                Unit::Domain(level) => places.domain(at, level),
            };
            let groups: Vec<Group> =
                map.pgs.iter().map(|pg| Group::new(pg, map, domain, &is_readable)).collect();
            let name = |domain: u32| unit.name(domain, map, &places);
            let read = |pg: &Pg| u32::from(pg.coding.data());
            let write = |pg: &Pg| u32::from(pg.coding.write_quorum(pg.coding.data()));
            reading.push(reach(unit, map, &groups, read, name));
            writing.push(reach(unit, map, &groups, write, name));
        }
        Self { reading, writing }
    }

    /// How many of any disks, nodes, racks or zones may be lost; `None` where there is but one of
    /// them, or there are no groups, or too much is lost already.
    pub fn survives(&self, unit: Unit) -> Option<u32> {
        self.reading.iter().find(|reach| reach.unit == unit)?.survives
    }
}

impl Unit {
    /// One of it, and several.
    pub const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Single => ("disk", "disks"),
            Self::Domain(level) => level.words(),
        }
    }

    /// The loss of the only node, rack or zone is the loss of all.
    fn is_told(self, places: &Places) -> bool {
        match self {
            Self::Single => true,
            Self::Domain(level) => places.count(level) > 1,
        }
    }

    fn name(self, domain: u32, map: &ClusterMap, places: &Places) -> String {
        let name = match self {
            Self::Single => map.disks.get(domain as usize).map(|disk| disk.id.to_string()),
            Self::Domain(level) => Some(places.name(level, domain).to_owned()),
        };
        match name {
            Some(name) if !name.is_empty() => name,
            Some(_) | None => "(unnamed)".to_owned(),
        }
    }
}

/// The readable shards of a group, by domain, the most first.
struct Group {
    counts: Vec<(u32, u32)>,
    readable: u32,
}

impl Group {
    fn new(
        pg: &Pg,
        map: &ClusterMap,
        domain: impl Fn(usize) -> u32,
        is_readable: impl Fn(&Disk) -> bool,
    ) -> Self {
        let mut counts: Vec<(u32, u32)> = Vec::with_capacity(pg.disks.len());
        let mut readable = 0;
        for id in &pg.disks {
            let Ok(at) = map.disks.binary_search_by_key(id, |disk| disk.id) else { continue };
            if !is_readable(&map.disks[at]) {
                continue;
            }
            readable += 1;
            let domain = domain(at);
            match counts.iter_mut().find(|(known, _)| *known == domain) {
                Some((_, count)) => *count += 1,
                None => counts.push((domain, 1)),
            }
        }
        counts.sort_unstable_by_key(|(domain, count)| (Reverse(*count), *domain));
        Self { counts, readable }
    }

    /// Shards in so many of its greatest domains.
    fn greatest(&self, domains: u32) -> u32 {
        self.counts.iter().take(domains as usize).map(|(_, count)| count).sum()
    }

    /// How many of any domains it can lose and keep `needed` shards.
    fn survives(&self, needed: u32) -> Option<u32> {
        let spare = self.readable.checked_sub(needed)?;
        let most = self.counts.len() as u32;
        (0..=most).take_while(|lost| self.greatest(*lost) <= spare).last()
    }
}

fn reach(
    unit: Unit,
    map: &ClusterMap,
    groups: &[Group],
    needed: impl Fn(&Pg) -> u32,
    name: impl Fn(u32) -> String,
) -> Reach {
    let all = || map.pgs.iter().zip(groups);
    let survives = all().map(|(pg, group)| group.survives(needed(pg))).min().flatten();
    // One more than that hurts some groups: which domains would hurt the most of them?
    let lost = survives.map_or(0, |survives| survives + 1);
    let suffers = |(pg, group): &(&Pg, &Group)| group.readable < needed(pg) + group.greatest(lost);
    let mut sets: HashMap<Vec<u32>, usize> = HashMap::new();
    for (_, group) in all().filter(suffers) {
        let greatest = group.counts.iter().take(lost as usize);
        let mut set: Vec<u32> = greatest.map(|(domain, _)| *domain).collect();
        set.sort_unstable();
        *sets.entry(set).or_default() += 1;
    }
    let worst = sets.into_iter().max_by_key(|(set, count)| (*count, Reverse(set.clone())));
    let worst = worst.map(|(set, _)| set).unwrap_or_default();
    let inside = |group: &Group| -> u32 {
        let counts = group.counts.iter().filter(|(domain, _)| worst.contains(domain));
        counts.map(|(_, count)| count).sum()
    };
    let hurt = all().filter(|(pg, group)| group.readable < needed(pg) + inside(group));
    let mut limit = Limit {
        domains: worst.iter().map(|domain| name(*domain)).collect(),
        shards: 0,
        lost: 0,
        width: 0,
        pgs: 0,
    };
    for (pg, group) in hurt {
        let width = u32::from(pg.coding.width());
        let (shards, lost) = (inside(group), width.saturating_sub(group.readable));
        limit.pgs += 1;
        if shards + lost > limit.shards + limit.lost {
            limit = Limit { shards, lost, width, ..limit };
        }
    }
    Reach { unit, survives, limit }
}

/// What of the metadata may be lost: of replicas, and of the domains that `map` knows the nodes of.
pub fn metadata_reach(map: &ClusterMap, voters: &[Voter]) -> Vec<MetadataReach> {
    let majority = voters.len() as u32 / 2 + 1;
    let place = |id: NodeId, level: Level| -> String {
        let node = map.node(id);
        let (zone, rack) = node.map_or(("", ""), |node| (node.zone(), node.rack()));
        match level {
            Level::Node => id.to_string(),
            Level::Rack => format!("{zone}\0{rack}"),
            Level::Zone => zone.to_owned(),
        }
    };
    let mut reaches = Vec::new();
    let levels = [None, Some(Level::Node), Some(Level::Rack), Some(Level::Zone)];
    for level in levels {
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for (number, voter) in voters.iter().enumerate().filter(|(_, voter)| voter.is_well) {
            let domain = level.map_or_else(|| number.to_string(), |level| place(voter.node, level));
            *counts.entry(domain).or_default() += 1;
        }
        let mut counts: Vec<(u32, u32)> = (0..).zip(counts.into_values()).collect();
        counts.sort_unstable_by_key(|(domain, count)| (Reverse(*count), *domain));
        let readable = counts.iter().map(|(_, count)| count).sum();
        let group = Group { counts, readable };
        let unit = level.map_or(Unit::Single, Unit::Domain);
        reaches.push(MetadataReach { unit, survives: group.survives(majority) });
    }
    reaches
}

impl fmt::Display for Tolerance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.reading.is_empty() {
            return f.write_str("there are no placement groups yet");
        }
        let lost = self.reading.iter().find(|reach| reach.survives.is_none());
        if let Some(lost) = lost {
            return write!(f, "data can't be read: {}", lost.limit);
        }
        let counted = |count: u32, unit: Unit| {
            let (one, several) = unit.words();
            format!("{count} {}", if count == 1 { one } else { several })
        };
        let survived: Vec<String> = self
            .reading
            .iter()
            .filter_map(|reach| Some((reach.survives.filter(|count| *count > 0)?, reach.unit)))
            .map(|(count, unit)| counted(count, unit))
            .collect();
        if survived.is_empty() {
            f.write_str("survives no loss")?;
        } else {
            write!(f, "survives any {}", survived.join(", "))?;
        }
        // The widest unit's limit tells the most.
        match self.reading.last() {
            Some(widest) => {
                let more = counted(widest.survives.unwrap_or(0) + 1, widest.unit);
                write!(f, "; not {more}: {}", widest.why())
            }
            None => Ok(()),
        }
    }
}

impl Reach {
    /// Why not one more.
    pub fn why(&self) -> String {
        let (one, several) = self.unit.words();
        match self.limit.domains.as_slice() {
            [] => self.limit.to_string(),
            [only] => format!("{one} {only} holds {}", self.limit),
            [first @ .., last] => {
                format!("{several} {} and {last} together hold {}", first.join(", "), self.limit)
            }
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { domains, shards, lost, width, pgs } = self;
        let groups = if *pgs == 1 { "placement group" } else { "placement groups" };
        if domains.is_empty() {
            return write!(f, "{lost} of the {width} shards of {pgs} {groups} are lost");
        }
        write!(f, "{shards} of the {width} shards of {pgs} {groups}")?;
        if *lost > 0 {
            write!(f, ", of which {lost} more can't be read already")?;
        }
        Ok(())
    }
}
