//! Finds the slots that moved after the tables were written down, by where their shards are.
//!
//! In: a group of the map, and the disks that hold shards of it. Out: its slots that are on other disks
//! by now. What always holds: before a slot is told to be on another disk, that disk has got what was
//! written since, by the map that is older than the disks: so nothing that could be read is out of reach
//! when the map follows.

use std::collections::{BTreeMap, BTreeSet};

use model::cluster_map::Pg;
use model::ids::{DiskId, ExtentId, PgId, ShardId};
use model::level::MOVING;
use model::query::MetadataError;
use model::rebuild::{SlotFound, SlotShards, settle_pg};
use model::upkeep::ExtentState;

use super::RecoverError;
use super::home::{Carrier, GroupShards};
use super::scan::{before, look};
use crate::scrub::{extent_states, inventory};

/// Shards of a slot on a disk that are looked at for the coding that they have.
const LOOKS_MAX: usize = 3;

/// The slots of these groups that are on other disks than the map says. Every disk must answer: what
/// only it has would count for nothing.
pub(super) async fn moved_slots(
    carrier: &Carrier<'_>,
    holders: &BTreeMap<PgId, Vec<DiskId>>,
) -> Result<Vec<SlotFound>, RecoverError> {
    let mut moved = Vec::new();
    // An older release moves nothing, and wouldn't take it in.
    if carrier.map.level_in_use() < MOVING {
        return Ok(moved);
    }
    for (id, disks) in holders {
        let Some(pg) = carrier.map.pg(*id) else { continue };
        let mut shards = GroupShards::default();
        for disk in disks {
            let listed = inventory(carrier.shared, *disk, before(*id), None).await;
            let listed = listed.map_err(|_| RecoverError::DiskAway(*disk))?;
            shards.0.insert(*disk, listed.into_iter().collect());
        }
        moved.extend(settle(carrier, pg, &mut shards).await?);
    }
    Ok(moved)
}

/// The slots of a group that are on other disks than the map says, once those have what they need.
async fn settle(
    carrier: &Carrier<'_>,
    pg: &Pg,
    shards: &mut GroupShards,
) -> Result<Vec<SlotFound>, MetadataError> {
    let found = count(carrier, pg, shards).await?;
    if found.iter().all(|found| is_own(pg, found.slot, found.disk)) {
        return Ok(Vec::new());
    }
    let slots = settle_pg(carrier.map, pg, &found);
    let mut settled = pg.clone();
    for slot in &slots {
        if let Some(disk) = settled.disks.get_mut(usize::from(slot.slot)) {
            *disk = slot.to;
        }
    }
    if slots.is_empty() || carrier.bring_home(&settled, shards).await?.is_empty() {
        return Ok(slots);
    }
    // Then it stays as it is, and what is away is brought where the map says.
    tracing::warn!(pg = %pg.id, "a group isn't settled: a disk that has its slots takes no shards");
    Ok(Vec::new())
}

fn is_own(pg: &Pg, slot: u8, disk: DiskId) -> bool {
    pg.disks.get(usize::from(slot)) == Some(&disk)
}

/// How much each disk has of each slot, of what was written before the tables were put back: what was
/// written since is brought to whichever disk has the slot.
async fn count(
    carrier: &Carrier<'_>,
    pg: &Pg,
    shards: &GroupShards,
) -> Result<Vec<SlotShards>, MetadataError> {
    let mut slots: BTreeMap<(u8, DiskId), Vec<ShardId>> = BTreeMap::new();
    let is_older = |id: &&ShardId| id.extent.session <= carrier.held.until();
    for (disk, on_disk) in &shards.0 {
        for id in on_disk.keys().filter(is_older) {
            slots.entry((id.slot, *disk)).or_default().push(*id);
        }
    }
    // Where nothing is elsewhere nobody needs to be asked.
    if slots.keys().all(|(slot, disk)| is_own(pg, *slot, *disk)) {
        return Ok(Vec::new());
    }
    let unknown = unknown(carrier, shards).await?;
    let mut found = Vec::new();
    for ((slot, disk), ids) in slots {
        let held: Vec<ShardId> =
            ids.iter().filter(|id| unknown.contains(&id.extent)).copied().collect();
        let some = if held.is_empty() { &ids } else { &held };
        if is_own(pg, slot, disk) || is_of_group(carrier, pg, disk, some).await {
            let (held, shards) = (held.len() as u64, ids.len() as u64);
            found.push(SlotShards { slot, disk, held, shards });
        }
    }
    Ok(found)
}

/// The extents that the tables don't know.
async fn unknown(
    carrier: &Carrier<'_>,
    shards: &GroupShards,
) -> Result<BTreeSet<ExtentId>, MetadataError> {
    let ids = shards.0.values().flat_map(BTreeMap::keys).map(|id| id.extent);
    let ids: BTreeSet<ExtentId> = ids.filter(|id| carrier.held.covers(id.session)).collect();
    let ids: Vec<ExtentId> = ids.into_iter().collect();
    let states = extent_states(carrier.shared, &ids).await?;
    let is_unknown = |(_, state): &(ExtentId, ExtentState)| *state == ExtentState::Held;
    Ok(ids.into_iter().zip(states).filter(is_unknown).map(|(id, _)| id).collect())
}

/// Whether shards on a disk have the coding of the group: else another one had its number when they
/// were written.
async fn is_of_group(carrier: &Carrier<'_>, pg: &Pg, disk: DiskId, ids: &[ShardId]) -> bool {
    for id in ids.iter().rev().take(LOOKS_MAX) {
        if let Some(blocks) = look(carrier.shared, disk, *id).await {
            return blocks.coding == pg.coding;
        }
    }
    false
}
