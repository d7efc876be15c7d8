//! A node with several disks.

use std::sync::Arc;
use std::time::Duration;

use model::ids::{DiskId, NodeId};
use model::query::Heartbeat;
use model::shard::{DiskHealth, ShardError, ShardRead, ShardRequest, ShardResponse};
use storage_node::{DiskIdentity, HeartbeatReporter, OpenError, StorageNode, StoreOptions};
use tokio::sync::mpsc;
use wire::BoxFuture;
use wire::clock::{SimulatedClock, SystemClock};
use wire::disk::{Disk, DiskFaults, SimulatedDisk};
use wire::entropy::SeededEntropy;
use wire::network::Service;

use crate::world::{id, identity, open, payload, shard, small};

struct Heard(mpsc::UnboundedSender<Heartbeat>);

impl HeartbeatReporter for Heard {
    fn report(&self, heartbeat: Heartbeat) -> BoxFuture<'_, ()> {
        let _ = self.0.send(heartbeat);
        Box::pin(std::future::ready(()))
    }
}

fn disks(simulated: &[SimulatedDisk]) -> Vec<(Arc<dyn Disk>, DiskIdentity)> {
    let numbered = simulated.iter().zip(1..);
    numbered
        .map(|(disk, number)| {
            let disk: Arc<dyn Disk> = Arc::new(disk.clone());
            (disk, DiskIdentity { disk: DiskId(number), ..identity() })
        })
        .collect()
}

#[tokio::test]
async fn a_bad_disk_does_not_stop_the_node() {
    let simulated = [SimulatedDisk::new(1), SimulatedDisk::new(2)];
    // The second directory is another disk's.
    open(&simulated[1]).close();
    let (node, errors) = StorageNode::open(
        NodeId(1),
        disks(&simulated),
        small(),
        Arc::new(SystemClock::new()),
        Arc::new(SeededEntropy::new(1)),
    );
    assert_eq!(errors.iter().map(|error| error.disk).collect::<Vec<_>>(), [DiskId(2)]);
    let health: Vec<_> = node.reports().iter().map(|report| report.health).collect();
    assert_eq!(health, [DiskHealth::Ok, DiskHealth::Failed]);

    let append =
        |disk| ShardRequest::Append { disk, shards: vec![shard(id(1, 1, 0), 100)], sync: true };
    let refused = node.serve(append(DiskId(2))).await;
    assert!(matches!(refused, ShardResponse::Failed(ShardError::Failed(DiskId(2)))));
    let refused = node.serve(append(DiskId(3))).await;
    assert!(matches!(refused, ShardResponse::Failed(ShardError::NoSuchDisk(DiskId(3)))));
    let appended = node.serve(append(DiskId(1))).await;
    let ShardResponse::Appended { incarnation, position } = appended else {
        panic!("{appended:?}");
    };
    let sync = ShardRequest::Sync { disk: DiskId(1), incarnation, position };
    assert!(matches!(node.serve(sync).await, ShardResponse::Synced));
    let reads = vec![ShardRead { id: id(1, 1, 0), offset: 0, length: 100 }];
    let answer = node.serve(ShardRequest::Read { disk: DiskId(1), reads }).await;
    let ShardResponse::Read(answers) = answer else { panic!("{answer:?}") };
    assert_eq!(answers[0].as_ref().expect("read").payload, payload(id(1, 1, 0), 100));
    let (disk, its_identity) = disks(&simulated).remove(0);
    let twice = node.add_disk(disk, its_identity).expect_err("it is open already");
    assert!(matches!(twice.error, OpenError::AlreadyOpen));
    node.shutdown().await;
    let late = node.serve(append(DiskId(1))).await;
    assert!(matches!(late, ShardResponse::Failed(ShardError::Failed(_))));
}

#[tokio::test]
async fn a_change_of_health_is_reported_at_once() {
    let simulated = [SimulatedDisk::new(1)];
    let clock = SimulatedClock::new();
    let options = StoreOptions { heartbeat_interval: Duration::from_secs(1), ..small() };
    let (node, errors) = StorageNode::open(
        NodeId(1),
        disks(&simulated),
        options,
        Arc::new(clock.clone()),
        Arc::new(SeededEntropy::new(1)),
    );
    assert!(errors.is_empty());
    let (sender, mut heard) = mpsc::unbounded_channel();
    node.start(Arc::new(Heard(sender)));
    let first = heard.recv().await.expect("a first heartbeat");
    assert_eq!((first.node, first.disks[0].health), (NodeId(1), DiskHealth::Ok));
    // The clock stands still: only the change can cause the next ones.
    simulated[0].set_faults(DiskFaults { syncs_fail: true, ..DiskFaults::default() });
    let shards = vec![shard(id(1, 1, 0), 100)];
    node.serve(ShardRequest::Append { disk: DiskId(1), shards, sync: true }).await;
    while heard.recv().await.expect("a heartbeat").disks[0].health != DiskHealth::ReadOnly {}
    node.shutdown().await;
}
