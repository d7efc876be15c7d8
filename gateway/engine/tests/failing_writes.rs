//! Writes while disks fail: every one that can succeed does, and is durable.

use std::sync::atomic::Ordering;
use std::time::Duration;

use engine::{CommitError, EngineOptions, WriteError};
use model::command::{Outcome, Refusal};
use model::ids::DiskId;
use model::query::MetadataError;

use crate::cluster::disk::Fault;
use crate::cluster::{Cluster, body, quick};

#[tokio::test(flavor = "multi_thread")]
async fn one_disk_dies_at_any_append() {
    for after in 0..6 {
        for disk in [0, 5] {
            let cluster = Cluster::new(6, "4+2");
            cluster.disks[disk].set(Fault::DiesAfter(after));
            let body = body(19 << 20);
            cluster.put("object", &body).await;
            cluster.check("object", &body).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_disks_die_at_any_append() {
    for after in 0..6 {
        for other in 0..6 {
            let cluster = Cluster::new(6, "4+2");
            cluster.disks[1].set(Fault::DiesAfter(after));
            cluster.disks[4].set(Fault::DiesAfter(other));
            let body = body(19 << 20);
            cluster.put("object", &body).await;
            cluster.check("object", &body).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn small_writes_go_on_while_two_disks_die() {
    for (first, second) in [(0, 1), (4, 5), (0, 5)] {
        let cluster = Cluster::new(6, "4+2");
        cluster.disks[first].set(Fault::DiesAfter(3));
        cluster.disks[second].set(Fault::DiesAfter(5));
        for number in 0..30 {
            let (name, body) = (format!("object-{number}"), body(4096 + number * 3000));
            cluster.put(&name, &body).await;
            cluster.check(&name, &body).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_pg_is_preferred_to_a_missing_slot() {
    let cluster = Cluster::new(9, "4+2");
    cluster.metadata.notices.store(false, Ordering::Relaxed);
    cluster.disks[3].set(Fault::DiesAfter(2));
    for number in 0..20 {
        let (name, body) = (format!("object-{number}"), body(9 << 20));
        let written = cluster.write(&name, &body).await.expect("written");
        let missing: u32 = written.extents().iter().map(|extent| extent.missing.len()).sum();
        // Only an extent that the disk had a part of before it died can lack it.
        assert!(missing <= 1, "{written:?}");
        written.extents().iter().for_each(|extent| cluster.assert_durable(extent));
        cluster.commit(&name, written).await.expect("committed");
        cluster.check(&name, &body).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_another_pg_the_slot_is_told_missing() {
    let cluster = Cluster::new(6, "4+2");
    cluster.metadata.notices.store(false, Ordering::Relaxed);
    cluster.disks[2].set(Fault::Dead);
    let body = body(9 << 20);
    let written = cluster.write("object", &body).await.expect("written");
    assert!(written.extents().iter().all(|extent| extent.missing.len() == 1), "{written:?}");
    cluster.commit("object", written).await.expect("committed");
    cluster.check("object", &body).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn disks_that_die_at_the_sync_do_not_fail_the_write() {
    for dying in [&[3][..], &[0, 5], &[4, 5]] {
        let cluster = Cluster::new(6, "4+2");
        for disk in dying {
            cluster.disks[*disk].set(Fault::DiesAtSync);
        }
        let body = body(21 << 20);
        cluster.put("object", &body).await;
        cluster.check("object", &body).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn disks_that_restart_before_the_sync_do_not_fail_the_write() {
    for restarting in [&[3][..], &[0, 5]] {
        let cluster = Cluster::new(6, "4+2");
        for disk in restarting {
            cluster.disks[*disk].set(Fault::Restarts);
        }
        let body = body(9 << 20);
        cluster.put("object", &body).await;
        cluster.check("object", &body).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_holds_up_a_write_only_for_so_long() {
    let cluster = Cluster::new(6, "4+2");
    cluster.metadata.notices.store(false, Ordering::Relaxed);
    cluster.disks[5].set(Fault::Hangs);
    for size in [4096, 9 << 20] {
        let body = body(size);
        cluster.put("object", &body).await;
        cluster.check("object", &body).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn full_and_overloaded_disks_are_no_failure() {
    let cluster = Cluster::new(6, "4+2");
    for disk in &cluster.disks {
        disk.set(Fault::Overloaded(3));
    }
    let body = body(9 << 20);
    let written = cluster.write("object", &body).await.expect("written");
    assert!(written.extents().iter().all(|extent| extent.missing.is_empty()));
    cluster.disks[1].set(Fault::Full);
    cluster.put("other", &body).await;
    cluster.check("other", &body).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_disks_are_an_error_in_time() {
    let options = EngineOptions { placement_patience: Duration::from_millis(300), ..quick() };
    let cluster = Cluster::with(6, "4+2", options);
    cluster.metadata.notices.store(false, Ordering::Relaxed);
    for disk in 0..3 {
        cluster.disks[disk].set(Fault::Dead);
    }
    let error = cluster.write("object", &body(1 << 20)).await.expect_err("too few");
    assert_eq!(error, WriteError::Unavailable);
    cluster.until("cleanup", || cluster.shards() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_out_of_reach_are_told_in_time_and_taken_back_by_themselves() {
    // The defaults, in a tenth of the time, but for what would end a write otherwise.
    let options = EngineOptions {
        suspect_after: Duration::from_millis(100),
        probe_deadline: Duration::from_millis(100),
        probe_interval: Duration::from_millis(25),
        reach_patience: Duration::from_millis(500),
        append_deadline: Duration::from_mins(5),
        placement_patience: Duration::from_mins(5),
        suspect_for: Duration::from_mins(5),
        ..quick()
    };
    let cluster = Cluster::with(6, "4+2", options);
    cluster.metadata.notices.store(false, Ordering::Relaxed);
    let body = body(1 << 20);
    cluster.put("before", &body).await;
    assert_eq!(cluster.engine.out_of_reach(), None);
    // A network that was cut: nothing is answered, and the cluster knows nothing of it.
    for disk in 0..2 {
        cluster.disks[disk].set(Fault::Hangs);
    }
    let patience = Duration::from_secs(30);
    for _ in 0..2 {
        let written = tokio::time::timeout(patience, cluster.write("object", &body)).await;
        assert_eq!(written.expect("in time").expect_err("too few"), WriteError::OutOfReach);
    }
    let lost = cluster.engine.out_of_reach().expect("lost");
    assert_eq!((lost.disks, lost.can_write), (vec![DiskId(0), DiskId(1)], false));
    cluster.check("before", &body).await;
    // One too many was lost: with one of them back, there are writes again, to the others.
    cluster.disks[0].set(Fault::None);
    cluster
        .until("one is back", || cluster.engine.out_of_reach().is_some_and(|lost| lost.can_write))
        .await;
    let written = cluster.write("object", &body).await.expect("written");
    assert!(written.extents().iter().all(|extent| extent.missing.len() == 1), "{written:?}");
    cluster.disks[1].set(Fault::None);
    cluster.until("all are back", || cluster.engine.out_of_reach().is_none()).await;
    // At once, though it failed just now: what it failed before is forgotten.
    let written = cluster.write("object", &body).await.expect("written");
    assert!(written.extents().iter().all(|extent| extent.missing.is_empty()), "{written:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn aborted_writes_leave_nothing_behind() {
    let cluster = Cluster::new(6, "4+2");
    for size in [100, 5 << 20, 30 << 20] {
        let mut writer = cluster.engine.writer(cluster.target("object", None));
        writer.write(body(size)).await.expect("written");
        drop(writer);
        // Finished, but never committed.
        drop(cluster.write("object", &body(size)).await.expect("written"));
        // Dropped in the middle of a write.
        let mut writer = cluster.engine.writer(cluster.target("object", None));
        let write = writer.write(body(size));
        let clock = wire::clock::SystemClock::new();
        let _ = wire::clock::timeout(&clock, Duration::from_millis(2), write).await;
        drop(writer);
    }
    cluster.until("cleanup", || cluster.shards() == 0).await;
    cluster.engine.shutdown().await;
    assert_eq!(cluster.shards(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_commit_is_cleaned_up_and_an_unknown_one_is_not() {
    let cluster = Cluster::new(6, "4+2");
    let commit = async |answer| {
        let written = cluster.write("object", &body(4096)).await.expect("written");
        *cluster.metadata.next_commit.lock().expect("no panic") = Some(answer);
        cluster.commit("object", written).await.expect_err("not committed")
    };
    let refused = |refusal| Ok(Outcome::Refused(refusal));
    let error = commit(refused(Refusal::PreconditionFailed)).await;
    assert_eq!(error, CommitError::Refused(Refusal::PreconditionFailed));
    assert_eq!(commit(refused(Refusal::SessionEnded)).await, CommitError::SessionEnded);
    assert_eq!(commit(Err(MetadataError::Unavailable)).await, CommitError::Unavailable);
    cluster.until("cleanup", || cluster.shards() == 0).await;
    assert_eq!(commit(Err(MetadataError::Unknown)).await, CommitError::Unknown);
    cluster.engine.shutdown().await;
    assert_eq!(cluster.shards(), 3);
}
