//! Room for the next record: segments that begin and end, and space reserved ahead.
//!
//! Order at a new segment: the old one is cut to its end and synced; the new header is written and
//! synced, then the directory; only then do records go in.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use model::shard::{DiskHealth, ShardError};
use wire::disk::{DiskFile, OpenMode};

use super::super::health::{is_out_of_space, is_shortage};
use super::{Active, Log};
use crate::lock::lock;
use crate::segment::{SEGMENT_HEADER_BYTES, Seal, SegmentHeader, segment_name};
use crate::switches::Bug;

/// The first reservation of a segment; later ones double up to the option's limit.
const ALLOCATION_STEP_BYTES_MIN: u64 = 1 << 20;
/// The least that is reserved when space is nearly out.
const ALLOCATION_STEP_BYTES_LAST: u64 = 4096;
/// Kept reserved behind the last shard, so that deletes go on when the file system is full to the
/// last byte: room for some 700 tombstones.
const TOMBSTONE_SPARE_BYTES: u64 = 64 << 10;

/// Who wants room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// A client, for a shard: only while the disk isn't full.
    Client,
    /// Compaction, which gives back more than it takes: from the reserve, too.
    Upkeep,
    /// A tombstone or a mark: down to the last byte.
    Last,
}

impl Log {
    /// Makes sure that a record of `bytes` fits the active segment and the space reserved for it.
    pub(super) fn make_room(&mut self, bytes: u64, room: Room) -> Result<(), ShardError> {
        let capacity_bytes = lock(&self.shared.space).capacity_bytes;
        let limit = self.shared.options.segment_limit(capacity_bytes);
        let fits = self.active.as_ref().is_some_and(|active| {
            active.end + bytes <= limit
                || active.end == SEGMENT_HEADER_BYTES
                || (room == Room::Last && active.end + bytes <= active.allocated)
        });
        if !fits {
            self.begin_segment(room)?;
        }
        let Some(active) = &mut self.active else {
            return Err(ShardError::Failed(self.shared.identity.disk));
        };
        let spare = if room == Room::Last { 0 } else { TOMBSTONE_SPARE_BYTES };
        let needed = active.end + bytes + spare;
        if needed <= active.allocated {
            return Ok(());
        }
        let step_max = self.shared.options.allocation_step_bytes_max.max(ALLOCATION_STEP_BYTES_MIN);
        let step = active.allocated.clamp(ALLOCATION_STEP_BYTES_MIN, step_max);
        let target = (active.allocated + step).min(limit + spare).max(needed);
        let least = needed.next_multiple_of(ALLOCATION_STEP_BYTES_LAST);
        if room == Room::Client {
            // Before the file grows, not after: what is reserved is for deletes.
            self.shared.look_at_space();
            self.shared.health.check_append()?;
        }
        for goal in [target, least] {
            match active.file.allocate(active.allocated, goal - active.allocated) {
                Ok(()) => {
                    active.allocated = goal;
                    return Ok(());
                }
                Err(error) if is_out_of_space(&error) => {}
                Err(error) if is_shortage(&error) => return Err(self.short_of(&error)),
                Err(error) => return Err(self.write_failed(&error, "reserving space failed")),
            }
        }
        Err(self.out_of_space())
    }

    pub(super) fn out_of_space(&self) -> ShardError {
        self.shared.health.worsen(DiskHealth::Full, "the file system has no space left");
        ShardError::Full(self.shared.identity.disk)
    }

    /// Nothing was changed, and nothing is wrong with the disk: the next job tries again.
    fn short_of(&self, error: &io::Error) -> ShardError {
        let disk = self.shared.identity.disk;
        tracing::warn!(%disk, %error, "no room could be made");
        self.shared.meter.failure("overloaded");
        ShardError::Overloaded(disk)
    }

    /// Closes the active segment and begins the next one.
    fn begin_segment(&mut self, room: Room) -> Result<(), ShardError> {
        if room == Room::Client {
            // Before the active segment is let go of: what it has in reserve is for deletes.
            self.shared.look_at_space();
            self.shared.health.check_append()?;
        }
        self.flush()?;
        self.retire()?;
        let segment = self.next_segment;
        let name = segment_name(segment);
        let file = match self.shared.disk.open(&name, OpenMode::CreateNew) {
            // There is no file: the number is still free.
            Err(error) if is_shortage(&error) => return Err(self.short_of(&error)),
            file => file,
        };
        self.next_segment += 1;
        match file.and_then(|file| self.begin_file(segment, file)) {
            Ok(active) => {
                self.shared.files.keep(segment, Arc::clone(&active.file));
                self.end = active.start + active.end;
                self.place = (segment, active.end);
                lock(&self.shared.ledger).reach(segment, active.start, active.end);
                // The header is synced, and so is all before it.
                self.shared.end.store(self.end, Ordering::Release);
                self.shared.durable.store(self.end, Ordering::Release);
                self.marked = self.end;
                self.active = Some(active);
                Ok(())
            }
            Err(error) if is_out_of_space(&error) => {
                // An empty leftover does no harm: the next start removes it.
                let _ = self.shared.disk.remove(&name);
                Err(self.out_of_space())
            }
            Err(error) => Err(self.write_failed(&error, "a new segment could not be made")),
        }
    }

    fn begin_file(&self, segment: u64, file: Arc<dyn DiskFile>) -> io::Result<Active> {
        let shared = &self.shared;
        let header = SegmentHeader {
            identity: shared.identity,
            segment,
            start: self.end,
            incarnation: shared.incarnation,
            created: shared.clock.now(),
        };
        file.write_at(&[IoSlice::new(&header.encode())], 0)?;
        self.timed_sync(&*file)?;
        if !shared.options.breaks(Bug::DirectoryNotSynced) {
            shared.disk.sync_directory()?;
        }
        Ok(Active {
            segment,
            file,
            seal: Seal::new(&shared.identity, segment),
            start: self.end,
            end: SEGMENT_HEADER_BYTES,
            allocated: SEGMENT_HEADER_BYTES,
            zeroed: 0,
        })
    }

    /// Cuts the active segment to its end, makes it durable and lets go of it.
    pub(super) fn retire(&mut self) -> Result<(), ShardError> {
        let Some(active) = &self.active else {
            return Ok(());
        };
        self.shared.health.check_write()?;
        let cut = active.file.set_length(active.end).and_then(|()| self.timed_sync(&*active.file));
        if let Err(error) = cut {
            return Err(self.write_failed(&error, "closing a segment failed"));
        }
        self.shared.durable.store(self.end, Ordering::Release);
        self.active = None;
        Ok(())
    }
}
