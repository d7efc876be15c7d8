//! What an operator wants of the cluster: disks emptied, added, weighed, given up; and paused.

use std::time::Duration;

use engine::{EngineOptions, PauseReason};
use model::cluster_map::{DiskState, UpkeepWish};
use model::command::Command;
use model::ids::DiskId;

use super::scene::Scene;
use crate::cluster::moving;

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_disk_is_emptied_while_clients_go_on() {
    let mut scene = Scene::new(7, "4+2").await;
    scene.start().await;
    scene.drain(3, true).await;
    for _ in 0..3 {
        scene.clients().await;
    }
    scene.until("emptied", async |scene| scene.slots().await[&DiskId(3)] == 0).await;
    scene.settle().await;
    let left = scene.disk(DiskId(3)).owners();
    let owned = scene.extents().await;
    assert!(left.iter().all(|(id, _)| owned.iter().all(|extent| extent.id != id.extent)));
    let progress = scene.mover().rebalance_progress();
    assert!(progress.slots > 0 && progress.shards > 0 && progress.bytes > 0, "{progress:?}");
    assert_eq!((progress.failures, progress.brought_home), (0, 0), "{progress:?}");
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_added_disk_gets_its_share() {
    let mut scene = Scene::new(6, "4+2").await;
    scene.start().await;
    let added = scene.add_disk(10).await;
    scene.clients().await;
    scene.settle().await;
    let slots = scene.slots().await;
    let (most, least) = (slots.values().max().expect("some"), slots.values().min().expect("some"));
    assert!(slots[&added] > 0 && most - least <= 1 + most / 10, "{slots:?}");
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_of_another_weight_has_another_share() {
    let mut scene = Scene::new(8, "4+2").await;
    scene.start().await;
    scene.order(Command::WeighDisk { disk: DiskId(2), weight: Some(3) }).await;
    scene.settle().await;
    let slots = scene.slots().await;
    let (light, other) = (slots[&DiskId(2)], slots[&DiskId(3)]);
    assert!(light * 2 < other && light > 0, "{slots:?}");
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_given_up_is_rebuilt_elsewhere_while_clients_go_on() {
    let mut scene = Scene::new(8, "4+2").await;
    scene.start().await;
    scene.kill(5).await;
    scene.clients().await;
    scene.give_up(5, true).await;
    scene.clients().await;
    scene.until("rebuilt", async |scene| scene.slots().await[&DiskId(5)] == 0).await;
    scene.settle().await;
    // Two more may be lost.
    scene.kill(1).await;
    scene.kill(2).await;
    scene.check_all().await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_is_taken_back_ends_where_it_is() {
    let mut scene = Scene::new(7, "4+2").await;
    scene.start().await;
    scene.drain(3, true).await;
    scene.until("begun", async |scene| scene.mover().rebalance_progress().slots > 3).await;
    scene.drain(3, false).await;
    scene.settle().await;
    assert!(scene.slots().await[&DiskId(3)] > 0);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_pauses_all_but_the_rebuilding_of_what_is_lost() {
    let mut scene = Scene::new(8, "4+2").await;
    let wish = |is_paused| UpkeepWish { is_paused, ..UpkeepWish::default() };
    scene.start().await;
    scene.drain(2, true).await;
    scene.until("begun", async |scene| scene.mover().rebalance_progress().slots > 3).await;
    scene.wish(wish(true)).await;
    let is_still = async |scene: &Scene| scene.map().await.pgs.iter().all(|pg| pg.moves.is_empty());
    scene.until("still", is_still).await;
    let paused = |scene: &Scene| scene.mover().rebalance_progress().paused;
    scene.until("told", async |scene| paused(scene) == Some(PauseReason::Operator)).await;
    let slots = scene.slots().await[&DiskId(2)];
    assert!(slots > 0, "it was not emptied");
    scene.kill(7).await;
    scene.give_up(7, true).await;
    scene.until("rebuilt", async |scene| scene.slots().await[&DiskId(7)] == 0).await;
    assert_eq!(scene.slots().await[&DiskId(2)], slots, "nothing else moved");
    scene.wish(wish(false)).await;
    scene.until("emptied", async |scene| scene.slots().await[&DiskId(2)] == 0).await;
    scene.settle().await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_begun_while_a_disk_is_down() {
    let mut scene = Scene::new(8, "4+2").await;
    scene.kill(1).await;
    scene.drain(2, true).await;
    let slots = scene.slots().await;
    scene.start().await;
    let is_told = async |scene: &Scene| {
        scene.mover().rebalance_progress().paused == Some(PauseReason::DiskDown)
    };
    scene.until("told", is_told).await;
    assert_eq!(scene.slots().await, slots);
    scene.revive(1).await;
    scene.until("emptied", async |scene| scene.slots().await[&DiskId(2)] == 0).await;
    assert_eq!(scene.map().await.disk(DiskId(1)).expect("known").state, DiskState::Up);
    scene.settle().await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_has_ended_is_not_begun_again() {
    let mut scene = Scene::new(9, "4+2").await;
    // Whoever found his own copies on the new disk would wait for deletions for an hour.
    let hour = Duration::from_hours(1);
    let options = EngineOptions { delete_deadline: hour, stray_grace: hour, ..moving() };
    scene.start_with("mover", options).await;
    scene.until("quiet", async |scene| scene.is_quiet().await).await;
    assert!(scene.mover().rebalance_progress().slots > 20);
    scene.finish().await;
}
