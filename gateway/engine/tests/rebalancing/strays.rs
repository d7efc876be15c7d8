//! What moves leave behind is deleted only where the disk that has the right has it.

use std::time::Duration;

use engine::EngineOptions;
use model::ids::{DiskId, ShardId};
use model::moves::Move;

use super::scene::Scene;
use crate::cluster::disk::Fault;
use crate::cluster::{moving, quick};

/// A slot has moved, and nobody has looked for what is left over.
async fn moved(scene: &mut Scene, slot: u8) -> Move {
    let options = EngineOptions { stray_grace: Duration::from_hours(1), ..moving() };
    scene.start_with("mover", options).await;
    let what = scene.a_move(slot).await;
    scene.begin(what).await;
    scene.until("moved", async |scene| scene.place(what).await == (what.to, None)).await;
    scene.kill_movers().await;
    what
}

fn left_over(scene: &Scene, what: Move) -> Vec<ShardId> {
    let all = scene.disk(what.from).owners().into_iter().map(|(id, _)| id);
    all.filter(|id| id.extent.pg == what.pg).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_left_over_is_deleted_before_its_time_or_while_the_new_disk_is_away() {
    let mut scene = Scene::new(8, "4+2").await;
    let what = moved(&mut scene, 0).await;
    let before = left_over(&scene, what);
    assert!(!before.is_empty());
    scene.watch.kill(what.to);
    let deletes = scene.disk(what.from).deletes();
    scene.start().await;
    // Several times its grace.
    tokio::time::sleep(moving().stray_grace * 4).await;
    assert_eq!(left_over(&scene, what), before, "nobody says that the new disk has it");
    assert_eq!(scene.disk(what.from).deletes(), deletes);
    scene.watch.revive(what.to);
    scene.until("cleared", async |scene| left_over(scene, what).is_empty()).await;
    scene.settle().await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_new_disk_lost_is_brought_home_before_it_is_deleted() {
    let mut scene = Scene::new(8, "4+2").await;
    let what = moved(&mut scene, 3).await;
    scene.watch.rot(what.to, |id| id.extent.pg == what.pg);
    scene.start_with("mover", EngineOptions { repair_interval: None, ..moving() }).await;
    let is_home = async |scene: &Scene| scene.mover().rebalance_progress().brought_home > 0;
    scene.until("brought home", is_home).await;
    scene.until("cleared", async |scene| left_over(scene, what).is_empty()).await;
    scene.start_with("repairer", EngineOptions { move_interval: None, ..moving() }).await;
    scene.settle().await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_with_a_right_to_the_group_keeps_what_it_has() {
    let mut scene = Scene::new(8, "4+2").await;
    let what = moved(&mut scene, 0).await;
    let before = left_over(&scene, what);
    // It is to have the slot again; the mover doesn't get to it.
    let back = Move { from: what.to, to: what.from, ..what };
    scene.begin(back).await;
    scene.disk(what.to).set(Fault::None);
    let options = EngineOptions { delete_deadline: Duration::from_hours(1), ..moving() };
    scene.start_with("mover", options).await;
    tokio::time::sleep(moving().stray_grace * 4).await;
    assert_eq!(left_over(&scene, what), before);
    assert_eq!(scene.place(back).await, (back.from, Some(back.to)), "a deletion may be on its way");
    scene.kill_movers().await;
    scene.start().await;
    scene.until("moved", async |scene| scene.place(back).await == (back.to, None)).await;
    scene.settle().await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_that_was_copied_is_deleted_from_both_disks() {
    let mut scene = Scene::new(8, "4+2").await;
    // A mover that copies and can't end: the new disk has it all by then.
    let what = scene.a_move(0).await;
    scene.begin(what).await;
    scene.disk(what.to).set(Fault::DiesAfter(2));
    scene.start_with("mover", EngineOptions { repair_interval: None, ..moving() }).await;
    scene.until("tried", async |scene| scene.mover().rebalance_progress().failures > 0).await;
    scene.kill_movers().await;
    scene.disk(what.to).set(Fault::None);
    let copied = scene.disk(what.to).owners();
    assert!(copied.iter().any(|(id, _)| id.extent.pg == what.pg));
    for name in scene.objects.keys().cloned().collect::<Vec<_>>() {
        scene.delete(&name).await;
    }
    scene.until("collected", async |scene| scene.whole.shards() == 0).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_get_an_owner_yet_stays() {
    let mut scene = Scene::new(8, "4+2").await;
    let writer = scene.whole.engine_of("writer", quick()).await;
    let body = crate::cluster::body(5 << 20);
    let mut open = writer.writer(scene.whole.target("late", &body));
    open.write(body.clone()).await.expect("taken");
    let written = open.finish().await.expect("written");
    let group = written.extents()[0].id.pg;
    scene.start().await;
    let what = scene.move_in(group, 2).await;
    scene.begin(what).await;
    scene.until("moved", async |scene| scene.place(what).await == (what.to, None)).await;
    tokio::time::sleep(moving().stray_grace * 4).await;
    let id = written.extents()[0].id;
    assert!(left_over(&scene, what).iter().any(|shard| shard.extent == id));
    // Its writer gives it up, and its session ends.
    drop(written);
    writer.shutdown().await;
    let again = scene.whole.engine_of("writer", quick()).await;
    scene.until("cleared", async |scene| left_over(scene, what).is_empty()).await;
    assert_ne!(what.from, DiskId(0));
    again.shutdown().await;
    scene.settle().await;
    scene.finish().await;
}
