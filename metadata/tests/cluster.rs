//! Whole clusters in one process: leaders lost, disks deleted, bits flipped.

use model::query::{Answer, PlanWanted, Query};
use wire::clock::{Clock, SystemClock};

use crate::harness::{TestCluster, bucket, create_bucket, key, put};

async fn has_object(cluster: &TestCluster, name: &str) -> bool {
    let query = Query::Object { bucket: bucket(), key: key(name), plan: PlanWanted::Whole };
    match cluster.client.query(query).await.expect("answered") {
        Answer::Object(found) => found.extents.len() == 1,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_replicas_commit_and_answer() {
    let mut cluster = TestCluster::new(5, 5).await;
    let writer = cluster.writer().await;
    create_bucket(&writer).await;
    let map = cluster.map().await;
    for number in 0..50 {
        put(&writer, &map, &format!("o{number}"), number).await;
        assert!(has_object(&cluster, &format!("o{number}")).await);
    }
    cluster.until_equal().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_replica_restarts() {
    let mut cluster = TestCluster::new(1, 1).await;
    let writer = cluster.writer().await;
    create_bucket(&writer).await;
    let map = cluster.map().await;
    put(&writer, &map, "a", 1).await;
    cluster.restart().await;
    assert!(has_object(&cluster, "a").await);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_directory_is_rebuilt_under_a_new_id_and_nothing_is_lost() {
    let mut cluster = TestCluster::new(5, 6).await;
    let writer = cluster.writer().await;
    create_bucket(&writer).await;
    let map = cluster.map().await;
    for number in 0..20 {
        put(&writer, &map, &format!("o{number}"), number).await;
    }
    // The leader's disk is the hardest to lose.
    let leader = leader_of(&cluster).await;
    let replicas = cluster.keeper().replicas();
    let lost = replicas.iter().find(|one| one.id() == leader).expect("runs");
    let path = lost.disk().path().to_owned();
    TestCluster::delete(&path);
    drop(replicas);
    for number in 20..40 {
        put(&writer, &map, &format!("o{number}"), number).await;
    }
    cluster.until_equal().await;
    let ids: Vec<u64> = cluster.keeper().replicas().iter().map(|one| one.id().0).collect();
    assert!(!ids.contains(&leader.0) && ids.contains(&6), "{ids:?}");
    // All six disks but one hold a replica; the lost one comes back empty, and is a spare.
    std::fs::create_dir(&path).expect("made");
    cluster.restart().await;
    for number in 0..40 {
        assert!(has_object(&cluster, &format!("o{number}")).await, "{number}");
    }
    cluster.until_equal().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_missing_directories_at_the_start_are_made_again() {
    let mut cluster = TestCluster::new(5, 5).await;
    let writer = cluster.writer().await;
    create_bucket(&writer).await;
    let map = cluster.map().await;
    put(&writer, &map, "a", 1).await;
    cluster.stop().await;
    TestCluster::delete(&cluster.disk_path(0).join("metadata"));
    std::fs::remove_file(cluster.disk_path(3).join("metadata/raft-log/hard-state"))
        .expect("removed");
    cluster.restart().await;
    assert!(has_object(&cluster, "a").await);
    cluster.until_equal().await;
    let mut ids: Vec<u64> = cluster.keeper().replicas().iter().map(|one| one.id().0).collect();
    ids.sort_unstable();
    assert_eq!(ids.len(), 5);
    assert!(ids[3] > 5 && ids[4] > 5, "{ids:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flipped_bits_fence_a_replica_and_it_is_rebuilt() {
    let mut cluster = TestCluster::new(3, 3).await;
    let writer = cluster.writer().await;
    create_bucket(&writer).await;
    let map = cluster.map().await;
    for number in 0..200 {
        put(&writer, &map, &format!("o{number}"), number).await;
    }
    cluster.stop().await;
    let state = cluster.disk_path(1).join("metadata/state.redb");
    let mut content = std::fs::read(&state).expect("read");
    // One bit in each page that holds something, but for the header.
    for page in content.chunks_mut(4096).skip(1) {
        if page.iter().any(|byte| *byte != 0) {
            page[100] ^= 0x40;
        }
    }
    std::fs::write(&state, content).expect("written");
    cluster.restart().await;
    for number in 0..200 {
        assert!(has_object(&cluster, &format!("o{number}")).await, "{number}");
    }
    cluster.until_equal().await;
    assert!(cluster.keeper().replicas().iter().any(|one| one.id().0 > 3));
    for replica in cluster.keeper().replicas() {
        replica.machine().verify_tables().expect("whole");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_leader_is_followed_within_seconds() {
    let mut cluster = TestCluster::new(3, 4).await;
    let writer = cluster.writer().await;
    create_bucket(&writer).await;
    let map = cluster.map().await;
    put(&writer, &map, "before", 1).await;
    let leader = leader_of(&cluster).await;
    let replicas = cluster.keeper().replicas();
    let lost = replicas.iter().find(|one| one.id() == leader).expect("runs");
    lost.fence().set("a test says so");
    let clock = SystemClock::new();
    put(&writer, &map, "after", 2).await;
    assert!(clock.monotonic().as_secs() < 6, "{:?}", clock.monotonic());
    drop(replicas);
    assert!(has_object(&cluster, "before").await && has_object(&cluster, "after").await);
    cluster.until_equal().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_replica_learns_from_a_snapshot_what_the_log_has_forgotten() {
    let mut cluster = TestCluster::new(3, 3).await;
    let writer = cluster.writer().await;
    create_bucket(&writer).await;
    let map = cluster.map().await;
    for number in 0..60 {
        put(&writer, &map, &format!("o{number}"), number).await;
    }
    cluster.until_equal().await;
    for replica in cluster.keeper().replicas() {
        replica.raft().trigger().snapshot().await.expect("asked");
    }
    cluster
        .until("snapshots", async |cluster| {
            let mut covered = Vec::new();
            for replica in cluster.keeper().replicas() {
                let status = cluster.client.status(replica.id()).await.expect("told");
                covered.push(status.snapshot_index);
            }
            covered.iter().all(|index| *index > 30)
        })
        .await;
    for replica in cluster.keeper().replicas() {
        replica.raft().trigger().purge_log(30).await.expect("asked");
    }
    let path = cluster.disk_path(2);
    TestCluster::delete(&path);
    put(&writer, &map, "notices", 100).await;
    std::fs::create_dir(&path).expect("made");
    cluster.until_equal().await;
    for replica in cluster.keeper().replicas() {
        replica.machine().verify_tables().expect("whole");
    }
    assert!(path.join("metadata/snapshot").exists());
    cluster.restart().await;
    assert!(has_object(&cluster, "o0").await && has_object(&cluster, "notices").await);
    cluster.stop().await;
}

async fn leader_of(cluster: &TestCluster) -> model::ids::ReplicaId {
    let mut leader = None;
    cluster
        .until("a leader", async |cluster| {
            for replica in cluster.keeper().replicas() {
                let status = cluster.client.status(replica.id()).await;
                if status.is_ok_and(|status| status.state == "leader") {
                    leader = Some(replica.id());
                }
            }
            leader.is_some()
        })
        .await;
    leader.expect("found")
}
