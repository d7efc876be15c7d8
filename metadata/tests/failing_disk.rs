//! A disk that does so many steps and then none: what a crash leaves between any two of them.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wire::disk::{Disk, DiskFile, DiskSpace, OpenMode};

/// Steps that are left, shared by everything that comes from one disk.
struct Steps(AtomicUsize);

impl Steps {
    fn take(&self) -> io::Result<()> {
        let take = |left: usize| left.checked_sub(1);
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.map(drop).map_err(|_| io::Error::other("the power is gone"))
    }
}

/// The disk.
pub struct FailingDisk {
    inner: Arc<dyn Disk>,
    steps: Arc<Steps>,
}

impl FailingDisk {
    /// One that changes `inner` so many times and no more.
    pub fn after(steps: usize, inner: Arc<dyn Disk>) -> Arc<dyn Disk> {
        Arc::new(Self { inner, steps: Arc::new(Steps(AtomicUsize::new(steps))) })
    }
}

impl Disk for FailingDisk {
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        if mode == OpenMode::CreateNew {
            self.steps.take()?;
        }
        let inner = self.inner.open(name, mode)?;
        Ok(Arc::new(FailingFile { inner, steps: Arc::clone(&self.steps) }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.steps.take()?;
        self.inner.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.steps.take()?;
        self.inner.rename(from, to)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.steps.take()?;
        self.inner.sync_directory()
    }

    fn subdirectory(&self, name: &str) -> io::Result<Arc<dyn Disk>> {
        let inner = self.inner.subdirectory(name)?;
        Ok(Arc::new(Self { inner, steps: Arc::clone(&self.steps) }))
    }

    fn space(&self) -> io::Result<DiskSpace> {
        self.inner.space()
    }

    fn is_present(&self) -> bool {
        self.inner.is_present()
    }

    fn path(&self) -> &Path {
        self.inner.path()
    }
}

struct FailingFile {
    inner: Arc<dyn DiskFile>,
    steps: Arc<Steps>,
}

impl DiskFile for FailingFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, offset)
    }

    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.inner.read_cached_at(buffer, offset)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.steps.take()?;
        self.inner.write_at(parts, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.steps.take()?;
        self.inner.sync_data()
    }

    fn forget_cached(&self, offset: u64, length: u64) {
        self.inner.forget_cached(offset, length);
    }

    fn length(&self) -> io::Result<u64> {
        self.inner.length()
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.steps.take()?;
        self.inner.set_length(length)
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        self.steps.take()?;
        self.inner.allocate(offset, length)
    }
}
