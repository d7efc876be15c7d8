//! Where the shards of an object are, and in what state.
//!
//! In: an object's name. Out: its extents, and of each slot the disk that should have its shards, what
//! the metadata says of it, and what the disk itself says. [`disks`] asks the disks; [`report`] is
//! what is answered.
//!
//! What always holds: nothing is changed or queued by looking; a disk that doesn't answer costs one
//! deadline, not one for every extent; at most [`EXTENTS_MAX`] extents are looked at.

mod disks;
mod report;

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::stream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use model::cluster_map::ClusterMap;
use model::command::Refusal;
use model::extent::{Extent, SlotSet};
use model::ids::{DiskId, ExtentId, PgId, SessionId, ShardId};
use model::node::Job;
use model::query::{Answer, MetadataError, ObjectFound, PlanWanted, Query};

use crate::outstanding::{Assessment, Outlook, out_in, planned, slot_bytes};
use crate::repair::stripes_with;
use crate::shared::Shared;
use disks::{DiskSays, Seen, ask_all};
pub use report::{
    ExtentReport, InspectError, InspectRequest, MoveReport, ObjectReport, SlotReport, SlotState,
    Stray,
};

/// Extents that are looked at in one go.
const EXTENTS_MAX: usize = 1000;

/// Questions to the metadata at once.
const QUESTIONS_AT_ONCE: usize = 8;

/// With so many disks or fewer, all are asked for left-over shards; otherwise only those that slots of
/// the group move to.
const DISKS_ASKED_MAX: usize = 64;

/// Looks at an object.
pub(crate) async fn inspect(
    shared: &Arc<Shared>,
    request: &InspectRequest,
) -> Result<ObjectReport, InspectError> {
    let found = open(shared, request).await?;
    let map = shared.map.refresh().await?;
    let limit = request.limit.clamp(1, EXTENTS_MAX);
    let next = found.extents.get(limit).map(|planned| planned.offset);
    let mut named: Vec<(Option<u64>, Extent)> = found
        .extents
        .into_iter()
        .take(limit)
        .map(|planned| (Some(planned.offset), planned.extent))
        .collect();
    if next.is_none() {
        named.extend(found.version.record.clone().map(|record| (None, record)));
    }
    let ids: Vec<ExtentId> = named.iter().map(|(_, extent)| extent.id).collect();
    let rows = rows(shared, ids).await?;
    let planned = planned(shared, &map).await;
    let extents: Vec<Extent> = named
        .iter()
        .zip(&rows)
        // What the tables don't know has no owner any more, and lacks nothing that anybody misses.
        .map(|((_, extent), row)| Extent { missing: row.unwrap_or_default(), ..extent.clone() })
        .collect();
    let asked = asked(&map, &extents);
    let says = ask_all(shared, &asked, &extents, request.verify).await;
    let look = Look { shared, map: &map, outlook: Outlook::new(&map, &planned) };
    let mut reports = Vec::with_capacity(extents.len());
    for (at, (((offset, _), row), extent)) in named.iter().zip(&rows).zip(&extents).enumerate() {
        let (offset, is_known) = (*offset, row.is_some());
        reports.push(look.extent(offset, extent, is_known, |disk| says.of(disk, at)));
    }
    let repairs_here = shared.leases.held_jobs().contains(&Job::Repair);
    Ok(ObjectReport { map, version: found.version, extents: reports, next, repairs_here })
}

async fn open(shared: &Shared, request: &InspectRequest) -> Result<ObjectFound, InspectError> {
    let InspectRequest { bucket, key, from, .. } = request.clone();
    let query = Query::Object { bucket, key, plan: PlanWanted::From(from) };
    match shared.metadata.query(query).await? {
        Answer::Object(found) => Ok(found),
        Answer::Refused(Refusal::NoSuchBucket) => Err(InspectError::NoSuchBucket),
        Answer::Refused(Refusal::NoSuchKey) => Err(InspectError::NoSuchObject),
        Answer::Refused(refusal) => Err(InspectError::Refused(refusal)),
        _ => Err(InspectError::Unavailable),
    }
}

/// The rows of these extents, in order.
async fn rows(shared: &Shared, ids: Vec<ExtentId>) -> Result<Vec<Option<SlotSet>>, MetadataError> {
    // Made before it is waited for any of them: a closure that borrows can't be kept that long.
    let mut questions = Vec::with_capacity(ids.len());
    for id in ids {
        questions.push(row(shared, id));
    }
    stream::iter(questions).buffered(QUESTIONS_AT_ONCE).try_collect().await
}

/// The slots that lack shards by the tables; `None` when they don't know the extent as owned.
async fn row(shared: &Shared, id: ExtentId) -> Result<Option<SlotSet>, MetadataError> {
    let query = Query::Extents { pg: id.pg, after: before(id), limit: 1 };
    let Answer::Extents(page) = shared.metadata.query(query).await? else {
        return Err(MetadataError::Unavailable);
    };
    let entry = page.extents.into_iter().find(|entry| entry.extent.id == id && entry.is_owned);
    Ok(entry.map(|entry| entry.extent.missing))
}

/// The greatest extent id of the group below this one.
fn before(id: ExtentId) -> Option<ExtentId> {
    if let Some(sequence) = id.sequence.checked_sub(1) {
        return Some(ExtentId { sequence, ..id });
    }
    let session = SessionId(id.session.0.checked_sub(1)?);
    Some(ExtentId { session, sequence: u32::MAX, ..id })
}

/// Which disks are asked of which extents, by their place in the list.
fn asked(map: &ClusterMap, extents: &[Extent]) -> Vec<(DiskId, Vec<usize>)> {
    let everybody: BTreeSet<DiskId> = if map.disks.len() <= DISKS_ASKED_MAX {
        map.disks.iter().map(|disk| disk.id).collect()
    } else {
        BTreeSet::new()
    };
    let of = |pg: PgId| {
        let group = map.pg(pg);
        let own = group.iter().flat_map(|group| group.disks.iter().copied());
        let targets = group.iter().flat_map(|group| group.moves.iter().map(|moving| moving.to));
        own.chain(targets).chain(everybody.iter().copied()).collect::<BTreeSet<DiskId>>()
    };
    let mut asked = std::collections::BTreeMap::<DiskId, Vec<usize>>::new();
    for (at, extent) in extents.iter().enumerate() {
        for disk in of(extent.id.pg) {
            asked.entry(disk).or_default().push(at);
        }
    }
    asked.into_iter().collect()
}

struct Look<'a> {
    shared: &'a Shared,
    map: &'a ClusterMap,
    outlook: Outlook<'a>,
}

impl Look<'_> {
    fn extent<'s>(
        &self,
        offset: Option<u64>,
        extent: &Extent,
        is_known: bool,
        says: impl Fn(DiskId) -> Option<&'s DiskSays>,
    ) -> ExtentReport {
        let found = self.outlook.assess(extent);
        let now = self.shared.clock.monotonic();
        let failed = self.shared.repair.backoff.last(extent.id, now);
        let is_repairing = self.shared.leases.held_jobs().contains(&Job::Repair);
        let group = self.map.pg(extent.id.pg);
        let disks = (0u8..).zip(group.iter().flat_map(|group| group.disks.iter().copied()));
        let slots = disks.map(|(slot, disk)| self.slot(extent, &found, slot, disk, &says));
        let slots: Vec<SlotReport> = slots.collect();
        let has_right = |disk: DiskId, slot: u8| {
            let moves_there =
                group.and_then(|group| group.move_of(slot)).is_some_and(|moving| moving.to == disk);
            moves_there || slots.iter().any(|known| known.slot == slot && known.disk == disk)
        };
        let mut strays = Vec::new();
        for disk in self.map.disks.iter().map(|disk| disk.id) {
            let Some(DiskSays::Has(shards)) = says(disk) else { continue };
            let there: BTreeSet<u8> = shards.keys().map(|id: &ShardId| id.slot).collect();
            for slot in there.into_iter().filter(|slot| !has_right(disk, *slot)) {
                let shards = shards.keys().filter(|id| id.slot == slot).count() as u32;
                strays.push(Stray { disk, slot, shards });
            }
        }
        ExtentReport {
            offset,
            extent: extent.clone(),
            is_known,
            spare: found.spare,
            standing: found.standing,
            failed: failed.filter(|_| is_repairing && !found.lacking.is_empty()),
            slots,
            strays,
        }
    }

    fn slot<'s>(
        &self,
        extent: &Extent,
        found: &Assessment,
        slot: u8,
        disk: DiskId,
        says: &impl Fn(DiskId) -> Option<&'s DiskSays>,
    ) -> SlotReport {
        let pg = extent.id.pg;
        let stripes: Vec<u16> = stripes_with(extent, slot).collect();
        let wanted =
            || stripes.iter().map(|stripe| ShardId { extent: extent.id, stripe: *stripe, slot });
        let mut report = SlotReport {
            slot,
            disk,
            shards: stripes.len() as u32,
            bytes: slot_bytes(extent, slot),
            state: SlotState::Unused,
            present: 0,
            damaged: 0,
            is_lacking: extent.missing.contains(slot),
            prospect: None,
            out_in: out_in(self.map, disk, self.shared.clock.now()),
            moving: None,
        };
        if stripes.is_empty() {
            return report;
        }
        report.state = match says(disk) {
            Some(DiskSays::Has(shards)) => {
                for seen in wanted().filter_map(|id| shards.get(&id)) {
                    match seen {
                        Seen::Sound => report.present += 1,
                        Seen::Damaged => report.damaged += 1,
                    }
                }
                match report.shards - report.present - report.damaged {
                    0 if report.damaged == 0 => SlotState::Present,
                    0 => SlotState::Damaged,
                    _ => SlotState::Missing,
                }
            }
            Some(DiskSays::Nothing(why)) => SlotState::Unreachable(why.clone()),
            None => SlotState::Unreachable("the cluster map does not know it".to_owned()),
        };
        report.prospect = (found.lacking.contains(slot) || found.away.contains(slot))
            .then(|| self.outlook.prospect(pg, slot));
        report.moving = self.map.pg(pg).and_then(|group| group.move_of(slot)).map(|what| {
            let present = match says(what.to) {
                Some(DiskSays::Has(shards)) => {
                    let sound = wanted().filter(|id| shards.get(id) == Some(&Seen::Sound));
                    Some(sound.count() as u32)
                }
                Some(DiskSays::Nothing(_)) | None => None,
            };
            MoveReport { what: *what, present, progress: self.progress(pg, slot) }
        });
        report
    }

    fn progress(&self, pg: PgId, slot: u8) -> Option<(u64, u64)> {
        let under_way = self.shared.rebalance.progress().under_way;
        let known =
            under_way.iter().find(|known| known.what.pg == pg && known.what.slot == slot)?;
        (known.extents_total > 0).then_some((known.extents_done, known.extents_total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_before_another() {
        let id =
            |session, sequence| ExtentId { pg: PgId(7), session: SessionId(session), sequence };
        assert_eq!(before(id(3, 5)), Some(id(3, 4)));
        assert_eq!(before(id(3, 0)), Some(id(2, u32::MAX)));
        assert_eq!(before(id(0, 0)), None);
    }
}
