//! Carries out orders to disks, nodes and moves.
//!
//! In: orders. Out: proposals, and documents. What always holds: a change is planned on the map as it
//! is now before it is proposed, and isn't proposed when only the plan was wanted or when it is refused.
//! Planning a large cluster takes its time, and is done apart from the threads that answer.

use std::sync::Arc;

use model::command::Command;
use model::ids::{NodeId, PgId};
use model::moves::{MoveEnd, MoveResult};
use wire::clock::Clock;

use crate::admin::gather::StatusGatherer;
use crate::admin::orders::OrderError;
use crate::admin::upkeep::change::{Change, no_node};
use crate::admin::upkeep::lacking::Lacking;
use crate::admin::upkeep::orders::{CancelOrder, ChangeOrder, Changed, UpkeepOrder, UpkeepStatus};
use crate::admin::upkeep::plan::{Known, plan};
use crate::admin::upkeep::progress::{Doer, MoveMeter, MovesStatus, SPAN_MIN};
use crate::admin::upkeep::stop::{Present, StopAnswer, ok_to_stop};
use crate::admin::upkeep::whole::Plans;

/// The word by which a gateway calls the job of moving slots.
const MOVE_JOB: &str = "move";

/// How often the upkeep is read anew when others change it at the same time.
const UPKEEP_TRIES: u32 = 5;

/// Carries orders out.
pub struct UpkeepDesk {
    gatherer: StatusGatherer,
    clock: Arc<dyn Clock>,
    meter: MoveMeter,
    plans: Plans,
}

impl UpkeepDesk {
    /// Orders by the gatherer's way to the metadata.
    pub fn new(gatherer: StatusGatherer, clock: Arc<dyn Clock>) -> Self {
        let plans = Plans::new(Arc::clone(&clock));
        Self { gatherer, clock, meter: MoveMeter::default(), plans }
    }

    /// Whether this process may order anything.
    pub(super) const fn is_open(&self) -> bool {
        self.gatherer.may_order()
    }

    /// Plans a change, and has it made unless only the plan is wanted.
    pub(super) async fn change(
        &self,
        change: &Change,
        order: ChangeOrder,
    ) -> Result<Changed, OrderError> {
        let picture = self.gatherer.picture().await?;
        change.check(&picture.map)?;
        let is_made = change.is_made(&picture.map);
        // Only who gives a disk up has to know what needs it.
        let (lacking, unlooked) = match change {
            Change::Out { is_out: true, .. } => self.gatherer.lacking().await?,
            _ => (Vec::new(), 0),
        };
        let (map, planned) = {
            let change = Change::clone(change);
            let mut turn = self.plans.turn().await;
            apart(move || {
                let anyway = turn.plan(&picture.map);
                let known = Known {
                    unused: &picture.unused,
                    reports: &picture.reports,
                    voters: picture.voters.as_deref(),
                    lacking: Lacking { items: &lacking, unlooked },
                    anyway: Some(&anyway.moves),
                };
                let planned = plan(&picture.map, &known, &change);
                (picture.map, planned)
            })
            .await?
        };
        if order.plan {
            let sentence = format!("{}.", change.sentence(is_made));
            return Ok(Changed { changed: false, sentence, plan: planned });
        }
        if let Some(refusal) = planned.refusal.as_ref().filter(|_| !order.force && !is_made) {
            return Err(OrderError::Refused(refusal.clone()));
        }
        if !is_made {
            for command in change.commands(&map) {
                self.gatherer.propose(command).await?;
            }
            self.wake().await;
        }
        let sentence = format!("{}.", change.sentence(true));
        Ok(Changed { changed: !is_made, sentence, plan: planned })
    }

    /// Whether a node may be stopped.
    pub(super) async fn ok_to_stop(&self, node: NodeId) -> Result<StopAnswer, OrderError> {
        let picture = self.gatherer.picture().await?;
        let has_disks = picture.map.disks.iter().any(|disk| disk.node == node);
        if picture.map.node(node).is_none() && !has_disks {
            return Err(no_node(node));
        }
        let Some(voters) = picture.voters else {
            let text = "The metadata has no leader now; ask again.";
            return Err(OrderError::Unavailable(text.to_owned()));
        };
        let (lacking, unlooked) = self.gatherer.lacking().await?;
        apart(move || {
            let present = Present {
                map: &picture.map,
                unused: &picture.unused,
                reports: &picture.reports,
                suspects: &picture.suspects,
                voters: &voters,
                lacking: Lacking { items: &lacking, unlooked },
            };
            ok_to_stop(&present, node)
        })
        .await
    }

    /// How far moves are. Waits for a moment when nobody asked of late, to measure their speed.
    pub(super) async fn moves(&self) -> Result<MovesStatus, OrderError> {
        let picture = self.gatherer.picture().await?;
        let mut doer = self.doer();
        let is_busy = doer.progress.as_ref().is_some_and(|progress| !progress.under_way.is_empty());
        if is_busy && doer.bytes_per_second.is_none() {
            self.clock.sleep(SPAN_MIN).await;
            doer = self.doer();
        }
        let plan = self.plans.recent(&picture.map).await?;
        apart(move || {
            let known = Known { reports: &picture.reports, ..Known::default() };
            MovesStatus::new(&picture.map, &plan, &known, &doer)
        })
        .await
    }

    fn doer(&self) -> Doer {
        let engine = self.gatherer.engine();
        let progress = engine.map(engine::Engine::rebalance_progress);
        let bytes = progress.as_ref().map(|progress| progress.bytes);
        Doer {
            is_here: engine.is_some_and(|engine| engine.leased_jobs().contains(&MOVE_JOB)),
            node: self.gatherer.node().map(|node| node.0),
            bytes_per_second: bytes
                .and_then(|bytes| self.meter.read(self.clock.monotonic(), bytes)),
            progress,
        }
    }

    /// Gives a move up that is under way.
    pub(super) async fn cancel(&self, order: CancelOrder) -> Result<CancelOrder, OrderError> {
        let picture = self.gatherer.picture().await?;
        let (pg, slot) = (PgId(order.pg), order.slot);
        let group = picture.map.pg(pg);
        let group = group
            .ok_or_else(|| OrderError::NotFound(format!("There is no placement group {pg}.")))?;
        let under_way = group.move_of(slot).ok_or_else(|| {
            OrderError::NotFound(format!("Slot {slot} of placement group {pg} doesn't move."))
        })?;
        let (to, since) = (under_way.to, under_way.since);
        let end = MoveEnd { pg, slot, to, result: MoveResult::Cancelled, since };
        self.gatherer.propose(Command::EndMove(end)).await?;
        self.wake().await;
        Ok(order)
    }

    /// How the cluster keeps itself whole.
    pub(super) async fn upkeep(&self) -> Result<UpkeepStatus, OrderError> {
        Ok(UpkeepStatus::new(&self.gatherer.map().await?.upkeep))
    }

    /// Has the cluster keep itself whole in another way. What others change meanwhile stays.
    pub(super) async fn set_upkeep(&self, order: UpkeepOrder) -> Result<UpkeepStatus, OrderError> {
        let mut known = self.gatherer.picture().await?.map.upkeep;
        let mut tries = 1;
        loop {
            let wish = order.applied(&known)?;
            if wish == known {
                return Ok(UpkeepStatus::new(&wish));
            }
            match self.gatherer.propose(Command::SetUpkeep { known, wish }).await {
                Ok(()) => {
                    self.wake().await;
                    return Ok(UpkeepStatus::new(&wish));
                }
                Err(OrderError::Refused(why)) => {
                    let now = self.gatherer.picture().await?.map.upkeep;
                    if now == known || tries == UPKEEP_TRIES {
                        return Err(OrderError::Refused(why));
                    }
                    (known, tries) = (now, tries + 1);
                }
                Err(other) => return Err(other),
            }
        }
    }

    /// The disks, as `/status` has them.
    pub(super) async fn disks(&self) -> Vec<crate::admin::status::DiskStatus> {
        self.gatherer.status().await.disks
    }

    /// What this process knows of the map is out of date.
    async fn wake(&self) {
        self.plans.forget().await;
        if let Some(engine) = self.gatherer.engine() {
            engine.wake_rebalance();
        }
    }
}

/// Computes something that takes its time.
pub(in crate::admin) async fn apart<T: Send + 'static>(
    compute: impl FnOnce() -> T + Send + 'static,
) -> Result<T, OrderError> {
    tokio::task::spawn_blocking(compute)
        .await
        .map_err(|_| OrderError::Failed("The plan could not be made.".to_owned()))
}
