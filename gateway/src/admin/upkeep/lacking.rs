//! Extents that lack shards: which of them couldn't be read if disks went away. Pure.
//!
//! In: the repair queue, or the front of it. Out: how many are short. What always holds: an extent of
//! a group that isn't known counts as short for want of any disk; one that can't be read whatever is
//! there counts for want of none.

use model::cluster_map::{ClusterMap, Pg};
use model::ids::DiskId;
use model::upkeep::RepairItem;

/// The extents that lack shards.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lacking<'a> {
    /// Those that were looked at.
    pub items: &'a [RepairItem],
    /// How many there are beside those: too many to look at.
    pub unlooked: u64,
}

/// The extents that have too few shards without some disks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Short {
    /// Those that can be read now.
    pub newly: usize,
    /// Those that can't be read with these disks either.
    pub anyway: usize,
}

impl Lacking<'_> {
    /// What is short when only the disks that are readable `then` can be read, of which those that are
    /// readable `now` are more.
    pub fn short(
        &self,
        map: &ClusterMap,
        now: impl Fn(DiskId) -> bool,
        then: impl Fn(DiskId) -> bool,
    ) -> Short {
        let mut short = Short::default();
        for item in self.items {
            match map.pg(item.extent.id.pg) {
                Some(pg) if !is_short(item, pg, &then) => {}
                Some(pg) if is_short(item, pg, &now) => short.anyway += 1,
                Some(_) | None => short.newly += 1,
            }
        }
        short
    }

    /// How many have a shard on a disk and too few others, on those that are left: also where some of
    /// the disks that they need can't be read now, as they may come back.
    pub fn needing(
        &self,
        map: &ClusterMap,
        disk: DiskId,
        is_left: impl Fn(DiskId) -> bool,
    ) -> usize {
        let needs = |item: &&RepairItem| {
            map.pg(item.extent.id.pg).is_none_or(|pg| {
                let has_shard = slots_with_shards(item, pg).any(|holder| holder == disk);
                has_shard && item.spare >= 0 && is_short(item, pg, &is_left)
            })
        };
        self.items.iter().filter(needs).count()
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.unlooked.saturating_add(self.items.len() as u64)
    }
}

/// Whether an extent has too few shards when only such disks can be read.
fn is_short(item: &RepairItem, pg: &Pg, is_readable: &impl Fn(DiskId) -> bool) -> bool {
    let lost = slots_with_shards(item, pg).filter(|disk| !is_readable(*disk)).count();
    i64::from(item.spare) < i64::try_from(lost).unwrap_or(i64::MAX)
}

/// The disks on which an extent has shards. A short extent has none in some slots, and needs none
/// there.
fn slots_with_shards<'a>(item: &'a RepairItem, pg: &'a Pg) -> impl Iterator<Item = DiskId> + 'a {
    let extent = &item.extent;
    let geometry = extent.stripe_geometry(0);
    let has_shard = move |slot: u8| {
        let is_used = geometry.as_ref().is_none_or(|geometry| geometry.uses_slot(slot));
        is_used && !extent.missing.contains(slot)
    };
    let slots = (0u8..).zip(&pg.disks);
    slots.filter(move |(slot, _)| has_shard(*slot)).map(|(_, disk)| *disk)
}
