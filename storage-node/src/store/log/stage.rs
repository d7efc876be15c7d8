//! What jobs ask for, made into records that wait for the next write.
//!
//! In go jobs, out come staged records and the changes that they mean. What a record depends on
//! must be in the index before it is staged: what is staged already is written first where the
//! two touch the same shard or extent.

use bytes::Bytes;
use model::ids::{ExtentId, ShardId};
use model::shard::{LogPosition, ShardAppend, ShardError};

use super::super::queue::JobKind;
use super::room::Room;
use super::{Booking, Log};
use crate::index::{IndexError, Location, Tombstone};
use crate::lock::lock;
use crate::segment::{Kind, RecordHeader};
use crate::switches::Bug;

const ZEROS: [u8; 8] = [0; 8];

impl Log {
    /// Stages a job; gives the log position behind it.
    pub(super) fn stage(&mut self, kind: &JobKind) -> Result<LogPosition, ShardError> {
        match kind {
            JobKind::Append { shards, .. } => {
                for shard in shards {
                    self.shared.health.check_append()?;
                    self.stage_shard(shard)?;
                }
            }
            JobKind::Delete { extents } => {
                for extent in extents {
                    self.shared.health.check_write()?;
                    self.stage_tombstone(*extent)?;
                }
            }
            JobKind::Move { records } => {
                for record in records {
                    self.shared.health.check_write()?;
                    self.stage_move(record)?;
                }
            }
            JobKind::Sync | JobKind::Checkpoint => self.shared.health.check_write()?,
            JobKind::CheckpointSoon => {}
            JobKind::Tick => self.stage_mark()?,
        }
        Ok(self.staged_end())
    }

    fn staged_end(&self) -> LogPosition {
        self.active.as_ref().map_or(self.end, |active| active.start + active.end)
    }

    fn stage_shard(&mut self, shard: &ShardAppend) -> Result<(), ShardError> {
        if self.staged.ids.contains(&shard.id) {
            // Its twin must be readable before it can be compared.
            self.flush()?;
        }
        let before = self.find(shard.id)?;
        if let Some(location) = &before
            && let Some((held, checksums)) = self.shared.sound_record(location)
        {
            let same = held.coding == Some(shard.coding)
                && held.stripe_bytes == shard.stripe_bytes
                && held.payload_bytes as usize == shard.payload.len()
                && checksums[..] == shard.checksums[..];
            if !self.shared.options.breaks(Bug::IdReused) {
                return if same { Ok(()) } else { Err(ShardError::Exists(shard.id)) };
            }
        }
        // A record that is there but damaged is replaced: this is its repair.
        let header = RecordHeader {
            id: shard.id,
            coding: Some(shard.coding),
            stripe_bytes: shard.stripe_bytes,
            payload_bytes: shard.payload.len() as u32,
            owner_bytes: shard.owner.len() as u16,
            ..RecordHeader::bare(Kind::Shard, shard.id.extent)
        };
        let location = self.stage_record(header, &shard.owner, &shard.checksums, Room::Client)?;
        self.stage_payload(&shard.payload);
        self.staged.shards += 1;
        self.staged.payload_bytes += shard.payload.len() as u64;
        self.staged.appended_bytes += u64::from(location.record_bytes);
        self.change_shard(shard.id, Some(location), before);
        Ok(())
    }

    fn stage_tombstone(&mut self, extent: ExtentId) -> Result<(), ShardError> {
        // What is staged must be in the index, to be found with the rest of the extent.
        if !self.staged.ids.is_empty() || self.staged.extents.contains(&extent) {
            self.flush()?;
        }
        let shards = self.index(|index| index.extent(extent))?;
        if shards.is_empty() {
            return Ok(());
        }
        let earlier = self.index(|index| index.tombstone(extent))?;
        let header = RecordHeader::bare(Kind::Tombstone, extent);
        let location = self.stage_record(header, &[], &[], Room::Last)?;
        let mut tombstone = Tombstone {
            deleted: self.shared.clock.now(),
            before: self.staged_end() - u64::from(location.record_bytes),
            segment: location.segment,
            offset: location.offset,
            graves: Vec::new(),
        };
        tombstone.bury(shards.iter().map(|(_, location)| location.segment));
        tombstone.bury(lock(&self.shared.ledger).superseded_segments());
        tombstone.bury(earlier.iter().flat_map(|earlier| earlier.graves.iter().copied()));
        for (id, location) in shards {
            self.change_shard(id, None, Some(location));
        }
        let was = earlier.map(|earlier| earlier.segment);
        self.change_tombstone(extent, Some(tombstone), was);
        self.shared.meter.deletes.increment(1);
        Ok(())
    }

    /// Tells the log what is durable, when no later record does: so that rot of the last records
    /// isn't taken for a torn tail.
    pub(super) fn stage_mark(&mut self) -> Result<(), ShardError> {
        let stale = self.active.is_some() && self.shared.durable() > self.marked;
        if stale && self.shared.health.check_write().is_ok() {
            let nobody = ShardId::default().extent;
            self.stage_record(RecordHeader::bare(Kind::Mark, nobody), &[], &[], Room::Last)?;
        }
        Ok(())
    }

    pub(super) fn find(&self, id: ShardId) -> Result<Option<Location>, ShardError> {
        self.index(|index| index.get(id))
    }

    /// Asks the index; when it can't answer, the disk has failed.
    pub(super) fn index<T>(
        &self,
        ask: impl FnOnce(&crate::index::Index) -> Result<T, IndexError>,
    ) -> Result<T, ShardError> {
        ask(&self.shared.index).map_err(|error| self.shared.index_failed(&error))
    }

    pub(super) fn change_shard(
        &mut self,
        id: ShardId,
        place: Option<Location>,
        before: Option<Location>,
    ) {
        self.staged.ids.insert(id);
        self.staged.changes.push(Booking::Shard { id, place, before });
    }

    pub(super) fn change_tombstone(
        &mut self,
        extent: ExtentId,
        now: Option<Tombstone>,
        was: Option<u64>,
    ) {
        self.staged.extents.insert(extent);
        self.staged.changes.push(Booking::Tombstone { extent, now, was });
    }

    /// Stages header, owner and checksums; the payload, if any, is the caller's to stage next. A
    /// time that the header has already is kept.
    pub(super) fn stage_record(
        &mut self,
        mut header: RecordHeader,
        owner: &[u8],
        checksums: &[u64],
        room: Room,
    ) -> Result<Location, ShardError> {
        let record_bytes = header.record_bytes();
        self.make_room(record_bytes, room)?;
        let Some(active) = &mut self.active else {
            return Err(ShardError::Failed(self.shared.identity.disk));
        };
        header.position = active.start + active.end;
        header.durable = self.shared.durable();
        header.incarnation = self.shared.incarnation;
        if header.appended.0 == 0 {
            header.appended = self.shared.clock.now();
        }
        let prefix = header.encode(active.seal, owner, checksums);
        let location = Location {
            segment: active.segment,
            offset: active.end as u32,
            record_bytes: record_bytes as u32,
            payload_bytes: header.payload_bytes,
        };
        active.end += record_bytes;
        self.marked = header.durable;
        self.staged.bytes += record_bytes;
        self.staged.parts.push(Bytes::from(prefix));
        Ok(location)
    }

    pub(super) fn stage_payload(&mut self, payload: &Bytes) {
        self.staged.parts.push(payload.clone());
        let padding = payload.len().next_multiple_of(8) - payload.len();
        if padding > 0 {
            self.staged.parts.push(Bytes::from_static(&ZEROS[..padding]));
        }
    }
}
