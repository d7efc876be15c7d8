//! Asks disks to verify shards and to list those that they know to be damaged, and tells the
//! metadata of what is lost. Shared by scrub, repair and reconciliation.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::cluster_map::ClusterMap;
use model::command::{Command, LackingExtent, Outcome};
use model::extent::SlotSet;
use model::ids::{DiskId, ExtentId, ShardId};
use model::query::{Answer, MetadataError, Query};
use model::shard::{DiskReport, ShardError, ShardRequest, ShardResponse, ShardState};
use model::upkeep::ExtentState;
use wire::network::Peer;

use crate::shard_door::ShardFailure;
use crate::shared::Shared;

/// Times that a disk with a full queue is asked again.
const OVERLOADED_ATTEMPTS: u32 = 6;

/// The first pause before that; it doubles.
const OVERLOADED_PAUSE: Duration = Duration::from_millis(50);

/// Shards in one page of a list.
const LIST_PAGE: u32 = 10_000;

/// Extents in one command.
const EXTENTS_PER_COMMAND: usize = 512;

/// Extents whose state is asked for at a time.
const STATES_PER_QUERY: usize = 4096;

/// Has a disk read and verify every shard that it should have of these extents.
pub(crate) async fn verify(
    shared: &Shared,
    disk: DiskId,
    extents: Vec<ExtentId>,
) -> Result<Vec<(ShardId, ShardState)>, ShardFailure> {
    let request = ShardRequest::Verify { disk, extents };
    match patiently(shared, disk, request, shared.options.verify_deadline).await? {
        ShardResponse::Verified(shards) => Ok(shards),
        _ => Err(another_answer()),
    }
}

/// All shards that the disk knows to be damaged.
pub(crate) async fn damaged_shards(
    shared: &Shared,
    disk: DiskId,
) -> Result<Vec<ShardId>, ShardFailure> {
    let (mut all, mut after): (Vec<ShardId>, Option<ShardId>) = (Vec::new(), None);
    loop {
        let request = ShardRequest::Damaged { disk, after, limit: LIST_PAGE };
        let answer = patiently(shared, disk, request, shared.options.read_deadline).await?;
        let ShardResponse::Damaged(page) = answer else { return Err(another_answer()) };
        let Some(last) = page.last().copied() else { return Ok(all) };
        // A list that doesn't go on would never end.
        if after.is_some_and(|after| last <= after) {
            return Err(another_answer());
        }
        after = Some(last);
        all.extend(page);
    }
}

/// The shards of a PG on a disk behind `after` and up to `until`, with their lengths: all of them,
/// or an error.
pub(crate) async fn inventory(
    shared: &Shared,
    disk: DiskId,
    after: ShardId,
    until: Option<ExtentId>,
) -> Result<Vec<(ShardId, u32)>, ShardFailure> {
    let pg = after.extent.pg;
    let (mut all, mut after): (Vec<(ShardId, u32)>, _) = (Vec::new(), after);
    let is_beyond = |id: &ShardId| until.is_some_and(|until| id.extent > until);
    loop {
        let request = ShardRequest::Inventory { disk, pg, after: Some(after), limit: LIST_PAGE };
        let answer = patiently(shared, disk, request, shared.options.read_deadline).await?;
        let ShardResponse::Inventory(page) = answer else { return Err(another_answer()) };
        let Some((last, _)) = page.last().copied() else { return Ok(all) };
        if last <= after || page.iter().any(|(id, _)| id.extent.pg != pg) {
            return Err(another_answer());
        }
        after = last;
        all.extend(page.into_iter().filter(|(id, _)| !is_beyond(id)));
        if is_beyond(&last) {
            return Ok(all);
        }
    }
}

/// The reports of all disks whose nodes answer.
pub(crate) async fn disk_reports(shared: &Shared, map: &ClusterMap) -> Vec<DiskReport> {
    let nodes: BTreeSet<_> = map.disks.iter().map(|disk| disk.node).collect();
    let calls = nodes.into_iter().map(|node| {
        let (peer, deadline) = (Peer(u64::from(node.0)), shared.options.read_deadline);
        shared.door.network().call(peer, ShardRequest::Status, deadline)
    });
    let mut reports = Vec::new();
    for answer in futures_util::future::join_all(calls).await {
        if let Ok(ShardResponse::Status(some)) = answer {
            reports.extend(some);
        }
    }
    reports
}

/// What the metadata knows of these extents, in order.
pub(crate) async fn extent_states(
    shared: &Shared,
    extents: &[ExtentId],
) -> Result<Vec<ExtentState>, MetadataError> {
    let mut all = Vec::with_capacity(extents.len());
    for batch in extents.chunks(STATES_PER_QUERY) {
        let query = Query::ExtentStates { extents: batch.to_vec() };
        match shared.metadata.query(query).await? {
            Answer::ExtentStates(states) if states.len() == batch.len() => all.extend(states),
            _ => return Err(MetadataError::Unavailable),
        }
    }
    Ok(all)
}

/// Extents with lacking slots, out of single shards.
pub(crate) fn lacking(shards: impl IntoIterator<Item = (ExtentId, u8)>) -> Vec<LackingExtent> {
    let mut all: BTreeMap<ExtentId, SlotSet> = BTreeMap::new();
    for (extent, slot) in shards {
        all.entry(extent).or_default().insert(slot);
    }
    all.into_iter().map(|(extent, slots)| LackingExtent { extent, slots }).collect()
}

/// Puts extents into the repair queue, and has it looked at.
pub(crate) async fn queue_repairs(
    shared: &Shared,
    lacking: &[LackingExtent],
) -> Result<(), MetadataError> {
    for batch in lacking.chunks(EXTENTS_PER_COMMAND) {
        let command = Command::QueueRepair { lacking: batch.to_vec() };
        if let Outcome::Refused(refusal) = shared.metadata.propose(command).await? {
            tracing::warn!(%refusal, "the metadata refused a repair report");
            return Err(MetadataError::Unavailable);
        }
    }
    if !lacking.is_empty() {
        shared.repair.wake();
    }
    Ok(())
}

/// Asks again while the disk's queue is full.
async fn patiently(
    shared: &Shared,
    disk: DiskId,
    request: ShardRequest,
    deadline: Duration,
) -> Result<ShardResponse, ShardFailure> {
    let mut pause = OVERLOADED_PAUSE;
    for _ in 1..OVERLOADED_ATTEMPTS {
        match shared.door.call(disk, request.clone(), deadline).await {
            Err(ShardFailure::Refused(ShardError::Overloaded(_))) => {}
            answer => return answer,
        }
        shared.clock.sleep(pause).await;
        pause *= 2;
    }
    shared.door.call(disk, request, deadline).await
}

fn another_answer() -> ShardFailure {
    ShardFailure::Refused(ShardError::Invalid("another answer".into()))
}
