//! What follows from a look at the cluster and takes long to compute: what may be lost, how far data is
//! from that, the durability that is to be expected, and what isn't as it should be.
//!
//! In: what was [`Seen`]. Out: what it comes to. Pure, and of a large cluster nothing for a thread that
//! answers. What always holds: the most costly of it is computed once for each cluster map and set of
//! disks that can be read, however often anybody looks.

pub mod durability;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use model::cluster_map::{ClusterMap, Disk, Pg};
use model::ids::{DiskId, NodeId, PgId};
use model::placement::tolerance::Voter;
use model::shard::DiskReport;
use model::time::Timestamp;

use crate::admin::health::{self, DiskFacts, Margin, Reason, Repairs};
use crate::admin::standing::{is_readable, report_of, standings};
use crate::admin::status::{DiskStanding, MovesUnderWay, PlacementGroups};
use crate::admin::upkeep::tolerance::ToleranceStatus;

use durability::{Basis, Durability, DurabilityStatus, fill_percent};

/// What was found in one look.
pub struct Seen<'a> {
    /// The map.
    pub map: &'a Arc<ClusterMap>,
    /// Groups that hold nothing and are out of use, ascending: with them nothing can be lost.
    pub unused: &'a [PgId],
    /// The disks' last reports, ascending by disk.
    pub reports: &'a [DiskReport],
    /// Disks that are silent and not down yet.
    pub suspects: &'a [DiskId],
    /// Nodes of which too many are silent at once.
    pub withheld: &'a [NodeId],
    /// Who votes in the metadata, where that is known.
    pub voters: Option<Vec<Voter>>,
    /// So many more metadata replicas may fail.
    pub more_metadata_replicas: Option<i64>,
    /// The repair queue.
    pub repairs: Repairs,
    /// Bytes per second that a rebuild reads and writes; 0 for no limit.
    pub rebuild_rate: u64,
    /// Whether the process that looks serves clients: what can't be read or written stops those.
    pub is_gateway: bool,
    /// When it was.
    pub now: Timestamp,
}

/// What it comes to.
#[derive(Clone, Debug, Default)]
pub struct Judged {
    /// What may be lost.
    pub tolerance: ToleranceStatus,
    /// The placement groups, counted.
    pub groups: PlacementGroups,
    /// What is known of each disk beside its state.
    pub standings: BTreeMap<DiskId, DiskStanding>,
    /// Slots on their way.
    pub moves: MovesUnderWay,
    /// How likely an object is to last.
    pub durability: Option<DurabilityStatus>,
    /// How far data is from being lost.
    pub margin: Margin,
    /// What isn't as it should be.
    pub reasons: Vec<Reason>,
}

/// The disks that can be read, and who votes where that is known.
type Present = (HashSet<DiskId>, Option<Vec<Voter>>);

/// The figures that were computed last.
#[derive(Debug, Default)]
pub struct Figures {
    used: Memory<Vec<PgId>, Arc<ClusterMap>>,
    losses: Memory<Present, (ToleranceStatus, PlacementGroups)>,
    durability: Memory<Basis, Durability>,
    tolerance_low: Memory<(), Option<Reason>>,
}

/// Something that follows from a cluster map and something else.
#[derive(Debug)]
struct Memory<K, V> {
    known: Option<(Arc<ClusterMap>, K, V)>,
    /// How often it was computed.
    #[cfg(test)]
    computed: usize,
}

impl Figures {
    /// What a look comes to.
    pub fn judged(&mut self, seen: &Seen<'_>) -> Judged {
        let map = seen.map;
        let readable: HashSet<DiskId> = map
            .disks
            .iter()
            .filter(|disk| is_readable(disk, report_of(seen.reports, disk.id)))
            .map(|disk| disk.id)
            .collect();
        let is_readable = |id: DiskId| readable.contains(&id);
        let used = &self.used.of(map, seen.unused.to_vec(), |unused| {
            if unused.is_empty() { Arc::clone(map) } else { Arc::new(map.without_pgs(unused)) }
        });
        let margin =
            health::margin_of(Some(used), is_readable, seen.repairs, seen.more_metadata_replicas);
        let of_stripes = health::of_stripes(map, used, is_readable, seen.repairs);
        let fitting = |reason: Reason| if seen.is_gateway { reason } else { reason.as_warning() };
        let mut reasons: Vec<Reason> = of_stripes.into_iter().map(fitting).collect();
        reasons.extend(health::of_upkeep(map, seen.withheld));
        let facts = DiskFacts::new(map, seen.reports, seen.suspects, seen.now);
        reasons.extend(health::of_disks(&facts));

        let basis = Basis { fill_percent: fill_percent(seen.reports), rate: seen.rebuild_rate };
        let durability = self.durability.of(used, basis, |basis| Durability::of(used, *basis));
        reasons.extend(self.tolerance_low.of(used, (), |()| health::tolerance_low(used)));
        reasons.extend(durability.low);
        reasons.extend(health::mixed_releases(map));
        let losses = (readable, seen.voters.clone());
        let (tolerance, groups) = self.losses.of(used, losses, |(readable, voters)| {
            let has = |disk: &Disk| readable.contains(&disk.id);
            let tolerance = ToleranceStatus::new(used, has, voters.as_deref());
            (tolerance, groups(map, used, &|id| readable.contains(&id)))
        });
        Judged {
            tolerance,
            groups,
            standings: standings(map, seen.suspects),
            moves: MovesUnderWay::new(map),
            durability: durability.least,
            margin,
            reasons,
        }
    }
}

impl<K, V> Default for Memory<K, V> {
    fn default() -> Self {
        Self {
            known: None,
            #[cfg(test)]
            computed: 0,
        }
    }
}

impl<K: PartialEq, V: Clone> Memory<K, V> {
    /// What follows from this; computed unless it was that before.
    fn of(&mut self, map: &Arc<ClusterMap>, key: K, compute: impl FnOnce(&K) -> V) -> V {
        // The very same map: who keeps one doesn't fetch it again while its epoch lasts.
        if let Some((known, of, value)) = &self.known
            && Arc::ptr_eq(known, map)
            && *of == key
        {
            return value.clone();
        }
        #[cfg(test)]
        {
            self.computed += 1;
        }
        let value = compute(&key);
        self.known = Some((Arc::clone(map), key, value.clone()));
        value
    }
}

/// All groups, and of those that are used the ones that can't be read.
fn groups(
    map: &ClusterMap,
    used: &ClusterMap,
    readable: &impl Fn(DiskId) -> bool,
) -> PlacementGroups {
    let count =
        |map: &ClusterMap, of: &dyn Fn(&Pg) -> bool| map.pgs.iter().filter(|pg| of(pg)).count();
    PlacementGroups {
        total: map.pgs.len() as u64,
        open: count(map, &|pg| map.is_open(pg)) as u64,
        unreadable: count(used, &|pg| pg.slack(readable) < 0) as u64,
    }
}

#[cfg(test)]
mod tests;
