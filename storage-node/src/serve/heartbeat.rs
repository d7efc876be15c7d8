//! The heartbeat: looks after the disks and tells the metadata how they are.
//!
//! Each disk is looked after on a thread of its own. One that doesn't answer delays nobody: it is
//! reported as it is known, with how long it has been silent, and looked after again once it
//! answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::ids::DiskId;
use model::query::Heartbeat;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use wire::BoxFuture;
use wire::clock::timeout;

use super::StorageNode;
use crate::store::Store;

/// Intervals that a report may take before it is given up for a newer one.
const REPORT_INTERVALS_MAX: u32 = 3;

/// Takes heartbeats to the metadata leader, whoever that is just now. A report that can't be
/// delivered is dropped: the next one says more.
pub trait HeartbeatReporter: Send + Sync + 'static {
    /// Delivers one heartbeat.
    fn report(&self, heartbeat: Heartbeat) -> BoxFuture<'_, ()>;
}

/// Runs until `stop` is true.
pub(super) async fn run(
    node: Arc<StorageNode>,
    reporter: Arc<dyn HeartbeatReporter>,
    mut stop: watch::Receiver<bool>,
) {
    let interval = node.options.heartbeat_interval;
    let mut looks = Looks::default();
    while !*stop.borrow() {
        let stores = node.stores();
        looks.begin(&stores);
        // Healthy disks answer in microseconds.
        let _ = timeout(&*node.clock, interval, looks.finish()).await;
        looks.tell_silent(&stores);
        let limit = interval * REPORT_INTERVALS_MAX;
        if timeout(&*node.clock, limit, reporter.report(node.heartbeat())).await.is_err() {
            tracing::warn!(node = %node.node, "the heartbeat was not delivered in time");
        }
        tokio::select! {
            () = node.clock.sleep(interval) => {}
            () = node.changed.notified() => {}
            _ = stop.changed() => {}
        }
    }
}

/// The looks that are under way, at most one for each disk.
#[derive(Default)]
struct Looks {
    under_way: BTreeMap<DiskId, Look>,
    /// The disks that are silent, and of which that was told.
    silent: BTreeSet<DiskId>,
}

struct Look {
    task: JoinHandle<()>,
    /// Nobody waits for it any more.
    is_late: bool,
}

impl Looks {
    /// Begins to look after every disk that isn't being looked after.
    fn begin(&mut self, stores: &[Arc<Store>]) {
        self.under_way.retain(|_, look| !look.task.is_finished());
        for store in stores {
            self.under_way.entry(store.identity().disk).or_insert_with(|| {
                let store = Arc::clone(store);
                let task = tokio::task::spawn_blocking(move || store.look_after());
                Look { task, is_late: false }
            });
        }
    }

    /// Waits for the disks that were quick the last time. When this is given up, those that are
    /// left stay under way.
    async fn finish(&mut self) {
        for look in self.under_way.values_mut() {
            if !look.is_late && !look.task.is_finished() {
                // Until it has answered, if it has to be waited for ever again.
                look.is_late = true;
                // Its panic has been printed; the next look is a new one.
                let _ = (&mut look.task).await;
            }
        }
    }

    /// Tells, once, of each disk that has fallen silent, and that it answers again.
    fn tell_silent(&mut self, stores: &[Arc<Store>]) {
        for store in stores {
            let disk = store.identity().disk;
            if let Some(silent) = store.stalled_for() {
                if self.silent.insert(disk) {
                    let seconds = silent.as_secs();
                    tracing::error!(%disk, seconds, "the disk doesn't answer");
                }
            } else if self.silent.remove(&disk) {
                tracing::info!(%disk, "the disk answers again");
            }
        }
    }
}
