//! The check of a log that is in use: what lies on the disk must be what was written there.
//!
//! In: the log's files, read again. Out: whether each is whole. What always holds: everything below
//! the durable mark is looked at; what is being written isn't.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use wire::disk::{Disk, DiskFile};

use super::record::SegmentHeader;
use super::recovery::{check_segment, read_hard_state};
use super::{LogError, RaftLog};

/// A segment, and what must be in it.
pub struct SegmentCheck {
    file: Arc<dyn DiskFile>,
    header: SegmentHeader,
    /// Records below this sequence number are durable, and in this segment or one before it.
    end: u64,
}

impl SegmentCheck {
    /// Reads the segment and verifies every durable record.
    pub fn run(&self) -> Result<(), LogError> {
        let length = self.file.length()?;
        // What is asked for is what lies on the disk.
        self.file.forget_cached(0, length);
        let mut content = vec![0; length as usize];
        self.file.read_exact_at(&mut content, 0)?;
        check_segment(&content, self.header, self.end)
    }
}

impl RaftLog {
    /// The numbers of the segments that there are.
    pub fn segment_numbers(&self) -> Vec<u64> {
        self.lock().segments.iter().map(|segment| segment.number).collect()
    }

    /// What a segment must hold; `None` when it was removed, or isn't made yet.
    pub fn segment_check(&self, number: u64) -> Option<SegmentCheck> {
        let index = self.lock();
        let at = index.segments.iter().position(|segment| segment.number == number)?;
        let segment = index.segments.get(at)?;
        let file = segment.file.get()?;
        let durable = self.durable_below.load(Ordering::Acquire);
        let next = index.segments.get(at + 1);
        let end = next.map_or(durable, |next| next.file.header().first_sequence.min(durable));
        Some(SegmentCheck { file, header: segment.file.header(), end })
    }
}

/// Reads the vote and the purged position in `disk`, a log's directory.
pub fn check_hard_state(disk: &dyn Disk) -> Result<(), LogError> {
    read_hard_state(disk).map(drop)
}
