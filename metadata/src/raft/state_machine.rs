//! [`StateMachine`] as openraft's state machine.

use std::io;
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::type_config::alias;
use openraft::{OptionalSend, RaftSnapshotBuilder, Snapshot};

use super::types::{LogId, SnapshotMeta, StoredMembership, TypeConfig};
use crate::limits::APPLY_INLINE_COMMANDS_MAX;
use crate::state::{SnapshotFile, StateError, StateMachine};

type MachineSnapshot = alias::SnapshotOf<TypeConfig, SnapshotFile>;

/// A handle to the state machine.
#[derive(Clone)]
pub struct Machine(pub Arc<StateMachine>);

impl Machine {
    /// Runs work that waits for the disk or takes long off the async threads.
    async fn off_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&StateMachine) -> Result<T, StateError> + Send + 'static,
    ) -> io::Result<T> {
        let machine = Arc::clone(&self.0);
        let result = tokio::task::spawn_blocking(move || work(&machine)).await;
        Ok(result.map_err(io::Error::other)??)
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let applied = self.0.applied()?;
        Ok((applied.last.map(LogId::from), applied.membership.to_stored()?))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let mut batch = Vec::new();
        while let Some(entry) = entries.next().await {
            batch.push(entry?);
        }
        let taken = self.0.take(batch);
        if !taken.is_due {
            return Ok(());
        }
        let is_done = taken.commands <= APPLY_INLINE_COMMANDS_MAX && self.0.try_flush()?;
        if !is_done {
            self.off_thread(StateMachine::flush).await?;
        }
        if self.0.is_checkpoint_due() {
            self.off_thread(StateMachine::checkpoint).await?;
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Self> {
        if force {
            return Some(self.clone());
        }
        let allowed = self.off_thread(|machine| {
            let applied = machine.applied()?.last.map_or(0, |id| id.index);
            let covered = current(machine)?.and_then(|snapshot| snapshot.meta.last_log_id);
            let entries = applied.saturating_sub(covered.map_or(0, |id| id.index));
            Ok(machine.restraint().allows(machine.clock().monotonic(), entries))
        });
        // A failure is told by what comes next.
        if matches!(allowed.await, Ok(false)) {
            return None;
        }
        let checked = self.off_thread(|machine| Ok(machine.has_space_for_snapshot()?)).await;
        match checked {
            Ok(true) => Some(self.clone()),
            Ok(false) => {
                tracing::error!("the metadata's disk has no space for a snapshot; the log grows");
                None
            }
            Err(error) => {
                tracing::error!(%error, "no snapshot of the metadata can be made; the log grows");
                None
            }
        }
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        _meta: &SnapshotMeta,
        snapshot: SnapshotFile,
    ) -> io::Result<()> {
        self.off_thread(move |machine| {
            // First the copy: it explains a state that is ahead of the log, if a crash comes
            // before Raft has purged that; if it comes before the state, Raft installs the copy.
            machine.keep_snapshot(&snapshot)?;
            machine.install(&snapshot)
        })
        .await
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<MachineSnapshot>> {
        self.off_thread(|machine| {
            current(machine).or_else(|why| {
                // Raft would stop at an error, and whoever sends `nothing` tries again.
                let snapshot = machine.remake_snapshot(&why);
                let snapshot = snapshot.unwrap_or_else(|_| SnapshotFile::nothing());
                Ok(Some(Snapshot { meta: snapshot.meta().unwrap_or_default(), snapshot }))
            })
        })
        .await
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Machine {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> io::Result<MachineSnapshot> {
        self.off_thread(|machine| {
            match machine.build_snapshot() {
                // Raft would stop at an error; the snapshot that is there, or one of nothing, tells
                // it nothing new, and it tries again later.
                Err(StateError::Io(error)) => {
                    tracing::error!(%error, "a snapshot was not written; the log grows");
                    machine.restraint().failed(machine.clock().monotonic());
                    Ok(current(machine).ok().flatten().unwrap_or_else(|| Snapshot {
                        meta: SnapshotMeta::default(),
                        snapshot: SnapshotFile::nothing(),
                    }))
                }
                built => {
                    let snapshot = built?;
                    Ok(Snapshot { meta: snapshot.meta()?, snapshot })
                }
            }
        })
        .await
    }
}

/// The current snapshot, with what it covers.
fn current(machine: &StateMachine) -> Result<Option<MachineSnapshot>, StateError> {
    let Some(snapshot) = SnapshotFile::current(&**machine.disk())? else {
        return Ok(None);
    };
    Ok(Some(Snapshot { meta: snapshot.meta()?, snapshot }))
}
