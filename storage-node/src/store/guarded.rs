//! Work that a disk can't do without, and what happens when its thread panics: the disk has failed,
//! and who waits for it is told.
//!
//! Holds: when a guard has been dropped by a panic, the disk is `failed`, the queue takes nothing
//! more, and who waited for something in it is answered.

use std::sync::Arc;

use model::shard::DiskHealth;

use super::queue::Queue;
use super::shared::Shared;

/// Stands guard over the thread that holds it, until it is dropped.
pub(super) struct Guard {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    /// For the reason that is reported.
    what: &'static str,
}

impl Guard {
    pub(super) fn new(shared: Arc<Shared>, queue: Arc<Queue>, what: &'static str) -> Self {
        Self { shared, queue, what }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let reason = format!("the thread that {} panicked", self.what);
            self.shared.health.worsen(DiskHealth::Failed, &reason);
            self.queue.abort();
        }
    }
}
