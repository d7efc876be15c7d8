//! Compaction: space comes back, and nothing else changes, wherever the power fails.

mod damaged;
mod power;
mod pressure;
mod tombstones;

use std::sync::Arc;
use std::time::Duration;

use model::shard::ShardError;
use storage_node::{Store, StoreOptions, Switches};
use wire::clock::SimulatedClock;
use wire::disk::{Disk, OpenMode, SimulatedDisk};
use wire::entropy::{Entropy, SeededEntropy};

use crate::world::{extent, id, identity, shard, wait, whole};

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

/// A new disk, its clock and its store.
fn begin(options: StoreOptions) -> (SimulatedDisk, SimulatedClock, Store) {
    let (disk, clock) = (SimulatedDisk::new(1), clock());
    let store = open_at(disk.clone(), options, &clock);
    (disk, clock, store)
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

fn content(disk: &SimulatedDisk, name: &str) -> Vec<u8> {
    let file = disk.open(name, OpenMode::Read).expect("there");
    let mut bytes = vec![0; file.length().expect("length") as usize];
    file.read_exact_at(&mut bytes, 0).expect("read");
    bytes
}

#[test]
fn space_comes_back_after_deletes() {
    let (disk, clock, store) = begin(eager());
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
    let (disk, _, store) = begin(eager());
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
