//! A disk that misbehaves as it is told: it stalls, refuses writes, gives too few bytes or other
//! ones, or can't read some places.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use wire::disk::{Disk, DiskFile, DiskSpace, OpenMode};

/// What is wrong with it; all is well by default.
#[derive(Default)]
pub struct Mood {
    held: Mutex<bool>,
    released: Condvar,
    waiting: AtomicUsize,
    /// The error of every change, as the operating system numbers it; 0 for none.
    pub refuses: AtomicI64,
    /// Reads of segments that come back with a flipped bit, though the disk holds the right one.
    pub flips: AtomicI64,
    /// A file and a byte of it that the page cache has wrong, until it forgets the whole page.
    pub cached_flip: Mutex<Option<(&'static str, u64)>>,
    /// Where segments end too early.
    pub cut_at: Mutex<Option<u64>>,
    /// Where segments can't be read: from and to.
    pub unreadable: Mutex<Option<(u64, u64)>>,
    /// What is wanting for files whose names begin so: open files ([`EMFILE`]) or, for reads of
    /// segments, memory ([`ENOMEM`]).
    pub starved: Mutex<Option<(&'static str, i32)>>,
    turned_away: AtomicUsize,
    /// The next change by a thread whose name ends so panics.
    pub panics: Mutex<Option<&'static str>>,
    /// The names of files that were to be removed.
    pub removed: Mutex<Vec<String>>,
}

/// There are too many open files.
pub const EMFILE: i32 = 24;
/// There is no memory.
pub const ENOMEM: i32 = 12;

impl Mood {
    /// From now on every operation waits.
    pub fn hold(&self) {
        *self.held.lock().expect("held") = true;
    }

    /// All that waits goes on.
    pub fn release(&self) {
        *self.held.lock().expect("held") = false;
        self.released.notify_all();
    }

    /// How many operations wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    fn pass(&self) {
        let mut held = self.held.lock().expect("held");
        self.waiting.fetch_add(1, Ordering::SeqCst);
        while *held {
            held = self.released.wait(held).expect("held");
        }
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    /// How often something was wanting.
    pub fn turned_away(&self) -> usize {
        self.turned_away.load(Ordering::SeqCst)
    }

    fn feed(&self, name: &str, want: i32) -> io::Result<()> {
        match *self.starved.lock().expect("starved") {
            Some((prefix, code)) if code == want && name.starts_with(prefix) => {
                self.turned_away.fetch_add(1, Ordering::SeqCst);
                Err(io::Error::from_raw_os_error(code))
            }
            _ => Ok(()),
        }
    }

    fn change(&self) -> io::Result<()> {
        self.pass();
        let thread = std::thread::current();
        let falls = self
            .panics
            .lock()
            .expect("panics")
            .take_if(|name| thread.name().is_some_and(|thread| thread.ends_with(*name)));
        assert!(falls.is_none(), "as it was told to");
        match self.refuses.load(Ordering::SeqCst) {
            0 => Ok(()),
            code => Err(io::Error::from_raw_os_error(code as i32)),
        }
    }
}

#[derive(Clone)]
pub struct Unruly {
    inner: Arc<dyn Disk>,
    pub mood: Arc<Mood>,
}

impl Unruly {
    pub fn new(inner: impl Disk) -> Self {
        Self { inner: Arc::new(inner), mood: Arc::default() }
    }
}

impl Disk for Unruly {
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        if mode == OpenMode::CreateNew {
            self.mood.change()?;
        }
        self.mood.pass();
        self.mood.feed(name, EMFILE)?;
        let inner = self.inner.open(name, mode)?;
        Ok(Arc::new(UnrulyFile { inner, mood: Arc::clone(&self.mood), name: name.to_owned() }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.mood.pass();
        self.inner.list()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.mood.change()?;
        self.mood.removed.lock().expect("removed").push(name.to_owned());
        self.inner.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.mood.change()?;
        self.inner.rename(from, to)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.mood.change()?;
        self.inner.sync_directory()
    }

    fn subdirectory(&self, name: &str) -> io::Result<Arc<dyn Disk>> {
        self.mood.pass();
        let inner = self.inner.subdirectory(name)?;
        Ok(Arc::new(Self { inner, mood: Arc::clone(&self.mood) }))
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

struct UnrulyFile {
    inner: Arc<dyn DiskFile>,
    mood: Arc<Mood>,
    name: String,
}

impl DiskFile for UnrulyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.mood.pass();
        let count = self.inner.read_at(buffer, offset)?;
        if !self.name.starts_with("seg-") {
            return Ok(count);
        }
        self.mood.feed("seg-", ENOMEM)?;
        let end = offset + count as u64;
        if let Some((from, to)) = *self.mood.unreadable.lock().expect("unreadable")
            && offset < to
            && from < end
        {
            return Err(io::Error::from_raw_os_error(5));
        }
        if self.mood.flips.fetch_sub(1, Ordering::SeqCst) > 0
            && let Some(byte) = buffer.get_mut(count / 2)
        {
            *byte ^= 1;
        }
        if let Some((name, at)) = *self.mood.cached_flip.lock().expect("flip")
            && name == self.name
            && let Some(byte) = at.checked_sub(offset).and_then(|at| buffer.get_mut(at as usize))
        {
            *byte ^= 1;
        }
        let cut_at = self.mood.cut_at.lock().expect("cut").unwrap_or(u64::MAX);
        Ok(count.min(cut_at.saturating_sub(offset) as usize))
    }

    fn read_cached_at(&self, _: &mut [u8], _: u64) -> io::Result<Option<usize>> {
        // Nothing is in the cache of a disk that is to be asked.
        Ok(None)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.mood.change()?;
        self.inner.write_at(parts, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.mood.change()?;
        self.inner.sync_data()
    }

    fn forget_cached(&self, offset: u64, length: u64) {
        self.mood.cached_flip.lock().expect("flip").take_if(|(name, at)| {
            let page = *at / 4096 * 4096;
            *name == self.name && offset <= page && page + 4096 <= offset + length
        });
        self.inner.forget_cached(offset, length);
    }

    fn length(&self) -> io::Result<u64> {
        self.inner.length()
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.mood.change()?;
        self.inner.set_length(length)
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        self.mood.change()?;
        self.inner.allocate(offset, length)
    }
}
