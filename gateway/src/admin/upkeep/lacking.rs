//! Extents that lack shards: which of them couldn't be read if disks went away. Pure.
//!
//! In: the repair queue, or the front of it. Out: how many are short. What always holds: an extent of
//! a group that isn't known counts as short.

use model::cluster_map::ClusterMap;
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

impl Lacking<'_> {
    /// How many have too few shards when only such disks can be read.
    pub fn short(&self, map: &ClusterMap, is_readable: impl Fn(DiskId) -> bool) -> usize {
        let is_short = |item: &&RepairItem| {
            let extent = &item.extent;
            let Some(pg) = map.pg(extent.id.pg) else { return true };
            // A short extent has no shards in some slots, and needs none there.
            let geometry = extent.stripe_geometry(0);
            let is_lost = |slot: u8, disk: DiskId| {
                let is_used = geometry.as_ref().is_none_or(|geometry| geometry.uses_slot(slot));
                is_used && !extent.missing.contains(slot) && !is_readable(disk)
            };
            let slots = (0u8..).zip(&pg.disks);
            let lost = slots.filter(|(slot, disk)| is_lost(*slot, **disk)).count();
            i64::from(item.spare) < i64::try_from(lost).unwrap_or(i64::MAX)
        };
        self.items.iter().filter(is_short).count()
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.unlooked.saturating_add(self.items.len() as u64)
    }
}
