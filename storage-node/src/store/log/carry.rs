//! Records that compaction carries to the end of the log.
//!
//! Here, in the one thread that changes the index, it is decided what a record still is: a live
//! shard is copied and the index pointed to the copy; a shard that was deleted within the grace
//! period is copied as remains; a tombstone that is still needed is copied; anything else is let
//! go. A copy is appended only while its shard lives, so a tombstone always comes after it.

use model::ids::ExtentId;
use model::shard::ShardError;

use super::super::queue::{Move, ShardMove};
use super::Log;
use super::room::Room;
use crate::index::Tombstone;
use crate::lock::lock;
use crate::segment::{Kind, RecordHeader};
use crate::switches::Bug;

impl Log {
    pub(super) fn stage_move(&mut self, record: &Move) -> Result<(), ShardError> {
        match record {
            Move::Shard(shard) => self.carry_shard(shard),
            Move::Tombstone { extent, segment, offset } => {
                self.carry_tombstone(*extent, *segment, *offset)
            }
        }
    }

    fn carry_shard(&mut self, shard: &ShardMove) -> Result<(), ShardError> {
        let id = shard.header.id;
        if self.staged.ids.contains(&id) {
            self.flush()?;
        }
        let live = self.find(id)?;
        let is_here = (live == Some(shard.from) || self.shared.options.breaks(Bug::DeadShardMoved))
            && shard.header.kind == Kind::Shard;
        let kind = if is_here {
            Kind::Shard
        } else if live.is_none() && self.is_within_grace(&shard.header)? {
            Kind::Remains
        } else {
            return Ok(());
        };
        let header = RecordHeader { kind, ..shard.header };
        let place = self.stage_record(header, &shard.owner, &shard.checksums, Room::Upkeep)?;
        self.stage_payload(&shard.payload);
        self.staged.moved_bytes += u64::from(place.record_bytes);
        if is_here {
            self.change_shard(id, Some(place), Some(shard.from));
        } else {
            self.staged.remains_bytes += u64::from(place.record_bytes);
        }
        Ok(())
    }

    /// Whether a shard that lives no more was deleted so lately that it must stay recoverable.
    fn is_within_grace(&self, header: &RecordHeader) -> Result<bool, ShardError> {
        let tombstone = self.index(|index| index.tombstone(header.id.extent))?;
        Ok(tombstone.is_some_and(|tombstone| {
            let deleted = header.kind == Kind::Remains || header.position < tombstone.before;
            deleted && !self.shared.is_ripe(tombstone.deleted)
        }))
    }

    fn carry_tombstone(
        &mut self,
        extent: ExtentId,
        segment: u64,
        offset: u32,
    ) -> Result<(), ShardError> {
        if self.staged.extents.contains(&extent) {
            self.flush()?;
        }
        let found = self.index(|index| index.tombstone(extent))?;
        let is_it = |found: &Tombstone| (found.segment, found.offset) == (segment, offset);
        let Some(mut tombstone) = found.filter(is_it) else {
            return Ok(());
        };
        {
            let ledger = lock(&self.shared.ledger);
            tombstone.graves.retain(|grave| ledger.knows(*grave));
        }
        let needed = !tombstone.graves.is_empty() || !self.shared.is_ripe(tombstone.deleted);
        if !needed || self.shared.options.breaks(Bug::TombstoneDropped) {
            self.change_tombstone(extent, None, Some(segment));
            return Ok(());
        }
        let header = RecordHeader {
            appended: tombstone.deleted,
            before: tombstone.before,
            ..RecordHeader::bare(Kind::Tombstone, extent)
        };
        let place = self.stage_record(header, &[], &[], Room::Upkeep)?;
        self.staged.moved_bytes += u64::from(place.record_bytes);
        tombstone.segment = place.segment;
        tombstone.offset = place.offset;
        self.change_tombstone(extent, Some(tombstone), Some(segment));
        Ok(())
    }
}
