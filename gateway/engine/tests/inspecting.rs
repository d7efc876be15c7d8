//! What lacks shards is counted exactly, and what is said of an object's shards is so.

use std::time::Duration;

use bytes::Bytes;
use engine::{
    EngineOptions, ExtentStanding, InspectError, InspectRequest, ObjectReport, Obstacle,
    Outstanding, SlotProspect, SlotReport, SlotState, Tally,
};
use model::cluster_map::DiskState;
use model::command::{Command, LackingExtent, Outcome};
use model::extent::{Extent, SlotSet};
use model::ids::{DiskId, ShardId};
use model::names::{BucketName, ObjectKey};
use model::query::{Answer, PlanWanted, Query};

use crate::cluster::disk::Fault;
use crate::cluster::whole::{Whole, headers};
use crate::cluster::{body, bucket, key, moving, quick, repairing};

const SIZES: [usize; 5] = [1, 40_000, 300_001, 9 << 20, 5];

/// Six disks with an object of each size.
async fn filled(options: EngineOptions) -> Whole {
    let whole = Whole::with(6, "4+2", options).await;
    whole.make_bucket().await;
    for size in SIZES {
        whole.put(&format!("object-{size}"), &body(size), headers(3)).await;
    }
    whole.put("empty", &Bytes::new(), headers(3)).await;
    whole
}

fn request(name: &str) -> InspectRequest {
    InspectRequest { bucket: bucket(), key: key(name), from: 0, limit: 100, verify: false }
}

async fn inspect(whole: &Whole, name: &str) -> ObjectReport {
    whole.engine.inspect(&request(name)).await.expect("looked at")
}

/// All extents that have an owner, as the tables have them.
async fn owned(whole: &Whole) -> Vec<Extent> {
    let mut all = Vec::new();
    for pg in whole.map().await.pgs {
        let query = Query::Extents { pg: pg.id, after: None, limit: 10_000 };
        let Answer::Extents(page) = whole.query(query).await else { panic!("no extents") };
        let owned = page.extents.into_iter().filter(|entry| entry.is_owned);
        all.extend(owned.map(|entry| entry.extent));
    }
    all
}

fn sum<'a>(extents: impl IntoIterator<Item = &'a Extent>) -> Tally {
    let mut tally = Tally::default();
    for extent in extents {
        tally.extents += 1;
        tally.bytes += extent.length;
    }
    tally
}

async fn queue(whole: &Whole, extent: &Extent, slots: u32) {
    let lacking = vec![LackingExtent { extent: extent.id, slots: SlotSet(slots) }];
    let queued = whole.engine.metadata().propose(Command::QueueRepair { lacking }).await;
    assert_eq!(queued, Ok(Outcome::Done));
}

/// What is outstanding once a walk says so, as one that was done a moment ago is told again.
async fn outstanding(whole: &Whole, is_so: impl Fn(&Outstanding) -> bool) -> Outstanding {
    for _ in 0..2000 {
        let found = whole.engine.outstanding().await.expect("counted");
        assert!(found.is_whole);
        if is_so(&found) {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("waited in vain: {:?}", whole.engine.outstanding().await);
}

fn uses(extent: &Extent, slot: u8) -> bool {
    extent.stripe_geometry(0).expect("a stripe").uses_slot(slot)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_queue_is_counted_by_what_there_is_to_spare() {
    let whole = filled(quick()).await;
    let extents = owned(&whole).await;
    let nothing = outstanding(&whole, |found| found.sums.all.extents == 0).await;
    assert!(nothing.obstacles.is_empty() && nothing.bytes_left == 0, "{nothing:?}");
    assert!(!nothing.repairs_here);
    // One that lacks one, one that lacks two, one that lacks more than parity makes up for.
    let large: Vec<&Extent> = extents.iter().filter(|extent| extent.length >= 300_001).collect();
    let [first, second, ..] = large[..] else { panic!("large ones") };
    let third = extents.iter().find(|extent| extent.length == 40_000).expect("it");
    queue(&whole, first, 0b1).await;
    queue(&whole, second, 0b11).await;
    queue(&whole, third, 0b10_0111).await;
    let found = outstanding(&whole, |found| found.sums.all.extents == 3).await;
    assert_eq!(found.sums.all, sum([first, second, third]));
    let by_spare: Vec<_> =
        found.sums.by_spare.iter().map(|(spare, tally)| (*spare, *tally)).collect();
    assert_eq!(by_spare, [(-2, sum([third])), (0, sum([second])), (1, sum([first]))]);
    assert_eq!(found.sums.standing(ExtentStanding::Lost), sum([third]));
    assert_eq!(found.sums.standing(ExtentStanding::Repairable), sum([first, second]));
    // A shard of the first, two of the second; what is lost is not to be rebuilt.
    let quarter = |extent: &Extent| extent.length / 4;
    let least = quarter(first) + 2 * quarter(second);
    assert!((least..least + 10_000).contains(&found.bytes_left), "{} {least}", found.bytes_left);
    assert_eq!(found.obstacles, [Obstacle::Lost(sum([third]))]);
    assert!(found.bytes_per_second.is_none() && found.time_left.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_down_is_waited_for_and_one_that_is_out_is_rebuilt() {
    let mut whole = filled(quick()).await;
    let extents = owned(&whole).await;
    let map = whole.map().await;
    let slot_on = |extent: &Extent, disk| {
        let disks = &map.pg(extent.id.pg).expect("a group").disks;
        disks.iter().position(|id| *id == disk).map(|slot| slot as u8)
    };
    let disk = DiskId(2);
    let on_it: Vec<&Extent> = extents
        .iter()
        .filter(|extent| slot_on(extent, disk).is_some_and(|slot| uses(extent, slot)))
        .collect();
    assert!(!on_it.is_empty());
    whole.order(Command::SetDiskState { disk, state: DiskState::Down }).await;
    let found = outstanding(&whole, |found| found.sums.all.extents > 0).await;
    assert_eq!(found.sums.all, sum(on_it.iter().copied()));
    assert_eq!(found.sums.standing(ExtentStanding::Waiting), found.sums.all);
    assert_eq!((found.bytes_left, found.sums.by_spare[&1]), (0, found.sums.all));
    let [Obstacle::DiskDown { disk: down, tally, out_in: Some(out_in) }] = found.obstacles[..]
    else {
        panic!("{:?}", found.obstacles);
    };
    assert_eq!((down, tally), (disk, found.sums.all));
    assert!(out_in <= Duration::from_mins(10) && out_in > Duration::from_mins(8), "{out_in:?}");
    // Given up, with nobody to take its slots.
    whole.order(Command::GiveUpDisk { disk, is_out: true }).await;
    let homeless = |found: &Outstanding| found.lost_slots.homeless > 0;
    let found = outstanding(&whole, homeless).await;
    assert_eq!(found.sums.all, sum(on_it.iter().copied()));
    assert_eq!(found.sums.standing(ExtentStanding::Waiting), found.sums.all);
    let slots = found.lost_slots.homeless;
    assert!(found.obstacles.contains(&Obstacle::NoDiskTakes { slots }), "{:?}", found.obstacles);
    let report = inspect(&whole, "object-300001").await;
    let lost = |slot: &&SlotReport| slot.disk == disk;
    let slot = report.extents[0].slots.iter().find(lost).expect("a slot");
    assert_eq!(slot.prospect, Some(SlotProspect::Homeless));
    // Somebody to take them, and nobody to do it.
    whole.add_disk(10).await;
    let found = outstanding(&whole, |found| found.lost_slots.in_line > 0).await;
    assert_eq!(found.lost_slots.homeless, 0);
    assert_eq!(found.sums.standing(ExtentStanding::Moving), found.sums.all);
    assert!(found.bytes_left > 0);
    let left = found.bytes_left;
    // It is done, and seen to be done; what is left over on the old disk is told.
    let options = EngineOptions { stray_grace: Duration::from_hours(1), ..moving() };
    whole.restart(options).await;
    let found = outstanding(&whole, |found| found.sums.all.extents == 0).await;
    assert!(found.obstacles.is_empty(), "{:?}", found.obstacles);
    let moved = whole.engine.rebalance_progress();
    assert_eq!(moved.rebuilt_bytes, left, "{moved:?}");
    assert!(found.bytes_done <= left && found.bytes_left == 0, "{found:?}");
    let report = inspect(&whole, "object-300001").await;
    let [extent] = &report.extents[..1] else { panic!("an extent") };
    assert!(extent.standing.is_none() && extent.spare == 2, "{extent:?}");
    assert!(extent.slots.iter().all(|slot| slot.state == SlotState::Present), "{extent:?}");
    let strays: Vec<DiskId> = extent.strays.iter().map(|stray| stray.disk).collect();
    assert_eq!(strays, [disk]);
    whole.engine.shutdown().await;
}

fn states(report: &ObjectReport, at: usize) -> Vec<(u8, SlotState)> {
    let is_used = |slot: &&SlotReport| slot.state != SlotState::Unused;
    let slots = report.extents[at].slots.iter().filter(is_used);
    slots.map(|slot| (slot.slot, slot.state.clone())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_slot_is_told_as_its_disk_says() {
    let whole = filled(quick()).await;
    let report = inspect(&whole, "object-9437184").await;
    assert_eq!(report.version.size, 9 << 20);
    let extent = &report.extents[0];
    assert_eq!((extent.offset, extent.is_known, extent.spare), (Some(0), true, 2));
    assert_eq!(states(&report, 0).len(), 6);
    assert!(states(&report, 0).iter().all(|(_, state)| *state == SlotState::Present));
    // Three stripes: 4, 4 and 1 MiB.
    assert!(extent.slots.iter().all(|slot| (slot.shards, slot.present) == (3, 3)), "{extent:?}");
    assert!(extent.strays.is_empty());
    // A short one uses a data slot and two of parity.
    let short = inspect(&whole, "object-5").await;
    let used: Vec<u8> = states(&short, 0).iter().map(|(slot, _)| *slot).collect();
    assert_eq!(used, [0, 4, 5]);
    let empty = inspect(&whole, "empty").await;
    assert!(empty.extents.iter().all(|extent| extent.offset.is_none()), "{:?}", empty.extents);

    let id = extent.extent.id;
    let disk_of = |slot: usize| &whole.disks[extent.slots[slot].disk.0 as usize - 1];
    let hit = |stripe: u16| move |shard: &ShardId| shard.extent == id && shard.stripe == stripe;
    assert_eq!(disk_of(0).lose(hit(1)), 1);
    disk_of(1).rot_some(hit(2));
    disk_of(2).set(Fault::Dead);
    disk_of(3).set(Fault::Hangs);
    let check = |report: &ObjectReport| {
        let found = states(report, 0);
        assert_eq!(
            (found[0].1.clone(), found[1].1.clone()),
            (SlotState::Missing, SlotState::Damaged)
        );
        for silent in [2, 3] {
            assert!(matches!(found[silent].1, SlotState::Unreachable(_)), "{found:?}");
        }
        assert!(found[4..].iter().all(|(_, state)| *state == SlotState::Present), "{found:?}");
        let slots = &report.extents[0].slots;
        assert_eq!((slots[0].shards, slots[0].present, slots[0].damaged), (3, 2, 0));
        assert_eq!((slots[1].shards, slots[1].present, slots[1].damaged), (3, 2, 1));
        // Nothing was told to the metadata by looking.
        assert!(slots.iter().all(|slot| !slot.is_lacking && slot.prospect.is_none()));
    };
    check(&inspect(&whole, "object-9437184").await);
    // A minute is too long for a disk that hangs.
    disk_of(3).set(Fault::Dead);
    let verified = InspectRequest { verify: true, ..request("object-9437184") };
    check(&whole.engine.inspect(&verified).await.expect("verified"));
    queue(&whole, &extent.extent, 0b11).await;
    let report = inspect(&whole, "object-9437184").await;
    let extent = &report.extents[0];
    assert_eq!((extent.standing, extent.spare), (Some(ExtentStanding::Repairable), 0));
    assert!(
        extent.slots[0].is_lacking && extent.slots[1].is_lacking && !extent.slots[2].is_lacking
    );
    assert_eq!(extent.slots[0].prospect, Some(SlotProspect::Here));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_not_there_are_told_apart() {
    let whole = filled(quick()).await;
    let missing = whole.engine.inspect(&request("nothing")).await;
    assert_eq!(missing.map(|_| ()), Err(InspectError::NoSuchObject));
    let elsewhere = BucketName::parse("elsewhere").expect("valid");
    let other = InspectRequest { bucket: elsewhere, ..request("object-1") };
    let missing = whole.engine.inspect(&other).await;
    assert_eq!(missing.map(|_| ()), Err(InspectError::NoSuchBucket));
    let odd = "a b/ä//日本 %20?&";
    whole.put(odd, &body(5), headers(0)).await;
    let odd = InspectRequest { key: ObjectKey::parse(odd).expect("valid"), ..request("x") };
    assert!(whole.engine.inspect(&odd).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_object_is_looked_at_in_bounds() {
    let whole = filled(quick()).await;
    let upload = whole.begin_upload("long").await;
    let mut parts = Vec::new();
    for number in 1..=4u16 {
        let part = body((5 << 20) + usize::from(number));
        let md5 = whole.put_part("long", upload, number, &part).await;
        parts.push((number, part.len() as u64, md5));
    }
    whole.complete("long", upload, &parts).await;
    let all = inspect(&whole, "long").await;
    let offsets: Vec<u64> = all.extents.iter().filter_map(|extent| extent.offset).collect();
    assert!(offsets.len() >= 4 && offsets.is_sorted() && all.next.is_none(), "{offsets:?}");
    let two = InspectRequest { limit: 2, ..request("long") };
    let some = whole.engine.inspect(&two).await.expect("looked at");
    assert_eq!((some.extents.len(), some.next), (2, Some(offsets[2])));
    let rest = InspectRequest { from: offsets[2], limit: 2, ..request("long") };
    let rest = whole.engine.inspect(&rest).await.expect("looked at");
    let seen: Vec<Option<u64>> = rest.extents.iter().map(|extent| extent.offset).collect();
    // The recovery record comes last.
    assert_eq!((seen[0], seen[1]), (Some(offsets[2]), Some(offsets[3])));
    assert_eq!((seen.last(), rest.next), (Some(&None), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn why_a_repair_fails_is_known() {
    let whole = filled(repairing()).await;
    let found = whole.engine.open(bucket(), key("object-300001"), PlanWanted::Whole).await;
    let victim = found.expect("opened").extents[0].extent.clone();
    let lost: usize =
        whole.disks[..3].iter().map(|disk| disk.lose(|id| id.extent == victim.id)).sum();
    assert_eq!(lost, 3);
    let map = whole.map().await;
    let mut slots = 0;
    for (slot, disk) in map.pg(victim.id.pg).expect("a group").disks.iter().enumerate() {
        slots |= u32::from(disk.0 <= 3) << slot;
    }
    queue(&whole, &victim, slots).await;
    let mut report = inspect(&whole, "object-300001").await;
    for _ in 0..2000 {
        if report.extents[0].failed.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        report = inspect(&whole, "object-300001").await;
    }
    assert!(report.repairs_here);
    let extent = &report.extents[0];
    assert_eq!((extent.standing, extent.spare), (Some(ExtentStanding::Lost), -1));
    let failed = extent.failed.as_ref().expect("it failed");
    assert!(failed.attempts >= 1 && failed.next_try <= Duration::from_mins(10), "{failed:?}");
    assert_eq!(failed.failure, "it has lost more shards than its parity makes up for");
    let told = outstanding(&whole, |found| found.obstacles.len() == 2).await;
    let failing = Obstacle::Failing { extents: 1, failure: failed.failure.clone() };
    assert!(told.obstacles.contains(&failing), "{:?}", told.obstacles);
    // What the others lack says nothing of them.
    let other = inspect(&whole, "object-40000").await;
    assert!(other.extents[0].failed.is_none() && other.extents[0].standing.is_none());
}
