//! Extents: references up and down, garbage, the repair queue.
//!
//! What always holds: an extent's references are the manifests and uploaded parts that name it; at
//! none it is in the garbage table and not in the repair table.

use std::collections::HashSet;

use model::command::{GarbageKey, LackingExtent, Outcome, Refusal, RepairedExtent};
use model::extent::{Extent, SlotSet};
use model::ids::{BucketId, ExtentId};
use model::version::Part;

use super::{Step, Stop};
use crate::state::StateError;
use crate::tables::TableId;
use crate::tables::extents::{ExtentOwner, ExtentRecord};
use crate::tables::garbage::{self, Garbage};
use crate::tables::repair::{self, Repair};

impl Step<'_, '_> {
    /// Refuses parts with extents that can't be new: malformed ones, of an ended session, of a PG
    /// that isn't, or with an id that was used before; and those of which so many slots were given to
    /// other disks while they were written that nobody could read them by the map: they are to be
    /// written again.
    pub(super) fn check_new_extents(&mut self, parts: &[Part]) -> Result<(), Stop> {
        let mut seen = HashSet::new();
        for extent in parts.iter().flat_map(|part| &part.extents) {
            let is_valid = extent.is_valid() && self.is_well_placed(extent);
            if !is_valid || !seen.insert(extent.id) {
                return Err(Refusal::InvalidCommand.into());
            }
            if !self.memory.is_open(extent.id.session) {
                return Err(Refusal::SessionEnded.into());
            }
            let gone = extent.missing.union(self.moved_away(extent));
            if gone.len() > u32::from(extent.coding.parity()) {
                return Err(Refusal::MovesOutdated.into());
            }
            if self.tables.get::<ExtentRecord>(&extent.id.to_key())?.is_some() {
                return Err(Refusal::InvalidCommand.into());
            }
        }
        Ok(())
    }

    pub(super) fn is_well_placed(&self, extent: &Extent) -> bool {
        let coding = extent.coding;
        let is_in_width = extent.missing.0 >> coding.width() == 0;
        let is_readable = extent.missing.len() <= u32::from(coding.parity());
        let directory = self.memory.directory();
        let pg = directory.map.as_ref().and_then(|map| map.pg(extent.id.pg));
        is_in_width && is_readable && pg.is_some_and(|pg| pg.coding == coding)
    }

    /// Records new extents with one reference each; those with missing slots enter the repair
    /// queue in the same step (I-2).
    pub(super) fn add_extents(
        &mut self,
        bucket: BucketId,
        owner: ExtentOwner,
        parts: &[Part],
    ) -> Result<(), StateError> {
        for extent in parts.iter().flat_map(|part| &part.extents) {
            // Its writer may not have known that a slot is somewhere else by now, or will be.
            let lacking = extent.missing.union(self.moved_slots(extent));
            let record = ExtentRecord {
                coding: extent.coding,
                length: extent.length,
                references: 1,
                bucket,
                owner,
                lacking,
                ahead: SlotSet::default(),
            };
            self.tables.set(&extent.id.to_key(), &record)?;
            if !lacking.is_empty() {
                let key = repair::key(extent.id, extent.coding, lacking);
                self.tables.set(&key, &Repair { lacking })?;
            }
        }
        Ok(())
    }

    /// Slots of a new extent that were given to other disks since its writer chose them.
    fn moved_away(&self, extent: &Extent) -> SlotSet {
        let mut moved = SlotSet::default();
        let directory = self.memory.directory();
        let pg = directory.map.as_ref().and_then(|map| map.pg(extent.id.pg));
        let away = pg.iter().flat_map(|pg| &pg.moved).filter(|moved| moved.epoch > extent.epoch);
        away.for_each(|away| moved.insert(away.slot));
        moved
    }

    /// Slots of a new extent that aren't where its writer put them.
    fn moved_slots(&self, extent: &Extent) -> SlotSet {
        let directory = self.memory.directory();
        let Some(map) = &directory.map else { return SlotSet::default() };
        map.pg(extent.id.pg)
            .map_or_else(SlotSet::default, |pg| map.slots_moved_since(pg, extent.epoch))
    }

    /// The slots of a report on repairs that count, and those of them that are ahead: on the disk
    /// that they move to. A report of a move that isn't under way any more counts for nothing, as
    /// what that move brought to its disk may have been deleted there.
    fn settled_slots(&self, item: &RepairedExtent) -> (SlotSet, SlotSet) {
        let (mut settled, mut ahead) = (SlotSet::default(), SlotSet::default());
        let directory = self.memory.directory();
        let pg = directory.map.as_ref().and_then(|map| map.pg(item.extent.pg));
        let Some(pg) = pg else { return (item.slots, ahead) };
        for slot in item.slots.iter() {
            match (pg.move_of(slot), item.moving_to) {
                (Some(under_way), Some(to)) => {
                    if (under_way.to, under_way.since) == (to, item.since) {
                        settled.insert(slot);
                        ahead.insert(slot);
                    }
                }
                (None, None) if pg.settled_at(slot) <= item.epoch => settled.insert(slot),
                (Some(_), None) | (None, Some(_) | None) => {}
            }
        }
        (settled, ahead)
    }

    /// One more reference for each extent of `parts`.
    pub(super) fn share_extents(&mut self, parts: &[Part]) -> Result<(), StateError> {
        for extent in parts.iter().flat_map(|part| &part.extents) {
            let mut record = self.owned(extent.id)?;
            record.references += 1;
            self.tables.set(&extent.id.to_key(), &record)?;
        }
        Ok(())
    }

    /// Says that the extents of `parts` belong to `owner` from now on.
    pub(super) fn hand_over_extents(
        &mut self,
        parts: &[Part],
        owner: ExtentOwner,
    ) -> Result<(), StateError> {
        for extent in parts.iter().flat_map(|part| &part.extents) {
            let mut record = self.owned(extent.id)?;
            record.owner = owner;
            self.tables.set(&extent.id.to_key(), &record)?;
        }
        Ok(())
    }

    /// One reference less for each extent of `parts`; at none it becomes garbage.
    pub(super) fn release_extents(&mut self, parts: &[Part]) -> Result<(), StateError> {
        for extent in parts.iter().flat_map(|part| &part.extents) {
            let mut record = self.owned(extent.id)?;
            record.references -= 1;
            if record.references == 0 {
                self.unqueue_repair(extent.id, &record)?;
                (record.lacking, record.ahead) = <(SlotSet, SlotSet)>::default();
                let key = garbage::key(GarbageKey { since: self.now, extent: extent.id });
                let garbage = Garbage { coding: record.coding, length: record.length };
                self.tables.set(&key, &garbage)?;
            }
            self.tables.set(&extent.id.to_key(), &record)?;
        }
        Ok(())
    }

    /// An extent that a manifest names: it must be there with a reference.
    fn owned(&mut self, id: ExtentId) -> Result<ExtentRecord, StateError> {
        self.tables
            .get::<ExtentRecord>(&id.to_key())?
            .filter(|record| record.references > 0)
            .ok_or_else(|| StateError::Damaged(format!("extent {id} is named but not there")))
    }

    fn unqueue_repair(&mut self, id: ExtentId, record: &ExtentRecord) -> Result<(), StateError> {
        if !record.lacking.is_empty() {
            let key = repair::key(id, record.coding, record.lacking);
            self.tables.remove(TableId::Repair, &key)?;
        }
        Ok(())
    }

    pub(super) fn queue_repair(&mut self, lacking: &[LackingExtent]) -> Result<Outcome, Stop> {
        for item in lacking {
            let key = item.extent.to_key();
            let Some(mut record) = self.tables.get::<ExtentRecord>(&key)? else {
                continue;
            };
            let within = SlotSet(item.slots.0 & ((1u32 << record.coding.width()) - 1));
            let union = record.lacking.union(within);
            if record.references == 0 || union == record.lacking {
                continue;
            }
            self.unqueue_repair(item.extent, &record)?;
            record.lacking = union;
            record.ahead = record.ahead.without(union);
            self.record_lacking(item.extent, &record)?;
        }
        Ok(Outcome::Done)
    }

    /// Writes a record whose lacking slots have changed, and its row in the repair table if it has
    /// any; the row that it had is gone already.
    fn record_lacking(&mut self, id: ExtentId, record: &ExtentRecord) -> Result<(), StateError> {
        self.tables.set(&id.to_key(), record)?;
        if !record.lacking.is_empty() {
            let key = repair::key(id, record.coding, record.lacking);
            self.tables.set(&key, &Repair { lacking: record.lacking })?;
        }
        Ok(())
    }

    /// A move of `slot` has ended: what was brought ahead is there now, or lacks again.
    pub(super) fn settle_ahead(
        &mut self,
        extents: &[ExtentId],
        slot: u8,
        is_there: bool,
    ) -> Result<(), StateError> {
        let mut slots = SlotSet::default();
        slots.insert(slot);
        for id in extents {
            let Some(mut record) = self.tables.get::<ExtentRecord>(&id.to_key())? else { continue };
            record.ahead = record.ahead.without(slots);
            if is_there {
                self.tables.set(&id.to_key(), &record)?;
            } else {
                self.unqueue_repair(*id, &record)?;
                record.lacking = record.lacking.union(slots);
                self.record_lacking(*id, &record)?;
            }
        }
        Ok(())
    }

    /// Takes repaired slots out of the queue; what lacks others still moves to its new priority.
    pub(super) fn shards_repaired(&mut self, repaired: &[RepairedExtent]) -> Result<Outcome, Stop> {
        for item in repaired {
            let key = item.extent.to_key();
            let Some(mut record) = self.tables.get::<ExtentRecord>(&key)? else {
                continue;
            };
            let (settled, ahead) = self.settled_slots(item);
            let left = record.lacking.without(settled);
            if left == record.lacking {
                continue;
            }
            self.unqueue_repair(item.extent, &record)?;
            let came = record.lacking.without(left);
            record.ahead = record.ahead.union(SlotSet(ahead.0 & came.0));
            record.lacking = left;
            self.record_lacking(item.extent, &record)?;
        }
        Ok(Outcome::Done)
    }

    /// Forgets garbage whose shards are gone; nothing while something is held, as what is adopted
    /// may name it (I-9).
    pub(super) fn collect_garbage(&mut self, collected: &[GarbageKey]) -> Result<Outcome, Stop> {
        if self.held()?.is_some() {
            return Ok(Outcome::Done);
        }
        for item in collected {
            if self.tables.remove(TableId::Garbage, &garbage::key(*item))?.is_some() {
                self.tables.remove(TableId::Extents, &item.extent.to_key())?;
            }
        }
        Ok(Outcome::Done)
    }
}
