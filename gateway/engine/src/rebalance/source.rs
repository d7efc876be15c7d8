//! Where a shard for a new disk comes from: the old disk, or the other shards of its stripe.
//!
//! In: an extent and a stripe. Out: the slot's shard, verified, with the memory that it may take.

use bytes::Bytes;
use model::cluster_map::ClusterMap;
use model::extent::{Extent, SlotSet};
use model::ids::ShardId;
use model::moves::{Move, MoveReason};
use tokio::sync::OwnedSemaphorePermit;

use super::slot::SlotTask;
use crate::read::read_shard_and_owner;
use crate::repair::{RepairFailure, StripeTask, rebuild_stripe};

/// A shard for the new disk.
pub(super) struct Found {
    pub(super) payload: Bytes,
    /// The sealed owner of the extent.
    pub(super) owner: Bytes,
    /// Bytes that were read for it.
    pub(super) read: u64,
    /// The memory that it takes.
    _memory: OwnedSemaphorePermit,
}

impl SlotTask {
    /// One shard: the old disk's, or one that is rebuilt from the others. Where the old disk was given
    /// up it is rebuilt, unless the others don't suffice and the disk is there after all.
    pub(super) async fn find_shard(
        &self,
        map: &ClusterMap,
        extent: &Extent,
        stripe: u16,
    ) -> Result<Found, RepairFailure> {
        if self.begun.what.reason == MoveReason::Lost {
            return match self.rebuilt(map, extent, stripe).await {
                Err(
                    failure @ (RepairFailure::Lost
                    | RepairFailure::OutOfReach
                    | RepairFailure::Contradiction),
                ) => self.old(extent, stripe).await.map_err(|_| failure),
                rebuilt => rebuilt,
            };
        }
        match self.old(extent, stripe).await {
            Ok(found) => Ok(found),
            Err(RepairFailure::Busy) => Err(RepairFailure::Busy),
            Err(why) => match self.rebuilt(map, extent, stripe).await {
                // The old disk has it, as far as is known, and may give it later.
                Err(RepairFailure::Lost | RepairFailure::Contradiction)
                    if why != RepairFailure::Lost =>
                {
                    Err(RepairFailure::OutOfReach)
                }
                rebuilt => rebuilt,
            },
        }
    }

    /// The shard that the old disk has; [`RepairFailure::Lost`] if it says that it has none.
    async fn old(&self, extent: &Extent, stripe: u16) -> Result<Found, RepairFailure> {
        let Move { slot, from, .. } = self.begun.what;
        let geometry = extent.stripe_geometry(stripe).ok_or(RepairFailure::Contradiction)?;
        let bytes = geometry.stored_bytes(slot);
        let memory = self.memory(u64::from(bytes)).await?;
        let id = ShardId { extent: extent.id, stripe, slot };
        match read_shard_and_owner(&self.shared, from, id, bytes, 0..bytes).await {
            Ok((piece, owner)) => {
                Ok(Found { payload: piece.bytes, owner, read: u64::from(bytes), _memory: memory })
            }
            Err(failure) if failure.is_loss() => Err(RepairFailure::Lost),
            Err(_) => Err(RepairFailure::OutOfReach),
        }
    }

    /// The shard, computed from others.
    async fn rebuilt(
        &self,
        map: &ClusterMap,
        extent: &Extent,
        stripe: u16,
    ) -> Result<Found, RepairFailure> {
        // What is read, the stripe in one piece, and its parity.
        let memory = self.memory(u64::from(extent.stripe_bytes(stripe)) * 3).await?;
        let slot = self.begun.what.slot;
        let mut wanted = SlotSet::default();
        wanted.insert(slot);
        let rebuilt =
            rebuild_stripe(&self.shared, StripeTask { map, extent, stripe, wanted }).await?;
        let shard = rebuilt.shards.into_iter().find(|(found, _)| *found == slot);
        let (_, payload) = shard.ok_or(RepairFailure::Contradiction)?;
        Ok(Found { payload, owner: rebuilt.owner, read: rebuilt.read_bytes, _memory: memory })
    }

    async fn memory(&self, bytes: u64) -> Result<OwnedSemaphorePermit, RepairFailure> {
        let patience = self.shared.options.budget_wait;
        let permit = self.shared.repair.budget.acquire(bytes, &*self.shared.clock, patience).await;
        permit.ok_or(RepairFailure::Busy)
    }
}
