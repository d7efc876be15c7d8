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

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        _meta: &SnapshotMeta,
        snapshot: SnapshotFile,
    ) -> io::Result<()> {
        self.off_thread(move |machine| {
            machine.install(&snapshot)?;
            // The state is durable; the copy is for those who ask for a snapshot next.
            Ok(snapshot.keep(&**machine.disk())?)
        })
        .await
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<MachineSnapshot>> {
        self.off_thread(|machine| {
            let Some(snapshot) = SnapshotFile::current(&**machine.disk())? else {
                return Ok(None);
            };
            Ok(Some(Snapshot { meta: snapshot.meta()?, snapshot }))
        })
        .await
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Machine {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> io::Result<MachineSnapshot> {
        self.off_thread(|machine| {
            let snapshot = machine.build_snapshot()?;
            Ok(Snapshot { meta: snapshot.meta()?, snapshot })
        })
        .await
    }
}
