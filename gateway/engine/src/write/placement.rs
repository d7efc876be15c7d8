//! Finds the PG for a new extent. The choice is pure; the search around it waits for new maps.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::cluster_map::{ClusterMap, DiskState, Pg};
use model::coding::{Coding, StripeGeometry};
use model::extent::SlotSet;
use model::ids::{DiskId, ExtentId, PgId};
use model::level::MOVING;
use model::limits::DISK_AVOIDED_THOUSANDTHS;
use model::names::ClassName;
use wire::clock::timeout;

use super::WriteError;
use super::extent::{ExtentSpec, OpenExtent, live_slots};
use crate::open_groups::OpenGroups;
use crate::shared::Shared;
use model::owner::Owner;

/// The first pause between two looks at the map; it doubles up to the map's own interval.
const PAUSE: Duration = Duration::from_millis(50);

/// Where an extent goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placement {
    pg: PgId,
    coding: Coding,
    disks: Arc<[DiskId]>,
    /// The epoch of the map that it was chosen by.
    epoch: u64,
    /// Slots whose disk is avoided; only where there was nothing better (I-2).
    pub(super) skip: SlotSet,
}

/// The coding that a body is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WantedCoding {
    /// That of a storage class; of the bucket's for none.
    OfClass(Option<ClassName>),
    /// This one and no other: rather nothing than a stop-gap.
    Exactly(Coding),
}

impl WantedCoding {
    /// The coding, by a map.
    pub(super) fn by(&self, map: &ClusterMap, bucket: &str) -> Coding {
        match self {
            Self::OfClass(class) => map.coding_for(bucket, class.as_ref()),
            Self::Exactly(coding) => *coding,
        }
    }

    /// Whether this coding will do, where it is the best that there is.
    fn takes(&self, coding: Coding) -> bool {
        match self {
            Self::OfClass(_) => true,
            Self::Exactly(wanted) => *wanted == coding,
        }
    }
}

/// Whether the map has an open PG without avoided disks.
pub(super) fn has_whole_pg(groups: &OpenGroups, wanted: Coding, avoided: &[DiskId]) -> bool {
    groups.best(wanted, avoided).is_some()
}

/// Whether a stripe of so many bytes finds a place without these disks.
pub(crate) fn can_place(groups: &OpenGroups, without: &[DiskId], stripe_bytes: u32) -> bool {
    choose(groups, groups.map().coding, without, stripe_bytes, |_| 0, |_| 0).is_some()
}

/// How long a place is looked for, as times of the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct GiveUp {
    /// Whatever the reason is that there is none.
    pub(super) at: Duration,
    /// Where there is none without nodes that this gateway can't reach.
    pub(super) unreachable_at: Duration,
}

/// Chooses a PG for an extent whose first stripe has `stripe_bytes`: of two random open ones the
/// emptier, of the wanted coding or the best that there is; one with a disk that is nearly full only
/// where all have one. Where none is without avoided disks, one that has enough others to reach the
/// write quorum.
pub(super) fn choose(
    groups: &OpenGroups,
    wanted: Coding,
    avoided: &[DiskId],
    stripe_bytes: u32,
    emptiness: impl Fn(&Pg) -> u64,
    mut below: impl FnMut(u64) -> u64,
) -> Option<Placement> {
    let map = groups.map();
    if let Some(whole) = groups.best(wanted, avoided) {
        let (first, second) = (whole.draw(&mut below)?, whole.draw(&mut below)?);
        let better = if emptiness(second) < emptiness(first) { second } else { first };
        let chosen = if emptiness(better) < DISK_AVOIDED_THOUSANDTHS {
            better
        } else {
            // Seldom: only then are all of them looked at.
            let has_room = |pg: &&Pg| emptiness(pg) < DISK_AVOIDED_THOUSANDTHS;
            let roomy: Vec<&Pg> = whole.all().filter(has_room).collect();
            let at = below(roomy.len().max(1) as u64) as usize;
            roomy.get(at).copied().unwrap_or(better)
        };
        return Some(placement(map, chosen, SlotSet::default()));
    }
    // Where there are groups of other classes, they are the last resort.
    let is_of_class = |pg: &Pg| map.classes.is_empty() || pg.coding == wanted;
    let degraded: Vec<((bool, u32), &Pg, SlotSet)> = map
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
            (live >= u32::from(geometry.write_quorum())).then_some((
                (is_of_class(pg), live),
                pg,
                skip,
            ))
        })
        .collect();
    let most = degraded.iter().map(|(live, ..)| *live).max()?;
    let best: Vec<_> = degraded.iter().filter(|(live, ..)| *live == most).collect();
    let (_, pg, skip) = best[below(best.len() as u64) as usize % best.len()];
    Some(placement(map, pg, *skip))
}

fn placement(map: &ClusterMap, pg: &Pg, skip: SlotSet) -> Placement {
    let disks = pg.disks.clone().into();
    // An older release would leave it out of what it records.
    let epoch = if map.level_in_use() >= MOVING { map.epoch } else { 0 };
    Placement { pg: pg.id, coding: pg.coding, disks, epoch, skip }
}

/// Opens a new extent. Looks again at ever newer maps until `give_up`, a time of the monotonic
/// clock; the metadata adds PGs when disks fail.
pub(super) async fn open_extent(
    shared: &Shared,
    owner: &Owner,
    wanted: &WantedCoding,
    stripe_bytes: u32,
    give_up: GiveUp,
) -> Result<OpenExtent, WriteError> {
    let placement = find(shared, wanted, &owner.bucket, stripe_bytes, give_up).await?;
    let named = shared.metadata.next_extent(placement.pg).await;
    let id = named.map_err(|_| WriteError::Unavailable)?;
    let owner = seal_owner(shared, id, owner)?;
    let Placement { coding, disks, epoch, .. } = placement;
    let spec = ExtentSpec { id, coding, disks, epoch, owner };
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
    wanted: &WantedCoding,
    bucket: &str,
    stripe_bytes: u32,
    give_up: GiveUp,
) -> Result<Placement, WriteError> {
    let emptiness = |pg: &Pg| shared.usage.of(pg);
    let below = |bound| shared.entropy.below(bound);
    let mut pause = PAUSE;
    let mut looks = 0u32;
    loop {
        let now = shared.clock.monotonic();
        let left = give_up.at.saturating_sub(now);
        if let Some(groups) = shared.map.open_groups() {
            let map = groups.map();
            let coding = wanted.by(map, bucket);
            let avoided = shared.door.avoided_for_placement(&groups, coding);
            let choose = |avoided: &[DiskId]| {
                choose(&groups, coding, avoided, stripe_bytes, emptiness, below)
                    .filter(|found| wanted.takes(found.coding))
            };
            if let Some(found) = choose(&avoided) {
                return Ok(found);
            }
            let lost = shared.door.reach.lost_disks(map);
            match choose(&lost) {
                // Disks may have recovered that failed a moment ago.
                Some(found) if looks > 2 => return Ok(found),
                None if !lost.is_empty() && now >= give_up.unreachable_at => {
                    return Err(WriteError::OutOfReach);
                }
                // Who waits for space waits long.
                None if looks > 2 && is_full(map, &lost) => return Err(WriteError::Full),
                Some(_) | None => {}
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

/// Whether there would be a place if the disks that are full had space.
fn is_full(map: &ClusterMap, lost: &[DiskId]) -> bool {
    let is_there = |id: &DiskId| {
        let state = map.disk(*id).map(|disk| disk.state);
        matches!(state, Some(DiskState::Up | DiskState::Full)) && !lost.contains(id)
    };
    map.pgs.iter().any(|pg| pg.moves.is_empty() && pg.disks.iter().all(is_there))
}

#[cfg(test)]
mod tests {
    use model::cluster_map::{Disk, Standing};
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
            standing: Standing::default(),
        };
        let pg = |(id, disks): (u32, &&[u32])| {
            Pg::new(PgId(id), coding, disks.iter().copied().map(DiskId).collect())
        };
        ClusterMap {
            disks: (0..disks).map(disk).collect(),
            pgs: (0..).zip(pgs).map(pg).collect(),
            ..ClusterMap::new(ClusterId::default(), coding)
        }
    }

    fn open(map: &ClusterMap) -> OpenGroups {
        OpenGroups::new(Arc::new(map.clone()))
    }

    fn pick(map: &ClusterMap, avoided: &[u32], bytes: u32) -> Option<(u32, u32)> {
        let avoided: Vec<_> = avoided.iter().copied().map(DiskId).collect();
        let emptiness = |pg: &Pg| u64::from(10 - pg.id.0);
        choose(&open(map), map.coding, &avoided, bytes, emptiness, |bound| bound - 1)
            .map(|found| (found.pg.0, found.skip.0))
    }

    #[test]
    fn the_emptier_of_two_wins() {
        let map = map(4, &[&[0, 1, 2], &[1, 2, 3]], "2+1");
        let mut draws = [0u64, 1].into_iter();
        let below = |_| draws.next().expect("two draws");
        let found = choose(&open(&map), map.coding, &[], 5, |pg| u64::from(10 - pg.id.0), below)
            .expect("open");
        assert_eq!(found.pg, PgId(1));
    }

    #[test]
    fn a_disk_that_is_nearly_full_is_left_alone_where_others_can_do() {
        let map = map(4, &[&[0, 1, 2], &[0, 1, 2], &[1, 2, 3]], "2+1");
        let pick = |fullness: [u64; 3], draws: &[u64]| {
            let mut draws = draws.iter().copied();
            let below = |bound| draws.next().expect("no more draws than that") % bound;
            let emptiness = |pg: &Pg| fullness[pg.id.0 as usize];
            choose(&open(&map), map.coding, &[], 5, emptiness, below).map(|found| found.pg)
        };
        assert_eq!(pick([950, 899, 100], &[0, 1]), Some(PgId(1)), "none is looked for");
        assert_eq!(pick([950, 960, 899], &[0, 1, 0]), Some(PgId(2)), "the only one with room");
        assert_eq!(pick([950, 960, 970], &[2, 1, 0]), Some(PgId(1)), "the emptier of two");
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
    fn what_lacks_space_is_told_from_what_lacks_disks() {
        let mut map = map(4, &[&[0, 1, 2], &[1, 2, 3]], "2+1");
        (map.disks[1].state, map.disks[2].state) = (DiskState::Full, DiskState::Full);
        assert!(is_full(&map, &[]));
        assert!(is_full(&map, &[DiskId(0)]), "the other group only wants space");
        assert!(!is_full(&map, &[DiskId(0), DiskId(3)]));
        map.disks[1].state = DiskState::Down;
        assert!(!is_full(&map, &[]), "a disk may come back");
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
