//! A file that goes on where the device fails: what can't be read is zero, and remembered.
//!
//! Zeros verify as nothing, so a region that can't be read becomes damage of what lies there, and
//! the rest of the file is still told of.

use std::collections::BTreeSet;
use std::io::{self, IoSlice};
use std::sync::Arc;

use crate::sync::Mutex;

use wire::disk::DiskFile;

use crate::lock::lock;

/// What is given up at once: the least that devices and page cache read.
const PAGE_BYTES: u64 = 4096;

/// A file that is read only, whatever the device does.
pub struct Patient {
    inner: Arc<dyn DiskFile>,
    length: u64,
    unreadable: Mutex<BTreeSet<u64>>,
}

impl Patient {
    /// Over a file of this length.
    pub(super) fn new(inner: Arc<dyn DiskFile>, length: u64) -> Self {
        Self { inner, length, unreadable: Mutex::default() }
    }

    /// Bytes that can't be read, as far as that was tried.
    pub(super) fn unreadable_bytes(&self) -> u64 {
        lock(&self.unreadable).len() as u64 * PAGE_BYTES
    }

    /// Reads page by page, and gives up those that fail.
    fn read_pages(&self, buffer: &mut [u8], offset: u64) -> usize {
        let end = self.length.min(offset.saturating_add(buffer.len() as u64));
        let mut at = offset;
        while at < end {
            let page = at / PAGE_BYTES * PAGE_BYTES;
            let until = end.min(page + PAGE_BYTES);
            let part = &mut buffer[(at - offset) as usize..(until - offset) as usize];
            let is_known = lock(&self.unreadable).contains(&page);
            let count = if is_known { None } else { self.inner.read_at(part, at).ok() };
            if count.is_none() {
                lock(&self.unreadable).insert(page);
            }
            part[count.unwrap_or(0)..].fill(0);
            at = until;
        }
        end.saturating_sub(offset) as usize
    }
}

fn read_only<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl DiskFile for Patient {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if lock(&self.unreadable).is_empty()
            && let Ok(count) = self.inner.read_at(buffer, offset)
        {
            return Ok(count);
        }
        Ok(self.read_pages(buffer, offset))
    }

    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.read_at(buffer, offset).map(Some)
    }

    fn write_at(&self, _: &[IoSlice<'_>], _: u64) -> io::Result<()> {
        read_only()
    }

    fn sync_data(&self) -> io::Result<()> {
        read_only()
    }

    fn forget_cached(&self, offset: u64, length: u64) {
        self.inner.forget_cached(offset, length);
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.length)
    }

    fn set_length(&self, _: u64) -> io::Result<()> {
        read_only()
    }

    fn allocate(&self, _: u64, _: u64) -> io::Result<()> {
        read_only()
    }
}
