//! Compaction: space comes back, and nothing else changes, wherever the power fails.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::ids::ShardId;
use model::shard::ShardError;
use storage_node::{Store, StoreOptions, Switches};
use wire::clock::SimulatedClock;
use wire::disk::{Disk, DiskFaults, OpenMode, SimulatedDisk};
use wire::entropy::{Entropy, SeededEntropy};

use crate::world::{extent, id, identity, put, shard, wait, whole};

const GRACE: Duration = Duration::from_mins(10);

/// Small segments, compaction when asked for, nothing kept for a grace period.
fn eager() -> StoreOptions {
    StoreOptions {
        segment_bytes: 64 << 10,
        checkpoint_log_bytes: 256 << 10,
        index_cache_bytes: 1 << 20,
        grace: Duration::ZERO,
        compaction_bytes_per_second: 0,
        scrub_interval: Duration::ZERO,
        switches: Switches { in_step: true, ..Switches::default() },
        ..StoreOptions::default()
    }
}

fn with_grace() -> StoreOptions {
    StoreOptions { grace: GRACE, ..eager() }
}

fn clock() -> SimulatedClock {
    let clock = SimulatedClock::new();
    clock.advance(Duration::from_hours(1));
    clock
}

fn open_at(disk: impl Disk, options: StoreOptions, clock: &SimulatedClock) -> Store {
    try_open(disk, options, clock).expect("opened")
}

fn try_open(
    disk: impl Disk,
    options: StoreOptions,
    clock: &SimulatedClock,
) -> Result<Store, storage_node::OpenError> {
    let clock = Arc::new(clock.clone());
    Store::open(Arc::new(disk), identity(), options, clock, Duration::from_mins(1), Arc::default())
}

fn segments(disk: &SimulatedDisk) -> Vec<String> {
    let names = disk.subdirectory("shards").and_then(|shards| shards.list()).expect("listed");
    names.into_iter().filter(|name| name.starts_with("seg-")).collect()
}

/// Bytes of all segments together.
fn segment_bytes(disk: &SimulatedDisk) -> u64 {
    let length = |name: String| {
        let file = disk.open(&format!("shards/{name}"), OpenMode::Read).expect("there");
        file.length().expect("length")
    };
    segments(disk).into_iter().map(length).sum()
}

/// Appends shards `from..to` of PG 1, each an extent of its own.
fn fill(store: &Store, from: u32, to: u32, length: usize) {
    for batch in (from..to).step_by(16) {
        let shards = (batch..to.min(batch + 16)).map(|n| shard(id(1, n, 0), length)).collect();
        wait(store.append(shards, true)).expect("appended");
    }
}

fn delete(store: &Store, sequences: impl IntoIterator<Item = u32>) {
    let extents = sequences.into_iter().map(|n| extent(1, n)).collect();
    wait(store.delete(extents)).expect("deleted");
}

fn check_all(store: &Store, total: u32, length: usize, is_live: impl Fn(u32) -> bool) {
    for n in 0..total {
        match whole(store, id(1, n, 0), length) {
            Ok(()) => assert!(is_live(n), "shard {n} is back"),
            Err(ShardError::NotFound(..)) => assert!(!is_live(n), "shard {n} is lost"),
            Err(error) => panic!("shard {n}: {error}"),
        }
    }
    let live = (0..total).filter(|n| is_live(*n)).count();
    assert_eq!(store.report().shards, live as u64);
}

/// What a rebuild of the index from the segments would book.
fn rebuilt(
    disk: &SimulatedDisk,
    store: &Store,
    options: StoreOptions,
    clock: &SimulatedClock,
) -> Store {
    store.close();
    let before = store.report();
    disk.remove("shards/index.redb").expect("removed");
    let store = open_at(disk.clone(), options, clock);
    let after = store.report();
    assert_eq!(
        (after.shards, after.live_bytes, after.garbage_bytes),
        (before.shards, before.live_bytes, before.garbage_bytes)
    );
    store
}

#[test]
fn space_comes_back_after_deletes() {
    let (disk, clock) = (SimulatedDisk::new(1), clock());
    let store = open_at(disk.clone(), eager(), &clock);
    fill(&store, 0, 400, 4000);
    let full = segment_bytes(&disk);
    delete(&store, (0..400).filter(|n| n % 4 != 0));
    let report = wait(store.compact()).expect("compacted");
    assert!(report.segments >= 20 && report.reclaimed_bytes > 400 * 4000 * 9 / 10, "{report:?}");
    assert!(report.moved_bytes > 0 && report.appended_bytes > 400 * 4000);
    // What is left is alive, but for the segment that is written to and what it has reserved.
    let now = segment_bytes(&disk);
    assert!(now < full * 3 / 10 + (2 << 20), "{now} of {full} bytes are still used");
    check_all(&store, 400, 4000, |n| n % 4 == 0);
    let report = store.report();
    assert!(report.garbage_bytes < 64 << 10, "{report:?}");
    let store = rebuilt(&disk, &store, eager(), &clock);
    check_all(&store, 400, 4000, |n| n % 4 == 0);
}

#[test]
fn a_disk_without_garbage_is_left_alone() {
    let (disk, clock) = (SimulatedDisk::new(1), clock());
    let store = open_at(disk.clone(), eager(), &clock);
    fill(&store, 0, 100, 4000);
    let before = segments(&disk);
    let report = wait(store.compact()).expect("compacted");
    assert_eq!((report.segments, report.moved_bytes), (0, 0));
    assert_eq!(segments(&disk), before);
}

#[test]
fn reads_are_right_while_segments_move_under_them() {
    let (disk, clock) = (SimulatedDisk::new(1), clock());
    let store = Arc::new(open_at(disk, eager(), &clock));
    fill(&store, 0, 300, 3000);
    let readers: Vec<_> = (0..3)
        .map(|reader| {
            let store = Arc::clone(&store);
            std::thread::spawn(move || {
                let entropy = SeededEntropy::new(reader);
                for _ in 0..4000 {
                    let n = entropy.below(100) as u32 * 3;
                    whole(&store, id(1, n, 0), 3000).expect("a live shard reads back");
                }
            })
        })
        .collect();
    for round in 0..10 {
        delete(&store, (0..300).filter(|n| n % 3 == 1 && n % 10 == round));
        wait(store.compact()).expect("compacted");
        // New garbage among what was moved.
        fill(&store, 1000 + round * 10, 1010 + round * 10, 3000);
        delete(&store, 1000 + round * 10..1010 + round * 10);
    }
    for reader in readers {
        reader.join().expect("no reader failed");
    }
    assert!(store.report().compaction.segments > 10);
}

/// Shards of a round of the scenario.
const ROUND: u32 = 14;

/// Puts, deletes and compacts; gives what was acknowledged.
fn scenario(store: &Store, kept: &mut BTreeMap<u32, bool>) -> Result<(), ShardError> {
    for round in 0..2 {
        for n in round * ROUND..(round + 1) * ROUND {
            kept.insert(n, false);
            put(store, id(1, n, 0), 9000)?;
            kept.insert(n, true);
        }
        for n in (0..(round + 1) * ROUND).filter(|n| n % 3 != 0 && n % 5 == round) {
            kept.remove(&n);
            wait(store.delete(vec![extent(1, n)]))?;
        }
        wait(store.compact())?;
    }
    Ok(())
}

#[test]
fn power_may_fail_at_every_change_of_the_disk() {
    let options = StoreOptions { checkpoint_log_bytes: 96 << 10, ..eager() };
    let mut changes: u64 = 0;
    let mut crashes = 0;
    loop {
        let (disk, clock) = (SimulatedDisk::new(changes), clock());
        let mut kept = BTreeMap::new();
        disk.cut_power_after(changes);
        let done = try_open(disk.clone(), options, &clock).is_ok_and(|store| {
            let done = scenario(&store, &mut kept).is_ok();
            store.abort();
            done
        });
        for lost_index in [false, true] {
            disk.crash();
            crashes += 1;
            if lost_index {
                let _ = disk.remove("shards/index.redb");
            }
            let store = open_at(disk.clone(), options, &clock);
            check_kept(&store, &kept, changes);
            wait(store.compact()).expect("compacted");
            check_kept(&store, &kept, changes);
            assert_eq!(store.damaged_regions(), [], "after {changes} changes");
            store.abort();
        }
        if done {
            break;
        }
        changes += 1;
    }
    println!("{crashes} crashes, {changes} changes of the disk");
    assert!(changes > 150, "the scenario is too short to prove anything");
}

fn check_kept(store: &Store, kept: &BTreeMap<u32, bool>, changes: u64) {
    for n in 0..2 * ROUND {
        match (whole(store, id(1, n, 0), 9000), kept.get(&n)) {
            (Ok(()), Some(_)) | (Err(ShardError::NotFound(..)), None | Some(false)) => {}
            // Its deletion was under way, and nobody was told that it is done.
            (Ok(()), None) => assert!(is_last_delete(kept, n), "{n} is back ({changes})"),
            (found, fate) => panic!("after {changes} changes: shard {n}: {found:?}, {fate:?}"),
        }
    }
}

/// Whether shard `n` may have been the one whose deletion the crash interrupted: no shard was put
/// after it.
fn is_last_delete(kept: &BTreeMap<u32, bool>, n: u32) -> bool {
    let round = kept.last_key_value().map_or(0, |(last, _)| last / ROUND);
    let deleted = |n: u32, round: u32| !n.is_multiple_of(3) && n % 5 == round;
    let later = (n + 1..(round + 1) * ROUND).filter(|other| deleted(*other, round));
    deleted(n, round) && later.into_iter().all(|other| kept.contains_key(&other))
}

#[test]
fn a_deleted_shard_stays_recoverable_for_the_grace_and_then_goes() {
    let (disk, clock) = (SimulatedDisk::new(1), clock());
    let store = open_at(disk.clone(), with_grace(), &clock);
    fill(&store, 0, 60, 4000);
    delete(&store, 0..30);
    wait(store.compact()).expect("compacted");
    assert_eq!(store.report().compaction.segments, 0, "nothing is ripe");
    store.close();
    // After a restart nobody remembers what died lately: the segments are chosen, and what
    // remains of the dead is carried along.
    let store = open_at(disk.clone(), with_grace(), &clock);
    let report = wait(store.compact()).expect("compacted");
    assert!(report.segments > 0 && report.moved_bytes >= 30 * 4000, "{report:?}");
    assert_eq!(remains(&disk), 30);
    check_all(&store, 60, 4000, |n| n >= 30);
    clock.advance(GRACE / 2);
    let store = rebuilt(&disk, &store, with_grace(), &clock);
    wait(store.compact()).expect("compacted");
    assert_eq!(remains(&disk), 30, "still within the grace");
    clock.advance(GRACE * 2);
    fill(&store, 100, 130, 4000);
    wait(store.compact()).expect("compacted");
    assert_eq!(remains(&disk), 0, "the grace is over");
    check_all(&store, 130, 4000, |n| (30..60).contains(&n) || n >= 100);
}

/// The records of kind 4 on the disk. Their headers begin at multiples of 8.
fn remains(disk: &SimulatedDisk) -> usize {
    records(disk, 4).len()
}

/// Sequence numbers of the extents of records of a kind.
fn records(disk: &SimulatedDisk, kind: u8) -> Vec<u32> {
    let mut found = Vec::new();
    for name in segments(disk) {
        let bytes = content(disk, &format!("shards/{name}"));
        let mut at = 128;
        while at + 88 <= bytes.len() && &bytes[at..at + 4] == b"DrSh" {
            let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four"));
            let is_tombstone = bytes[at + 5] == 2;
            let payload = if is_tombstone { 0 } else { word(at + 32) as usize };
            let owner = usize::from(u16::from_le_bytes([bytes[at + 36], bytes[at + 37]]));
            if bytes[at + 5] == kind {
                let key: [u8; 4] = bytes[at + 20..at + 24].try_into().expect("four");
                found.push(u32::from_be_bytes(key));
            }
            let blocks = payload.div_ceil(65_536);
            at += (88 + owner.next_multiple_of(8) + 8 * blocks + payload).next_multiple_of(8);
        }
    }
    found
}

fn content(disk: &SimulatedDisk, name: &str) -> Vec<u8> {
    let file = disk.open(name, OpenMode::Read).expect("there");
    let mut bytes = vec![0; file.length().expect("length") as usize];
    file.read_exact_at(&mut bytes, 0).expect("read");
    bytes
}

#[test]
fn a_tombstone_outlasts_the_graves_and_no_more() {
    let (disk, clock) = (SimulatedDisk::new(1), clock());
    let store = open_at(disk.clone(), eager(), &clock);
    // A shard in a segment that is otherwise alive, and its tombstone in one that dies.
    put(&store, id(1, 1, 0), 500).expect("put");
    fill(&store, 100, 120, 3000);
    fill(&store, 200, 220, 3000);
    delete(&store, [1]);
    fill(&store, 300, 320, 3000);
    fill(&store, 400, 430, 3000);
    delete(&store, 200..220);
    delete(&store, 300..320);
    // Only what is mostly garbage goes: not the grave, which is nearly all alive.
    let lazy = StoreOptions { compaction_bytes_per_second: 1 << 40, ..eager() };
    store.close();
    let store = open_at(disk.clone(), lazy, &clock);
    compact_in_background(&store, &clock, |_| !records(&disk, 1).contains(&210));
    assert!(records(&disk, 1).contains(&1), "the grave is still there");
    assert!(records(&disk, 2).contains(&1), "and so is its tombstone");
    let store = rebuilt(&disk, &store, lazy, &clock);
    assert!(matches!(whole(&store, id(1, 1, 0), 500), Err(ShardError::NotFound(..))));
    // Now the grave dies, and the tombstone with it.
    delete(&store, 100..120);
    for round in 0..4 {
        fill(&store, 500 + round * 30, 530 + round * 30, 3000);
        delete(&store, 500 + round * 30..530 + round * 30);
        wait(store.compact()).expect("compacted");
    }
    assert!(!records(&disk, 1).contains(&1) && !records(&disk, 2).contains(&1));
    check_all(&store, 500, 3000, |n| (400..430).contains(&n));
    let store = rebuilt(&disk, &store, lazy, &clock);
    check_all(&store, 500, 3000, |n| (400..430).contains(&n));
}

#[test]
fn segments_full_of_tombstones_come_back_once_the_graves_are_gone() {
    let (disk, clock) = (SimulatedDisk::new(1), clock());
    let store = open_at(disk.clone(), eager(), &clock);
    fill(&store, 0, 2000, 40);
    delete(&store, 0..2000);
    fill(&store, 2000, 2400, 200);
    assert!(records(&disk, 2).len() == 2000);
    wait(store.compact()).expect("the graves go");
    let moved = store.report().compaction.moved_bytes;
    for _ in 0..2 {
        wait(store.compact()).expect("and then the tombstones");
    }
    let left = records(&disk, 2).len();
    assert!(left < 400, "{left} tombstones are left");
    let later = store.report().compaction;
    // The shards among them, and not one tombstone again and again.
    assert!(later.moved_bytes - moved < 400 * 320, "{later:?} after {moved}");
    let store = rebuilt(&disk, &store, eager(), &clock);
    assert_eq!(store.report().shards, 400);
}

/// Lets the thread of the disk compact until `done`.
fn compact_in_background(store: &Store, clock: &SimulatedClock, done: impl Fn(&Store) -> bool) {
    for _ in 0..10_000 {
        clock.advance(Duration::from_secs(1));
        store.look_after();
        wait(store.delete(vec![])).expect("a job behind the tick");
        if store.report().compaction.segments > 0 && done(store) {
            return;
        }
        std::thread::yield_now();
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("the background compacts nothing: {:?}", store.report().compaction);
}

#[test]
fn a_shard_that_returns_after_its_extent_was_deleted_is_not_deleted_again() {
    // A slot that moves away and comes back: the tombstone of the first stay must not take the
    // shards of the second, wherever compaction carries it.
    let (disk, clock) = (SimulatedDisk::new(1), clock());
    let store = open_at(disk.clone(), eager(), &clock);
    put(&store, id(1, 1, 0), 500).expect("put");
    fill(&store, 100, 120, 3000);
    fill(&store, 200, 220, 3000);
    delete(&store, [1]);
    put(&store, id(1, 1, 0), 500).expect("it returns");
    fill(&store, 300, 320, 3000);
    delete(&store, 200..220);
    delete(&store, 300..310);
    wait(store.compact()).expect("compacted");
    whole(&store, id(1, 1, 0), 500).expect("there");
    let store = rebuilt(&disk, &store, eager(), &clock);
    whole(&store, id(1, 1, 0), 500).expect("there after a rebuild");
    delete(&store, 100..120);
    for _ in 0..3 {
        wait(store.compact()).expect("compacted");
        fill(&store, 400, 430, 3000);
        delete(&store, 400..430);
    }
    let store = rebuilt(&disk, &store, eager(), &clock);
    whole(&store, id(1, 1, 0), 500).expect("there");
    delete(&store, [1]);
    let store = rebuilt(&disk, &store, eager(), &clock);
    assert!(matches!(whole(&store, id(1, 1, 0), 500), Err(ShardError::NotFound(..))));
}

const FIRST: &str = "shards/seg-0000000000000001.dss";

#[test]
fn a_damaged_live_record_holds_its_segment_until_it_is_repaired() {
    for header in [false, true] {
        let (disk, clock) = (SimulatedDisk::new(1), clock());
        let store = open_at(disk.clone(), eager(), &clock);
        fill(&store, 0, 40, 4000);
        delete(&store, (0..40).filter(|n| n % 2 == 0));
        // The second record: header, or payload.
        let record = 128 + (88 + 16 + 8 + 4000);
        disk.flip_bit(FIRST, record + if header { 20 } else { 500 }, 2).expect("flipped");
        wait(store.compact()).expect("compacted");
        assert!(segments(&disk).contains(&FIRST["shards/".len()..].to_owned()), "it is kept");
        assert_eq!(store.report().damaged_shards, 1);
        assert!(matches!(whole(&store, id(1, 1, 0), 4000), Err(ShardError::Corrupt(..))));
        for n in (3..40).step_by(2) {
            whole(&store, id(1, n, 0), 4000).expect("the others");
        }
        // Known after a restart, too.
        store.close();
        let store = open_at(disk.clone(), eager(), &clock);
        assert_eq!(store.report().damaged_shards, 1);
        put(&store, id(1, 1, 0), 4000).expect("repaired");
        assert_eq!(store.report().damaged_shards, 0);
        wait(store.compact()).expect("compacted");
        assert!(!segments(&disk).contains(&FIRST["shards/".len()..].to_owned()), "it is gone");
        check_all(&store, 40, 4000, |n| n % 2 == 1);
        assert_eq!(store.damaged_regions(), []);
        let quarantined = disk
            .subdirectory("shards")
            .and_then(|shards| shards.subdirectory("quarantine")?.list())
            .expect("listed");
        assert_eq!(quarantined.len(), usize::from(header), "what can't be proved is kept aside");
        if header {
            let kept = content(&disk, &format!("shards/quarantine/{}", quarantined[0]));
            assert_eq!(kept.len(), 88 + 16 + 8 + 4000);
        }
        rebuilt(&disk, &store, eager(), &clock);
    }
}

#[test]
fn what_is_not_provably_dead_is_never_dropped() {
    let (disk, clock) = (SimulatedDisk::new(1), clock());
    let store = open_at(disk.clone(), eager(), &clock);
    fill(&store, 0, 40, 4000);
    let first = content(&disk, FIRST);
    store.close();
    // The header of the second record is damaged while the index is rebuilt: it knows nothing of
    // that shard.
    disk.remove("shards/index.redb").expect("removed");
    let record = 128 + (88 + 16 + 8 + 4000);
    disk.flip_bit(FIRST, record + 20, 2).expect("flipped");
    let store = open_at(disk.clone(), eager(), &clock);
    assert!(matches!(whole(&store, id(1, 1, 0), 4000), Err(ShardError::NotFound(..))));
    // And now it reads well again, as devices do.
    disk.flip_bit(FIRST, record + 20, 2).expect("flipped back");
    delete(&store, (0..40).filter(|n| n % 2 == 0));
    wait(store.compact()).expect("compacted");
    assert_eq!(content(&disk, FIRST), first, "nothing proves that it may go");
    for n in (3..40).step_by(2) {
        whole(&store, id(1, n, 0), 4000).expect("the others");
    }
}

#[test]
fn a_segment_that_went_missing_is_written_off_when_its_shards_are_repaired() {
    let (disk, clock) = (SimulatedDisk::new(1), clock());
    let store = open_at(disk.clone(), eager(), &clock);
    fill(&store, 0, 40, 4000);
    delete(&store, 0..4);
    store.close();
    disk.remove(FIRST).expect("removed");
    let store = open_at(disk.clone(), eager(), &clock);
    wait(store.compact()).expect("compacted");
    let lost: Vec<u32> = (4..40).filter(|n| whole(&store, id(1, *n, 0), 4000).is_err()).collect();
    assert!(lost.len() > 5);
    assert_eq!(store.report().damaged_shards, lost.len() as u64);
    for n in lost {
        put(&store, id(1, n, 0), 4000).expect("repaired");
    }
    wait(store.compact()).expect("compacted");
    assert_eq!((store.report().damaged_shards, store.damaged_regions()), (0, vec![]));
    check_all(&store, 40, 4000, |n| n >= 4);
    rebuilt(&disk, &store, eager(), &clock);
}

#[test]
fn figures_are_those_of_a_rebuild_after_anything() {
    for seed in 0..8 {
        let entropy = SeededEntropy::new(seed);
        let (disk, clock) = (SimulatedDisk::new(seed), clock());
        let options = if seed % 2 == 0 { eager() } else { with_grace() };
        let mut store = open_at(disk.clone(), options, &clock);
        let mut live: BTreeMap<u32, usize> = BTreeMap::new();
        for n in 0..400u32 {
            match entropy.below(12) {
                0..=6 => {
                    let length = 1 + entropy.below(9000) as usize;
                    put(&store, id(1, n, 0), length).expect("put");
                    live.insert(n, length);
                }
                7..=9 => {
                    let at = entropy.below(live.len() as u64 + 1) as usize;
                    if let Some((&n, _)) = live.iter().nth(at) {
                        delete(&store, [n]);
                        live.remove(&n);
                    }
                }
                10 => clock.advance(Duration::from_mins(entropy.below(4))),
                _ if n % 3 == 0 => drop(wait(store.compact()).expect("compacted")),
                _ if n % 3 == 1 => wait(store.checkpoint()).expect("checkpoint"),
                _ => {
                    store.abort();
                    disk.crash();
                    store = open_at(disk.clone(), options, &clock);
                }
            }
        }
        wait(store.compact()).expect("compacted");
        let payload: usize = live.values().sum();
        let report = store.report();
        assert!(report.live_bytes as usize >= payload + live.len() * 112);
        assert!(report.live_bytes as usize <= payload + live.len() * 128);
        let store = rebuilt(&disk, &store, options, &clock);
        for (n, length) in live {
            whole(&store, id(1, n, 0), length).expect("there");
        }
    }
}

#[test]
fn a_full_disk_compacts_itself_free() {
    let (disk, clock) = (SimulatedDisk::new(1), clock());
    let options = StoreOptions {
        reserve_bytes: Some(8 << 20),
        segment_bytes: 256 << 10,
        compaction_bytes_per_second: 1 << 20,
        ..eager()
    };
    let store = open_at(disk.clone(), options, &clock);
    disk.set_faults(DiskFaults { capacity_bytes: 32 << 20, ..DiskFaults::default() });
    let mut kept = 0;
    while put(&store, id(1, kept, 0), 30_000).is_ok() {
        kept += 1;
        assert!(kept < 1000, "the disk never fills");
    }
    // One in ten goes, spread over all segments: every one must be copied for its tenth.
    for n in (0..kept).step_by(10) {
        delete(&store, [n]);
    }
    let mut more = 0;
    for _ in 0..5000 {
        clock.advance(Duration::from_millis(20));
        store.look_after();
        match put(&store, id(2, more, 0), 30_000) {
            Ok(()) => more += 1,
            Err(ShardError::Full(_)) => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => panic!("{error}"),
        }
        if more == kept / 20 {
            break;
        }
    }
    assert_eq!(more, kept / 20, "{:?}", store.report());
    for n in (0..kept).filter(|n| n % 10 != 0) {
        whole(&store, id(1, n, 0), 30_000).expect("kept");
    }
}

/// Overwrites shards at random on a disk with live shards in `percent` of what it takes; gives how many
/// bytes are written for each byte that comes in, once the disk is in its steady state.
fn amplification(percent: u64) -> f64 {
    let (disk, clock) = (SimulatedDisk::new(1), clock());
    let capacity_bytes: u64 = 40 << 20;
    let reserve_bytes = 5 << 20;
    let options = StoreOptions {
        reserve_bytes: Some(reserve_bytes),
        segment_bytes: 256 << 10,
        allocation_step_bytes_max: 256 << 10,
        checkpoint_log_bytes: 1 << 20,
        compaction_bytes_per_second: 1 << 40,
        ..eager()
    };
    let length = 16_000;
    let record = 88 + 16 + 8 + length as u64;
    let store = open_at(disk.clone(), options, &clock);
    disk.set_faults(DiskFaults { capacity_bytes, ..DiskFaults::default() });
    let usable = disk.space().expect("space").free_bytes - reserve_bytes;
    let mut live: Vec<ShardId> = Vec::new();
    let mut next = 0;
    let put_one = |next: &mut u32| {
        *next += 1;
        let id = id(1, *next, 0);
        for _ in 0..20_000 {
            match wait(store.append(vec![shard(id, length)], false)) {
                Ok(_) => return id,
                Err(ShardError::Full(_)) => {
                    clock.advance(Duration::from_millis(1));
                    store.look_after();
                    std::thread::sleep(Duration::from_micros(300));
                }
                Err(error) => panic!("{error}"),
            }
        }
        panic!("the disk stays full: {:?}", store.report());
    };
    while (live.len() as u64 + 1) * record <= usable * percent / 100 {
        live.push(put_one(&mut next));
    }
    let entropy = SeededEntropy::new(7);
    let mut overwrite = |times: usize, live: &mut Vec<ShardId>| {
        for n in 0..times {
            let at = entropy.below(live.len() as u64) as usize;
            wait(store.delete(vec![live[at].extent])).expect("deleted");
            live[at] = put_one(&mut next);
            clock.advance(Duration::from_millis(1));
            if n % 16 == 0 {
                store.look_after();
            }
        }
    };
    overwrite(live.len() * 3 / 2, &mut live);
    let before = store.report().compaction;
    overwrite(live.len(), &mut live);
    let after = store.report().compaction;
    let appended = (after.appended_bytes - before.appended_bytes) as f64;
    let moved = (after.moved_bytes - before.moved_bytes) as f64;
    for id in live.iter().step_by(17) {
        whole(&store, *id, length).expect("there");
    }
    1.0 + moved / appended
}

#[test]
fn write_amplification_at_80_percent_full_is_at_most_3() {
    let found = amplification(80);
    println!("write amplification at 80 % full under uniform overwrite: {found:.2}");
    assert!(found <= 3.0, "{found:.2}");
    assert!(found > 1.0, "nothing was compacted");
}
