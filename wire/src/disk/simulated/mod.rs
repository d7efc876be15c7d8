//! A disk in memory that can crash, fill up, fail and rot.
//!
//! Until it is synced, a change exists only in the current view, and a crash keeps what it likes
//! of it ([`content`] and [`names`] say how). The power can be made to fail in the middle of any
//! work, after so many changes. Handles that were opened before a crash are dead after it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, DiskFile, DiskSpace, OpenMode};
use crate::entropy::{Entropy, SeededEntropy};

mod content;
mod faults;
mod names;

use content::Content;
use faults::happens;
pub use faults::{DiskFaultOdds, DiskFaults};
use names::{NameChange, Names};

/// The system's number for an I/O error.
const EIO: i32 = 5;

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
    files: BTreeMap<u64, Content>,
    files_made: u64,
    names: Names,
    syncs: u64,
    changes: u64,
    /// What the medium doesn't give: file and bytes.
    bad: Vec<(u64, Range<u64>)>,
    /// How many changes there will have been when the power fails.
    power_until: Option<u64>,
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
            names: Names::default(),
            syncs: 0,
            changes: 0,
            bad: Vec::new(),
            power_until: None,
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

    /// How many changes were asked for: creations, removals, renames, writes, changes of length
    /// and syncs of files and directories.
    pub fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// Lets the power fail after so many more changes. From then on every change fails; the one
    /// at which it failed may have been under way. Ends with [`SimulatedDisk::crash`].
    pub fn cut_power_after(&self, changes: u64) {
        let mut state = self.lock();
        state.power_until = Some(state.changes + changes);
    }

    /// Takes back [`SimulatedDisk::cut_power_after`], if the power hasn't failed yet.
    pub fn keep_power(&self) {
        let mut state = self.lock();
        let changes = state.changes;
        state.power_until = state.power_until.filter(|until| changes > *until);
    }

    /// Whether the power has failed since [`SimulatedDisk::cut_power_after`].
    pub fn is_powerless(&self) -> bool {
        let state = self.lock();
        state.power_until.is_some_and(|until| state.changes > until)
    }

    /// Cuts the power: unsynced changes survive in part, open handles die, faults end.
    pub fn crash(&self) {
        let mut state = self.lock();
        let state = &mut *state;
        state.generation += 1;
        state.faults = DiskFaults::default();
        state.power_until = None;
        state.names.crash(&state.entropy);
        let alive: BTreeSet<u64> = state.names.iter().map(|(_, file)| file).collect();
        state.files.retain(|id, _| alive.contains(id));
        for file in state.files.values_mut() {
            file.crash(&state.entropy);
        }
    }

    /// Lets reads that touch these bytes of a file fail with `EIO` from now on, as bad sectors do.
    pub fn break_sectors(&self, name: &str, bytes: Range<u64>) -> io::Result<()> {
        let full_name = self.full_name(name);
        let mut state = self.lock();
        let id = state.names.get(&full_name).ok_or(io::ErrorKind::NotFound)?;
        state.bad.push((id, bytes));
        Ok(())
    }

    /// Takes back every [`SimulatedDisk::break_sectors`].
    pub fn mend_sectors(&self) {
        self.lock().bad.clear();
    }

    /// Flips one bit of a file, as rot does: in what is seen and in what is durable.
    pub fn flip_bit(&self, name: &str, offset: u64, bit: u8) -> io::Result<()> {
        let full_name = self.full_name(name);
        let mut state = self.lock();
        let id = state.names.get(&full_name).ok_or(io::ErrorKind::NotFound)?;
        let file = state.files.get_mut(&id).ok_or(io::ErrorKind::NotFound)?;
        file.flip_bit(offset, bit);
        Ok(())
    }
}

impl State {
    fn check_present(&self) -> io::Result<()> {
        if self.faults.gone { Err(io::ErrorKind::NotFound.into()) } else { Ok(()) }
    }

    /// Counts a change. `Ok(false)` when it is under way as the power fails: it is to be done, and
    /// nobody is to be told so.
    fn begin_change(&mut self) -> io::Result<bool> {
        self.check_present()?;
        self.changes += 1;
        let Some(until) = self.power_until.filter(|until| self.changes > *until) else {
            return Ok(true);
        };
        if self.changes == until + 1 && self.entropy.below(2) == 0 {
            return Ok(false);
        }
        Err(powerless())
    }

    fn change_names(&mut self, directory: &str, change: NameChange) -> io::Result<()> {
        let told = self.begin_change()?;
        self.faults.check_change(&self.entropy)?;
        self.names.change(directory, change);
        if told { Ok(()) } else { Err(powerless()) }
    }

    fn used_bytes(&self) -> u64 {
        let files = self.names.iter().filter_map(|(_, id)| self.files.get(&id));
        files.map(|file| file.bytes().len() as u64).sum()
    }
}

fn powerless() -> io::Error {
    io::Error::other("the power is gone")
}

impl Disk for SimulatedDisk {
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let full_name = self.full_name(name);
        let mut state = self.lock();
        state.check_present()?;
        let id = match (mode, state.names.get(&full_name)) {
            (OpenMode::CreateNew, Some(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            (OpenMode::CreateNew, None) => {
                state.files_made += 1;
                let id = state.files_made;
                state.files.insert(id, Content::default());
                state.change_names(&self.prefix, NameChange::Create(full_name, id))?;
                id
            }
            (OpenMode::Write, Some(_)) if state.faults.read_only => {
                return Err(io::ErrorKind::ReadOnlyFilesystem.into());
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
        let own = state.names.iter().filter_map(|(name, _)| name.strip_prefix(&self.prefix));
        Ok(own.filter(|name| !name.contains('/')).map(str::to_owned).collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let full_name = self.full_name(name);
        let mut state = self.lock();
        state.check_present()?;
        if state.names.get(&full_name).is_none() {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change_names(&self.prefix, NameChange::Remove(full_name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.full_name(from), self.full_name(to));
        let mut state = self.lock();
        state.check_present()?;
        let id = state.names.get(&from).ok_or(io::ErrorKind::NotFound)?;
        state.change_names(&self.prefix, NameChange::Rename(from, to, id))
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut state = self.lock();
        let state = &mut *state;
        let told = state.begin_change()?;
        if state.faults.syncs_fail || happens(&state.entropy, state.faults.odds.syncs_fail) {
            return Err(io::Error::other("injected sync failure"));
        }
        state.names.sync(&self.prefix);
        if told { Ok(()) } else { Err(powerless()) }
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

    fn file<'a>(&self, state: &'a mut State) -> io::Result<&'a mut Content> {
        state.files.get_mut(&self.id).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Does a change that makes the file reach to `end` at least.
    fn change(&self, end: u64, work: impl FnOnce(&mut Content)) -> io::Result<()> {
        self.with(|state| {
            if !self.writable {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            let told = if state.faults.gone { true } else { state.begin_change()? };
            state.faults.check_change(&state.entropy)?;
            let length = self.file(state)?.bytes().len() as u64;
            let more = end.saturating_sub(length);
            if more > 0 && state.used_bytes() + more > state.faults.capacity_bytes {
                return Err(io::ErrorKind::StorageFull.into());
            }
            work(self.file(state)?);
            if told { Ok(()) } else { Err(powerless()) }
        })
    }
}

impl DiskFile for SimulatedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|state| {
            state.faults.check_read(&state.entropy)?;
            let end = offset.saturating_add(buffer.len() as u64);
            let is_bad = |(file, bytes): &(u64, Range<u64>)| {
                *file == self.id && bytes.start < end && offset < bytes.end
            };
            if state.bad.iter().any(is_bad) {
                return Err(io::Error::from_raw_os_error(EIO));
            }
            let bytes = self.file(state)?.bytes();
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
            let count = buffer.len().min(bytes.len() - start);
            buffer[..count].copy_from_slice(&bytes[start..start + count]);
            Ok(state.faults.spoil(&state.entropy, &mut buffer[..count]))
        })
    }

    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.read_at(buffer, offset).map(Some)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let data: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        self.change(offset + data.len() as u64, |file| file.write(offset, data))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|state| {
            let told = if state.faults.gone { true } else { state.begin_change()? };
            let linked = !state.faults.gone && state.names.iter().any(|(_, id)| id == self.id);
            let file = state.files.get_mut(&self.id).ok_or(io::ErrorKind::NotFound)?;
            if state.faults.syncs_fail {
                file.drop_unsynced();
                return Err(io::Error::other("injected sync failure"));
            }
            if happens(&state.entropy, state.faults.odds.syncs_fail) {
                let evicted = state.entropy.below(2) == 0;
                file.lose_unsynced(&state.entropy, evicted);
                return Err(io::Error::other("injected sync failure"));
            }
            if !told {
                return Err(powerless());
            }
            file.sync();
            state.syncs += 1;
            if linked { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
        })
    }

    fn forget_cached(&self, _offset: u64, _length: u64) {}

    fn length(&self) -> io::Result<u64> {
        self.with(|state| Ok(self.file(state)?.bytes().len() as u64))
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.change(length, |file| file.set_length(length))
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        let end = offset + length;
        if self.length()? >= end {
            return Ok(());
        }
        self.change(end, |file| file.set_length(end))
    }
}

#[cfg(test)]
mod tests;
