//! Reads while shards are lost, damaged or slow.

use std::time::Duration;

use engine::ReadError;
use model::query::PlanWanted;

use crate::cluster::disk::Fault;
use crate::cluster::{Cluster, body};

const SIZES: [usize; 6] = [1, 4096, 40_000, 300_001, (4 << 20) + 77, 9 << 20];

async fn filled() -> (Cluster, Vec<(String, bytes::Bytes)>) {
    let cluster = Cluster::new(6, "4+2");
    let mut objects = Vec::new();
    for size in SIZES {
        let (name, body) = (format!("object-{size}"), body(size));
        cluster.put(&name, &body).await;
        objects.push((name, body));
    }
    (cluster, objects)
}

async fn check_all(cluster: &Cluster, objects: &[(String, bytes::Bytes)]) {
    for (name, body) in objects {
        cluster.check(name, body).await;
        let size = body.len() as u64;
        for (first, last) in [(0, 0), (size / 3, size / 2), (size - 1, size - 1)] {
            let read = cluster.get(name, PlanWanted::Between(first, last)).await;
            assert!(read.expect("readable") == body[first as usize..=last as usize], "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_two_wiped_disks_lose_nothing() {
    let (cluster, objects) = filled().await;
    for first in 0..6 {
        for second in 0..first {
            let wiped = [first, second].map(|disk: usize| (disk, cluster.disks[disk].wipe()));
            check_all(&cluster, &objects).await;
            for (disk, shards) in wiped {
                cluster.disks[disk].restore(shards);
            }
        }
    }
    cluster.until("reports", || cluster.metadata.repairs().len() >= objects.len()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_two_dead_disks_lose_nothing() {
    let (cluster, objects) = filled().await;
    cluster.metadata.notices.store(false, std::sync::atomic::Ordering::Relaxed);
    for first in 0..6 {
        for second in 0..first {
            cluster.disks[first].set(Fault::Dead);
            cluster.disks[second].set(Fault::Dead);
            check_all(&cluster, &objects).await;
            cluster.disks[first].set(Fault::None);
            cluster.disks[second].set(Fault::None);
        }
    }
    assert!(cluster.metadata.repairs().is_empty(), "a dead disk proves nothing about its shards");
}

#[tokio::test(flavor = "multi_thread")]
async fn rotten_shards_are_replaced_and_reported_once() {
    let (cluster, objects) = filled().await;
    cluster.disks[1].rot();
    cluster.disks[4].rot();
    check_all(&cluster, &objects).await;
    check_all(&cluster, &objects).await;
    cluster.until("reports", || !cluster.metadata.repairs().is_empty()).await;
    let repairs = cluster.metadata.repairs();
    let mut told: Vec<_> = repairs
        .iter()
        .flat_map(|lacking| lacking.slots.iter().map(|slot| (lacking.extent, slot)))
        .collect();
    let count = told.len();
    told.sort_unstable();
    told.dedup();
    assert_eq!(told.len(), count);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_spoilt_on_the_way_are_asked_for_again() {
    let (cluster, objects) = filled().await;
    for disk in &cluster.disks {
        disk.set(Fault::SpoilsReads(1));
    }
    check_all(&cluster, &objects).await;
    assert!(cluster.metadata.repairs().is_empty());
    // A disk that spoils all it sends is as good as lost.
    cluster.disks[2].set(Fault::SpoilsReads(u32::MAX));
    cluster.disks[3].set(Fault::SpoilsReads(u32::MAX));
    check_all(&cluster, &objects).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_lost_is_an_error_and_never_wrong_bytes() {
    let cluster = Cluster::new(6, "4+2");
    cluster.put("object", &body(1 << 20)).await;
    for disk in 0..3 {
        cluster.disks[disk].set(Fault::Dead);
    }
    assert_eq!(cluster.get("object", PlanWanted::Whole).await, Err(ReadError::Unavailable));
    for disk in 0..3 {
        cluster.disks[disk].set(Fault::None);
        cluster.disks[disk].wipe();
    }
    assert_eq!(cluster.get("object", PlanWanted::Whole).await, Err(ReadError::Damaged));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_is_outrun_by_parity() {
    let (cluster, objects) = filled().await;
    for hung in 0..6 {
        cluster.disks[hung].set(Fault::Hangs);
        cluster.disks[(hung + 1) % 6].set(Fault::Slow(Duration::from_millis(1)));
        check_all(&cluster, &objects).await;
        cluster.disks[hung].set(Fault::None);
        cluster.disks[(hung + 1) % 6].set(Fault::None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_told_missing_and_disks_down_are_asked_last() {
    let cluster = Cluster::new(6, "4+2");
    let body = body(1 << 20);
    cluster.put("object", &body).await;
    cluster.metadata.set_disk(0, model::cluster_map::DiskState::Down);
    cluster.metadata.set_disk(1, model::cluster_map::DiskState::Down);
    let sees = || cluster.engine.readiness().is_some_and(|ready| ready.disks_up == 4);
    cluster.until("the map", sees).await;
    cluster.check("object", &body).await;
    assert_eq!(cluster.disks[0].reads() + cluster.disks[1].reads(), 0);
    // But asked they are, when others fail.
    cluster.disks[2].wipe();
    cluster.disks[3].wipe();
    cluster.check("object", &body).await;
}
