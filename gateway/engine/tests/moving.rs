//! Requests under an old cluster map are corrected: disks that moved to another node are found.

use std::sync::Arc;
use std::time::Duration;

use engine::{EngineOptions, WrittenBody};
use model::cluster_map::DiskState;
use model::command::WriteCondition;
use model::extent::Extent;
use model::ids::DiskId;
use model::shard::{ShardError, ShardRequest, ShardResponse};
use wire::BoxFuture;
use wire::network::{Peer, Service};

use crate::cluster::{Cluster, body, bucket, key, quick, reconciling};

/// A node that doesn't have the disk any more.
struct WithoutDisk(DiskId);

impl Service<ShardRequest, ShardResponse> for WithoutDisk {
    fn serve(&self, _: ShardRequest) -> BoxFuture<'_, ShardResponse> {
        let answer = ShardResponse::Failed(ShardError::NoSuchDisk(self.0));
        Box::pin(std::future::ready(answer))
    }
}

/// Nobody asks for a map but who needs one.
fn rarely() -> EngineOptions {
    EngineOptions { map_interval: Duration::from_hours(1), ..quick() }
}

/// What is left where a disk was.
#[derive(Clone, Copy, PartialEq)]
enum Left {
    /// The node, without the disk.
    Node,
    Nothing,
}

fn move_disk(cluster: &Cluster, disk: u32, left: Left) {
    let node = disk + 100;
    cluster.network.register(Peer(u64::from(node)), cluster.disks[disk as usize].clone());
    match left {
        Left::Node => {
            let rest = Arc::new(WithoutDisk(DiskId(disk)));
            cluster.network.register(Peer(u64::from(disk)), rest);
        }
        Left::Nothing => cluster.network.remove(Peer(u64::from(disk))),
    }
    cluster.metadata.move_disk(disk, node);
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_find_disks_that_moved() {
    for moved in [3..4, 0..6] {
        let cluster = Cluster::with(6, "4+2", rarely());
        cluster.put("first", &body(100_000)).await;
        moved.for_each(|disk| move_disk(&cluster, disk, Left::Node));
        for (name, size) in [("small", 5000), ("large", 9 << 20)] {
            let body = body(size);
            let written = cluster.write(name, &body).await.expect("written");
            let is_whole = |extent: &Extent| extent.missing.is_empty();
            assert!(written.extents().iter().all(is_whole), "{written:?}");
            cluster.commit(name, written).await.expect("committed");
            cluster.check(name, &body).await;
        }
    }
}

/// Writes 30 MiB, of which 13 are sent by the time that disks move.
async fn write_while(cluster: &Cluster, moves: impl FnOnce()) -> WrittenBody {
    let long = body(30 << 20);
    let mut writer = cluster.engine.writer(cluster.target("object", None));
    let (first, rest) = (long.slice(..13 << 20), long.slice(13 << 20..));
    for chunk in first.chunks(100_000) {
        writer.write(first.slice_ref(chunk)).await.expect("written");
    }
    moves();
    for chunk in rest.chunks(100_000) {
        writer.write(rest.slice_ref(chunk)).await.expect("written");
    }
    let written = writer.finish().await.expect("finished");
    written.extents().iter().for_each(|extent| cluster.assert_durable(extent));
    written
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_under_way_goes_on_when_its_disks_move() {
    let long = body(30 << 20);
    // One that left word: not a shard is missing, though appends and syncs went to two places.
    let cluster = Cluster::with(6, "4+2", rarely());
    let written = write_while(&cluster, || move_disk(&cluster, 2, Left::Node)).await;
    assert!(written.extents().iter().all(|extent| extent.missing.is_empty()), "{written:?}");
    cluster.commit("object", written).await.expect("committed");
    cluster.check("object", &long).await;
    // All of them, some without a word.
    let cluster = Cluster::with(6, "4+2", rarely());
    let moves = || {
        for disk in 0..6 {
            move_disk(&cluster, disk, if disk < 3 { Left::Node } else { Left::Nothing });
        }
    };
    let written = write_while(&cluster, moves).await;
    cluster.commit("object", written).await.expect("committed");
    cluster.check("object", &long).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_find_disks_that_moved() {
    for left in [Left::Node, Left::Nothing] {
        let cluster = Cluster::with(6, "4+2", rarely());
        let (small, large) = (body(5000), body(9 << 20));
        cluster.put("small", &small).await;
        cluster.put("large", &large).await;
        for disk in 0..6 {
            move_disk(&cluster, disk, left);
        }
        cluster.check("small", &small).await;
        cluster.check("large", &large).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deletes_and_inventories_find_disks_that_moved() {
    let options = EngineOptions { map_interval: Duration::from_hours(1), ..reconciling() };
    let cluster = Cluster::with(6, "4+2", options);
    let kept = body(100_000);
    cluster.put("kept", &kept).await;
    let shards = cluster.shards();
    cluster.put("object", &body(5 << 20)).await;
    // Nobody will ever own these.
    let orphan = cluster.write("orphan", &body(100_000)).await.expect("written");
    for disk in 0..6 {
        move_disk(&cluster, disk, if disk % 2 == 0 { Left::Node } else { Left::Nothing });
    }
    let deleted = cluster.engine.delete_object(bucket(), key("object"), WriteCondition::Always);
    assert_eq!(deleted.await, Ok(true));
    cluster.until("collected", || cluster.metadata.garbage() == 0).await;
    // Given up: deleted from where its disks are now.
    drop(orphan);
    cluster.until("all but one", || cluster.shards() == shards).await;
    // The inventories are asked of the new places: what a disk lost there is found and repaired.
    assert!(cluster.disks[2].lose(|_| true) > 0);
    cluster.until("repaired", || cluster.shards() == shards).await;
    cluster.check("kept", &kept).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_map_is_known_within_two_seconds() {
    let options = EngineOptions { map_interval: EngineOptions::default().map_interval, ..quick() };
    let cluster = Cluster::with(6, "4+2", options);
    let mut maps = cluster.engine.follow_cluster_map();
    let first = maps.wait_for(Option::is_some).await.expect("a map").clone().expect("a map");
    for round in 0..3 {
        let to = if round % 2 == 0 { DiskState::Full } else { DiskState::Up };
        cluster.metadata.set_disk(1, to);
        let newest = cluster.metadata.map().epoch;
        let seen = maps.wait_for(|map| map.as_ref().is_some_and(|map| map.epoch == newest));
        let seen = tokio::time::timeout(Duration::from_secs(2), seen).await.expect("in time");
        assert!(seen.expect("a map").as_ref().is_some_and(|map| map.epoch > first.epoch));
    }
    assert!(cluster.engine.map_age().is_some_and(|age| age < Duration::from_secs(2)));
}
