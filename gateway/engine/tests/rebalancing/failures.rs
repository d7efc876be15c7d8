//! Disks fail, come back, and lose what they had while slots move.

use std::collections::BTreeSet;

use engine::{EngineOptions, PauseReason};
use model::cluster_map::{ClusterMap, DiskState, Pg, UpkeepWish};
use model::command::Command;
use model::ids::{DiskId, PgId, ShardId};
use model::moves::{Move, MoveReason};
use model::placement::{Limits, plan_moves};

use super::scene::Scene;
use crate::cluster::disk::Fault;
use crate::cluster::moving;

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_takes_nothing_is_not_chosen_again() {
    for fault in [Fault::Full, Fault::Forgets] {
        let mut scene = Scene::new(8, "4+2").await;
        // It answers, and says that it is up.
        let what = scene.a_move(2).await;
        scene.disk(what.to).set(fault);
        scene.begin(what).await;
        scene.start().await;
        scene.until("given up", async |scene| scene.place(what).await == (what.from, None)).await;
        let progress = |scene: &Scene| scene.mover().rebalance_progress();
        scene.until("counted", async |scene| progress(scene).cancelled > 0).await;
        assert!(progress(&scene).failures >= 3, "{:?}", progress(&scene));
        // Its slot moves all the same, to another disk.
        scene.drain(what.from.0, true).await;
        scene.until("emptied", async |scene| scene.slots().await[&what.from] == 0).await;
        assert_ne!(scene.place(what).await.0, what.to);
        scene.check_all().await;
        scene.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_disk_that_restarts_and_forgets_is_given_it_again() {
    let mut scene = Scene::new(8, "4+2").await;
    let what = scene.a_move(2).await;
    scene.disk(what.to).set(Fault::Restarts);
    scene.begin(what).await;
    scene.start().await;
    scene.until("moved", async |scene| scene.place(what).await == (what.to, None)).await;
    scene.settle().await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_whose_new_disk_goes_down_is_given_up() {
    let mut scene = Scene::new(9, "4+2").await;
    let what = scene.a_move(2).await;
    scene.begin(what).await;
    scene.kill(what.to.0).await;
    scene.start().await;
    scene.until("given up", async |scene| scene.place(what).await == (what.from, None)).await;
    scene.revive(what.to.0).await;
    scene.settle().await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_old_disk_lost_is_rebuilt_on_the_new_one() {
    let mut scene = Scene::new(8, "4+2").await;
    let what = scene.a_move(0).await;
    scene.watch.rot(what.from, |_| true);
    scene.begin(what).await;
    scene.start().await;
    scene.until("moved", async |scene| scene.place(what).await == (what.to, None)).await;
    scene.settle().await;
    assert_eq!(scene.whole.disks.iter().map(|disk| disk.damaged()).sum::<usize>(), 0);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_that_is_found_while_a_slot_moves_does_not_end_up_on_the_new_disk() {
    let mut scene = Scene::new(8, "4+2").await;
    for round in 0..5u8 {
        let what = scene.a_move(round).await;
        scene.start().await;
        scene.begin(what).await;
        scene.watch.rot(what.from, |id| id.extent.pg == what.pg && id.stripe % 2 == 0);
        scene.until("moved", async |scene| scene.place(what).await == (what.to, None)).await;
        scene.settle().await;
        scene.kill_movers().await;
    }
    scene.finish().await;
}

/// All shards of a group's extent but those in slots 0 to 2 are gone: it can't be rebuilt.
fn ruin(scene: &Scene, map: &ClusterMap, victim: &ShardId) {
    for slot in 3..6 {
        let disk = map.disk_of(victim.extent, slot).expect("known").id;
        scene.watch.rot(disk, |id| id.extent == victim.extent);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extent_that_nobody_can_read_holds_up_nothing() {
    let mut scene = Scene::new(8, "4+2").await;
    let what = scene.a_move(4).await;
    let shards = scene.shards().await;
    let is_it = |(id, disk): &&(ShardId, DiskId)| *disk == what.from && id.extent.pg == what.pg;
    let victim = shards.iter().find(is_it).expect("in the group").0;
    let map = scene.map().await;
    ruin(&scene, &map, &victim);
    scene.start().await;
    let drained = what.from.0;
    scene.drain(drained, true).await;
    scene.until("emptied", async |scene| scene.slots().await[&DiskId(drained)] == 0).await;
    // It is accounted for: it waits for repair, which can't help, and is not forgotten.
    let waiting = scene.repairs().await;
    assert!(waiting.iter().any(|item| item.extent.id == victim.extent), "{waiting:?}");
    // Whoever reads it is told so; everything else is as it was.
    let mut unreadable = 0;
    for (name, body) in &scene.objects {
        match scene.read(name).await {
            Ok(read) => assert!(read == body[..], "{name} reads back as it was written"),
            Err(_) => unreadable += 1,
        }
    }
    assert_eq!(unreadable, 1);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_comes_back_before_it_is_replaced_has_its_slots_at_once() {
    let mut scene = Scene::new(8, "4+2").await;
    let wish = UpkeepWish { is_paused: true, ..UpkeepWish::default() };
    scene.wish(wish).await;
    let slots = scene.slots().await[&DiskId(4)];
    scene.kill(4).await;
    scene.give_up(4, true).await;
    // Begun, and nobody there to do it.
    let map = scene.map().await;
    let limits = Limits { least: MoveReason::Lost, ..Limits::NONE };
    let lost: Vec<Move> = plan_moves(&map, &limits);
    scene.order(Command::BeginMoves { moves: lost[..8].to_vec() }).await;
    scene.watch.revive(DiskId(4));
    scene.give_up(4, false).await;
    scene.set(4, DiskState::Up).await;
    scene.start().await;
    let is_still = async |scene: &Scene| {
        let is_still = scene.map().await.pgs.iter().all(|pg| pg.moves.is_empty());
        is_still && scene.repairs().await.is_empty()
    };
    scene.until("given up", is_still).await;
    assert_eq!(scene.slots().await[&DiskId(4)], slots, "not one slot went elsewhere");
    scene.check_all().await;
    let progress = scene.mover().rebalance_progress();
    assert_eq!((progress.cancelled, progress.shards), (8, 0), "{progress:?}");
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_comes_back_half_way_keeps_what_was_not_replaced() {
    let mut scene = Scene::new(8, "4+2").await;
    scene.start().await;
    scene.kill(4).await;
    scene.give_up(4, true).await;
    scene.until("begun", async |scene| scene.mover().rebalance_progress().slots > 10).await;
    scene.clients().await;
    scene.watch.revive(DiskId(4));
    scene.give_up(4, false).await;
    scene.set(4, DiskState::Up).await;
    scene.settle().await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_was_given_up_and_still_answers_gives_what_nobody_else_has() {
    let mut scene = Scene::new(8, "4+2").await;
    let what = scene.a_move(0).await;
    let map = scene.map().await;
    let group = map.pg(what.pg).expect("known").clone();
    // Three of six are gone: the disk that is given up has what is needed beside the other three.
    for slot in [1, 2] {
        let disk = group.disks[slot];
        scene.watch.rot(disk, |id| id.extent.pg == what.pg);
    }
    scene.give_up(what.from.0, true).await;
    scene.start().await;
    scene.until("rebuilt", async |scene| scene.slots().await[&what.from] == 0).await;
    scene.until("quiet", async |scene| scene.repairs().await.is_empty()).await;
    scene.check_all().await;
    scene.settle().await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn moves_wait_for_repairs_and_not_for_ever() {
    let mut scene = Scene::new(8, "4+2").await;
    let what = scene.a_move(0).await;
    // It says that it took what is repaired, and never has it.
    scene.watch.rot(what.from, |id| id.extent.pg == what.pg);
    scene.disk(what.from).set(Fault::Forgets);
    let disk = if what.from == DiskId(1) { 2 } else { 1 };
    scene.start().await;
    scene.until("found", async |scene| !scene.repairs().await.is_empty()).await;
    scene.drain(disk, true).await;
    let is_told = async |scene: &Scene| {
        scene.mover().rebalance_progress().paused == Some(PauseReason::RepairsWaiting)
    };
    scene.until("told", is_told).await;
    scene.until("emptied", async |scene| scene.slots().await[&DiskId(disk)] == 0).await;
    assert!(!scene.repairs().await.is_empty());
    scene.disk(what.from).set(Fault::None);
    scene.settle().await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_does_not_wait_for_other_moves() {
    let mut scene = Scene::new(8, "2+1").await;
    // At a byte a second nothing ever ends but what has no shard to spare, which isn't held back.
    let slow = EngineOptions { repair_bytes_per_second: 1, ..moving() };
    scene.start_with("mover", slow).await;
    scene.drain(3, true).await;
    let is_busy = async |scene: &Scene| scene.mover().rebalance_progress().under_way.len() >= 2;
    scene.until("busy", is_busy).await;
    scene.kill(5).await;
    scene.give_up(5, true).await;
    scene.until("rebuilt", async |scene| scene.slots().await[&DiskId(5)] == 0).await;
    assert!(scene.slots().await[&DiskId(3)] > 0, "what was copied before goes on later");
    scene.kill_movers().await;
    scene.start().await;
    scene.settle().await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_nothing_to_spare_is_rebuilt_before_what_has() {
    a_second_loss_while_slots_are_held_back(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_back_is_not_once_it_has_nothing_to_spare() {
    a_second_loss_while_slots_are_held_back(true).await;
}

/// A second disk is lost while two slots of the first are held back, of whose groups it has a slot or not.
async fn a_second_loss_while_slots_are_held_back(is_of_those: bool) {
    let mut scene = Scene::new(10, "2+2").await;
    for _ in 0..60 {
        scene.put(70_000).await;
    }
    let used: BTreeSet<PgId> = scene.extents().await.iter().map(|extent| extent.id.pg).collect();
    let slow = EngineOptions { repair_bytes_per_second: 1, ..moving() };
    scene.start_with("mover", slow).await;
    scene.kill(4).await;
    scene.give_up(4, true).await;
    // These have one to spare, so that they are held back, and all others wait behind them.
    let are_held_back = async |scene: &Scene| {
        let copied = scene.mover().rebalance_progress().under_way;
        copied.len() == 2 && copied.iter().all(|one| one.bytes > 0)
    };
    scene.until("held back", are_held_back).await;
    let map = scene.map().await;
    let copied = scene.mover().rebalance_progress().under_way;
    let has = |pg: PgId, disk: u32| map.pg(pg).is_some_and(|pg| pg.disks.contains(&DiskId(disk)));
    let is_wanted = |second: &u32| {
        copied.iter().any(|one| has(one.what.pg, *second)) == is_of_those
            && used.iter().any(|pg| has(*pg, 4) && has(*pg, *second))
    };
    let second = (1..=10).filter(|disk| *disk != 4).find(is_wanted).expect("there is one");
    let has_both = |pg: &&Pg| [4, second].iter().all(|disk| pg.disks.contains(&DiskId(*disk)));
    let urgent: Vec<PgId> = map.pgs.iter().filter(has_both).map(|pg| pg.id).collect();
    scene.kill(second).await;
    scene.give_up(second, true).await;
    let are_rebuilt = async |scene: &Scene| {
        let map = scene.map().await;
        urgent.iter().all(|pg| map.pg(*pg).is_some_and(|pg| !has_both(&pg)))
    };
    scene.until("rebuilt", are_rebuilt).await;
    assert!(scene.slots().await[&DiskId(4)] > 0, "what has one to spare goes on later");
    scene.kill_movers().await;
    scene.start().await;
    scene.settle().await;
    scene.finish().await;
}
