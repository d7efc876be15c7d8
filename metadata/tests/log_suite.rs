//! openraft's own suite of storage tests, over our log and state machine.

use std::sync::Arc;

use metadata::raft::types::TypeConfig;
use metadata::raft::{LogStore, Machine};
use metadata::raft_log::RaftLog;
use metadata::state::{Fence, StateMachine};
use model::ids::ReplicaId;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use wire::clock::{Clock, SystemClock};
use wire::disk::{Disk, RealDisk};

use crate::harness::CLUSTER;

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, Machine, tempfile::TempDir> for Builder {
    async fn build(
        &self,
    ) -> Result<(tempfile::TempDir, LogStore, Machine), StorageError<TypeConfig>> {
        let root = tempfile::tempdir().expect("made");
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(root.path()).expect("opened"));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let fence = Arc::new(Fence::default());
        let log_disk = disk.subdirectory("raft-log").expect("made");
        let machine = StateMachine::create(disk, Arc::clone(&clock), Arc::clone(&fence));
        let log = RaftLog::create(log_disk, CLUSTER, ReplicaId(1), clock, fence);
        let machine = Machine(Arc::new(machine.expect("made")));
        Ok((root, LogStore(log.expect("made")), machine))
    }
}

#[test]
fn openraft_is_content() {
    let runtime = tokio::runtime::Runtime::new().expect("made");
    runtime.block_on(async { Suite::test_all(Builder).await.expect("content") });
}
