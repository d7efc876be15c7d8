//! Reads every segment from front to back and says what it holds.
//!
//! What is live follows from the records alone: a later record of the same shard takes the place of
//! an earlier one, a tombstone deletes what came before it. What counts as torn and what as damage
//! is FORMAT.md's "Torn tail or corruption".

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use model::coding::Coding;
use model::ids::ShardId;
use model::shard::LogPosition;
use wire::disk::DiskFile;

use super::Watch;
use super::directory::{OfflineError, SegmentFile, ShardsDirectory};
use crate::segment::scanner::verify_record;
use crate::segment::{
    Kind, Patient, RecordHeader, SEGMENT_HEADER_BYTES, Scanned, Scanner, Seal, segment_name,
};

/// Progress is told in steps of this.
const WATCH_BYTES: u64 = 1 << 20;

/// How much of each record is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Headers: enough to know what is live.
    Headers,
    /// Every byte, verified.
    Whole,
}

/// Where a live shard lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The segment.
    pub segment: u64,
    /// The record's first byte in it.
    pub offset: u64,
    /// The same in the log.
    pub position: LogPosition,
    /// Bytes of the record.
    pub record_bytes: u64,
    /// Bytes of the shard.
    pub payload_bytes: u32,
    /// Bytes of its whole stripe.
    pub stripe_bytes: u32,
    /// Its coding.
    pub coding: Coding,
}

/// How many records there are of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordCounts {
    /// Shards, live or not.
    pub shards: u64,
    /// Tombstones.
    pub tombstones: u64,
    /// Marks.
    pub marks: u64,
    /// Deleted shards that compaction carried along.
    pub remains: u64,
}

/// What a segment holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentSurvey {
    /// The file.
    pub file: SegmentFile,
    /// The log position of its first byte; `None` when neither header nor records tell.
    pub start: Option<LogPosition>,
    /// Where its records end.
    pub end: u64,
    /// Its records.
    pub records: RecordCounts,
    /// Live shards.
    pub live_shards: u64,
    /// Bytes of their records.
    pub live_bytes: u64,
}

impl SegmentSurvey {
    /// The live part of what was written, 0 to 1; `None` when nothing was.
    pub fn live_ratio(&self) -> Option<f64> {
        let written = self.end.checked_sub(SEGMENT_HEADER_BYTES).filter(|bytes| *bytes > 0)?;
        Some(self.live_bytes as f64 / written as f64)
    }
}

/// Something that isn't as it should be, or worth knowing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The segment.
    pub segment: u64,
    /// Where it begins in it.
    pub offset: u64,
    /// How far it reaches.
    pub bytes: u64,
    /// What it is.
    pub kind: FindingKind,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindingKind {
    /// The segment's header is damaged.
    Header,
    /// No sound record lies here.
    Region,
    /// A record whose header is sound and whose content isn't.
    Record {
        /// The shard.
        id: ShardId,
        /// Whether it is the shard's last word: then this disk has lost it.
        live: bool,
    },
    /// The file ends before the place where the next segment begins in the log.
    Cut,
    /// So many bytes of the segment can't be read from the device.
    Unreadable,
    /// What a crash left behind the last acknowledged record. No damage: it is cut off when the
    /// disk is opened.
    TornTail,
    /// A file that a crash left before its header was written. No damage.
    Unborn,
}

impl Finding {
    /// Whether something was lost.
    pub fn is_damage(&self) -> bool {
        match self.kind {
            FindingKind::Header
            | FindingKind::Region
            | FindingKind::Record { .. }
            | FindingKind::Cut
            | FindingKind::Unreadable => true,
            FindingKind::TornTail | FindingKind::Unborn => false,
        }
    }
}

/// What a directory holds.
#[derive(Clone, Debug)]
pub struct Survey {
    /// How deep it was looked into.
    pub depth: Depth,
    /// Its segments, in the order of the log.
    pub segments: Vec<SegmentSurvey>,
    /// Its live shards.
    pub live: BTreeMap<ShardId, Place>,
    /// What was found, in the order of the log.
    pub findings: Vec<Finding>,
}

impl Survey {
    /// The findings that are damage.
    pub fn damage(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.is_damage())
    }

    /// Bytes of the live shards' records.
    pub fn live_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.live_bytes).sum()
    }

    /// Bytes of the log that aren't live.
    pub fn garbage_bytes(&self) -> u64 {
        let written = |s: &SegmentSurvey| s.end.saturating_sub(SEGMENT_HEADER_BYTES);
        self.segments.iter().map(written).sum::<u64>().saturating_sub(self.live_bytes())
    }
}

/// Reads the segments. `watch` is told of [`ShardsDirectory::bytes`] bytes in the end.
pub fn survey(
    directory: &ShardsDirectory,
    depth: Depth,
    watch: Watch<'_>,
) -> Result<Survey, OfflineError> {
    let survey = Survey {
        depth,
        segments: Vec::with_capacity(directory.segments().len()),
        live: BTreeMap::new(),
        findings: Vec::new(),
    };
    let mut surveyor = Surveyor { directory, survey, watch };
    let files = directory.segments();
    let born = files.len() - surveyor.unborn(files)?;
    for at in 0..born {
        let next = (at + 1 < born).then(|| &files[at + 1]);
        surveyor.segment(&files[at], next)?;
    }
    for unborn in &files[born..] {
        (surveyor.watch)(unborn.bytes);
    }
    Ok(surveyor.finish())
}

struct Surveyor<'a> {
    directory: &'a ShardsDirectory,
    survey: Survey,
    watch: Watch<'a>,
}

/// A segment being read.
struct Reading {
    number: u64,
    file: Arc<Patient>,
    seal: Seal,
    /// Where the log ends in it at the latest.
    limit: u64,
    /// Offset up to which everything was durable once; the whole of a closed segment.
    durable: u64,
    is_last: bool,
    /// Whether the next segment says where this one ends.
    has_known_end: bool,
}

impl Surveyor<'_> {
    /// How many files at the end a crash left before their header was written.
    fn unborn(&mut self, files: &[SegmentFile]) -> Result<usize, OfflineError> {
        let mut count = 0;
        for file in files.iter().rev() {
            if file.header.is_some() || file.bytes > SEGMENT_HEADER_BYTES {
                break;
            }
            let mut bytes = [0u8; SEGMENT_HEADER_BYTES as usize];
            let name = segment_name(file.number);
            let read = self.directory.content(file)?.read_at(&mut bytes, 0);
            let filled = read.map_err(|error| OfflineError::Io(name, error))?;
            if bytes[..filled].iter().any(|byte| *byte != 0) {
                break;
            }
            self.found(file.number, 0, file.bytes, FindingKind::Unborn);
            count += 1;
        }
        Ok(count)
    }

    fn segment(
        &mut self,
        this: &SegmentFile,
        next: Option<&SegmentFile>,
    ) -> Result<(), OfflineError> {
        let failed = |error| scan_failed(this.number, error);
        let file = self.directory.content(this)?;
        let seal = Seal::new(&self.directory.identity, this.number);
        let start = this.header.map(|header| header.start);
        // Only a direct successor begins where this one ends: those between may be compacted away.
        let closed_at = next
            .filter(|next| next.number == this.number + 1)
            .and_then(|next| next.header?.start.checked_sub(start?))
            .filter(|bytes| *bytes >= SEGMENT_HEADER_BYTES);
        let limit = closed_at.map_or(this.bytes, |bytes| bytes.min(this.bytes));
        let mut reading = Reading {
            number: this.number,
            file,
            seal,
            limit,
            durable: u64::MAX,
            is_last: next.is_none(),
            has_known_end: closed_at.is_some(),
        };
        if reading.is_last {
            reading.durable = reading.durable_offset(start).map_err(failed)?;
        }
        if this.header.is_none() {
            let bytes = SEGMENT_HEADER_BYTES.min(this.bytes);
            self.found(this.number, 0, bytes, FindingKind::Header);
        }
        let mut segment = SegmentSurvey {
            file: *this,
            start,
            end: SEGMENT_HEADER_BYTES.min(this.bytes),
            records: RecordCounts::default(),
            live_shards: 0,
            live_bytes: 0,
        };
        self.records(&reading, &mut segment).map_err(failed)?;
        if let Some(end) = closed_at.filter(|end| *end > this.bytes) {
            self.found(this.number, this.bytes, end - this.bytes, FindingKind::Cut);
        }
        let unreadable = reading.file.unreadable_bytes();
        if unreadable > 0 {
            self.found(this.number, 0, unreadable, FindingKind::Unreadable);
        }
        self.survey.segments.push(segment);
        if self.survey.depth == Depth::Whole {
            reading.file.forget_cached(0, this.bytes);
        }
        Ok(())
    }

    fn records(&mut self, reading: &Reading, segment: &mut SegmentSurvey) -> io::Result<()> {
        let mut scanner = reading.scanner(segment.start);
        let mut told = 0;
        while let Some(item) = scanner.advance()? {
            let (offset, bytes) = match item {
                Scanned::Record { offset, header } => (offset, header.record_bytes()),
                Scanned::Damage { offset, bytes, .. } => (offset, bytes),
            };
            let goes_on = match item {
                Scanned::Record { header, .. } => self.record(reading, segment, offset, &header)?,
                Scanned::Damage { zero, .. } => {
                    self.no_record(reading, segment, offset, bytes, zero)
                }
            };
            if !goes_on {
                break;
            }
            if offset + bytes - told >= WATCH_BYTES {
                (self.watch)(offset + bytes - told);
                told = offset + bytes;
            }
        }
        segment.start = scanner.start();
        (self.watch)(segment.file.bytes - told);
        Ok(())
    }

    /// Takes a record; `false` when the log ends in front of it.
    fn record(
        &mut self,
        reading: &Reading,
        segment: &mut SegmentSurvey,
        offset: u64,
        header: &RecordHeader,
    ) -> io::Result<bool> {
        let is_tail = reading.is_last && offset >= reading.durable;
        let is_sound = if is_tail || self.survey.depth == Depth::Whole {
            verify_record(&*reading.file, reading.seal, offset, header)?
        } else {
            true
        };
        if is_tail && !is_sound {
            self.found(reading.number, offset, reading.limit - offset, FindingKind::TornTail);
            return Ok(false);
        }
        if !is_sound {
            let kind = FindingKind::Record { id: header.id, live: false };
            self.found(reading.number, offset, header.record_bytes(), kind);
        }
        segment.end = offset + header.record_bytes();
        self.apply(&mut segment.records, reading.number, offset, header);
        Ok(true)
    }

    /// Takes a region without a sound header; `false` when the log ends in front of it.
    fn no_record(
        &mut self,
        reading: &Reading,
        segment: &mut SegmentSurvey,
        offset: u64,
        bytes: u64,
        zero: bool,
    ) -> bool {
        let reaches_end = offset + bytes >= reading.limit;
        let is_reserved = zero && reaches_end;
        if reading.is_last && offset >= reading.durable {
            if !is_reserved {
                self.found(reading.number, offset, reading.limit - offset, FindingKind::TornTail);
            }
            return false;
        }
        if !reading.is_last && is_reserved && !reading.has_known_end {
            return true;
        }
        // Behind the durable position nothing was promised.
        let bytes = if reading.is_last && reaches_end { reading.durable - offset } else { bytes };
        self.found(reading.number, offset, bytes, FindingKind::Region);
        segment.end = offset + bytes;
        true
    }

    fn apply(
        &mut self,
        counts: &mut RecordCounts,
        segment: u64,
        offset: u64,
        header: &RecordHeader,
    ) {
        match (header.kind, header.coding) {
            (Kind::Shard, Some(coding)) => {
                counts.shards += 1;
                let place = Place {
                    segment,
                    offset,
                    position: header.position,
                    record_bytes: header.record_bytes(),
                    payload_bytes: header.payload_bytes,
                    stripe_bytes: header.stripe_bytes,
                    coding,
                };
                self.survey.live.insert(header.id, place);
            }
            // A shard without a coding doesn't pass for a record.
            (Kind::Shard, None) => {}
            (Kind::Remains, _) => counts.remains += 1,
            (Kind::Tombstone, _) => {
                counts.tombstones += 1;
                self.bury(header);
            }
            (Kind::Mark, _) => counts.marks += 1,
        }
    }

    /// Every earlier shard of the tombstone's extent is deleted.
    fn bury(&mut self, header: &RecordHeader) {
        let (extent, before) = (header.id.extent, header.deletes_before());
        let first = ShardId { extent, stripe: 0, slot: 0 };
        let last = ShardId { extent, stripe: u16::MAX, slot: u8::MAX };
        let dead = self.survey.live.extract_if(first..=last, |_, place| place.position < before);
        drop(dead.collect::<Vec<_>>());
    }

    fn found(&mut self, segment: u64, offset: u64, bytes: u64, kind: FindingKind) {
        self.survey.findings.push(Finding { segment, offset, bytes, kind });
    }

    /// Books what is live to its segments, and tells which damaged records are.
    fn finish(mut self) -> Survey {
        let Survey { segments, live, findings, .. } = &mut self.survey;
        for place in live.values() {
            if let Ok(at) = segments.binary_search_by_key(&place.segment, |s| s.file.number) {
                segments[at].live_shards += 1;
                segments[at].live_bytes += place.record_bytes;
            }
        }
        for finding in findings.iter_mut() {
            if let FindingKind::Record { id, live: is_live } = &mut finding.kind {
                *is_live = live.get(id).is_some_and(|place| {
                    (place.segment, place.offset) == (finding.segment, finding.offset)
                });
            }
        }
        findings.sort_by_key(|finding| (finding.segment, finding.offset));
        self.survey
    }
}

impl Reading {
    fn scanner(&self, start: Option<LogPosition>) -> Scanner {
        let file = Arc::clone(&self.file) as Arc<dyn DiskFile>;
        Scanner::new(file, self.seal, start, SEGMENT_HEADER_BYTES, self.limit)
    }

    /// The offset before which everything was on stable storage, as the segment's records say.
    fn durable_offset(&self, start: Option<LogPosition>) -> io::Result<u64> {
        let mut scanner = self.scanner(start);
        let mut durable = 0;
        while let Some(item) = scanner.advance()? {
            if let Scanned::Record { header, .. } = item {
                durable = durable.max(header.durable);
            }
        }
        let offset = durable.saturating_sub(scanner.start().unwrap_or(0));
        Ok(offset.clamp(SEGMENT_HEADER_BYTES, self.limit.max(SEGMENT_HEADER_BYTES)))
    }
}

/// What a scan that ended early means.
pub(super) fn scan_failed(segment: u64, error: io::Error) -> OfflineError {
    match error.kind() {
        io::ErrorKind::Unsupported => OfflineError::RecordVersion(segment_name(segment), error),
        _ => OfflineError::Io(segment_name(segment), error),
    }
}
