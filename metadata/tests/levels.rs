//! What not every node of a cluster knows stays out of its log.

use metadata::keeper::MayFound;
use model::command::{Command, Outcome, Refusal};
use model::ids::{DiskId, DiskUuid, NodeId, ReplicaId};
use model::node::NodeRegistration;
use model::query::Query;

use crate::harness::bucket;
use crate::hosts::{Hosts, registration};

const REPLICA: ReplicaId = ReplicaId(1);

fn register_at(level: u32) -> Command {
    Command::RegisterNode(NodeRegistration { level, ..registration(1) })
}

fn make_bucket() -> Command {
    Command::CreateBucket { name: bucket(), owner: "me".to_owned(), location: String::new() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_of_a_higher_level_is_refused_before_the_log() {
    let refused = Outcome::Refused(Refusal::LevelTooLow);
    let mut hosts = Hosts::empty();
    hosts.start(1, 1, MayFound::Yes).await;
    hosts.init(1).await;
    assert_eq!(hosts.propose(register_at(0)).await, Outcome::NodeRegistered(NodeId(1)));
    let length = async || hosts.client.status(REPLICA).await.expect("known").last_log_index;
    let before = length().await;
    // The leader, of a proposer that doesn't look. What is known goes on.
    let alone = hosts.propose_at(REPLICA, vec![make_bucket()]).await;
    assert_eq!(alone, std::slice::from_ref(&refused));
    assert_eq!(length().await, before, "nothing was appended");
    let mixed = vec![make_bucket(), Command::RemoveNode { node: NodeId(9) }];
    let no_node = Outcome::Refused(Refusal::NoSuchNode);
    assert_eq!(hosts.propose_at(REPLICA, mixed).await, [refused.clone(), no_node]);
    assert_eq!(length().await, before + 1);
    // The client, which has seen the map, and looks once more before it says so.
    hosts.client.query(Query::ClusterMap { known_epoch: 0 }).await.expect("a map");
    assert_eq!(hosts.propose(make_bucket()).await, refused);
    assert_eq!(length().await, before + 1);
    // The level rises: what was refused is done, without anything being told to the client.
    let raised = hosts.propose_at(REPLICA, vec![register_at(1)]).await;
    assert_eq!(raised, [Outcome::NodeRegistered(NodeId(1))]);
    assert!(matches!(hosts.propose(make_bucket()).await, Outcome::BucketCreated(_)));
    hosts.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_of_a_disk_is_bounded_once_every_node_knows_the_bound() {
    let mut hosts = Hosts::empty();
    hosts.start(1, 1, MayFound::Yes).await;
    hosts.init(1).await;
    assert_eq!(hosts.propose(register_at(1)).await, Outcome::NodeRegistered(NodeId(1)));
    let disk = |uuid: u8, rack: usize, path: usize| Command::RegisterDisk {
        uuid: DiskUuid([uuid; 16]),
        node: NodeId(1),
        rack: "r".repeat(rack),
        zone: String::new(),
        weight: 1,
        path: "p".repeat(path),
    };
    // A replica of an older release would take it.
    assert_eq!(hosts.propose(disk(21, 0, 5000)).await, Outcome::DiskRegistered(DiskId(7)));
    assert_eq!(hosts.propose(register_at(2)).await, Outcome::NodeRegistered(NodeId(1)));
    let refused = Outcome::Refused(Refusal::InvalidCommand);
    assert_eq!(hosts.propose(disk(21, 0, 5000)).await, refused);
    assert_eq!(hosts.propose(disk(22, 4097, 0)).await, refused);
    assert_eq!(hosts.propose(disk(22, 4096, 4096)).await, Outcome::DiskRegistered(DiskId(8)));
    hosts.stop_all().await;
}
