//! Settles the placement groups: the slots that moved after the tables were written down, and the groups
//! that were made after it.
//!
//! What always holds: nothing is settled while a disk is away that isn't known to be lost; and slots
//! before groups, since with the groups all is settled.

use model::cluster_map::{ClusterMap, Pg};
use model::command::{Command, Outcome};
use model::ids::DiskId;
use model::query::MetadataError;
use model::rebuild::{SlotFound, rebuild_pgs};
use model::recovery::Held;

use super::home::Carrier;
use super::report::RecoverMeter;
use super::scan::Scan;
use super::{RecoverError, RecoverRequest};
use crate::pace::Pace;
use crate::shared::Shared;

/// Slots that one command settles: a few hundred kilobytes.
const SLOTS_PER_COMMAND: usize = 16_384;

/// Has the slots settled that moved after the tables were written down, and the groups adopted that
/// the map lacks and disks have shards of: once, with all there are.
pub(super) async fn adopt_groups(
    shared: &Shared,
    request: &RecoverRequest,
    held: &Held,
    meter: &RecoverMeter,
    pace: &Pace,
) -> Result<(), RecoverError> {
    if held.has_pgs {
        return Ok(());
    }
    let map = shared.map.refresh().await?;
    check_disks(&map, request, held)?;
    let scan = Scan::new(Carrier { shared, map: &map, held, meter, pace });
    let (findings, mut slots) = scan.groups(&request.lost_disks).await?;
    meter.change(|figures| figures.settled_slots = slots.len() as u64);
    while !slots.is_empty() {
        let rest = slots.split_off(whole_groups(&slots));
        adopt_pgs(shared, Vec::new(), slots).await?;
        slots = rest;
    }
    let rebuilt = rebuild_pgs(&map, &findings);
    meter.change(|figures| {
        figures.groups = rebuilt.pgs.len() as u64;
        figures.misplaced_shards +=
            rebuilt.misplaced.iter().map(|finding| finding.shards).sum::<u64>();
    });
    adopt_pgs(shared, rebuilt.pgs, Vec::new()).await
}

/// How many of these slots go into the next command: those of a group go together, since they may
/// change their disks with each other.
fn whole_groups(slots: &[SlotFound]) -> usize {
    let Some(last) = slots.get(SLOTS_PER_COMMAND) else { return slots.len() };
    slots.partition_point(|slot| slot.pg < last.pg).max(1)
}

async fn adopt_pgs(
    shared: &Shared,
    pgs: Vec<Pg>,
    slots: Vec<SlotFound>,
) -> Result<(), RecoverError> {
    match shared.metadata.propose(Command::AdoptPgs { pgs, slots }).await? {
        Outcome::Done => Ok(()),
        Outcome::Refused(refusal) => Err(RecoverError::Refused(refusal)),
        _ => Err(MetadataError::Unavailable.into()),
    }
}

/// Refuses to settle the groups while a disk may come back that the map lacks: what only it knows
/// would be placed elsewhere for ever. Disks are numbered from 1 without gaps, and what nothing
/// knows has the highest numbers: so, without a backup, the order must say how many there were.
fn check_disks(
    map: &ClusterMap,
    request: &RecoverRequest,
    held: &Held,
) -> Result<(), RecoverError> {
    // Those that were made since have numbers above those that may come back.
    let returned = map.disks.iter().map(|disk| disk.id).filter(|disk| *disk <= held.disks);
    let expected = match (request.disks, held.from_shards) {
        (Some(disks), true) => disks.max(returned.max().map_or(0, |disk| disk.0)),
        (None, true) => return Err(RecoverError::DisksNotTold),
        // A backup knows its disks; an earlier restore may have left a gap in their numbers.
        (disks, false) => disks.unwrap_or(0),
    };
    let away = (1..=expected)
        .map(DiskId)
        .find(|disk| map.disk(*disk).is_none() && !request.lost_disks.contains(disk));
    away.map_or(Ok(()), |disk| Err(RecoverError::DiskUnknown(disk)))
}

#[cfg(test)]
mod tests {
    use model::ids::PgId;

    use super::*;

    #[test]
    fn the_slots_of_a_group_go_together() {
        let slot =
            |pg: u32, slot: u8| SlotFound { pg: PgId(pg), slot, from: DiskId(1), to: DiskId(2) };
        let some: Vec<SlotFound> = (0..3).map(|number| slot(7, number)).collect();
        assert_eq!(whole_groups(&some), 3);
        let of_five = |number: u32| slot(number / 5, (number % 5) as u8);
        let many: Vec<SlotFound> = (0..40_000).map(of_five).collect();
        let first = whole_groups(&many);
        assert_eq!(first, SLOTS_PER_COMMAND / 5 * 5);
        assert_ne!(many[first - 1].pg, many[first].pg);
    }
}
