//! The writer's side of a disk: the one owner of the end of the log.
//!
//! Jobs come in batches. Their records are staged, written with one vectored write, made durable
//! by one sync if anyone wants that, and then all are answered. Order of what reaches the disk:
//! records, sync, answer; and at a new segment: the old one cut and synced, the new header and
//! the directory synced, then records. A crash at any point leaves what was answered, whole.

use std::collections::HashSet;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use model::ids::{ExtentId, ShardId};
use model::shard::{LogPosition, ShardAppend, ShardError};
use wire::disk::DiskFile;

mod room;

use super::checkpoint::Checkpointer;
use super::health::is_out_of_space;
use super::queue::{Job, JobKind};
use super::recover::LogEnd;
use super::shared::Shared;
use crate::index::{Checkpoint, Location, SavedIndex};
use crate::lock::lock;
use crate::segment::{Kind, RecordHeader, Seal};

/// Space that a checkpoint may need beside its changes.
const CHECKPOINT_SPARE_BYTES: u64 = 4 << 20;
/// Space that a change may need in the index, copies of its pages included.
const CHECKPOINT_CHANGE_BYTES: u64 = 512;

/// Shards of this length and more are not kept in the page cache once they are on the disk. A
/// large object is rarely read right after it was written, and a page that was in use a moment
/// ago is far cheaper than one that was never touched: on a virtual machine that gets its memory
/// as it touches it, the kernel's copy cost 2.7 CPU-seconds per GiB into new pages and 0.3 into
/// used ones.
const UNCACHED_SHARD_BYTES: u64 = 256 << 10;

const ZEROS: [u8; 8] = [0; 8];

/// The log of one disk, owned by its writer thread.
pub(crate) struct Log {
    shared: Arc<Shared>,
    checkpointer: Checkpointer,
    active: Option<Active>,
    staged: Staged,
    /// Where the log ended when it was last written.
    end: LogPosition,
    /// The last segment and the end of the log in it.
    place: (u64, u64),
    next_segment: u64,
    /// The durable position that the log itself tells of.
    marked: LogPosition,
    checkpoint_position: LogPosition,
    checkpoint_due: Duration,
    /// Why what was written in this batch may not be acknowledged.
    broken: Option<ShardError>,
}

/// The segment that is appended to.
struct Active {
    segment: u64,
    file: Arc<dyn DiskFile>,
    seal: Seal,
    start: LogPosition,
    /// The end in the file, staged records included.
    end: u64,
    allocated: u64,
    /// Where the first large record lies that may still be in the page cache.
    cached_from: Option<u64>,
}

impl Active {
    /// Lets the page cache go of what was written since the last large record that it holds.
    fn forget_cached(&self) {
        if let Some(from) = self.cached_from {
            self.file.forget_cached(from, self.end - from);
        }
    }
}

/// Records that wait for the next write.
#[derive(Default)]
struct Staged {
    parts: Vec<Bytes>,
    bytes: u64,
    changes: Vec<Change>,
    ids: HashSet<ShardId>,
    shards: u64,
    payload_bytes: u64,
}

struct Change {
    id: ShardId,
    place: Option<Location>,
    before: Option<Location>,
}

impl Log {
    pub(crate) fn new(shared: Arc<Shared>, checkpointer: Checkpointer, at: &LogEnd) -> Self {
        let checkpoint_due = shared.clock.monotonic() + at.first_checkpoint_in;
        Self {
            shared,
            checkpointer,
            active: None,
            staged: Staged::default(),
            end: at.position,
            place: (at.segment, at.offset),
            next_segment: at.next_segment,
            marked: at.position,
            checkpoint_position: at.position,
            checkpoint_due,
            broken: None,
        }
    }

    /// Does a batch of jobs and answers all of them.
    pub(crate) fn run(&mut self, jobs: Vec<Job>) {
        self.shared.meter.batch_jobs.record(jobs.len() as f64);
        let mut wants_sync = false;
        let mut wants_checkpoint = false;
        let mut done = Vec::with_capacity(jobs.len());
        for job in jobs {
            let Job { kind, answer, permit } = job;
            let outcome = self.stage(&kind);
            if outcome.is_ok() {
                match kind {
                    JobKind::Append { sync, .. } => wants_sync |= sync,
                    JobKind::Sync | JobKind::Delete { .. } => wants_sync = true,
                    JobKind::Checkpoint => wants_checkpoint = true,
                    JobKind::Tick => {}
                }
            }
            done.push((answer, outcome, permit));
        }
        let mut settled = self.flush();
        if settled.is_ok() && wants_sync {
            settled = self.sync();
        }
        if settled.is_ok() && wants_checkpoint {
            settled = self.checkpoint_now();
        }
        let failed = self.broken.take().or(settled.err());
        for (answer, outcome, permit) in done {
            let outcome = match (&failed, outcome) {
                (Some(error), Ok(_)) => Err(error.clone()),
                (_, outcome) => outcome,
            };
            // A sender that went away doesn't want to know.
            let _ = answer.send(outcome);
            drop(permit);
        }
        self.checkpoint_if_due();
    }

    /// Ends the log: everything is synced, checkpointed, and reserved space given back.
    pub(crate) fn finish(&mut self) {
        let orderly =
            self.flush().and_then(|()| self.checkpoint_now()).and_then(|()| self.retire());
        if let Err(error) = orderly {
            // Nothing is lost by that: the log is replayed at the next start.
            tracing::warn!(disk = %self.shared.identity.disk, %error, "no checkpoint at the end");
        }
    }

    fn stage(&mut self, kind: &JobKind) -> Result<LogPosition, ShardError> {
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
            JobKind::Sync | JobKind::Checkpoint => self.shared.health.check_write()?,
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
            return if same { Ok(()) } else { Err(ShardError::Exists(shard.id)) };
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
        let mut location = self.stage_record(header, &shard.owner, &shard.checksums)?;
        location.payload_bytes = header.payload_bytes;
        self.staged.parts.push(shard.payload.clone());
        let padding = shard.payload.len().next_multiple_of(8) - shard.payload.len();
        if padding > 0 {
            self.staged.parts.push(Bytes::from_static(&ZEROS[..padding]));
        }
        self.staged.shards += 1;
        self.staged.payload_bytes += shard.payload.len() as u64;
        self.staged.ids.insert(shard.id);
        self.staged.changes.push(Change { id: shard.id, place: Some(location), before });
        Ok(())
    }

    fn stage_tombstone(&mut self, extent: ExtentId) -> Result<(), ShardError> {
        // What is staged must be in the index, to be found with the rest of the extent.
        if !self.staged.ids.is_empty() {
            self.flush()?;
        }
        let shards = self.shared.index.extent(extent).map_err(|e| self.shared.index_failed(&e))?;
        if shards.is_empty() {
            return Ok(());
        }
        self.stage_record(RecordHeader::bare(Kind::Tombstone, extent), &[], &[])?;
        for (id, location) in shards {
            self.staged.ids.insert(id);
            self.staged.changes.push(Change { id, place: None, before: Some(location) });
        }
        self.shared.meter.deletes.increment(1);
        Ok(())
    }

    /// Tells the log what is durable, when no later record does: so that rot of the last records
    /// isn't taken for a torn tail.
    fn stage_mark(&mut self) -> Result<(), ShardError> {
        let stale = self.active.is_some() && self.shared.durable() > self.marked;
        if stale && self.shared.health.check_write().is_ok() {
            let nobody = ShardId::default().extent;
            self.stage_record(RecordHeader::bare(Kind::Mark, nobody), &[], &[])?;
        }
        Ok(())
    }

    fn find(&self, id: ShardId) -> Result<Option<Location>, ShardError> {
        self.shared.index.get(id).map_err(|error| self.shared.index_failed(&error))
    }

    /// Stages header, owner and checksums; the payload, if any, is the caller's to stage next.
    fn stage_record(
        &mut self,
        mut header: RecordHeader,
        owner: &[u8],
        checksums: &[u64],
    ) -> Result<Location, ShardError> {
        let record_bytes = header.record_bytes();
        self.make_room(record_bytes, header.kind)?;
        let Some(active) = &mut self.active else {
            return Err(ShardError::Failed(self.shared.identity.disk));
        };
        header.position = active.start + active.end;
        header.durable = self.shared.durable();
        header.incarnation = self.shared.incarnation;
        header.appended = self.shared.clock.now();
        let prefix = header.encode(active.seal, owner, checksums);
        let location = Location {
            segment: active.segment,
            offset: active.end as u32,
            record_bytes: record_bytes as u32,
            payload_bytes: 0,
        };
        active.end += record_bytes;
        self.marked = header.durable;
        self.staged.bytes += record_bytes;
        self.staged.parts.push(Bytes::from(prefix));
        Ok(location)
    }

    /// Any other failure of a write is final for this run (R4).
    fn write_failed(&self, error: &io::Error, what: &str) -> ShardError {
        self.shared.meter.failure("write");
        self.shared.health.write_failed(error, what);
        let disk = self.shared.identity.disk;
        self.shared.health.check_write().err().unwrap_or(ShardError::ReadOnly(disk))
    }

    /// Writes what is staged. After an error nothing of it counts: those who wait for it are told.
    fn flush(&mut self) -> Result<(), ShardError> {
        if self.staged.parts.is_empty() {
            return self.broken.clone().map_or(Ok(()), Err);
        }
        let staged = std::mem::take(&mut self.staged);
        let Some(active) = &mut self.active else {
            return Err(ShardError::Failed(self.shared.identity.disk));
        };
        let at = active.end - staged.bytes;
        let parts: Vec<IoSlice<'_>> = staged.parts.iter().map(|part| IoSlice::new(part)).collect();
        if let Err(error) = active.file.write_at(&parts, at) {
            active.end = at;
            let failure = if is_out_of_space(&error) {
                self.out_of_space()
            } else {
                self.write_failed(&error, "a write failed")
            };
            self.broken = Some(failure.clone());
            return Err(failure);
        }
        if staged.payload_bytes >= staged.shards.max(1) * UNCACHED_SHARD_BYTES {
            active.cached_from = active.cached_from.or(Some(at));
            // Begins to write, so that the sync finds little to do.
            active.forget_cached();
        }
        self.end = active.start + active.end;
        self.place = (active.segment, active.end);
        self.book(&staged);
        self.shared.end.store(self.end, Ordering::Release);
        Ok(())
    }

    /// Makes what was written known to readers and to the ledger.
    fn book(&self, staged: &Staged) {
        let shared = &self.shared;
        {
            let mut ledger = lock(&shared.ledger);
            let (segment, end) = self.place;
            ledger.reach(segment, self.end - end, end);
            for change in &staged.changes {
                change.before.iter().for_each(|location| ledger.dead(location));
                change.place.iter().for_each(|location| ledger.live(location));
            }
        }
        shared.index.apply(staged.changes.iter().map(|change| (change.id, change.place)));
        shared.meter.appends.increment(staged.shards);
        shared.meter.append_bytes.increment(staged.payload_bytes);
    }

    fn timed_sync(&self, file: &dyn DiskFile) -> io::Result<()> {
        let began = self.shared.clock.monotonic();
        file.sync_data()?;
        self.shared.meter.fsyncs.increment(1);
        let took = self.shared.clock.monotonic().saturating_sub(began);
        self.shared.meter.fsync_seconds.record(took.as_secs_f64());
        Ok(())
    }

    /// Makes everything that was written durable. A failure is final: nothing that was written
    /// since the last success may be trusted, whatever a later sync says.
    fn sync(&mut self) -> Result<(), ShardError> {
        self.shared.health.check_write()?;
        if self.shared.durable() >= self.end {
            return Ok(());
        }
        let Some(active) = &self.active else {
            return Err(ShardError::Failed(self.shared.identity.disk));
        };
        if let Err(error) = self.timed_sync(&*active.file) {
            return Err(self.write_failed(&error, "a sync failed"));
        }
        if let Some(active) = &mut self.active {
            active.forget_cached();
            active.cached_from = None;
        }
        self.shared.durable.store(self.end, Ordering::Release);
        Ok(())
    }

    fn checkpoint_if_due(&mut self) {
        let options = &self.shared.options;
        let now = self.shared.clock.monotonic();
        let changes = self.shared.index.changes();
        let due = self.end - self.checkpoint_position >= options.checkpoint_log_bytes
            || changes >= options.checkpoint_changes
            || (now >= self.checkpoint_due && self.end > self.checkpoint_position);
        let free = lock(&self.shared.space).free_bytes;
        let needed = CHECKPOINT_SPARE_BYTES + changes as u64 * CHECKPOINT_CHANGE_BYTES;
        // redb gives up for good when space runs out under it: rather replay more log later.
        if due
            && free >= needed
            && !self.shared.index.is_frozen()
            && self.shared.health.check_write().is_ok()
        {
            // A failure has changed the disk's health, and is told there.
            let _ = self.begin_checkpoint();
        }
    }

    /// Syncs the log, freezes the changes and hands them to the checkpoint thread. `false` while
    /// an earlier checkpoint is under way.
    fn begin_checkpoint(&mut self) -> Result<bool, ShardError> {
        self.sync()?;
        if !self.shared.index.freeze() {
            return Ok(false);
        }
        let (segment, offset) = self.place;
        let uuid = self.shared.identity.uuid;
        let checkpoint = Checkpoint { uuid, segment, offset, position: self.end };
        let (segments, damage) = {
            let ledger = lock(&self.shared.ledger);
            (ledger.segments(), ledger.damage())
        };
        self.checkpointer.write(SavedIndex { checkpoint: Some(checkpoint), segments, damage });
        self.checkpoint_position = self.end;
        self.checkpoint_due = self.shared.clock.monotonic() + self.shared.options.checkpoint_age;
        Ok(true)
    }

    /// Takes a checkpoint and waits until it is durable.
    fn checkpoint_now(&mut self) -> Result<(), ShardError> {
        self.shared.health.check_write()?;
        self.checkpointer.wait();
        self.begin_checkpoint()?;
        self.checkpointer.wait();
        self.shared.health.check_write()
    }
}
