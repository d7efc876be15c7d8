//! Bits that flip, and disks that err, under a replica that runs (I-13): damage is found, the replica
//! neither answers nor votes from then on, and another is made in its place, while clients go on and
//! see nothing of it.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use metadata::client::MetadataClient;
use metadata::inspection::Inspection;
use metadata::limits::{INSPECTION_PERIOD, SNAPSHOT_SPACE_RESERVE_BYTES};
use metadata::raft::types::{LeaderId, Vote};
use metadata::raft::{Machine, RaftRequest, RaftResponse};
use metadata::raft_log::RaftLog;
use metadata::replica::{DIRECTORY, Replica};
use metadata::session::Writer;
use metadata::state::{Fence, SnapshotFile, StateError, StateMachine};
use model::cluster_map::ClusterMap;
use model::command::{Command, Outcome};
use model::ids::ReplicaId;
use model::query::{Answer, MetadataError, MetadataRequest, MetadataResponse, PlanWanted, Query};
use openraft::RaftSnapshotBuilder;
use openraft::raft::VoteRequest;
use openraft::storage::RaftStateMachine;
use wire::clock::{Clock, SimulatedClock, SystemClock};
use wire::disk::{Disk, DiskFile, DiskSpace, OpenMode, RealDisk};
use wire::entropy::{Entropy, SeededEntropy};
use wire::network::Service;

use crate::harness::{CLUSTER, TestCluster, bucket, create_bucket, key, put};
use crate::snapshots::{entry, feed, machine};

/// Flips one bit of a file that holds something, somewhere before its last byte that isn't zero.
fn flip(path: &Path, entropy: &SeededEntropy) {
    let content = std::fs::read(path).expect("read");
    let end = content.iter().rposition(|byte| *byte != 0).expect("something in it");
    // Pages without content are nobody's.
    let at = loop {
        let at = entropy.below(end as u64 + 1) as usize;
        let page = at / 4096 * 4096;
        if content[page..content.len().min(page + 4096)].iter().any(|byte| *byte != 0) {
            break at;
        }
    };
    let file = std::fs::OpenOptions::new().write(true).open(path).expect("opened");
    let bit = 1 << entropy.below(8);
    file.write_all_at(&[content[at] ^ bit], at as u64).expect("written");
}

/// Clients that write and read until they are stopped, and know what they must find.
async fn drive(client: Arc<MetadataClient>, map: ClusterMap, stop: Arc<AtomicBool>) -> u64 {
    let writer = Writer::open(Arc::clone(&client), "gateway").await.expect("opened");
    let entropy = SeededEntropy::new(5);
    let mut written = 0;
    while !stop.load(Ordering::Relaxed) {
        let outcome = put(&writer, &map, &format!("t{written}"), written).await;
        assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
        written += 1;
        for number in [written - 1, entropy.below(written)] {
            expect(&client, number).await;
        }
    }
    written
}

async fn expect(client: &MetadataClient, number: u64) {
    let name = key(&format!("t{number}"));
    let query = Query::Object { bucket: bucket(), key: name, plan: PlanWanted::Whole };
    match client.query(query).await.expect("answered") {
        Answer::Object(found) => {
            assert_eq!(found.version.etag.md5, [number as u8; 16]);
        }
        other => panic!("{number}: {other:?}"),
    }
}

/// A fenced replica answers nothing and votes for nobody.
async fn refuses(replica: &Replica) {
    let leader_id = LeaderId { term: 1 << 40, node_id: 99 };
    let request = RaftRequest::Vote(VoteRequest::new(Vote { leader_id, committed: false }, None));
    let answer = replica.messages().serve(request).await;
    assert!(matches!(answer, RaftResponse::Failed(_)));
    let query = MetadataRequest::Query(Query::ClusterMap { known_epoch: 0 });
    let answer = replica.service().serve(query).await;
    assert!(matches!(answer, MetadataResponse::Failed(MetadataError::Fenced)), "{answer:?}");
}

async fn leader_or_not(cluster: &TestCluster, leads: bool) -> Arc<Replica> {
    let mut found = None;
    cluster
        .until("a leader", async |cluster| {
            let replicas = cluster.keeper().replicas();
            if replicas.iter().any(|one| one.raft().is_leader()) {
                found = replicas.into_iter().find(|one| one.raft().is_leader() == leads);
            }
            found.is_some()
        })
        .await;
    found.expect("found")
}

/// Fills the log's first segment with commands that change nothing.
async fn fill_a_segment(cluster: &TestCluster) {
    for _ in 0..18 {
        let owner = "x".repeat(1 << 20);
        let command = Command::CreateBucket { name: bucket(), owner, location: String::new() };
        let outcome = cluster.client.propose_one(command).await.expect("proposed");
        assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_any_file_of_a_running_replica_fences_it_and_nobody_sees_it() {
    let mut cluster = TestCluster::new(3, 3).await;
    let writer = cluster.writer().await;
    create_bucket(&writer).await;
    let map = cluster.map().await;
    for number in 0..200 {
        put(&writer, &map, &format!("o{number}"), number).await;
    }
    fill_a_segment(&cluster).await;
    let stop = Arc::new(AtomicBool::new(false));
    let client = Arc::clone(&cluster.client);
    let driven = tokio::spawn(drive(client, map, Arc::clone(&stop)));
    let entropy = SeededEntropy::new(11);
    let files = [
        "identity",
        "raft-log/hard-state",
        "raft-log/0000000000000001.log",
        "raft-log/0000000000000002.log",
        "state.redb",
    ];
    for (file, leads) in files.into_iter().zip([false, true, true, false, true]) {
        cluster.until_equal().await;
        let victim = leader_or_not(&cluster, leads).await;
        let path = victim.disk().path().join(DIRECTORY).join(file);
        let mut flips = 0;
        // Some bits mean nothing: a page that is free, the zeros between two records. And what is
        // written again right away is whole again.
        while !victim.fence().is_set() {
            assert!(flips < 60, "{file}: no damage was found");
            flip(&path, &entropy);
            flips += 1;
            // What it says of the others is no matter here.
            let _ = cluster.client.check().await;
        }
        refuses(&victim).await;
        let lost = victim.id();
        drop(victim);
        cluster
            .until("another", async |cluster| {
                let replicas = cluster.keeper().replicas();
                replicas.len() == 3 && replicas.iter().all(|one| one.id() != lost)
            })
            .await;
    }
    stop.store(true, Ordering::Relaxed);
    let written = driven.await.expect("no wrong answer");
    cluster.until_equal().await;
    let check = cluster.client.check().await.expect("checked");
    assert!(check.is_clean() && check.replicas.len() == 3, "{check:?}");
    assert!(written > 20, "{written}");
    for number in 0..written {
        expect(&cluster.client, number).await;
    }
    let ids: Vec<u64> = cluster.keeper().replicas().iter().map(|one| one.id().0).collect();
    assert!(ids.iter().max() >= Some(&8), "each was replaced under a new id: {ids:?}");
    cluster.stop().await;
}

/// A snapshot of every replica, and no log before it.
async fn snapshots_only(cluster: &TestCluster) {
    cluster.until_equal().await;
    for replica in cluster.keeper().replicas() {
        replica.raft().trigger().snapshot().await.expect("asked");
    }
    cluster
        .until("snapshots", async |cluster| {
            let mut covered = Vec::new();
            for replica in cluster.keeper().replicas() {
                covered.push(cluster.client.status(replica.id()).await.expect("told"));
            }
            covered.iter().all(|status| status.snapshot_index > 30)
        })
        .await;
    for replica in cluster.keeper().replicas() {
        replica.raft().trigger().purge_log(30).await.expect("asked");
    }
}

fn is_whole(directory: &Path) -> bool {
    let disk = RealDisk::open(directory).expect("opened");
    let current = SnapshotFile::current(&disk).expect("opened").expect("there");
    current.check().is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_snapshot_is_made_anew_before_anybody_gets_it() {
    let mut cluster = TestCluster::new(3, 3).await;
    let writer = cluster.writer().await;
    create_bucket(&writer).await;
    let map = cluster.map().await;
    for number in 0..60 {
        put(&writer, &map, &format!("o{number}"), number).await;
    }
    snapshots_only(&cluster).await;
    // One that lies there is found by a check.
    let entropy = SeededEntropy::new(12);
    let before: Vec<ReplicaId> = cluster.keeper().replicas().iter().map(|one| one.id()).collect();
    let leader = leader_or_not(&cluster, true).await;
    let directory = leader.disk().path().join(DIRECTORY);
    for _ in 0..5 {
        while is_whole(&directory) {
            flip(&directory.join("snapshot"), &entropy);
        }
        let check = cluster.client.check().await.expect("checked");
        assert!(check.is_clean(), "the replicas are well: {check:?}");
        assert!(is_whole(&directory));
    }
    // One that is about to be sent is found by its sender.
    while is_whole(&directory) {
        flip(&directory.join("snapshot"), &entropy);
    }
    let follower = leader_or_not(&cluster, false).await;
    let (lost, path) = (follower.id(), follower.disk().path().to_owned());
    drop(follower);
    TestCluster::delete(&path);
    put(&writer, &map, "notices", 100).await;
    std::fs::create_dir(&path).expect("made");
    cluster
        .until("another", async |cluster| {
            let replicas = cluster.keeper().replicas();
            replicas.len() == 3 && replicas.iter().all(|one| one.id() != lost)
        })
        .await;
    cluster.until_equal().await;
    assert!(is_whole(&directory) && is_whole(&path.join(DIRECTORY)));
    assert!(!leader.fence().is_set() && leader.is_running().await);
    let after = cluster.keeper().replicas();
    let kept = before.iter().filter(|id| after.iter().any(|one| one.id() == **id)).count();
    assert_eq!(kept, 2, "nobody else was replaced");
    for replica in &after {
        replica.machine().verify_tables().expect("whole");
    }
    drop((leader, after));
    cluster.stop().await;
}

/// A replica without a cluster, and a snapshot for it.
async fn receiver() -> (tempfile::TempDir, Replica, Vec<u8>, SnapshotFile, tempfile::TempDir) {
    let (source_root, source) = machine();
    feed(&source, &[entry(1, crate::model_apply::history(31, 200))], 1);
    let snapshot = source.build_snapshot().expect("built");
    let bytes = std::fs::read(source_root.path().join("snapshot")).expect("read");
    let root = tempfile::tempdir().expect("made");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(root.path()).expect("opened"));
    let world = crate::restore::world();
    let replica = Replica::create_joining(&world, &disk, ReplicaId(4)).await.expect("made");
    (root, replica, bytes, snapshot, source_root)
}

async fn send(replica: &Replica, bytes: &[u8], snapshot: &SnapshotFile) -> RaftResponse {
    for (number, piece) in bytes.chunks(1000).enumerate() {
        let piece = RaftRequest::SnapshotPiece {
            offset: number as u64 * 1000,
            piece: piece.to_vec().into(),
        };
        let taken = replica.messages().serve(piece).await;
        assert!(matches!(taken, RaftResponse::PieceTaken));
    }
    let vote = Vote { leader_id: LeaderId { term: 1, node_id: 1 }, committed: true };
    let meta = snapshot.meta().expect("whole");
    replica.messages().serve(RaftRequest::SnapshotEnd { vote, meta }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_is_damaged_on_its_way_is_not_installed_and_harms_nobody() {
    let (_root, replica, bytes, snapshot, _source) = receiver().await;
    for at in (0..bytes.len()).step_by(bytes.len() / 40).filter(|at| !(8..16).contains(at)) {
        let mut bad = bytes.clone();
        bad[at] ^= 8;
        let answer = send(&replica, &bad, &snapshot).await;
        assert!(matches!(answer, RaftResponse::Failed(_)), "byte {at}");
        assert!(!replica.fence().is_set() && replica.is_running().await, "byte {at}");
        assert_eq!(replica.machine().applied().expect("told").last, None);
    }
    let answer = send(&replica, &bytes, &snapshot).await;
    assert!(matches!(answer, RaftResponse::Snapshot(_)));
    replica.machine().verify_tables().expect("whole");
    assert!(replica.machine().applied().expect("told").last.is_some());
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_cant_be_kept_is_refused_and_taken_the_next_time() {
    let (root, replica, bytes, snapshot, _source) = receiver().await;
    // Nothing can be made under these names.
    for name in ["snapshot.copy.tmp", "state.new"] {
        let blocked = root.path().join(DIRECTORY).join(name);
        std::fs::create_dir(&blocked).expect("made");
        let answer = send(&replica, &bytes, &snapshot).await;
        assert!(matches!(answer, RaftResponse::Failed(_)), "{name}");
        assert!(!replica.fence().is_set() && replica.is_running().await, "{name}");
        std::fs::remove_dir(&blocked).expect("removed");
    }
    let answer = send(&replica, &bytes, &snapshot).await;
    assert!(matches!(answer, RaftResponse::Snapshot(_)));
    assert!(is_whole(&root.path().join(DIRECTORY)));
    replica.machine().verify_tables().expect("whole");
    let names = replica.machine().disk().list().expect("listed");
    assert!(!names.iter().any(|name| name.contains(".tmp") || name == "state.new"), "{names:?}");
    replica.shutdown().await;
    drop(replica);
    // One that is found damaged at the start is made anew then.
    let path = root.path().join(DIRECTORY).join("snapshot");
    let mut content = std::fs::read(&path).expect("read");
    content[40] ^= 2;
    std::fs::write(&path, content).expect("written");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(root.path()).expect("opened"));
    let replica = Replica::open(&crate::restore::world(), &disk).await.expect("opened");
    assert_eq!(replica.id(), ReplicaId(4));
    assert!(is_whole(&root.path().join(DIRECTORY)));
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raft_goes_on_when_its_first_snapshot_cant_be_written() {
    let mut cluster = TestCluster::new(1, 1).await;
    let writer = cluster.writer().await;
    create_bucket(&writer).await;
    let map = cluster.map().await;
    put(&writer, &map, "a", 1).await;
    let replica = leader_or_not(&cluster, true).await;
    let blocked = replica.disk().path().join(DIRECTORY).join("snapshot.tmp");
    std::fs::create_dir(&blocked).expect("made");
    replica.raft().trigger().snapshot().await.expect("asked");
    // A failure puts off the next try, whatever the time.
    let failed = || !replica.machine().restraint().allows(Duration::ZERO, 0);
    cluster.until("a failure", async |_| failed()).await;
    put(&writer, &map, "b", 2).await;
    assert!(replica.is_running().await && !replica.fence().is_set());
    assert_eq!(replica.id(), ReplicaId(1));
    // The next that is made tells Raft of itself.
    std::fs::remove_dir(&blocked).expect("removed");
    let built = Machine(Arc::clone(replica.machine())).build_snapshot().await.expect("built");
    assert!(built.meta.last_log_id.is_some());
    drop(replica);
    cluster.stop().await;
}

#[tokio::test]
async fn an_idle_replica_is_inspected_within_hours() {
    for file in ["state.redb", "identity", "raft-log/hard-state", "raft-log/0000000000000001.log"] {
        let root = tempfile::tempdir().expect("made");
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(root.path()).expect("opened"));
        let world = crate::restore::world();
        let replica = Replica::create_joining(&world, &disk, ReplicaId(4)).await.expect("made");
        replica.shutdown().await;
        drop(replica);
        let directory = disk.subdirectory(DIRECTORY).expect("there");
        let log_disk = directory.subdirectory("raft-log").expect("there");
        let clock = Arc::new(SimulatedClock::new());
        let fence = Arc::new(Fence::default());
        let machine = StateMachine::open(directory, Arc::clone(&clock) as _, Arc::clone(&fence));
        let log = RaftLog::open(
            Arc::clone(&log_disk),
            CLUSTER,
            ReplicaId(4),
            Arc::clone(&clock) as _,
            Arc::clone(&fence),
        );
        let log = log.expect("opened");
        let inspection = Inspection {
            cluster: CLUSTER,
            replica: ReplicaId(4),
            machine: Arc::new(machine.expect("opened")),
            log: Arc::clone(&log),
            log_disk,
        };
        let at = if file == "state.redb" { 0 } else { 10 };
        let path = root.path().join(DIRECTORY).join(file);
        let mut content = std::fs::read(&path).expect("read");
        content[at] ^= 1;
        std::fs::write(&path, content).expect("written");
        let running = tokio::spawn(async move { inspection.run().await });
        let patience = SystemClock::new();
        while !fence.is_set() {
            assert!(patience.monotonic() < Duration::from_secs(30), "{file}");
            // It looks on a thread of its own: time goes on, with or without it.
            clock.advance(INSPECTION_PERIOD / 20);
            tokio::task::spawn_blocking(|| ()).await.expect("done");
        }
        running.abort();
        // A fenced log says so.
        let _ = log.stop().await;
    }
}

#[tokio::test]
async fn no_snapshot_is_made_while_a_follower_needs_the_log() {
    let (_root, machine) = machine();
    feed(&machine, &[entry(1, crate::model_apply::history(32, 60))], 1);
    let mut adaptor = Machine(Arc::new(machine));
    adaptor.0.restraint().keep_log(true);
    assert!(adaptor.try_create_snapshot_builder(false).await.is_none());
    assert!(adaptor.try_create_snapshot_builder(true).await.is_some());
    adaptor.0.restraint().keep_log(false);
    assert!(adaptor.try_create_snapshot_builder(false).await.is_some());
}

#[test]
fn a_snapshot_of_nothing_can_only_be_refused() {
    let nothing = SnapshotFile::nothing();
    assert!(nothing.check().is_err() && nothing.length().is_err() && nothing.piece(0).is_err());
    let (_root, machine) = machine();
    assert!(matches!(machine.stage(&nothing), Err(StateError::Io(_))));
    assert!(!machine.fence().is_set());
}

/// A disk that says how much space it has.
struct SmallDisk {
    inner: Arc<dyn Disk>,
    free_bytes: AtomicU64,
}

impl Disk for SmallDisk {
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        self.inner.open(name, mode)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.inner.sync_directory()
    }

    fn subdirectory(&self, name: &str) -> io::Result<Arc<dyn Disk>> {
        self.inner.subdirectory(name)
    }

    fn space(&self) -> io::Result<DiskSpace> {
        let free_bytes = self.free_bytes.load(Ordering::Relaxed);
        Ok(DiskSpace { capacity_bytes: 1 << 40, free_bytes })
    }

    fn is_present(&self) -> bool {
        self.inner.is_present()
    }

    fn path(&self) -> &Path {
        self.inner.path()
    }
}

#[tokio::test]
async fn a_snapshot_is_refused_while_the_disk_has_no_space_for_it() {
    let root = tempfile::tempdir().expect("made");
    let inner: Arc<dyn Disk> = Arc::new(RealDisk::open(root.path()).expect("opened"));
    let disk = Arc::new(SmallDisk { inner, free_bytes: AtomicU64::new(u64::MAX) });
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let made = StateMachine::create(Arc::clone(&disk) as _, clock, Arc::new(Fence::default()));
    let mut adaptor = Machine(Arc::new(made.expect("made")));
    feed(&adaptor.0, &[entry(1, crate::model_apply::history(33, 60))], 1);
    let state_bytes = std::fs::metadata(root.path().join("state.redb")).expect("told").len();
    let wanted = state_bytes + SNAPSHOT_SPACE_RESERVE_BYTES;
    disk.free_bytes.store(wanted - 1, Ordering::Relaxed);
    assert!(adaptor.try_create_snapshot_builder(false).await.is_none());
    let why = StateError::Damaged("a test says so".to_owned());
    let refused = adaptor.0.remake_snapshot(&why).err();
    let is_full = |error: &StateError| matches!(error, StateError::Io(error) if error.kind() == io::ErrorKind::StorageFull);
    assert!(refused.as_ref().is_some_and(is_full), "{refused:?}");
    assert!(!root.path().join("snapshot").exists() && !adaptor.0.fence().is_set());
    disk.free_bytes.store(wanted, Ordering::Relaxed);
    let mut builder = adaptor.try_create_snapshot_builder(false).await.expect("there is space");
    builder.build_snapshot().await.expect("built");
    assert!(is_whole(root.path()));
}
