//! A run of stripes into extents, one after another.
//!
//! In: stripes, in order. Out: durable extents that hold them, in order. When a target fails, the
//! extent ends in front of the first stripe that it failed, and that stripe and those behind it
//! are sent again, into a new extent in another PG (I-2). Only where no other PG is open does the
//! run go on with a slot missing. Stripes that an extent got beyond its end stay on its disks
//! until the extent is deleted; no read ever looks there.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use model::extent::Extent;
use model::ids::{DiskId, ExtentId};
use model::owner::Owner;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;

use super::WriteError;
use super::extent::{OpenExtent, SealedExtent};
use super::placement::{GiveUp, WantedCoding, has_whole_pg, open_extent};
use super::seal::seal;
use super::send::{StripeJob, StripeOutcome, send_stripe};
use crate::discard::Discard;
use crate::shared::Shared;
use crate::stripe::Stripe;

type Sending = JoinHandle<Result<StripeOutcome, WriteError>>;

/// A written extent with the disks of its PG.
pub(super) type WrittenExtent = (Extent, Arc<[DiskId]>);

/// The run. Dropped before it has finished, it deletes all that it wrote.
pub(super) struct Run {
    pub(super) shared: Arc<Shared>,
    pub(super) owner: Arc<Owner>,
    pub(super) wanted: WantedCoding,
    /// Where the next extent begins in the part.
    offset: u64,
    /// Stripes to be sent, or sent again.
    pending: VecDeque<Stripe>,
    open: Option<OpenExtent>,
    /// Stripes under way to the open extent, in order.
    in_flight: VecDeque<Sending>,
    /// Extents that have ended, in order.
    ended: VecDeque<JoinHandle<SealedExtent>>,
    /// Extents that are sealed, durable, and part of the result.
    written: Vec<WrittenExtent>,
    /// Every extent that may have shards and isn't handed over.
    touched: Vec<(ExtentId, Arc<[DiskId]>)>,
    /// Shards may arrive after their request failed.
    late: bool,
    /// When to stop looking for disks; set by the first failure, cleared by success.
    give_up: Option<Duration>,
    /// When a place was first looked for since the last success.
    looking_since: Option<Duration>,
    /// How many rescues this run is the work of.
    pub(super) depth: u32,
}

impl Run {
    pub(super) fn new(shared: Arc<Shared>, owner: Arc<Owner>, wanted: WantedCoding) -> Self {
        Self {
            shared,
            offset: owner.offset,
            owner,
            wanted,
            pending: VecDeque::new(),
            open: None,
            in_flight: VecDeque::new(),
            ended: VecDeque::new(),
            written: Vec::new(),
            touched: Vec::new(),
            late: false,
            give_up: None,
            looking_since: None,
            depth: 0,
        }
    }

    /// A share of the write budget for the next stripe. A run that has to wait first lets go of
    /// all that it holds itself: waiting writers that hold something could wait for each other.
    pub(super) async fn admit(&mut self, bytes: u64) -> Result<OwnedSemaphorePermit, WriteError> {
        loop {
            if let Some(permit) = self.shared.write_budget.try_acquire(bytes) {
                return Ok(permit);
            }
            let Some(fewer) = self.in_flight.len().checked_sub(1) else { break };
            self.pump(fewer, false).await?;
        }
        let patience = self.shared.options.budget_wait;
        let acquire = self.shared.write_budget.acquire(bytes, &*self.shared.clock, patience);
        acquire.await.ok_or(WriteError::Overloaded)
    }

    /// Takes a stripe; waits while as many as allowed are under way.
    pub(super) async fn push(&mut self, stripe: Stripe) -> Result<(), WriteError> {
        self.pending.push_back(stripe);
        let most = self.shared.options.stripes_in_flight.max(1);
        self.pump(most - 1, false).await
    }

    /// Takes the last stripe, if there is one more, and ends when everything is durable.
    pub(super) async fn finish(
        &mut self,
        last: Option<Stripe>,
    ) -> Result<Vec<WrittenExtent>, WriteError> {
        self.pending.extend(last);
        self.pump(0, true).await?;
        self.end_extent();
        while let Some(sealing) = self.ended.front_mut() {
            let sealed = sealing.await.map_err(|_| WriteError::Unavailable)?;
            self.ended.pop_front();
            if sealed.is_durable {
                self.written.push((sealed.extent, Arc::clone(&sealed.spec.disks)));
            } else {
                let rescued = self.rescue(&sealed).await?;
                self.late |= sealed.late;
                self.give_back(sealed.extent.id);
                // The rescue has handed them over to us.
                let touched = rescued.iter().map(|(extent, disks)| (extent.id, disks.clone()));
                self.touched.extend(touched);
                self.written.extend(rescued);
            }
        }
        let written = std::mem::take(&mut self.written);
        // They are the caller's now; whatever else was touched goes when the run is dropped.
        self.touched.retain(|(id, _)| !written.iter().any(|(extent, _)| extent.id == *id));
        Ok(written)
    }

    /// The owner of an extent that begins at `offset`: the headers are told once for the whole body.
    pub(super) fn owner_at(&self, offset: u64) -> Owner {
        let mut owner = Owner::clone(&self.owner);
        owner.offset = offset;
        if offset > 0 {
            owner.headers = None;
        }
        owner
    }

    /// Bytes of the extents that are written.
    pub(super) fn written_bytes(&self) -> u64 {
        self.written.iter().map(|(extent, _)| extent.length).sum()
    }

    /// Sends what is pending until at most `settle_to` stripes are under way.
    async fn pump(&mut self, settle_to: usize, last: bool) -> Result<(), WriteError> {
        let most = self.shared.options.stripes_in_flight.max(1);
        loop {
            let Some(next) = self.pending.front() else {
                if self.in_flight.len() <= settle_to {
                    return Ok(());
                }
                self.settle_one().await?;
                continue;
            };
            if self.open.as_ref().is_some_and(|open| !open.takes(next.bytes())) {
                if self.in_flight.is_empty() {
                    self.end_extent();
                } else {
                    self.settle_one().await?;
                }
            } else if self.in_flight.len() < most {
                self.send_next(last).await?;
            } else {
                self.settle_one().await?;
            }
        }
    }

    /// Sends the first pending stripe.
    async fn send_next(&mut self, last: bool) -> Result<(), WriteError> {
        let Some(next) = self.pending.front() else { return Ok(()) };
        if self.open.is_none() {
            let now = self.shared.clock.monotonic();
            let options = &self.shared.options;
            let since = *self.looking_since.get_or_insert(now);
            let give_up = GiveUp {
                at: self.give_up.unwrap_or(now + options.placement_patience),
                unreachable_at: since + options.reach_patience,
            };
            let owner = self.owner_at(self.offset);
            let open =
                open_extent(&self.shared, &owner, &self.wanted, next.bytes(), give_up).await?;
            self.touched.push((open.spec.id, Arc::clone(&open.spec.disks)));
            self.open = Some(open);
        }
        let (Some(open), Some(stripe)) = (&mut self.open, self.pending.pop_front()) else {
            return Ok(());
        };
        // The only stripe of an extent is appended and synced in one request.
        let sync = last && self.pending.is_empty() && open.begun == 0;
        open.synced = sync;
        let job = StripeJob {
            extent: Arc::clone(&open.spec),
            number: open.begun,
            stripe,
            skip: open.skip,
            sync,
        };
        open.begun += 1;
        self.in_flight.push_back(tokio::spawn(send_stripe(Arc::clone(&self.shared), job)));
        Ok(())
    }

    /// Waits for the oldest stripe under way.
    async fn settle_one(&mut self) -> Result<(), WriteError> {
        let Some(outcome) = self.next_outcome().await? else { return Ok(()) };
        if outcome.failed.is_empty() {
            (self.give_up, self.looking_since) = (None, None);
            if let Some(open) = &mut self.open {
                open.keep(&outcome);
                self.offset += u64::from(outcome.stripe.bytes());
            }
            return Ok(());
        }
        let mut outcomes = vec![outcome];
        while let Some(outcome) = self.next_outcome().await? {
            outcomes.push(outcome);
        }
        self.recover(outcomes)
    }

    /// Cancel-safe: a stripe stays in flight until its outcome is here.
    async fn next_outcome(&mut self) -> Result<Option<StripeOutcome>, WriteError> {
        let Some(sending) = self.in_flight.front_mut() else { return Ok(None) };
        let outcome = sending.await.map_err(|_| WriteError::Unavailable);
        self.in_flight.pop_front();
        outcome?.map(Some)
    }

    /// Goes on after a disk failed. `outcomes` are all stripes that were under way, in order.
    fn recover(&mut self, outcomes: Vec<StripeOutcome>) -> Result<(), WriteError> {
        let now = self.shared.clock.monotonic();
        let patience = self.shared.options.placement_patience;
        let give_up = *self.give_up.get_or_insert(now + patience);
        for (_, disk) in outcomes.iter().flat_map(|outcome| &outcome.failed) {
            self.shared.door.avoid(*disk);
        }
        let Some(mut open) = self.open.take() else { return Err(WriteError::Failed) };
        let groups = self.shared.map.open_groups();
        let elsewhere = groups.is_some_and(|groups| {
            let wanted = self.wanted.by(groups.map(), &self.owner.bucket);
            has_whole_pg(&groups, wanted, &self.shared.door.avoided())
        });
        let mut outcomes = VecDeque::from(outcomes);
        while let Some(outcome) = outcomes.pop_front() {
            open.late |= outcome.late;
            for (slot, _) in &outcome.failed {
                open.skip.insert(*slot);
            }
            let whole = outcome.failed.is_empty();
            if whole || (!elsewhere && open.would_keep(&outcome)) {
                open.keep(&outcome);
                self.offset += u64::from(outcome.stripe.bytes());
                continue;
            }
            // This stripe and all behind it are sent again.
            open.late |= outcomes.iter().any(|outcome| outcome.late);
            let again = std::iter::once(outcome).chain(outcomes).map(|outcome| outcome.stripe);
            let again: Vec<_> = again.collect();
            for stripe in again.into_iter().rev() {
                self.pending.push_front(stripe);
            }
            metrics::counter!("drystone_pg_switches_total").increment(1);
            self.open = Some(open);
            self.end_extent();
            if now > give_up {
                return Err(WriteError::Unavailable);
            }
            return Ok(());
        }
        self.open = Some(open);
        Ok(())
    }

    /// Ends the open extent: seals what it holds, or gives it up when it holds nothing.
    fn end_extent(&mut self) {
        let Some(open) = self.open.take() else { return };
        self.late |= open.late;
        if open.is_empty() {
            self.give_back(open.spec.id);
        } else {
            self.ended.push_back(tokio::spawn(seal(Arc::clone(&self.shared), open)));
        }
    }

    /// Deletes an extent that isn't needed any more.
    fn give_back(&mut self, id: ExtentId) {
        let at = self.touched.iter().position(|(touched, _)| *touched == id);
        let extents = at.map(|at| self.touched.swap_remove(at)).into_iter().collect();
        self.shared.discards.push(Discard { extents, settled: None, again: self.late });
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let extents = std::mem::take(&mut self.touched);
        let in_flight = std::mem::take(&mut self.in_flight);
        let ended = std::mem::take(&mut self.ended);
        // Shards that are on their way when the extent is deleted would come back after it.
        let settled = async move {
            for sending in in_flight {
                let _ = sending.await;
            }
            for sealing in ended {
                let _ = sealing.await;
            }
        };
        let settled = Some(Box::pin(settled) as wire::BoxFuture<'static, ()>);
        self.shared.discards.push(Discard { extents, settled, again: self.late });
    }
}
