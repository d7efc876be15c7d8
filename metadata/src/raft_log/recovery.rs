//! Reading a log back after a stop or a crash.
//!
//! In: the segments and the hard state of one replica. Out: the entries that are there, and where
//! to go on writing. What always holds: a torn tail, which nobody was promised, is cut; anything
//! else that can't be read is damage, and damage is never repaired here (R8).

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use model::ids::{ClusterId, ReplicaId};
use twox_hash::XxHash3_64;
use wire::disk::{Disk, DiskFile, OpenMode};

use super::LogError;
use super::record::{
    HardState, RECORD_HEADER_BYTES, RecordHeader, RecordKind, SEGMENT_HEADER_BYTES, SegmentHeader,
    kept,
};
use super::segment::{HARD_STATE, Segment, SegmentFile, segment_name, segment_number};
use crate::limits::LOG_SEGMENT_BYTES;
use crate::raft::types::{EntryKind, LogId};

/// An entry's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The segment's number.
    pub segment: u64,
    /// Where its record begins.
    pub offset: u64,
    /// Bytes of its payload.
    pub payload_bytes: u32,
    /// Its kind.
    pub kind: EntryKind,
}

/// What a log holds.
pub struct Recovered {
    /// Vote and purged position.
    pub hard_state: HardState,
    /// Entries behind the purged position, without gaps.
    pub entries: Vec<(LogId, Position)>,
    /// Segments, ascending; the last is the one to write to.
    pub segments: Vec<Segment>,
    /// Where the next record goes in the last segment.
    pub offset: u64,
    /// The next record's sequence number.
    pub sequence: u64,
}

/// Reads the log in `disk`.
pub fn recover(
    disk: &dyn Disk,
    cluster: ClusterId,
    replica: ReplicaId,
) -> Result<Recovered, LogError> {
    let hard_state = read_hard_state(disk)?;
    let mut scan = Scan::new(hard_state);
    let numbers = segment_numbers(disk)?;
    let mut segments: Vec<Segment> = Vec::new();
    let mut offset = SEGMENT_HEADER_BYTES;
    for (place, number) in numbers.iter().enumerate() {
        let is_last = place + 1 == numbers.len();
        let file = disk.open(&segment_name(*number), OpenMode::Write)?;
        let content = read_all(&*file)?;
        let Some(header) = SegmentHeader::from_bytes(&content) else {
            // Its header is synced before anything is written behind it.
            if is_last && !segments.is_empty() && is_zero_behind_header(&content) {
                disk.remove(&segment_name(*number))?;
                disk.sync_directory()?;
                break;
            }
            return Err(damaged(*number, "its header can't be read"));
        };
        if header.cluster != cluster || header.replica != replica || header.number != *number {
            return Err(damaged(*number, "it belongs to another log"));
        }
        match segments.last() {
            Some(before)
                if before.number + 1 != *number || scan.sequence != header.first_sequence =>
            {
                return Err(damaged(*number, "a part of the log before it is missing"));
            }
            Some(_) => {}
            None => scan.sequence = header.first_sequence,
        }
        let end = scan.segment(*number, &content)?;
        offset = end;
        // Segments are synced before the next one is made, so only the last can be torn.
        let is_torn = is_last && !is_zero(content.get(end as usize..).unwrap_or_default());
        if is_torn {
            let rest = content.get(end as usize..).unwrap_or_default();
            if hard_state.durable_below > scan.sequence || proves_loss(rest, scan.sequence) {
                return Err(damaged(*number, "a record that was durable can't be read"));
            }
            cut(&*file, end)?;
        }
        let last_index = scan.last_index_of_segment.take();
        let file = Arc::new(SegmentFile::made(header, file));
        segments.push(Segment { number: *number, file, last_index });
    }
    if segments.is_empty() {
        return Err(LogError::Damaged("the log has no segment".to_owned()));
    }
    if hard_state.durable_below > scan.sequence {
        return Err(LogError::Damaged("records that were durable are missing".to_owned()));
    }
    let Scan { sequence, entries, .. } = scan;
    Ok(Recovered { hard_state, entries, segments, offset, sequence })
}

struct Scan {
    purged_next: u64,
    entries: Vec<(LogId, Position)>,
    sequence: u64,
    last_index_of_segment: Option<u64>,
}

impl Scan {
    fn new(hard_state: HardState) -> Self {
        let purged_next = hard_state.purged.map_or(0, |purged| purged.index + 1);
        Self { purged_next, entries: Vec::new(), sequence: 0, last_index_of_segment: None }
    }

    /// Takes a segment's records; gives the place of the first that isn't one.
    fn segment(&mut self, number: u64, content: &[u8]) -> Result<u64, LogError> {
        let mut offset = SEGMENT_HEADER_BYTES;
        while let Some(header) = read_record(content, offset, self.sequence) {
            self.record(number, offset, &header)?;
            self.sequence += 1;
            offset += header.record_bytes();
        }
        Ok(offset)
    }

    fn record(&mut self, segment: u64, offset: u64, header: &RecordHeader) -> Result<(), LogError> {
        match header.kind {
            RecordKind::Truncate => {
                let next = kept(header.log_id).map_or(0, |id| id.index + 1);
                while self.entries.last().is_some_and(|(id, _)| id.index >= next) {
                    self.entries.pop();
                }
            }
            RecordKind::Entry(kind) => {
                let id = LogId::from(header.log_id);
                self.last_index_of_segment = self.last_index_of_segment.max(Some(id.index));
                if id.index < self.purged_next {
                    return Ok(());
                }
                let expected =
                    self.entries.last().map_or(self.purged_next, |(last, _)| last.index + 1);
                if id.index != expected {
                    return Err(damaged(segment, "entries are missing"));
                }
                let payload_bytes = header.payload_bytes;
                self.entries.push((id, Position { segment, offset, payload_bytes, kind }));
            }
        }
        Ok(())
    }
}

/// Whether a segment begins with this header, and holds every record from its first to the one before
/// the sequence number `end`.
pub fn check_segment(content: &[u8], header: SegmentHeader, end: u64) -> Result<(), LogError> {
    if SegmentHeader::from_bytes(content) != Some(header) {
        return Err(damaged(header.number, "its header isn't what was written"));
    }
    let mut offset = SEGMENT_HEADER_BYTES;
    for sequence in header.first_sequence..end {
        let Some(record) = read_record(content, offset, sequence) else {
            return Err(damaged(header.number, "a record isn't what was written"));
        };
        offset += record.record_bytes();
    }
    Ok(())
}

/// The whole record at `offset`, if it is the one with this sequence number.
fn read_record(content: &[u8], offset: u64, sequence: u64) -> Option<RecordHeader> {
    let bytes = content.get(usize::try_from(offset).ok()?..)?;
    let header = RecordHeader::from_bytes(bytes)?;
    let payload = payload_of(bytes, &header)?;
    let is_whole =
        header.sequence == sequence && XxHash3_64::oneshot(payload) == header.payload_checksum;
    is_whole.then_some(header)
}

fn payload_of<'b>(record: &'b [u8], header: &RecordHeader) -> Option<&'b [u8]> {
    record.get(RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + header.payload_bytes as usize)
}

/// Whether a record in `rest` says that the record `sequence` was durable.
fn proves_loss(rest: &[u8], sequence: u64) -> bool {
    (0..rest.len()).step_by(8).any(|at| {
        rest.get(at..)
            .and_then(RecordHeader::from_bytes)
            .is_some_and(|header| header.durable_below > sequence)
    })
}

/// Overwrites everything behind `end` with zeros, durably, so that it can't be taken for records
/// later.
fn cut(file: &dyn DiskFile, end: u64) -> io::Result<()> {
    file.set_length(end)?;
    file.allocate(0, LOG_SEGMENT_BYTES.max(end))?;
    file.sync_data()
}

/// Reads an entry's payload and verifies it.
pub fn read_payload(file: &dyn DiskFile, id: LogId, at: Position) -> Result<Bytes, LogError> {
    let mut record = vec![0; RECORD_HEADER_BYTES + at.payload_bytes as usize];
    file.read_exact_at(&mut record, at.offset)?;
    let is_whole = RecordHeader::from_bytes(&record).is_some_and(|header| {
        LogId::from(header.log_id) == id
            && payload_of(&record, &header)
                .is_some_and(|payload| XxHash3_64::oneshot(payload) == header.payload_checksum)
    });
    if !is_whole {
        return Err(damaged(at.segment, "an entry isn't what was written"));
    }
    Ok(Bytes::from(record).slice(RECORD_HEADER_BYTES..))
}

/// Reads the vote and the purged position.
pub fn read_hard_state(disk: &dyn Disk) -> Result<HardState, LogError> {
    let damaged = || LogError::Damaged("the vote is missing or can't be read".to_owned());
    let file = match disk.open(HARD_STATE, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(damaged()),
        Err(error) => return Err(error.into()),
    };
    HardState::from_bytes(&read_all(&*file)?).ok_or_else(damaged)
}

fn segment_numbers(disk: &dyn Disk) -> Result<Vec<u64>, LogError> {
    let mut numbers: Vec<u64> =
        disk.list()?.iter().filter_map(|name| segment_number(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn read_all(file: &dyn DiskFile) -> io::Result<Vec<u8>> {
    let mut content = vec![0; file.length()? as usize];
    file.read_exact_at(&mut content, 0)?;
    Ok(content)
}

fn is_zero_behind_header(content: &[u8]) -> bool {
    is_zero(content.get(SEGMENT_HEADER_BYTES as usize..).unwrap_or_default())
}

fn is_zero(content: &[u8]) -> bool {
    content.iter().all(|byte| *byte == 0)
}

fn damaged(segment: u64, what: &str) -> LogError {
    LogError::Damaged(format!("log segment {segment}: {what}"))
}

/// The files that a reader may need, by number.
pub fn file_of(segments: &[Segment], number: u64) -> Option<Arc<dyn DiskFile>> {
    let at = segments.binary_search_by_key(&number, |segment| segment.number).ok()?;
    segments.get(at)?.file.get()
}
