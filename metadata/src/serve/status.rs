//! What a replica tells of itself, at once, however busy its tables are.

use std::sync::{Arc, PoisonError};

use model::ids::ReplicaId;
use model::query::{MetadataStatus, TableDigest};
use openraft::ServerState;
use openraft::type_config::async_runtime::watch::WatchReceiver;

use super::MetadataService;
use crate::limits::{STATUS_ATTEMPTS, STATUS_PAUSE};
use crate::state::Summary;
use crate::tables::TableId;

impl MetadataService {
    /// Everything at one applied index, as far as this replica is.
    pub(super) async fn status(&self) -> MetadataStatus {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let state = if self.fence.is_set() {
            "fenced"
        } else {
            match metrics.state {
                ServerState::Leader => "leader",
                ServerState::Follower => "follower",
                ServerState::Candidate => "candidate",
                ServerState::Learner => "learner",
                ServerState::Shutdown => "stopped",
            }
        };
        let mut status = MetadataStatus {
            replica: self.replica,
            leader: metrics.current_leader.map(ReplicaId),
            term: metrics.current_term,
            state: state.to_owned(),
            last_log_index: metrics.last_log_index.unwrap_or_default(),
            last_applied_index: metrics.last_applied.map_or(0, |id| id.index),
            snapshot_index: metrics.snapshot.map_or(0, |id| id.index),
            voters: metrics.membership_config.membership().voter_ids().map(ReplicaId).collect(),
            ..MetadataStatus::default()
        };
        if self.raft.is_leader() {
            status.disks = self.heartbeats.reports();
            status.nodes = self.heartbeats.heard();
            (status.suspects, status.withheld) = self.heartbeats.doubts();
        }
        let Some(summary) = self.summary().await else {
            status.time = self.clock.now();
            return status;
        };
        status.last_applied_index = summary.applied.last.map_or(0, |id| id.index);
        status.objects = summary.objects;
        status.object_bytes = summary.object_bytes;
        let rows = |table: TableId| summary.digests.0[table as usize].rows;
        status.garbage = rows(TableId::Garbage);
        status.repairs = rows(TableId::Repair);
        status.buckets = rows(TableId::Buckets);
        status.tables = TableId::ALL
            .into_iter()
            .zip(summary.digests.0)
            .map(|(table, digest)| TableDigest {
                table: table.name().to_owned(),
                rows: digest.rows,
                digest: digest.sum,
            })
            .collect();
        status.map_epoch = self.machine.directory().map.as_ref().map_or(0, |map| map.epoch);
        status.time = self.clock.now();
        status
    }

    /// What is known of the tables. While entries are applied or a snapshot is installed, which may
    /// take minutes, it is what was known before: nobody waits for it, and no thread. `None` where
    /// the tables can't be told of.
    async fn summary(&self) -> Option<Summary> {
        let mut attempts = 0;
        loop {
            let machine = Arc::clone(&self.machine);
            let found = tokio::task::spawn_blocking(move || machine.try_summary()).await;
            if let Some(summary) = found.ok()?.ok()? {
                let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                *known = summary.clone();
                return Some(summary);
            }
            attempts += 1;
            if attempts == STATUS_ATTEMPTS {
                return Some(self.known.lock().unwrap_or_else(PoisonError::into_inner).clone());
            }
            self.clock.sleep(STATUS_PAUSE).await;
        }
    }
}
