//! What moves leave behind is deleted only where the disk that has the right has it.

use std::sync::Arc;
use std::time::Duration;

use engine::EngineOptions;
use model::cluster_map::{DiskState, UpkeepWish};
use model::command::{Command, Outcome};
use model::ids::{DiskId, PgId, ShardId};
use model::moves::{Move, MoveReason};
use model::query::{Answer, PlanWanted, Query};
use model::time::Timestamp;
use wire::clock::{Clock as _, SystemClock};

use super::scene::Scene;
use crate::cluster::disk::Fault;
use crate::cluster::whole::{Whole, headers};
use crate::cluster::{bucket, key, moving, quick};

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
    // One look sees it, the next but one finds it due, and is over when another begins.
    scene.looked(what.from, 5).await;
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
    scene.looked(what.from, 5).await;
    assert_eq!(left_over(&scene, what), before);
    assert_eq!(scene.place(back).await, (back.from, Some(back.to)), "a deletion may be on its way");
    scene.kill_movers().await;
    scene.start().await;
    scene.until("moved", async |scene| scene.place(back).await == (back.to, None)).await;
    scene.settle().await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_fails_first_waits_for_deletions_all_the_same() {
    let mut scene = Scene::new(8, "4+2").await;
    let what = moved(&mut scene, 0).await;
    let before = left_over(&scene, what);
    let back = Move { from: what.to, to: what.from, ..what };
    scene.begin(back).await;
    // It doesn't even say what it has.
    scene.disk(back.to).set(Fault::KeepsSilent);
    let options = EngineOptions { delete_deadline: Duration::from_hours(1), ..moving() };
    scene.start_with("mover", options).await;
    scene.until("failed", async |scene| scene.mover().rebalance_progress().failures > 0).await;
    scene.disk(back.to).set(Fault::None);
    tokio::time::sleep(moving().stray_grace * 4).await;
    assert_eq!(scene.place(back).await, (back.from, Some(back.to)), "a deletion may be on its way");
    assert_eq!(left_over(&scene, what), before);
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
    scene.looked(what.from, 5).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn what_is_collected_while_it_is_left_over_goes_as_well() {
    let mut scene = Scene::new(8, "4+2").await;
    let options = EngineOptions { stray_grace: Duration::from_secs(3), ..moving() };
    scene.start_with("mover", options).await;
    let what = scene.a_move(0).await;
    scene.begin(what).await;
    scene.until("moved", async |scene| scene.place(what).await == (what.to, None)).await;
    scene.looked(what.from, 1).await;
    for name in scene.objects.keys().cloned().collect::<Vec<_>>() {
        scene.delete(&name).await;
    }
    let garbage = Query::Garbage { before: Timestamp(u64::MAX), limit: 1 };
    let is_collected = async |scene: &Scene| {
        scene.whole.query(garbage.clone()).await == Answer::Garbage(Vec::new())
    };
    scene.until("collected", is_collected).await;
    assert!(!left_over(&scene, what).is_empty(), "the collector asks the disks of the map");
    // The sessions that wrote it are open.
    scene.until("cleared", async |scene| left_over(scene, what).is_empty()).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_later_is_brought_home_at_once() {
    let mut scene = Scene::new(8, "4+2").await;
    let what = moved(&mut scene, 3).await;
    let options = EngineOptions { stray_grace: Duration::from_hours(1), ..moving() };
    scene.start_with("mover", options).await;
    // What is left over has been seen, and is neither news nor due.
    scene.looked(what.from, 1).await;
    scene.looked(DiskId(8), 0).await;
    let group = scene.map().await.pg(what.pg).expect("known").disks.clone();
    for disk in [what.to, group[0], group[1]] {
        scene.watch.rot(disk, |id| id.extent.pg == what.pg);
    }
    let is_home = async |scene: &Scene| {
        let mut is_readable = true;
        for name in scene.objects.keys() {
            is_readable &= scene.read(name).await.is_ok();
        }
        is_readable && scene.mover().rebalance_progress().brought_home > 0
    };
    scene.until("brought home", is_home).await;
    scene.finish().await;
}

/// A group with two extents of more than half of what a disk verifies at a time, in each slot.
async fn with_large_extents(scene: &mut Scene) -> PgId {
    let mut group = scene.a_move(0).await.pg;
    let disks = scene.map().await.pg(group).expect("known").disks.clone();
    let others: Vec<u32> = (1..=12).filter(|disk| !disks.contains(&DiskId(*disk))).collect();
    // Nothing else is open.
    for disk in &others {
        scene.set(*disk, DiskState::Full).await;
    }
    scene.whole.engine.newest_cluster_map().await.expect("asked");
    let mut sizes = std::collections::BTreeMap::<PgId, usize>::new();
    while sizes.values().all(|count| *count < 2) {
        scene.put(17 << 20).await;
        sizes.clear();
        for extent in scene.extents().await.into_iter().filter(|extent| extent.length > 16 << 20) {
            *sizes.entry(extent.id.pg).or_default() += 1;
        }
    }
    group = sizes.into_iter().find(|(_, count)| *count == 2).map_or(group, |(pg, _)| pg);
    for disk in others {
        scene.set(disk, DiskState::Up).await;
    }
    group
}

#[tokio::test(flavor = "multi_thread")]
async fn large_extents_are_verified_a_few_at_a_time_and_not_too_fast() {
    let mut scene = Scene::new(12, "1+2").await;
    let group = with_large_extents(&mut scene).await;
    let options = EngineOptions { stray_grace: Duration::from_hours(1), ..moving() };
    scene.start_with("mover", options).await;
    let what = scene.move_in(group, 1).await;
    scene.begin(what).await;
    scene.until("moved", async |scene| scene.place(what).await == (what.to, None)).await;
    scene.kill_movers().await;
    let wish = UpkeepWish { bytes_per_second: Some(8 << 20), ..UpkeepWish::default() };
    scene.wish(wish).await;
    scene.disk(what.to).set(Fault::VerifiesAtMost(32 << 20));
    let clock = SystemClock::new();
    let began = clock.monotonic();
    scene.start().await;
    scene.until("cleared", async |scene| left_over(scene, what).is_empty()).await;
    // The second one had to wait until the first one had its time.
    let took = clock.monotonic().saturating_sub(began);
    assert!(took > Duration::from_secs(2), "{took:?}");
    scene.disk(what.to).set(Fault::None);
    scene.finish().await;
}

/// Left-over shards of garbage, in tables that were put back and may not know who else names it.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_deleted_as_garbage_while_something_is_held() {
    let kept = Duration::from_hours(1);
    let keeping = EngineOptions { garbage_delay: kept, ..moving() };
    let mut whole = Whole::with(8, "4+2", EngineOptions { garbage_delay: kept, ..quick() }).await;
    whole.make_bucket().await;
    whole.put("object", &crate::cluster::body(5 << 20), headers(3)).await;
    let opened = whole.engine.open(bucket(), key("object"), PlanWanted::Whole).await;
    let extent = opened.expect("opened").extents.remove(0).extent.id;
    let map = whole.map().await;
    let group = map.pg(extent.pg).expect("known");
    let to = map.disks.iter().find(|disk| !group.disks.contains(&disk.id)).expect("spare").id;
    let (pg, slot, reason) = (extent.pg, 0, MoveReason::Balance);
    let what = Move { pg, slot, from: group.disks[0], to, reason };
    let from = Arc::clone(&whole.disks[what.from.0 as usize - 1]);
    let mover =
        whole.engine_of("mover", EngineOptions { stray_grace: kept, ..keeping.clone() }).await;
    let begin = Command::BeginMoves { moves: vec![what] };
    assert_eq!(whole.order(begin).await, Outcome::Done);
    until(&whole, "moved", async || whole.map().await.pg(pg).expect("known").disks[0] == to).await;
    mover.shutdown().await;
    whole.delete("object").await;
    let backup = whole.backup().await;
    whole.put_back(&backup).await;
    let left_over = || from.owners().into_iter().filter(|(id, _)| id.extent == extent).count();
    let before = left_over();
    assert!(before > 0);
    let mover = whole.engine_of("mover", keeping).await;
    let looks = from.looks();
    until(&whole, "looked", async || from.looks() >= looks + 5).await;
    assert_eq!(left_over(), before, "an object that is still to be adopted may name it");
    whole.release().await;
    until(&whole, "cleared", async || left_over() == 0).await;
    mover.shutdown().await;
}

async fn until(whole: &Whole, what: &str, done: impl AsyncFn() -> bool) {
    for turn in 0u32..12_000 {
        if done().await {
            return;
        }
        // Every second or so, that no disk is taken for down while the machine is slow.
        if turn.is_multiple_of(200) {
            whole.heartbeat().await;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("waited in vain: {what}");
}
