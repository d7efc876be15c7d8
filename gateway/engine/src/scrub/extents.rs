//! Verifies a page of extents on all their disks.
//!
//! In: extents that the metadata just named. Out: counts, and lost shards in the repair queue.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use futures_util::stream;
use model::cluster_map::ClusterMap;
use model::extent::Extent;
use model::ids::{DiskId, ExtentId};
use model::query::MetadataError;
use model::upkeep::ExtentState;

use super::meter::ScrubMeter;
use super::plan::{Batch, ScrubPlan, Tally, tally};
use super::verify::{extent_states, lacking, queue_repairs, verify};
use crate::pace::Pace;
use crate::shared::Shared;

/// Disks that verify at once.
const DISKS_AT_ONCE: usize = 16;

/// Shards of a slot that aren't sound.
struct Finding {
    extent: ExtentId,
    slot: u8,
    tally: Tally,
}

/// A page under verification.
pub(super) struct Verification<'a> {
    pub(super) shared: &'a Shared,
    pub(super) map: &'a ClusterMap,
    pub(super) meter: &'a ScrubMeter,
    pub(super) pace: &'a Pace,
}

impl Verification<'_> {
    /// Verifies the extents.
    pub(super) async fn of(&self, page: &[Extent]) -> Result<(), MetadataError> {
        let plan = ScrubPlan::new(self.map, page);
        self.meter.add_unreached(plan.unreached);
        let mut lanes = Vec::with_capacity(plan.lanes.len());
        for (disk, batches) in plan.lanes {
            lanes.push(self.lane(disk, batches, page));
        }
        let found: Vec<_> = stream::iter(lanes).buffer_unordered(DISKS_AT_ONCE).concat().await;
        self.settle(found).await
    }

    /// What one disk finds.
    async fn lane(&self, disk: DiskId, batches: Vec<Batch>, page: &[Extent]) -> Vec<Finding> {
        let mut findings = Vec::new();
        for batch in batches {
            let slots: Vec<(&Extent, u8)> =
                batch.slots.iter().filter_map(|(at, slot)| Some((page.get(*at)?, *slot))).collect();
            let ids = slots.iter().map(|(extent, _)| extent.id).collect();
            let verified = match verify(self.shared, disk, ids).await {
                Ok(shards) => shards.into_iter().collect::<BTreeMap<_, _>>(),
                Err(failure) => {
                    tracing::debug!(%disk, ?failure, "a disk doesn't verify its shards");
                    let none = BTreeMap::new();
                    let shards = slots.iter().map(|(extent, slot)| tally(extent, *slot, &none));
                    self.meter.add_unreached(shards.map(|tally| tally.missing).sum());
                    continue;
                }
            };
            for (extent, slot) in slots {
                let tally = tally(extent, slot, &verified);
                self.meter.add_sound(tally.sound);
                if tally.damaged + tally.missing > 0 {
                    findings.push(Finding { extent: extent.id, slot, tally });
                }
            }
            self.pace.spend(batch.bytes).await;
        }
        findings
    }

    /// Counts and queues what is lost of extents that still have an owner: those of an object that
    /// was deleted meanwhile are not missed.
    async fn settle(&self, found: Vec<Finding>) -> Result<(), MetadataError> {
        let ids: Vec<ExtentId> = found.iter().map(|finding| finding.extent).collect();
        let states = extent_states(self.shared, &ids).await?;
        let owned: Vec<&Finding> = found
            .iter()
            .zip(states)
            .filter(|(_, state)| *state == ExtentState::Owned)
            .map(|(finding, _)| finding)
            .collect();
        for finding in &owned {
            self.meter.add_damaged(finding.tally.damaged);
            self.meter.add_missing(finding.tally.missing);
        }
        let lacking = lacking(owned.iter().map(|finding| (finding.extent, finding.slot)));
        queue_repairs(self.shared, &lacking).await?;
        self.meter.add_queued(lacking.len() as u64);
        Ok(())
    }
}
