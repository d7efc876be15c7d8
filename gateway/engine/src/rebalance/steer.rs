//! Decides which slots move, until told to stop or until it is dropped: what is under way is found in
//! the cluster map by whoever has the lease next.
//!
//! In: the cluster map, and how moves failed. Out: the commands that begin moves and give them up.
//! Whoever has the lease of the new disk's node carries a move out ([`super::carry`]); one that keeps
//! failing is marked in the map, and given up here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use model::cluster_map::ClusterMap;
use model::command::{Command, Outcome, Refusal};
use model::ids::DiskId;
use model::level::MOVING;
use model::moves::{Move, MoveEnd, MoveFault, MoveResult};
use model::query::{Answer, MetadataError, Query};
use tokio::sync::watch;

use super::plan::{Begun, PauseReason, Shunned, Slot, Steps, steps, under_way};
use super::{RebalanceDesk, strays};
use crate::repair::{REPAIRS_COUNTED, RepairPatience, work_left};
use crate::shared::Shared;

/// For so many intervals a disk is given nothing that failed to take a slot, and a slot isn't moved
/// that could not be read.
const SHUNNED_INTERVALS: u32 = 150;

/// Repairs are waited for as long as they get fewer, and for this many intervals more: one that
/// always fails must not keep slots where they are for ever.
const REPAIR_PATIENCE: u32 = 300;

/// Plans moves and deletes what they leave behind, until told to stop.
pub(crate) async fn run(
    shared: Arc<Shared>,
    interval: Duration,
    mut stopping: watch::Receiver<bool>,
) {
    let _idle_at_the_end = Idle(&shared.rebalance);
    shared.rebalance.deletions.take_over(shared.clock.monotonic());
    tokio::select! {
        _ = stopping.wait_for(|stop| *stop) => {}
        () = steer(&shared, interval) => {}
        () = strays::run(&shared) => {}
    }
}

/// Nothing is decided here any more when this is gone: another gateway may go on.
struct Idle<'a>(&'a RebalanceDesk);

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        self.0.hand_over();
    }
}

async fn steer(shared: &Arc<Shared>, interval: Duration) {
    let mut steerer = Steerer {
        shared: Arc::clone(shared),
        interval,
        shunned_targets: BTreeMap::new(),
        shunned_slots: BTreeMap::new(),
        repairs: RepairPatience::default(),
        planned: None,
    };
    loop {
        if let Err(error) = steerer.steer().await {
            tracing::debug!(%error, "no moves are begun this time");
        }
        tokio::select! {
            () = shared.clock.sleep(interval) => {}
            () = shared.rebalance.wake.notified() => {}
        }
    }
}

struct Steerer {
    shared: Arc<Shared>,
    interval: Duration,
    /// Until when disks get nothing that failed to take something.
    shunned_targets: BTreeMap<DiskId, Duration>,
    /// Until when slots aren't moved that could not be read.
    shunned_slots: BTreeMap<Slot, Duration>,
    repairs: RepairPatience,
    /// The last plan, and what it was made from.
    planned: Option<(u64, Shunned, Arc<Steps>)>,
}

impl Steerer {
    /// Gives up and begins what the map asks for.
    async fn steer(&mut self) -> Result<(), MetadataError> {
        let map = self.shared.map.refresh().await?;
        let desk = &self.shared.rebalance;
        if map.level_in_use() < MOVING {
            desk.set_paused(Some(PauseReason::OldRelease));
            return Ok(());
        }
        let begun = under_way(&map);
        metrics::gauge!("drystone_moves_under_way").set(begun.len() as f64);
        self.shun(&begun);
        let steps = self.plan(&map).await?;
        let mut paused = steps.paused;
        for begun in &steps.cancel {
            self.cancel(begun).await?;
        }
        let mut begin = steps.lost.clone();
        if !steps.others.is_empty() {
            if self.waits_for_repairs(&map).await? {
                paused = Some(PauseReason::RepairsWaiting);
            } else {
                begin.extend(&steps.others);
            }
        }
        let is_any = !begin.is_empty() || !begun.is_empty();
        if is_any && is_held(&self.shared).await? {
            paused = Some(PauseReason::MetadataHeld);
            begin.clear();
        }
        let is_changed = !steps.cancel.is_empty() || !begin.is_empty();
        if !begin.is_empty() {
            self.begin(begin).await?;
        }
        self.shared.rebalance.set_paused(paused);
        if is_changed {
            self.shared.map.refresh().await?;
            self.shared.rebalance.carry.notify_one();
        }
        Ok(())
    }

    /// What is marked as failing isn't begun again at once.
    fn shun(&mut self, begun: &[Begun]) {
        let until = self.shared.clock.monotonic() + self.interval * SHUNNED_INTERVALS;
        for Begun { what, fault, .. } in begun {
            match fault {
                Some(MoveFault::Target) => {
                    self.shunned_targets.insert(what.to, until);
                }
                Some(MoveFault::Sources) => {
                    self.shunned_slots.insert((what.pg, what.slot), until);
                }
                None => {}
            }
        }
    }

    /// A plan depends on the map and on what is shunned alone, and takes its time in large clusters.
    async fn plan(&mut self, map: &Arc<ClusterMap>) -> Result<Arc<Steps>, MetadataError> {
        let shunned = self.shunned();
        if let Some((epoch, by, steps)) = &self.planned
            && *epoch == map.epoch
            && *by == shunned
        {
            return Ok(Arc::clone(steps));
        }
        let (planned_from, by) = (Arc::clone(map), shunned.clone());
        let planned = self.shared.compute(move || steps(&planned_from, &by)).await;
        let planned = Arc::new(planned.map_err(|_| MetadataError::Unavailable)?);
        self.planned = Some((map.epoch, shunned, Arc::clone(&planned)));
        Ok(planned)
    }

    /// Whether redundancy is short somewhere, and getting better.
    async fn waits_for_repairs(&mut self, map: &ClusterMap) -> Result<bool, MetadataError> {
        let left = work_left(&self.shared, map, REPAIRS_COUNTED).await?;
        let now = self.shared.clock.monotonic();
        Ok(self.repairs.waits(left, now, self.interval * REPAIR_PATIENCE))
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

    async fn cancel(&self, begun: &Begun) -> Result<(), MetadataError> {
        let Begun { what, since, .. } = *begun;
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
}

/// Whether the metadata holds what it doesn't know yet: nothing moves then.
pub(super) async fn is_held(shared: &Shared) -> Result<bool, MetadataError> {
    match shared.metadata.query(Query::Held).await? {
        Answer::Held(held) => Ok(held.is_some()),
        _ => Err(MetadataError::Unavailable),
    }
}
