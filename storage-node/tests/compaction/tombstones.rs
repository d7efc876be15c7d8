//! What was deleted stays recoverable for its grace, and deleted for as long as a grave is left.

use std::time::Duration;

use model::shard::ShardError;
use storage_node::{Store, StoreOptions};
use wire::clock::SimulatedClock;
use wire::disk::SimulatedDisk;

use super::{
    GRACE, begin, check_all, content, delete, eager, fill, open_at, rebuilt, segments, with_grace,
};
use crate::world::{id, put, wait, whole};

#[test]
fn a_deleted_shard_stays_recoverable_for_the_grace_and_then_goes() {
    let (disk, clock, store) = begin(with_grace());
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

#[test]
fn a_tombstone_outlasts_the_graves_and_no_more() {
    let (disk, clock, store) = begin(eager());
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
    let (disk, clock, store) = begin(eager());
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
    let (disk, clock, store) = begin(eager());
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
