//! Cuts the work on a slot into batches: what is copied between two syncs.
//!
//! In: the extents of a page. Out: runs of them. What always holds: each extent is in one batch.

use model::extent::Extent;

use crate::repair::stripes_with;

/// Bytes of the slot's shards that are copied between two syncs; one extent may have more.
const BATCH_BYTES: u64 = 32 << 20;

/// Extents between two syncs.
const BATCH_EXTENTS: usize = 256;

/// Cuts a list of extents where enough bytes of a slot come together.
pub(super) fn batches(extents: &[Extent], slot: u8) -> Vec<&[Extent]> {
    let (mut all, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (at, extent) in extents.iter().enumerate() {
        let shard = |stripe| {
            extent.stripe_geometry(stripe).map_or(0, |geometry| geometry.stored_bytes(slot))
        };
        bytes += stripes_with(extent, slot).map(|stripe| u64::from(shard(stripe))).sum::<u64>();
        if bytes >= BATCH_BYTES || at + 1 - start >= BATCH_EXTENTS {
            all.extend(extents.get(start..=at));
            (start, bytes) = (at + 1, 0);
        }
    }
    all.extend(extents.get(start..).filter(|rest| !rest.is_empty()));
    all
}

#[cfg(test)]
mod tests {
    use model::coding::Coding;
    use model::extent::SlotSet;
    use model::ids::ExtentId;

    use super::*;

    #[test]
    fn batches_hold_every_extent_once_and_not_too_many_bytes() {
        let extent = |sequence: u32, length: u64| Extent {
            id: ExtentId { sequence, ..ExtentId::default() },
            coding: Coding::parse("2+1").expect("valid"),
            length,
            missing: SlotSet::default(),
            epoch: 0,
        };
        let lengths =
            |all: &[Extent]| batches(all, 0).into_iter().map(<[Extent]>::len).collect::<Vec<_>>();
        assert!(lengths(&[]).is_empty());
        let small: Vec<Extent> = (0..600).map(|number| extent(number, 100)).collect();
        assert_eq!(lengths(&small), [256, 256, 88]);
        // Shards of 20 MiB and of 30 MiB.
        let large: Vec<Extent> = [40, 60, 40, 40].iter().map(|mib| extent(0, mib << 20)).collect();
        assert_eq!(lengths(&large), [2, 2]);
    }
}
