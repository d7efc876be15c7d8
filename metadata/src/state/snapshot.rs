//! Snapshots: all rows of all tables in one file, chunk by chunk, each chunk checksummed.
//!
//! In: a view of the tables. Out: a file that makes the same tables anywhere (I-11). The form is
//! told in FORMAT.md. A snapshot is written to a temporary file, synced and renamed; it never takes the
//! place of a newer one.

use std::io::{self, IoSlice};
use std::sync::{Arc, PoisonError};

use redb::Database;
use twox_hash::XxHash3_64;
use wire::disk::{Disk, DiskFile, OpenMode};

use super::database::{self, Applied, Attached};
use super::{StateError, StateMachine};
use crate::limits::{SNAPSHOT_CHUNK_BYTES, SNAPSHOT_SPACE_RESERVE_BYTES};
use crate::raft::types::SnapshotMeta;
use crate::tables::{Digests, TableId, Tables, View, Walk};

const MAGIC: [u8; 8] = *b"DRYSNAP\x01";
const HEADER_BYTES: u64 = 16;
const CHUNK_HEADER_BYTES: u64 = 16;

/// The current snapshot's name.
pub const SNAPSHOT: &str = "snapshot";
/// A snapshot under construction.
const BUILDING: &str = "snapshot.tmp";
/// A copy of a snapshot that was received; one may be built meanwhile.
pub(super) const KEEPING: &str = "snapshot.copy.tmp";

/// Rows that a restored state takes in one transaction.
const RESTORE_ROWS: usize = 20_000;

/// A snapshot's file, open for reading.
#[derive(Clone)]
pub struct SnapshotFile {
    /// `None` when there is nothing to read.
    file: Option<Arc<dyn DiskFile>>,
}

impl SnapshotFile {
    /// A snapshot in `file`.
    pub fn new(file: Arc<dyn DiskFile>) -> Self {
        Self { file: Some(file) }
    }

    /// What Raft is given where there should be a snapshot and none can be made: it covers nothing,
    /// and reading it is an error, which is no error of Raft's storage.
    pub fn nothing() -> Self {
        Self { file: None }
    }

    pub(super) fn file(&self) -> io::Result<&Arc<dyn DiskFile>> {
        self.file.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The current snapshot on `disk`, if there is one.
    pub fn current(disk: &dyn Disk) -> io::Result<Option<Self>> {
        match disk.open(SNAPSHOT, OpenMode::Read) {
            Ok(file) => Ok(Some(Self::new(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Bytes.
    pub fn length(&self) -> io::Result<u64> {
        self.file()?.length()
    }

    /// A piece of the file; empty at its end.
    pub fn piece(&self, offset: u64) -> io::Result<Vec<u8>> {
        let file = self.file()?;
        let left = file.length()?.saturating_sub(offset);
        let mut piece = vec![0; left.min(SNAPSHOT_CHUNK_BYTES as u64) as usize];
        file.read_exact_at(&mut piece, offset)?;
        Ok(piece)
    }

    /// What the snapshot covers.
    pub fn meta(&self) -> Result<SnapshotMeta, StateError> {
        let (applied, _) = Reader::new(&**self.file()?, 0)?.head()?;
        Ok(SnapshotMeta {
            last_log_id: super::machine::last_applied(&applied),
            last_membership: applied.membership.to_stored()?,
        })
    }

    pub(super) fn copy_to(&self, copy: &Self) -> Result<(), StateError> {
        let file = copy.file()?;
        let mut offset = 0;
        loop {
            let piece = self.piece(offset)?;
            if piece.is_empty() {
                return Ok(file.sync_data()?);
            }
            file.write_at(&[IoSlice::new(&piece)], offset)?;
            offset += piece.len() as u64;
        }
    }
}

/// Makes a new, empty file, in place of one that a crash left.
pub fn new_file(disk: &dyn Disk, name: &str) -> io::Result<Arc<dyn DiskFile>> {
    match disk.remove(name) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    disk.open(name, OpenMode::CreateNew)
}

impl StateMachine {
    /// Writes a snapshot of the state as it is now. The state is durable before this returns. A
    /// disk that has no space for it, or fails to write it, fences nothing: the snapshot before
    /// stays.
    pub fn build_snapshot(&self) -> Result<SnapshotFile, StateError> {
        let _building = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        let view = self.durable_view()?;
        self.make_snapshot(BUILDING, |file| {
            let file = &**file.file()?;
            write(&view, file, 0, &|_| Ok(()))?;
            Ok(file.sync_data()?)
        })
    }

    /// Makes a copy of a snapshot the current one.
    pub(super) fn copy_snapshot(&self, snapshot: &SnapshotFile) -> Result<(), StateError> {
        self.make_snapshot(KEEPING, |file| snapshot.copy_to(file)).map(|_| ())
    }

    /// Whether the disk has space for another snapshot beside what commits need.
    pub fn has_space_for_snapshot(&self) -> io::Result<bool> {
        let disk = &**self.disk();
        let state_bytes = disk.open(super::machine::STATE_FILE, OpenMode::Read)?.length()?;
        let wanted = state_bytes.saturating_add(SNAPSHOT_SPACE_RESERVE_BYTES);
        Ok(disk.space()?.free_bytes >= wanted)
    }

    fn make_snapshot(
        &self,
        name: &str,
        fill: impl FnOnce(&SnapshotFile) -> Result<(), StateError>,
    ) -> Result<SnapshotFile, StateError> {
        let disk = &**self.disk();
        let result = super::machine::guarded(|| {
            let snapshot = SnapshotFile::new(new_file(disk, name)?);
            fill(&snapshot)?;
            self.publish(name, &snapshot)?;
            Ok(snapshot)
        });
        result.inspect_err(|error| match error {
            StateError::Damaged(_) | StateError::Database(_) => {
                self.fence().set(&error.to_string());
            }
            StateError::Io(_) | StateError::Fenced => {
                // The space is needed, and if this fails too, the next one removes it.
                let _ = disk.remove(name);
            }
        })
    }

    /// Gives a synced snapshot its name and syncs that: a crash leaves the old one or the new one.
    /// A newer one that was published meanwhile stays.
    pub(super) fn publish(&self, name: &str, snapshot: &SnapshotFile) -> Result<(), StateError> {
        let disk = &**self.disk();
        let covers = snapshot.meta()?.last_log_id;
        let _publishing = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        let current = SnapshotFile::current(disk)?.map(|current| current.meta());
        // One that is damaged is worth nothing.
        if let Some(Ok(current)) = current
            && current.last_log_id > covers
        {
            return Ok(disk.remove(name)?);
        }
        disk.rename(name, SNAPSHOT)?;
        Ok(disk.sync_directory()?)
    }
}

/// Writes the snapshot of a database that nothing runs on, as the current one of `disk`.
pub(crate) fn build_offline(database: &Database, disk: &dyn Disk) -> Result<(), StateError> {
    let file = new_file(disk, BUILDING)?;
    write(&View::new(database)?, &*file, 0, &|_| Ok(()))?;
    file.sync_data()?;
    disk.rename(BUILDING, SNAPSHOT)?;
    Ok(disk.sync_directory()?)
}

/// Writes a snapshot from `base` on in `file`, and tells after each chunk how far it is; gives its
/// end.
pub(crate) fn write(
    view: &View,
    file: &dyn DiskFile,
    base: u64,
    progress: &dyn Fn(u64) -> io::Result<()>,
) -> Result<u64, StateError> {
    let (applied, digests) = database::read_applied_in(view.transaction())?;
    let offset = base + HEADER_BYTES;
    let mut writer = Writer { file, offset, chunks: 0, total: 0, progress };
    file.write_at(&[IoSlice::new(&MAGIC), IoSlice::new(&[0; 8])], base)?;
    let mut head = Vec::new();
    minicbor::encode(&applied, &mut head)
        .map_err(|error| StateError::Damaged(error.to_string()))?;
    head.extend_from_slice(&digests.to_bytes());
    writer.chunk(&head)?;
    let mut chunk = Vec::with_capacity(SNAPSHOT_CHUNK_BYTES + 4096);
    for table in TableId::ALL {
        view.walk(table, b"", b"", |key, value| {
            chunk.push(table as u8);
            chunk.extend_from_slice(&(key.len() as u32).to_le_bytes());
            chunk.extend_from_slice(&(value.len() as u32).to_le_bytes());
            chunk.extend_from_slice(key);
            chunk.extend_from_slice(value);
            if chunk.len() >= SNAPSHOT_CHUNK_BYTES {
                writer.chunk(&chunk)?;
                chunk.clear();
            }
            Ok(Walk::On)
        })?;
    }
    if !chunk.is_empty() {
        writer.chunk(&chunk)?;
    }
    writer.end()?;
    Ok(writer.offset)
}

struct Writer<'a> {
    file: &'a dyn DiskFile,
    offset: u64,
    chunks: u32,
    /// Chained over the chunks' checksums.
    total: u64,
    progress: &'a dyn Fn(u64) -> io::Result<()>,
}

impl Writer<'_> {
    fn chunk(&mut self, content: &[u8]) -> Result<(), StateError> {
        let sum = XxHash3_64::oneshot_with_seed(u64::from(self.chunks), content);
        self.total = chain(self.total, sum);
        self.put(content.len() as u32, sum, content)
    }

    /// The end is a chunk of no bytes whose checksum is that of all chunks.
    fn end(&mut self) -> Result<(), StateError> {
        self.put(0, self.total, &[])
    }

    fn put(&mut self, length: u32, sum: u64, content: &[u8]) -> Result<(), StateError> {
        let mut header = [0; CHUNK_HEADER_BYTES as usize];
        header[..4].copy_from_slice(&length.to_le_bytes());
        header[4..8].copy_from_slice(&self.chunks.to_le_bytes());
        header[8..].copy_from_slice(&sum.to_le_bytes());
        self.file.write_at(&[IoSlice::new(&header), IoSlice::new(content)], self.offset)?;
        self.offset += CHUNK_HEADER_BYTES + content.len() as u64;
        self.chunks += 1;
        Ok((self.progress)(self.offset)?)
    }
}

fn chain(total: u64, sum: u64) -> u64 {
    XxHash3_64::oneshot_with_seed(total, &sum.to_le_bytes())
}

/// Reads a snapshot, and verifies what it reads.
pub(super) struct Reader<'a> {
    pub(super) file: &'a dyn DiskFile,
    pub(super) length: u64,
    pub(super) offset: u64,
    pub(super) chunks: u32,
    pub(super) total: u64,
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'a dyn DiskFile, base: u64) -> Result<Self, StateError> {
        let mut header = [0; HEADER_BYTES as usize];
        file.read_exact_at(&mut header, base)?;
        if header[..8] != MAGIC {
            return Err(damaged("it has no header"));
        }
        let (length, offset) = (file.length()?, base + HEADER_BYTES);
        Ok(Self { file, length, offset, chunks: 0, total: 0 })
    }

    pub(super) fn head(&mut self) -> Result<(Applied, Digests), StateError> {
        let head = self.next()?.ok_or_else(|| damaged("it is empty"))?;
        let split = head.len().checked_sub(Digests::BYTES).ok_or_else(|| damaged("no digests"))?;
        let (applied, digests) = head.split_at(split);
        let applied = minicbor::decode(applied).map_err(|_| damaged("no position"))?;
        Ok((applied, Digests::from_bytes(digests).ok_or_else(|| damaged("no digests"))?))
    }

    /// The next chunk, verified; `None` at a verified end.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, StateError> {
        let mut header = [0; CHUNK_HEADER_BYTES as usize];
        self.file.read_exact_at(&mut header, self.offset)?;
        let word = |at: usize| -> u32 {
            header
                .get(at..at + 4)
                .and_then(|four| four.try_into().ok())
                .map_or(0, u32::from_le_bytes)
        };
        let (length, number) = (word(0), word(4));
        let sum = u64::from(word(8)) | u64::from(word(12)) << 32;
        self.offset += CHUNK_HEADER_BYTES;
        if number != self.chunks || u64::from(length) > self.length.saturating_sub(self.offset) {
            return Err(damaged("a chunk is missing"));
        }
        if length == 0 {
            return if sum == self.total { Ok(None) } else { Err(damaged("it has another end")) };
        }
        let mut content = vec![0; length as usize];
        self.file.read_exact_at(&mut content, self.offset)?;
        if XxHash3_64::oneshot_with_seed(u64::from(number), &content) != sum {
            return Err(damaged("a chunk fails its checksum"));
        }
        self.offset += u64::from(length);
        self.chunks += 1;
        self.total = chain(self.total, sum);
        Ok(Some(content))
    }
}

fn damaged(what: &str) -> StateError {
    StateError::Damaged(format!("the snapshot is damaged: {what}"))
}

/// What a snapshot holds.
#[derive(Clone, Debug)]
pub(crate) struct Contents {
    pub(crate) applied: Applied,
    pub(crate) digests: Digests,
    /// Where it ends in its file.
    pub(crate) end: u64,
}

/// Reads and verifies every byte of the snapshot that begins at `base`, those too that say nothing.
pub(crate) fn check(
    file: &dyn DiskFile,
    base: u64,
    progress: &dyn Fn(u64),
) -> Result<Contents, StateError> {
    let mut spare = [0; 8];
    file.read_exact_at(&mut spare, base + 8)?;
    if spare != [0; 8] {
        return Err(damaged("its header has something where nothing is"));
    }
    let mut reader = Reader::new(file, base)?;
    let (applied, expected) = reader.head()?;
    let mut digests = Digests::default();
    while let Some(chunk) = reader.next()? {
        let mut content = chunk.as_slice();
        while !content.is_empty() {
            let row = read_row(content).ok_or_else(|| damaged("a row is cut"))?;
            digests.0[row.table as usize].add(row.table.seal(row.key, row.value));
            content = row.rest;
        }
        progress(reader.offset);
    }
    if digests != expected {
        return Err(damaged("its rows don't match their digests"));
    }
    Ok(Contents { applied, digests, end: reader.offset })
}

impl SnapshotFile {
    /// Makes a durable database in the file `name` with the rows of the snapshot.
    pub(super) fn restore(&self, disk: &dyn Disk, name: &str) -> Result<Attached, StateError> {
        restore(&**self.file()?, 0, disk, name)
    }
}

/// Makes a durable database in the file `name` with the rows of the snapshot that begins at `base`
/// in `file`.
pub(crate) fn restore(
    file: &dyn DiskFile,
    base: u64,
    disk: &dyn Disk,
    name: &str,
) -> Result<Attached, StateError> {
    let mut reader = Reader::new(file, base)?;
    let (applied, expected) = reader.head()?;
    let attached = database::create(disk, name)?;
    let database = &attached.database;
    let mut digests = Digests::default();
    let mut chunk = reader.next()?;
    while chunk.is_some() {
        let transaction = database::begin(database)?;
        let mut tables = Tables::new(&transaction, digests);
        let mut rows = 0;
        while let Some(content) = &chunk {
            rows += restore_rows(&mut tables, content)?;
            chunk = reader.next()?;
            if rows >= RESTORE_ROWS {
                break;
            }
        }
        digests = tables.digests();
        drop(tables);
        transaction.commit()?;
    }
    if digests != expected {
        return Err(damaged("its rows don't match their digests"));
    }
    let transaction = database::begin(database)?;
    database::write_applied(&transaction, &applied, digests)?;
    transaction.commit()?;
    database::checkpoint(database)?;
    Ok(attached)
}

fn restore_rows(tables: &mut Tables<'_>, mut content: &[u8]) -> Result<usize, StateError> {
    let mut rows = 0;
    while !content.is_empty() {
        let row = read_row(content).ok_or_else(|| damaged("a row is cut"))?;
        tables.insert(row.table, row.key, row.value)?;
        content = row.rest;
        rows += 1;
    }
    Ok(rows)
}

struct SnapshotRow<'a> {
    table: TableId,
    key: &'a [u8],
    value: &'a [u8],
    rest: &'a [u8],
}

fn read_row(content: &[u8]) -> Option<SnapshotRow<'_>> {
    let (table, rest) = content.split_first()?;
    let (key_length, rest) = rest.split_first_chunk::<4>()?;
    let (value_length, rest) = rest.split_first_chunk::<4>()?;
    let (key, rest) = rest.split_at_checked(u32::from_le_bytes(*key_length) as usize)?;
    let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*value_length) as usize)?;
    Some(SnapshotRow { table: TableId::from_number(*table)?, key, value, rest })
}
