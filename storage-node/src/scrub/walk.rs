//! Reads a segment from front to back in large windows, and verifies every record whole.
//!
//! In goes a file and a stretch of it; out come, in order and without a gap, records, sound or
//! not, and regions without a record. Each byte is read once, from the device: the page cache is
//! told to forget the stretch before it is read, and each window after that. (To forget each window
//! before it is read would throw away what the kernel has read ahead, and cost four fifths of the
//! speed.) Bytes that can't be read count as zeros, and so as damage; whether they are is for the
//! caller to find out.

use std::io;
use std::sync::Arc;

use model::checksum::blocks_verify;
use model::shard::LogPosition;
use wire::disk::DiskFile;

use super::plan::Stretch;
use crate::segment::record::RECORD_MAGIC;
use crate::segment::{
    RECORD_ALIGN_BYTES, RECORD_HEADER_BYTES, RecordHeader, SEGMENT_HEADER_BYTES, Seal,
    SegmentHeader,
};

/// Windows that fail are read in smaller and smaller pieces, down to this.
const PIECE_BYTES: usize = 16 << 10;

/// From windows of this length on the next one is asked for while this one is verified: so large
/// ones are read as fast as it goes, and nobody counts the device's time.
const AHEAD_WINDOW_BYTES: u64 = 4 << 20;

/// What lies in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// A record, every byte of which is the one that was written.
    Sound { offset: u64, header: RecordHeader },
    /// A record with a sound header, and something else that isn't.
    Unsound { offset: u64, header: RecordHeader },
    /// No record begins in here; or, at the file's beginning, no segment header.
    Gap { offset: u64, bytes: u64 },
}

impl Seen {
    pub(super) fn offset(&self) -> u64 {
        match self {
            Self::Sound { offset, .. }
            | Self::Unsound { offset, .. }
            | Self::Gap { offset, .. } => *offset,
        }
    }
}

/// What one window came to.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// In order.
    pub(super) seen: Vec<Seen>,
    /// Bytes read from the device.
    pub(super) bytes: u64,
    /// The first error of the device.
    pub(super) error: Option<io::Error>,
}

/// A walk in progress.
pub(super) struct Walk {
    stretch: Stretch,
    file: Arc<dyn DiskFile>,
    seal: Seal,
    /// Everything before it has been told.
    at: u64,
    /// Where the gap began that `at` lies in.
    gap_from: Option<u64>,
    /// Bytes from `window_at` on; at most a window and a record.
    buffer: Vec<u8>,
    /// How many of them are filled: the buffer is kept as long as it was once needed.
    filled: usize,
    window_at: u64,
}

impl Walk {
    pub(super) fn new(file: Arc<dyn DiskFile>, seal: Seal, stretch: Stretch) -> Self {
        let at = stretch.from;
        // Once, and not before each window: what the kernel reads ahead of a window is fresh.
        file.forget_cached(at, stretch.to - at);
        let (buffer, filled) = (Vec::new(), 0);
        Self { stretch, file, seal, at, gap_from: None, buffer, filled, window_at: at }
    }

    pub(super) fn stretch(&self) -> &Stretch {
        &self.stretch
    }

    /// Everything before this offset has been told.
    pub(super) fn reached(&self) -> u64 {
        self.gap_from.unwrap_or(self.at)
    }

    pub(super) fn is_done(&self) -> bool {
        self.reached() >= self.stretch.to
    }

    /// Goes back to `offset`; what lies there is read from the device again.
    pub(super) fn rewind(&mut self, offset: u64) {
        self.at = offset;
        self.gap_from = None;
        self.filled = 0;
        self.window_at = offset;
        self.file.forget_cached(offset, self.stretch.to - offset);
    }

    /// Reads about `window_bytes` and tells what is in them. `heard` is told how each read went,
    /// and answers whether to go on.
    pub(super) fn advance(
        &mut self,
        window_bytes: u64,
        heard: &dyn Fn(Result<(), &io::Error>) -> bool,
    ) -> Window {
        let mut window = Window::default();
        let consumed = ((self.at - self.window_at) as usize).min(self.filled);
        self.buffer.copy_within(consumed..self.filled, 0);
        self.filled -= consumed;
        self.window_at = self.at;
        loop {
            self.read_on(window_bytes, &mut window, heard);
            self.tell(&mut window.seen);
            // A window that is shorter than the record in it is no end.
            let got_on = !window.seen.is_empty() || self.gap_from.is_some();
            if got_on || self.is_done() || window.error.is_some() {
                return window;
            }
        }
    }

    fn read_on(
        &mut self,
        window_bytes: u64,
        window: &mut Window,
        heard: &dyn Fn(Result<(), &io::Error>) -> bool,
    ) {
        let from = self.window_at + self.filled as u64;
        let count = window_bytes.min(self.stretch.to - from);
        let until = self.filled + count as usize;
        if self.buffer.len() < until {
            self.buffer.resize(until, 0);
        }
        let mut outcome = |read: io::Result<()>| {
            let goes_on = heard(read.as_ref().map(drop));
            if let Err(error) = read {
                window.error.get_or_insert(error);
            }
            goes_on
        };
        read_pieces(&*self.file, &mut self.buffer[self.filled..until], from, &mut outcome);
        self.file.forget_cached(from, count);
        self.filled = until;
        window.bytes += count;
        self.ask_for(from + count, window_bytes);
    }

    /// Has the device begin with the next window.
    fn ask_for(&self, from: u64, window_bytes: u64) {
        let count = window_bytes.min(self.stretch.to - from);
        if window_bytes >= AHEAD_WINDOW_BYTES && count > 0 {
            self.file.will_read(from, count);
        }
    }

    /// Tells everything that lies in the window as a whole.
    fn tell(&mut self, seen: &mut Vec<Seen>) {
        if self.at == 0 && !self.tell_segment_header(seen) {
            return;
        }
        while self.at < self.stretch.to {
            let window = &self.buffer[..self.filled];
            let rest = window.get((self.at - self.window_at) as usize..).unwrap_or_default();
            let is_last = self.window_at + self.filled as u64 >= self.stretch.to;
            if rest.len() < RECORD_HEADER_BYTES && !is_last {
                return;
            }
            let Some(header) = self.header_in(rest) else {
                self.gap_from.get_or_insert(self.at);
                self.at = (self.at + RECORD_ALIGN_BYTES).min(self.stretch.to);
                continue;
            };
            let Some(record) = rest.get(..header.record_bytes() as usize) else {
                // The rest of it is in the next window: its end lies within the stretch.
                self.end_gap(seen);
                return;
            };
            let is_sound = is_sound(self.seal, &header, record);
            self.end_gap(seen);
            let offset = self.at;
            self.at += header.record_bytes();
            seen.push(if is_sound {
                Seen::Sound { offset, header }
            } else {
                Seen::Unsound { offset, header }
            });
        }
        self.end_gap(seen);
    }

    /// `false` while it isn't there as a whole.
    fn tell_segment_header(&mut self, seen: &mut Vec<Seen>) -> bool {
        let length = SEGMENT_HEADER_BYTES.min(self.stretch.to);
        let Some(bytes) = self.buffer[..self.filled].get(..length as usize) else {
            return false;
        };
        let found = SegmentHeader::decode(bytes).ok();
        let is_it = found.is_some_and(|header| {
            header.segment == self.stretch.segment
                && header.start == self.stretch.start
                && Seal::new(&header.identity, header.segment) == self.seal
        });
        if !is_it {
            seen.push(Seen::Gap { offset: 0, bytes: length });
        }
        self.at = length;
        true
    }

    /// The sound header at the head of `rest`, of a record that lies where it says and ends
    /// within the stretch.
    fn header_in(&self, rest: &[u8]) -> Option<RecordHeader> {
        if !rest.starts_with(&RECORD_MAGIC) {
            return None;
        }
        let header = RecordHeader::decode(self.seal, rest)?;
        let position: LogPosition = self.stretch.start + self.at;
        let fits = self.at + header.record_bytes() <= self.stretch.to;
        (header.position == position && fits).then_some(header)
    }

    fn end_gap(&mut self, seen: &mut Vec<Seen>) {
        if let Some(offset) = self.gap_from.take() {
            seen.push(Seen::Gap { offset, bytes: self.at - offset });
        }
    }
}

/// Whether a whole record is the one that was written; `header` was decoded from it.
pub(super) fn is_sound(seal: Seal, header: &RecordHeader, record: &[u8]) -> bool {
    let (body, payload) = (RECORD_HEADER_BYTES..header.payload_at(), header.payload_at());
    let checksums = record.get(body).and_then(|body| header.checksums(seal, body));
    let payload = record.get(payload..payload + header.payload_bytes as usize);
    match (checksums, payload) {
        (Some(checksums), Some(payload)) => blocks_verify(header.id, 0, payload, &checksums),
        _ => false,
    }
}

/// Fills the buffer as far as the device gives it; where it doesn't, there are zeros. `outcome` is
/// told how each read went, and answers whether to go on, which this answers too.
pub(super) fn read_pieces(
    file: &dyn DiskFile,
    buffer: &mut [u8],
    at: u64,
    outcome: &mut dyn FnMut(io::Result<()>) -> bool,
) -> bool {
    match file.read_at(buffer, at) {
        // A file that is shorter than it should be has nothing there.
        Ok(count) => {
            buffer[count..].fill(0);
            outcome(Ok(()))
        }
        Err(error) => {
            buffer.fill(0);
            if !outcome(Err(error)) {
                return false;
            }
            if buffer.len() <= PIECE_BYTES {
                return true;
            }
            let (low, high) = buffer.split_at_mut(buffer.len() / 2);
            let middle = at + low.len() as u64;
            read_pieces(file, low, at, outcome) && read_pieces(file, high, middle, outcome)
        }
    }
}
