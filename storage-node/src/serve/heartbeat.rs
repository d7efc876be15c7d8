//! The heartbeat: looks after the disks and tells the metadata how they are.

use std::sync::Arc;

use model::query::Heartbeat;
use tokio::sync::watch;
use wire::BoxFuture;
use wire::clock::timeout;

use super::StorageNode;

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
    while !*stop.borrow() {
        let watched = Arc::clone(&node);
        // Each disk is looked after in turn; one that stalls delays the report of the others, so
        // it is waited for no longer than a report.
        let look = tokio::task::spawn_blocking(move || {
            for store in watched.stores() {
                store.look_after();
            }
        });
        let limit = interval * REPORT_INTERVALS_MAX;
        if timeout(&*node.clock, limit, look).await.is_err() {
            tracing::warn!(node = %node.node, "a disk doesn't answer in time");
        }
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
