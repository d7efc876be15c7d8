//! Losses that other stores had while they repaired, moved and deleted, as scenarios here, each named
//! after its report.

use std::collections::BTreeSet;

use engine::EngineOptions;
use model::cluster_map::DiskState;
use model::ids::{DiskId, ExtentId};
use model::query::{Answer, PlanWanted, Query};
use model::time::Timestamp;

use super::scene::Scene;
use crate::cluster::disk::Fault;
use crate::cluster::{bucket, key, moving, quick};

/// Extents that disks have shards of and nobody owns.
async fn unowned(scene: &Scene) -> BTreeSet<ExtentId> {
    let owned: BTreeSet<ExtentId> =
        scene.extents().await.into_iter().map(|extent| extent.id).collect();
    let all = scene.whole.disks.iter().flat_map(|disk| disk.owners());
    all.map(|(id, _)| id.extent).filter(|id| !owned.contains(id)).collect()
}

/// MinIO #9931, #12787, #21462 and RustFS 3c8bd5b92: what was deleted while a node was down came back
/// with it, or was never cleaned. Here its slots are rebuilt elsewhere meanwhile, too.
#[tokio::test(flavor = "multi_thread")]
async fn minio_9931_what_was_deleted_while_a_disk_was_away_stays_deleted() {
    let mut scene = Scene::new(8, "4+2").await;
    scene.start().await;
    let disk = scene.a_move(0).await.from;
    scene.kill(disk.0).await;
    scene.give_up(disk.0, true).await;
    scene.until("rebuilt", async |scene| scene.slots().await[&disk] == 0).await;
    let names: Vec<String> = scene.objects.keys().cloned().collect();
    for name in &names[..6] {
        scene.delete(name).await;
    }
    let garbage = Query::Garbage { before: Timestamp(u64::MAX), limit: 1 };
    let is_collected = async |scene: &Scene| {
        scene.whole.query(garbage.clone()).await == Answer::Garbage(Vec::new())
    };
    scene.until("collected", is_collected).await;
    assert!(!unowned(&scene).await.is_empty(), "the disk that is away has them still");
    scene.watch.revive(disk);
    scene.give_up(disk.0, false).await;
    scene.set(disk.0, DiskState::Up).await;
    scene.settle().await;
    for name in &names[..6] {
        let opened = scene.whole.engine.open(bucket(), key(name), PlanWanted::Nothing);
        assert!(opened.await.is_err(), "{name} is deleted");
    }
    // Nobody can own them any more when the session has ended that wrote them.
    scene.kill_movers().await;
    let options = EngineOptions {
        reconcile_interval: Some(std::time::Duration::from_millis(30)),
        reconcile_pause: std::time::Duration::ZERO,
        orphan_grace: std::time::Duration::from_millis(100),
        ..moving()
    };
    scene.start_with("mover", options).await;
    let again = scene.whole.engine_of("gateway", quick()).await;
    let before = std::mem::replace(&mut scene.whole.engine, again);
    before.shutdown().await;
    scene.until("cleaned", async |scene| unowned(scene).await.is_empty()).await;
    scene.finish().await;
}

/// MinIO b7c5e45ff, 404d8b308, b22b39de9: with too many disks away, objects were taken for dangling
/// and deleted.
#[tokio::test(flavor = "multi_thread")]
async fn minio_b7c5e45ff_what_cannot_be_read_for_now_is_not_taken_for_dangling() {
    let mut scene = Scene::new(8, "4+2").await;
    scene.drain(1, true).await;
    scene.start().await;
    scene.until("begun", async |scene| scene.mover().rebalance_progress().slots > 3).await;
    for disk in 2..=6 {
        scene.kill(disk).await;
    }
    scene.give_up(2, true).await;
    let shards = |scene: &Scene| -> BTreeSet<_> {
        let all = scene.whole.disks.iter().flat_map(|disk| disk.owners());
        all.map(|(id, _)| id).collect()
    };
    let before = shards(&scene);
    // Whatever was left over when the disks went away is due by then.
    scene.looked(DiskId(8), 6).await;
    assert!(shards(&scene).is_superset(&before), "not one is gone");
    for disk in 2..=6 {
        scene.watch.revive(DiskId(disk));
        scene.give_up(disk, false).await;
        scene.set(disk, DiskState::Up).await;
    }
    scene.until("emptied", async |scene| scene.slots().await[&DiskId(1)] == 0).await;
    scene.settle().await;
    scene.finish().await;
}

/// RustFS cb93ac5df, 7e8b50042: what was healed was called well without a look at it.
#[tokio::test(flavor = "multi_thread")]
async fn rustfs_7e8b50042_what_a_disk_says_it_took_is_read_back() {
    let mut scene = Scene::new(8, "4+2").await;
    let what = scene.a_move(1).await;
    scene.disk(what.to).set(Fault::Forgets);
    scene.begin(what).await;
    scene.start().await;
    scene.until("tried", async |scene| scene.mover().rebalance_progress().failures > 0).await;
    assert_eq!(scene.place(what).await.0, what.from, "nobody saw the shards there");
    scene.disk(what.to).set(Fault::None);
    scene.until("ended", async |scene| scene.place(what).await.1.is_none()).await;
    scene.kill_movers().await;
    // The census: every shard is somewhere whole, whatever was told of it.
    let shards = scene.shards().await;
    assert!(shards.iter().all(|(id, disk)| scene.disk(*disk).has(id)));
    scene.finish().await;
}

/// RustFS 7c1a76dfd: a delete raced with the commit of a decommission, which brought the object back.
#[tokio::test(flavor = "multi_thread")]
async fn rustfs_7c1a76dfd_what_is_deleted_while_its_disk_is_drained_stays_deleted() {
    let mut scene = Scene::new(8, "4+2").await;
    scene.start().await;
    for disk in 1..=3 {
        scene.drain(disk, true).await;
        for _ in 0..4 {
            let oldest = scene.objects.keys().next().cloned().expect("filled");
            scene.put(30_000).await;
            scene.put(5 << 20).await;
            scene.delete(&oldest).await;
            let opened = scene.whole.engine.open(bucket(), key(&oldest), PlanWanted::Nothing);
            assert!(opened.await.is_err());
        }
        scene.until("emptied", async |scene| scene.slots().await[&DiskId(disk)] == 0).await;
        scene.drain(disk, false).await;
    }
    scene.settle().await;
    assert_eq!(scene.whole.seen().await.len(), scene.objects.len());
    scene.finish().await;
}

/// SeaweedFS #9941, #9596: a cleaner deleted the only copy of shards that it took for left over.
#[tokio::test(flavor = "multi_thread")]
async fn seaweedfs_9941_the_only_copy_of_a_shard_is_not_cleaned_up() {
    let mut scene = Scene::new(8, "4+2").await;
    let options = EngineOptions { stray_grace: std::time::Duration::from_hours(1), ..moving() };
    scene.start_with("mover", options).await;
    let what = scene.a_move(3).await;
    scene.begin(what).await;
    scene.until("moved", async |scene| scene.place(what).await == (what.to, None)).await;
    scene.kill_movers().await;
    let is_readable = async |scene: &Scene| {
        for name in scene.objects.keys() {
            if scene.read(name).await.is_err() {
                return false;
            }
        }
        true
    };
    // The new disk and two more lose theirs: what is left over is needed to read at all. A slot that
    // the mover had moved as well may be given to its new disk only now.
    let lose = async |scene: &Scene| {
        let group = scene.map().await.pg(what.pg).expect("known").disks.clone();
        for disk in [what.to, group[0], group[1]] {
            scene.watch.rot(disk, |id| id.extent.pg == what.pg);
        }
        !is_readable(scene).await
    };
    scene.until("lost", lose).await;
    scene.start().await;
    scene.until("readable", is_readable).await;
    scene.settle().await;
    scene.finish().await;
}

/// SeaweedFS #5615, #9340: a rebuild failed though enough shards were there, as they were counted by
/// disk. Any two slots of a group are lost here while a third one moves.
#[tokio::test(flavor = "multi_thread")]
async fn seaweedfs_9340_any_k_shards_are_enough() {
    let mut scene = Scene::new(8, "4+2").await;
    for (first, second, moves) in [(0u8, 1u8, 2u8), (4, 5, 0), (0, 5, 4), (2, 3, 5)] {
        let what = scene.a_move(moves).await;
        let group = scene.map().await.pg(what.pg).expect("known").disks.clone();
        for slot in [first, second] {
            scene.watch.rot(group[usize::from(slot)], |id| id.extent.pg == what.pg);
        }
        scene.begin(what).await;
        scene.start().await;
        scene.until("moved", async |scene| scene.place(what).await == (what.to, None)).await;
        scene.settle().await;
        scene.kill_movers().await;
    }
    scene.finish().await;
}

/// Garage: a change of the layout together with nodes that don't answer lost reads.
#[tokio::test(flavor = "multi_thread")]
async fn garage_reads_go_on_while_slots_move_and_disks_hang() {
    let mut scene = Scene::new(8, "4+2").await;
    scene.drain(1, true).await;
    scene.start().await;
    scene.until("begun", async |scene| scene.mover().rebalance_progress().slots > 3).await;
    scene.watch.hang(DiskId(4));
    scene.set(4, DiskState::Down).await;
    scene.check_all().await;
    scene.put(40_000).await;
    scene.check_all().await;
    scene.watch.revive(DiskId(4));
    scene.set(4, DiskState::Up).await;
    scene.until("emptied", async |scene| scene.slots().await[&DiskId(1)] == 0).await;
    scene.settle().await;
    scene.finish().await;
}
