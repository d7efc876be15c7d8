//! Carries out the collector's plans.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream;
use model::command::Command;
use model::ids::{DiskId, ExtentId};
use model::query::{Answer, MetadataError, Query};
use model::shard::{ShardRequest, ShardResponse};
use model::time::Timestamp;
use tokio::sync::watch;

use super::plan::CollectPlan;
use crate::shared::Shared;

/// Garbage that is asked for at a time.
const PAGE: u32 = 1000;

/// When a whole page has to wait for disks that are down, the next is longer, up to this: what
/// waits must not hold up what doesn't.
const PAGE_MAX: u32 = 64_000;

/// Extents in one Delete request.
const EXTENTS_PER_REQUEST: usize = 256;

/// Extents forgotten in one command.
const EXTENTS_PER_COMMAND: usize = 512;

/// Disks that are asked at once.
const DISKS_AT_ONCE: usize = 8;

/// What a round came to.
enum Round {
    /// All of the page was collected, and there may be more.
    More,
    /// Nothing of a full page could be collected.
    Stuck,
    /// There is nothing more for now.
    Done,
}

/// Collects until told to stop.
pub(crate) async fn run(shared: Arc<Shared>, mut stopping: watch::Receiver<bool>) {
    let mut page = PAGE;
    loop {
        let round = tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            round = collect(&shared, page) => round,
        };
        match round {
            Ok(Round::More) => {
                page = PAGE;
                continue;
            }
            Ok(Round::Stuck) => page = page.saturating_mul(2).min(PAGE_MAX),
            Ok(Round::Done) => page = PAGE,
            Err(error) => tracing::debug!(%error, "no collection this time"),
        }
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            () = shared.clock.sleep(shared.options.collect_interval) => {}
        }
    }
}

async fn collect(shared: &Shared, limit: u32) -> Result<Round, MetadataError> {
    let delay = u64::try_from(shared.options.garbage_delay.as_nanos()).unwrap_or(u64::MAX);
    let before = Timestamp(shared.clock.now().as_nanos().saturating_sub(delay));
    let answer = shared.metadata.query(Query::Garbage { before, limit }).await?;
    let Answer::Garbage(items) = answer else { return Err(MetadataError::Unavailable) };
    if items.is_empty() {
        return Ok(Round::Done);
    }
    // A map older than the garbage could name disks that its shards have left.
    let map = shared.map.refresh().await?;
    let plan = CollectPlan::new(&map, &items);
    let confirmed = delete(shared, &plan).await;
    let collected = plan.collected(&confirmed);
    for batch in collected.chunks(EXTENTS_PER_COMMAND) {
        shared.metadata.propose(Command::CollectGarbage { collected: batch.to_vec() }).await?;
        metrics::counter!("drystone_extents_collected_total").increment(batch.len() as u64);
    }
    let full = items.len() >= limit as usize;
    Ok(match (full, collected.len()) {
        (true, 0) => Round::Stuck,
        (true, _) => Round::More,
        (false, _) => Round::Done,
    })
}

/// Sends the plan's deletes; what was confirmed.
async fn delete(shared: &Shared, plan: &CollectPlan) -> BTreeSet<(DiskId, ExtentId)> {
    let mut requests = Vec::with_capacity(plan.deletes.len());
    for (disk, extents) in &plan.deletes {
        requests.push(delete_from(shared, *disk, extents));
    }
    let confirmed: Vec<_> = stream::iter(requests).buffer_unordered(DISKS_AT_ONCE).collect().await;
    confirmed.into_iter().flatten().collect()
}

async fn delete_from(
    shared: &Shared,
    disk: DiskId,
    extents: &[ExtentId],
) -> Vec<(DiskId, ExtentId)> {
    let mut confirmed = Vec::with_capacity(extents.len());
    for batch in extents.chunks(EXTENTS_PER_REQUEST) {
        let request = ShardRequest::Delete { disk, extents: batch.to_vec() };
        let answer = shared.door.call(disk, request, shared.options.delete_deadline).await;
        if !matches!(answer, Ok(ShardResponse::Deleted)) {
            break;
        }
        confirmed.extend(batch.iter().map(|extent| (disk, *extent)));
    }
    confirmed
}
