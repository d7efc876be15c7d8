//! Finds what lies on the disks: placement groups that the map lacks, slots that moved, and extents
//! that the tables don't know, with their owners.
//!
//! In: the cluster map, and what is held. Out: findings. What can't be asked for is told as such, and
//! never taken for not being there by anything that deletes.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt as _, stream};
use model::cluster_map::{ClusterMap, DiskState, Pg};
use model::coding::StripeGeometry;
use model::extent::SlotSet;
use model::ids::{DiskId, ExtentId, PgId, SessionId, ShardId};
use model::level::MOVING;
use model::limits::EXTENT_STRIPES_MAX;
use model::owner::Owner;
use model::query::MetadataError;
use model::rebuild::{Finding, SlotFound};
use model::shard::{ShardBlocks, ShardRead, ShardRequest, ShardResponse};
use model::upkeep::ExtentState;

use super::RecoverError;
use super::home::{Away, Carrier, GroupShards};
use super::plan::{BodyName, Found, FoundOwner, Place};
use super::report::RecoverProblem;
use super::settle::moved_slots;
use crate::scrub::{extent_states, inventory};
use crate::shard_door::ShardFailure;
use crate::shared::Shared;

/// PGs of one answer.
const GROUPS_PAGE: u32 = 10_000;

/// Owners that are read at once.
const OWNERS_AT_ONCE: usize = 32;

/// An extent as it lies on the disks of its PG.
struct Lying {
    id: ExtentId,
    stripes: Vec<SlotSet>,
}

/// A scan under way.
pub(super) struct Scan<'a> {
    pub(super) carrier: Carrier<'a>,
    /// The disks that hold shards of a group.
    holders: BTreeMap<PgId, Vec<DiskId>>,
    /// Disks that didn't answer.
    unreached: BTreeSet<DiskId>,
}

impl<'a> Scan<'a> {
    pub(super) fn new(carrier: Carrier<'a>) -> Self {
        Self { carrier, holders: BTreeMap::new(), unreached: BTreeSet::new() }
    }

    /// Which slots of groups that the map lacks the disks hold shards of, and which slots of others are
    /// on other disks by now; a disk must answer that isn't known to be lost.
    pub(super) async fn groups(
        &self,
        lost: &[DiskId],
    ) -> Result<(Vec<Finding>, Vec<SlotFound>), RecoverError> {
        let (shared, map) = (self.carrier.shared, self.carrier.map);
        let mut findings = Vec::new();
        let mut holders: BTreeMap<PgId, Vec<DiskId>> = BTreeMap::new();
        let disks = map.disks.iter().filter(|disk| disk.state != DiskState::Out);
        for disk in disks.map(|disk| disk.id).filter(|disk| !lost.contains(disk)) {
            let away = |_| RecoverError::DiskAway(disk);
            for pg in groups(shared, disk).await.map_err(away)? {
                if map.pg(pg).is_some() {
                    holders.entry(pg).or_default().push(disk);
                } else {
                    findings.extend(slots_of(shared, disk, pg).await.map_err(away)?);
                }
            }
        }
        let moved = moved_slots(&self.carrier, &holders).await?;
        Ok((findings, moved))
    }

    /// Asks all disks which groups they have shards of, but for those that are known to be lost and that
    /// no group counts on.
    pub(super) async fn list_groups(&mut self, lost: &[DiskId]) {
        let (shared, map) = (self.carrier.shared, self.carrier.map);
        let in_use: BTreeSet<DiskId> = map.pgs.iter().flat_map(|pg| &pg.disks).copied().collect();
        for disk in &map.disks {
            let is_gone = disk.state == DiskState::Out || lost.contains(&disk.id);
            if is_gone && !in_use.contains(&disk.id) {
                continue;
            }
            let listed = groups(shared, disk.id).await;
            for pg in self.reached(disk.id, listed).unwrap_or_default() {
                self.holders.entry(pg).or_default().push(disk.id);
            }
        }
    }

    /// The extents of a PG that the tables don't know, with their owners.
    pub(super) async fn unknown_extents(&mut self, pg: &Pg) -> Result<Vec<Found>, MetadataError> {
        let all = self.extents_of(pg).await?;
        let ids: Vec<ExtentId> = all.keys().copied().collect();
        let shared = self.carrier.shared;
        let states = extent_states(shared, &ids).await?;
        let unknown: Vec<Lying> = all
            .into_iter()
            .zip(states)
            .filter(|(_, state)| *state == ExtentState::Held)
            .map(|((id, stripes), _)| Lying { id, stripes })
            .collect();
        self.carrier.meter.change(|figures| {
            figures.extents += ids.len() as u64;
            figures.known_extents += (ids.len() - unknown.len()) as u64;
        });
        // The map by which the slots of each are told.
        let map = self.carrier.map;
        let epoch = if map.level_in_use() >= MOVING { map.epoch } else { 0 };
        let mut owned = stream::iter(unknown)
            .map(|extent| find_owner(shared, pg, extent, epoch))
            .buffer_unordered(OWNERS_AT_ONCE);
        let mut found = Vec::new();
        while let Some(extent) = owned.next().await {
            match extent {
                Some(extent) => found.push(extent),
                None => self.carrier.meter.change(|figures| figures.ownerless_extents += 1),
            }
        }
        Ok(found)
    }

    /// Every extent of held sessions that the group's disks have shards of, once they have what lay on
    /// others.
    async fn extents_of(
        &mut self,
        pg: &Pg,
    ) -> Result<BTreeMap<ExtentId, Vec<SlotSet>>, MetadataError> {
        let mut shards = GroupShards::default();
        for disk in self.holders.get(&pg.id).cloned().unwrap_or_default() {
            let listed = inventory(self.carrier.shared, disk, before(pg.id), None).await;
            if let Some(listed) = self.reached(disk, listed) {
                shards.0.insert(disk, listed.into_iter().collect());
            }
        }
        let left = self.carrier.bring_home(pg, &mut shards).await?;
        self.tell_misplaced(pg, &left);
        let mut all: BTreeMap<ExtentId, Vec<SlotSet>> = BTreeMap::new();
        for (slot, disk) in (0u8..).zip(&pg.disks) {
            for id in shards.0.get(disk).into_iter().flat_map(BTreeMap::keys) {
                let is_wanted = id.slot == slot
                    && id.stripe < EXTENT_STRIPES_MAX
                    && self.carrier.held.covers(id.extent.session);
                if is_wanted {
                    let stripes = all.entry(id.extent).or_default();
                    let count = stripes.len().max(usize::from(id.stripe) + 1);
                    stripes.resize(count, SlotSet::default());
                    stripes[usize::from(id.stripe)].insert(id.slot);
                }
            }
        }
        Ok(all)
    }

    /// Tells of held shards that are where nobody looks for them.
    fn tell_misplaced(&self, pg: &Pg, left: &[Away]) {
        let mut on: BTreeMap<DiskId, u64> = BTreeMap::new();
        let held = left.iter().filter(|away| self.carrier.held.covers(away.id.extent.session));
        for (disk, _) in held.flat_map(|away| &away.at) {
            *on.entry(*disk).or_default() += 1;
        }
        for (disk, shards) in on {
            self.carrier.meter.problem(RecoverProblem::Misplaced { disk, pg: pg.id, shards });
        }
    }

    /// What came of a request; a disk that doesn't answer is told once.
    fn reached<T>(&mut self, disk: DiskId, answer: Result<T, ShardFailure>) -> Option<T> {
        if answer.is_err() && self.unreached.insert(disk) {
            self.carrier.meter.problem(RecoverProblem::DiskUnreached(disk));
        }
        answer.ok()
    }
}

/// The place in front of all shards of a PG: no session has the number 0.
pub(super) fn before(pg: PgId) -> ShardId {
    let extent = ExtentId { pg, session: SessionId(0), sequence: 0 };
    ShardId { extent, stripe: 0, slot: 0 }
}

/// All PGs that a disk has shards of.
async fn groups(shared: &Shared, disk: DiskId) -> Result<Vec<PgId>, ShardFailure> {
    let mut all: Vec<PgId> = Vec::new();
    loop {
        let after = all.last().copied();
        let request = ShardRequest::Groups { disk, after, limit: GROUPS_PAGE };
        let answer = shared.door.call(disk, request, shared.options.read_deadline).await?;
        let ShardResponse::Groups(page) = answer else { return Err(another_answer()) };
        if page.is_empty() {
            return Ok(all);
        }
        // A list that doesn't go on would never end.
        let is_ascending = after.iter().chain(&page).is_sorted_by(|one, two| one < two);
        if !is_ascending {
            return Err(another_answer());
        }
        all.extend(page);
    }
}

/// Which slots of a PG a disk has shards of, with their coding; what can't be read is left out.
async fn slots_of(shared: &Shared, disk: DiskId, pg: PgId) -> Result<Vec<Finding>, ShardFailure> {
    let mut slots: BTreeMap<u8, (ShardId, u64)> = BTreeMap::new();
    for (id, _) in inventory(shared, disk, before(pg), None).await? {
        slots.entry(id.slot).or_insert((id, 0)).1 += 1;
    }
    let mut findings = Vec::new();
    for (slot, (id, shards)) in slots {
        if let Some(blocks) = look(shared, disk, id).await {
            findings.push(Finding { pg, slot, disk, coding: blocks.coding, shards });
        }
    }
    Ok(findings)
}

/// The first block of a shard, with what its record says; `None` when that can't be had or can't be.
pub(super) async fn look(shared: &Shared, disk: DiskId, id: ShardId) -> Option<ShardBlocks> {
    let reads = vec![ShardRead { id, offset: 0, length: 1 }];
    let request = ShardRequest::Read { disk, reads };
    let answer = shared.door.call(disk, request, shared.options.read_deadline).await.ok()?;
    let ShardResponse::Read(mut blocks) = answer else { return None };
    let blocks = blocks.pop()?.ok()?;
    let geometry = StripeGeometry::new(blocks.coding, blocks.stripe_bytes)?;
    (geometry.stored_bytes(id.slot) == blocks.shard_bytes).then_some(blocks)
}

/// Any shard of one stripe of the extent.
async fn look_at_stripe(
    shared: &Shared,
    pg: &Pg,
    extent: &Lying,
    stripe: usize,
) -> Option<ShardBlocks> {
    let slots = extent.stripes.get(stripe)?;
    for slot in slots.iter() {
        let id = ShardId { extent: extent.id, stripe: stripe as u16, slot };
        let disk = *pg.disks.get(usize::from(slot))?;
        if let Some(blocks) = look(shared, disk, id).await
            && blocks.coding == pg.coding
        {
            return Some(blocks);
        }
    }
    None
}

/// Reads the owner of an extent, and how long its last stripe is.
async fn find_owner(shared: &Shared, pg: &Pg, extent: Lying, epoch: u64) -> Option<Found> {
    let last = extent.stripes.iter().rposition(|slots| !slots.is_empty())?;
    let blocks = look_at_stripe(shared, pg, &extent, last).await?;
    let owner = shared.seal.open(extent.id, &blocks.owner).ok()?;
    let mut stripes = extent.stripes;
    stripes.truncate(last + 1);
    Some(Found {
        id: extent.id,
        coding: blocks.coding,
        stripes,
        last_stripe_bytes: blocks.stripe_bytes,
        owner: found_owner(owner),
        epoch,
    })
}

fn found_owner(owner: Owner) -> FoundOwner {
    FoundOwner {
        place: Place { bucket: owner.bucket, key: owner.key },
        body: BodyName::new(owner.manifest, owner.upload, owner.part, owner.kind),
        offset: owner.offset,
        started: owner.started,
        part_bytes: owner.part_bytes,
        checksum: owner.checksum,
    }
}

/// The whole owner of an extent, from any of its shards.
pub(super) async fn owner_of(shared: &Shared, map: &ClusterMap, extent: ExtentId) -> Option<Owner> {
    let pg = map.pg(extent.pg)?;
    for (slot, disk) in (0u8..).zip(&pg.disks) {
        let id = ShardId { extent, stripe: 0, slot };
        if let Some(blocks) = look(shared, *disk, id).await
            && let Ok(owner) = shared.seal.open(extent, &blocks.owner)
        {
            return Some(owner);
        }
    }
    None
}

fn another_answer() -> ShardFailure {
    ShardFailure::Refused(model::shard::ShardError::Invalid("another answer".into()))
}
