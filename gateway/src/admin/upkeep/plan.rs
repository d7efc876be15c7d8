//! What would come of a change: tried on a copy of the cluster map. Pure.
//!
//! In: the map, the disks' last reports, a change. Out: what moves and why, how many bytes that is,
//! how full disks are before and after, and what may be lost before, at once and afterwards. What
//! always holds: bytes are estimates, from what a disk holds for each of its slots.

use std::borrow::Cow;
use std::collections::BTreeMap;

use model::cluster_map::{ClusterMap, Disk, DiskState};
use model::ids::{DiskId, PgId};
use model::moves::{Move, MoveReason};
use model::placement;
use model::shard::DiskReport;
use serde::{Deserialize, Serialize};

use crate::admin::standing::{is_readable, report_of};
use crate::admin::upkeep::change::Change;
use crate::admin::upkeep::lacking::Lacking;
use crate::admin::upkeep::tolerance::ToleranceStatus;

/// What comes of a change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangePlan {
    /// All that is to move, beside what is under way.
    pub moves: MoveSums,
    /// Of that, what is to move without the change as well.
    pub anyway: MoveSums,
    /// Placement groups that would be made for what is written from then on; they hold nothing yet.
    pub new_groups: u64,
    /// What disks hold, ascending by id.
    pub disks: Vec<DiskPlan>,
    /// What may be lost now.
    pub tolerance_before: ToleranceStatus,
    /// What may be lost from the change on, before anything has moved.
    pub tolerance_at_once: ToleranceStatus,
    /// What may be lost when all has moved.
    pub tolerance_after: ToleranceStatus,
    /// What isn't as one might wish.
    pub warnings: Vec<String>,
    /// Why the change is refused unless it is forced.
    pub refusal: Option<String>,
}

/// Moves, by their reasons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveSums {
    /// All of them.
    pub all: MoveSum,
    /// Slots of disks that were given up, which are rebuilt.
    pub lost: MoveSum,
    /// Slots of disks that are drained.
    pub drain: MoveSum,
    /// Slots that are too close to others of their group.
    pub spread: MoveSum,
    /// Slots of disks that have more than their share.
    pub balance: MoveSum,
}

/// Some moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveSum {
    /// How many.
    pub slots: u64,
    /// About so many bytes; `null` when no disk has reported what it holds.
    pub bytes: Option<u64>,
}

/// What a disk holds, before and after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskPlan {
    /// Its number.
    pub id: u32,
    /// Its node's number.
    pub node: u32,
    /// Slots that it has now.
    pub slots_before: u64,
    /// Slots that it has when all has moved.
    pub slots_after: u64,
    /// Bytes of its file system that are in use.
    pub used_before: Option<u64>,
    /// About so many when all has moved.
    pub used_after: Option<u64>,
    /// Bytes of its file system.
    pub capacity_bytes: Option<u64>,
}

/// What is known of the cluster's disks beside the map.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'a> {
    /// Groups that hold nothing and are out of use, ascending: with them nothing can be lost.
    pub unused: &'a [PgId],
    /// The last report of each, ascending by disk.
    pub reports: &'a [DiskReport],
    /// Who votes in the metadata, where that is known.
    pub voters: Option<&'a [model::placement::tolerance::Voter]>,
    /// What lacks shards, where that matters.
    pub lacking: Lacking<'a>,
    /// What is to move as it is, where that was planned before.
    pub anyway: Option<&'a [Move]>,
}

impl Known<'_> {
    fn report(&self, disk: DiskId) -> Option<&DiskReport> {
        report_of(self.reports, disk)
    }

    fn is_readable(&self, disk: &Disk) -> bool {
        is_readable(disk, self.report(disk.id))
    }

    /// What may be lost of a cluster as `map` has it.
    pub fn tolerance(&self, map: &ClusterMap) -> ToleranceStatus {
        let used = self.used(map);
        ToleranceStatus::new(&used, |disk| self.is_readable(disk), self.voters)
    }

    /// The map without the groups that nobody uses.
    fn used<'m>(&self, map: &'m ClusterMap) -> Cow<'m, ClusterMap> {
        if self.unused.is_empty() {
            return Cow::Borrowed(map);
        }
        Cow::Owned(map.without_pgs(self.unused))
    }
}

/// About how many bytes a slot of a disk has.
pub struct SlotBytes {
    of_disk: BTreeMap<DiskId, u64>,
    mean: Option<u64>,
}

impl SlotBytes {
    /// By what disks have reported.
    pub fn new(map: &ClusterMap, known: &Known<'_>) -> Self {
        Self::by(&slots(map), map, known)
    }

    /// The same, where the slots have been counted.
    pub fn by(slots: &SlotCounts, map: &ClusterMap, known: &Known<'_>) -> Self {
        let mut of_disk = BTreeMap::new();
        let (mut all_bytes, mut all_slots) = (0u64, 0u64);
        for (&disk, &count) in slots {
            let state = map.disk(disk).map(|disk| disk.state);
            // What a disk said before it was given up may be long ago.
            let Some(report) = known.report(disk).filter(|_| state != Some(DiskState::Out)) else {
                continue;
            };
            of_disk.insert(disk, report.live_bytes / count.max(1));
            all_bytes = all_bytes.saturating_add(report.live_bytes);
            all_slots += count;
        }
        let mean = (all_slots > 0).then(|| all_bytes / all_slots.max(1));
        Self { of_disk, mean }
    }

    fn of(&self, disk: DiskId) -> Option<u64> {
        self.of_disk.get(&disk).copied().or(self.mean)
    }

    /// The sums of some moves.
    pub fn sums<'a>(&self, moves: impl IntoIterator<Item = &'a Move>) -> MoveSums {
        let mut sums = MoveSums::default();
        let bytes = self.mean.map(|_| 0);
        let each =
            [&mut sums.all, &mut sums.lost, &mut sums.drain, &mut sums.spread, &mut sums.balance];
        for sum in each {
            sum.bytes = bytes;
        }
        for one in moves {
            let of_reason = match one.reason {
                MoveReason::Lost => &mut sums.lost,
                MoveReason::Drain => &mut sums.drain,
                MoveReason::Spread => &mut sums.spread,
                MoveReason::Balance => &mut sums.balance,
            };
            for sum in [of_reason, &mut sums.all] {
                sum.slots += 1;
                sum.bytes = sum.bytes.zip(self.of(one.from)).map(|(sum, more)| sum + more);
            }
        }
        sums
    }
}

/// How many slots each disk has that has any.
pub type SlotCounts = BTreeMap<DiskId, u64>;

/// Counts the slots of all disks.
pub(super) fn slots(map: &ClusterMap) -> SlotCounts {
    let mut slots = BTreeMap::new();
    for disk in map.pgs.iter().flat_map(|pg| &pg.disks) {
        *slots.entry(*disk).or_default() += 1;
    }
    slots
}

/// Tries a change.
pub fn plan(map: &ClusterMap, known: &Known<'_>, change: &Change) -> ChangePlan {
    let changed = change.applied(map);
    let planned = known.anyway.is_none().then(|| placement::whole_plan(map).0);
    let anyway = known.anyway.or(planned.as_deref()).unwrap_or_default();
    let (moves, after) = placement::whole_plan(&changed);
    let slot_bytes = SlotBytes::new(map, known);
    let disks = fill(map, &after, known, &slot_bytes);
    let mut plan = ChangePlan {
        moves: slot_bytes.sums(&moves),
        anyway: slot_bytes.sums(anyway),
        new_groups: (changed.pgs.len() - map.pgs.len()) as u64,
        tolerance_before: known.tolerance(map),
        tolerance_at_once: known.tolerance(&changed),
        tolerance_after: known.tolerance(&after),
        warnings: Vec::new(),
        refusal: refusal(map, known, change),
        disks,
    };
    plan.warnings = warnings(&plan, &after, known);
    plan
}

/// What disks hold before and after.
fn fill(
    map: &ClusterMap,
    after: &ClusterMap,
    known: &Known<'_>,
    bytes: &SlotBytes,
) -> Vec<DiskPlan> {
    let (before, then) = (slots(map), slots(after));
    let mut coming: BTreeMap<DiskId, u64> = BTreeMap::new();
    let mut going: BTreeMap<DiskId, u64> = BTreeMap::new();
    for (pg, moved) in map.pgs.iter().zip(&after.pgs) {
        for (from, to) in pg.disks.iter().zip(&moved.disks).filter(|(from, to)| from != to) {
            let bytes = bytes.of(*from).unwrap_or(0);
            *going.entry(*from).or_default() += bytes;
            *coming.entry(*to).or_default() += bytes;
        }
    }
    let sum = |of: &BTreeMap<DiskId, u64>, disk: &Disk| of.get(&disk.id).copied().unwrap_or(0);
    let of_disk = |disk: &Disk| {
        let report = known.report(disk.id);
        let used = report.map(|report| report.capacity_bytes.saturating_sub(report.free_bytes));
        DiskPlan {
            id: disk.id.0,
            node: disk.node.0,
            slots_before: sum(&before, disk),
            slots_after: sum(&then, disk),
            used_before: used,
            used_after: used
                .map(|used| (used + sum(&coming, disk)).saturating_sub(sum(&going, disk))),
            capacity_bytes: report.map(|report| report.capacity_bytes),
        }
    };
    map.disks.iter().map(of_disk).collect()
}

/// What of a plan isn't as one might wish.
fn warnings(plan: &ChangePlan, after: &ClusterMap, known: &Known<'_>) -> Vec<String> {
    let mut warnings = stuck(after);
    for disk in &plan.disks {
        let id = DiskId(disk.id);
        let reserve = known.report(id).map_or(0, |report| report.reserve_bytes);
        let room = disk.capacity_bytes.map(|capacity| capacity.saturating_sub(reserve));
        let grows = disk.used_after > disk.used_before;
        if grows && disk.used_after.zip(room).is_some_and(|(used, room)| used > room) {
            warnings.push(format!("Disk {id} has no room for all that would move to it."));
        }
    }
    if plan.tolerance_after.is_below(&plan.tolerance_before) {
        warnings.push("Less may be lost afterwards than now.".to_owned());
    } else if plan.tolerance_at_once.is_below(&plan.tolerance_before) {
        warnings.push("Less may be lost than now until all has moved.".to_owned());
    }
    warnings
}

/// What disks have that are to be empty, when all has moved that can.
pub(super) fn stuck(after: &ClusterMap) -> Vec<String> {
    let slots = slots(after);
    let of = |disk: &Disk| {
        let count = slots.get(&disk.id).filter(|_| disk.share() == 0)?;
        let verb = match disk.state {
            DiskState::Out => "be rebuilt elsewhere",
            DiskState::Up | DiskState::Full | DiskState::Down => "leave it",
        };
        Some(format!(
            "{count} slots of disk {} can't {verb} for now: no other disk may take them; add one, or bring those that are down back.",
            disk.id
        ))
    };
    after.disks.iter().filter_map(of).collect()
}

/// Why a disk isn't given up: data that can't be read from the others.
fn refusal(map: &ClusterMap, known: &Known<'_>, change: &Change) -> Option<String> {
    let Change::Out { disk: given_up, is_out: true } = change else { return None };
    let is_left =
        |id: DiskId| id != *given_up && map.disk(id).is_some_and(|disk| known.is_readable(disk));
    let left = |pg: &model::cluster_map::Pg| pg.disks.iter().filter(|id| is_left(**id)).count();
    let is_short = |pg: &&model::cluster_map::Pg| {
        pg.disks.contains(given_up) && left(pg) < usize::from(pg.coding.data())
    };
    let used = known.used(map);
    let short = used.pgs.iter().filter(is_short).count();
    let Some(first) = used.pgs.iter().find(is_short) else {
        let lacking = known.lacking;
        let extents = lacking.needing(map, *given_up, is_left);
        return match (extents, lacking.unlooked) {
            (0, 0) => None,
            (0, _) => Some(format!(
                "{} extents wait for repair, too many to tell what their shards on disk {given_up} are needed for.",
                lacking.total()
            )),
            (extents, _) => Some(format!(
                "{extents} extents that wait for repair couldn't be read without disk {given_up}."
            )),
        };
    };
    Some(format!(
        "{short} placement groups couldn't be read without disk {given_up}: of group {}, {} of {} shards would be left, and {} are needed.",
        first.id,
        left(first),
        first.coding.width(),
        first.coding.data(),
    ))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
