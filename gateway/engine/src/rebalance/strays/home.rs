//! Whether what is left over is where it should be; what isn't is put there.
//!
//! In: shards of some extents on a disk that has no right to them. Out: the extents whose shards the
//! disks of their slots have just verified. What always holds: no disk verifies more for it at a time
//! than it reads well within the deadline.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use model::checksum::block_checksums;
use model::cluster_map::{ClusterMap, DiskState, Pg};
use model::extent::Extent;
use model::ids::{DiskId, ExtentId, ShardId};
use model::query::MetadataError;
use model::shard::{ShardAppend, ShardState};

use super::is_reachable;
use crate::read::read_shard_and_owner;
use crate::repair::stripes_with;
use crate::scrub::{lacking, queue_repairs, verify};
use crate::shared::Shared;
use crate::write::append;

/// Bytes of shards that disks verify at a time; one extent may have more.
const VERIFY_BYTES: u64 = 32 << 20;

/// Left-over shards of an extent.
pub(super) type LeftOver = (ExtentId, BTreeSet<ShardId>);

/// Cuts a list of left-over shards where the disks that should have them would verify too much.
pub(super) fn cut<'a>(
    shards: &'a [LeftOver],
    owned: &BTreeMap<ExtentId, Extent>,
) -> Vec<&'a [LeftOver]> {
    let bytes_of =
        |(id, shards): &LeftOver| owned.get(id).map_or(0, |extent| bytes(extent, shards));
    let (mut all, mut start, mut sum) = (Vec::new(), 0, 0);
    for (at, extent) in shards.iter().enumerate() {
        let bytes = bytes_of(extent);
        if at > start && sum + bytes > VERIFY_BYTES {
            all.extend(shards.get(start..at));
            (start, sum) = (at, 0);
        }
        sum += bytes;
    }
    all.extend(shards.get(start..).filter(|rest| !rest.is_empty()));
    all
}

/// Bytes that disks verify of an extent, all shards in the slots of some.
fn bytes(extent: &Extent, shards: &BTreeSet<ShardId>) -> u64 {
    let slots: BTreeSet<u8> = shards.iter().map(|shard| shard.slot).collect();
    let in_slot = |slot: u8| {
        let stored = |stripe| {
            extent.stripe_geometry(stripe).map_or(0, |geometry| geometry.stored_bytes(slot))
        };
        stripes_with(extent, slot).map(|stripe| u64::from(stored(stripe))).sum::<u64>()
    };
    slots.into_iter().map(in_slot).sum()
}

/// Some extents that a disk has shards of without a right to.
pub(super) struct Batch<'a> {
    pub(super) map: &'a ClusterMap,
    pub(super) pg: &'a Pg,
    pub(super) disk: DiskId,
    /// Those of the group that have an owner, and maybe others.
    pub(super) owned: &'a BTreeMap<ExtentId, Extent>,
    pub(super) shards: &'a [LeftOver],
}

impl Batch<'_> {
    /// Bytes that disks verify of it.
    pub(super) fn bytes(&self) -> u64 {
        let bytes = |(id, shards): &LeftOver| Some(bytes(self.owned.get(id)?, shards));
        self.shards.iter().filter_map(bytes).sum()
    }

    /// Of those that have an owner the extents whose shards the disks of their slots have just
    /// verified. What they lack is given to them and queued for repair, which sees whether it came;
    /// until then it stays here, too.
    pub(super) async fn had_elsewhere(
        &self,
        shared: &Shared,
    ) -> Result<BTreeSet<ExtentId>, MetadataError> {
        let mut wanted: BTreeMap<DiskId, BTreeSet<ShardId>> = BTreeMap::new();
        let mut doubtful: BTreeSet<ExtentId> = BTreeSet::new();
        for (extent, shard) in self.placed() {
            match self.pg.disks.get(usize::from(shard.slot)) {
                Some(disk) if self.map.disk(*disk).is_some_and(|disk| is_reachable(disk.state)) => {
                    wanted.entry(*disk).or_default().insert(shard);
                }
                Some(_) | None => {
                    doubtful.insert(extent.id);
                }
            }
        }
        let mut missing = Vec::new();
        for (disk, shards) in wanted {
            let extents: BTreeSet<ExtentId> = shards.iter().map(|shard| shard.extent).collect();
            match verify(shared, disk, extents.iter().copied().collect()).await {
                Ok(found) => {
                    let is_sound = |(id, state): (ShardId, ShardState)| {
                        (state == ShardState::Sound).then_some(id)
                    };
                    let sound: BTreeSet<ShardId> = found.into_iter().filter_map(is_sound).collect();
                    missing.extend(shards.difference(&sound).map(|id| (disk, *id)));
                }
                Err(failure) => {
                    tracing::debug!(%disk, ?failure, "a disk doesn't verify its shards");
                    doubtful.extend(extents);
                }
            }
        }
        for (home, shard) in &missing {
            self.bring_home(shared, *home, *shard).await;
        }
        let slots = missing.iter().map(|(_, id)| (id.extent, id.slot));
        queue_repairs(shared, &lacking(slots.clone())).await?;
        doubtful.extend(slots.map(|(extent, _)| extent));
        let owned = self.shards.iter().map(|(id, _)| *id).filter(|id| self.owned.contains_key(id));
        Ok(owned.filter(|extent| !doubtful.contains(extent)).collect())
    }

    /// Shards that have a place. One that has none, as its writer sent the stripe elsewhere in the
    /// end, is missed by nobody.
    fn placed(&self) -> impl Iterator<Item = (&Extent, ShardId)> {
        self.shards.iter().flat_map(|(id, shards)| {
            let extent = self.owned.get(id);
            shards.iter().filter_map(move |shard| {
                let extent = extent?;
                let geometry = extent.stripe_geometry(shard.stripe)?;
                geometry.uses_slot(shard.slot).then_some((extent, *shard))
            })
        })
    }

    /// Gives a shard to the disk that should have it. If that fails, repair goes on with what else
    /// there is.
    async fn bring_home(&self, shared: &Shared, home: DiskId, id: ShardId) {
        let Some(extent) = self.owned.get(&id.extent) else { return };
        let Some(geometry) = extent.stripe_geometry(id.stripe) else { return };
        if self.map.disk(home).is_none_or(|disk| disk.state != DiskState::Up) {
            return;
        }
        let bytes = geometry.stored_bytes(id.slot);
        let (clock, patience) = (&*shared.clock, shared.options.budget_wait);
        let permit = shared.repair.budget.acquire(u64::from(bytes), clock, patience).await;
        let Some(_permit) = permit else { return };
        let Ok((piece, owner)) = read_shard_and_owner(shared, self.disk, id, bytes, 0..bytes).await
        else {
            return;
        };
        let shard = ShardAppend {
            id,
            coding: extent.coding,
            stripe_bytes: extent.stripe_bytes(id.stripe),
            checksums: block_checksums(id, &piece.bytes).into(),
            payload: piece.bytes,
            owner,
        };
        let (_, _, appended) = append(shared, home, shard, true).await;
        if appended.is_ok() {
            shared.rebalance.brought_home.fetch_add(1, Ordering::Relaxed);
            metrics::counter!("drystone_strays_brought_home_total").increment(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use model::coding::Coding;
    use model::extent::SlotSet;

    use super::*;

    #[test]
    fn disks_verify_a_limited_number_of_bytes_at_a_time() {
        let extent = |(sequence, mib): (u32, u64)| {
            let id = ExtentId { sequence, ..ExtentId::default() };
            let (coding, missing) = (Coding::parse("2+1").expect("valid"), SlotSet::default());
            (id, Extent { id, coding, length: mib << 20, missing, epoch: 0 })
        };
        // Extents of so many MiB, half of which are in each slot.
        let cuts = |mib: &[u64], slots: &[u8]| -> Vec<usize> {
            let owned = (0..).zip(mib.iter().copied()).map(extent).collect();
            let left_over = |sequence| {
                let id = ExtentId { sequence, ..ExtentId::default() };
                // One shard is left over; all of the extent's in its slot are verified.
                (
                    id,
                    slots
                        .iter()
                        .map(|slot| ShardId { extent: id, stripe: 0, slot: *slot })
                        .collect(),
                )
            };
            // The last one has no owner, and isn't verified.
            let shards: Vec<LeftOver> = (0..=mib.len() as u32).map(left_over).collect();
            cut(&shards, &owned).into_iter().map(<[LeftOver]>::len).collect()
        };
        assert_eq!(cuts(&[], &[0]), [1]);
        assert_eq!(cuts(&[16, 16, 16, 16], &[0]), [5]);
        assert_eq!(cuts(&[16, 16, 16, 16, 1], &[0]), [4, 2]);
        assert_eq!(cuts(&[40, 40, 40], &[0]), [1, 1, 2]);
        assert_eq!(cuts(&[200, 1, 200], &[0]), [1, 1, 1, 1]);
        assert_eq!(cuts(&[16, 16, 16, 16], &[0, 2]), [2, 3], "two slots of each");
    }
}
