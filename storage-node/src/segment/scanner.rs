//! Reads a segment from front to back: records, and the damage between them.
//!
//! In goes a file and a range; out come, in order and without a gap, sound record headers and
//! regions in which none was found. After a bad record the scan goes on at the next place where
//! a sound header lies that names its own place, so that one bad record doesn't hide the rest.
//! Payloads are not read; [`verify_record`] does that for one record.

use std::io;
use std::sync::Arc;

use model::checksum::blocks_verify;
use model::shard::LogPosition;
use wire::disk::DiskFile;

use super::record::{RECORD_HEADER_BYTES, RECORD_MAGIC, RecordHeader, Seal};
use super::{RECORD_ALIGN_BYTES, SEGMENT_HEADER_BYTES};

/// How much is read at once: many small records, little waste before a large one.
const WINDOW_BYTES: usize = 64 * 1024;

/// What lies in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scanned {
    /// A record with a sound header.
    Record {
        /// Where, from the file's first byte.
        offset: u64,
        /// Its header.
        header: RecordHeader,
    },
    /// No sound header in here.
    Damage {
        /// Where, from the file's first byte.
        offset: u64,
        /// How far it reaches.
        bytes: u64,
        /// Whether it is all zeros, as space that was never written is.
        zero: bool,
    },
}

/// A scan in progress.
#[derive(Clone)]
pub struct Scanner {
    file: Arc<dyn DiskFile>,
    seal: Seal,
    start: Option<LogPosition>,
    at: u64,
    end: u64,
    window: Vec<u8>,
    window_at: u64,
}

impl Scanner {
    /// Scans `file` from offset `from` to `end` (at most the file's length). `start` is the log
    /// position of the file's first byte; where the header that says so is lost, it is taken from
    /// the first sound record.
    pub fn new(
        file: Arc<dyn DiskFile>,
        seal: Seal,
        start: Option<LogPosition>,
        from: u64,
        end: u64,
    ) -> Self {
        let at = from.max(SEGMENT_HEADER_BYTES);
        Self { file, seal, start, at, end, window: Vec::new(), window_at: 0 }
    }

    /// The log position of the file's first byte, as far as it is known by now.
    pub fn start(&self) -> Option<LogPosition> {
        self.start
    }

    /// What seeds the checksums of the records.
    pub fn seal(&self) -> Seal {
        self.seal
    }

    /// The next record or damage; `None` at the end. An error is the device's, or `Unsupported`
    /// for a record of a newer format.
    pub fn advance(&mut self) -> io::Result<Option<Scanned>> {
        if self.at >= self.end {
            return Ok(None);
        }
        let offset = self.at;
        if let Some(header) = self.header_at(offset)? {
            self.at = offset + header.record_bytes();
            return Ok(Some(Scanned::Record { offset, header }));
        }
        let zero = self.seek_header()?;
        Ok(Some(Scanned::Damage { offset, bytes: self.at - offset, zero }))
    }

    /// The sound header at `offset` of a record that ends within the range.
    fn header_at(&mut self, offset: u64) -> io::Result<Option<RecordHeader>> {
        self.load(offset, RECORD_HEADER_BYTES)?;
        let from = (offset - self.window_at) as usize;
        let bytes = self.window.get(from..).unwrap_or_default();
        let Some(header) = RecordHeader::decode(self.seal, bytes) else {
            // Not damage: whoever took it for that would cut it off, or call it lost.
            return match RecordHeader::newer_version(self.seal, bytes) {
                Some(version) => Err(newer(version)),
                None => Ok(None),
            };
        };
        let start = header.position.checked_sub(offset);
        let in_place = match self.start {
            Some(known) => start == Some(known),
            None => start.is_some(),
        };
        if !in_place || offset + header.record_bytes() > self.end {
            return Ok(None);
        }
        self.start = start;
        Ok(Some(header))
    }

    /// Moves to the next sound header, or to the end. Tells whether all that was passed is zero.
    fn seek_header(&mut self) -> io::Result<bool> {
        let mut zero = true;
        while self.at < self.end {
            self.load(self.at, RECORD_HEADER_BYTES)?;
            let from = (self.at - self.window_at) as usize;
            let word = self.window.get(from..).unwrap_or_default();
            let word = &word[..word.len().min(RECORD_ALIGN_BYTES as usize)];
            zero &= word.iter().all(|byte| *byte == 0);
            self.at = (self.at + RECORD_ALIGN_BYTES).min(self.end);
            if self.at < self.end && self.magic_at(self.at)? && self.header_at(self.at)?.is_some() {
                break;
            }
        }
        Ok(zero)
    }

    fn magic_at(&mut self, offset: u64) -> io::Result<bool> {
        self.load(offset, RECORD_HEADER_BYTES)?;
        let from = (offset - self.window_at) as usize;
        Ok(self.window.get(from..).is_some_and(|bytes| bytes.starts_with(&RECORD_MAGIC)))
    }

    /// Makes the window cover `count` bytes at `offset`, as far as the file reaches.
    fn load(&mut self, offset: u64, count: usize) -> io::Result<()> {
        let window_end = self.window_at + self.window.len() as u64;
        let covered = offset >= self.window_at
            && (offset + count as u64 <= window_end || window_end >= self.end)
            && !self.window.is_empty();
        if covered {
            return Ok(());
        }
        let wanted = (self.end - offset).min(WINDOW_BYTES as u64) as usize;
        self.window.resize(wanted, 0);
        let filled = self.file.read_at(&mut self.window, offset)?;
        // A file that is shorter than it was said to be has nothing there.
        self.window[filled..].fill(0);
        self.window_at = offset;
        Ok(())
    }
}

fn newer(version: u8) -> io::Error {
    let why = format!("record format version {version} is newer than this release knows");
    io::Error::new(io::ErrorKind::Unsupported, why)
}

/// Whether the whole record at `offset` is sound: owner, checksums and payload.
pub fn verify_record(
    file: &dyn DiskFile,
    seal: Seal,
    offset: u64,
    header: &RecordHeader,
) -> io::Result<bool> {
    let mut bytes = vec![0u8; header.payload_at() + header.payload_bytes as usize];
    if file.read_at(&mut bytes, offset)? < bytes.len() {
        return Ok(false);
    }
    let (prefix, payload) = bytes.split_at(header.payload_at());
    let (head, body) = prefix.split_at(RECORD_HEADER_BYTES);
    // The header is read again with the rest: what was verified is what lies there now.
    let checksums = match RecordHeader::decode(seal, head) {
        Some(again) if again == *header => header.checksums(seal, body),
        _ => None,
    };
    Ok(checksums.is_some_and(|sums| blocks_verify(header.id, 0, payload, &sums)))
}
