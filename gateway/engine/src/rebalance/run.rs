//! Keeps a few moves under way, until told to stop or until it is dropped: what was under way is found
//! in the cluster map by whoever has the lease next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use model::cluster_map::ClusterMap;
use model::command::{Command, Outcome, Refusal};
use model::ids::{DiskId, PgId};
use model::level::MOVING;
use model::moves::{Move, MoveEnd, MoveReason, MoveResult};
use model::query::{Answer, MetadataError, Query};
use model::time::Timestamp;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};

use super::plan::{Begun, PauseReason, Shunned, steps, under_way};
use super::slot::SlotTask;
use super::strays;
use super::{MoveFailure, RebalanceDesk};
use crate::engine::Shared;
use crate::repair::work_left;

/// Slots that are copied at once.
const SLOTS_AT_ONCE: usize = 4;

/// After a failure a move rests: first this long, then twice that, and so on.
const REST_FIRST: Duration = Duration::from_secs(5);

/// The longest rest.
const REST_MAX: Duration = Duration::from_mins(5);

/// Failures in a row after which a move is given up: it keeps its group closed, and others waiting.
const FAILURES_MAX: u32 = 3;

/// For so long a disk is given nothing that failed to take a slot, and a slot isn't moved that could
/// not be read.
const SHUNNED_FOR: Duration = Duration::from_mins(5);

/// Repairs are waited for as long as they get fewer, and for this many intervals more: one that
/// always fails must not keep slots where they are for ever.
const REPAIR_PATIENCE: u32 = 300;

/// Of more repairs than these it isn't asked how many they are.
const REPAIRS_COUNTED: usize = 10_000;

type Key = (PgId, u8);

/// Moves slots and deletes what they leave behind, until told to stop.
pub(crate) async fn run(
    shared: Arc<Shared>,
    interval: Duration,
    mut stopping: watch::Receiver<bool>,
) {
    let _idle_at_the_end = Idle(&shared.rebalance);
    shared.rebalance.deletions.take_over(shared.clock.monotonic());
    tokio::select! {
        _ = stopping.wait_for(|stop| *stop) => {}
        () = move_slots(&shared, interval) => {}
        () = strays::run(&shared) => {}
    }
}

/// Nothing is under way here any more when this is gone: another gateway may go on.
struct Idle<'a>(&'a RebalanceDesk);

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        self.0.forget();
    }
}

async fn move_slots(shared: &Arc<Shared>, interval: Duration) {
    let mut mover = Mover {
        shared: Arc::clone(shared),
        interval,
        working: JoinSet::new(),
        busy: BTreeMap::new(),
        tried: BTreeMap::new(),
        resting: BTreeMap::new(),
        shunned_targets: BTreeMap::new(),
        shunned_slots: BTreeMap::new(),
        repairs: None,
    };
    loop {
        if let Err(error) = mover.steer().await {
            tracing::debug!(%error, "no moves are begun this time");
        }
        let ended = tokio::select! {
            Some(ended) = mover.working.join_next_with_id() => Some(ended),
            () = shared.clock.sleep(interval) => None,
            () = shared.rebalance.wake.notified() => None,
        };
        if let Some(ended) = ended {
            mover.ended(ended).await;
        }
    }
}

struct Mover {
    shared: Arc<Shared>,
    interval: Duration,
    /// The moves that are worked on, which end with this.
    working: JoinSet<Result<(), MoveFailure>>,
    busy: BTreeMap<Key, (Id, Begun)>,
    /// The moves that were worked on before.
    tried: BTreeMap<Key, Timestamp>,
    /// Moves that failed.
    resting: BTreeMap<Key, Rest>,
    /// Until when disks get nothing that failed to take something.
    shunned_targets: BTreeMap<DiskId, Duration>,
    /// Until when slots aren't moved that could not be read.
    shunned_slots: BTreeMap<Key, Duration>,
    /// The fewest extents that were seen to wait for repair since there were none, and when.
    repairs: Option<(usize, Duration)>,
}

#[derive(Clone, Copy)]
struct Rest {
    since: Timestamp,
    until: Duration,
    failures: u32,
}

impl Mover {
    /// Cancels, begins, and takes up what is under way.
    async fn steer(&mut self) -> Result<(), MetadataError> {
        let map = self.shared.map.refresh().await?;
        self.shared.repair.set_rate(&self.shared, &map);
        if map.level_in_use() < MOVING {
            self.shared.rebalance.set_paused(Some(PauseReason::OldRelease));
            return Ok(());
        }
        let map = self.change(map).await?;
        let all = under_way(&map);
        if !all.is_empty() && self.is_held().await? {
            self.shared.rebalance.set_paused(Some(PauseReason::MetadataHeld));
            return Ok(());
        }
        let now = self.shared.clock.monotonic();
        let is_there = |key: &Key, since: Timestamp| {
            all.iter().any(|begun| (begun.what.pg, begun.what.slot) == *key && begun.since == since)
        };
        self.resting.retain(|key, rest| is_there(key, rest.since));
        self.tried.retain(|key, since| is_there(key, *since));
        metrics::gauge!("drystone_moves_under_way").set(all.len() as f64);
        for begun in all {
            let key = (begun.what.pg, begun.what.slot);
            let rests = self.resting.get(&key).is_some_and(|rest| rest.until > now);
            if self.working.len() >= SLOTS_AT_ONCE || rests || self.busy.contains_key(&key) {
                continue;
            }
            self.shared.rebalance.begin(begun.what);
            let is_first = self.tried.insert(key, begun.since).is_none();
            let task = SlotTask { shared: Arc::clone(&self.shared), begun, is_first };
            let handle = self.working.spawn(async move { task.run().await });
            self.busy.insert(key, (handle.id(), begun));
        }
        Ok(())
    }

    /// Has the metadata cancel and begin what the map asks for; the map after it.
    async fn change(&mut self, map: Arc<ClusterMap>) -> Result<Arc<ClusterMap>, MetadataError> {
        let steps = steps(&map, &self.shunned());
        let mut paused = steps.paused;
        for begun in &steps.cancel {
            self.cancel(begun).await?;
        }
        let mut begin = steps.lost;
        if !steps.others.is_empty() {
            if self.waits_for_repairs(&map).await? {
                paused = Some(PauseReason::RepairsWaiting);
            } else {
                begin.extend(steps.others);
            }
        }
        if !begin.is_empty() && self.is_held().await? {
            paused = Some(PauseReason::MetadataHeld);
            begin.clear();
        }
        let is_changed = !steps.cancel.is_empty() || !begin.is_empty();
        if !begin.is_empty() {
            self.begin(begin).await?;
        }
        self.shared.rebalance.set_paused(paused);
        if is_changed { self.shared.map.refresh().await } else { Ok(map) }
    }

    /// Whether redundancy is short somewhere, and getting better.
    async fn waits_for_repairs(&mut self, map: &ClusterMap) -> Result<bool, MetadataError> {
        let left = work_left(&self.shared, map, REPAIRS_COUNTED).await?;
        let now = self.shared.clock.monotonic();
        let (fewest, since) = self.repairs.unwrap_or((usize::MAX, now));
        let is_fewer = left < fewest;
        self.repairs = match left {
            0 => None,
            _ if is_fewer => Some((left, now)),
            _ => Some((fewest, since)),
        };
        let patience = self.interval * REPAIR_PATIENCE;
        Ok(left > 0 && (is_fewer || now.saturating_sub(since) < patience))
    }

    async fn begin(&self, moves: Vec<Move>) -> Result<(), MetadataError> {
        let command = Command::BeginMoves { moves: moves.clone() };
        match self.shared.metadata.propose(command).await? {
            Outcome::Refused(refusal) => tracing::debug!(%refusal, "moves are planned again"),
            _ => {
                for Move { pg, slot, from, to, reason } in moves {
                    let reason = reason.as_str();
                    tracing::info!(pg = pg.0, slot, %from, %to, reason, "a slot moves");
                }
            }
        }
        Ok(())
    }

    /// What the planner isn't to choose now.
    fn shunned(&mut self) -> Shunned {
        let now = self.shared.clock.monotonic();
        self.shunned_targets.retain(|_, until| *until > now);
        self.shunned_slots.retain(|_, until| *until > now);
        Shunned {
            targets: self.shunned_targets.keys().copied().collect(),
            slots: self.shunned_slots.keys().copied().collect(),
            strays: self.shared.rebalance.places_of_strays(),
        }
    }

    async fn is_held(&self) -> Result<bool, MetadataError> {
        match self.shared.metadata.query(Query::Held).await? {
            Answer::Held(held) => Ok(held.is_some()),
            _ => Err(MetadataError::Unavailable),
        }
    }

    async fn cancel(&self, begun: &Begun) -> Result<(), MetadataError> {
        let Begun { what, since } = *begun;
        let Move { pg, slot, to, .. } = what;
        let end = MoveEnd { pg, slot, to, result: MoveResult::Cancelled, since };
        let outcome = self.shared.metadata.propose(Command::EndMove(end)).await?;
        if outcome != Outcome::Refused(Refusal::MovesOutdated) {
            let (reason, desk) = (what.reason.as_str(), &self.shared.rebalance);
            tracing::info!(pg = pg.0, slot, %to, reason, "a move is given up");
            desk.cancelled.fetch_add(1, Ordering::Relaxed);
            metrics::counter!("drystone_moves_total", "result" => "cancelled").increment(1);
            // What only the new disk has lacks again.
            self.shared.repair.wake();
        }
        Ok(())
    }

    /// Takes note of how a move went.
    async fn ended(&mut self, ended: Result<(Id, Result<(), MoveFailure>), JoinError>) {
        let (id, result) = match ended {
            Ok((id, result)) => (id, result),
            Err(error) => {
                tracing::error!(%error, "a move ended in disorder");
                (error.id(), Err(MoveFailure::Unavailable))
            }
        };
        let found = self.busy.iter().find(|(_, (busy, _))| *busy == id);
        let Some((key, begun)) = found.map(|(key, (_, begun))| (*key, *begun)) else { return };
        self.busy.remove(&key);
        let (what, desk) = (begun.what, &self.shared.rebalance);
        desk.end(what);
        let Err(failure) = result else {
            self.resting.remove(&key);
            desk.slots.fetch_add(1, Ordering::Relaxed);
            let reason = what.reason.as_str();
            metrics::counter!("drystone_moves_total", "result" => "done", "reason" => reason)
                .increment(1);
            if what.reason == MoveReason::Lost {
                // What could not be rebuilt waits for repair on the new disk.
                self.shared.repair.wake();
            }
            return;
        };
        if failure == MoveFailure::Gone {
            self.resting.remove(&key);
            return;
        }
        desk.failures.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("drystone_move_failures_total", "kind" => failure.as_str()).increment(1);
        let failures = self.resting.get(&key).map_or(0, |rest| rest.failures) + 1;
        if failures == 1 {
            let Move { pg, slot, to, .. } = what;
            tracing::warn!(pg = pg.0, slot, %to, %failure, "a slot does not move yet");
        }
        if failures >= FAILURES_MAX && self.give_up(&begun, failure).await {
            self.resting.remove(&key);
            return;
        }
        // Where the map is looked at more often, less is waited for.
        let first = REST_FIRST.min(self.interval * 10);
        let length = (first * 2u32.saturating_pow(failures.min(16) - 1)).min(REST_MAX);
        let until = self.shared.clock.monotonic() + length;
        self.resting.insert(key, Rest { since: begun.since, until, failures });
    }

    /// Gives up a move that keeps failing, and sees to it that it isn't begun again at once.
    async fn give_up(&mut self, begun: &Begun, failure: MoveFailure) -> bool {
        let until = self.shared.clock.monotonic() + SHUNNED_FOR;
        match failure {
            MoveFailure::TargetFailed => {
                self.shunned_targets.insert(begun.what.to, until);
            }
            MoveFailure::SourcesOutOfReach => {
                self.shunned_slots.insert((begun.what.pg, begun.what.slot), until);
            }
            MoveFailure::Gone | MoveFailure::Unavailable => return false,
        }
        self.cancel(begun).await.is_ok()
    }
}
