//! Replicas on several nodes: lost, cut off, handed over, moved, removed, put aside.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use metadata::backup::{BackupFile, RestoreSettings, restore};
use metadata::keeper::MayFound;
use metadata::raft::Machine;
use metadata::raft::types::Batch;
use metadata::replica::wipe;
use metadata::session::Writer;
use model::cluster_map::{Disk as MapDisk, DiskState, Standing};
use model::command::{Command, CommandEnvelope, CommandId, Outcome, Refusal};
use model::ids::{DiskId, DiskUuid, NodeId, ReplicaId};
use model::node::{FEATURE_LEVEL, NodeRegistration};
use model::query::{MetadataError, MetadataRequest, MetadataResponse, Query};
use model::time::Timestamp;
use openraft::storage::RaftStateMachine;
use wire::clock::{Clock, SystemClock};
use wire::disk::{Disk, RealDisk};
use wire::network::{Network, NetworkError, NetworkFaults, Peer};

use crate::backup::{Memory, file};
use crate::harness::{CLUSTER, create_bucket, put};
use crate::hosts::{Hosts, registration, three};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_make_a_quorum_and_are_proved_the_same() {
    let (mut hosts, writer) = three().await;
    let check = hosts.client.check().await.expect("checked");
    assert!(check.is_clean() && check.replicas.len() == 3, "{check:?}");
    // And while it is being written.
    let (check, _) = tokio::join!(hosts.client.check(), hosts.put_some(&writer, 10..60));
    let check = check.expect("checked");
    assert!(check.is_clean() && check.replicas.len() == 3, "{check:?}");
    hosts.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minority_cut_off_changes_nothing_and_a_majority_stops_everything_cleanly() {
    let (mut hosts, writer) = three().await;
    let leading = hosts.leading().await;
    hosts.isolate(leading, true);
    // Its clients get no wrong answer: none at all.
    let asked = async {
        for id in hosts.replicas_of(leading) {
            let request = MetadataRequest::Query(Query::Buckets {
                prefix: String::new(),
                after: String::new(),
                limit: 1,
            });
            let clock = SystemClock::new();
            while clock.monotonic() < Duration::from_secs(3) {
                let answer = hosts.hosts[leading - 1]
                    .service
                    .call(Peer(id.0), request.clone(), Duration::from_secs(5))
                    .await;
                assert!(
                    !matches!(answer, Ok(MetadataResponse::Answer(_))) || lonely_before(&clock),
                    "{answer:?}"
                );
            }
        }
    };
    let (longest, ()) = tokio::join!(hosts.put_some(&writer, 10..20), asked);
    // Under 3 s, but for a host that is busy with other tests.
    assert!(longest < Duration::from_secs(4), "{longest:?}");
    // One more, and there is no quorum.
    let next = (1..=3).find(|number| *number != leading).expect("another");
    let before = hosts.leader().await;
    hosts.isolate(next, true);
    let clock = SystemClock::new();
    let stuck =
        wire::clock::timeout(&clock, Duration::from_secs(4), hosts.put_some(&writer, 20..21));
    assert!(stuck.await.is_err(), "{before:?}");
    hosts.isolate(next, false);
    hosts.isolate(leading, false);
    hosts.put_some(&writer, 21..25).await;
    for number in (0..20).chain(21..25) {
        assert!(hosts.has(&format!("o{number}")).await, "{number}");
    }
    let check = hosts.client.check().await.expect("checked");
    assert!(check.is_clean() && check.replicas.len() == 3, "{check:?}");
    hosts.stop_all().await;
}

/// A leader that was just cut off may answer what a quorum confirmed before.
fn lonely_before(clock: &SystemClock) -> bool {
    clock.monotonic() < Duration::from_millis(50)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lead_is_handed_over_when_asked_and_before_a_stop() {
    let (mut hosts, writer) = three().await;
    let before = hosts.leader().await.expect("leads");
    let term = async |hosts: &Hosts| {
        let leads = async |hosts: &Hosts| hosts.leader().await.is_some();
        hosts.until("a leader", leads).await;
        hosts.leader().await.expect("leads").term
    };
    let now = hosts.client.transfer(None).await.expect("handed over");
    assert_ne!(now, before.replica);
    let back = hosts.client.transfer(Some(before.replica)).await.expect("handed back");
    assert_eq!(back, before.replica);
    // One election each: nobody had to wait until a leader was missed.
    let handed_back = term(&hosts).await;
    assert_eq!(handed_back, before.term + 2);
    assert_eq!(
        hosts.client.transfer(Some(ReplicaId(99))).await,
        Err(model::query::MetadataError::Unavailable)
    );
    let longest = hosts.put_some(&writer, 10..15).await;
    assert_eq!(term(&hosts).await, handed_back, "a refused transfer stops nothing");
    // Under 1 s, but for a host that is busy with other tests.
    assert!(longest < Duration::from_secs(4), "{longest:?}");
    // A planned stop of the leader's process costs no election.
    let leading = hosts.leading().await;
    let keeper = hosts.hosts[leading - 1].keeper.take().expect("runs");
    let ((), longest) = tokio::join!(keeper.shutdown(), hosts.put_some(&writer, 15..40));
    assert_eq!(term(&hosts).await, handed_back + 1);
    assert!(longest < Duration::from_secs(4), "{longest:?}");
    hosts.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_to_a_replica_that_dies_is_given_up() {
    let (mut hosts, writer) = three().await;
    let leading = hosts.leading().await;
    let heir = (1..=3).find(|number| *number != leading).expect("another");
    let id = hosts.replicas_of(heir)[0];
    // It is heard of still, but the request to take the lead never arrives.
    hosts.isolate(heir, true);
    let refused = hosts.client.transfer(Some(id)).await;
    assert!(refused.is_err() || refused.is_ok_and(|leader| leader != id), "{refused:?}");
    let longest = hosts.put_some(&writer, 10..20).await;
    assert!(longest < Duration::from_secs(4), "{longest:?}");
    hosts.isolate(heir, false);
    hosts.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grown_server_spreads_over_three_nodes() {
    let mut hosts = Hosts::found(5).await;
    hosts.until_voters(&[(1, 5)]).await;
    let writer = hosts.writer().await;
    create_bucket(&writer).await;
    hosts.put_some(&writer, 0..20).await;
    hosts.join().await;
    hosts.put_some(&writer, 20..25).await;
    hosts.join().await;
    hosts.until_voters(&[(1, 1), (2, 1), (3, 1)]).await;
    hosts.put_some(&writer, 25..30).await;
    for number in 0..30 {
        assert!(hosts.has(&format!("o{number}")).await, "{number}");
    }
    hosts
        .until("the surplus wiped", async |hosts| {
            let holds = |disk: usize| hosts.directory(1, disk).join("metadata/identity").exists();
            (0..5).filter(|disk| holds(*disk)).count() == 1
        })
        .await;
    let check = hosts.client.check().await.expect("checked");
    assert!(check.is_clean() && check.replicas.len() == 3, "{check:?}");
    // The whole first node may go now.
    hosts.stop(1).await;
    let longest = hosts.put_some(&writer, 30..35).await;
    assert!(longest < Duration::from_secs(4), "{longest:?}");
    hosts.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_disk_of_a_node_is_filled_again_under_a_new_id() {
    let (mut hosts, writer) = three().await;
    for number in [hosts.leading().await % 3 + 1, hosts.leading().await] {
        let lost = hosts.replicas_of(number);
        let path = hosts.directory(number, 0);
        crate::harness::TestCluster::delete(&path);
        hosts.put_some(&writer, 10..15).await;
        std::fs::create_dir(&path).expect("made");
        hosts.until("it is noticed", async |hosts| hosts.replicas_of(number) != lost).await;
        hosts.until_voters(&[(1, 1), (2, 1), (3, 1)]).await;
        let check = hosts.client.check().await.expect("checked");
        assert!(check.is_clean() && check.replicas.len() == 3, "{check:?}");
    }
    hosts.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_removed_and_another_node_takes_its_place() {
    let (mut hosts, writer) = three().await;
    // A fourth has no need to keep one, until it is asked to.
    hosts.join().await;
    let id = hosts.client.add_replica(NodeId(4)).await.expect("asked");
    hosts.until("a spare", async |hosts| !hosts.replicas_of(4).is_empty()).await;
    assert_ne!(hosts.replicas_of(4), [id]);
    hosts.until("placed", async |hosts| hosts.map().await.replicas.len() == 4).await;
    assert_eq!(hosts.leader().await.expect("leads").voters.len(), 3);
    // A node stops for good.
    let leaving = hosts.replicas_of(3)[0];
    hosts.stop(3).await;
    let refused = hosts.propose(Command::RemoveNode { node: NodeId(3) }).await;
    assert!(matches!(refused, Outcome::Refused(_)));
    let forget = Command::ForgetReplica { replica: leaving, taken_from: None };
    assert_eq!(hosts.propose(forget).await, Outcome::Done);
    assert_eq!(hosts.propose(Command::RemoveNode { node: NodeId(3) }).await, Outcome::Done);
    hosts.until_voters(&[(1, 1), (2, 1), (4, 1)]).await;
    hosts.put_some(&writer, 10..20).await;
    // If it comes back nevertheless, it has no say, and what it had is wiped.
    hosts.start(3, 1, MayFound::No).await;
    hosts.until("gone", async |hosts| hosts.replicas_of(3).is_empty()).await;
    hosts.until_voters(&[(1, 1), (2, 1), (4, 1)]).await;
    hosts.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_replica_comes_back_under_a_new_id() {
    let (mut hosts, writer) = three().await;
    hosts.put_some(&writer, 10..40).await;
    for file in ["identity", "state.redb", "raft-log/hard-state", "raft-log/0000000000000001.log"] {
        let number = hosts.leading().await % 3 + 1;
        let lost = hosts.replicas_of(number);
        hosts.stop(number).await;
        let path = hosts.directory(number, 0).join("metadata").join(file);
        let mut content = std::fs::read(&path).expect("read");
        if file == "state.redb" {
            for page in content.chunks_mut(4096).skip(1).filter(|page| page[100] != 0) {
                page[100] ^= 0x40;
            }
        } else {
            content[if file.ends_with("log") { 140 } else { 20 }] ^= 4;
        }
        std::fs::write(&path, content).expect("written");
        hosts.start(number as u8, 1, MayFound::No).await;
        hosts.until_voters(&[(1, 1), (2, 1), (3, 1)]).await;
        assert_ne!(hosts.replicas_of(number), lost, "{file}");
        let check = hosts.client.check().await.expect("checked");
        assert!(check.is_clean() && check.replicas.len() == 3, "{file}: {check:?}");
    }
    for number in 0..40 {
        assert!(hosts.has(&format!("o{number}")).await, "{number}");
    }
    hosts.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_leaves_a_leader_that_it_can_no_longer_reach() {
    let (mut hosts, _) = three().await;
    let leading = hosts.leading().await;
    let other = leading % 3 + 1;
    let client = Arc::new(hosts.client_of(other));
    let writer = Writer::open(client, "other").await.expect("opened");
    hosts.put_some(&writer, 10..12).await;
    // What is sent to the leader vanishes: nothing tells the client that it is gone.
    hosts.isolate(leading, true);
    let longest = hosts.put_some(&writer, 12..15).await;
    assert!(longest < Duration::from_secs(4), "{longest:?}");
    hosts.isolate(leading, false);
    hosts.until_voters(&[(1, 1), (2, 1), (3, 1)]).await;
    hosts.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_restart_at_once() {
    let (mut hosts, _) = three().await;
    hosts.stop_all().await;
    for number in 1..=3 {
        hosts.start(number, 1, MayFound::No).await;
    }
    for number in 0..10 {
        assert!(hosts.has(&format!("o{number}")).await, "{number}");
    }
    hosts.until_voters(&[(1, 1), (2, 1), (3, 1)]).await;
    let ids: Vec<u64> = hosts.map().await.replicas.iter().map(|place| place.replica.0).collect();
    assert_eq!(ids.len(), 3);
    assert_eq!(ids[0], 1, "nobody was replaced: {ids:?}");
    hosts.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_take_effect_once_over_a_network_that_loses_messages() {
    let (mut hosts, writer) = three().await;
    hosts.set_faults(NetworkFaults {
        requests_lost_per_mille: 50,
        answers_lost_per_mille: 50,
        delay_max: Duration::from_millis(10),
    });
    let lossy = Arc::new(hosts.client_of(2));
    let spoilt = Writer::open(lossy, "other").await.expect("opened");
    let map = hosts.first_map().await;
    for number in 100..140 {
        put(&spoilt, &map, &format!("o{number}"), number).await;
    }
    hosts.set_faults(NetworkFaults::default());
    for number in 100..140 {
        assert!(hosts.has(&format!("o{number}")).await, "{number}");
    }
    assert_eq!(hosts.leader().await.expect("leads").objects, 50);
    drop(writer);
    let check = hosts.client.check().await.expect("checked");
    assert!(check.is_clean() && check.replicas.len() == 3, "{check:?}");
    hosts.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_follower_is_waited_for_before_the_log_forgets_what_it_needs() {
    let (mut hosts, writer) = three().await;
    let leading = hosts.leading().await;
    let slow = leading % 3 + 1;
    let id = hosts.replicas_of(slow)[0];
    let leader = hosts.replicas_of(leading)[0];
    let how = Arc::clone(&hosts.hosts[slow - 1].doors.slow);
    how.entries_ms.store(2_000, Ordering::Relaxed);
    let ask = || {
        let command = Command::QueueRepair { lacking: Vec::new() };
        let envelope = CommandEnvelope {
            id: CommandId::default(),
            acknowledged_below: 0,
            proposed: Timestamp(1),
            command,
        };
        let request = MetadataRequest::Propose(vec![envelope]);
        hosts.service.call(Peer(leader.0), request, Duration::from_secs(10))
    };
    let refused = |answer: &Result<MetadataResponse, NetworkError>| {
        matches!(answer, Ok(MetadataResponse::Failed(MetadataError::Overloaded)))
    };
    // More entries at once than the queue of proposals would make of them.
    let raft = hosts.hosts[leading - 1].keeper.as_ref().expect("runs").replicas()[0].raft().clone();
    let lag = async |hosts: &Hosts| {
        let of = async |id| hosts.client.status(id).await.expect("told").last_log_index;
        of(leader).await.saturating_sub(of(id).await)
    };
    // It takes 64 of them each 2 s: whatever else this host does, that is slower.
    let clock = SystemClock::new();
    let mut answer = ask().await;
    while !refused(&answer) {
        assert!(matches!(answer, Ok(MetadataResponse::Outcomes(_))), "{answer:?}");
        assert!(clock.monotonic() < Duration::from_secs(30), "never refused");
        if lag(&hosts).await <= metadata::limits::FOLLOWER_LAG_MAX {
            let writes = (0..300).map(|_| raft.client_write(Batch::new(Vec::new(), &[])));
            for written in futures_util::future::join_all(writes).await {
                written.expect("committed");
            }
        }
        answer = ask().await;
    }
    let found = lag(&hosts).await;
    assert!(found > 1500 && found < metadata::limits::LOG_ENTRIES_KEPT, "{found}");
    // It is as fast as the others again, and has caught up without a snapshot.
    how.entries_ms.store(0, Ordering::Relaxed);
    hosts.put_some(&writer, 10..12).await;
    hosts.until("caught up", async |hosts| lag(hosts).await < 5).await;
    assert_eq!(how.pieces.load(Ordering::Relaxed), 0);
    assert_eq!(hosts.replicas_of(slow), [id]);
    hosts.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_on_its_way_stops_nobody() {
    let (mut hosts, writer) = three().await;
    let map = hosts.first_map().await;
    for many in 0..20u64 {
        let puts = (0..100).map(|one| {
            let (writer, map) = (&writer, &map);
            async move {
                let number = 1000 + many * 100 + one;
                put(writer, map, &format!("{number:0900}"), number).await
            }
        });
        futures_util::future::join_all(puts).await;
    }
    for host in &hosts.hosts {
        for replica in host.keeper.as_ref().expect("runs").replicas() {
            replica.raft().trigger().snapshot().await.expect("asked");
        }
    }
    hosts
        .until("snapshots", async |hosts| {
            let leader = hosts.leader().await.expect("leads");
            leader.snapshot_index + 50 > leader.last_log_index
        })
        .await;
    for host in &hosts.hosts {
        for replica in host.keeper.as_ref().expect("runs").replicas() {
            let covered = hosts.client.status(replica.id()).await.expect("told").snapshot_index;
            replica.raft().trigger().purge_log(covered).await.expect("asked");
        }
    }
    // The fourth gets a snapshot over a line of 2 MiB/s.
    hosts.join().await;
    let how = Arc::clone(&hosts.hosts[3].doors.slow);
    how.pieces_ms.store(500, Ordering::Relaxed);
    hosts.client.add_replica(NodeId(4)).await.expect("asked");
    hosts.until("it begins", async |_| how.pieces.load(Ordering::Relaxed) > 0).await;
    let mut longest = Duration::ZERO;
    let mut number = 10;
    while how.pieces.load(Ordering::Relaxed) < 3 {
        longest = longest.max(hosts.put_some(&writer, number..number + 1).await);
        number += 1;
    }
    // Under 1 s, but for a host that is busy with other tests.
    assert!(longest < Duration::from_secs(4), "{longest:?}");
    assert!(number > 12, "commits went on: {number}");
    hosts
        .until("it has all", async |hosts| {
            let [id] = hosts.replicas_of(4)[..] else { return false };
            let Some(leader) = hosts.leader().await else { return false };
            let status = hosts.client.status(id).await;
            status.is_ok_and(|status| status.last_applied_index + 5 > leader.last_log_index)
        })
        .await;
    let check = hosts.client.check().await.expect("checked");
    assert!(check.is_clean() && check.replicas.len() == 4, "{check:?}");
    hosts.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_replica_was_taken_away_makes_none_until_it_is_asked_to() {
    let (mut hosts, writer) = three().await;
    for number in 1..=3 {
        let node = NodeRegistration { level: FEATURE_LEVEL, ..registration(number) };
        hosts.propose(Command::RegisterNode(node)).await;
    }
    let leaving = hosts.replicas_of(3)[0];
    let last = hosts.map().await.replicas.iter().map(|place| place.replica.0).max();
    let taken_from = Some(NodeId(3));
    let forget = Command::ForgetReplica { replica: leaving, taken_from };
    assert_eq!(hosts.propose(forget).await, Outcome::Done);
    hosts.until("gone", async |hosts| hosts.replicas_of(3).is_empty()).await;
    hosts.until_voters(&[(1, 1), (2, 1)]).await;
    assert_eq!(hosts.map().await.without_metadata, [NodeId(3)]);
    // It looks every second whether the cluster lacks a replica; a restart looks at once.
    let clock = SystemClock::new();
    let mut number = 10;
    while clock.monotonic() < 3 * metadata::limits::KEEPER_INTERVAL {
        hosts.put_some(&writer, number..number + 1).await;
        number += 1;
    }
    hosts.stop(3).await;
    hosts.start(3, 1, MayFound::No).await;
    hosts.put_some(&writer, number..number + 20).await;
    assert!(hosts.replicas_of(3).is_empty());
    // Had it made one in between, that would have had the next id.
    let asked = hosts.client.add_replica(NodeId(3)).await.expect("asked");
    assert_eq!(Some(asked.0 - 1), last);
    hosts.until_voters(&[(1, 1), (2, 1), (3, 1)]).await;
    assert_eq!(hosts.map().await.without_metadata, []);
    hosts.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_of_before_a_restore_is_kept_aside() {
    let (mut hosts, writer) = three().await;
    let mut sink = Memory::default();
    hosts.client.backup(&mut sink).await.expect("taken");
    hosts.put_some(&writer, 10..20).await;
    let old = hosts.replicas_of(2)[0];
    hosts.stop_all().await;
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(&hosts.directory(1, 0)).expect("opened"));
    wipe(&*disk).expect("wiped");
    let root = tempfile::tempdir().expect("made");
    let backup = BackupFile::open(file(root.path(), &sink.0)).expect("sound");
    let clock = Arc::new(SystemClock::new());
    let settings = RestoreSettings { cluster: CLUSTER, node: Some(NodeId(1)), clock };
    let restored = restore(backup, &disk, &settings).await.expect("restored");
    hosts.client.book().set(vec![restored.replica]);
    hosts.start(1, 1, MayFound::No).await;
    hosts.client.query(Query::ClusterMap { known_epoch: 0 }).await.expect("it leads");
    // A disk of a node that the restored metadata doesn't know.
    let unknown = MapDisk {
        id: DiskId(7),
        uuid: DiskUuid([70; 16]),
        node: NodeId(77),
        rack: String::new(),
        zone: String::new(),
        weight: 1,
        state: DiskState::Up,
        path: String::new(),
        standing: Standing::default(),
    };
    let adopted = hosts.propose(Command::AdoptDisk(unknown)).await;
    assert_eq!(adopted, Outcome::Refused(Refusal::NoSuchNode));
    // The second node comes back with what it had: that may know what the backup doesn't.
    hosts.start(2, 1, MayFound::No).await;
    let aside = hosts.directory(2, 0).join(format!("metadata.before-restore-{old}"));
    hosts.until("put aside", async |_| aside.exists()).await;
    assert!(aside.join("identity").exists() && aside.join("state.redb").exists());
    hosts.until("another", async |hosts| !hosts.replicas_of(2).is_empty()).await;
    assert_ne!(hosts.replicas_of(2), [old]);
    assert!(hosts.directory(2, 0).join("metadata/identity").exists());
    hosts.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_kept_for_a_learner_until_it_has_what_came_after_its_snapshot() {
    let (mut hosts, _) = three().await;
    let leading = hosts.leading().await;
    let leader = hosts.hosts[leading - 1].keeper.as_ref().expect("runs").replicas()[0].clone();
    for _ in 0..11 {
        let writes = (0..300).map(|_| leader.raft().client_write(Batch::new(Vec::new(), &[])));
        for written in futures_util::future::join_all(writes).await {
            written.expect("committed");
        }
    }
    leader.raft().trigger().snapshot().await.expect("asked");
    let covered =
        async |hosts: &Hosts| hosts.client.status(leader.id()).await.expect("told").snapshot_index;
    hosts.until("a snapshot", async |hosts| covered(hosts).await > 3000).await;
    let first = covered(&hosts).await;
    leader.raft().trigger().purge_log(first).await.expect("asked");
    hosts.join().await;
    let how = Arc::clone(&hosts.hosts[3].doors.slow);
    how.pieces_ms.store(5_000, Ordering::Relaxed);
    hosts.client.add_replica(NodeId(4)).await.expect("asked");
    hosts.until("it begins", async |_| how.pieces.load(Ordering::Relaxed) > 0).await;
    let machine = leader.machine();
    hosts.until("it is minded", async |_| machine.restraint().keeps_log()).await;
    let mut adaptor = Machine(Arc::clone(machine));
    assert!(adaptor.try_create_snapshot_builder(false).await.is_none());
    assert_eq!(covered(&hosts).await, first);
    // It has all: the next snapshot may come.
    how.pieces_ms.store(0, Ordering::Relaxed);
    hosts.until("it has all", async |_| !machine.restraint().keeps_log()).await;
    assert!(adaptor.try_create_snapshot_builder(false).await.is_some());
    drop((adaptor, leader));
    hosts.stop_all().await;
}
