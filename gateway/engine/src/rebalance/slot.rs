//! Puts one slot's shards of all extents of a group on its new disk.
//!
//! Durability: shards are appended without a sync; at the end of a page of extents the disk makes them
//! durable and verifies what it has of the page. Only what it finds sound counts as done. Whoever takes
//! the move up after a crash finds by the same verification what is there already.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use model::checksum::block_checksums;
use model::cluster_map::{ClusterMap, DiskState};
use model::command::{Command, Outcome, Refusal, RepairedExtent};
use model::extent::{Extent, SlotSet};
use model::ids::{ExtentId, PgId, ShardId};
use model::moves::{Move, MoveEnd, MoveReason, MoveResult, UNRECOVERABLE_MAX};
use model::query::{Answer, MetadataError, Query};
use model::shard::{ShardAppend, ShardRequest, ShardResponse, ShardState};
use model::upkeep::ExtentPage;

use super::MoveFailure;
use super::batch::batches;
use super::plan::{Begun, spare};
use crate::repair::{RepairFailure, stripes_with};
use crate::scrub::{lacking as lacking_of, queue_repairs, verify};
use crate::shared::Shared;
use crate::write::{Receipt, append, sync};

/// Extents that are listed at a time.
const PAGE: u32 = 1000;

/// Stripes that are copied at once.
const STRIPES_AT_ONCE: usize = 8;

/// How often what was committed meanwhile is caught up with before the move is left for later.
const ROUNDS_MAX: usize = 10;

/// Extents in one command.
const EXTENTS_PER_COMMAND: usize = 512;

/// A slot on its way.
pub(super) struct SlotTask {
    pub(super) shared: Arc<Shared>,
    pub(super) begun: Begun,
    /// When this gateway first saw it.
    pub(super) seen: Duration,
}

/// What became of the extents of a batch.
#[derive(Default)]
struct Batch {
    /// The new disk has verified every shard.
    done: Vec<ExtentId>,
    /// They can't be read or rebuilt now.
    left: Vec<ExtentId>,
    /// They can't be rebuilt at all: more was lost than parity makes up for.
    lost: Vec<ExtentId>,
}

impl SlotTask {
    /// Carries the move out and ends it.
    pub(super) async fn run(&self) -> Result<(), MoveFailure> {
        let mut lost: BTreeSet<ExtentId> = BTreeSet::new();
        let total = self.count().await?;
        self.wait_for_deletions().await?;
        self.shared.rebalance.advance(self.begun.what, |progress| progress.extents_total = total);
        let mut left = self.pass(&mut lost, |_| true).await?;
        let slot = self.begun.what.slot;
        if self.begun.what.reason == MoveReason::Lost {
            // What was committed since may be on the old disk, which nobody asks any more after this.
            let tried: BTreeSet<ExtentId> = left.iter().chain(&lost).copied().collect();
            let is_new =
                |extent: &Extent| extent.missing.contains(slot) && !tried.contains(&extent.id);
            left.extend(self.pass(&mut lost, is_new).await?);
            // Nobody has what is left: it waits for repair on the new disk.
            let waiting = left.iter().chain(&lost).map(|extent| (*extent, slot));
            queue_repairs(&self.shared, &lacking_of(waiting)).await?;
            // What is refused then is so because the disk came back.
            return if self.end(&BTreeSet::new()).await? { Ok(()) } else { Err(MoveFailure::Gone) };
        }
        if !left.is_empty() {
            return Err(MoveFailure::SourcesOutOfReach);
        }
        for _ in 0..ROUNDS_MAX {
            if self.end(&lost).await? {
                return Ok(());
            }
            // What was committed since the move began lacks the slot, by the tables.
            let known = lost.clone();
            let is_new =
                |extent: &Extent| extent.missing.contains(slot) && !known.contains(&extent.id);
            if !self.pass(&mut lost, is_new).await?.is_empty() {
                return Err(MoveFailure::SourcesOutOfReach);
            }
        }
        Err(MoveFailure::SourcesOutOfReach)
    }

    /// What the new disk has of the group already may be left over from an earlier move, and somebody
    /// may have asked for its deletion just before this one was begun: by the end of this no such
    /// request is on its way any more.
    async fn wait_for_deletions(&self) -> Result<(), MoveFailure> {
        let Move { pg, to, .. } = self.begun.what;
        let (shared, options) = (&self.shared, &self.shared.options);
        let request = ShardRequest::Inventory { disk: to, pg, after: None, limit: 1 };
        match shared.door.call(to, request, options.read_deadline).await {
            Ok(ShardResponse::Inventory(found)) if found.is_empty() => Ok(()),
            Ok(ShardResponse::Inventory(_)) => {
                shared.rebalance.deletions.over(shared, to, pg, self.seen).await;
                Ok(())
            }
            _ => Err(MoveFailure::TargetFailed),
        }
    }

    /// Tells the metadata that the move is done; whether it agrees that nothing is missing.
    async fn end(&self, lost: &BTreeSet<ExtentId>) -> Result<bool, MoveFailure> {
        let unrecoverable: Vec<ExtentId> = lost.iter().copied().take(UNRECOVERABLE_MAX).collect();
        let Begun { what: Move { pg, slot, to, .. }, since, .. } = self.begun;
        let end = MoveEnd { pg, slot, to, result: MoveResult::Done { unrecoverable }, since };
        match self.shared.metadata.propose(Command::EndMove(end)).await? {
            Outcome::Refused(Refusal::MoveUnfinished) => Ok(false),
            Outcome::Refused(_) => Err(MoveFailure::Gone),
            _ => Ok(true),
        }
    }

    /// How many extents of the group have an owner.
    async fn count(&self) -> Result<u64, MoveFailure> {
        let (mut count, mut after) = (0, None);
        loop {
            let page = page(&self.shared, self.begun.what.pg, after).await?;
            count += page.extents.iter().filter(|entry| entry.is_owned).count() as u64;
            after = page.next;
            if after.is_none() {
                return Ok(count);
            }
        }
    }

    /// Goes over the extents of the group that are wanted; what could not be put on the new disk.
    async fn pass(
        &self,
        lost: &mut BTreeSet<ExtentId>,
        is_wanted: impl Fn(&Extent) -> bool,
    ) -> Result<Vec<ExtentId>, MoveFailure> {
        let (mut left, mut after) = (Vec::new(), None);
        loop {
            let page = page(&self.shared, self.begun.what.pg, after).await?;
            after = page.next;
            let owned = page.extents.into_iter().filter(|entry| entry.is_owned);
            let wanted: Vec<Extent> =
                owned.map(|entry| entry.extent).filter(|extent| is_wanted(extent)).collect();
            for batch in batches(&wanted, self.begun.what.slot) {
                let map = self.map().await?;
                let batch = self.copy(&map, batch).await?;
                self.settle(&wanted, &batch).await?;
                left.extend(batch.left);
                lost.extend(batch.lost);
            }
            if after.is_none() {
                return Ok(left);
            }
        }
    }

    /// The newest map, as long as the move is in it.
    async fn map(&self) -> Result<Arc<ClusterMap>, MoveFailure> {
        let map = self.shared.map.get().await?;
        let Begun { what, since, .. } = self.begun;
        let under_way = map.pg(what.pg).and_then(|pg| pg.move_of(what.slot));
        if under_way.is_none_or(|begun| (begun.to, begun.since) != (what.to, since)) {
            return Err(MoveFailure::Gone);
        }
        let takes = map.disk(self.begun.what.to).is_some_and(|disk| disk.state == DiskState::Up);
        if takes { Ok(map) } else { Err(MoveFailure::TargetFailed) }
    }

    /// Tells the metadata of extents that lacked the slot and have it on the new disk now; what is
    /// lost is in the repair table from now on, if it wasn't.
    async fn settle(&self, page: &[Extent], batch: &Batch) -> Result<(), MoveFailure> {
        let slot = self.begun.what.slot;
        let mut slots = SlotSet::default();
        slots.insert(slot);
        let lacked: BTreeSet<ExtentId> = page
            .iter()
            .filter(|extent| extent.missing.contains(slot))
            .map(|extent| extent.id)
            .collect();
        let epoch = self.shared.map.get().await?.epoch;
        let (moving_to, since) = (Some(self.begun.what.to), self.begun.since);
        let repaired: Vec<RepairedExtent> = batch
            .done
            .iter()
            .filter(|extent| lacked.contains(extent))
            .map(|extent| RepairedExtent { extent: *extent, slots, epoch, moving_to, since })
            .collect();
        for repaired in repaired.chunks(EXTENTS_PER_COMMAND) {
            let command = Command::ShardsRepaired { repaired: repaired.to_vec() };
            self.shared.metadata.propose(command).await?;
        }
        let lost = batch.lost.iter().filter(|extent| !lacked.contains(extent));
        queue_repairs(&self.shared, &lacking_of(lost.map(|extent| (*extent, slot)))).await?;
        let desk = &self.shared.rebalance;
        let done = batch.done.len() as u64;
        desk.extents.fetch_add(done, Ordering::Relaxed);
        desk.advance(self.begun.what, |progress| progress.extents_done += done);
        metrics::counter!("drystone_rebalance_extents_total").increment(done);
        Ok(())
    }

    /// Copies what the new disk doesn't have of these extents, and has it read back.
    async fn copy(&self, map: &ClusterMap, extents: &[Extent]) -> Result<Batch, MoveFailure> {
        let lacking = self.lacking(extents).await?;
        let copies = extents.iter().flat_map(|extent| {
            let stripes = lacking.get(&extent.id).into_iter().flatten();
            stripes.map(move |stripe| (extent, *stripe))
        });
        let copies = copies.map(|(extent, stripe)| async move {
            (extent.id, self.copy_shard(map, extent, stripe).await)
        });
        let mut copies = stream::iter(copies.collect::<Vec<_>>()).buffer_unordered(STRIPES_AT_ONCE);
        let (mut batch, mut receipt) = (Batch::default(), None::<Receipt>);
        let (mut left, mut lost) = (BTreeSet::new(), BTreeSet::new());
        while let Some((extent, copied)) = copies.next().await {
            match copied {
                Ok(new) => match &mut receipt {
                    // A restart in between may have lost what came before.
                    Some(known) if known.incarnation != new.incarnation => {
                        return Err(MoveFailure::TargetFailed);
                    }
                    Some(known) => known.position = known.position.max(new.position),
                    None => receipt = Some(new),
                },
                Err(RepairFailure::TargetFailed) => return Err(MoveFailure::TargetFailed),
                Err(RepairFailure::Lost | RepairFailure::Contradiction) => {
                    lost.insert(extent);
                }
                Err(_) => {
                    left.insert(extent);
                }
            }
        }
        drop(copies);
        let still = match receipt {
            Some(receipt) => {
                let (_, _, synced) =
                    sync(&self.shared, self.begun.what.slot, self.begun.what.to, receipt).await;
                synced.map_err(|_| MoveFailure::TargetFailed)?;
                self.lacking(extents).await?
            }
            None => lacking,
        };
        for extent in extents {
            let is_lacking = still.get(&extent.id).is_some_and(|stripes| !stripes.is_empty());
            if !is_lacking {
                batch.done.push(extent.id);
            } else if lost.contains(&extent.id) {
                batch.lost.push(extent.id);
            } else if left.contains(&extent.id) {
                batch.left.push(extent.id);
            } else {
                // It took the shard and doesn't have it.
                return Err(MoveFailure::TargetFailed);
            }
        }
        Ok(batch)
    }

    /// Stripes whose shards the new disk doesn't find sound.
    async fn lacking(
        &self,
        extents: &[Extent],
    ) -> Result<BTreeMap<ExtentId, BTreeSet<u16>>, MoveFailure> {
        let slot = self.begun.what.slot;
        let stripes = |extent: &Extent| (extent.id, stripes_with(extent, slot).collect());
        let mut lacking: BTreeMap<ExtentId, BTreeSet<u16>> = extents.iter().map(stripes).collect();
        let ids = extents.iter().map(|extent| extent.id).collect();
        let found = verify(&self.shared, self.begun.what.to, ids).await;
        for (id, state) in found.map_err(|_| MoveFailure::TargetFailed)? {
            if id.slot == slot
                && state == ShardState::Sound
                && let Some(stripes) = lacking.get_mut(&id.extent)
            {
                stripes.remove(&id.stripe);
            }
        }
        Ok(lacking)
    }

    /// Puts one shard on the new disk.
    async fn copy_shard(
        &self,
        map: &ClusterMap,
        extent: &Extent,
        stripe: u16,
    ) -> Result<Receipt, RepairFailure> {
        let Move { slot, to, .. } = self.begun.what;
        let found = self.find_shard(map, extent, stripe).await?;
        let id = ShardId { extent: extent.id, stripe, slot };
        let moved = found.read + found.payload.len() as u64;
        let shard = ShardAppend {
            id,
            coding: extent.coding,
            stripe_bytes: extent.stripe_bytes(stripe),
            checksums: block_checksums(id, &found.payload).into(),
            payload: found.payload.clone(),
            owner: found.owner.clone(),
        };
        let (_, _, appended) = append(&self.shared, to, shard, false).await;
        let receipt = appended.map_err(|_| RepairFailure::TargetFailed)?;
        self.count_shard(found.payload.len() as u64);
        // Whoever waits for bandwidth holds no memory that others could use.
        drop(found);
        self.wait_for_bandwidth(moved).await;
        Ok(receipt)
    }

    fn count_shard(&self, bytes: u64) {
        let desk = &self.shared.rebalance;
        desk.shards.fetch_add(1, Ordering::Relaxed);
        desk.bytes.fetch_add(bytes, Ordering::Relaxed);
        if self.begun.what.reason == MoveReason::Lost {
            desk.rebuilt_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        desk.advance(self.begun.what, |progress| progress.bytes += bytes);
        let reason = self.begun.what.reason.as_str();
        metrics::counter!("drystone_rebalance_bytes_total", "reason" => reason).increment(bytes);
    }

    /// Waits for as long as moving this many bytes takes, unless and until one more loss would be one
    /// too many for the group.
    async fn wait_for_bandwidth(&self, moved: u64) {
        let mut maps = self.shared.map.follow();
        let is_urgent = |map: &ClusterMap| spare(map, self.begun.what.pg) <= 0;
        let urgent = maps.wait_for(|map| map.as_deref().is_some_and(is_urgent));
        tokio::select! {
            biased;
            _ = urgent => {}
            () = self.shared.repair.pace.spend(moved) => {}
        }
    }
}

/// A page of a group's extents.
async fn page(
    shared: &Shared,
    pg: PgId,
    after: Option<ExtentId>,
) -> Result<ExtentPage, MetadataError> {
    match shared.metadata.query(Query::Extents { pg, after, limit: PAGE }).await? {
        Answer::Extents(page) => Ok(page),
        _ => Err(MetadataError::Unavailable),
    }
}
