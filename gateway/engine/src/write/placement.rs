//! Finds the PG for a new extent. The choice is pure; the search around it waits for new maps.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::cluster_map::{ClusterMap, Pg};
use model::coding::{Coding, StripeGeometry};
use model::extent::SlotSet;
use model::ids::{DiskId, ExtentId, PgId};
use wire::clock::timeout;

use super::WriteError;
use super::extent::{ExtentSpec, OpenExtent, live_slots};
use crate::engine::Shared;
use model::owner::Owner;

/// The first pause between two looks at the map; it doubles up to the map's own interval.
const PAUSE: Duration = Duration::from_millis(50);

/// Where an extent goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placement {
    pg: PgId,
    coding: Coding,
    disks: Arc<[DiskId]>,
    /// Slots whose disk is avoided; only where there was nothing better (I-2).
    pub(super) skip: SlotSet,
}

/// Whether the map has an open PG without avoided disks.
pub(super) fn has_whole_pg(map: &ClusterMap, avoided: &[DiskId]) -> bool {
    !map.open_pgs(avoided).is_empty()
}

/// Chooses a PG for an extent whose first stripe has `stripe_bytes`: of two random open ones the
/// emptier. Where none is without avoided disks, one that has enough others to reach the write
/// quorum.
pub(super) fn choose(
    map: &ClusterMap,
    avoided: &[DiskId],
    stripe_bytes: u32,
    emptiness: impl Fn(&Pg) -> u64,
    mut below: impl FnMut(u64) -> u64,
) -> Option<Placement> {
    let whole = map.open_pgs(avoided);
    if !whole.is_empty() {
        let mut draw = || whole[below(whole.len() as u64) as usize % whole.len()];
        let (first, second) = (draw(), draw());
        let better = if emptiness(second) < emptiness(first) { second } else { first };
        return Some(placement(better, SlotSet::default()));
    }
    let degraded: Vec<(u32, &Pg, SlotSet)> = map
        .pgs
        .iter()
        .filter(|pg| map.is_open(pg))
        .filter_map(|pg| {
            let mut skip = SlotSet::default();
            let slots = (0u8..).zip(&pg.disks);
            slots
                .filter(|(_, disk)| avoided.contains(disk))
                .for_each(|(slot, _)| skip.insert(slot));
            let geometry = StripeGeometry::new(pg.coding, stripe_bytes)?;
            let live = live_slots(&geometry, skip);
            (live >= u32::from(geometry.write_quorum())).then_some((live, pg, skip))
        })
        .collect();
    let most = degraded.iter().map(|(live, ..)| *live).max()?;
    let best: Vec<_> = degraded.iter().filter(|(live, ..)| *live == most).collect();
    let (_, pg, skip) = best[below(best.len() as u64) as usize % best.len()];
    Some(placement(pg, *skip))
}

fn placement(pg: &Pg, skip: SlotSet) -> Placement {
    Placement { pg: pg.id, coding: pg.coding, disks: pg.disks.clone().into(), skip }
}

/// Opens a new extent. Looks again at ever newer maps until `give_up`, a time of the monotonic
/// clock; the metadata adds PGs when disks fail.
pub(super) async fn open_extent(
    shared: &Shared,
    owner: &Owner,
    stripe_bytes: u32,
    give_up: Duration,
) -> Result<OpenExtent, WriteError> {
    let placement = find(shared, stripe_bytes, give_up).await?;
    let named = shared.metadata.next_extent(placement.pg).await;
    let id = named.map_err(|_| WriteError::Unavailable)?;
    let owner = seal_owner(shared, id, owner)?;
    let spec = ExtentSpec { id, coding: placement.coding, disks: placement.disks, owner };
    Ok(OpenExtent::new(spec, placement.skip))
}

/// The sealed owner, without the headers where they don't fit: whoever puts the object records
/// them elsewhere.
fn seal_owner(shared: &Shared, id: ExtentId, owner: &Owner) -> Result<Bytes, WriteError> {
    match shared.seal.seal(id, owner) {
        Ok(sealed) => Ok(sealed),
        Err(_) if owner.headers.is_some() => {
            let bare = Owner { headers: None, ..owner.clone() };
            shared.seal.seal(id, &bare).map_err(|_| WriteError::NameTooLong)
        }
        Err(_) => Err(WriteError::NameTooLong),
    }
}

async fn find(
    shared: &Shared,
    stripe_bytes: u32,
    give_up: Duration,
) -> Result<Placement, WriteError> {
    let emptiness = |pg: &Pg| shared.usage.of(pg);
    let below = |bound| shared.entropy.below(bound);
    let mut pause = PAUSE;
    let mut looks = 0u32;
    loop {
        let left = give_up.saturating_sub(shared.clock.monotonic());
        if let Some(map) = shared.map.current() {
            let avoided = shared.door.avoided();
            if let Some(found) = choose(&map, &avoided, stripe_bytes, emptiness, below) {
                return Ok(found);
            }
            // Disks may have recovered that failed a moment ago.
            if looks > 2
                && let Some(found) = choose(&map, &[], stripe_bytes, emptiness, below)
            {
                return Ok(found);
            }
        }
        if left.is_zero() {
            return Err(WriteError::Unavailable);
        }
        // An unavailable metadata service answers late or not at all; the loop has its own end.
        let _ = timeout(&*shared.clock, left, shared.map.refresh()).await;
        if looks > 0 {
            shared.clock.sleep(pause.min(left)).await;
            pause = (pause * 2).min(shared.options.map_interval);
        }
        looks += 1;
    }
}

#[cfg(test)]
mod tests {
    use model::cluster_map::{Disk, DiskState};
    use model::ids::{ClusterId, DiskUuid, NodeId};

    use super::*;

    fn map(disks: u32, pgs: &[&[u32]], coding: &str) -> ClusterMap {
        let coding = Coding::parse(coding).expect("valid");
        let disk = |id| Disk {
            id: DiskId(id),
            uuid: DiskUuid::default(),
            node: NodeId(0),
            rack: String::new(),
            zone: String::new(),
            weight: 1,
            state: DiskState::Up,
            path: String::new(),
        };
        let pg = |(id, disks): (u32, &&[u32])| Pg {
            id: PgId(id),
            coding,
            disks: disks.iter().copied().map(DiskId).collect(),
        };
        ClusterMap {
            disks: (0..disks).map(disk).collect(),
            pgs: (0..).zip(pgs).map(pg).collect(),
            ..ClusterMap::new(ClusterId::default(), coding)
        }
    }

    fn pick(map: &ClusterMap, avoided: &[u32], bytes: u32) -> Option<(u32, u32)> {
        let avoided: Vec<_> = avoided.iter().copied().map(DiskId).collect();
        choose(map, &avoided, bytes, |pg| u64::from(10 - pg.id.0), |bound| bound - 1)
            .map(|found| (found.pg.0, found.skip.0))
    }

    #[test]
    fn the_emptier_of_two_wins() {
        let map = map(4, &[&[0, 1, 2], &[1, 2, 3]], "2+1");
        let mut draws = [0u64, 1].into_iter();
        let below = |_| draws.next().expect("two draws");
        let found = choose(&map, &[], 5, |pg| u64::from(10 - pg.id.0), below).expect("open");
        assert_eq!(found.pg, PgId(1));
    }

    #[test]
    fn avoided_disks_are_avoided_where_others_can_do() {
        let map = map(4, &[&[0, 1, 2], &[1, 2, 3]], "2+1");
        assert_eq!(pick(&map, &[3], 1 << 20), Some((0, 0)));
        assert_eq!(pick(&map, &[0], 1 << 20), Some((1, 0)));
        // 2+1 has no shard to spare.
        assert_eq!(pick(&map, &[1], 1 << 20), None);
    }

    #[test]
    fn a_lone_pg_is_written_degraded_down_to_its_quorum() {
        let map = map(6, &[&[0, 1, 2, 3, 4, 5]], "4+2");
        assert_eq!(pick(&map, &[2], 1 << 20), Some((0, 1 << 2)));
        assert_eq!(pick(&map, &[2, 5], 1 << 20), None);
        // A small stripe uses slots 0, 4 and 5 only.
        assert_eq!(pick(&map, &[1, 2, 3], 4096), Some((0, 0b1110)));
        assert_eq!(pick(&map, &[0, 4], 4096), None);
    }
}
