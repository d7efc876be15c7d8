//! Cleans up after writes that came to nothing: deletes the shards of extents that were never
//! proposed for commit, or were definitely refused.
//!
//! In: extents with the disks that may hold shards of them. Out: Delete requests, tried again a
//! few times. What is left after that has no owner and never gets one, so that a later inventory
//! may collect it; nothing depends on this room for correctness.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use model::ids::{DiskId, ExtentId};
use model::shard::ShardRequest;
use tokio::sync::{Notify, watch};
use wire::BoxFuture;
use wire::clock::timeout;

use crate::shared::Shared;

/// Extents that wait at most; a client that aborts more than this loses the cleanup of the rest.
const WAITING_MAX: usize = 10_000;

/// Extents in one Delete request.
const EXTENTS_PER_REQUEST: usize = 256;

/// Disks that are asked at once.
const DISKS_AT_ONCE: usize = 8;

/// Times that a disk is asked to delete an extent.
const ATTEMPTS_MAX: u32 = 5;

/// Between two attempts.
const PAUSE: Duration = Duration::from_secs(5);

/// Extents to delete.
pub(crate) struct Discard {
    /// The extents, each with its disks.
    pub(crate) extents: Vec<(ExtentId, Arc<[DiskId]>)>,
    /// Ends when no more shards of them are on their way.
    pub(crate) settled: Option<BoxFuture<'static, ()>>,
    /// Shards may arrive even after that (a request timed out): delete once more, later.
    pub(crate) again: bool,
}

/// A deletion that failed or is due later.
struct Later {
    due: Duration,
    attempts: u32,
    extent: ExtentId,
    disks: Arc<[DiskId]>,
}

/// What waits to be deleted.
#[derive(Default)]
pub(crate) struct DiscardQueue {
    waiting: Mutex<VecDeque<Discard>>,
    wake: Notify,
}

impl DiscardQueue {
    /// Hands over extents that their writer gives up. Never waits, so that it may be called from
    /// a destructor.
    pub(crate) fn push(&self, discard: Discard) {
        if discard.extents.is_empty() {
            return;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < WAITING_MAX {
            waiting.push_back(discard);
            self.wake.notify_one();
        } else {
            metrics::counter!("drystone_extents_left_behind_total").increment(1);
        }
    }

    fn take(&self) -> VecDeque<Discard> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Deletes what is handed over, until told to stop, and then what is left.
pub(crate) async fn run(shared: Arc<Shared>, mut stopping: watch::Receiver<bool>) {
    let mut later: Vec<Later> = Vec::new();
    loop {
        let stop = *stopping.borrow();
        let now = shared.clock.monotonic();
        let mut due = Vec::new();
        for discard in shared.discards.take() {
            if let Some(settled) = discard.settled {
                let patience = shared.options.append_deadline + shared.options.sync_deadline;
                // Past its own deadlines nothing is under way any more.
                let _ = timeout(&*shared.clock, patience, settled).await;
            }
            for (extent, disks) in discard.extents {
                if discard.again {
                    let due = now + shared.options.append_deadline;
                    later.push(Later { due, attempts: 1, extent, disks: Arc::clone(&disks) });
                }
                due.push(Later { due: now, attempts: 0, extent, disks });
            }
        }
        let (ripe, unripe): (Vec<_>, Vec<_>) =
            later.into_iter().partition(|item| item.due <= now || stop);
        later = unripe;
        due.extend(ripe);
        later.extend(delete(&shared, due).await);
        later.truncate(WAITING_MAX);
        if stop {
            return;
        }
        let next = later.iter().map(|item| item.due).min();
        let pause = next.map_or(Duration::from_hours(1), |due| due.saturating_sub(now));
        tokio::select! {
            () = shared.discards.wake.notified() => {}
            () = shared.clock.sleep(pause) => {}
            _ = stopping.wait_for(|stop| *stop) => {}
        }
    }
}

/// Asks the disks; what failed and may be tried again is returned.
async fn delete(shared: &Shared, items: Vec<Later>) -> Vec<Later> {
    if items.is_empty() {
        return Vec::new();
    }
    let mut by_disk: BTreeMap<DiskId, Vec<(ExtentId, u32)>> = BTreeMap::new();
    for item in &items {
        for disk in item.disks.iter() {
            by_disk.entry(*disk).or_default().push((item.extent, item.attempts));
        }
    }
    metrics::counter!("drystone_extents_discarded_total").increment(items.len() as u64);
    let batches: Vec<_> = by_disk
        .into_iter()
        .flat_map(|(disk, extents)| {
            let batch = |some: &[(ExtentId, u32)]| (disk, some.to_vec());
            extents.chunks(EXTENTS_PER_REQUEST).map(batch).collect::<Vec<_>>()
        })
        .collect();
    let requests: Vec<_> =
        batches.into_iter().map(|(disk, batch)| delete_from(shared, disk, batch)).collect();
    stream::iter(requests).buffer_unordered(DISKS_AT_ONCE).concat().await
}

async fn delete_from(shared: &Shared, disk: DiskId, batch: Vec<(ExtentId, u32)>) -> Vec<Later> {
    let extents = batch.iter().map(|(extent, _)| *extent).collect();
    let request = ShardRequest::Delete { disk, extents };
    let answer = shared.door.call(disk, request, shared.options.delete_deadline).await;
    if answer.is_ok() { Vec::new() } else { again(disk, batch, shared.clock.monotonic()) }
}

fn again(disk: DiskId, batch: Vec<(ExtentId, u32)>, now: Duration) -> Vec<Later> {
    batch
        .into_iter()
        .filter(|(_, attempts)| attempts + 1 < ATTEMPTS_MAX)
        .map(|(extent, attempts)| Later {
            due: now + PAUSE,
            attempts: attempts + 1,
            extent,
            disks: Arc::new([disk]),
        })
        .collect()
}
