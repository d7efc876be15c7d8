//! Reading the log from a checkpoint on, into index and ledger, and finding its end.
//!
//! Nothing on the disk is changed here. What counts as torn and what as damage is FORMAT.md's
//! "Torn tail or corruption" (reliability R8).

use std::io;
use std::sync::Arc;

use model::ids::Incarnation;
use model::shard::LogPosition;
use wire::disk::{Disk, DiskFile, OpenMode};

use super::ledger::Ledger;
use super::recover::{OpenError, refusal};
use crate::index::{Checkpoint, DamagedRegion, Index, Location, SavedIndex};
use crate::options::{DiskIdentity, StoreOptions};
use crate::segment::scanner::verify_record;
use crate::segment::{
    Kind, RecordHeader, SEGMENT_HEADER_BYTES, Scanned, Scanner, Seal, SegmentHeader, segment_name,
};

/// What replay fills.
pub(super) struct Replay<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) identity: DiskIdentity,
    pub(super) index: &'a Index,
    pub(super) ledger: &'a mut Ledger,
    pub(super) options: &'a StoreOptions,
}

/// Where the log ends.
#[derive(Debug, Default)]
pub(super) struct ReplayEnd {
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) position: LogPosition,
    /// The length of the last segment's file, when it is to be cut and synced.
    pub(super) tail_length: Option<u64>,
    /// Files that a crash left before their header was written.
    pub(super) unborn: Vec<u64>,
    /// The highest incarnation seen.
    pub(super) incarnation: Incarnation,
}

struct Found {
    number: u64,
    file: Arc<dyn DiskFile>,
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
            && all_zero(&*last.file)?
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
        let closed_at = next
            .and_then(|next| next.header?.start.checked_sub(start?))
            .filter(|bytes| *bytes >= begin);
        let limit = closed_at.map_or(this.length, |bytes| bytes.min(this.length));
        let mut scanner = Scanner::new(Arc::clone(&this.file), seal, start, begin, limit);
        let mut items = Vec::new();
        while let Some(item) = scanner.advance()? {
            items.push(item);
        }
        if let Some(header) = this.header {
            end.incarnation = end.incarnation.max(header.incarnation);
        } else {
            self.damaged(this.number, 0, SEGMENT_HEADER_BYTES);
        }
        end.segment = this.number;
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
        let end_at = if next.is_some() {
            self.closed(this.number, &items, begin, closed_at)?
        } else {
            let known = checkpoint.map_or(0, |checkpoint| checkpoint.position);
            let durable = items.iter().filter_map(record_header).map(|header| header.durable);
            let durable = durable.max().unwrap_or(0).max(known).saturating_sub(start);
            let durable = durable.clamp(begin, this.length.max(begin));
            self.open(this, seal, &items, durable, begin)?
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
        number: u64,
        items: &[Scanned],
        begin: u64,
        closed_at: Option<u64>,
    ) -> Result<u64, OpenError> {
        let mut reached = begin;
        for (at, item) in items.iter().enumerate() {
            match *item {
                Scanned::Record { offset, header } => {
                    self.apply(number, offset, &header)?;
                    reached = offset + header.record_bytes();
                }
                // Without a successor's word for the end, zeros there may be reserved space.
                Scanned::Damage { zero: true, .. }
                    if closed_at.is_none() && at + 1 == items.len() => {}
                Scanned::Damage { offset, bytes, .. } => {
                    self.damaged(number, offset, bytes);
                    reached = offset + bytes;
                }
            }
        }
        let end = closed_at.unwrap_or(reached);
        if reached < end {
            self.damaged(number, reached, end - reached);
        }
        Ok(end)
    }

    /// The segment that was written to last. Gives the offset at which the log ends.
    fn open(
        &mut self,
        this: &Found,
        seal: Seal,
        items: &[Scanned],
        durable: u64,
        begin: u64,
    ) -> Result<u64, OpenError> {
        let mut reached = begin;
        for item in items {
            match *item {
                Scanned::Record { offset, header } => {
                    if offset >= durable && !verify_record(&*this.file, seal, offset, &header)? {
                        return Ok(self.torn(this, offset));
                    }
                    self.apply(this.number, offset, &header)?;
                    reached = offset + header.record_bytes();
                }
                Scanned::Damage { offset, .. } if offset >= durable => {
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
        Ok(reached)
    }

    fn torn(&self, this: &Found, offset: u64) -> u64 {
        tracing::debug!(
            disk = %self.identity.disk, segment = this.number, offset,
            bytes = this.length - offset, "the log is cut behind its last sound record"
        );
        offset
    }

    fn apply(&mut self, segment: u64, offset: u64, header: &RecordHeader) -> Result<(), OpenError> {
        match header.kind {
            Kind::Shard => {
                let location = Location {
                    segment,
                    offset: offset as u32,
                    record_bytes: header.record_bytes() as u32,
                    payload_bytes: header.payload_bytes,
                };
                if let Some(before) = self.index.get(header.id)? {
                    self.ledger.dead(&before);
                }
                self.ledger.live(&location);
                self.index.apply([(header.id, Some(location))]);
            }
            Kind::Tombstone => {
                for (id, location) in self.index.extent(header.id.extent)? {
                    self.ledger.dead(&location);
                    self.index.apply([(id, None)]);
                }
            }
            Kind::Mark => {}
        }
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
        self.index.commit(&SavedIndex {
            checkpoint: Some(checkpoint),
            segments: self.ledger.segments(),
            damage: self.ledger.damage(),
        })?;
        Ok(())
    }
}

fn record_header(item: &Scanned) -> Option<&RecordHeader> {
    match item {
        Scanned::Record { header, .. } => Some(header),
        Scanned::Damage { .. } => None,
    }
}

/// Whether a file that is no longer than a header holds nothing: a crash came before its header
/// was written. A header lies in one sector, so it is there as a whole or not at all.
fn all_zero(file: &dyn DiskFile) -> io::Result<bool> {
    let mut bytes = [0u8; SEGMENT_HEADER_BYTES as usize];
    let count = file.read_at(&mut bytes, 0)?;
    Ok(bytes[..count].iter().all(|byte| *byte == 0))
}
