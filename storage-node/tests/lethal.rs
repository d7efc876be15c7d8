//! A disk that kills its own process at the n-th change: a fail point at every step of everything.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use wire::disk::{Disk, DiskFile, DiskSpace, OpenMode};

/// A directory whose changes are counted; the last of them kills, before or after it is done.
#[derive(Clone)]
pub struct Lethal {
    inner: Arc<dyn Disk>,
    fuse: Arc<Fuse>,
}

struct Fuse {
    left: AtomicI64,
    /// Whether the change is done before the process dies.
    after: bool,
}

impl Fuse {
    fn change<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let is_last = self.left.fetch_sub(1, Ordering::SeqCst) == 1;
        if is_last && !self.after {
            die();
        }
        let done = work();
        if is_last {
            die();
        }
        done
    }
}

/// As `kill -9` from outside would: no destructor, no flush, no handler.
fn die() -> ! {
    let own = rustix::process::getpid();
    let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
    std::process::abort()
}

impl Lethal {
    pub fn new(inner: impl Disk, changes: i64, after: bool) -> Self {
        let fuse = Fuse { left: AtomicI64::new(changes), after };
        Self { inner: Arc::new(inner), fuse: Arc::new(fuse) }
    }
}

impl Disk for Lethal {
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let open = || self.inner.open(name, mode);
        let inner = if mode == OpenMode::CreateNew { self.fuse.change(open) } else { open() }?;
        Ok(Arc::new(LethalFile { inner, fuse: Arc::clone(&self.fuse) }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.fuse.change(|| self.inner.remove(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.fuse.change(|| self.inner.rename(from, to))
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.fuse.change(|| self.inner.sync_directory())
    }

    fn subdirectory(&self, name: &str) -> io::Result<Arc<dyn Disk>> {
        let inner = self.inner.subdirectory(name)?;
        Ok(Arc::new(Self { inner, fuse: Arc::clone(&self.fuse) }))
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

struct LethalFile {
    inner: Arc<dyn DiskFile>,
    fuse: Arc<Fuse>,
}

impl DiskFile for LethalFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, offset)
    }

    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.inner.read_cached_at(buffer, offset)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.fuse.change(|| self.inner.write_at(parts, offset))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.fuse.change(|| self.inner.sync_data())
    }

    fn forget_cached(&self, offset: u64, length: u64) {
        self.inner.forget_cached(offset, length);
    }

    fn length(&self) -> io::Result<u64> {
        self.inner.length()
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.fuse.change(|| self.inner.set_length(length))
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        self.fuse.change(|| self.inner.allocate(offset, length))
    }
}
