//! Scrub and verification on demand: what has rotted is found, what hasn't is not accused, and a
//! pass goes on where it was.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use model::ids::ShardId;
use model::shard::{ScrubOrder, ScrubReport, ShardError, ShardState};
use storage_node::{Store, StoreOptions};
use wire::clock::{Clock, SimulatedClock, SystemClock};
use wire::disk::{Disk, DiskFaults, OpenMode, SimulatedDisk};

use crate::unruly::Unruly;
use crate::world::{extent, id, identity, open_with, put, shard, small, wait, whole};

const SEGMENT: &str = "shards/seg-0000000000000001.dss";
/// The shards of [`example`]; the second is deleted.
const LENGTHS: [(u32, usize); 4] = [(1, 300), (2, 200), (3, 100), (4, 50)];

/// Scrub and compaction run when they are asked to.
fn on_demand() -> StoreOptions {
    StoreOptions { scrub_interval: Duration::ZERO, compaction_bytes_per_second: 0, ..small() }
}

fn open(disk: &(impl Disk + Clone)) -> Store {
    open_with(Arc::new(disk.clone()), on_demand()).expect("opened")
}

/// Waits until `done`; a scrub that never gets there fails the test.
fn until(
    store: &Store,
    step: &mut dyn FnMut(),
    done: &dyn Fn(&ScrubReport) -> bool,
) -> ScrubReport {
    let clock = SystemClock::new();
    loop {
        let report = store.report().scrub;
        if done(&report) {
            return report;
        }
        assert!(clock.monotonic() < Duration::from_mins(1), "the scrub doesn't get on: {report:?}");
        step();
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Scrubs the whole disk, as fast as it goes.
fn scrub(store: &Store) -> ScrubReport {
    let before = store.report().scrub.last_ended;
    store.scrub(ScrubOrder::Begin { bytes_per_second: 0 }).expect("ordered");
    until(store, &mut || {}, &|report| report.last_ended > before)
}

fn damaged(store: &Store) -> Vec<ShardId> {
    store.damaged(None, 100).expect("listed")
}

#[test]
fn what_a_verification_calls_sound_is_durable() {
    let disk = SimulatedDisk::new(1);
    let store = open(&disk);
    wait(store.append(vec![shard(id(1, 1, 0), 300)], false)).expect("appended");
    assert_eq!(
        wait(store.verify(vec![extent(1, 1)])).expect("verified"),
        [(id(1, 1, 0), ShardState::Sound)]
    );
    store.abort();
    disk.crash();
    whole(&open(&disk), id(1, 1, 0), 300).expect("kept");
}

#[test]
fn what_can_not_be_made_durable_is_not_called_sound() {
    let disk = SimulatedDisk::new(1);
    let store = open(&disk);
    put(&store, id(1, 1, 0), 300).expect("put");
    wait(store.append(vec![shard(id(1, 2, 0), 300)], false)).expect("appended");
    disk.set_faults(DiskFaults { syncs_fail: true, ..DiskFaults::default() });
    let both = || wait(store.verify(vec![extent(1, 1), extent(1, 2)]));
    let expected = [(id(1, 1, 0), ShardState::Sound), (id(1, 2, 0), ShardState::Damaged)];
    assert_eq!(both().expect("verified"), expected);
    assert_eq!(both().expect("verified"), expected, "and it stays so");
    store.abort();
}

/// A closed disk with four shards of which one is deleted.
fn example() -> SimulatedDisk {
    let disk = SimulatedDisk::new(1);
    let store = open(&disk);
    for (sequence, length) in &LENGTHS[..3] {
        put(&store, id(1, *sequence, 0), *length).expect("put");
    }
    wait(store.delete(vec![extent(1, 2)])).expect("deleted");
    put(&store, id(1, 4, 0), 50).expect("put");
    store.close();
    disk
}

#[test]
fn every_flipped_byte_is_found_by_a_scrub_or_harms_nobody() {
    let mut disk = example();
    let bytes = disk.open(SEGMENT, OpenMode::Read).and_then(|file| file.length()).expect("length");
    let mut unfound = 0;
    for at in 0..bytes {
        if at == 128 {
            // A damaged segment header is seen, and remembered, as soon as the disk is opened.
            disk = example();
        }
        disk.flip_bit(SEGMENT, at, (at % 8) as u8).expect("flipped");
        let store = open(&disk);
        scrub(&store);
        let (listed, regions) = (damaged(&store), store.damaged_regions());
        for (sequence, length) in LENGTHS.into_iter().filter(|(sequence, _)| *sequence != 2) {
            let id = id(1, sequence, 0);
            let states = wait(store.verify(vec![id.extent])).expect("verified");
            match whole(&store, id, length) {
                Ok(()) => assert_eq!(listed.contains(&id), states == [(id, ShardState::Damaged)]),
                Err(ShardError::Corrupt(..)) => {
                    assert!(listed.contains(&id), "byte {at}: {id} is damaged and not listed");
                    assert_eq!(states, [(id, ShardState::Damaged)], "byte {at}");
                }
                Err(error) => panic!("byte {at}: {error}"),
            }
        }
        assert_eq!(store.report().damaged_shards, listed.len() as u64);
        if regions.is_empty() {
            unfound += 1;
        }
        store.abort();
        disk.flip_bit(SEGMENT, at, (at % 8) as u8).expect("flipped back");
    }
    let padding: usize = LENGTHS.iter().map(|(_, l)| l.next_multiple_of(8) - l).sum();
    assert_eq!(unfound, padding, "only the padding behind payloads is covered by no checksum");
}

#[test]
fn a_damaged_shard_is_listed_until_it_is_repaired_or_deleted() {
    let disk = SimulatedDisk::new(1);
    let store = open(&disk);
    let shards: Vec<_> = (0..3).map(|stripe| shard(id(1, 7, stripe), 1000)).collect();
    wait(store.append(shards, true)).expect("put");
    put(&store, id(1, 8, 0), 1000).expect("put");
    // Payload of the second, header of the third.
    let record = 88 + 16 + 8 + 1000;
    disk.flip_bit(SEGMENT, 128 + record + 500, 1).expect("flipped");
    disk.flip_bit(SEGMENT, 128 + 2 * record + 20, 1).expect("flipped");
    assert_eq!(damaged(&store), [], "nobody has looked yet");
    let report = scrub(&store);
    assert_eq!(report.verified_bytes, 0, "no pass is under way");
    let both = [id(1, 7, 1), id(1, 7, 2)];
    assert_eq!(damaged(&store), both);
    assert_eq!(store.damaged(Some(both[0]), 1).expect("listed"), both[1..]);
    assert_eq!(store.report().damaged_shards, 2);
    let states = wait(store.verify(vec![extent(1, 9), extent(1, 8), extent(1, 7)]));
    let expected = [
        (id(1, 7, 0), ShardState::Sound),
        (id(1, 7, 1), ShardState::Damaged),
        (id(1, 7, 2), ShardState::Damaged),
        (id(1, 8, 0), ShardState::Sound),
    ];
    assert_eq!(states.expect("verified"), expected);
    store.close();

    let store = open(&disk);
    assert_eq!(damaged(&store), both, "it is remembered");
    put(&store, id(1, 7, 1), 1000).expect("repaired in place");
    whole(&store, id(1, 7, 1), 1000).expect("readable");
    assert_eq!(damaged(&store), both[1..]);
    wait(store.delete(vec![extent(1, 7)])).expect("deleted");
    assert_eq!(damaged(&store), []);
    assert_eq!(store.report().damaged_shards, 0);
    assert_eq!(wait(store.verify(vec![extent(1, 7)])).expect("verified"), []);
    assert!(!store.damaged_regions().is_empty(), "the regions are still there");
}

#[test]
fn damage_where_nothing_lives_is_noted_and_accuses_no_shard() {
    let disk = example();
    // The payload of the deleted shard.
    let dead = 128 + (88 + 16 + 8 + 304) + 88 + 16 + 8 + 50;
    disk.flip_bit(SEGMENT, dead, 1).expect("flipped");
    let store = open(&disk);
    scrub(&store);
    assert_eq!(damaged(&store), []);
    assert_eq!(store.damaged_regions().len(), 1);
    scrub(&store);
    assert_eq!(store.damaged_regions().len(), 1, "it is no news");
}

#[test]
fn a_flip_on_the_way_is_no_damage() {
    let disk = Unruly::new(example());
    let store = open(&disk);
    disk.mood.flips.store(1, Ordering::SeqCst);
    scrub(&store);
    assert!(disk.mood.flips.load(Ordering::SeqCst) < 0, "it was read again");
    disk.mood.flips.store(1, Ordering::SeqCst);
    whole(&store, id(1, 1, 0), 300).expect("read again");
    disk.mood.flips.store(1, Ordering::SeqCst);
    let states = wait(store.verify(vec![extent(1, 1)])).expect("verified");
    assert_eq!(states, [(id(1, 1, 0), ShardState::Sound)]);
    assert_eq!((damaged(&store), store.damaged_regions()), (vec![], vec![]));
}

#[test]
fn a_lost_segment_is_damage_of_all_that_lives_in_it() {
    let disk = SimulatedDisk::new(1);
    let store = open(&disk);
    for sequence in 0..6 {
        put(&store, id(1, sequence, 0), 20_000).expect("put");
    }
    store.close();
    disk.remove(SEGMENT).expect("removed");
    let store = open(&disk);
    let lost: Vec<ShardId> = (0..3).map(|sequence| id(1, sequence, 0)).collect();
    scrub(&store);
    assert_eq!(damaged(&store), lost);
    for sequence in 3..6 {
        whole(&store, id(1, sequence, 0), 20_000).expect("kept");
    }
}

#[test]
fn a_directory_that_is_gone_is_no_damage() {
    let disk = example();
    let store = open(&disk);
    scrub(&store);
    disk.set_faults(DiskFaults { gone: true, reads_fail: true, ..DiskFaults::default() });
    store.look_after();
    assert_eq!(store.scrub(ScrubOrder::End), Err(ShardError::Failed(identity().disk)));
    assert_eq!((damaged(&store), store.damaged_regions()), (vec![], vec![]));
}

/// A store on a clock that stands still, with 40 shards of 20 kB in many segments.
fn by_clock(disk: &SimulatedDisk, clock: &SimulatedClock, options: StoreOptions) -> Store {
    let (disk, clock) = (Arc::new(disk.clone()), Arc::new(clock.clone()));
    Store::open(disk, identity(), options, clock, Duration::from_mins(1), Arc::default())
        .expect("opened")
}

fn fill(store: &Store) {
    let shards: Vec<_> = (0..40).map(|sequence| shard(id(1, sequence, 0), 20_000)).collect();
    wait(store.append(shards, true)).expect("put");
}

#[test]
fn a_pass_goes_on_where_it_was_after_a_restart_and_after_a_crash() {
    let (disk, clock) = (SimulatedDisk::new(1), SimulatedClock::new());
    clock.advance(Duration::from_secs(1));
    let store = by_clock(&disk, &clock, on_demand());
    fill(&store);
    let mut tick = || clock.advance(Duration::from_millis(50));
    store.scrub(ScrubOrder::Begin { bytes_per_second: 100_000 }).expect("ordered");
    let first = until(&store, &mut tick, &|report| report.verified_bytes > 200_000);
    assert!(first.on_demand && first.total_bytes > 800_000 && first.last_ended.0 == 0);
    store.close();

    let store = by_clock(&disk, &clock, on_demand());
    let again = store.report().scrub;
    assert!(again.verified_bytes >= first.verified_bytes, "{again:?}");
    assert_eq!((again.began, again.on_demand), (first.began, true));
    let second = until(&store, &mut tick, &|report| report.verified_bytes > 400_000);
    wait(store.checkpoint()).expect("saved");
    store.abort();
    disk.crash();

    let store = by_clock(&disk, &clock, on_demand());
    let again = store.report().scrub;
    assert!(again.verified_bytes >= second.verified_bytes, "{again:?}");
    let whole = until(&store, &mut tick, &|report| report.last_ended.0 > 0);
    assert_eq!((whole.last_began, whole.on_demand), (first.began, false));
    assert!(whole.last_ended > whole.last_began);
}

#[test]
fn a_pass_that_was_asked_for_can_be_ended_and_the_paced_one_goes_on() {
    let (disk, clock) = (SimulatedDisk::new(1), SimulatedClock::new());
    clock.advance(Duration::from_secs(1));
    let options = StoreOptions {
        scrub_interval: Duration::from_secs(1000),
        scrub_bytes_per_second_min: 1,
        ..on_demand()
    };
    let filled = by_clock(&disk, &clock, on_demand());
    fill(&filled);
    filled.close();
    let store = by_clock(&disk, &clock, options);
    let mut tick = || clock.advance(Duration::from_millis(500));
    let paced = until(&store, &mut tick, &|report| report.verified_bytes > 100_000);
    assert!(!paced.on_demand);
    store.scrub(ScrubOrder::Begin { bytes_per_second: 1000 }).expect("ordered");
    // It is told of as soon as it is ordered, and under way when the thread has seen that.
    until(&store, &mut tick, &|report| report.on_demand && report.began > paced.began);
    store.scrub(ScrubOrder::End).expect("ordered");
    let back = until(&store, &mut tick, &|report| !report.on_demand);
    assert_eq!(back.began, paced.began);
    assert!(back.verified_bytes >= paced.verified_bytes);
}

#[test]
fn a_paced_pass_is_never_faster_than_its_rate_and_comes_to_its_end() {
    let (disk, clock) = (SimulatedDisk::new(1), SimulatedClock::new());
    clock.advance(Duration::from_secs(1));
    let filled = by_clock(&disk, &clock, on_demand());
    fill(&filled);
    filled.close();
    // 800 kB at 1000 bytes a second, in windows of at least 64 KiB.
    let options = StoreOptions {
        scrub_interval: Duration::from_secs(1000),
        scrub_bytes_per_second_min: 1000,
        scrub_bytes_per_second_max: 2000,
        ..on_demand()
    };
    let store = by_clock(&disk, &clock, options);
    let began = clock.monotonic();
    let check = |report: &ScrubReport| {
        let passed = clock.monotonic().saturating_sub(began).as_secs() + 1;
        let bound = passed * 2000 + 3 * 65_536;
        assert!(report.verified_bytes <= bound, "{report:?} after {passed} s");
        report.last_ended.0 > 0
    };
    let done = until(&store, &mut || clock.advance(Duration::from_secs(1)), &check);
    assert!(done.last_ended.0 - done.last_began.0 > 400_000_000_000, "{done:?}");
    assert_eq!(damaged(&store), []);
    // The next one comes when it is due, and not before.
    assert_eq!(store.report().scrub.began.0, 0);
    let next = until(&store, &mut || clock.advance(Duration::from_secs(10)), &|r| r.began.0 > 0);
    assert!(next.began.0 >= done.last_began.0 + 1_000_000_000_000, "{next:?}");
}

#[test]
fn segments_may_go_and_come_while_they_are_scrubbed() {
    let disk = SimulatedDisk::new(1);
    let options = StoreOptions { grace: Duration::ZERO, ..on_demand() };
    let store = open_with(Arc::new(disk.clone()), options).expect("opened");
    for round in 0..6u32 {
        fill(&store);
        store.scrub(ScrubOrder::Begin { bytes_per_second: 0 }).expect("ordered");
        let deleted = (0..40).filter(|sequence| sequence % 6 != round).map(|s| extent(1, s));
        wait(store.delete(deleted.collect())).expect("deleted");
        wait(store.compact()).expect("compacted");
        scrub(&store);
        for sequence in (0..40).filter(|sequence| sequence % 6 == round) {
            whole(&store, id(1, sequence, 0), 20_000).expect("kept");
        }
        let rest = (0..40).map(|sequence| extent(1, sequence)).collect();
        wait(store.delete(rest)).expect("deleted");
    }
    assert_eq!((damaged(&store), store.damaged_regions()), (vec![], vec![]));
}
