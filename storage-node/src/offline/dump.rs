//! Every record of the segments once more, with what a survey knows of it.

use wire::disk::DiskFile;

use super::directory::{OfflineError, ShardsDirectory};
use super::survey::{Survey, scan_failed};
use crate::segment::scanner::verify_record;
use crate::segment::{
    Kind, RECORD_HEADER_BYTES, RecordHeader, SEGMENT_HEADER_BYTES, Scanned, Scanner, Seal,
};

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordState {
    /// The shard as it is now.
    Live,
    /// A shard that was deleted or written again later.
    Dead,
    /// No shard: it says something about others.
    Control,
}

/// One record.
#[derive(Clone, Debug)]
pub struct DumpedRecord {
    /// The segment.
    pub segment: u64,
    /// Its first byte in it.
    pub offset: u64,
    /// Its header.
    pub header: RecordHeader,
    /// What became of it.
    pub state: RecordState,
    /// The stored block checksums, and whether the whole record verifies; `None` when that wasn't
    /// asked for.
    pub checked: Option<CheckedRecord>,
}

/// What the bytes behind a record's header are worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedRecord {
    /// The checksums of the blocks; `None` when owner or checksums are damaged.
    pub checksums: Option<Vec<u64>>,
    /// Whether owner, checksums and payload are those that were written.
    pub is_sound: bool,
}

/// Calls `each` for every record of a segment, or of all of them, in the order of the log. Ends
/// where the survey found the log to end. With `checked`, content is read and verified.
pub fn dump<E: From<OfflineError>>(
    directory: &ShardsDirectory,
    survey: &Survey,
    only: Option<u64>,
    checked: bool,
    each: &mut dyn FnMut(DumpedRecord) -> Result<(), E>,
) -> Result<(), E> {
    for segment in &survey.segments {
        let number = segment.file.number;
        if only.is_some_and(|only| only != number) {
            continue;
        }
        let file = directory.content(&segment.file)?;
        let seal = Seal::new(&directory.identity, number);
        let end = segment.end;
        let from = SEGMENT_HEADER_BYTES;
        let mut scanner = Scanner::new(file.clone(), seal, segment.start, from, end);
        while let Some(item) = scanner.advance().map_err(|error| scan_failed(number, error))? {
            let Scanned::Record { offset, header } = item else { continue };
            let is_live = survey
                .live
                .get(&header.id)
                .filter(|_| header.kind == Kind::Shard)
                .is_some_and(|place| (place.segment, place.offset) == (number, offset));
            let state = match header.kind {
                Kind::Shard if is_live => RecordState::Live,
                Kind::Shard | Kind::Remains => RecordState::Dead,
                Kind::Tombstone | Kind::Mark => RecordState::Control,
            };
            let checked = if checked {
                let result = check(&*file, seal, offset, &header);
                Some(result.map_err(|error| scan_failed(number, error))?)
            } else {
                None
            };
            each(DumpedRecord { segment: number, offset, header, state, checked })?;
        }
    }
    Ok(())
}

fn check(
    file: &dyn DiskFile,
    seal: Seal,
    offset: u64,
    header: &RecordHeader,
) -> std::io::Result<CheckedRecord> {
    let mut body = vec![0u8; header.body_bytes()];
    let count = file.read_at(&mut body, offset + RECORD_HEADER_BYTES as u64)?;
    let checksums = header.checksums(seal, &body[..count]);
    Ok(CheckedRecord { checksums, is_sound: verify_record(file, seal, offset, header)? })
}
