//! Reading the log from a checkpoint on, into index and ledger, and finding its end.
//!
//! Nothing on the disk is changed here. What counts as torn and what as damage is FORMAT.md's
//! "Torn tail or corruption" (reliability R8). A page that the device doesn't give is damage where the
//! log is known to have been durable, and a reason not to open behind that: nobody can say whether
//! the log went on there.

use std::sync::Arc;
use std::time::Duration;

use model::ids::Incarnation;
use model::shard::LogPosition;
use model::time::Timestamp;
use wire::disk::{Disk, DiskFile, OpenMode};

use super::ledger::Ledger;
use super::recover::{OpenError, refusal};
use crate::index::{Change, Checkpoint, DamagedRegion, Index, Location, SavedIndex, Tombstone};
use crate::options::{DiskIdentity, StoreOptions};
use crate::segment::scanner::verify_record;
use crate::segment::{
    Kind, Patient, RecordHeader, SEGMENT_HEADER_BYTES, Scanned, Scanner, Seal, SegmentHeader,
    segment_name,
};
use crate::switches::Bug;

/// What replay fills.
pub(super) struct Replay<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) identity: DiskIdentity,
    pub(super) index: &'a Index,
    pub(super) ledger: &'a mut Ledger,
    pub(super) options: &'a StoreOptions,
    /// Kept with the checkpoints that a long replay takes.
    pub(super) scrub: &'a [u8],
    pub(super) now: Timestamp,
}

/// Where the log ends.
#[derive(Debug, Default)]
pub(super) struct ReplayEnd {
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) position: LogPosition,
    /// The offset in the last segment up to which the log is known to be durable.
    pub(super) durable: u64,
    /// The length of the last segment's file, when it is to be cut and synced.
    pub(super) tail_length: Option<u64>,
    /// Whether the last segment's header can't be read, and so not be written again.
    pub(super) header_unreadable: bool,
    /// Files that a crash left before their header was written.
    pub(super) unborn: Vec<u64>,
    /// The highest incarnation seen.
    pub(super) incarnation: Incarnation,
}

struct Found {
    number: u64,
    file: Arc<Patient>,
    length: u64,
    header: Option<SegmentHeader>,
}

impl Replay<'_> {
    pub(super) fn run(
        mut self,
        segments: &[u64],
        from: Option<Checkpoint>,
    ) -> Result<ReplayEnd, OpenError> {
        let mut end = ReplayEnd::default();
        if let Some(checkpoint) = from {
            end.segment = checkpoint.segment;
            end.offset = checkpoint.offset;
            end.position = checkpoint.position;
        }
        let mut found = Vec::new();
        for number in segments.iter().filter(|number| **number >= end.segment) {
            found.push(self.look_at(*number)?);
        }
        for number in segments.iter().filter(|number| **number < end.segment) {
            if !self.ledger.knows(*number) {
                // Whose it is decides whether the disk may be opened; it isn't ours to read.
                self.look_at(*number)?;
                self.damaged(*number, 0, 0);
            }
        }
        while let Some(last) = found.last()
            && last.number > end.segment
            && last.header.is_none()
            && last.length <= SEGMENT_HEADER_BYTES
            && all_zero(&last.file)?
        {
            end.unborn.extend(found.pop().map(|last| last.number));
        }
        for at in 0..found.len() {
            let (this, next) = (&found[at], found.get(at + 1));
            self.segment(this, next, from, &mut end)?;
            if next.is_some() && self.index.changes() > self.options.checkpoint_changes {
                self.save(&end)?;
            }
        }
        Ok(end)
    }

    /// Opens a segment and reads its header, which must be ours or damaged.
    fn look_at(&self, number: u64) -> Result<Found, OpenError> {
        let name = segment_name(number);
        let file = self.disk.open(&name, OpenMode::Read)?;
        let length = file.length()?;
        let file = Arc::new(Patient::new(file, length));
        let mut bytes = [0u8; SEGMENT_HEADER_BYTES as usize];
        let count = file.read_at(&mut bytes, 0)?;
        let header = match SegmentHeader::decode(&bytes[..count]) {
            Ok(header) if header.identity != self.identity || header.segment != number => {
                return Err(OpenError::ForeignSegment(name));
            }
            Ok(header) => Some(header),
            Err(error) => match refusal(error, name) {
                Some(refused) => return Err(refused),
                None => None,
            },
        };
        Ok(Found { number, file, length, header })
    }

    fn segment(
        &mut self,
        this: &Found,
        next: Option<&Found>,
        from: Option<Checkpoint>,
        end: &mut ReplayEnd,
    ) -> Result<(), OpenError> {
        let checkpoint = from.filter(|checkpoint| checkpoint.segment == this.number);
        let seal = Seal::new(&self.identity, this.number);
        let begin = checkpoint.map_or(SEGMENT_HEADER_BYTES, |checkpoint| checkpoint.offset);
        let start = checkpoint
            .map(|checkpoint| checkpoint.position - checkpoint.offset)
            .or(this.header.map(|header| header.start));
        // Where segments in between have been removed, the successor tells no more of the end; but
        // a closed segment was cut to its end.
        let closed_at = next
            .and_then(|next| {
                let bytes = next.header?.start.checked_sub(start?)?;
                let adjacent = next.number == this.number + 1;
                Some(if adjacent { bytes } else { bytes.min(this.length) })
            })
            .filter(|bytes| *bytes >= begin);
        let limit = closed_at.map_or(this.length, |bytes| bytes.min(this.length));
        let file = Arc::clone(&this.file);
        let mut scanner = Scanner::new(file, seal, start, begin, limit);
        if let Some(header) = this.header {
            end.incarnation = end.incarnation.max(header.incarnation);
        } else {
            self.damaged(this.number, 0, SEGMENT_HEADER_BYTES);
        }
        end.segment = this.number;
        end.header_unreadable = this.file.is_unreadable(0, SEGMENT_HEADER_BYTES);
        let end_at = if next.is_some() {
            self.closed(this, &mut scanner, begin, closed_at)?
        } else if !end.unborn.is_empty() {
            // A successor is made only when this one has been cut and synced.
            end.durable = self.closed(this, &mut scanner, begin, None)?;
            end.durable
        } else {
            let known = checkpoint.map_or(0, |known| known.position);
            self.open(this, &mut scanner, begin, known, &mut end.durable)?
        };
        let Some(start) = scanner.start() else {
            // Neither header nor any record is left. It is kept as it is.
            let lost = this.length.max(SEGMENT_HEADER_BYTES);
            self.damaged(this.number, 0, lost);
            end.offset = lost;
            end.position += lost;
            self.ledger.reach(this.number, end.position - lost, lost);
            end.tail_length = None;
            return Ok(());
        };
        self.ledger.reach(this.number, start, end_at);
        end.offset = end_at;
        end.position = start + end_at;
        end.tail_length = if next.is_some() { None } else { Some(this.length) };
        Ok(())
    }

    /// A segment that was closed: all of it was durable, and what isn't sound is damage. Gives
    /// its end.
    fn closed(
        &mut self,
        this: &Found,
        scanner: &mut Scanner,
        begin: u64,
        closed_at: Option<u64>,
    ) -> Result<u64, OpenError> {
        let mut reached = begin;
        // Zeros at the end, where no successor tells of it, may be reserved space.
        let mut zeros = None;
        while let Some(item) = scanner.advance()? {
            if let Some((offset, bytes)) = zeros.take() {
                self.damaged(this.number, offset, bytes);
            }
            match item {
                Scanned::Record { offset, header } => {
                    self.apply(this, scanner.start(), offset, &header)?;
                    reached = offset + header.record_bytes();
                }
                Scanned::Damage { offset, bytes, zero: true }
                    if closed_at.is_none() && !this.file.is_unreadable(offset, bytes) =>
                {
                    zeros = Some((offset, bytes));
                }
                Scanned::Damage { offset, bytes, .. } => {
                    if scanner.start().is_some() {
                        self.damaged(this.number, offset, bytes);
                    }
                    reached = offset + bytes;
                }
            }
        }
        let end = closed_at.unwrap_or(reached);
        if reached < end {
            self.damaged(this.number, reached, end - reached);
        }
        Ok(end)
    }

    /// The segment that was written to last, durable up to `known` at least. Gives the offset at
    /// which the log ends, and puts the one up to which it is known to be durable in `durable_to`.
    fn open(
        &mut self,
        this: &Found,
        scanner: &mut Scanner,
        begin: u64,
        known: LogPosition,
        durable_to: &mut u64,
    ) -> Result<u64, OpenError> {
        let mut again = scanner.clone();
        let mut durable = known;
        while let Some(item) = scanner.advance()? {
            if let Scanned::Record { header, .. } = item {
                durable = durable.max(header.durable);
            }
        }
        let Some(start) = scanner.start() else {
            readable_from(this, begin)?;
            return Ok(begin);
        };
        let durable = durable.saturating_sub(start).clamp(begin, this.length.max(begin));
        *durable_to = durable;
        readable_from(this, durable)?;
        let seal = scanner.seal();
        let mut reached = begin;
        while let Some(item) = again.advance()? {
            match item {
                Scanned::Record { offset, header } => {
                    if offset >= durable
                        && !self.options.breaks(Bug::TornTailAccepted)
                        && !verify_record(&*this.file, seal, offset, &header)?
                    {
                        // The payloads are read only here.
                        readable_from(this, durable)?;
                        return Ok(self.torn(this, offset));
                    }
                    self.apply(this, Some(start), offset, &header)?;
                    reached = offset + header.record_bytes();
                }
                Scanned::Damage { offset, .. } if offset >= durable => {
                    readable_from(this, durable)?;
                    return Ok(self.torn(this, offset));
                }
                Scanned::Damage { offset, bytes, .. } => {
                    // Up to the durable position it is damage; behind that it was never promised.
                    let is_last = offset + bytes >= this.length;
                    let bytes = if is_last { durable - offset } else { bytes };
                    self.damaged(this.number, offset, bytes);
                    reached = offset + bytes;
                }
            }
        }
        readable_from(this, durable)?;
        Ok(reached)
    }

    fn torn(&self, this: &Found, offset: u64) -> u64 {
        tracing::debug!(
            disk = %self.identity.disk, segment = this.number, offset,
            bytes = this.length - offset, "the log is cut behind its last sound record"
        );
        offset
    }

    fn apply(
        &mut self,
        this: &Found,
        start: Option<LogPosition>,
        offset: u64,
        header: &RecordHeader,
    ) -> Result<(), OpenError> {
        let segment = this.number;
        // Known from the first record on, if not from the segment's header.
        let start = start.unwrap_or(header.position.saturating_sub(offset));
        self.ledger.reach(segment, start, SEGMENT_HEADER_BYTES);
        let location = Location {
            segment,
            offset: offset as u32,
            record_bytes: header.record_bytes() as u32,
            payload_bytes: header.payload_bytes,
        };
        match header.kind {
            Kind::Shard => {
                if let Some(before) = self.index.get(header.id)? {
                    self.ledger.superseded(header.id, &before);
                }
                self.ledger.live(&location);
                self.index.apply([Change::Shard(header.id, Some(location))]);
                if this.file.is_unreadable(offset, header.record_bytes()) {
                    self.damaged(segment, offset, header.record_bytes());
                    self.ledger.shard_damaged(header.id, location);
                }
            }
            Kind::Tombstone => self.tombstone(&location, header)?,
            Kind::Mark | Kind::Remains => {}
        }
        Ok(())
    }

    /// Deletes what lies before the tombstone, and keeps it if it guards anything: as in operation
    /// (`log/stage.rs`), but that its record may be one that was moved.
    fn tombstone(&mut self, location: &Location, header: &RecordHeader) -> Result<(), OpenError> {
        let extent = header.id.extent;
        let before = header.deletes_before();
        let mut dead = self.index.extent(extent)?;
        dead.retain(|(_, place)| self.ledger.position(place).is_none_or(|at| at < before));
        let earlier = self.index.tombstone(extent)?;
        let age = self.now.0.saturating_sub(header.appended.0);
        let is_ripe = Duration::from_nanos(age) >= self.options.grace;
        if dead.is_empty() && earlier.is_none() && is_ripe {
            return Ok(());
        }
        let mut tombstone = Tombstone {
            deleted: header.appended,
            before,
            segment: location.segment,
            offset: location.offset,
            graves: Vec::new(),
        };
        tombstone.bury(dead.iter().map(|(_, place)| place.segment));
        tombstone.bury(self.ledger.superseded_segments());
        let bytes = header.record_bytes();
        if let Some(earlier) = earlier {
            self.ledger.tombstone_dropped(earlier.segment, bytes);
            tombstone.before = before.max(earlier.before);
            tombstone.bury(earlier.graves);
        }
        for (id, place) in &dead {
            self.ledger.dead(*id, place);
        }
        self.ledger.tombstone_kept(location.segment, bytes);
        let deaths = dead.into_iter().map(|(id, _)| Change::Shard(id, None));
        self.index.apply(deaths.chain([Change::Tombstone(extent, Some(tombstone))]));
        Ok(())
    }

    fn damaged(&mut self, segment: u64, offset: u64, bytes: u64) {
        self.ledger.damaged(DamagedRegion { segment, offset, bytes });
    }

    /// Bounds the memory of a long replay. All before the end of a closed segment is durable.
    fn save(&self, end: &ReplayEnd) -> Result<(), OpenError> {
        let checkpoint = Checkpoint {
            uuid: self.identity.uuid,
            segment: end.segment,
            offset: end.offset,
            position: end.position,
        };
        self.index.freeze();
        let mut saved = SavedIndex {
            checkpoint: Some(checkpoint),
            scrub: self.scrub.to_vec(),
            ..SavedIndex::default()
        };
        self.ledger.save(&mut saved);
        self.index.commit(&saved)?;
        Ok(())
    }
}

/// Whether a file that is no longer than a header holds nothing: a crash came before its header
/// was written. A header lies in one sector, so it is there as a whole or not at all.
fn all_zero(file: &Patient) -> Result<bool, OpenError> {
    let mut bytes = [0u8; SEGMENT_HEADER_BYTES as usize];
    let count = file.read_at(&mut bytes, 0)?;
    Ok(bytes[..count].iter().all(|byte| *byte == 0) && !file.is_unreadable(0, SEGMENT_HEADER_BYTES))
}

/// Refuses a last segment of which something at or behind the durable position can't be read: it
/// may be sound and acknowledged, and must not be cut.
fn readable_from(this: &Found, durable: u64) -> Result<(), OpenError> {
    match this.file.unreadable_from(durable) {
        Some(at) => Err(OpenError::EndUnreadable(segment_name(this.number), at)),
        None => Ok(()),
    }
}
