//! Brings what disks know to be damaged into the repair queue.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::ids::{DiskId, ExtentId};
use model::query::MetadataError;
use model::upkeep::ExtentState;
use tokio::sync::watch;

use crate::scrub::{damaged_shards, disk_reports, extent_states};
use crate::shared::Shared;

/// Damaged shards that are told at once; the others have their turn when these are repaired.
const TOLD_AT_ONCE_MAX: usize = 10_000;

/// Looks for damage until told to stop.
pub(crate) async fn run(shared: Arc<Shared>, mut stopping: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            () = shared.clock.sleep(shared.options.damage_interval) => {}
        }
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            looked = look(&shared) => if let Err(error) = looked {
                tracing::debug!(%error, "damage is told later");
            },
        }
    }
}

async fn look(shared: &Shared) -> Result<(), MetadataError> {
    let map = shared.map.get().await?;
    for report in disk_reports(shared, &map).await {
        if report.damaged_shards > 0 {
            tell(shared, report.disk).await?;
        }
    }
    Ok(())
}

/// Hands the shards over to the reports, which tell each of them once.
async fn tell(shared: &Shared, disk: DiskId) -> Result<(), MetadataError> {
    let damaged = match damaged_shards(shared, disk).await {
        Ok(damaged) => damaged,
        Err(failure) => {
            tracing::debug!(%disk, ?failure, "a disk doesn't list its damage");
            return Ok(());
        }
    };
    let slots: BTreeSet<(ExtentId, u8)> =
        damaged.iter().map(|id| (id.extent, id.slot)).take(TOLD_AT_ONCE_MAX).collect();
    let ids: Vec<ExtentId> = slots.iter().map(|(extent, _)| *extent).collect();
    let states = extent_states(shared, &ids).await?;
    for ((extent, slot), state) in slots.into_iter().zip(states) {
        if state == ExtentState::Owned {
            shared.reports.report(extent, slot);
        }
    }
    Ok(())
}
