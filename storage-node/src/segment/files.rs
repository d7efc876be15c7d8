//! The open files of a disk's segments: a bounded cache of handles.
//!
//! A disk of many terabytes has more segments than a process may have open files.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use crate::sync::Mutex;

use wire::disk::{Disk, DiskFile, OpenMode};

use super::segment_name;
use crate::lock::lock;

/// Handles kept open for one disk; with many disks this stays below the usual limit of open files.
const OPEN_MAX: usize = 64;

/// Opens segments for reading and keeps the handles that were used last.
pub struct SegmentFiles {
    disk: Arc<dyn Disk>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    files: HashMap<u64, (Arc<dyn DiskFile>, u64)>,
    uses: u64,
}

impl SegmentFiles {
    /// No file open yet. `disk` is the directory of the segments.
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, open: Mutex::default() }
    }

    /// The file of a segment. `NotFound` when there is none.
    pub fn get(&self, segment: u64) -> io::Result<Arc<dyn DiskFile>> {
        {
            let mut open = lock(&self.open);
            open.uses += 1;
            let now = open.uses;
            if let Some((file, used)) = open.files.get_mut(&segment) {
                *used = now;
                return Ok(Arc::clone(file));
            }
        }
        let file = self.disk.open(&segment_name(segment), OpenMode::Read)?;
        self.keep(segment, Arc::clone(&file));
        Ok(file)
    }

    /// Keeps a handle that was opened elsewhere.
    pub fn keep(&self, segment: u64, file: Arc<dyn DiskFile>) {
        let mut open = lock(&self.open);
        if open.files.len() >= OPEN_MAX {
            let oldest = open.files.iter().min_by_key(|(_, (_, used))| *used).map(|(n, _)| *n);
            if let Some(oldest) = oldest {
                open.files.remove(&oldest);
            }
        }
        open.uses += 1;
        let now = open.uses;
        open.files.insert(segment, (file, now));
    }

    /// Closes the handle of a segment that is removed.
    pub fn forget(&self, segment: u64) {
        lock(&self.open).files.remove(&segment);
    }
}
