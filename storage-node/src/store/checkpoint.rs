//! The checkpoint thread: writes frozen changes to the index at rest, off the writer's path.
//!
//! In goes what the checkpoint covers; the changes themselves are taken from the index. The log
//! up to the covered position was synced before: the index never points at what a crash may take.
//! Once the index is durable, the segments that were condemned before the checkpoint began are
//! removed: nothing that is durable points to them any more.

use std::sync::Arc;

use model::shard::DiskHealth;

use super::guarded::Guard;
use super::queue::Queue;
use super::shared::Shared;
use crate::compact;
use crate::index::SavedIndex;
use crate::sync::mpsc::{Receiver, Sender, channel};
use crate::sync::thread::{Builder, JoinHandle};

enum Task {
    /// What the checkpoint covers, and the segments that were condemned when it began.
    Write(Box<SavedIndex>, Vec<u64>),
    /// Answered when all before it is done.
    Barrier(Sender<()>),
}

/// The writer's handle to the thread; the thread ends when the handle is dropped.
pub(crate) struct Checkpointer {
    tasks: Sender<Task>,
}

impl Checkpointer {
    /// `queue` is the writer's: it ends when this thread panics.
    pub(crate) fn start(
        shared: Arc<Shared>,
        queue: Arc<Queue>,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (tasks, incoming) = channel();
        let guard = Guard::new(Arc::clone(&shared), queue, "writes the index");
        let thread = Builder::new().name(format!("disk-{}-index", shared.identity.disk)).spawn(
            move || {
                // Dropped before what it is told by: who waits finds the disk failed.
                let _guard = guard;
                work(&shared, &incoming);
            },
        )?;
        Ok((Self { tasks }, thread))
    }

    /// Has the frozen changes written. There is one at a time: freezing refuses a second.
    pub(crate) fn write(&self, saved: SavedIndex, condemned: Vec<u64>) {
        // Without the thread the changes stay frozen, and the log is replayed at the next start.
        let _ = self.tasks.send(Task::Write(Box::new(saved), condemned));
    }

    /// Waits until nothing is under way.
    pub(crate) fn wait(&self) {
        let (done, finished) = channel();
        if self.tasks.send(Task::Barrier(done)).is_ok() {
            // An error means that the thread is gone, and so is what was under way.
            let _ = finished.recv();
        }
    }
}

fn work(shared: &Shared, incoming: &Receiver<Task>) {
    for task in incoming {
        match task {
            Task::Write(saved, condemned) => match shared.index.commit(&saved) {
                Ok(changes) => {
                    shared.meter.checkpoints.increment(1);
                    tracing::debug!(disk = %shared.identity.disk, changes, "checkpoint taken");
                    compact::free(shared, &condemned);
                }
                Err(error) => {
                    shared.meter.failure("index");
                    let reason = format!("a checkpoint failed: {error}");
                    shared.health.worsen(DiskHealth::ReadOnly, &reason);
                }
            },
            // Whoever waits may have gone.
            Task::Barrier(done) => drop(done.send(())),
        }
    }
}
