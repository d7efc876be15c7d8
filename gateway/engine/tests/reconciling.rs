//! What disks hold is compared with what the metadata says: what is missing comes back, and only
//! what nobody can own is deleted (I-9).

use std::time::Duration;

use model::cluster_map::DiskState;
use model::query::MetadataError;

use crate::cluster::disk::Fault;
use crate::cluster::{Cluster, body, reconciling};

/// A cluster with some objects, and the shards of extents that were never committed.
async fn with_strangers() -> (Cluster, Vec<(String, bytes::Bytes)>, usize) {
    let cluster = Cluster::with(6, "4+2", reconciling());
    let mut objects = Vec::new();
    for size in [100, 70_000, 5 << 20] {
        let (name, body) = (format!("object-{size}"), body(size));
        cluster.put(&name, &body).await;
        objects.push((name, body));
    }
    let kept = cluster.shards();
    // A commit whose outcome stays unknown leaves its shards where they are.
    for size in [200, 300_000] {
        let written = cluster.write("unknown", &body(size)).await.expect("written");
        *cluster.metadata.next_commit.lock().expect("no panic") = Some(Err(MetadataError::Unknown));
        cluster.commit("unknown", written).await.expect_err("unknown");
    }
    (cluster, objects, kept)
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_that_vanished_without_a_trace_come_back() {
    let cluster = Cluster::with(6, "4+2", reconciling());
    let mut objects = Vec::new();
    for size in [1, 4096, 300_001, 9 << 20] {
        let (name, body) = (format!("object-{size}"), body(size));
        cluster.put(&name, &body).await;
        objects.push((name, body));
    }
    let shards = cluster.shards();
    drop(cluster.disks[2].wipe());
    // Of another one, one stripe only.
    cluster.disks[4].lose(|id| id.stripe == 1);
    assert!(cluster.shards() < shards);
    cluster.until("all shards", || cluster.shards() == shards).await;
    cluster.until("an empty queue", || cluster.metadata.queue().is_empty()).await;
    cluster.check_redundancy(&objects).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_get_an_owner_yet_is_left_alone() {
    let (cluster, objects, kept) = with_strangers().await;
    let all = cluster.shards();
    assert!(all > kept);
    let asked = cluster.metadata.state_queries();
    cluster.until("several looks", || cluster.metadata.state_queries() > asked + 200).await;
    assert_eq!((cluster.shards(), deletes(&cluster)), (all, 0));
    for (name, body) in &objects {
        cluster.check(name, body).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_never_have_an_owner_is_deleted_after_its_grace() {
    let (cluster, objects, kept) = with_strangers().await;
    cluster.metadata.end_session();
    cluster.until("deleted", || cluster.shards() == kept).await;
    for (name, body) in &objects {
        cluster.check(name, body).await;
    }
    cluster.check_redundancy(&objects).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_answer_nothing_is_deleted() {
    // The metadata goes away after the first look, within the grace.
    let (cluster, objects, kept) = with_strangers().await;
    let all = cluster.shards();
    cluster.metadata.end_session();
    cluster.metadata.set_down(true);
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!((cluster.shards(), deletes(&cluster)), (all, 0));
    // Disks that don't list what they hold lose nothing, and miss nothing.
    for disk in &cluster.disks {
        disk.set(Fault::KeepsSilent);
    }
    cluster.metadata.set_down(false);
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!((cluster.shards(), deletes(&cluster)), (all, 0));
    assert!(cluster.metadata.queue().is_empty());
    // And those that are down aren't asked.
    for disk in &cluster.disks {
        disk.set(Fault::None);
    }
    cluster.metadata.set_disk(3, DiskState::Down);
    let away = cluster.disks[3].shards();
    let held = |disks: std::ops::Range<usize>| -> usize {
        cluster.disks[disks].iter().map(|disk| disk.shards()).sum()
    };
    cluster.until("the others", || held(0..3) + held(4..6) <= kept).await;
    assert_eq!(cluster.disks[3].shards(), away);
    for (name, body) in &objects {
        cluster.check(name, body).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_older_than_the_disks_deletes_nothing() {
    let (cluster, _, _) = with_strangers().await;
    let all = cluster.shards();
    cluster.metadata.forget_session();
    tokio::time::sleep(Duration::from_millis(400)).await;
    // One such extent is enough: what the tables say of others proves nothing either.
    cluster.metadata.end_session();
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!((cluster.shards(), deletes(&cluster)), (all, 0));
}

fn deletes(cluster: &Cluster) -> usize {
    cluster.disks.iter().map(|disk| disk.deletes()).sum()
}
