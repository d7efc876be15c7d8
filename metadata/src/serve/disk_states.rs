//! Which state a disk should have, by what is heard of it. Pure.
//!
//! In: the cluster map, when each disk and node was last heard and what it said, and the time. Out:
//! states to propose, disks to warn of, and why disks that are down for long aren't given up.
//!
//! What always holds:
//! - A disk that is silent is suspect, then down, which closes its groups; it is out, so that it is
//!   rebuilt elsewhere, only after much longer. A disk that its own node calls failed is out after the
//!   same time: that is evidence, silence isn't.
//! - Where many nodes are silent at once, the network or this observer is more likely to have failed
//!   than all of them: nothing is given up, until an operator says so. Nor for a while after that:
//!   they come back one by one, and the last one is no more lost than the others were.
//! - Who comes back is up at once. Who comes and goes has to stay well for longer each time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::cluster_map::{ClusterMap, Disk, DiskState};
use model::ids::{DiskId, NodeId};
use model::level::MOVING;
use model::shard::DiskHealth;
use model::time::Timestamp;

/// The first time that a disk which came and went has to stay well; it doubles with each time.
const DAMPING_FIRST: Duration = Duration::from_secs(10);

/// The longest.
const DAMPING_MAX: Duration = Duration::from_mins(10);

/// Of so many storage nodes one may be silent and still be given up without an operator.
const NODES_PER_SILENT_ONE: usize = 10;

/// After a change of the leader nothing is given up for this long: its clock may be another, and it
/// has to hear of everybody first.
const SETTLING: Duration = Duration::from_secs(30);

/// After many nodes were silent at once those that still are aren't given up for this long, or for
/// as long as a disk is down before it is out, if that is less: the hosts of a rack that has power
/// again are up within minutes of each other.
const GATHERING: Duration = Duration::from_mins(5);

/// What was heard of a disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct DiskHeard {
    /// When, by the monotonic clock.
    pub(super) at: Duration,
    /// What its node said of it.
    pub(super) health: DiskHealth,
    /// Since when it is well without a break, if it is.
    pub(super) well_since: Option<Duration>,
}

/// What is known now.
#[derive(Debug)]
pub(super) struct Evidence<'a> {
    pub(super) map: &'a ClusterMap,
    pub(super) disks: &'a BTreeMap<DiskId, DiskHeard>,
    /// When each node was last heard.
    pub(super) nodes: &'a BTreeMap<NodeId, Duration>,
    /// When this replica began to lead: silence counts from here at the earliest.
    pub(super) leads_since: Duration,
    /// When a verdict last said that many nodes are silent at once.
    pub(super) many_silent: Option<Duration>,
    /// The monotonic clock.
    pub(super) now: Duration,
    /// The time of day.
    pub(super) time: Timestamp,
}

/// What follows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// States to propose.
    pub(super) changes: Vec<(DiskId, DiskState)>,
    /// Disks that are silent and not down yet.
    pub(super) suspects: Vec<DiskId>,
    /// Nodes that are silent at the same time, so many that their disks aren't given up.
    pub(super) withheld: Vec<NodeId>,
    /// Whether so many nodes are silent at once, whatever state their disks are in.
    pub(super) is_many: bool,
}

impl Evidence<'_> {
    /// Looks at all disks.
    pub(super) fn verdict(&self) -> Verdict {
        let silent = self.silent_nodes();
        let storage_nodes: BTreeSet<NodeId> = self.present().map(|disk| disk.node).collect();
        let tolerated = (storage_nodes.len() / NODES_PER_SILENT_ONE).max(1);
        let is_many = silent.len() > tolerated;
        let are_doubted = is_many || self.may_gather();
        let mut verdict = Verdict { is_many, ..Verdict::default() };
        let mut withheld = BTreeSet::new();
        for disk in &self.map.disks {
            match self.wanted(disk) {
                Some(DiskState::Out) if are_doubted && silent.contains(&disk.node) => {
                    withheld.insert(disk.node);
                }
                Some(state) => verdict.changes.push((disk.id, state)),
                None if self.is_suspect(disk) => verdict.suspects.push(disk.id),
                None => {}
            }
        }
        if !withheld.is_empty() {
            verdict.withheld = silent.into_iter().collect();
        }
        verdict
    }

    /// Whether nodes may still be on their way back after many were silent at once.
    fn may_gather(&self) -> bool {
        let patience = self.map.upkeep.out_after().min(GATHERING);
        self.many_silent.is_some_and(|at| self.now.saturating_sub(at) < patience)
    }

    /// The state that a report just now asks for, if it is another.
    pub(super) fn on_report(&self, disk: &Disk) -> Option<DiskState> {
        let heard = self.disks.get(&disk.id)?;
        let wanted = state_for(heard.health);
        if wanted == disk.state || disk.standing.is_given_up {
            return None;
        }
        match (disk.state, wanted) {
            // It stays out until it is well.
            (DiskState::Out, DiskState::Down) => None,
            (DiskState::Down | DiskState::Out, DiskState::Up | DiskState::Full) => {
                let well_since = heard.well_since?;
                let is_steady = self.now.saturating_sub(well_since) >= damping(disk);
                is_steady.then_some(wanted)
            }
            _ => Some(wanted),
        }
    }

    /// What silence, or time, asks for.
    fn wanted(&self, disk: &Disk) -> Option<DiskState> {
        let silence = self.silence(disk);
        match disk.state {
            DiskState::Up | DiskState::Full => {
                (silence >= self.map.upkeep.down_after()).then_some(DiskState::Down)
            }
            DiskState::Down => self.is_down_for_long(disk, silence).then_some(DiskState::Out),
            DiskState::Out => None,
        }
    }

    fn is_down_for_long(&self, disk: &Disk, silence: Duration) -> bool {
        let out_after = self.map.upkeep.out_after();
        let leads_for = self.now.saturating_sub(self.leads_since);
        let since = disk.standing.since;
        let down_for = if since == Timestamp::default() {
            leads_for
        } else {
            Duration::from_nanos(self.time.0.saturating_sub(since.0))
        };
        let is_well = silence < self.map.upkeep.down_after()
            && self.disks.get(&disk.id).is_some_and(|heard| heard.well_since.is_some());
        // Before every node knows moves, nobody would rebuild what it has.
        self.map.level_in_use() >= MOVING
            && !is_well
            && down_for >= out_after
            && leads_for >= out_after.min(SETTLING)
    }

    fn is_suspect(&self, disk: &Disk) -> bool {
        matches!(disk.state, DiskState::Up | DiskState::Full)
            && self.silence(disk) >= self.map.upkeep.suspect_after()
    }

    fn silence(&self, disk: &Disk) -> Duration {
        let heard = self.disks.get(&disk.id).map_or(self.leads_since, |heard| heard.at);
        self.now.saturating_sub(heard.max(self.leads_since))
    }

    /// Storage nodes that aren't heard, among those whose disks aren't all given up.
    fn silent_nodes(&self) -> BTreeSet<NodeId> {
        let is_silent = |node: &NodeId| {
            let heard = self.nodes.get(node).copied().unwrap_or(self.leads_since);
            let silence = self.now.saturating_sub(heard.max(self.leads_since));
            silence >= self.map.upkeep.down_after()
        };
        self.present().map(|disk| disk.node).filter(is_silent).collect()
    }

    fn present(&self) -> impl Iterator<Item = &Disk> {
        self.map.disks.iter().filter(|disk| disk.state != DiskState::Out)
    }
}

/// How long a disk that came back has to stay well before it is up again: not at all the first time.
fn damping(disk: &Disk) -> Duration {
    match disk.standing.flaps {
        0 | 1 => Duration::ZERO,
        more => (DAMPING_FIRST * 2u32.saturating_pow((more - 2).min(16))).min(DAMPING_MAX),
    }
}

/// The state that a disk's own report asks for.
pub(super) fn state_for(health: DiskHealth) -> DiskState {
    match health {
        DiskHealth::Ok => DiskState::Up,
        DiskHealth::Full => DiskState::Full,
        DiskHealth::ReadOnly | DiskHealth::Failed => DiskState::Down,
    }
}

#[cfg(test)]
mod tests;
