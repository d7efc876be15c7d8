//! Garbage is deleted from the disks, and only garbage.

use model::cluster_map::DiskState;
use model::command::WriteCondition;

use crate::cluster::{Cluster, body, bucket, key};

#[tokio::test(flavor = "multi_thread")]
async fn overwritten_and_deleted_objects_are_collected() {
    let cluster = Cluster::new(6, "4+2");
    let kept = body(100_000);
    cluster.put("kept", &kept).await;
    let shards = cluster.shards();
    for _ in 0..3 {
        cluster.put("object", &body(5 << 20)).await;
    }
    cluster.until("overwritten", || cluster.shards() == shards + 12).await;
    let deleted = cluster.engine.delete_objects(&bucket(), vec![key("object"), key("none")]).await;
    assert_eq!(deleted, [Ok(true), Ok(false)]);
    cluster.until("deleted", || cluster.shards() == shards).await;
    cluster.until("forgotten", || cluster.metadata.garbage() == 0).await;
    cluster.check("kept", &kept).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_down_is_waited_for() {
    let cluster = Cluster::new(6, "4+2");
    cluster.put("object", &body(1 << 20)).await;
    cluster.metadata.set_disk(2, DiskState::Down);
    let existed = cluster.engine.delete_object(bucket(), key("object"), WriteCondition::Always);
    assert_eq!(existed.await, Ok(true));
    let sees = || cluster.engine.readiness().is_some_and(|ready| ready.disks_up == 5);
    cluster.until("the map", sees).await;
    // What comes later is collected all the same.
    cluster.put("other", &body(100)).await;
    let gone = cluster.engine.delete_object(bucket(), key("other"), WriteCondition::Always);
    assert_eq!(gone.await, Ok(true));
    cluster.until("the other", || cluster.metadata.garbage() == 1).await;
    assert_eq!(cluster.shards(), 6);
    cluster.metadata.set_disk(2, DiskState::Up);
    cluster.until("the first", || cluster.metadata.garbage() == 0).await;
    assert_eq!(cluster.shards(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_out_is_passed_over() {
    let cluster = Cluster::new(6, "4+2");
    cluster.put("object", &body(1 << 20)).await;
    cluster.metadata.set_disk(2, DiskState::Out);
    let existed = cluster.engine.delete_object(bucket(), key("object"), WriteCondition::Always);
    assert_eq!(existed.await, Ok(true));
    cluster.until("forgotten", || cluster.metadata.garbage() == 0).await;
    assert_eq!(cluster.shards(), cluster.disks[2].shards());
}
