//! openraft's adaptors: its log storage, state machine, network and messages in terms of our own.
//! Nothing here decides anything.

mod log_store;
mod messages;
mod network;
mod state_machine;
pub mod types;

use std::sync::Arc;

use openraft::{Config, SnapshotPolicy};

pub use log_store::LogStore;
pub use network::{Connections, RaftMessages, RaftNetwork, RaftRequest, RaftResponse};
pub use state_machine::Machine;

use crate::limits::{
    LOG_ENTRIES_KEPT, RAFT_ELECTION_MAX, RAFT_ELECTION_MIN, RAFT_HEARTBEAT, SNAPSHOT_ENTRIES,
    SNAPSHOT_INSTALL_DEADLINE,
};

/// Our Raft.
pub type Raft = openraft::Raft<types::TypeConfig, Machine>;

/// Raft's configuration.
pub fn config() -> Result<Arc<Config>, openraft::ConfigError> {
    let config = Config {
        cluster_name: "drystone".to_owned(),
        heartbeat_interval: RAFT_HEARTBEAT.as_millis() as u64,
        election_timeout_min: RAFT_ELECTION_MIN.as_millis() as u64,
        election_timeout_max: RAFT_ELECTION_MAX.as_millis() as u64,
        install_snapshot_timeout: SNAPSHOT_INSTALL_DEADLINE.as_millis() as u64,
        max_payload_entries: 64,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_ENTRIES),
        max_in_snapshot_log_to_keep: LOG_ENTRIES_KEPT,
        purge_batch_size: LOG_ENTRIES_KEPT,
        replication_lag_threshold: SNAPSHOT_ENTRIES,
        enable_pre_vote: Some(true),
        // A leader that comes back in its old term writes no entry of its own: it could answer reads
        // before it knows what it had acknowledged (I-4). An election settles that.
        enable_leader_restore: Some(false),
        ..Config::default()
    };
    Ok(Arc::new(config.validate()?))
}
