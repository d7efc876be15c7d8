//! The directory of the segments, seen as the disk above it.
//!
//! The store opens a disk and looks for its shards in a sub-directory; the offline tools are given
//! that sub-directory. Reads of segments are told to a watcher on the way.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wire::disk::{Disk, DiskFile, DiskSpace, OpenMode};

use crate::segment::segment_number;

/// How far the segments have been read, in bytes that only grow.
pub(super) type Progress = Arc<AtomicU64>;

/// A disk whose sub-directory of shards is `shards`, whatever it is called.
#[derive(Clone)]
pub(super) struct Root {
    shards: Arc<dyn Disk>,
    progress: Progress,
}

impl Root {
    pub(super) fn new(shards: Arc<dyn Disk>, progress: Progress) -> Self {
        Self { shards, progress }
    }
}

impl Disk for Root {
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let inner = self.shards.open(name, mode)?;
        if segment_number(name).is_none() {
            return Ok(inner);
        }
        let progress = Arc::clone(&self.progress);
        Ok(Arc::new(Watched { inner, reached: AtomicU64::new(0), progress }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.shards.list()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.shards.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.shards.rename(from, to)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.shards.sync_directory()
    }

    fn subdirectory(&self, name: &str) -> io::Result<Arc<dyn Disk>> {
        if name == crate::store::DIRECTORY {
            return Ok(Arc::new(self.clone()));
        }
        self.shards.subdirectory(name)
    }

    fn space(&self) -> io::Result<DiskSpace> {
        self.shards.space()
    }

    fn is_present(&self) -> bool {
        self.shards.is_present()
    }

    fn path(&self) -> &Path {
        self.shards.path()
    }
}

struct Watched {
    inner: Arc<dyn DiskFile>,
    reached: AtomicU64,
    progress: Progress,
}

impl DiskFile for Watched {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let count = self.inner.read_at(buffer, offset)?;
        let end = offset + count as u64;
        let before = self.reached.fetch_max(end, Ordering::Relaxed);
        self.progress.fetch_add(end.saturating_sub(before), Ordering::Relaxed);
        Ok(count)
    }

    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.inner.read_cached_at(buffer, offset)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.inner.write_at(parts, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()
    }

    fn forget_cached(&self, offset: u64, length: u64) {
        self.inner.forget_cached(offset, length);
    }

    fn length(&self) -> io::Result<u64> {
        self.inner.length()
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.inner.set_length(length)
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        self.inner.allocate(offset, length)
    }
}
