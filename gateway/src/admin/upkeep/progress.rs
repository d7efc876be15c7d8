//! How far moves are: what is under way, what is still to come, how fast it goes, and why nothing
//! goes on.
//!
//! In: the cluster map, and the engine of the gateway that is asked. Out: a [`MovesStatus`]. What
//! always holds: the map tells what is under way whoever is asked; how far each move is, only the
//! gateway that does it knows.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use engine::{PauseReason, RebalanceProgress};
use model::cluster_map::ClusterMap;
use model::moves::Move;
use s3::date;
use serde::{Deserialize, Serialize};

use crate::admin::upkeep::plan::{Known, MoveSums, SlotBytes};
use crate::admin::upkeep::whole::WholePlan;

/// To `GET /moves`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovesStatus {
    /// Moves that were begun, the most urgent first.
    pub under_way: Vec<MoveStatus>,
    /// What they come to.
    pub under_way_sums: MoveSums,
    /// What is still to begin.
    pub wanted: MoveSums,
    /// Slots that are to move and can't, a sentence for each disk.
    pub stuck: Vec<String>,
    /// What this gateway has done since it began; `null` from a process that is none.
    pub done: Option<MovesDone>,
    /// Bytes a second that this gateway moves, measured over the last minute at most; `null` when it
    /// moves nothing.
    pub bytes_per_second: Option<u64>,
    /// Seconds until all is moved, if this gateway did it alone at that speed.
    pub eta_seconds: Option<u64>,
    /// Why nothing is begun but the rebuilding of what is lost; `null` when nothing stands in the
    /// way, or another gateway knows.
    pub paused: Option<Paused>,
    /// Whether the process that was asked plans moves for the cluster: one gateway does, and all carry
    /// them out.
    pub is_here: bool,
    /// What that process' node is; `null` where it is the only process.
    pub node: Option<u32>,
    /// Bytes a second that operators allow; `null` for the gateway's own setting.
    pub rate: Option<u64>,
}

/// A move under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveStatus {
    /// The placement group.
    pub pg: u32,
    /// The slot.
    pub slot: u8,
    /// The disk that has it.
    pub from: u32,
    /// The disk that is to have it.
    pub to: u32,
    /// `lost`, `drain`, `spread` or `balance`.
    pub reason: String,
    /// When it was begun, ISO 8601.
    pub since: String,
    /// Extents of its group; this and the rest only from the gateway that works on it.
    pub extents_total: Option<u64>,
    /// Extents whose shards the new disk has.
    pub extents_done: Option<u64>,
    /// Bytes that the new disk took.
    pub bytes: Option<u64>,
}

/// What a gateway has done since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovesDone {
    /// Slots that were given to their new disks.
    pub slots: u64,
    /// Moves that were given up.
    pub cancelled: u64,
    /// Extents whose shards were put on a new disk.
    pub extents: u64,
    /// Their shards.
    pub shards: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Attempts that failed; they are repeated.
    pub failures: u64,
}

/// Why nothing is begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// A stable word.
    pub reason: String,
    /// A sentence for people.
    pub sentence: String,
}

impl From<PauseReason> for Paused {
    fn from(reason: PauseReason) -> Self {
        Self { reason: reason.as_str().to_owned(), sentence: reason.sentence().to_owned() }
    }
}

/// What the process that is asked knows beside the map.
#[derive(Clone, Debug, Default)]
pub struct Doer {
    /// What its engine has come to, where it has one.
    pub progress: Option<RebalanceProgress>,
    /// Whether it plans moves for the cluster.
    pub is_here: bool,
    /// Its node.
    pub node: Option<u32>,
    /// What its speed was measured to be.
    pub bytes_per_second: Option<u64>,
}

impl MovesStatus {
    /// What the map, the plan of all that is to move, and this process tell.
    pub fn new(map: &ClusterMap, plan: &WholePlan, known: &Known<'_>, doer: &Doer) -> Self {
        let bytes = SlotBytes::by(&plan.slots, map, known);
        let begun = begun(map);
        let wanted = bytes.sums(plan.wanted(map));
        let under_way_sums = bytes.sums(begun.iter().map(|(what, _)| what));
        let works = doer.progress.as_ref().map(|progress| &*progress.under_way);
        let works = works.unwrap_or_default();
        let under_way: Vec<MoveStatus> = begun
            .iter()
            .map(|(what, since)| {
                let work = works
                    .iter()
                    .find(|work| (work.what.pg, work.what.slot) == (what.pg, what.slot));
                MoveStatus {
                    pg: what.pg.0,
                    slot: what.slot,
                    from: what.from.0,
                    to: what.to.0,
                    reason: what.reason.as_str().to_owned(),
                    since: date::iso8601(*since),
                    extents_total: work.map(|work| work.extents_total),
                    extents_done: work.map(|work| work.extents_done),
                    bytes: work.map(|work| work.bytes),
                }
            })
            .collect();
        let moved: u64 = under_way.iter().filter_map(|one| one.bytes).sum();
        let left = wanted
            .all
            .bytes
            .zip(under_way_sums.all.bytes)
            .map(|(wanted, under_way)| wanted + under_way.saturating_sub(moved));
        let is_any = wanted.all.slots > 0 || !under_way.is_empty();
        let speed = doer.bytes_per_second.filter(|speed| *speed > 0 && is_any);
        // With nothing to begin the engine sees no reason, and an operator's wish holds all the same.
        let wish = map.upkeep.is_paused.then_some(PauseReason::Operator);
        let here = doer.progress.as_ref().filter(|_| doer.is_here);
        let paused = here.and_then(|progress| progress.paused).or(wish);
        Self {
            under_way,
            under_way_sums,
            wanted,
            stuck: plan.stuck.clone(),
            done: doer.progress.as_ref().map(MovesDone::new),
            bytes_per_second: speed,
            eta_seconds: left
                .zip(speed)
                // What is paused ends nobody knows when.
                .filter(|_| paused.is_none())
                .map(|(left, speed)| left.div_ceil(speed)),
            paused: paused.map(Paused::from),
            is_here: doer.is_here,
            node: doer.node,
            rate: map.upkeep.bytes_per_second,
        }
    }
}

impl MovesDone {
    fn new(progress: &RebalanceProgress) -> Self {
        let RebalanceProgress { slots, cancelled, extents, shards, bytes, failures, .. } =
            *progress;
        Self { slots, cancelled, extents, shards, bytes, failures }
    }
}

/// The moves that were begun, and when.
fn begun(map: &ClusterMap) -> Vec<(Move, model::time::Timestamp)> {
    let mut all: Vec<(Move, model::time::Timestamp)> = map
        .pgs
        .iter()
        .flat_map(|pg| {
            pg.moves.iter().filter_map(|begun| {
                let from = *pg.disks.get(usize::from(begun.slot))?;
                let (slot, to, reason) = (begun.slot, begun.to, begun.reason);
                Some((Move { pg: pg.id, slot, from, to, reason }, begun.since))
            })
        })
        .collect();
    all.sort_by_key(|(what, since)| (what.reason, *since, what.pg, what.slot));
    all
}

/// How far back the speed is measured.
const WINDOW: Duration = Duration::from_mins(1);

/// Readings that are kept; more often than this nobody needs to know.
const READINGS_MAX: usize = 64;

/// The least time between two readings that tell a speed.
pub(super) const SPAN_MIN: Duration = Duration::from_secs(1);

/// Measures how fast bytes are moved, by whoever asks.
#[derive(Debug, Default)]
pub struct MoveMeter {
    readings: Mutex<VecDeque<(Duration, u64)>>,
}

impl MoveMeter {
    /// Takes a reading at `now`; bytes a second since the oldest that counts, if that is long enough
    /// ago.
    pub fn read(&self, now: Duration, bytes: u64) -> Option<u64> {
        let mut readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
        readings.retain(|(at, before)| now.saturating_sub(*at) <= WINDOW && *before <= bytes);
        let oldest = readings.front().copied();
        let is_due = readings.back().is_none_or(|(at, _)| now.saturating_sub(*at) >= SPAN_MIN);
        if is_due {
            readings.push_back((now, bytes));
        }
        if readings.len() > READINGS_MAX {
            readings.pop_front();
        }
        let (at, before) = oldest?;
        let span = now.saturating_sub(at);
        if span < SPAN_MIN {
            return None;
        }
        let per_second = u128::from(bytes - before) * 1000 / span.as_millis().max(1);
        Some(u64::try_from(per_second).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
#[path = "progress_tests.rs"]
mod tests;
