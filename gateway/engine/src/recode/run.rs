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
use super::{RecodeDesk, RecodeFailure};
use crate::engine::Shared;
use crate::repair::has_work;

/// Buckets that are asked for at a time.
const BUCKETS: u32 = 1000;

/// Objects that are looked at for one question.
const PAGE: u32 = 256;

/// Objects that are recoded at once: small ones wait for disks, not for bandwidth.
const OBJECTS_AT_ONCE: usize = 4;

/// How far a bucket is, is told at least this often while there is nothing to do in it.
const TOLD_EVERY: Duration = Duration::from_secs(30);

/// After a pass in which nothing could be done, this many intervals go by.
const IDLE_INTERVALS: u32 = 6;

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
    loop {
        let worked = tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            worked = work(&shared) => worked,
        };
        shared.recode.set_bucket(None);
        let rest = match worked {
            Ok(true) => interval,
            Ok(false) => interval * IDLE_INTERVALS,
            Err(error) => {
                tracing::debug!(%error, "nothing is recoded this time");
                interval
            }
        };
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            () = shared.clock.sleep(rest) => {}
            () = shared.recode.wake.notified() => {}
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

/// One pass over each bucket with an order; `false` when something is left that could not be done.
async fn work(shared: &Arc<Shared>) -> Result<bool, MetadataError> {
    let mut is_done = true;
    let mut paused = None;
    for (bucket, order) in ordered(shared).await? {
        if let Some(reason) = why_not(shared, &order).await? {
            paused = Some(reason);
            continue;
        }
        shared.recode.set_paused(None);
        shared.recode.set_bucket(Some(bucket.clone()));
        match recode_bucket(shared, &bucket, order).await? {
            Worked::Done => {}
            Worked::Leftover => is_done = false,
            Worked::Paused => return Ok(true),
        }
    }
    shared.recode.set_paused(paused);
    Ok(is_done)
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

/// Why an order isn't worked on now.
async fn why_not(
    shared: &Shared,
    order: &RecodeOrder,
) -> Result<Option<RecodePause>, MetadataError> {
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
    let is_short = has_work(shared, &map).await?;
    Ok(is_short.then_some(RecodePause::RepairsWaiting))
}

async fn is_held(shared: &Shared) -> Result<bool, MetadataError> {
    match shared.metadata.query(Query::Held).await? {
        Answer::Held(held) => Ok(held.is_some()),
        _ => Err(MetadataError::Unavailable),
    }
}

/// Works on a bucket until a pass over it comes to its end.
async fn recode_bucket(
    shared: &Arc<Shared>,
    bucket: &BucketName,
    mut order: RecodeOrder,
) -> Result<Worked, MetadataError> {
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
        let Some(page) = page(shared, bucket, &order.cursor).await? else {
            return Ok(Worked::Done);
        };
        let is_busy = !page.keys.is_empty();
        if is_busy && let Some(reason) = why_not(shared, &order).await? {
            shared.recode.set_paused(Some(reason));
            return Ok(Worked::Paused);
        }
        recode_page(shared, bucket, &mut order, page.keys).await;
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

/// Recodes some objects; what fails is counted and left to the next pass.
async fn recode_page(
    shared: &Arc<Shared>,
    bucket: &BucketName,
    order: &mut RecodeOrder,
    keys: Vec<ObjectKey>,
) {
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
            Err(failure) => {
                order.failed += 1;
                shared.recode.count_failure(failure);
                tracing::warn!(%bucket, key = key.as_str(), %failure, "an object is not recoded yet");
            }
        }
    }
}

/// How much there is to do; `None` when there is no order any more.
async fn count(
    shared: &Shared,
    bucket: &BucketName,
) -> Result<Option<RecodeAmount>, MetadataError> {
    let (mut total, mut after) = (RecodeAmount::default(), String::new());
    loop {
        let Some(page) = page(shared, bucket, &after).await? else { return Ok(None) };
        total.objects += page.amount.objects;
        total.bytes += page.amount.bytes;
        match page.next {
            Some(next) => next.as_str().clone_into(&mut after),
            None => return Ok(Some(total)),
        }
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
