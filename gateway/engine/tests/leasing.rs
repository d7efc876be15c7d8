//! Work in the background is done by one gateway at a time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use engine::{Engine, EngineOptions};
use model::command::WriteCondition;
use model::ids::SessionId;
use model::node::Job;

use crate::cluster::metadata::Gateway;
use crate::cluster::{Cluster, body, bucket, engine, key, quick, reconciling};

const LEASE: Duration = Duration::from_millis(900);

fn short() -> EngineOptions {
    EngineOptions { lease_duration: LEASE, ..quick() }
}

/// A second gateway to the same cluster.
fn second(cluster: &Cluster) -> (Arc<Gateway>, Engine) {
    let gateway = Gateway::new(&cluster.metadata, 2);
    let engine = engine(gateway.clone(), &cluster.network, short());
    (gateway, engine)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_gateway_has_all_jobs_at_once() {
    // A lease so long that nothing here is a renewal.
    let options = EngineOptions { lease_duration: Duration::from_mins(10), ..reconciling() };
    let cluster = Cluster::with(6, "4+2", options);
    let all = ["collect", "repair", "reconcile"];
    cluster.until("leases", || cluster.engine.leased_jobs() == all).await;
    let backup = cluster.engine.lease(Job::Backup);
    cluster.until("one more", || backup.is_held()).await;
    cluster.engine.shutdown().await;
    assert!(cluster.engine.leased_jobs().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_hands_its_jobs_over() {
    let cluster = Cluster::with(6, "4+2", short());
    cluster.until("the first", || cluster.engine.leased_jobs() == ["collect"]).await;
    let (_, other) = second(&cluster);
    let mut lease = other.lease(Job::Collect);
    cluster.put("object", &body(100_000)).await;
    // Renewed again and again, for longer than one lease: the other never gets it.
    for _ in 0..5 {
        let ends = || cluster.metadata.lease(Job::Collect).expect("a lease").until;
        let before = ends();
        cluster.until("a renewal", || ends() > before).await;
        assert!(!lease.is_held());
        assert_eq!(cluster.engine.leased_jobs(), ["collect"]);
    }
    cluster.engine.shutdown().await;
    let deleted = cluster.engine.delete_object(bucket(), key("object"), WriteCondition::Always);
    assert_eq!(deleted.await, Ok(true));
    lease.held().await;
    cluster.until("collected by the other", || cluster.metadata.garbage() == 0).await;
    other.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_cut_off_stops_before_anybody_else_begins() {
    let cluster = Cluster::new(6, "4+2");
    cluster.engine.shutdown().await;
    let (gateway, engine) = second(&cluster);
    let mut lease = engine.lease(Job::Collect);
    lease.held().await;
    gateway.is_cut_off.store(true, Ordering::Relaxed);
    lease.lost().await;
    assert!(engine.leased_jobs().is_empty());
    let held = cluster.metadata.lease(Job::Collect).expect("a lease");
    assert_eq!(held.holder, SessionId(2));
    let now = wire::clock::Clock::now(&wire::clock::SystemClock::new());
    assert!(held.until > now, "it stopped in time");
    gateway.is_cut_off.store(false, Ordering::Relaxed);
    lease.held().await;
    engine.shutdown().await;
}
