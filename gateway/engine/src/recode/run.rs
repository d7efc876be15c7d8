//! Works off the orders to recode buckets, until told to stop or until it is dropped: how far a bucket
//! is, is kept with its order, and whoever has the lease next goes on there.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use model::bucket::Bucket;
use model::class::{RecodeAmount, RecodeOrder, RecodePage, SetRecode};
use model::command::{Command, Outcome};
use model::names::{BucketName, ObjectKey};
use model::query::{Answer, MetadataError, Query};
use tokio::sync::watch;

use super::object::recode_object;
use super::plan::{RecodePause, has_place, pause};
use super::rest::Rests;
use super::{RecodeDesk, RecodeFailure};
use crate::repair::{REPAIRS_COUNTED, RepairPatience, work_left};
use crate::shared::Shared;

/// Buckets that are asked for at a time.
const BUCKETS: u32 = 1000;

/// Objects that are looked at for one question.
const PAGE: u32 = 256;

/// Objects that are recoded at once: small ones wait for disks, not for bandwidth.
const OBJECTS_AT_ONCE: usize = 4;

/// How far a bucket is, is told at least this often while there is nothing to do in it.
const TOLD_EVERY: Duration = Duration::from_secs(30);

/// After a question that came to nothing the metadata is left to others for so many times as long as it
/// took, so that a long bucket costs it a fifth of its time at most.
const QUIET_FACTOR: u32 = 4;

/// Repairs are waited for as long as they get fewer, and for this many intervals more.
const REPAIR_PATIENCE: u32 = 120;

/// What came of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Worked {
    /// Its order is carried out, or isn't there any more.
    Done,
    /// A pass came to its end, and some of it could not be recoded.
    Leftover,
    /// It has to wait.
    Paused,
}

/// Recodes until told to stop.
pub(crate) async fn run(
    shared: Arc<Shared>,
    interval: Duration,
    mut stopping: watch::Receiver<bool>,
) {
    let _idle_at_the_end = Idle(&shared.recode);
    let (rests, patience) = (Rests::default(), RepairPatience::default());
    let mut recoder = Recoder { shared: &shared, interval, rests, patience };
    loop {
        let worked = tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            worked = recoder.work() => worked,
        };
        shared.recode.set_bucket(None);
        if let Err(error) = worked {
            tracing::debug!(%error, "nothing is recoded this time");
        }
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            () = shared.clock.sleep(interval) => {}
            () = shared.recode.wake.notified() => recoder.rests.end_all(),
        }
    }
}

/// Nothing is recoded here any more when this is gone: another gateway may go on.
struct Idle<'a>(&'a RecodeDesk);

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        self.0.set_bucket(None);
        self.0.set_paused(None);
    }
}

/// What it remembers from pass to pass.
struct Recoder<'a> {
    shared: &'a Arc<Shared>,
    interval: Duration,
    rests: Rests,
    patience: RepairPatience,
}

impl Recoder<'_> {
    /// One pass over each bucket with an order that doesn't rest.
    async fn work(&mut self) -> Result<(), MetadataError> {
        let shared = self.shared;
        let mut paused = None;
        for (bucket, order) in ordered(shared).await? {
            let ordered = order.ordered;
            if self.rests.rests(&bucket, ordered, shared.clock.monotonic()) {
                continue;
            }
            if let Some(reason) = self.why_not(&order).await? {
                paused = Some(reason);
                continue;
            }
            shared.recode.set_paused(None);
            shared.recode.set_bucket(Some(bucket.clone()));
            match self.recode_bucket(&bucket, order).await? {
                Worked::Done => self.rests.end(&bucket),
                Worked::Leftover => {
                    let now = shared.clock.monotonic();
                    self.rests.leftover(bucket, ordered, now, self.interval);
                }
                Worked::Paused => return Ok(()),
            }
        }
        shared.recode.set_paused(paused);
        Ok(())
    }

    /// Why an order isn't worked on now.
    async fn why_not(&mut self, order: &RecodeOrder) -> Result<Option<RecodePause>, MetadataError> {
        let shared = self.shared;
        let map = shared.map.refresh().await?;
        shared.repair.set_rate(shared, &map);
        if let Some(reason) = pause(&map) {
            return Ok(Some(reason));
        }
        if !has_place(&map, map.coding_of(Some(&order.class))) {
            return Ok(Some(RecodePause::NoPlace));
        }
        if is_held(shared).await? {
            return Ok(Some(RecodePause::MetadataHeld));
        }
        let left = work_left(shared, &map, REPAIRS_COUNTED).await?;
        let (now, patience) = (shared.clock.monotonic(), self.interval * REPAIR_PATIENCE);
        let waits = self.patience.waits(left, now, patience);
        Ok(waits.then_some(RecodePause::RepairsWaiting))
    }

    /// Works on a bucket until a pass over it comes to its end.
    async fn recode_bucket(
        &mut self,
        bucket: &BucketName,
        mut order: RecodeOrder,
    ) -> Result<Worked, MetadataError> {
        let shared = self.shared;
        let known = Some(order.ordered);
        let tell = |order: Option<RecodeOrder>| tell(shared, bucket, known, order);
        if order.total.is_none() {
            let Some(total) = count(shared, bucket).await? else { return Ok(Worked::Done) };
            tracing::info!(%bucket, class = %order.class, objects = total.objects, "a bucket is recoded");
            order.total = Some(total);
            if !tell(Some(order.clone())).await? {
                return Ok(Worked::Done);
            }
        }
        let mut told = shared.clock.monotonic();
        loop {
            let asked = shared.clock.monotonic();
            let Some(page) = page(shared, bucket, &order.cursor).await? else {
                return Ok(Worked::Done);
            };
            let is_busy = !page.keys.is_empty();
            if !is_busy && page.next.is_some() {
                leave_to_others(shared, asked).await;
            }
            if is_busy && let Some(reason) = self.why_not(&order).await? {
                shared.recode.set_paused(Some(reason));
                return Ok(Worked::Paused);
            }
            if let Some(reason) = recode_page(shared, bucket, &mut order, page.keys).await {
                // What of the page wasn't begun is found again, behind the same cursor.
                shared.recode.set_paused(Some(reason));
                let is_ordered = tell(Some(order)).await?;
                return Ok(if is_ordered { Worked::Paused } else { Worked::Done });
            }
            let next = page.next.map(|key| key.as_str().to_owned());
            let is_end = next.is_none();
            order.cursor = next.unwrap_or_default();
            if is_end && order.changed == 0 && order.failed == 0 {
                tell(None).await?;
                tracing::info!(%bucket, class = %order.class, "a bucket is recoded wholly");
                return Ok(Worked::Done);
            }
            let is_leftover = is_end && order.changed == 0;
            if is_end {
                if order.changed > 0 {
                    self.rests.end(bucket);
                }
                // What changed meanwhile, or failed, is looked at again.
                (order.changed, order.failed) = (0, if is_leftover { order.failed } else { 0 });
            }
            let now = shared.clock.monotonic();
            if is_busy || is_end || now.saturating_sub(told) > TOLD_EVERY {
                if !tell(Some(order.clone())).await? {
                    return Ok(Worked::Done);
                }
                told = now;
            }
            if is_leftover {
                // The next pass counts anew.
                return Ok(Worked::Leftover);
            }
        }
    }
}

/// Lets some time go by after a question that was asked at this time and came to nothing.
async fn leave_to_others(shared: &Shared, asked: Duration) {
    let took = shared.clock.monotonic().saturating_sub(asked);
    shared.clock.sleep((took * QUIET_FACTOR).min(shared.options.reconcile_pause)).await;
}

/// Buckets with orders.
async fn ordered(shared: &Shared) -> Result<Vec<(BucketName, RecodeOrder)>, MetadataError> {
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let query = Query::Buckets { prefix: String::new(), after, limit: BUCKETS };
        let Answer::Buckets(page) = shared.metadata.query(query).await? else {
            return Err(MetadataError::Unavailable);
        };
        let is_last = page.len() < BUCKETS as usize;
        let last = page.last().map(|bucket| bucket.name.as_str().to_owned());
        let with_order = |bucket: Bucket| Some((bucket.name, bucket.recode?));
        found.extend(page.into_iter().filter_map(with_order));
        match last {
            Some(last) if !is_last => after = last,
            Some(_) | None => return Ok(found),
        }
    }
}

async fn is_held(shared: &Shared) -> Result<bool, MetadataError> {
    match shared.metadata.query(Query::Held).await? {
        Answer::Held(held) => Ok(held.is_some()),
        _ => Err(MetadataError::Unavailable),
    }
}

/// Recodes some objects; what fails is counted and left to the next pass. Why not all of them were
/// begun, if so.
async fn recode_page(
    shared: &Arc<Shared>,
    bucket: &BucketName,
    order: &mut RecodeOrder,
    keys: Vec<ObjectKey>,
) -> Option<RecodePause> {
    if order.cursor.is_empty() {
        (order.changed, order.failed) = (0, 0);
    }
    let as_ordered = order.clone();
    let recodings: Vec<_> = keys
        .into_iter()
        .map(|key| {
            let order = &as_ordered;
            async move {
                let recoded = recode_object(shared, order, bucket, &key).await;
                (key, recoded)
            }
        })
        .collect();
    let mut recodings = stream::iter(recodings).buffer_unordered(OBJECTS_AT_ONCE);
    let mut paused = None;
    while let Some((key, recoded)) = recodings.next().await {
        match recoded {
            Ok(Some(bytes)) => {
                order.changed += 1;
                order.done.objects += 1;
                order.done.bytes += bytes;
                shared.recode.count(bytes);
            }
            Ok(None) => {}
            // It is found again, as it is then.
            Err(RecodeFailure::Changed) => order.changed += 1,
            Err(RecodeFailure::Paused(reason)) => paused = Some(reason),
            Err(failure) => {
                order.failed += 1;
                shared.recode.count_failure(failure);
                tracing::warn!(%bucket, key = key.as_str(), %failure, "an object is not recoded yet");
            }
        }
    }
    paused
}

/// How much there is to do; `None` when there is no order any more.
async fn count(
    shared: &Shared,
    bucket: &BucketName,
) -> Result<Option<RecodeAmount>, MetadataError> {
    let (mut total, mut after) = (RecodeAmount::default(), String::new());
    loop {
        let asked = shared.clock.monotonic();
        let Some(page) = page(shared, bucket, &after).await? else { return Ok(None) };
        total.objects += page.amount.objects;
        total.bytes += page.amount.bytes;
        match page.next {
            Some(next) => next.as_str().clone_into(&mut after),
            None => return Ok(Some(total)),
        }
        leave_to_others(shared, asked).await;
    }
}

/// A page of what is to be done; `None` when the bucket is gone.
async fn page(
    shared: &Shared,
    bucket: &BucketName,
    after: &str,
) -> Result<Option<RecodePage>, MetadataError> {
    let (bucket, after) = (bucket.clone(), after.to_owned());
    let query = Query::ToRecode { bucket, after, limit: PAGE, class: None };
    match shared.metadata.query(query).await? {
        Answer::ToRecode(page) => Ok(Some(page)),
        Answer::Refused(_) => Ok(None),
        _ => Err(MetadataError::Unavailable),
    }
}

/// Writes down how far a bucket is; `false` when it has another order by now, or none.
async fn tell(
    shared: &Shared,
    bucket: &BucketName,
    known: Option<model::time::Timestamp>,
    order: Option<RecodeOrder>,
) -> Result<bool, MetadataError> {
    let set = SetRecode { bucket: bucket.clone(), known, order };
    match shared.metadata.propose(Command::SetRecode(set)).await? {
        Outcome::Refused(refusal) => {
            tracing::debug!(%bucket, %refusal, "the order of a bucket has changed");
            Ok(false)
        }
        _ => Ok(true),
    }
}
