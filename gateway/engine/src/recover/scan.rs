//! Finds what lies on the disks: placement groups that the map lacks, and extents that the tables
//! don't know, with their owners.
//!
//! In: the cluster map, and what is held. Out: findings. What can't be asked for is told as such, and
//! never taken for not being there by anything that deletes.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt as _, stream};
use model::cluster_map::{ClusterMap, DiskState, Pg};
use model::coding::StripeGeometry;
use model::extent::SlotSet;
use model::ids::{DiskId, ExtentId, PgId, SessionId, ShardId};
use model::limits::EXTENT_STRIPES_MAX;
use model::owner::Owner;
use model::query::MetadataError;
use model::rebuild::Finding;
use model::recovery::Held;
use model::shard::{ShardBlocks, ShardRead, ShardRequest, ShardResponse};
use model::upkeep::ExtentState;

use super::plan::{BodyName, Found, FoundOwner, Place};
use super::report::{RecoverMeter, RecoverProblem};
use crate::engine::Shared;
use crate::scrub::{extent_states, inventory};
use crate::shard_door::ShardFailure;

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
    pub(super) shared: &'a Shared,
    pub(super) map: &'a ClusterMap,
    pub(super) meter: &'a RecoverMeter,
    /// Disks that didn't answer.
    unreached: BTreeSet<DiskId>,
}

impl<'a> Scan<'a> {
    pub(super) fn new(shared: &'a Shared, map: &'a ClusterMap, meter: &'a RecoverMeter) -> Self {
        Self { shared, map, meter, unreached: BTreeSet::new() }
    }

    /// Which slots of groups that the map lacks the disks hold shards of; `Err` with a disk that
    /// doesn't answer and isn't known to be lost.
    pub(super) async fn unknown_groups(
        &self,
        lost: &[DiskId],
        held: &Held,
    ) -> Result<Vec<Finding>, DiskId> {
        let mut findings = Vec::new();
        let disks = self.map.disks.iter().filter(|disk| disk.state != DiskState::Out);
        for disk in disks.map(|disk| disk.id).filter(|disk| !lost.contains(disk)) {
            let groups = groups(self.shared, disk).await.map_err(|_| disk)?;
            for pg in groups {
                match self.map.pg(pg) {
                    None => {
                        findings.extend(slots_of(self.shared, disk, pg).await.map_err(|_| disk)?);
                    }
                    Some(known) if known.disks.contains(&disk) => {}
                    Some(_) => self.tell_misplaced(disk, pg, held).await.map_err(|_| disk)?,
                }
            }
        }
        Ok(findings)
    }

    /// Tells of held shards of a known group on a disk that it isn't on: another group had its
    /// number when they were written.
    async fn tell_misplaced(
        &self,
        disk: DiskId,
        pg: PgId,
        held: &Held,
    ) -> Result<(), ShardFailure> {
        let all = inventory(self.shared, disk, before(pg), None).await?;
        let shards = all.iter().filter(|(id, _)| held.covers(id.extent.session)).count() as u64;
        if shards > 0 {
            self.meter.problem(RecoverProblem::Misplaced { disk, pg, shards });
        }
        Ok(())
    }

    /// The extents of a PG that the tables don't know, with their owners.
    pub(super) async fn unknown_extents(
        &mut self,
        pg: &Pg,
        held: &Held,
    ) -> Result<Vec<Found>, MetadataError> {
        let all = self.extents_of(pg, held).await;
        let ids: Vec<ExtentId> = all.keys().copied().collect();
        let states = extent_states(self.shared, &ids).await?;
        let unknown: Vec<Lying> = all
            .into_iter()
            .zip(states)
            .filter(|(_, state)| *state == ExtentState::Held)
            .map(|((id, stripes), _)| Lying { id, stripes })
            .collect();
        self.meter.change(|figures| {
            figures.extents += ids.len() as u64;
            figures.known_extents += (ids.len() - unknown.len()) as u64;
        });
        let mut owned = stream::iter(unknown)
            .map(|extent| find_owner(self.shared, pg, extent))
            .buffer_unordered(OWNERS_AT_ONCE);
        let mut found = Vec::new();
        while let Some(extent) = owned.next().await {
            match extent {
                Some(extent) => found.push(extent),
                None => self.meter.change(|figures| figures.ownerless_extents += 1),
            }
        }
        Ok(found)
    }

    /// Every extent of held sessions that the group's disks have shards of.
    async fn extents_of(&mut self, pg: &Pg, held: &Held) -> BTreeMap<ExtentId, Vec<SlotSet>> {
        let mut all: BTreeMap<ExtentId, Vec<SlotSet>> = BTreeMap::new();
        for (slot, disk) in (0u8..).zip(&pg.disks) {
            // A slot without a disk has no shards.
            if self.map.disk(*disk).is_none() {
                continue;
            }
            let listed = inventory(self.shared, *disk, before(pg.id), None).await;
            for (id, _) in self.reached(*disk, listed).unwrap_or_default() {
                let is_wanted = id.slot == slot
                    && id.stripe < EXTENT_STRIPES_MAX
                    && held.covers(id.extent.session);
                if is_wanted {
                    let stripes = all.entry(id.extent).or_default();
                    let count = stripes.len().max(usize::from(id.stripe) + 1);
                    stripes.resize(count, SlotSet::default());
                    stripes[usize::from(id.stripe)].insert(id.slot);
                }
            }
        }
        all
    }

    /// What came of a request; a disk that doesn't answer is told once.
    fn reached<T>(&mut self, disk: DiskId, answer: Result<T, ShardFailure>) -> Option<T> {
        if answer.is_err() && self.unreached.insert(disk) {
            self.meter.problem(RecoverProblem::DiskUnreached(disk));
        }
        answer.ok()
    }
}

/// The place in front of all shards of a PG: no session has the number 0.
fn before(pg: PgId) -> ShardId {
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
async fn look(shared: &Shared, disk: DiskId, id: ShardId) -> Option<ShardBlocks> {
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
async fn find_owner(shared: &Shared, pg: &Pg, extent: Lying) -> Option<Found> {
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
