//! A disk in memory that can crash, fill up, fail and rot.
//!
//! Until it is synced, a write exists only in the current view. A crash keeps of each file's
//! unsynced writes a random choice of 512-byte sectors, a prefix, all or none, and of each
//! directory's unsynced changes a prefix. Handles that were opened before a crash are dead after
//! it.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, DiskFile, DiskSpace, OpenMode};
use crate::entropy::{Entropy, SeededEntropy};

/// What a crash can tear apart: the sector that devices promise to write as one.
const SECTOR_BYTES: usize = 512;

/// What goes wrong from now on.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each fault is on or off by itself")]
pub struct DiskFaults {
    /// Writes fail with an I/O error.
    pub writes_fail: bool,
    /// Syncs fail, and what they should have covered is never made durable by a later one.
    pub syncs_fail: bool,
    /// Reads fail with an I/O error.
    pub reads_fail: bool,
    /// The directory is gone.
    pub gone: bool,
    /// Bytes that all files together may have.
    pub capacity_bytes: u64,
}

impl Default for DiskFaults {
    fn default() -> Self {
        Self {
            writes_fail: false,
            syncs_fail: false,
            reads_fail: false,
            gone: false,
            capacity_bytes: 1 << 40,
        }
    }
}

/// A simulated disk: one directory of it. Clones and sub-directories share the state.
#[derive(Clone)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
    prefix: String,
    path: PathBuf,
}

struct State {
    entropy: SeededEntropy,
    generation: u64,
    faults: DiskFaults,
    files: BTreeMap<u64, FileState>,
    files_made: u64,
    /// What a process sees.
    names: BTreeMap<String, u64>,
    /// What is sure to be there after a crash.
    durable_names: BTreeMap<String, u64>,
    /// Changes since the directory's last sync, oldest first.
    pending_names: Vec<NameChange>,
    syncs: u64,
}

#[derive(Clone)]
struct NameChange {
    directory: String,
    kind: NameChangeKind,
}

#[derive(Clone)]
enum NameChangeKind {
    Create(String, u64),
    Remove(String),
    Rename(String, String),
}

impl NameChangeKind {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Create(name, file) => {
                names.insert(name.clone(), *file);
            }
            Self::Remove(name) => {
                names.remove(name);
            }
            Self::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
        }
    }
}

#[derive(Clone, Default)]
struct FileState {
    current: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
    /// Changes that a failed sync dropped: seen until the crash, then gone.
    doomed: bool,
}

#[derive(Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Length(u64),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(offset, data) => {
                let start = *offset as usize;
                if bytes.len() < start + data.len() {
                    bytes.resize(start + data.len(), 0);
                }
                bytes[start..start + data.len()].copy_from_slice(data);
            }
            Self::Length(length) => bytes.resize(*length as usize, 0),
        }
    }
}

impl SimulatedDisk {
    /// An empty disk whose crashes follow from `seed`.
    pub fn new(seed: u64) -> Self {
        let state = State {
            entropy: SeededEntropy::new(seed),
            generation: 0,
            faults: DiskFaults::default(),
            files: BTreeMap::new(),
            files_made: 0,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
            syncs: 0,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            prefix: String::new(),
            path: PathBuf::from("/simulated"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn full_name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Sets what goes wrong from now on.
    pub fn set_faults(&self, faults: DiskFaults) {
        self.lock().faults = faults;
    }

    /// How many file syncs have succeeded.
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// Cuts the power: unsynced changes survive in part, open handles die, faults end.
    pub fn crash(&self) {
        let mut state = self.lock();
        let state = &mut *state;
        state.generation += 1;
        state.faults = DiskFaults::default();
        let kept = state.entropy.below(state.pending_names.len() as u64 + 1) as usize;
        for change in state.pending_names.drain(..).take(kept) {
            change.kind.apply(&mut state.durable_names);
        }
        state.names.clone_from(&state.durable_names);
        let alive: std::collections::HashSet<u64> = state.names.values().copied().collect();
        state.files.retain(|id, _| alive.contains(id));
        for file in state.files.values_mut() {
            file.crash(&state.entropy);
        }
    }

    /// Flips one bit of a file, as rot does: in what is seen and in what is durable.
    pub fn flip_bit(&self, name: &str, offset: u64, bit: u8) -> io::Result<()> {
        let full_name = self.full_name(name);
        let mut state = self.lock();
        let id = *state.names.get(&full_name).ok_or(io::ErrorKind::NotFound)?;
        let file = state.files.get_mut(&id).ok_or(io::ErrorKind::NotFound)?;
        let at = offset as usize;
        for bytes in [&mut file.current, &mut file.durable] {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << (bit % 8);
            }
        }
        Ok(())
    }
}

impl FileState {
    fn crash(&mut self, entropy: &SeededEntropy) {
        let pending = std::mem::take(&mut self.pending);
        if !self.doomed {
            // The ways in which caches lose: everything, nothing, the tail, or any sectors.
            match entropy.below(4) {
                0 => {}
                1 => pending.iter().for_each(|change| change.apply(&mut self.durable)),
                2 => {
                    let kept = entropy.below(pending.len() as u64 + 1) as usize;
                    pending.iter().take(kept).for_each(|change| change.apply(&mut self.durable));
                }
                _ => pending.iter().for_each(|change| self.tear(change, entropy)),
            }
        }
        self.doomed = false;
        self.current.clone_from(&self.durable);
    }

    /// Applies some sectors of a write, and a change of length perhaps.
    fn tear(&mut self, change: &Change, entropy: &SeededEntropy) {
        match change {
            Change::Length(_) => {
                if entropy.below(2) == 0 {
                    change.apply(&mut self.durable);
                }
            }
            Change::Write(offset, data) => {
                let mut at = 0;
                while at < data.len() {
                    let place = *offset as usize + at;
                    let end = (at + SECTOR_BYTES - place % SECTOR_BYTES).min(data.len());
                    if entropy.below(2) == 0 {
                        Change::Write(place as u64, data[at..end].to_vec())
                            .apply(&mut self.durable);
                    }
                    at = end;
                }
            }
        }
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.current);
        self.pending.push(change);
    }
}

impl State {
    fn check_present(&self) -> io::Result<()> {
        if self.faults.gone { Err(io::ErrorKind::NotFound.into()) } else { Ok(()) }
    }

    fn used_bytes(&self) -> u64 {
        self.names
            .values()
            .filter_map(|id| self.files.get(id))
            .map(|f| f.current.len() as u64)
            .sum()
    }

    fn change_name(&mut self, directory: &str, kind: NameChangeKind) {
        kind.apply(&mut self.names);
        self.pending_names.push(NameChange { directory: directory.to_owned(), kind });
    }
}

impl Disk for SimulatedDisk {
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let full_name = self.full_name(name);
        let mut state = self.lock();
        state.check_present()?;
        let found = state.names.get(&full_name).copied();
        let id = match (mode, found) {
            (OpenMode::CreateNew, Some(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            (OpenMode::CreateNew, None) => {
                if state.faults.writes_fail {
                    return Err(io::Error::other("injected write failure"));
                }
                state.files_made += 1;
                let id = state.files_made;
                state.files.insert(id, FileState::default());
                state.change_name(&self.prefix, NameChangeKind::Create(full_name, id));
                id
            }
            (_, Some(id)) => id,
            (_, None) => return Err(io::ErrorKind::NotFound.into()),
        };
        let generation = state.generation;
        Ok(Arc::new(SimulatedFile {
            state: Arc::clone(&self.state),
            id,
            generation,
            writable: mode != OpenMode::Read,
        }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let state = self.lock();
        state.check_present()?;
        let own = state.names.keys().filter_map(|name| name.strip_prefix(&self.prefix));
        Ok(own.filter(|name| !name.contains('/')).map(str::to_owned).collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let full_name = self.full_name(name);
        let mut state = self.lock();
        state.check_present()?;
        if !state.names.contains_key(&full_name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change_name(&self.prefix, NameChangeKind::Remove(full_name));
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.full_name(from), self.full_name(to));
        let mut state = self.lock();
        state.check_present()?;
        if !state.names.contains_key(&from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change_name(&self.prefix, NameChangeKind::Rename(from, to));
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut state = self.lock();
        let state = &mut *state;
        state.check_present()?;
        if state.faults.syncs_fail {
            return Err(io::Error::other("injected sync failure"));
        }
        let (own, others) = std::mem::take(&mut state.pending_names)
            .into_iter()
            .partition(|change| change.directory == self.prefix);
        state.pending_names = others;
        let own: Vec<NameChange> = own;
        for change in &own {
            change.kind.apply(&mut state.durable_names);
        }
        Ok(())
    }

    fn subdirectory(&self, name: &str) -> io::Result<Arc<dyn Disk>> {
        self.lock().check_present()?;
        Ok(Arc::new(Self {
            state: Arc::clone(&self.state),
            prefix: format!("{}{name}/", self.prefix),
            path: self.path.join(name),
        }))
    }

    fn space(&self) -> io::Result<DiskSpace> {
        let state = self.lock();
        state.check_present()?;
        let capacity_bytes = state.faults.capacity_bytes;
        let free_bytes = capacity_bytes.saturating_sub(state.used_bytes());
        Ok(DiskSpace { capacity_bytes, free_bytes })
    }

    fn is_present(&self) -> bool {
        !self.lock().faults.gone
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

struct SimulatedFile {
    state: Arc<Mutex<State>>,
    id: u64,
    generation: u64,
    writable: bool,
}

impl SimulatedFile {
    fn with<T>(&self, work: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.generation != self.generation {
            return Err(io::Error::other("the handle died in a crash"));
        }
        work(&mut state)
    }

    fn file<'a>(&self, state: &'a mut State) -> io::Result<&'a mut FileState> {
        state.files.get_mut(&self.id).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn grow(&self, state: &mut State, end: u64) -> io::Result<()> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        if state.faults.writes_fail {
            return Err(io::Error::other("injected write failure"));
        }
        let length = self.file(state)?.current.len() as u64;
        let more = end.saturating_sub(length);
        if state.used_bytes() + more > state.faults.capacity_bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl DiskFile for SimulatedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|state| {
            if state.faults.reads_fail {
                return Err(io::Error::other("injected read failure"));
            }
            let bytes = &self.file(state)?.current;
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
            let count = buffer.len().min(bytes.len() - start);
            buffer[..count].copy_from_slice(&bytes[start..start + count]);
            Ok(count)
        })
    }

    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.read_at(buffer, offset).map(Some)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let data: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        self.with(|state| {
            self.grow(state, offset + data.len() as u64)?;
            self.file(state)?.change(Change::Write(offset, data));
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|state| {
            let linked = !state.faults.gone && state.names.values().any(|id| *id == self.id);
            let fails = state.faults.syncs_fail;
            let file = self.file(state)?;
            if fails {
                file.doomed = true;
                return Err(io::Error::other("injected sync failure"));
            }
            if !file.doomed {
                let pending = std::mem::take(&mut file.pending);
                for change in &pending {
                    change.apply(&mut file.durable);
                }
            }
            state.syncs += 1;
            if linked { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
        })
    }

    fn forget_cached(&self, _offset: u64, _length: u64) {}

    fn length(&self) -> io::Result<u64> {
        self.with(|state| Ok(self.file(state)?.current.len() as u64))
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.with(|state| {
            self.grow(state, length)?;
            self.file(state)?.change(Change::Length(length));
            Ok(())
        })
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        let end = offset + length;
        if self.length()? < end { self.set_length(end) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(disk: &SimulatedDisk, name: &str, bytes: &[u8]) -> Arc<dyn DiskFile> {
        let file = disk.open(name, OpenMode::CreateNew).expect("new");
        file.write_at(&[IoSlice::new(bytes)], 0).expect("written");
        file
    }

    #[test]
    fn what_is_synced_survives_every_crash() {
        for seed in 0..200 {
            let disk = SimulatedDisk::new(seed);
            write(&disk, "kept", &[7; 3000]).sync_data().expect("synced");
            disk.sync_directory().expect("synced");
            let file = disk.open("kept", OpenMode::Write).expect("there");
            file.write_at(&[IoSlice::new(&[9; 2000])], 3000).expect("written");
            disk.crash();
            assert!(file.sync_data().is_err());
            let file = disk.open("kept", OpenMode::Read).expect("there");
            let mut back = vec![0; 3000];
            file.read_exact_at(&mut back, 0).expect("read");
            assert_eq!(back, [7; 3000]);
        }
    }

    #[test]
    fn a_file_without_a_synced_directory_may_vanish_or_stay() {
        let survived = |seed| {
            let disk = SimulatedDisk::new(seed);
            write(&disk, "f", b"x").sync_data().expect("synced");
            disk.crash();
            disk.list().expect("list").len()
        };
        let outcomes: std::collections::BTreeSet<usize> = (0..50).map(survived).collect();
        assert_eq!(outcomes.into_iter().collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn a_failed_sync_is_not_mended_by_a_later_one() {
        let disk = SimulatedDisk::new(1);
        let file = write(&disk, "f", b"lost");
        disk.sync_directory().expect("synced");
        disk.set_faults(DiskFaults { syncs_fail: true, ..DiskFaults::default() });
        assert!(file.sync_data().is_err());
        disk.set_faults(DiskFaults::default());
        file.sync_data().expect("the kernel says so");
        disk.crash();
        let file = disk.open("f", OpenMode::Read).expect("there");
        assert_eq!(file.length().expect("length"), 0);
    }

    #[test]
    fn a_full_disk_refuses_growth_only() {
        let disk = SimulatedDisk::new(1);
        let file = write(&disk, "f", &[1; 100]);
        disk.set_faults(DiskFaults { capacity_bytes: 100, ..DiskFaults::default() });
        file.write_at(&[IoSlice::new(&[2; 100])], 0).expect("in place");
        let error = file.write_at(&[IoSlice::new(&[2; 1])], 100).expect_err("full");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
