//! The log's files: how they are named, made, and replaced.

use std::io::{self, IoSlice};
use std::sync::{Arc, OnceLock};

use wire::disk::{Disk, DiskFile, OpenMode};

use super::record::{HardState, SegmentHeader};
use crate::limits::LOG_SEGMENT_BYTES;

/// The file with vote and purged position.
pub const HARD_STATE: &str = "hard-state";
const HARD_STATE_TEMPORARY: &str = "hard-state.tmp";

/// One segment.
#[derive(Clone)]
pub struct Segment {
    /// Its number.
    pub number: u64,
    /// Its file.
    pub file: Arc<SegmentFile>,
    /// The greatest index of an entry in it; `None` for none.
    pub last_index: Option<u64>,
}

/// A segment's file, made when its first record is written.
pub struct SegmentFile {
    header: SegmentHeader,
    file: OnceLock<Arc<dyn DiskFile>>,
}

impl SegmentFile {
    /// A file that isn't there yet.
    pub fn to_be_made(header: SegmentHeader) -> Self {
        Self { header, file: OnceLock::new() }
    }

    /// A file that is there.
    pub fn made(header: SegmentHeader, file: Arc<dyn DiskFile>) -> Self {
        Self { header, file: OnceLock::from(file) }
    }

    /// Its header.
    pub fn header(&self) -> SegmentHeader {
        self.header
    }

    /// The file, if it was made.
    pub fn get(&self) -> Option<Arc<dyn DiskFile>> {
        self.file.get().cloned()
    }

    /// The file; makes it if need be. For the writer alone.
    pub fn open(&self, disk: &dyn Disk) -> io::Result<Arc<dyn DiskFile>> {
        if let Some(file) = self.file.get() {
            return Ok(Arc::clone(file));
        }
        let file = create_segment(disk, self.header)?;
        Ok(Arc::clone(self.file.get_or_init(|| file)))
    }
}

/// The name of a segment's file.
pub fn segment_name(number: u64) -> String {
    format!("{number:016x}.log")
}

/// The inverse of [`segment_name`].
pub fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// Makes a segment. It is durable, with its header and all zeros
/// behind, before this returns; records come later.
pub fn create_segment(disk: &dyn Disk, header: SegmentHeader) -> io::Result<Arc<dyn DiskFile>> {
    let name = segment_name(header.number);
    match disk.remove(&name) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let file = disk.open(&name, OpenMode::CreateNew)?;
    file.allocate(0, LOG_SEGMENT_BYTES)?;
    file.write_at(&[IoSlice::new(&header.to_bytes())], 0)?;
    file.sync_data()?;
    disk.sync_directory()?;
    Ok(file)
}

/// Replaces the hard state: a crash leaves the old one or the new one, whole.
pub fn write_hard_state(disk: &dyn Disk, state: &HardState) -> io::Result<()> {
    match disk.remove(HARD_STATE_TEMPORARY) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let file = disk.open(HARD_STATE_TEMPORARY, OpenMode::CreateNew)?;
    file.write_at(&[IoSlice::new(&state.to_bytes())], 0)?;
    file.sync_data()?;
    disk.rename(HARD_STATE_TEMPORARY, HARD_STATE)?;
    disk.sync_directory()
}
