//! A disk whose changes stay in memory.
//!
//! What opens a disk in earnest can be run on it, to see what it would do: it reads what is there
//! and sees what it wrote itself, and the disk below is only ever read.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use crate::sync::Mutex;

use wire::disk::{Disk, DiskFile, DiskSpace, OpenMode};

use crate::lock::lock;

const PAGE_BYTES: u64 = 4096;

/// A disk over `below`, which is never changed.
#[derive(Clone)]
pub(super) struct Overlay {
    below: Arc<dyn Disk>,
    names: Arc<Mutex<Names>>,
}

#[derive(Default)]
struct Names {
    /// Files that were opened for writing, made or renamed here.
    changed: BTreeMap<String, Arc<OverlayFile>>,
    /// Names below that are gone here.
    gone: BTreeSet<String>,
}

impl Overlay {
    pub(super) fn new(below: Arc<dyn Disk>) -> Self {
        Self { below, names: Arc::default() }
    }

    /// The file as it is here.
    fn find(&self, names: &Names, name: &str) -> io::Result<Arc<OverlayFile>> {
        if let Some(file) = names.changed.get(name) {
            return Ok(Arc::clone(file));
        }
        if names.gone.contains(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inner = self.below.open(name, OpenMode::Read)?;
        let length = inner.length()?;
        Ok(Arc::new(OverlayFile::new(Some(inner), length)))
    }
}

impl Disk for Overlay {
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut names = lock(&self.names);
        let file = match (mode, self.find(&names, name)) {
            (OpenMode::CreateNew, Ok(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            (OpenMode::CreateNew, Err(error)) if error.kind() == io::ErrorKind::NotFound => {
                Arc::new(OverlayFile::new(None, 0))
            }
            (_, found) => found?,
        };
        if mode != OpenMode::Read {
            names.changed.insert(name.to_owned(), Arc::clone(&file));
        }
        Ok(file)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let names = lock(&self.names);
        let mut all: BTreeSet<String> = self.below.list()?.into_iter().collect();
        all.retain(|name| !names.gone.contains(name));
        all.extend(names.changed.keys().cloned());
        Ok(all.into_iter().collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut names = lock(&self.names);
        self.find(&names, name)?;
        names.changed.remove(name);
        names.gone.insert(name.to_owned());
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut names = lock(&self.names);
        let file = self.find(&names, from)?;
        names.changed.remove(from);
        names.gone.insert(from.to_owned());
        names.changed.insert(to.to_owned(), file);
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }

    /// Sub-directories are empty here, and what is put there is nowhere.
    fn subdirectory(&self, _: &str) -> io::Result<Arc<dyn Disk>> {
        Ok(Arc::new(Self::new(Arc::new(Empty(self.below.path().to_owned())))))
    }

    fn space(&self) -> io::Result<DiskSpace> {
        self.below.space()
    }

    fn is_present(&self) -> bool {
        self.below.is_present()
    }

    fn path(&self) -> &Path {
        self.below.path()
    }
}

/// A file's content below, and the pages that were changed.
struct OverlayFile {
    inner: Option<Arc<dyn DiskFile>>,
    state: Mutex<FileState>,
}

struct FileState {
    length: u64,
    /// What the file below counts for: it was cut to this.
    below: u64,
    pages: BTreeMap<u64, Box<[u8]>>,
}

impl OverlayFile {
    fn new(inner: Option<Arc<dyn DiskFile>>, length: u64) -> Self {
        let state = FileState { length, below: length, pages: BTreeMap::new() };
        Self { inner, state: Mutex::new(state) }
    }

    /// What is below at `offset`, zeros behind its end.
    fn read_below(&self, below: u64, part: &mut [u8], offset: u64) -> io::Result<()> {
        let wanted = below.saturating_sub(offset).min(part.len() as u64) as usize;
        let count = match &self.inner {
            Some(inner) => inner.read_at(&mut part[..wanted], offset)?,
            None => 0,
        };
        part[count..].fill(0);
        Ok(())
    }
}

impl DiskFile for OverlayFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = lock(&self.state);
        let count = state.length.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let buffer = &mut buffer[..count];
        self.read_below(state.below, buffer, offset)?;
        let end = offset + count as u64;
        let first = offset / PAGE_BYTES;
        for (page, bytes) in state.pages.range(first..end.div_ceil(PAGE_BYTES)) {
            let at = page * PAGE_BYTES;
            let (from, until) = (at.max(offset), (at + PAGE_BYTES).min(end));
            let source = &bytes[(from - at) as usize..(until - at) as usize];
            buffer[(from - offset) as usize..(until - offset) as usize].copy_from_slice(source);
        }
        Ok(count)
    }

    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.read_at(buffer, offset).map(Some)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let mut state = lock(&self.state);
        let mut at = offset;
        for part in parts {
            let mut rest: &[u8] = part;
            while !rest.is_empty() {
                let page = at / PAGE_BYTES;
                if !state.pages.contains_key(&page) {
                    let mut bytes = vec![0; PAGE_BYTES as usize].into_boxed_slice();
                    self.read_below(state.below, &mut bytes, page * PAGE_BYTES)?;
                    state.pages.insert(page, bytes);
                }
                let within = (at - page * PAGE_BYTES) as usize;
                let count = rest.len().min(PAGE_BYTES as usize - within);
                if let Some(bytes) = state.pages.get_mut(&page) {
                    bytes[within..within + count].copy_from_slice(&rest[..count]);
                }
                rest = &rest[count..];
                at += count as u64;
            }
        }
        state.length = state.length.max(at);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn forget_cached(&self, _: u64, _: u64) {}

    fn length(&self) -> io::Result<u64> {
        Ok(lock(&self.state).length)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        let mut state = lock(&self.state);
        if length < state.length {
            state.below = state.below.min(length);
            let kept = length.div_ceil(PAGE_BYTES);
            state.pages.retain(|page, _| *page < kept);
            let within = (length % PAGE_BYTES) as usize;
            if within > 0
                && let Some(last) = state.pages.get_mut(&(length / PAGE_BYTES))
            {
                last[within..].fill(0);
            }
        }
        state.length = length;
        Ok(())
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.length = state.length.max(offset + length);
        Ok(())
    }
}

/// A directory with nothing in it.
struct Empty(std::path::PathBuf);

impl Disk for Empty {
    fn open(&self, _: &str, _: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }

    fn subdirectory(&self, _: &str) -> io::Result<Arc<dyn Disk>> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn space(&self) -> io::Result<DiskSpace> {
        Ok(DiskSpace::default())
    }

    fn is_present(&self) -> bool {
        true
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use wire::disk::SimulatedDisk;

    use super::*;

    fn text(disk: &dyn Disk, name: &str) -> Vec<u8> {
        let file = disk.open(name, OpenMode::Read).expect("there");
        let mut bytes = vec![0; file.length().expect("length") as usize];
        file.read_exact_at(&mut bytes, 0).expect("read");
        bytes
    }

    #[test]
    fn changes_are_seen_here_and_not_below() {
        let below = SimulatedDisk::new(1);
        let long = vec![7u8; 10_000];
        for name in ["a", "b"] {
            let file = below.open(name, OpenMode::CreateNew).expect("new");
            file.write_at(&[IoSlice::new(&long)], 0).expect("written");
        }
        let over = Overlay::new(Arc::new(below.clone()));
        let a = over.open("a", OpenMode::Write).expect("there");
        a.write_at(&[IoSlice::new(b"xx"), IoSlice::new(b"yy")], 4094).expect("written");
        let mut expected = long.clone();
        expected[4094..4098].copy_from_slice(b"xxyy");
        assert_eq!(text(&over, "a"), expected);
        a.set_length(4096).expect("cut");
        a.set_length(5000).expect("extended");
        expected.truncate(4096);
        expected.resize(5000, 0);
        assert_eq!(text(&over, "a"), expected);
        over.rename("a", "c").expect("renamed");
        over.remove("b").expect("removed");
        assert!(over.open("b", OpenMode::Read).is_err());
        assert!(over.open("c", OpenMode::CreateNew).is_err());
        over.open("b", OpenMode::CreateNew).expect("free again");
        assert_eq!(over.list().expect("names"), ["b", "c"]);
        assert_eq!(text(&over, "c"), expected);
        assert_eq!(text(&over, "b"), b"");
        assert_eq!(below.list().expect("names"), ["a", "b"]);
        assert_eq!((text(&below, "a"), text(&below, "b")), (long.clone(), long));
    }
}
