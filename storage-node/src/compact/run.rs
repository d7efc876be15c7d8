//! Compacts one segment: reads it from front to back, hands what is needed to the writer, and
//! condemns the segment when nothing of it is needed any more.
//!
//! What is needed is decided twice: here, so that what is garbage isn't read, and by the writer
//! when the record's turn comes. What is neither live nor provably dead ends the work on the
//! segment, for good and loudly (I-9).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::checksum::blocks_verify;
use model::ids::ShardId;
use model::shard::ShardError;
use tokio::sync::oneshot;
use wire::disk::DiskFile;

use super::plan::{Candidate, Situation, choose};
use super::{Shared, quarantine, survey};
use crate::index::{DamagedRegion, IndexError, Location, SegmentUse};
use crate::lock::lock;
use crate::segment::{
    Kind, Patient, RECORD_HEADER_BYTES, RecordHeader, SEGMENT_HEADER_BYTES, Scanned, Scanner, Seal,
    distrust,
};
use crate::store::{Job, JobKind, Move, Queue, ShardMove, checkpoint_bytes};
use crate::switches::Bug;
use crate::sync::wait;

/// Bytes that are handed to the writer at once: what a client may have to wait behind.
const BATCH_BYTES: u64 = 1 << 20;
/// Records that are handed over at once.
const BATCH_RECORDS: usize = 1024;
/// How long a segment that couldn't be read is left alone.
const AVOID: Duration = Duration::from_mins(10);

/// Waits until so many bytes may be copied; `false` when the work is to end.
pub(super) type Pacer<'a> = dyn FnMut(u64) -> bool + 'a;

/// Why the work on a segment ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum Halt {
    /// The disk is closing.
    #[error("the disk is closing")]
    Stopped,
    /// The writer refused.
    #[error(transparent)]
    Refused(#[from] ShardError),
    /// The segment can't be read, or its damage not be kept aside.
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A record is neither live nor provably dead: the index isn't to be believed.
    #[error("nothing proves that the record of shard {0} at {1} is garbage")]
    Unproven(ShardId, u64),
}

/// What may be chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope {
    /// The least part of a segment that must be garbage while there is space.
    pub(super) percent: u8,
    /// No segment behind this one.
    pub(super) highest: u64,
    /// Bytes a second that may be read to find out what tombstones guard; `None` for any number.
    pub(super) survey_rate: Option<u64>,
}

/// Chooses the next segment; the one that was written last is never taken.
pub(super) fn next(shared: &Shared, scope: &Scope) -> Option<u64> {
    shared.look_at_space();
    let now = shared.clock.monotonic();
    let untouchable = shared.compaction.untouchable(now);
    let unripe = lock(&shared.compaction.deaths).unripe(now);
    let (segments, watched, end) = {
        let ledger = lock(&shared.ledger);
        (ledger.segments(), ledger.watched_segments(), shared.end())
    };
    let last = segments.last().map(|(number, _)| *number);
    let count = segments.len() as u64;
    let mut candidates = Vec::new();
    for (segment, used) in segments {
        let is_open = Some(segment) == last || segment > scope.highest;
        if is_open || untouchable.contains(&segment) || watched.contains(&segment) {
            continue;
        }
        let droppable = droppable(shared, segment, &used, count, scope.survey_rate);
        let bytes = used.end.saturating_sub(SEGMENT_HEADER_BYTES);
        let recent = unripe.get(&segment).copied().unwrap_or(0);
        candidates.push(Candidate {
            segment,
            bytes,
            live: used.live_bytes,
            kept: used.tombstone_bytes.saturating_sub(droppable) + recent,
            shards: used.shards,
            age: end.saturating_sub(used.start + used.end),
        });
    }
    choose(&candidates, &situation(shared), scope.percent)
}

/// Bytes of a segment's tombstones that may be dropped.
fn droppable(
    shared: &Shared,
    segment: u64,
    used: &SegmentUse,
    segments: u64,
    rate: Option<u64>,
) -> u64 {
    let last = lock(&shared.compaction.surveys).get(&segment).copied();
    let removed = shared.compaction.report().segments;
    let now = shared.clock.monotonic();
    let may = rate.is_none() || shared.compaction.may_survey(now);
    if !may || !survey::is_due(used, last.as_ref(), removed, segments, now) {
        return last.map_or(0, |last| last.droppable.min(used.tombstone_bytes));
    }
    match survey::survey(shared, segment, used) {
        Ok(found) => {
            shared.compaction.surveyed(now, used.end, rate);
            lock(&shared.compaction.surveys).insert(segment, found);
            found.droppable.min(used.tombstone_bytes)
        }
        Err(error) => {
            give_up(shared, segment, &Halt::Io(error));
            0
        }
    }
}

pub(super) fn situation(shared: &Shared) -> Situation {
    let space = *lock(&shared.space);
    Situation {
        free: space.free_bytes,
        checkpoint: checkpoint_bytes(shared.index.changes()),
        coming: shared.compaction.condemned_bytes(),
        reserve: shared.options.reserve(space.capacity_bytes),
    }
}

/// Compacts everything that holds garbage which may go, as fast as it goes.
pub(crate) fn reclaim_all(shared: &Shared, queue: &Queue) -> Result<(), ShardError> {
    let _turn = lock(&shared.compaction.turn);
    let before = lock(&shared.ledger).highest_segment().unwrap_or(0);
    let scope = Scope { percent: 1, highest: before, survey_rate: None };
    while let Some(segment) = next(shared, &scope) {
        match compact(shared, queue, segment, &mut |_| true) {
            Err(Halt::Refused(error)) => return Err(error),
            Err(Halt::Stopped) => return Err(ShardError::Failed(shared.identity.disk)),
            _ => {}
        }
    }
    Ok(())
}

/// Compacts a segment, and tells of what goes wrong.
pub(super) fn compact(
    shared: &Shared,
    queue: &Queue,
    segment: u64,
    pacer: &mut Pacer<'_>,
) -> Result<(), Halt> {
    let Some(used) = lock(&shared.ledger).used(segment) else {
        return Ok(());
    };
    let outcome = Work::begin(shared, queue, segment, used, pacer).and_then(Work::run);
    if let Err(halt) = &outcome {
        give_up(shared, segment, halt);
    }
    outcome
}

fn give_up(shared: &Shared, segment: u64, halt: &Halt) {
    let disk = shared.identity.disk;
    match halt {
        Halt::Stopped => return,
        Halt::Unproven(..) => {
            shared.meter.failure("unproven");
            tracing::error!(%disk, segment, %halt, "a segment is not compacted");
            return shared.compaction.avoid(segment, Duration::MAX);
        }
        Halt::Index(error) => {
            // It is told where the disk's health is kept.
            let _ = shared.index_failed(error);
        }
        Halt::Refused(_) => {
            tracing::debug!(%disk, segment, %halt, "a segment is not compacted now");
        }
        Halt::Io(_) => {
            shared.meter.failure("compaction");
            tracing::warn!(%disk, segment, %halt, "a segment is not compacted now");
        }
    }
    shared.compaction.avoid(segment, shared.clock.monotonic() + AVOID);
}

/// One segment that is compacted.
struct Work<'a> {
    shared: &'a Shared,
    queue: &'a Queue,
    segment: u64,
    used: SegmentUse,
    /// `None` when it went missing.
    file: Option<Arc<Patient>>,
    seal: Seal,
    pacer: &'a mut Pacer<'a>,
    batch: Vec<Move>,
    batch_bytes: u64,
    regions: Vec<DamagedRegion>,
}

impl<'a> Work<'a> {
    fn begin(
        shared: &'a Shared,
        queue: &'a Queue,
        segment: u64,
        used: SegmentUse,
        pacer: &'a mut Pacer<'a>,
    ) -> Result<Self, Halt> {
        let file = match shared.files.get(segment) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            other => {
                let file = other?;
                let length = file.length()?;
                // A bad page among garbage is no reason to keep what lies around it.
                Some(Arc::new(Patient::new(file, length)))
            }
        };
        let seal = Seal::new(&shared.identity, segment);
        let (batch, regions) = (Vec::new(), Vec::new());
        Ok(Self { shared, queue, segment, used, file, seal, pacer, batch, batch_bytes: 0, regions })
    }

    fn run(mut self) -> Result<(), Halt> {
        let file = self.file.clone();
        if let Some(file) = &file {
            self.carry_records(file)?;
            file.forget_cached(0, self.used.end);
        }
        if file.is_none() || self.is_in_doubt() {
            self.carry_what_was_not_seen()?;
        }
        let left = lock(&self.shared.ledger).used(self.segment).unwrap_or_default();
        if left.shards > 0 || left.tombstone_bytes > 0 {
            // Damaged live records hold it, until they are repaired or deleted.
            if !lock(&self.shared.ledger).watched_segments().contains(&self.segment) {
                let until = self.shared.clock.monotonic() + AVOID;
                self.shared.compaction.avoid(self.segment, until);
            }
            tracing::warn!(
                disk = %self.shared.identity.disk, segment = self.segment, shards = left.shards,
                "a segment is kept for its damaged shards"
            );
            return Ok(());
        }
        let mut bytes = 0;
        if let Some(file) = &file {
            quarantine::save(self.shared, &**file, &self.regions)?;
            bytes = file.length()?;
        }
        self.shared.compaction.condemn(self.segment, bytes);
        if self.shared.options.breaks(Bug::SegmentRemovedEarly) {
            super::free(self.shared, &[self.segment]);
        }
        Ok(())
    }

    fn carry_records(&mut self, file: &Arc<Patient>) -> Result<(), Halt> {
        let end = self.used.end.min(file.length()?);
        let mut scanner = self.scanner(file, SEGMENT_HEADER_BYTES, end);
        while let Some(item) = scanner.advance()? {
            match item {
                Scanned::Record { offset, header } => self.record(offset, &header)?,
                Scanned::Damage { offset, bytes, .. } => self.look_again(file, offset, bytes)?,
            }
        }
        self.send()
    }

    fn scanner(&self, file: &Arc<Patient>, from: u64, end: u64) -> Scanner {
        let reader = Arc::clone(file);
        Scanner::new(reader, self.seal, Some(self.used.start), from, end)
    }

    /// No header was found here: what the device says counts, and not what memory made of it.
    fn look_again(&mut self, file: &Arc<Patient>, offset: u64, bytes: u64) -> Result<(), Halt> {
        distrust(&**file, offset, bytes);
        let mut scanner = self.scanner(file, offset, offset + bytes);
        while let Some(item) = scanner.advance()? {
            match item {
                Scanned::Record { offset, header } => {
                    self.shared.was_a_flip(header.id, &self.location(offset, &header));
                    self.record(offset, &header)?;
                }
                Scanned::Damage { offset, bytes, zero } => {
                    let zero = zero && !file.is_unreadable(offset, bytes);
                    self.region(offset, bytes, zero);
                }
            }
        }
        Ok(())
    }

    fn region(&mut self, offset: u64, bytes: u64, zero: bool) {
        let region = DamagedRegion { segment: self.segment, offset, bytes };
        self.shared.damaged(region);
        if !zero {
            self.regions.push(region);
        }
    }

    fn record(&mut self, offset: u64, header: &RecordHeader) -> Result<(), Halt> {
        match header.kind {
            Kind::Shard => self.shard(offset, header),
            Kind::Remains => {
                let tombstone = self.shared.index.tombstone(header.id.extent)?;
                if tombstone.is_some_and(|kept| !self.shared.is_ripe(kept.deleted)) {
                    self.push_shard(offset, header)?;
                }
                Ok(())
            }
            Kind::Tombstone => {
                let (segment, offset) = (self.segment, offset as u32);
                let extent = header.id.extent;
                self.push(Move::Tombstone { extent, segment, offset }, header.record_bytes())
            }
            Kind::Mark => Ok(()),
        }
    }

    fn shard(&mut self, offset: u64, header: &RecordHeader) -> Result<(), Halt> {
        let here = self.location(offset, header);
        match self.shared.index.get(header.id)? {
            Some(place) if place == here => {
                if !self.push_shard(offset, header)? {
                    self.damaged(header.id, here)?;
                }
                Ok(())
            }
            Some(place) if (place.segment, place.offset) != (here.segment, here.offset) => Ok(()),
            Some(_) => Err(Halt::Unproven(header.id, offset)),
            None => match self.shared.index.tombstone(header.id.extent)? {
                Some(tombstone) if header.position < tombstone.before => {
                    if !self.shared.is_ripe(tombstone.deleted) {
                        self.push_shard(offset, header)?;
                    }
                    Ok(())
                }
                _ => Err(Halt::Unproven(header.id, offset)),
            },
        }
    }

    fn location(&self, offset: u64, header: &RecordHeader) -> Location {
        Location {
            segment: self.segment,
            offset: offset as u32,
            record_bytes: header.record_bytes() as u32,
            payload_bytes: header.payload_bytes,
        }
    }

    /// The live record of a shard isn't sound: it stays where it is and is told of.
    fn damaged(&mut self, id: ShardId, here: Location) -> Result<(), Halt> {
        self.shared.shard_damaged(id, here)?;
        self.shared.damaged(DamagedRegion {
            segment: here.segment,
            offset: u64::from(here.offset),
            bytes: u64::from(here.record_bytes),
        });
        Ok(())
    }

    /// Hands over a shard, or what remains of one, if every byte of it is sound.
    fn push_shard(&mut self, offset: u64, header: &RecordHeader) -> Result<bool, Halt> {
        let Some(file) = self.file.clone() else {
            return Ok(false);
        };
        let mut sound = self.sound_shard(&file, offset, header)?;
        if sound.is_none() {
            distrust(&*file, offset, header.record_bytes());
            sound = self.sound_shard(&file, offset, header)?;
            if let Some(record) = &sound {
                self.shared.was_a_flip(header.id, &record.from);
            }
        }
        let Some(record) = sound else {
            return Ok(false);
        };
        self.push(Move::Shard(record), header.record_bytes())?;
        Ok(true)
    }

    /// A record of a shard, read once; `None` when a byte of it is wrong.
    fn sound_shard(
        &self,
        file: &Patient,
        offset: u64,
        header: &RecordHeader,
    ) -> Result<Option<ShardMove>, Halt> {
        let mut whole = vec![0u8; header.payload_at() + header.payload_bytes as usize];
        if file.read_at(&mut whole, offset)? < whole.len() {
            return Ok(None);
        }
        let whole = Bytes::from(whole);
        // The header is read again with the rest: what was verified is what is copied.
        if RecordHeader::decode(self.seal, &whole) != Some(*header) {
            return Ok(None);
        }
        let body = whole.slice(RECORD_HEADER_BYTES..header.payload_at());
        let payload = whole.slice(header.payload_at()..);
        let Some(checksums) = header.checksums(self.seal, &body) else {
            return Ok(None);
        };
        if !blocks_verify(header.id, 0, &payload, &checksums) {
            return Ok(None);
        }
        let owner = body.slice(..usize::from(header.owner_bytes));
        let from = self.location(offset, header);
        Ok(Some(ShardMove { from, header: *header, owner, checksums, payload }))
    }

    fn push(&mut self, record: Move, bytes: u64) -> Result<(), Halt> {
        self.batch.push(record);
        self.batch_bytes += bytes;
        if self.batch_bytes >= BATCH_BYTES || self.batch.len() >= BATCH_RECORDS {
            self.send()?;
        }
        Ok(())
    }

    /// Hands the batch to the writer and waits until it is done with it.
    fn send(&mut self) -> Result<(), Halt> {
        let records = std::mem::take(&mut self.batch);
        let bytes = std::mem::take(&mut self.batch_bytes);
        if !(self.pacer)(bytes) {
            return Err(Halt::Stopped);
        }
        if records.is_empty() {
            return Ok(());
        }
        let (answer, answered) = oneshot::channel();
        let job = Job { kind: JobKind::Move { records }, answer, permit: None };
        self.queue.push(job).map_err(|_| Halt::Stopped)?;
        wait(answered).map_err(|_| Halt::Stopped)??;
        Ok(())
    }

    /// Whether something live or needed may lie where no sound header was found.
    fn is_in_doubt(&self) -> bool {
        let left = lock(&self.shared.ledger).used(self.segment).unwrap_or_default();
        !self.regions.is_empty() || left.shards > 0 || left.tombstone_bytes > 0
    }

    /// Asks the whole index what it still has here: shards whose headers are damaged are told of,
    /// and tombstones are written again from what the index knows.
    fn carry_what_was_not_seen(&mut self) -> Result<(), Halt> {
        for (id, place) in self.shared.index.in_segment(self.segment)? {
            match self.shared.sound_record(&place) {
                Some((header, _)) if header.id == id => {
                    return Err(Halt::Unproven(id, u64::from(place.offset)));
                }
                _ => self.damaged(id, place)?,
            }
        }
        for (extent, tombstone) in self.shared.index.tombstones_in_segment(self.segment)? {
            let (segment, offset) = (tombstone.segment, tombstone.offset);
            let bytes = RECORD_HEADER_BYTES as u64;
            self.push(Move::Tombstone { extent, segment, offset }, bytes)?;
        }
        self.send()
    }
}
