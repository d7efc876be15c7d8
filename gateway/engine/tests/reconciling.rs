//! What disks hold is compared with what the metadata says: what is missing comes back, and only
//! what nobody can own is deleted (I-9).

use std::sync::Arc;
use std::time::Duration;

use engine::EngineOptions;
use model::cluster_map::DiskState;
use model::query::MetadataError;
use wire::clock::SimulatedClock;

use crate::cluster::disk::Fault;
use crate::cluster::{Cluster, body, reconciling};

/// How long orphans are kept where the test moves the clock.
const GRACE: Duration = Duration::from_hours(1);

/// A cluster with some objects, and the shards of extents that were never committed.
async fn with_strangers(cluster: Cluster) -> (Cluster, Vec<(String, bytes::Bytes)>, usize) {
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

/// The same on a clock that only the test moves.
async fn with_strangers_at(
    clock: &SimulatedClock,
) -> (Cluster, Vec<(String, bytes::Bytes)>, usize) {
    // The clock leaps, and no lease is to end by that.
    let lease_duration = 100 * GRACE;
    let options = EngineOptions { orphan_grace: GRACE, lease_duration, ..reconciling() };
    with_strangers(Cluster::at(Arc::new(clock.clone()), 6, "4+2", options)).await
}

/// Moves the clock until `done`.
async fn time_passes(clock: &SimulatedClock, what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..20_000 {
        if done() {
            return;
        }
        clock.advance(Duration::from_millis(10));
        // What has been woken has its turn.
        tokio::time::sleep(Duration::from_micros(100)).await;
    }
    panic!("waited in vain: {what}");
}

/// Moves the clock until all PGs have been compared from the first to the last since.
async fn whole_pass(cluster: &Cluster, clock: &SimulatedClock) {
    let begun = cluster.metadata.asked().passes;
    // One may be under way; the next one is over when another begins.
    time_passes(clock, "a pass", || cluster.metadata.asked().passes >= begun + 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_that_vanished_without_a_trace_come_back() {
    let cluster = cluster();
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
    let (cluster, objects, kept) = with_strangers(cluster()).await;
    let all = cluster.shards();
    assert!(all > kept);
    let looks = || cluster.metadata.asked().states;
    let begun = looks();
    cluster.until("several looks", || looks() > begun + 200).await;
    assert_eq!((cluster.shards(), deletes(&cluster)), (all, 0));
    for (name, body) in &objects {
        cluster.check(name, body).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_never_have_an_owner_is_deleted_after_its_grace() {
    let (cluster, objects, kept) = with_strangers(cluster()).await;
    cluster.metadata.end_session();
    cluster.until("deleted", || cluster.shards() == kept).await;
    for (name, body) in &objects {
        cluster.check(name, body).await;
    }
    cluster.check_redundancy(&objects).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_answer_of_the_metadata_nothing_is_deleted() {
    let clock = SimulatedClock::new();
    let (cluster, objects, kept) = with_strangers_at(&clock).await;
    let all = cluster.shards();
    cluster.metadata.end_session();
    whole_pass(&cluster, &clock).await;
    // All are known to be ownerless, and what is left is the look that comes before the deletion.
    // The disks list nothing meanwhile, so that only that look is asked for.
    for disk in &cluster.disks {
        disk.set(Fault::KeepsSilent);
    }
    whole_pass(&cluster, &clock).await;
    cluster.metadata.hide_states(true);
    clock.advance(GRACE);
    // It is made again when it was in vain: by then all is done that would come of the first.
    let in_vain = || cluster.metadata.asked().hidden_states;
    time_passes(&clock, "looks in vain", || in_vain() >= 2).await;
    assert_eq!((cluster.shards(), deletes(&cluster)), (all, 0));
    // Nor does metadata that is gone altogether tell anything.
    cluster.metadata.set_down(true);
    cluster.metadata.hide_states(false);
    let asked = || cluster.metadata.asked().anything;
    let begun = asked();
    time_passes(&clock, "questions in vain", || asked() > begun + 1000).await;
    assert_eq!((cluster.shards(), deletes(&cluster)), (all, 0));
    // That was all that they were kept by.
    cluster.metadata.set_down(false);
    time_passes(&clock, "deleted", || cluster.shards() == kept).await;
    for (name, body) in &objects {
        cluster.check(name, body).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn disks_that_do_not_list_what_they_hold_lose_and_miss_nothing() {
    let clock = SimulatedClock::new();
    let (cluster, objects, kept) = with_strangers_at(&clock).await;
    let all = cluster.shards();
    for disk in &cluster.disks {
        disk.set(Fault::KeepsSilent);
    }
    whole_pass(&cluster, &clock).await;
    cluster.metadata.end_session();
    whole_pass(&cluster, &clock).await;
    clock.advance(GRACE);
    whole_pass(&cluster, &clock).await;
    assert_eq!((cluster.shards(), deletes(&cluster)), (all, 0));
    assert!(cluster.metadata.queue().is_empty());
    // And those that are down aren't asked.
    cluster.metadata.set_disk(3, DiskState::Down);
    whole_pass(&cluster, &clock).await;
    for disk in &cluster.disks {
        disk.set(Fault::None);
    }
    let away = cluster.disks[3].shards();
    let held = |disks: std::ops::Range<usize>| -> usize {
        cluster.disks[disks].iter().map(|disk| disk.shards()).sum()
    };
    whole_pass(&cluster, &clock).await;
    clock.advance(GRACE);
    time_passes(&clock, "the others", || held(0..3) + held(4..6) <= kept).await;
    whole_pass(&cluster, &clock).await;
    assert_eq!(cluster.disks[3].shards(), away);
    for (name, body) in &objects {
        cluster.check(name, body).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_older_than_the_disks_deletes_nothing() {
    let clock = SimulatedClock::new();
    let (cluster, _, _) = with_strangers_at(&clock).await;
    let all = cluster.shards();
    cluster.metadata.forget_session();
    whole_pass(&cluster, &clock).await;
    // One such extent is enough: what the tables say of others proves nothing either.
    cluster.metadata.end_session();
    whole_pass(&cluster, &clock).await;
    clock.advance(GRACE);
    whole_pass(&cluster, &clock).await;
    assert_eq!((cluster.shards(), deletes(&cluster)), (all, 0));
}

fn cluster() -> Cluster {
    Cluster::with(6, "4+2", reconciling())
}

fn deletes(cluster: &Cluster) -> usize {
    cluster.disks.iter().map(|disk| disk.deletes()).sum()
}
