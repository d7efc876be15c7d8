//! AdoptPgs with slots: groups whose slots moved after the backup that the tables were made of get the
//! disks that the slots are on by now.
//!
//! What always holds: a group that changes has a disk of the map for each slot, and none twice; who
//! writes by an older map is told so, as at the end of any move. A move that the backup has under way in
//! such a group is over: where its disk has the slot, what was ahead is there, else it lacks again.

use std::collections::BTreeMap;

use model::cluster_map::{ClusterMap, Pg};
use model::command::Refusal;
use model::ids::{ExtentId, PgId};
use model::moves::SlotMoved;
use model::rebuild::{NO_DISK, SlotFound};

use super::held::is_group;
use super::{Step, Stop};
use crate::state::StateError;
use crate::tables::extents::ExtentRecord;
use crate::tables::{TableId, decode};

/// Rows that are read at a time.
const ROWS: usize = 1024;

impl Step<'_, '_> {
    /// Changes `map`, which is the one in use with nothing else changed; on a refusal nothing is.
    pub(super) fn settle_slots(
        &mut self,
        map: &mut ClusterMap,
        slots: &[SlotFound],
    ) -> Result<(), Stop> {
        let epoch = map.epoch + 1;
        let mut changed: BTreeMap<PgId, Pg> = BTreeMap::new();
        for found in slots {
            let known = map.pg(found.pg).ok_or(Refusal::InvalidCommand)?;
            let pg = changed.entry(found.pg).or_insert_with(|| known.clone());
            let disk = pg.disks.get_mut(usize::from(found.slot)).ok_or(Refusal::InvalidCommand)?;
            if *disk == found.to {
                continue;
            }
            if *disk != found.from {
                return Err(Refusal::MovesOutdated.into());
            }
            if found.to == NO_DISK {
                return Err(Refusal::InvalidCommand.into());
            }
            *disk = found.to;
            pg.moved.retain(|moved| moved.slot != found.slot);
            pg.moved.push(SlotMoved { slot: found.slot, epoch });
        }
        changed.retain(|id, pg| map.pg(*id).is_some_and(|known| known.disks != pg.disks));
        if !changed.values().all(|pg| is_group(map, pg)) {
            return Err(Refusal::InvalidCommand.into());
        }
        // From here on nothing is refused.
        for (id, mut pg) in changed {
            for begun in std::mem::take(&mut pg.moves) {
                let is_there = pg.disks.get(usize::from(begun.slot)) == Some(&begun.to);
                let ahead = self.ahead(id, begun.slot)?;
                self.settle_ahead(&ahead, begun.slot, is_there)?;
            }
            if let Some(known) = map.pgs.get_mut(id.0 as usize) {
                *known = pg;
            }
        }
        Ok(())
    }

    /// The extents of a group that have this slot where it moves to, and aren't known to where it is.
    fn ahead(&mut self, pg: PgId, slot: u8) -> Result<Vec<ExtentId>, StateError> {
        let prefix = pg.0.to_be_bytes();
        let (mut start, mut ahead) = (prefix.to_vec(), Vec::new());
        loop {
            let rows = self.tables.scan_from(TableId::Extents, &start, ROWS)?;
            let is_last = rows.len() < ROWS;
            for (key, value) in rows {
                if !key.starts_with(&prefix) {
                    return Ok(ahead);
                }
                let record: ExtentRecord = decode(&value)?;
                if record.ahead.contains(slot) {
                    let id = ExtentId::from_key(&key);
                    ahead.push(id.ok_or_else(|| {
                        StateError::Damaged("an extent has a bad key".to_owned())
                    })?);
                }
                start = key;
            }
            if is_last {
                return Ok(ahead);
            }
            start.push(0);
        }
    }
}
