//! What is outstanding: everything that lacks redundancy, counted by the metadata.
//!
//! In: the repair queue, the cluster map and the extents of its groups; what repair and moves did.
//! Out: [`Outstanding`], for operators, and gauges.
//!
//! [`tally`] says how an extent stands and adds up; [`survey`] goes through the metadata; [`history`]
//! measures how fast it goes.
//!
//! What always holds: one walk at a time, and walking takes at most a tenth of the time while nobody
//! asks, and a third while an operator does; the gauges are set by the gateway that repairs, and are 0 at all others.

mod history;
mod survey;
mod tally;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::cluster_map::{ClusterMap, DiskState};
use model::ids::DiskId;
use model::level::MOVING;
use model::moves::MoveReason;
use model::node::Job;
use model::query::{Answer, MetadataError, Query};
use model::time::Timestamp;
use tokio::sync::watch;

use crate::shared::Shared;
use history::History;
use survey::{Survey, survey};

pub(crate) use survey::planned;
pub(crate) use tally::{Assessment, Outlook, slot_bytes};
pub use tally::{ExtentStanding, LostSlots, OutstandingSums, SlotProspect, Tally};

/// How often what was done is noted, and what is left counted where this gateway repairs.
const INTERVAL: Duration = Duration::from_secs(5);

/// What was counted is told for at least this long.
const KEPT: Duration = Duration::from_secs(1);

/// A walk that took long is followed by a rest of this many times that, when nobody asks.
const REST_FACTOR: u32 = 10;

/// The same when an operator asks.
const REST_FACTOR_ASKED: u32 = 2;

/// Everything that lacks redundancy.
#[derive(Clone, Debug)]
pub struct Outstanding {
    /// The cluster map that it was counted by.
    pub map: Arc<ClusterMap>,
    /// What lacks shards, counted.
    pub sums: OutstandingSums,
    /// Whether everything was looked at; if not, the sums are what there is at least.
    pub is_whole: bool,
    /// How old the sums are.
    pub age: Duration,
    /// Slots of disks that were given up.
    pub lost_slots: LostSlots,
    /// Bytes of shards that were rebuilt since something began to lack shards; when nothing does, in
    /// the last round.
    pub bytes_done: u64,
    /// Bytes of shards that are left to be rebuilt, without those that wait for a disk or are lost.
    pub bytes_left: u64,
    /// Bytes of shards that were rebuilt in a second, over the last minute; `None` when none were.
    pub bytes_per_second: Option<u64>,
    /// How long that takes for what is left.
    pub time_left: Option<Duration>,
    /// What keeps things from being repaired.
    pub obstacles: Vec<Obstacle>,
    /// Whether this gateway repairs, so that what it knows of rates and failures is all there is.
    pub repairs_here: bool,
    /// Whether it moves slots.
    pub moves_here: bool,
}

/// What keeps things from being repaired, or is to be known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// More shards are lost than parity makes up for.
    Lost(Tally),
    /// A disk is down: its shards count again when it is back, and are rebuilt when it is given up.
    DiskDown {
        /// The disk.
        disk: DiskId,
        /// What waits for it.
        tally: Tally,
        /// When it is given up at the earliest; `None` when that isn't known.
        out_in: Option<Duration>,
    },
    /// A disk has no room for shards that it lacks.
    DiskFull {
        /// The disk.
        disk: DiskId,
        /// What waits for it.
        tally: Tally,
    },
    /// No disk takes these slots: there are too few, or they are full.
    NoDiskTakes {
        /// Slots.
        slots: u64,
    },
    /// The metadata was put back and holds what it doesn't know: no slot moves.
    MetadataHeld,
    /// Not every node is of a release that knows moves.
    OldRelease,
    /// Attempts failed lately; they are repeated.
    Failing {
        /// Extents that rest.
        extents: u64,
        /// Why the most of them do, in half a sentence.
        failure: String,
    },
    /// An operator paused moves; what is lost is rebuilt all the same.
    MovesPaused,
}

/// What is known of all that.
#[derive(Default)]
pub(crate) struct OutstandingDesk {
    surveyed: tokio::sync::Mutex<Option<Arc<Survey>>>,
    history: Mutex<History>,
    /// Shards to spare that a gauge was set for.
    gauged: Mutex<BTreeSet<i16>>,
}

impl OutstandingDesk {
    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everything that lacks redundancy, as of now or a moment ago.
pub(crate) async fn outstanding(shared: &Shared) -> Result<Outstanding, MetadataError> {
    let survey = newest(shared, REST_FACTOR_ASKED).await?;
    let held = match shared.metadata.query(Query::Held).await? {
        Answer::Held(held) => held.is_some(),
        _ => return Err(MetadataError::Unavailable),
    };
    let now = shared.clock.monotonic();
    // What was rebuilt since it was counted isn't left any more.
    let since = rebuilt_bytes(shared).saturating_sub(survey.rebuilt);
    let left = survey.left.saturating_sub(since);
    let bytes_per_second = shared.outstanding.history().rate(now);
    let bytes_done =
        shared.outstanding.history().done(survey.rebuilt, survey.left) + survey.left - left;
    let time_left = bytes_per_second
        .filter(|_| left > 0 && survey.is_whole)
        .map(|rate| Duration::from_secs(left.div_ceil(rate.max(1))));
    let jobs = shared.leases.held_jobs();
    let obstacles = Obstacles { shared, survey: &survey, held, now }.list();
    Ok(Outstanding {
        map: Arc::clone(&survey.map),
        sums: survey.sums.clone(),
        is_whole: survey.is_whole,
        age: now.saturating_sub(survey.at),
        lost_slots: survey.lost_slots,
        bytes_done,
        bytes_left: left,
        bytes_per_second,
        time_left,
        obstacles,
        repairs_here: jobs.contains(&Job::Repair),
        moves_here: jobs.contains(&Job::Move),
    })
}

/// The last walk's findings, or a new one's when they are older than it may cost.
async fn newest(shared: &Shared, rest_factor: u32) -> Result<Arc<Survey>, MetadataError> {
    // Whoever comes while somebody walks waits for what that finds.
    let mut surveyed = shared.outstanding.surveyed.lock().await;
    let now = shared.clock.monotonic();
    let is_fresh =
        |known: &&mut Arc<Survey>| now < known.at + known.took + KEPT.max(known.took * rest_factor);
    if let Some(known) = surveyed.as_mut().filter(is_fresh) {
        return Ok(Arc::clone(known));
    }
    let mut found = survey(shared).await?;
    (found.rebuilt, found.left) = (rebuilt_bytes(shared), bytes_left(shared, &found));
    let is_nothing = found.is_whole && found.sums.all.extents == 0;
    let now = shared.clock.monotonic();
    shared.outstanding.history().note(now, found.rebuilt, found.left, is_nothing);
    let found = Arc::new(found);
    *surveyed = Some(Arc::clone(&found));
    Ok(found)
}

/// Bytes of shards that were rebuilt by this engine.
fn rebuilt_bytes(shared: &Shared) -> u64 {
    shared.repair.progress().bytes + shared.rebalance.progress().rebuilt_bytes
}

/// What is left to be rebuilt, without what moves under way here have put on their new disks.
fn bytes_left(shared: &Shared, survey: &Survey) -> u64 {
    let under_way = shared.rebalance.progress().under_way;
    let lost = under_way.iter().filter(|progress| progress.what.reason == MoveReason::Lost);
    survey.sums.shard_bytes.saturating_sub(lost.map(|progress| progress.bytes).sum())
}

struct Obstacles<'a> {
    shared: &'a Shared,
    survey: &'a Survey,
    held: bool,
    now: Duration,
}

impl Obstacles<'_> {
    fn list(&self) -> Vec<Obstacle> {
        let Survey { map, sums, lost_slots, .. } = self.survey;
        let mut all = Vec::new();
        let lost = sums.standing(ExtentStanding::Lost);
        if lost.extents > 0 {
            all.push(Obstacle::Lost(lost));
        }
        for (disk, tally) in &sums.down {
            let (disk, tally, out_in) = (*disk, *tally, self.out_in(*disk));
            all.push(Obstacle::DiskDown { disk, tally, out_in });
        }
        let full = sums.full.iter();
        all.extend(full.map(|(disk, tally)| Obstacle::DiskFull { disk: *disk, tally: *tally }));
        if lost_slots.homeless > 0 {
            all.push(Obstacle::NoDiskTakes { slots: lost_slots.homeless });
        }
        if lost_slots.moving + lost_slots.in_line > 0 {
            if map.level_in_use() < MOVING {
                all.push(Obstacle::OldRelease);
            }
            if self.held {
                all.push(Obstacle::MetadataHeld);
            }
        }
        let resting = self.shared.repair.backoff.resting(self.now);
        if let Some((failure, _)) = resting.first() {
            let extents = resting.iter().map(|(_, count)| count).sum();
            all.push(Obstacle::Failing { extents, failure: failure.clone() });
        }
        if map.upkeep.is_paused {
            all.push(Obstacle::MovesPaused);
        }
        all
    }

    fn out_in(&self, disk: DiskId) -> Option<Duration> {
        out_in(&self.survey.map, disk, self.shared.clock.now())
    }
}

/// How long until a disk that is down is given up, at the earliest.
pub(crate) fn out_in(map: &ClusterMap, disk: DiskId, now: Timestamp) -> Option<Duration> {
    let disk = map.disk(disk).filter(|disk| disk.state == DiskState::Down)?;
    let since = disk.standing.since;
    if since == Timestamp::default() || map.level_in_use() < MOVING {
        return None;
    }
    let down_for = Duration::from_nanos(now.0.saturating_sub(since.0));
    Some(map.upkeep.out_after().saturating_sub(down_for))
}

/// Notes how far things are, and keeps the gauges, until told to stop.
pub(crate) async fn keep(shared: Arc<Shared>, mut stopping: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            () = shared.clock.sleep(INTERVAL) => {}
        }
        let is_repairing = shared.leases.held_jobs().contains(&Job::Repair);
        // What is repaired waits by the rate that there was: an operator may have raised it since.
        if let Some(map) = shared.map.current().filter(|_| is_repairing) {
            shared.repair.set_rate(&shared, &map);
        }
        if !is_repairing {
            let (now, rebuilt) = (shared.clock.monotonic(), rebuilt_bytes(&shared));
            shared.outstanding.history().note_rebuilt(now, rebuilt);
            gauge(&shared, &OutstandingSums::default());
            continue;
        }
        let found = tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            found = newest(&shared, REST_FACTOR) => found,
        };
        match found {
            Ok(survey) => gauge(&shared, &survey.sums),
            Err(error) => tracing::debug!(%error, "what lacks shards is not counted this time"),
        }
    }
}

/// Sets the gauges, and those of what there is none of any more to 0.
fn gauge(shared: &Shared, sums: &OutstandingSums) {
    let mut gauged = shared.outstanding.gauged.lock().unwrap_or_else(PoisonError::into_inner);
    gauged.extend(sums.by_spare.keys());
    for spare in gauged.iter() {
        let Tally { extents, bytes } = sums.by_spare.get(spare).copied().unwrap_or_default();
        let spare = spare.to_string();
        metrics::gauge!("drystone_repair_outstanding_extents", "spare" => spare.clone())
            .set(extents as f64);
        metrics::gauge!("drystone_repair_outstanding_bytes", "spare" => spare).set(bytes as f64);
    }
}
