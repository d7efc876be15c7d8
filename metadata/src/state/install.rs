//! A snapshot that came from another replica takes the state's place.
//!
//! In: the file that came. Out: the state of it, and a copy that is kept as the current snapshot.
//! What always holds: all that may fail for want of space, for damage or for a disk that errs is
//! done before Raft hears of the snapshot ([`StateMachine::stage`]): then nothing has changed, and
//! its sender tries again. What is left is two renames; if they fail, the replica is fenced.

use std::io;
use std::sync::PoisonError;

use super::database::Attached;
use super::machine::{NEW_STATE_FILE, STATE_FILE, guarded};
use super::snapshot::{KEEPING, SnapshotFile, new_file};
use super::{StateError, StateMachine};
use crate::raft::types::LogId;

/// What a snapshot was made into.
pub struct Staged {
    /// What it covers.
    covers: Option<LogId>,
    /// Its copy, whole and durable; `None` once that is the current snapshot.
    copy: Option<SnapshotFile>,
    /// The database of it.
    attached: Attached,
}

impl StateMachine {
    /// Makes a copy and a database of a snapshot, and verifies every byte of it meanwhile. For one
    /// caller at a time. Gives the copy. Fences nothing.
    pub fn stage(&self, snapshot: &SnapshotFile) -> Result<SnapshotFile, StateError> {
        if self.fence().is_set() {
            return Err(StateError::Fenced);
        }
        self.unstage();
        let disk = &**self.disk();
        let staged = guarded(|| {
            let covers = snapshot.meta()?.last_log_id;
            let copy = SnapshotFile::new(new_file(disk, KEEPING)?);
            snapshot.copy_to(&copy)?;
            // It is the copy that is kept: so it is the copy that must be whole.
            let attached = copy.restore(disk, NEW_STATE_FILE)?;
            Ok((copy.clone(), Staged { covers, copy: Some(copy), attached }))
        });
        match staged {
            Ok((copy, staged)) => {
                *self.staged.lock().unwrap_or_else(PoisonError::into_inner) = Some(staged);
                Ok(copy)
            }
            Err(error) => {
                self.unstage();
                Err(error)
            }
        }
    }

    /// Lets go of what was staged, if it wasn't installed.
    pub fn unstage(&self) {
        let staged = self.staged.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(staged);
        for name in [KEEPING, NEW_STATE_FILE] {
            if let Err(error) = self.disk().remove(name)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(%error, name, "what was left of a snapshot was not removed");
            }
        }
    }

    /// Keeps a copy of a snapshot as the current one: the staged copy, if there is one.
    pub fn keep_snapshot(&self, snapshot: &SnapshotFile) -> Result<(), StateError> {
        let covers = snapshot.meta()?.last_log_id;
        let copy = {
            let mut staged = self.staged.lock().unwrap_or_else(PoisonError::into_inner);
            let own = staged.as_mut().filter(|staged| staged.covers == covers);
            own.and_then(|staged| staged.copy.take())
        };
        match copy {
            Some(copy) => self.fenced(|| self.publish(KEEPING, &copy)),
            None => self.copy_snapshot(snapshot),
        }
    }

    /// Replaces the whole state by that of a snapshot file, staged or not.
    pub fn install(&self, snapshot: &SnapshotFile) -> Result<(), StateError> {
        let attached = self.fenced(|| {
            let covers = snapshot.meta()?.last_log_id;
            let staged = self.staged.lock().unwrap_or_else(PoisonError::into_inner).take();
            match staged.filter(|staged| staged.covers == covers) {
                Some(staged) => Ok(staged.attached),
                None => snapshot.restore(&**self.disk(), NEW_STATE_FILE),
            }
        })?;
        let disk = &**self.disk();
        self.replace(attached, || {
            // The file was synced by its last commit; now it takes the old one's place.
            disk.rename(NEW_STATE_FILE, STATE_FILE)?;
            Ok(disk.sync_directory()?)
        })
    }
}
