//! Deletes what moves leave behind: shards on disks that have no right to them any more. What the disk
//! that has the right lost meanwhile is given to it first ([`home`]).
//!
//! What always holds: nothing is deleted before it was seen to be left over for a while, so that no
//! reader goes by a map that has it there; an owned extent's shard goes only when the disk whose slot
//! it is has just verified all of its shards in that slot (I-12); what may get an owner yet stays, and
//! so does all while the metadata holds what it doesn't know (I-9): what was collected is told from
//! what may get an owner by what was known of it before ([`once_owned`]).
//! A disk that has a slot of the group, or is to get one, is left alone: there a deletion would take
//! what is its own.

mod home;
mod once_owned;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use model::cluster_map::{DiskState, Pg};
use model::extent::{Extent, SlotSet};
use model::ids::{DiskId, ExtentId, PgId, ShardId};
use model::query::{Answer, MetadataError, Query};
use model::shard::{ShardRequest, ShardResponse};
use model::upkeep::ExtentState;

use super::steer::is_held;
use crate::scrub::{extent_states, inventory};
use crate::shared::Shared;
use home::{Batch, LeftOver, cut};
use once_owned::OnceOwned;

/// How often disks are asked which groups they have shards of.
const LOOK_INTERVAL: Duration = Duration::from_mins(1);

/// How often it is looked for something that is lost and may be among what is left over.
const RESCUE_INTERVAL: Duration = Duration::from_secs(5);

/// For so long what is due is cleared before something else has its turn.
const CLEAR_MAX: Duration = Duration::from_secs(5);

/// Extents that are looked at together.
const EXTENTS_AT_ONCE: usize = 256;

/// Extents in one page of a group's list.
const EXTENTS_PER_PAGE: u32 = 1000;

/// Groups in one page of a disk's list.
const GROUPS_PER_PAGE: u32 = 10_000;

/// Extents in one page of the repair queue.
const LOST_PER_PAGE: u32 = 512;

/// Lost extents that are looked for.
const LOST_MAX: usize = 10_000;

/// A disk, and a group that it has shards of without a right to.
type Place = (DiskId, PgId);

/// Looks, and deletes what was left over long enough, until it is dropped.
pub(super) async fn run(shared: &Shared) {
    let once_owned = OnceOwned::default();
    tokio::select! {
        () = look_and_clear(shared, &once_owned) => {}
        () = once_owned::follow(shared, &once_owned) => {}
    }
}

async fn look_and_clear(shared: &Shared, once_owned: &OnceOwned) {
    let mut strays = Strays::new(shared, once_owned);
    let pause = LOOK_INTERVAL.min(shared.options.stray_grace);
    loop {
        let next = shared.clock.monotonic() + pause;
        if let Err(error) = strays.look().await {
            tracing::debug!(%error, "strays are looked for later");
        }
        loop {
            let is_more = strays.work().await.unwrap_or_else(|error| {
                tracing::debug!(%error, "strays are dealt with later");
                false
            });
            let left = next.saturating_sub(shared.clock.monotonic());
            if !is_more {
                shared.clock.sleep(RESCUE_INTERVAL.min(left)).await;
            }
            if left <= RESCUE_INTERVAL && !is_more || left.is_zero() {
                break;
            }
        }
    }
}

/// Left-over shards that were seen.
struct Strays<'a> {
    shared: &'a Shared,
    once_owned: &'a OnceOwned,
    /// Where they are, since when.
    seen: BTreeMap<Place, Duration>,
    /// Those places where what could be deleted was: what is left may get an owner yet, or is
    /// needed, and isn't waited for.
    tried: BTreeSet<Place>,
    /// Where it goes on with a place that takes longer, and behind which extent.
    rest: Option<(Place, ExtentId)>,
    /// Lost extents that were looked for at places, and the slots that they lacked.
    sought: BTreeMap<(Place, ExtentId), SlotSet>,
}

impl<'a> Strays<'a> {
    fn new(shared: &'a Shared, once_owned: &'a OnceOwned) -> Self {
        let (seen, tried) = (BTreeMap::new(), BTreeSet::new());
        Self { shared, once_owned, seen, tried, rest: None, sought: BTreeMap::new() }
    }

    /// Asks all disks what they have.
    async fn look(&mut self) -> Result<(), MetadataError> {
        let shared = self.shared;
        let now = shared.clock.monotonic();
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
        let groups: BTreeSet<PgId> = found.iter().map(|(_, pg)| *pg).collect();
        for place in found {
            self.seen.entry(place).or_insert(now);
        }
        // What a map said in between is found on its disk the next time.
        let just_now = now.saturating_sub(LOOK_INTERVAL);
        self.once_owned.retain(&groups, just_now);
        if is_held(shared).await? {
            // Tables that were put back prove nothing by what they knew before.
            self.once_owned.forget();
            return Ok(());
        }
        for pg in groups.into_iter().filter(|pg| !self.once_owned.has_group(*pg)) {
            self.once_owned.note(shared, pg).await?;
        }
        Ok(())
    }

    /// Does what can be done by the last look; whether more is left than there was time for.
    async fn work(&mut self) -> Result<bool, MetadataError> {
        self.rescue().await?;
        self.clear().await
    }

    /// What nobody else has may be among what is left over: that can't wait.
    async fn rescue(&mut self) -> Result<(), MetadataError> {
        let groups: BTreeSet<PgId> = self.seen.keys().map(|(_, pg)| *pg).collect();
        let lost = if groups.is_empty() {
            BTreeMap::new()
        } else {
            lost(self.shared, |pg| groups.contains(&pg)).await?
        };
        let is_lost = |id: &ExtentId, slots: &SlotSet| lost.get(id) == Some(slots);
        self.sought.retain(|(_, id), slots| is_lost(id, slots));
        if lost.is_empty() {
            return Ok(());
        }
        for place in self.seen.keys() {
            let here = lost.iter().filter(|(id, _)| id.pg == place.1);
            let news = here.filter(|(id, _)| !self.sought.contains_key(&(*place, **id)));
            let news: BTreeMap<ExtentId, SlotSet> = news.map(|(id, slots)| (*id, *slots)).collect();
            if !news.is_empty() && self.bring_home(*place, &news).await? {
                self.sought.extend(news.into_iter().map(|(id, slots)| ((*place, id), slots)));
            }
        }
        Ok(())
    }

    /// Gives what is left over of some extents to the disks that lost it; whether it could be looked
    /// for.
    async fn bring_home(
        &self,
        (disk, pg): Place,
        extents: &BTreeMap<ExtentId, SlotSet>,
    ) -> Result<bool, MetadataError> {
        let shared = self.shared;
        let last = extents.keys().next_back().copied();
        let Some(mut all) = left_over(shared, (disk, pg), None, last).await else {
            return Ok(false);
        };
        all.retain(|(id, _)| extents.contains_key(id));
        let mut after = None;
        for batch in all.chunks(EXTENTS_AT_ONCE) {
            let owned = owned_of(shared, pg, after, batch).await?;
            after = batch.last().map(|(id, _)| *id);
            for shards in cut(batch, &owned) {
                let map = shared.map.refresh().await?;
                let Some(pg) = map.pg(pg).filter(|pg| !has_right(pg, disk)) else {
                    return Ok(true);
                };
                let batch = Batch { map: &map, pg, disk, owned: &owned, shards };
                batch.had_elsewhere(shared).await?;
            }
        }
        Ok(true)
    }

    /// Clears what was seen long enough ago, for a while; whether there is more.
    async fn clear(&mut self) -> Result<bool, MetadataError> {
        let (clock, grace) = (&*self.shared.clock, self.shared.options.stray_grace);
        let until = clock.monotonic() + CLEAR_MAX;
        loop {
            let now = clock.monotonic();
            let is_due = |since: &Duration| now.saturating_sub(*since) >= grace;
            let begun = self.rest.filter(|(place, _)| self.seen.get(place).is_some_and(is_due));
            let due = self.seen.iter().filter(|(_, since)| is_due(since));
            let first = due.min_by_key(|(_, since)| **since).map(|(place, _)| *place);
            let Some(place) = begun.map(|(place, _)| place).or(first) else { return Ok(false) };
            if now >= until {
                return Ok(true);
            }
            let after = begun.map(|(_, after)| after);
            self.rest = self.clear_place(place, after, until).await?.map(|last| (place, last));
            if self.rest.is_none() {
                self.tried.insert(place);
                // Looked at again after the grace, if something is left.
                self.seen.insert(place, clock.monotonic());
            }
        }
    }

    /// Deals with the shards of a group on a disk that has no right to them. Behind which extent to go
    /// on, if time was up.
    async fn clear_place(
        &self,
        (disk, pg): Place,
        mut after: Option<ExtentId>,
        until: Duration,
    ) -> Result<Option<ExtentId>, MetadataError> {
        let shared = self.shared;
        let Some(all) = left_over(shared, (disk, pg), after, None).await else { return Ok(None) };
        for batch in all.chunks(EXTENTS_AT_ONCE) {
            let owned = owned_of(shared, pg, after, batch).await?;
            for shards in cut(batch, &owned) {
                let map = shared.map.refresh().await?;
                let Some(group) = map.pg(pg).filter(|pg| !has_right(pg, disk)) else {
                    return Ok(None);
                };
                let batch = Batch { map: &map, pg: group, disk, owned: &owned, shards };
                let mut gone = batch.had_elsewhere(shared).await?;
                let ids: Vec<ExtentId> = shards.iter().map(|(id, _)| *id).collect();
                gone.extend(self.nobodys(&ids).await?);
                // After everything else was asked for: while something is held, what the tables call
                // garbage may be named by what they don't know yet.
                let may_delete = !is_held(shared).await?;
                if may_delete && !delete(shared, disk, pg, gone).await? {
                    return Ok(None);
                }
                after = ids.last().copied();
                // It can wait; clients can't.
                shared.repair.pace.spend(batch.bytes()).await;
                if shared.clock.monotonic() >= until {
                    return Ok(after);
                }
            }
        }
        Ok(None)
    }

    /// Those of some extents that have no owner and can't get one any more.
    async fn nobodys(&self, ids: &[ExtentId]) -> Result<Vec<ExtentId>, MetadataError> {
        let states = extent_states(self.shared, ids).await?;
        let is_nobodys = |(id, state): &(ExtentId, ExtentState)| match state {
            // That stays so.
            ExtentState::Garbage | ExtentState::Ownerless => true,
            // Its session could name it; but one that was named before was collected meanwhile.
            ExtentState::InFlight => self.once_owned.contains(*id),
            ExtentState::Owned | ExtentState::Foreign | ExtentState::Held => false,
        };
        Ok(ids.iter().copied().zip(states).filter(is_nobodys).map(|(id, _)| id).collect())
    }
}

fn is_reachable(state: DiskState) -> bool {
    matches!(state, DiskState::Up | DiskState::Full)
}

fn has_right(pg: &Pg, disk: DiskId) -> bool {
    pg.disks.contains(&disk) || pg.moves.iter().any(|begun| begun.to == disk)
}

/// Extents of these groups that have lost more shards than their parity makes up for, and the slots that
/// they lack.
async fn lost(
    shared: &Shared,
    is_wanted: impl Fn(PgId) -> bool,
) -> Result<BTreeMap<ExtentId, SlotSet>, MetadataError> {
    let (mut all, mut after) = (BTreeMap::new(), None);
    loop {
        let query = Query::Repairs { after, limit: LOST_PER_PAGE };
        let Answer::Repairs(page) = shared.metadata.query(query).await? else {
            return Err(MetadataError::Unavailable);
        };
        after = page.next;
        for item in page.items {
            // The most endangered ones come first.
            if item.spare >= 0 || all.len() >= LOST_MAX {
                return Ok(all);
            }
            if is_wanted(item.extent.id.pg) {
                all.insert(item.extent.id, item.extent.missing);
            }
        }
        if after.is_none() {
            return Ok(all);
        }
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

/// What a disk has of a group's extents behind one and up to another.
async fn left_over(
    shared: &Shared,
    (disk, pg): Place,
    after: Option<ExtentId>,
    until: Option<ExtentId>,
) -> Option<Vec<LeftOver>> {
    let after = match after {
        Some(extent) => ShardId { extent, stripe: u16::MAX, slot: u8::MAX },
        None => ShardId { extent: ExtentId { pg, ..ExtentId::default() }, stripe: 0, slot: 0 },
    };
    let all = inventory(shared, disk, after, until).await.ok()?;
    let mut extents: BTreeMap<ExtentId, BTreeSet<ShardId>> = BTreeMap::new();
    for (id, _) in all {
        extents.entry(id.extent).or_default().insert(id);
    }
    Some(extents.into_iter().collect())
}

/// Those of some extents of a group that have an owner. They ascend, and are behind `after`.
async fn owned_of(
    shared: &Shared,
    pg: PgId,
    mut after: Option<ExtentId>,
    wanted: &[LeftOver],
) -> Result<BTreeMap<ExtentId, Extent>, MetadataError> {
    let mut owned = BTreeMap::new();
    let Some((last, _)) = wanted.last() else { return Ok(owned) };
    loop {
        let query = Query::Extents { pg, after, limit: EXTENTS_PER_PAGE };
        let Answer::Extents(page) = shared.metadata.query(query).await? else {
            return Err(MetadataError::Unavailable);
        };
        let is_wanted =
            |extent: &Extent| wanted.binary_search_by_key(&extent.id, |(id, _)| *id).is_ok();
        let entries = page.extents.into_iter().filter(|entry| entry.is_owned);
        owned.extend(
            entries.map(|entry| entry.extent).filter(is_wanted).map(|extent| (extent.id, extent)),
        );
        after = page.next;
        if after.is_none_or(|after| after >= *last) {
            return Ok(owned);
        }
    }
}

/// Deletes what extents have on a disk, unless a move to it has begun: that would count on it. Whether
/// the disk may be looked at further.
///
/// The request has run its course at most the deadline of deletions after the map was asked for. Whoever
/// carries a move out that begins later waits for so long before it counts on what is there.
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
    let map = shared.map.refresh().await;
    let half = shared.options.delete_deadline / 2;
    let is_late = shared.clock.monotonic().saturating_sub(asked) > half;
    let is_theirs = map.as_ref().is_ok_and(|map| map.pg(pg).is_none_or(|pg| has_right(pg, disk)));
    if map.is_err() || is_late || is_theirs {
        deletions.answered(disk, pg);
        return map.map(|_| false);
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
