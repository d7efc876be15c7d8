//! Restores: what comes of a backup, what is held, and what is refused.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use metadata::backup::{
    BackupError, BackupFile, RestoreError, RestoreSettings, RestoredReplica, found_for_recovery,
    restore,
};
use metadata::replica::{OpenError, Replica, World, wipe};
use model::cluster_map::ClusterMap;
use model::coding::Coding;
use model::command::{Command, CommitObject, Outcome, Refusal, WriteCondition};
use model::extent::{Extent, SlotSet};
use model::ids::{ClusterId, ExtentId, ManifestId, ReplicaId, SessionId};
use model::query::{Answer, ListObjects, PlanWanted, Query};
use model::recovery::{AdoptObject, Held};
use model::time::Timestamp;
use model::upkeep::ExtentState;
use model::version::{ETag, ObjectHeaders, Part};
use wire::clock::{Clock, SimulatedClock, SystemClock};
use wire::disk::{Disk, RealDisk};
use wire::network::InProcess;

use crate::backup::{Memory, file};
use crate::failing_disk::FailingDisk;
use crate::harness::{CLUSTER, TestCluster, bucket, create_bucket, key, put};

fn settings() -> RestoreSettings {
    RestoreSettings { cluster: CLUSTER, node: None, clock: Arc::new(SystemClock::new()) }
}

fn disk(path: &Path) -> Arc<dyn Disk> {
    Arc::new(RealDisk::open(path).expect("opened"))
}

pub fn world() -> World {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let raft_network = Arc::new(InProcess::new(Arc::clone(&clock)));
    World { cluster: CLUSTER, raft_network, clock }
}

pub async fn backup_of(cluster: &TestCluster) -> Vec<u8> {
    let mut sink = Memory::default();
    cluster.client.backup(&mut sink).await.expect("taken");
    sink.0
}

/// Restores into the first directory of a cluster whose replicas are all lost, and starts it.
pub async fn restore_all(cluster: &mut TestCluster, bytes: &[u8]) -> RestoredReplica {
    restore_all_by(cluster, bytes, &settings()).await
}

/// The same by another clock.
async fn restore_all_by(
    cluster: &mut TestCluster,
    bytes: &[u8],
    settings: &RestoreSettings,
) -> RestoredReplica {
    cluster.stop().await;
    for at in 0..cluster.disks {
        wipe(&*disk(&cluster.disk_path(at))).expect("wiped");
    }
    let root = tempfile::tempdir().expect("made");
    let backup = BackupFile::open(file(root.path(), bytes)).expect("sound");
    let first = disk(&cluster.disk_path(0));
    let restored = restore(backup, &first, settings).await.expect("restored");
    cluster.restart().await;
    restored
}

async fn listing(cluster: &TestCluster) -> Vec<(String, ETag, Timestamp)> {
    let list = ListObjects {
        bucket: bucket(),
        prefix: String::new(),
        delimiter: String::new(),
        after: String::new(),
        limit: 10_000,
    };
    match cluster.client.query(Query::Objects(list)).await.expect("answered") {
        Answer::Objects(page) => {
            let objects = page.objects.into_iter();
            objects.map(|one| (one.key.as_str().to_owned(), one.etag, one.modified)).collect()
        }
        other => panic!("{other:?}"),
    }
}

async fn extent_of(cluster: &TestCluster, name: &str) -> Extent {
    let query = Query::Object { bucket: bucket(), key: key(name), plan: PlanWanted::Whole };
    match cluster.client.query(query).await.expect("answered") {
        Answer::Object(found) => found.extents[0].extent.clone(),
        other => panic!("{other:?}"),
    }
}

async fn states(cluster: &TestCluster, extents: &[ExtentId]) -> Vec<ExtentState> {
    let query = Query::ExtentStates { extents: extents.to_vec() };
    match cluster.client.query(query).await.expect("answered") {
        Answer::ExtentStates(states) => states,
        other => panic!("{other:?}"),
    }
}

pub async fn held(cluster: &TestCluster) -> Option<Held> {
    match cluster.client.query(Query::Held).await.expect("answered") {
        Answer::Held(held) => held,
        other => panic!("{other:?}"),
    }
}

fn adoption(name: &str, extent: &Extent, modified: Timestamp) -> AdoptObject {
    let mut manifest = extent.id.to_key();
    manifest[0] = 0xad;
    AdoptObject {
        bucket: bucket(),
        owner: "me".to_owned(),
        key: key(name),
        manifest: ManifestId(manifest),
        size: extent.length,
        etag: ETag { md5: [9; 16], parts: None },
        headers: ObjectHeaders::default(),
        checksum: None,
        parts: vec![Part {
            number: 0,
            size: extent.length,
            md5: [9; 16],
            checksum: None,
            extents: vec![extent.clone()],
        }],
        modified,
        record: None,
    }
}

async fn adopt(cluster: &TestCluster, adopt: AdoptObject) -> Outcome {
    cluster.client.propose_one(Command::AdoptObject(adopt)).await.expect("proposed")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restore_everything_reads_and_what_is_newer_is_held() {
    let mut cluster = TestCluster::new(3, 3).await;
    let writer = cluster.writer().await;
    create_bucket(&writer).await;
    let map = cluster.map().await;
    for number in 0..300 {
        put(&writer, &map, &format!("o{number}"), number).await;
    }
    let ended = writer.session().await.expect("open").id();
    let gone = Command::OpenSession { gateway: "gone".to_owned() };
    let Ok(Outcome::SessionOpened(gone)) = cluster.client.propose_one(gone).await else {
        panic!("not opened")
    };
    cluster.client.propose_one(Command::EndSession { session: gone }).await.expect("proposed");
    let before = listing(&cluster).await;
    let bytes = backup_of(&cluster).await;
    // What the backup doesn't know: new keys, new bodies, deletions, sessions.
    for number in 290..320 {
        put(&writer, &map, &format!("o{number}"), number).await;
    }
    let condition = WriteCondition::Always;
    let deleted = Command::DeleteObject { bucket: bucket(), key: key("o1"), condition };
    writer.propose(deleted).await.expect("proposed");
    let (new, newer) = (extent_of(&cluster, "o310").await, extent_of(&cluster, "o295").await);
    let late = cluster.client.propose_one(Command::OpenSession { gateway: "late".into() }).await;
    let Ok(Outcome::SessionOpened(late)) = late else { panic!("{late:?}") };

    let restored = restore_all(&mut cluster, &bytes).await;
    assert_eq!(restored.objects, 300);
    cluster.until_equal().await;
    let voters: Vec<ReplicaId> =
        cluster.keeper().replicas().iter().map(|replica| replica.id()).collect();
    assert!(voters.len() == 3 && voters.iter().all(|id| id.0 > 1 << 32), "{voters:?}");
    assert_eq!(listing(&cluster).await, before);
    for (name, ..) in before.iter().step_by(7) {
        extent_of(&cluster, name).await;
    }
    assert!(cluster.map().await.epoch > map.epoch + 1000);

    let kept = held(&cluster).await.expect("held");
    assert_eq!(kept, restored.held);
    assert!(kept.covers(ended) && kept.covers(late) && !kept.covers(gone));
    let of = |session| ExtentId { session, sequence: 9_999, ..new.id };
    let asked = [new.id, newer.id, of(ended), of(late), of(gone), of(SessionId(u64::MAX))];
    use ExtentState::{Foreign, Held as Kept, Owned, Ownerless};
    assert_eq!(states(&cluster, &asked).await, [Kept, Kept, Kept, Kept, Ownerless, Foreign]);

    // Sessions of before can't commit, and new ones are above all that are held.
    let old = commit_of(&new);
    let outcome = cluster.client.propose_one(Command::CommitObject(old)).await;
    assert_eq!(outcome, Ok(Outcome::Refused(Refusal::SessionEnded)));
    let writer = cluster.writer().await;
    let session = writer.session().await.expect("open").id();
    assert!(session > kept.until());
    put(&writer, &cluster.map().await, "fresh", 400).await;

    // What is held is adopted, once, and not over what is newer.
    let adopted = adopt(&cluster, adoption("o310", &new, kept.since)).await;
    assert!(matches!(adopted, Outcome::Committed(_)), "{adopted:?}");
    assert_eq!(adopt(&cluster, adoption("o310", &new, kept.since)).await, adopted);
    assert_eq!(extent_of(&cluster, "o310").await, new);
    let superseded = Outcome::Refused(Refusal::Superseded);
    assert_eq!(adopt(&cluster, adoption("fresh", &newer, kept.since)).await, superseded);
    assert_eq!(adopt(&cluster, adoption("o295", &newer, Timestamp(1))).await, superseded);
    let replaced = extent_of(&cluster, "o295").await;
    let done = adopt(&cluster, adoption("o295", &newer, kept.since.plus_nanos(1))).await;
    assert!(matches!(done, Outcome::Committed(_)), "{done:?}");
    let now = states(&cluster, &[new.id, newer.id, replaced.id]).await;
    assert_eq!(now, [Owned, Owned, ExtentState::Garbage]);

    // Nothing but the right release ends the hold; then the rest is ownerless.
    let rest = [of(ended), of(late)];
    let wrong = Command::ReleaseHeld { until: SessionId(kept.until().0 - 1) };
    let outcome = cluster.client.propose_one(wrong).await;
    assert_eq!(outcome, Ok(Outcome::Refused(Refusal::NotHeld)));
    assert_eq!(states(&cluster, &rest).await, [Kept, Kept]);
    for _ in 0..2 {
        let release = Command::ReleaseHeld { until: kept.until() };
        assert_eq!(cluster.client.propose_one(release).await, Ok(Outcome::Done));
    }
    assert_eq!(states(&cluster, &rest).await, [Ownerless, Ownerless]);
    assert_eq!(held(&cluster).await, None);
    let other = Extent { id: of(late), ..new.clone() };
    let refused = adopt(&cluster, adoption("o999", &other, kept.since)).await;
    assert_eq!(refused, Outcome::Refused(Refusal::NotHeld));
    cluster.until_equal().await;
    cluster.stop().await;
}

fn commit_of(extent: &Extent) -> CommitObject {
    let part = Part {
        number: 0,
        size: extent.length,
        md5: [1; 16],
        checksum: None,
        extents: vec![extent.clone()],
    };
    CommitObject {
        bucket: bucket(),
        key: key("late"),
        manifest: ManifestId([77; 16]),
        size: extent.length,
        etag: ETag { md5: [1; 16], parts: None },
        headers: ObjectHeaders::default(),
        checksum: None,
        parts: vec![part],
        condition: WriteCondition::Always,
        record: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_may_be_restored_again_and_again() {
    let mut cluster = TestCluster::new(1, 1).await;
    let writer = cluster.writer().await;
    create_bucket(&writer).await;
    put(&writer, &cluster.map().await, "a", 1).await;
    let bytes = backup_of(&cluster).await;
    let first = restore_all(&mut cluster, &bytes).await;
    let writer = cluster.writer().await;
    let between = writer.session().await.expect("open").id();
    put(&writer, &cluster.map().await, "b", 2).await;
    // A backup of what is held holds both.
    let second = backup_of(&cluster).await;
    // Two seconds later: numbers are made from whole ones.
    let later = SimulatedClock::new();
    later.advance(Duration::from_nanos(SystemClock::new().now().as_nanos()));
    later.advance(Duration::from_secs(2));
    let later = RestoreSettings { clock: Arc::new(later), ..settings() };
    let again = restore_all_by(&mut cluster, &bytes, &later).await;
    assert!(again.replica > first.replica && again.held.until() > between);
    assert!(again.held.covers(between));
    assert_eq!(listing(&cluster).await.len(), 1);
    let both = restore_all(&mut cluster, &second).await.held;
    assert_eq!(both.ranges.len(), 2);
    assert!(both.covers(between) && first.held.sessions.iter().all(|one| both.covers(*one)));
    assert_eq!((both.since, both.ranges[0]), (first.held.since, first.held.ranges[0]));
    assert_eq!(listing(&cluster).await.len(), 2);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_restored_is_refused_and_leaves_nothing() {
    let mut cluster = TestCluster::new(1, 1).await;
    let writer = cluster.writer().await;
    create_bucket(&writer).await;
    put(&writer, &cluster.map().await, "a", 1).await;
    let bytes = backup_of(&cluster).await;
    let there = disk(&cluster.disk_path(0));
    let root = tempfile::tempdir().expect("made");
    let open = || BackupFile::open(file(root.path(), &bytes)).expect("sound");
    let occupied = restore(open(), &there, &settings()).await.map(drop);
    assert!(matches!(occupied, Err(RestoreError::Occupied)), "{occupied:?}");
    cluster.stop().await;
    let occupied = restore(open(), &there, &settings()).await.map(drop);
    assert!(matches!(occupied, Err(RestoreError::Occupied)), "{occupied:?}");

    let empty = tempfile::tempdir().expect("made");
    let empty = disk(empty.path());
    let foreign = RestoreSettings { cluster: ClusterId([8; 16]), ..settings() };
    let refused = restore(open(), &empty, &foreign).await.map(drop);
    assert!(matches!(refused, Err(RestoreError::OtherCluster(CLUSTER))), "{refused:?}");
    for length in [bytes.len() - 1, bytes.len() / 2, 200] {
        let cut = BackupFile::open(file(root.path(), &bytes[..length])).expect("its head");
        let refused = restore(cut, &empty, &settings()).await.map(drop);
        let damaged = RestoreError::Backup(BackupError::Damaged(String::new()));
        let is_damaged = refused
            .as_ref()
            .is_err_and(|error| std::mem::discriminant(error) == std::mem::discriminant(&damaged));
        assert!(is_damaged, "{length}: {refused:?}");
        let opened = Replica::open(&world(), &empty).await.map(drop);
        assert!(matches!(opened, Err(OpenError::Absent)), "{opened:?}");
    }
    // At the epoch.
    let behind = RestoreSettings { clock: Arc::new(SimulatedClock::new()), ..settings() };
    let refused = restore(open(), &empty, &behind).await.map(drop);
    assert!(matches!(refused, Err(RestoreError::ClockBehind { .. })), "{refused:?}");
    let opened = Replica::open(&world(), &empty).await.map(drop);
    assert!(matches!(opened, Err(OpenError::Absent)), "{opened:?}");
    restore(open(), &empty, &settings()).await.expect("restored");
    let replica = Replica::open(&world(), &empty).await.expect("opened");
    replica.machine().verify_tables().expect("whole");
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_restore_leaves_nothing_that_starts() {
    let mut cluster = TestCluster::new(1, 1).await;
    let bytes = backup_of(&cluster).await;
    cluster.stop().await;
    let root = tempfile::tempdir().expect("made");
    let target = tempfile::tempdir().expect("made");
    let real = disk(target.path());
    let mut interrupted = 0;
    loop {
        let backup = BackupFile::open(file(root.path(), &bytes)).expect("sound");
        let failing = FailingDisk::after(interrupted, Arc::clone(&real));
        let done = restore(backup, &failing, &settings()).await;
        let opened = Replica::open(&world(), &real).await;
        if done.is_ok() {
            opened.expect("restored").shutdown().await;
            break;
        }
        interrupted += 1;
        match opened {
            Err(OpenError::Absent) => {}
            // Its very last step, the sync of the identity's name, failed: all else is there.
            Ok(replica) => {
                replica.machine().verify_tables().expect("whole");
                replica.shutdown().await;
                wipe(&*real).expect("wiped");
            }
            Err(error) => panic!("step {interrupted}: {error}"),
        }
    }
    assert!(interrupted > 20, "{interrupted} steps");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_rebuilt_from_what_the_disks_say() {
    let mut cluster = TestCluster::new(3, 3).await;
    let writer = cluster.writer().await;
    create_bucket(&writer).await;
    let map = cluster.map().await;
    let mut lost = BTreeMap::new();
    for number in 0..40 {
        put(&writer, &map, &format!("o{number}"), number).await;
        lost.insert(format!("o{number}"), extent_of(&cluster, &format!("o{number}")).await);
    }
    cluster.stop().await;
    for at in 0..3 {
        wipe(&*disk(&cluster.disk_path(at))).expect("wiped");
    }
    let first = disk(&cluster.disk_path(0));
    let restored = found_for_recovery(map.coding, &first, &settings()).await.expect("founded");
    assert!(restored.held.from_shards);
    cluster.restart().await;
    cluster.until_equal().await;

    // The disks come back under their numbers, in another order, and no group is made meanwhile.
    for one in map.disks.iter().rev() {
        let outcome = cluster.client.propose_one(Command::AdoptDisk(one.clone())).await;
        assert_eq!(outcome, Ok(Outcome::DiskRegistered(one.id)));
        let again = Command::RegisterDisk {
            uuid: one.uuid,
            node: one.node,
            rack: String::new(),
            zone: String::new(),
            weight: one.weight,
            path: String::new(),
        };
        let outcome = cluster.client.propose_one(again).await;
        assert_eq!(outcome, Ok(Outcome::DiskRegistered(one.id)));
    }
    let empty: ClusterMap = cluster.map().await;
    assert_eq!((&empty.disks, empty.pgs.len()), (&map.disks, 0));
    let mut findings = Vec::new();
    for extent in lost.values() {
        let pg = map.pg(extent.id.pg).expect("known");
        // Small extents have shards in the first slot and the parity's.
        for slot in [0, 4, 5] {
            findings.push(model::rebuild::Finding {
                pg: pg.id,
                slot,
                disk: pg.disks[usize::from(slot)],
                coding: extent.coding,
                shards: 1,
            });
        }
    }
    let rebuilt = model::rebuild::rebuild_pgs(&empty, &findings);
    assert!(rebuilt.misplaced.is_empty());
    for _ in 0..2 {
        let adopt = Command::AdoptPgs { pgs: rebuilt.pgs.clone(), slots: Vec::new() };
        assert_eq!(cluster.client.propose_one(adopt).await, Ok(Outcome::Done));
    }
    let found = cluster.map().await;
    assert_eq!(found.pgs[..rebuilt.pgs.len()], map.pgs[..rebuilt.pgs.len()]);

    for (name, extent) in &lost {
        let extent = Extent { missing: SlotSet(1), ..extent.clone() };
        let outcome = adopt(&cluster, adoption(name, &extent, Timestamp(5))).await;
        assert!(matches!(outcome, Outcome::Committed(_)), "{name}: {outcome:?}");
    }
    let names: Vec<String> = listing(&cluster).await.into_iter().map(|one| one.0).collect();
    assert_eq!(names, lost.keys().cloned().collect::<Vec<_>>());
    let repairs = cluster.client.query(Query::Repairs { after: None, limit: 100 }).await;
    let Ok(Answer::Repairs(page)) = repairs else { panic!("{repairs:?}") };
    assert_eq!(page.total, 40);
    // A disk that was never there gets a number that none of before can have.
    let new = Command::RegisterDisk {
        uuid: model::ids::DiskUuid([99; 16]),
        node: model::ids::NodeId(1),
        rack: String::new(),
        zone: String::new(),
        weight: 1,
        path: String::new(),
    };
    let outcome = cluster.client.propose_one(new).await;
    assert_eq!(outcome, Ok(Outcome::DiskRegistered(model::ids::DiskId(10_001))));
    let writer = cluster.writer().await;
    put(&writer, &cluster.map().await, "fresh", 4).await;
    cluster.until_equal().await;
    cluster.stop().await;
    assert_eq!(Coding::parse("4+2").expect("valid"), map.coding);
}
