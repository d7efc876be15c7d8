//! Deletes what moves leave behind: shards on disks that have no right to them any more. What the disk
//! that has the right lost meanwhile is given to it first.
//!
//! What always holds: nothing is deleted before it was seen to be left over for a while, so that no
//! reader goes by a map that has it there; an owned extent's shard goes only when the disk whose slot
//! it is has just verified all of its shards in that slot (I-12); what may get an owner yet stays (I-9).
//! A disk that has a slot of the group, or is to get one, is left alone: there a deletion would take
//! what is its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use model::checksum::block_checksums;
use model::cluster_map::{ClusterMap, DiskState, Pg};
use model::extent::Extent;
use model::ids::{DiskId, ExtentId, PgId, ShardId};
use model::query::{Answer, MetadataError, Query};
use model::shard::{ShardAppend, ShardRequest, ShardResponse, ShardState};
use model::upkeep::ExtentState;

use crate::engine::Shared;
use crate::read::read_shard_and_owner;
use crate::scrub::{extent_states, inventory, lacking, queue_repairs, verify};
use crate::write::append;

/// How often disks are asked which groups they have shards of.
const LOOK_INTERVAL: Duration = Duration::from_mins(1);

/// Extents that are looked at together.
const EXTENTS_AT_ONCE: usize = 256;

/// Extents in one page of a group's list.
const EXTENTS_PER_PAGE: u32 = 1000;

/// Groups in one page of a disk's list.
const GROUPS_PER_PAGE: u32 = 10_000;

/// Groups that are cleared in one look: what clears them has looked at the disks not long ago.
const GROUPS_PER_LOOK: usize = 64;

/// Between two looks while more is to be cleared than one look does.
const SHORT_PAUSE: Duration = Duration::from_secs(1);

/// Looks, and deletes what was left over long enough, until it is dropped.
pub(super) async fn run(shared: &Shared) {
    let mut strays = Strays::default();
    let pause = LOOK_INTERVAL.min(shared.options.stray_grace);
    loop {
        let is_more = strays.look(shared).await.unwrap_or_else(|error| {
            tracing::debug!(%error, "strays are looked for later");
            false
        });
        shared.clock.sleep(if is_more { SHORT_PAUSE.min(pause) } else { pause }).await;
    }
}

/// What may be done with what is left over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leave {
    /// It is given to the disks that lost it.
    ToBringHome,
    /// And it is deleted, where they have it.
    ToDelete,
}

/// Left-over shards that were seen.
#[derive(Debug, Default)]
struct Strays {
    /// Disks and the groups that they have shards of without a right to, since when.
    seen: BTreeMap<(DiskId, PgId), Duration>,
    /// Those of them where what could be deleted was: what is left may get an owner yet, or is
    /// needed, and isn't waited for.
    tried: BTreeSet<(DiskId, PgId)>,
}

impl Strays {
    /// Looks at all disks and clears what is due; whether more is than was cleared.
    async fn look(&mut self, shared: &Shared) -> Result<bool, MetadataError> {
        let now = shared.clock.monotonic();
        let grace = shared.options.stray_grace;
        let map = shared.map.refresh().await?;
        let mut found = BTreeSet::new();
        for disk in map.disks.iter().filter(|disk| is_reachable(disk.state)) {
            let Some(groups) = groups_on(shared, disk.id).await else {
                // What was seen there before stays seen.
                found.extend(self.seen.keys().filter(|(seen, _)| *seen == disk.id));
                continue;
            };
            let has_no_right = |pg: &PgId| map.pg(*pg).is_some_and(|pg| !has_right(pg, disk.id));
            found.extend(groups.into_iter().filter(has_no_right).map(|pg| (disk.id, pg)));
        }
        self.tried.retain(|place| found.contains(place));
        shared.rebalance.set_places_of_strays(found.difference(&self.tried).copied().collect());
        metrics::gauge!("drystone_stray_groups").set(found.len() as f64);
        self.seen.retain(|place, _| found.contains(place));
        if found.iter().any(|place| !self.seen.contains_key(place)) && is_any_lost(shared).await? {
            // What nobody else has may be there: that can't wait.
            for (disk, pg) in found.iter().filter(|place| !self.seen.contains_key(place)) {
                clear(shared, *disk, *pg, Leave::ToBringHome).await?;
            }
        }
        for place in found {
            self.seen.entry(place).or_insert(now);
        }
        let due = self.seen.iter().filter(|(_, since)| now.saturating_sub(**since) >= grace);
        let due: Vec<(DiskId, PgId)> = due.map(|(place, _)| *place).collect();
        let is_more = due.len() > GROUPS_PER_LOOK;
        for (disk, pg) in due.into_iter().take(GROUPS_PER_LOOK) {
            clear(shared, disk, pg, Leave::ToDelete).await?;
            self.tried.insert((disk, pg));
            // Looked at again after the grace, if something is left.
            self.seen.insert((disk, pg), shared.clock.monotonic());
        }
        Ok(is_more)
    }
}

fn is_reachable(state: DiskState) -> bool {
    matches!(state, DiskState::Up | DiskState::Full)
}

fn has_right(pg: &Pg, disk: DiskId) -> bool {
    pg.disks.contains(&disk) || pg.moves.iter().any(|begun| begun.to == disk)
}

/// Whether an extent has lost more shards than its parity makes up for.
async fn is_any_lost(shared: &Shared) -> Result<bool, MetadataError> {
    match shared.metadata.query(Query::Repairs { after: None, limit: 1 }).await? {
        // The most endangered ones come first.
        Answer::Repairs(page) => Ok(page.items.iter().any(|item| item.spare < 0)),
        _ => Err(MetadataError::Unavailable),
    }
}

/// The groups that a disk has shards of.
async fn groups_on(shared: &Shared, disk: DiskId) -> Option<Vec<PgId>> {
    let (mut all, mut after): (Vec<PgId>, Option<PgId>) = (Vec::new(), None);
    loop {
        let request = ShardRequest::Groups { disk, after, limit: GROUPS_PER_PAGE };
        let answer = shared.door.call(disk, request, shared.options.read_deadline).await;
        let Ok(ShardResponse::Groups(page)) = answer else { return None };
        let Some(last) = page.last().copied() else { return Some(all) };
        // A list that doesn't go on would never end.
        if after.is_some_and(|after| last <= after) {
            return None;
        }
        after = Some(last);
        all.extend(page);
    }
}

/// Deals with the shards of a group on a disk that has no right to them.
async fn clear(shared: &Shared, disk: DiskId, pg: PgId, leave: Leave) -> Result<(), MetadataError> {
    let after = ShardId { extent: ExtentId { pg, ..ExtentId::default() }, stripe: 0, slot: 0 };
    let Ok(all) = inventory(shared, disk, after, None).await else { return Ok(()) };
    let mut extents: BTreeMap<ExtentId, BTreeSet<ShardId>> = BTreeMap::new();
    for (id, _) in all {
        extents.entry(id.extent).or_default().insert(id);
    }
    let extents: Vec<(ExtentId, BTreeSet<ShardId>)> = extents.into_iter().collect();
    let mut after = None;
    for batch in extents.chunks(EXTENTS_AT_ONCE) {
        let map = shared.map.refresh().await?;
        let Some(group) = map.pg(pg).filter(|pg| !has_right(pg, disk)) else { return Ok(()) };
        let ids: Vec<ExtentId> = batch.iter().map(|(id, _)| *id).collect();
        let owned = owned_of(shared, pg, after, &ids).await?;
        after = ids.last().copied();
        let strays = Batch { map: &map, pg: group, disk, owned, shards: batch };
        let mut gone = strays.had_elsewhere(shared).await?;
        if leave == Leave::ToBringHome {
            continue;
        }
        // Asked for last: what is garbage, or can't get an owner any more, stays so.
        let states = extent_states(shared, &ids).await?;
        let nobodys = [ExtentState::Garbage, ExtentState::Ownerless];
        let nobodys = ids.iter().zip(&states).filter(|(_, state)| nobodys.contains(state));
        gone.extend(nobodys.map(|(id, _)| *id));
        if !delete(shared, disk, pg, gone).await? {
            return Ok(());
        }
    }
    Ok(())
}

/// Those of some extents of a group that have an owner. `ids` ascend, and are behind `after`.
async fn owned_of(
    shared: &Shared,
    pg: PgId,
    mut after: Option<ExtentId>,
    ids: &[ExtentId],
) -> Result<BTreeMap<ExtentId, Extent>, MetadataError> {
    let mut owned = BTreeMap::new();
    let Some(last) = ids.last() else { return Ok(owned) };
    loop {
        let query = Query::Extents { pg, after, limit: EXTENTS_PER_PAGE };
        let Answer::Extents(page) = shared.metadata.query(query).await? else {
            return Err(MetadataError::Unavailable);
        };
        let wanted = |extent: &Extent| ids.binary_search(&extent.id).is_ok();
        let entries = page.extents.into_iter().filter(|entry| entry.is_owned);
        owned.extend(
            entries.map(|entry| entry.extent).filter(wanted).map(|extent| (extent.id, extent)),
        );
        after = page.next;
        if after.is_none_or(|after| after >= *last) {
            return Ok(owned);
        }
    }
}

/// Some extents that a disk has shards of without a right to.
struct Batch<'a> {
    map: &'a ClusterMap,
    pg: &'a Pg,
    disk: DiskId,
    owned: BTreeMap<ExtentId, Extent>,
    shards: &'a [(ExtentId, BTreeSet<ShardId>)],
}

impl Batch<'_> {
    /// Of those that have an owner the extents whose shards the disks of their slots have just
    /// verified. What they lack is given to them and queued for repair, which sees whether it came;
    /// until then it stays here, too.
    async fn had_elsewhere(&self, shared: &Shared) -> Result<BTreeSet<ExtentId>, MetadataError> {
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
        Ok(self.owned.keys().filter(|extent| !doubtful.contains(extent)).copied().collect())
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

/// Deletes what extents have on a disk, unless a move to it has begun: that would count on it. Whether
/// the disk may be looked at further.
///
/// The request is given up well before it could meet a move that begins after this has looked, which
/// waits until it is answered, or has run its course, before it counts on what is there.
async fn delete(
    shared: &Shared,
    disk: DiskId,
    pg: PgId,
    extents: BTreeSet<ExtentId>,
) -> Result<bool, MetadataError> {
    if extents.is_empty() {
        return Ok(true);
    }
    let asked = shared.clock.monotonic();
    // Before the map is looked at: who begins a move after that sees it.
    let deletions = &shared.rebalance.deletions;
    deletions.begun(disk, pg, asked);
    let map = shared.map.refresh().await?;
    if map.pg(pg).is_none_or(|pg| has_right(pg, disk)) {
        deletions.answered(disk, pg);
        return Ok(false);
    }
    let half = shared.options.delete_deadline / 2;
    if shared.clock.monotonic().saturating_sub(asked) > half {
        deletions.answered(disk, pg);
        return Ok(false);
    }
    let count = extents.len() as u64;
    let request = ShardRequest::Delete { disk, extents: extents.into_iter().collect() };
    match shared.door.call(disk, request, half).await {
        Ok(_) => {
            deletions.answered(disk, pg);
            shared.rebalance.strays.fetch_add(count, Ordering::Relaxed);
            metrics::counter!("drystone_strays_deleted_total").increment(count);
            Ok(true)
        }
        Err(failure) => {
            tracing::debug!(%disk, ?failure, "strays are deleted later");
            Ok(false)
        }
    }
}
