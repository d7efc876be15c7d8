//! The writer's side of a disk: the one owner of the end of the log.
//!
//! Jobs come in batches. Their records are staged, written with one vectored write, made durable
//! by one sync if anyone wants that, and then all are answered. Order of what reaches the disk:
//! records, sync, answer; and at a new segment: the old one cut and synced, the new header and
//! the directory synced, then records. A crash at any point leaves what was answered, whole.
//!
//! Two ways lead to the file, chosen by group (the figures stand in [`wire::disk`]): large shards, and
//! what compaction carries along, go past the page cache; small groups go through it, with zeros
//! behind them where none are yet. Both write a record's bytes to its place and nothing else that
//! isn't zero, so recovery knows no difference: behind the end of the log lie zeros, or a torn tail.

use std::collections::HashSet;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use model::ids::{ExtentId, ShardId};
use model::shard::{LogPosition, ShardError};
use wire::disk::DiskFile;

mod carry;
mod room;
mod stage;

use super::checkpoint::Checkpointer;
use super::health::is_out_of_space;
use super::ledger::Ledger;
use super::queue::{Job, JobKind};
use super::recover::LogEnd;
use super::shared::Shared;
use crate::index::{Change, Checkpoint, Location, SavedIndex, Tombstone};
use crate::lock::lock;
use crate::segment::{RECORD_HEADER_BYTES, Seal};
use crate::switches::Bug;

/// Space that a checkpoint may need beside its changes.
const CHECKPOINT_SPARE_BYTES: u64 = 4 << 20;
/// Space that a change may need in the index, copies of its pages included.
const CHECKPOINT_CHANGE_BYTES: u64 = 512;

/// Shards of this length and more are written past the page cache: a large object is rarely read
/// right after it was written, and the copy into the cache costs more than the write (figures in
/// [`wire::disk`]).
const UNCACHED_SHARD_BYTES: u64 = 256 << 10;

/// A group of at most so many bytes is written into blocks that hold zeros already. Its sync then
/// changes no metadata of the file system, and needs no commit of the journal: 42 instead of 60 us
/// of CPU and 99 instead of 165 us for one record of 4 KiB. Larger groups gain nothing.
const SMALL_GROUP_BYTES: u64 = 64 << 10;
/// So many zeros are written behind a small group that reaches blocks which hold none yet.
const AHEAD_BYTES: u64 = 256 << 10;
static AHEAD: [u8; AHEAD_BYTES as usize] = [0; AHEAD_BYTES as usize];

/// Bytes of the record of a tombstone.
const TOMBSTONE_BYTES: u64 = RECORD_HEADER_BYTES as u64;

/// Bytes that a checkpoint of so many changes may take.
pub(crate) fn checkpoint_bytes(changes: usize) -> u64 {
    CHECKPOINT_SPARE_BYTES + changes as u64 * CHECKPOINT_CHANGE_BYTES
}

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
    /// Somebody waits for a checkpoint to begin.
    checkpoint_wanted: bool,
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
    /// Up to here zeros were written ahead.
    zeroed: u64,
}

impl Active {
    /// Takes back what a failed write has left behind `end`, and keeps what was reserved there if
    /// the file system lets us.
    fn cut(&mut self, end: u64) -> io::Result<()> {
        self.file.set_length(end)?;
        if self.file.allocate(end, self.allocated.saturating_sub(end)).is_err() {
            self.allocated = end;
        }
        self.zeroed = self.zeroed.min(end);
        Ok(())
    }

    /// Writes `parts`, the staged records from `at` on, through the page cache; small ones with
    /// zeros behind them. A crash leaves of those what it leaves of reserved space: zeros.
    fn write_small(&mut self, parts: &[IoSlice<'_>], at: u64, limit: u64) -> io::Result<()> {
        let room = self.allocated.min(limit).saturating_sub(self.end);
        let ahead = AHEAD_BYTES.min(room);
        if self.end - at > SMALL_GROUP_BYTES || self.end <= self.zeroed || ahead == 0 {
            return self.file.write_at(parts, at);
        }
        let mut longer = parts.to_vec();
        longer.extend(AHEAD.get(..ahead as usize).map(IoSlice::new));
        match self.file.write_at(&longer, at) {
            Ok(()) => {
                self.zeroed = self.end + ahead;
                Ok(())
            }
            // Where nothing can be reserved, zeros take space that the records still find.
            Err(error) if is_out_of_space(&error) => self.file.write_at(parts, at),
            Err(error) => Err(error),
        }
    }
}

/// Records that wait for the next write, and what they change.
#[derive(Default)]
struct Staged {
    parts: Vec<Bytes>,
    bytes: u64,
    changes: Vec<Booking>,
    /// The shards among the changes.
    ids: HashSet<ShardId>,
    /// The extents whose tombstones are among the changes.
    extents: HashSet<ExtentId>,
    shards: u64,
    payload_bytes: u64,
    /// Bytes of records that clients sent.
    appended_bytes: u64,
    /// Bytes of records that compaction carried along.
    moved_bytes: u64,
    /// Garbage from the start that is kept for the grace period: bytes in the active segment.
    remains_bytes: u64,
}

/// What index and ledger are told once the records are written.
#[derive(Debug)]
enum Booking {
    Shard {
        id: ShardId,
        place: Option<Location>,
        before: Option<Location>,
    },
    /// `was` is the segment of the tombstone that the index pointed to.
    Tombstone {
        extent: ExtentId,
        now: Option<Tombstone>,
        was: Option<u64>,
    },
}

impl Booking {
    fn change(&self) -> Change {
        match self {
            Self::Shard { id, place, .. } => Change::Shard(*id, *place),
            Self::Tombstone { extent, now, .. } => Change::Tombstone(*extent, now.clone()),
        }
    }

    /// Books it; gives the segment and the bytes of a shard that was deleted.
    fn settle(&self, ledger: &mut Ledger) -> Option<(u64, u64)> {
        match self {
            Self::Shard { id, place, before } => {
                if let Some(place) = place {
                    ledger.live(place);
                }
                let before = (*before)?;
                if place.is_some() {
                    ledger.superseded(*id, &before);
                    return None;
                }
                ledger.dead(*id, &before);
                Some((before.segment, u64::from(before.record_bytes)))
            }
            Self::Tombstone { now, was, .. } => {
                if let Some(was) = was {
                    ledger.tombstone_dropped(*was, TOMBSTONE_BYTES);
                }
                if let Some(now) = now {
                    ledger.tombstone_kept(now.segment, TOMBSTONE_BYTES);
                }
                None
            }
        }
    }
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
            checkpoint_wanted: false,
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
            // Whoever asked has given up, and goes by what it decided since: a disk that stood still
            // must not delete what counts by now. Anything else does no harm late.
            if matches!(kind, JobKind::Delete { .. }) && answer.is_closed() {
                continue;
            }
            let outcome = self.stage(&kind);
            if outcome.is_ok() {
                match kind {
                    JobKind::Append { sync, .. } => wants_sync |= sync,
                    JobKind::Sync | JobKind::Delete { .. } => wants_sync = true,
                    JobKind::Checkpoint => wants_checkpoint = true,
                    JobKind::CheckpointSoon => self.checkpoint_wanted = true,
                    JobKind::Tick | JobKind::Move { .. } => {}
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
        if self.shared.options.in_step() {
            self.checkpoint_if_due();
            self.checkpointer.wait();
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
        let orderly = self
            .flush()
            .and_then(|()| self.sync())
            // The disk may be closed for long, and its index be lost meanwhile.
            .and_then(|()| self.stage_mark())
            .and_then(|()| self.flush())
            .and_then(|()| self.checkpoint_now())
            .and_then(|()| self.retire());
        if let Err(error) = orderly {
            // Nothing is lost by that: the log is replayed at the next start.
            tracing::warn!(disk = %self.shared.identity.disk, %error, "no checkpoint at the end");
        }
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
        if self.staged.parts.is_empty() && self.staged.changes.is_empty() {
            return self.broken.clone().map_or(Ok(()), Err);
        }
        let staged = std::mem::take(&mut self.staged);
        if !staged.parts.is_empty() {
            self.write(&staged)?;
        }
        self.book(&staged);
        Ok(())
    }

    fn write(&mut self, staged: &Staged) -> Result<(), ShardError> {
        let capacity_bytes = lock(&self.shared.space).capacity_bytes;
        let limit = self.shared.options.segment_limit(capacity_bytes);
        let Some(active) = &mut self.active else {
            return Err(ShardError::Failed(self.shared.identity.disk));
        };
        let at = active.end - staged.bytes;
        let parts: Vec<IoSlice<'_>> = staged.parts.iter().map(|part| IoSlice::new(part)).collect();
        let large = staged.payload_bytes >= staged.shards.max(1) * UNCACHED_SHARD_BYTES;
        let written = if large || staged.moved_bytes > 0 {
            active.file.write_uncached_at(&parts, at)
        } else {
            active.write_small(&parts, at, limit)
        };
        if let Err(error) = written {
            active.end = at;
            let failure = if is_out_of_space(&error) {
                // Whole records of a group that nobody was promised may lie there: were they kept,
                // a later group could end where one of them begins.
                match active.cut(at) {
                    Ok(()) => self.out_of_space(),
                    Err(error) => self.write_failed(&error, "a write could not be taken back"),
                }
            } else {
                self.write_failed(&error, "a write failed")
            };
            self.broken = Some(failure.clone());
            return Err(failure);
        }
        self.end = active.start + active.end;
        self.place = (active.segment, active.end);
        Ok(())
    }

    /// Makes what was written known to readers and to the ledger. The index goes first: whoever
    /// books damage into the ledger and then asks the index misses no change of either.
    fn book(&self, staged: &Staged) {
        let shared = &self.shared;
        let (segment, end) = self.place;
        shared.index.apply(staged.changes.iter().map(Booking::change));
        let mut deaths = Vec::new();
        {
            let mut ledger = lock(&shared.ledger);
            ledger.reach(segment, self.end - end, end);
            for booking in &staged.changes {
                deaths.extend(booking.settle(&mut ledger));
            }
        }
        if staged.remains_bytes > 0 {
            deaths.push((segment, staged.remains_bytes));
        }
        shared.compaction.died(deaths, shared.clock.monotonic(), shared.options.grace);
        shared.compaction.appended(staged.appended_bytes);
        shared.compaction.moved(staged.moved_bytes);
        shared.end.store(self.end, Ordering::Release);
        if shared.options.breaks(Bug::DurableBeforeSync) {
            shared.durable.store(self.end, Ordering::Release);
        }
        shared.meter.appends.increment(staged.shards);
        shared.meter.append_bytes.increment(staged.payload_bytes);
        shared.meter.compaction_moved_bytes.increment(staged.moved_bytes);
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
        if !self.shared.options.breaks(Bug::SyncSkipped)
            && let Err(error) = self.timed_sync(&*active.file)
        {
            return Err(self.write_failed(&error, "a sync failed"));
        }
        self.shared.durable.store(self.end, Ordering::Release);
        Ok(())
    }

    fn checkpoint_if_due(&mut self) {
        let options = &self.shared.options;
        let now = self.shared.clock.monotonic();
        let changes = self.shared.index.changes();
        let aged = now >= self.checkpoint_due
            && (self.end > self.checkpoint_position || self.shared.compaction.has_condemned());
        let due = self.end - self.checkpoint_position >= options.checkpoint_log_bytes
            || changes >= options.checkpoint_changes
            || self.checkpoint_wanted
            || aged;
        // redb gives up for good when space runs out under it: rather replay more log later.
        if due
            && !self.shared.index.is_frozen()
            && self.shared.health.check_write().is_ok()
            && self.shared.has_room(checkpoint_bytes(changes))
        {
            // A failure has changed the disk's health, and is told there.
            let _ = self.begin_checkpoint();
        }
    }

    /// Syncs the log, freezes the changes and hands them to the checkpoint thread. `false` while
    /// an earlier checkpoint is under way.
    fn begin_checkpoint(&mut self) -> Result<bool, ShardError> {
        if !self.shared.options.breaks(Bug::IndexBeforeData) {
            self.sync()?;
        }
        if !self.shared.index.freeze() {
            return Ok(false);
        }
        let (segment, offset) = self.place;
        let uuid = self.shared.identity.uuid;
        let checkpoint = Checkpoint { uuid, segment, offset, position: self.end };
        let mut saved = SavedIndex { checkpoint: Some(checkpoint), ..SavedIndex::default() };
        // The cursor before the damage: what it has passed is then known to the ledger.
        saved.scrub.clone_from(&lock(&self.shared.scrub_state));
        lock(&self.shared.ledger).save(&mut saved);
        // All that made these segments free was booked by this thread: it is in what is frozen.
        self.checkpointer.write(saved, self.shared.compaction.condemned());
        self.checkpoint_wanted = false;
        self.checkpoint_position = self.end;
        self.checkpoint_due = self.shared.clock.monotonic() + self.shared.options.checkpoint_age;
        Ok(true)
    }

    /// Takes a checkpoint and waits until it is durable.
    fn checkpoint_now(&mut self) -> Result<(), ShardError> {
        self.shared.health.check_write()?;
        self.checkpointer.wait();
        if !self.begin_checkpoint()? {
            // The one before it never ended, though it was waited for.
            self.shared.health.check_write()?;
            return Err(ShardError::Failed(self.shared.identity.disk));
        }
        self.checkpointer.wait();
        self.shared.health.check_write()
    }
}
