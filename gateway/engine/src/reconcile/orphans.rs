//! Extents that a disk holds shards of and that nobody can own: deleted after a grace period.
//!
//! In: what the metadata didn't name. Out: Delete requests. See the module above for what must be
//! proved first.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::ids::{DiskId, ExtentId};
use model::query::MetadataError;
use model::shard::{ShardRequest, ShardResponse};
use model::upkeep::ExtentState;

use crate::scrub::extent_states;
use crate::shared::Shared;

/// Candidates that are remembered; a later pass finds the others.
const CANDIDATES_MAX: usize = 100_000;

/// Extents in one Delete request.
const EXTENTS_PER_REQUEST: usize = 256;

/// Orphans that wait for the end of their grace.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    /// When each was first proved ownerless.
    since: BTreeMap<(DiskId, ExtentId), Duration>,
    /// An extent was found that these tables can't have opened the session of: they were made
    /// anew, or put back from a copy. Nothing is deleted any more, until the next start looks.
    is_stopped: bool,
}

impl Orphans {
    /// Takes up those of `strangers` that the metadata calls ownerless.
    pub(super) async fn consider(
        &mut self,
        shared: &Shared,
        disk: DiskId,
        strangers: BTreeSet<ExtentId>,
    ) -> Result<(), MetadataError> {
        let extents: Vec<ExtentId> = strangers.into_iter().collect();
        let states = extent_states(shared, &extents).await?;
        let now = shared.clock.monotonic();
        for (extent, state) in extents.into_iter().zip(states) {
            match state {
                ExtentState::Foreign => self.stop(disk, extent),
                ExtentState::Ownerless if !self.is_stopped && self.since.len() < CANDIDATES_MAX => {
                    self.since.entry((disk, extent)).or_insert(now);
                }
                // What is held may have an owner that these tables don't know.
                ExtentState::Ownerless
                | ExtentState::Owned
                | ExtentState::Garbage
                | ExtentState::InFlight
                | ExtentState::Held => {}
            }
        }
        metrics::gauge!("drystone_orphan_extents").set(self.since.len() as f64);
        Ok(())
    }

    fn stop(&mut self, disk: DiskId, extent: ExtentId) {
        if !self.is_stopped {
            tracing::error!(
                %disk, %extent,
                "a disk holds an extent of a session that the metadata never opened: the metadata is \
                 older than the disks, and no shard that it doesn't know is deleted"
            );
        }
        self.is_stopped = true;
        self.since.clear();
        metrics::gauge!("drystone_orphan_deletion_stopped").set(1.0);
    }

    /// When the next one's grace ends.
    pub(super) fn next_due(&self, grace: Duration) -> Option<Duration> {
        self.since.values().min().map(|since| since.saturating_add(grace))
    }

    /// Deletes those whose grace is over, after one more look at the metadata.
    pub(super) async fn sweep(&mut self, shared: &Shared) -> Result<(), MetadataError> {
        let (now, grace) = (shared.clock.monotonic(), shared.options.orphan_grace);
        let mut due: BTreeMap<DiskId, Vec<ExtentId>> = BTreeMap::new();
        for ((disk, extent), since) in &self.since {
            if now >= since.saturating_add(grace) {
                due.entry(*disk).or_default().push(*extent);
            }
        }
        for (disk, extents) in due {
            for batch in extents.chunks(EXTENTS_PER_REQUEST) {
                self.delete(shared, disk, batch).await?;
            }
        }
        metrics::gauge!("drystone_orphan_extents").set(self.since.len() as f64);
        Ok(())
    }

    async fn delete(
        &mut self,
        shared: &Shared,
        disk: DiskId,
        batch: &[ExtentId],
    ) -> Result<(), MetadataError> {
        let states = extent_states(shared, batch).await?;
        for (extent, _) in
            batch.iter().zip(&states).filter(|(_, state)| **state == ExtentState::Foreign)
        {
            self.stop(disk, *extent);
        }
        if self.is_stopped {
            return Ok(());
        }
        // Whatever comes of it: what is still there is found by the next pass.
        for extent in batch {
            self.since.remove(&(disk, *extent));
        }
        let extents: Vec<ExtentId> = batch
            .iter()
            .zip(states)
            .filter(|(_, state)| *state == ExtentState::Ownerless)
            .map(|(extent, _)| *extent)
            .collect();
        if extents.is_empty() {
            return Ok(());
        }
        let count = extents.len() as u64;
        let first = extents.first().map(ToString::to_string);
        let request = ShardRequest::Delete { disk, extents };
        match shared.door.call(disk, request, shared.options.delete_deadline).await {
            Ok(ShardResponse::Deleted) => {
                metrics::counter!("drystone_orphan_extents_deleted_total").increment(count);
                tracing::info!(%disk, count, first, "shards that nobody owns were deleted");
            }
            answer => tracing::debug!(%disk, ?answer, "orphans were not deleted this time"),
        }
        Ok(())
    }
}
