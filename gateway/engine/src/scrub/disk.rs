//! Scrubs one disk: its node reads all of its segments, then its shards are compared with what the
//! metadata says it should have.

use std::time::Duration;

use model::cluster_map::ClusterMap;
use model::ids::{DiskId, ExtentId};
use model::shard::{DiskReport, ScrubOrder, ShardRequest, ShardResponse};
use model::upkeep::ExtentState;
use tokio::sync::watch;

use super::meter::ScrubMeter;
use super::verify::{damaged_shards, disk_reports, extent_states, lacking, queue_repairs};
use super::{ScrubError, ScrubRequest};
use crate::reconcile;
use crate::shard_door::ShardFailure;
use crate::shared::Shared;

/// How often the disk is asked how far it is.
const POLL: Duration = Duration::from_millis(200);

/// Polls in a row that may go unanswered: a node that restarts is gone for good for this scrub.
const SILENCE_MAX: u32 = 50;

/// Scrubs a disk, until it is done or `stop` turns true.
pub(super) async fn scrub_disk(
    shared: &Shared,
    map: &ClusterMap,
    disk: DiskId,
    request: &ScrubRequest,
    meter: &ScrubMeter,
    mut stop: watch::Receiver<bool>,
) -> Result<(), ScrubError> {
    if map.disk(disk).is_none() {
        return Err(ScrubError::NoSuchDisk(disk));
    }
    let before = report(shared, map, disk).await.ok_or_else(|| silent(disk))?;
    order(shared, disk, ScrubOrder::Begin { bytes_per_second: request.bytes_per_second }).await?;
    let pass = follow(shared, map, &before, meter);
    let ended = tokio::select! {
        ended = pass => ended?,
        () = ordered_to_stop(&mut stop) => {
            order(shared, disk, ScrubOrder::End).await?;
            return Err(ScrubError::Stopped);
        }
    };
    tokio::select! {
        counted = count(shared, map, &ended, meter) => counted,
        () = ordered_to_stop(&mut stop) => Err(ScrubError::Stopped),
    }
}

/// Ends with the order to stop, or when nobody is left who could give it.
pub(super) async fn ordered_to_stop(stop: &mut watch::Receiver<bool>) {
    let _either_way = stop.wait_for(|stop| *stop).await;
}

/// Waits for the end of the pass; the report that tells it.
async fn follow(
    shared: &Shared,
    map: &ClusterMap,
    before: &DiskReport,
    meter: &ScrubMeter,
) -> Result<DiskReport, ScrubError> {
    let disk = before.disk;
    let mut silence = 0;
    loop {
        shared.clock.sleep(POLL).await;
        let Some(now) = report(shared, map, disk).await else {
            silence += 1;
            if silence > SILENCE_MAX {
                return Err(silent(disk));
            }
            continue;
        };
        silence = 0;
        let scrub = now.scrub;
        if scrub.on_demand {
            meter.set_total(scrub.total_bytes);
            meter.set_done(scrub.verified_bytes.min(scrub.total_bytes));
        } else if scrub.last_ended > before.scrub.last_ended {
            let total = scrub.total_bytes.max(meter.figures().total);
            meter.set_total(total);
            meter.set_done(total);
            return Ok(now);
        } else {
            return Err(ScrubError::Ended(disk));
        }
    }
}

/// Counts what the pass found, and queues what is lost.
async fn count(
    shared: &Shared,
    map: &ClusterMap,
    ended: &DiskReport,
    meter: &ScrubMeter,
) -> Result<(), ScrubError> {
    let disk = ended.disk;
    let refused = |failure| ScrubError::Disk(disk, words(&failure));
    let damaged = damaged_shards(shared, disk).await.map_err(refused)?;
    let mut lost: Vec<(ExtentId, u8)> = damaged.iter().map(|id| (id.extent, id.slot)).collect();
    let ids: Vec<ExtentId> = lost.iter().map(|(extent, _)| *extent).collect();
    let states = extent_states(shared, &ids).await?;
    let mut states = states.into_iter();
    lost.retain(|_| states.next() == Some(ExtentState::Owned));
    meter.add_damaged(lost.len() as u64);
    meter.add_sound(ended.shards.saturating_sub(damaged.len() as u64));
    for pg in map.pgs.iter().filter(|pg| pg.disks.contains(&disk)) {
        let missing = reconcile::missing_on(shared, pg, disk).await?;
        let Some(missing) = missing else {
            return Err(ScrubError::Disk(disk, "it doesn't list its shards".to_owned()));
        };
        meter.add_missing(missing.len() as u64);
        lost.extend(missing.iter().map(|id| (id.extent, id.slot)));
    }
    let lacking = lacking(lost);
    queue_repairs(shared, &lacking).await?;
    meter.add_queued(lacking.len() as u64);
    Ok(())
}

async fn report(shared: &Shared, map: &ClusterMap, disk: DiskId) -> Option<DiskReport> {
    disk_reports(shared, map).await.into_iter().find(|report| report.disk == disk)
}

async fn order(shared: &Shared, disk: DiskId, order: ScrubOrder) -> Result<(), ScrubError> {
    let request = ShardRequest::Scrub { disk, order };
    match shared.door.call(disk, request, shared.options.read_deadline).await {
        Ok(ShardResponse::ScrubOrdered) => Ok(()),
        Ok(_) => Err(ScrubError::Disk(disk, "it gave another answer".to_owned())),
        Err(failure) => Err(ScrubError::Disk(disk, words(&failure))),
    }
}

fn silent(disk: DiskId) -> ScrubError {
    ScrubError::Disk(disk, "its node doesn't report it".to_owned())
}

fn words(failure: &ShardFailure) -> String {
    match failure {
        ShardFailure::Unreachable => "its node can't be reached".to_owned(),
        ShardFailure::TimedOut => "its node didn't answer in time".to_owned(),
        ShardFailure::Corrupt => "its answer came damaged".to_owned(),
        ShardFailure::Refused(error) => error.to_string(),
    }
}
