//! A disk whose operations are watched: which of them the device hasn't answered yet, and since
//! when.
//!
//! Everything that a store does on its disk goes through here, so a device that stalls is noticed
//! whatever it was asked. Nothing is delayed, refused or changed.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use crate::sync::Mutex;
use std::time::Duration;

use wire::clock::Clock;
use wire::disk::{Disk, DiskFile, DiskSpace, OpenMode};

use crate::lock::lock;

/// A disk that hasn't answered for this long counts as stalled: requests that would wait for it
/// are refused, and the node reports it as failed until it answers. As long as the metadata waits
/// for a silent disk before it suspects it; far longer than a healthy disk's longest sync.
pub(crate) const STALLED_AFTER: Duration = Duration::from_secs(5);

/// The operations that a disk hasn't answered yet.
pub(crate) struct Waits {
    clock: Arc<dyn Clock>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    begun: u64,
    /// When each began, the oldest first.
    since: BTreeMap<u64, Duration>,
}

impl Waits {
    fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, open: Mutex::default() }
    }

    fn begin(&self) -> Waiting<'_> {
        let now = self.clock.monotonic();
        let mut open = lock(&self.open);
        open.begun += 1;
        let number = open.begun;
        open.since.insert(number, now);
        Waiting { waits: self, number }
    }

    /// How many operations are under way.
    pub(crate) fn under_way(&self) -> usize {
        lock(&self.open).since.len()
    }

    /// How long the disk has left something unanswered, if that is too long.
    pub(crate) fn stalled_for(&self) -> Option<Duration> {
        let oldest = lock(&self.open).since.first_key_value().map(|(_, since)| *since)?;
        let waited = self.clock.monotonic().saturating_sub(oldest);
        (waited >= STALLED_AFTER).then_some(waited)
    }
}

/// One operation under way; it ends when this is dropped.
struct Waiting<'a> {
    waits: &'a Waits,
    number: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(&self.waits.open).since.remove(&self.number);
    }
}

/// A directory whose operations are watched.
pub(crate) struct WatchedDisk {
    inner: Arc<dyn Disk>,
    waits: Arc<Waits>,
}

impl WatchedDisk {
    /// Watches `inner`; the other half tells what is seen.
    pub(crate) fn new(inner: Arc<dyn Disk>, clock: Arc<dyn Clock>) -> (Self, Arc<Waits>) {
        let waits = Arc::new(Waits::new(clock));
        (Self { inner, waits: Arc::clone(&waits) }, waits)
    }
}

impl Disk for WatchedDisk {
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let _waiting = self.waits.begin();
        let inner = self.inner.open(name, mode)?;
        Ok(Arc::new(WatchedFile { inner, waits: Arc::clone(&self.waits) }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let _waiting = self.waits.begin();
        self.inner.list()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let _waiting = self.waits.begin();
        self.inner.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let _waiting = self.waits.begin();
        self.inner.rename(from, to)
    }

    fn sync_directory(&self) -> io::Result<()> {
        let _waiting = self.waits.begin();
        self.inner.sync_directory()
    }

    fn subdirectory(&self, name: &str) -> io::Result<Arc<dyn Disk>> {
        let _waiting = self.waits.begin();
        let inner = self.inner.subdirectory(name)?;
        Ok(Arc::new(Self { inner, waits: Arc::clone(&self.waits) }))
    }

    fn space(&self) -> io::Result<DiskSpace> {
        let _waiting = self.waits.begin();
        self.inner.space()
    }

    fn is_present(&self) -> bool {
        let _waiting = self.waits.begin();
        self.inner.is_present()
    }

    fn path(&self) -> &Path {
        self.inner.path()
    }
}

struct WatchedFile {
    inner: Arc<dyn DiskFile>,
    waits: Arc<Waits>,
}

impl DiskFile for WatchedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let _waiting = self.waits.begin();
        self.inner.read_at(buffer, offset)
    }

    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        // It never waits.
        self.inner.read_cached_at(buffer, offset)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let _waiting = self.waits.begin();
        self.inner.write_at(parts, offset)
    }

    fn read_new_at(&self, count: usize, offset: u64) -> io::Result<Vec<u8>> {
        let _waiting = self.waits.begin();
        self.inner.read_new_at(count, offset)
    }

    fn write_uncached_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let _waiting = self.waits.begin();
        self.inner.write_uncached_at(parts, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        let _waiting = self.waits.begin();
        self.inner.sync_data()
    }

    fn forget_cached(&self, offset: u64, length: u64) {
        self.inner.forget_cached(offset, length);
    }

    fn will_read(&self, offset: u64, length: u64) {
        let _waiting = self.waits.begin();
        self.inner.will_read(offset, length);
    }

    fn length(&self) -> io::Result<u64> {
        self.inner.length()
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        let _waiting = self.waits.begin();
        self.inner.set_length(length)
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        let _waiting = self.waits.begin();
        self.inner.allocate(offset, length)
    }
}

#[cfg(test)]
mod tests {
    use wire::clock::SimulatedClock;

    use super::*;

    #[test]
    fn the_oldest_operation_tells_how_long_a_disk_is_silent() {
        let clock = SimulatedClock::new();
        let waits = Waits::new(Arc::new(clock.clone()));
        assert_eq!((waits.under_way(), waits.stalled_for()), (0, None));
        let first = waits.begin();
        clock.advance(Duration::from_secs(4));
        let second = waits.begin();
        assert_eq!((waits.under_way(), waits.stalled_for()), (2, None));
        clock.advance(Duration::from_secs(2));
        assert_eq!(waits.stalled_for(), Some(Duration::from_secs(6)));
        drop(first);
        assert_eq!((waits.under_way(), waits.stalled_for()), (1, None));
        drop(second);
        clock.advance(Duration::from_secs(99));
        assert_eq!((waits.under_way(), waits.stalled_for()), (0, None));
    }
}
