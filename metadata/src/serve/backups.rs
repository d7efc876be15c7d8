//! Backups that are being taken from this replica.
//!
//! In: a view of the tables. Out: a file beside them, which has lost its name before anything is
//! written to it, so that it is gone with the process; piece by piece to whoever asks. What always
//! holds: few are open at once, none for long without being read, and none takes the space that
//! commits need; a failure to write one is not a failure of the replica.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use model::ids::ReplicaId;
use model::node::FEATURE_LEVEL;
use model::query::MetadataError;
use model::recovery::{BackupBegun, BackupPiece};
use wire::clock::Clock;
use wire::disk::{Disk, DiskFile};

use crate::backup::{BackupHeader, write_header};
use crate::limits::{
    BACKUP_IDLE_MAX, BACKUP_SPACE_RESERVE_BYTES, BACKUPS_OPEN_MAX, SNAPSHOT_CHUNK_BYTES,
};
use crate::state::machine::guarded;
use crate::state::{Fence, StateError, StateMachine, database, new_file, snapshot};
use crate::tables::View;

/// The file's name, for the moment in which it has one.
const TEMPORARY: &str = "backup.tmp";

/// The backups of one replica.
pub struct Backups {
    replica: ReplicaId,
    machine: Arc<StateMachine>,
    clock: Arc<dyn Clock>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    last: u64,
    backups: BTreeMap<u64, Arc<Backup>>,
}

struct Backup {
    file: Arc<dyn DiskFile>,
    /// Bytes that can be read.
    written: AtomicU64,
    /// Bytes altogether, once all are written.
    length: OnceLock<u64>,
    has_failed: AtomicBool,
    /// Nobody wants it any more.
    is_ended: AtomicBool,
    read_at: Mutex<Duration>,
}

impl Backups {
    /// None, of this replica.
    pub fn new(replica: ReplicaId, machine: Arc<StateMachine>, clock: Arc<dyn Clock>) -> Self {
        // A number that an earlier run gave out names nothing.
        let open = Open { last: clock.now().as_nanos(), backups: BTreeMap::new() };
        Self { replica, machine, clock, open: Mutex::new(open) }
    }

    /// Begins a backup of the state as it is now; goes on writing it in the background.
    pub async fn begin(self: &Arc<Self>) -> Result<BackupBegun, MetadataError> {
        self.forget_idle();
        let this = Arc::clone(self);
        let prepared = tokio::task::spawn_blocking(move || this.prepare()).await;
        let (id, backup, view, header) = prepared.map_err(|_| MetadataError::Unavailable)??;
        let index = header.index;
        // Neither may keep the replica's files open when it is stopped.
        let writer = Writer {
            disk: Arc::clone(self.machine.disk()),
            fence: Arc::clone(self.machine.fence()),
            clock: Arc::clone(&self.clock),
        };
        tokio::task::spawn_blocking(move || writer.write(&backup, &view, &header));
        tokio::spawn(watch(Arc::downgrade(self), Arc::clone(&self.clock), id));
        Ok(BackupBegun { replica: self.replica, id, index })
    }

    /// The bytes from `offset` on that are written by now.
    pub async fn read(&self, id: u64, offset: u64) -> Result<BackupPiece, MetadataError> {
        let backup = self.lock().backups.get(&id).cloned().ok_or(MetadataError::Unavailable)?;
        *backup.read_at.lock().unwrap_or_else(PoisonError::into_inner) = self.clock.monotonic();
        let read = tokio::task::spawn_blocking(move || backup.piece(offset)).await;
        match read {
            Ok(Ok(piece)) => Ok(piece),
            Ok(Err(error)) => {
                tracing::warn!(replica = %self.replica, %error, "a backup is given up");
                self.end(id);
                Err(MetadataError::Unavailable)
            }
            Err(_) => Err(MetadataError::Unavailable),
        }
    }

    /// Forgets a backup: its space is free as soon as nobody writes or reads it.
    pub fn end(&self, id: u64) {
        if let Some(backup) = self.lock().backups.remove(&id) {
            backup.is_ended.store(true, Ordering::Relaxed);
        }
    }

    fn prepare(&self) -> Result<(u64, Arc<Backup>, Arc<View>, BackupHeader), MetadataError> {
        self.machine.catch_up().map_err(|_| MetadataError::Fenced)?;
        let cluster = self.machine.directory().map.as_ref().map(|map| map.cluster);
        let cluster = cluster.ok_or(MetadataError::Unavailable)?;
        let view = self.machine.view().map_err(|_| MetadataError::Fenced)?;
        let applied = guarded(|| database::read_applied_in(view.transaction()))
            .inspect_err(|error| self.machine.fence().set(&error.to_string()))
            .map_err(|_| MetadataError::Fenced)?
            .0;
        let header = BackupHeader {
            cluster,
            index: applied.last.map_or(0, |last| last.index),
            time: self.clock.now(),
            release: env!("CARGO_PKG_VERSION").to_owned(),
            level: FEATURE_LEVEL,
            replica: self.replica,
        };
        let mut open = self.lock();
        if open.backups.len() >= BACKUPS_OPEN_MAX {
            return Err(MetadataError::Overloaded);
        }
        let disk = &**self.machine.disk();
        let file = nameless_file(disk).map_err(|error| {
            tracing::warn!(replica = %self.replica, %error, "no backup can be begun");
            MetadataError::Unavailable
        })?;
        open.last += 1;
        let id = open.last;
        let backup = Arc::new(Backup {
            file,
            written: AtomicU64::new(0),
            length: OnceLock::new(),
            has_failed: AtomicBool::new(false),
            is_ended: AtomicBool::new(false),
            read_at: Mutex::new(self.clock.monotonic()),
        });
        open.backups.insert(id, Arc::clone(&backup));
        Ok((id, backup, view, header))
    }

    fn forget_idle(&self) {
        let now = self.clock.monotonic();
        let idle: Vec<u64> = self
            .lock()
            .backups
            .iter()
            .filter(|(_, backup)| {
                let read_at = *backup.read_at.lock().unwrap_or_else(PoisonError::into_inner);
                now.saturating_sub(read_at) >= BACKUP_IDLE_MAX
            })
            .map(|(id, _)| *id)
            .collect();
        for id in idle {
            self.end(id);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Backups {
    fn drop(&mut self) {
        for backup in self.lock().backups.values() {
            backup.is_ended.store(true, Ordering::Relaxed);
        }
    }
}

/// Ends the backup when nobody has read it for long.
async fn watch(backups: Weak<Backups>, clock: Arc<dyn Clock>, id: u64) {
    loop {
        clock.sleep(BACKUP_IDLE_MAX / 2).await;
        let Some(backups) = backups.upgrade() else { return };
        backups.forget_idle();
        if !backups.lock().backups.contains_key(&id) {
            return;
        }
    }
}

/// What writes a backup.
struct Writer {
    disk: Arc<dyn Disk>,
    fence: Arc<Fence>,
    clock: Arc<dyn Clock>,
}

impl Writer {
    fn write(&self, backup: &Backup, view: &View, header: &BackupHeader) {
        let started = self.clock.monotonic();
        let written = guarded(|| {
            let base = write_header(&*backup.file, header)?;
            let progress = |end: u64| {
                backup.written.store(end, Ordering::Release);
                if backup.is_ended.load(Ordering::Relaxed) {
                    return Err(io::Error::other("nobody wants it any more"));
                }
                leave_space(&*self.disk)
            };
            snapshot::write(view, &*backup.file, base, &progress)
        });
        match written {
            Ok(end) => {
                // Set once, here.
                let _ = backup.length.set(end);
                let spent = self.clock.monotonic().saturating_sub(started);
                metrics::histogram!("drystone_metadata_backup_seconds").record(spent.as_secs_f64());
                metrics::gauge!("drystone_metadata_backup_bytes").set(end as f64);
            }
            Err(error) => {
                backup.has_failed.store(true, Ordering::Release);
                if matches!(error, StateError::Io(_) | StateError::Fenced) {
                    tracing::info!(%error, "a backup was not written to its end");
                } else {
                    // What can't be read for a backup can't be read for a client either (I-13).
                    self.fence.set(&error.to_string());
                }
            }
        }
    }
}

impl Backup {
    fn piece(&self, offset: u64) -> io::Result<BackupPiece> {
        if self.has_failed.load(Ordering::Acquire) {
            return Err(io::Error::other("it could not be written"));
        }
        let length = self.length.get().copied();
        let written = length.unwrap_or_else(|| self.written.load(Ordering::Acquire));
        let left = written.saturating_sub(offset).min(SNAPSHOT_CHUNK_BYTES as u64);
        let mut bytes = vec![0; left as usize];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(BackupPiece { bytes: bytes.into(), length })
    }
}

fn nameless_file(disk: &dyn Disk) -> io::Result<Arc<dyn DiskFile>> {
    leave_space(disk)?;
    let file = new_file(disk, TEMPORARY)?;
    disk.remove(TEMPORARY)?;
    Ok(file)
}

fn leave_space(disk: &dyn Disk) -> io::Result<()> {
    if disk.space()?.free_bytes < BACKUP_SPACE_RESERVE_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::StorageFull,
            "the metadata's disk has no space for a backup",
        ));
    }
    Ok(())
}
