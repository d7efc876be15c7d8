//! Sectors that can't be read while the log is replayed: damage where the log was durable, a reason
//! not to open where it may end.

use std::sync::Arc;
use std::time::Duration;

use model::shard::ShardError;
use storage_node::{OpenError, StoreOptions};
use wire::disk::{Disk, OpenMode, SimulatedDisk};

use crate::world::{extent, id, open, open_with, put, shard, small, wait, whole};

const FIRST: &str = "shards/seg-0000000000000001.dss";
const INDEX: &str = "shards/index.redb";
/// Shards of 1000 bytes that fill several segments.
const SHARDS: u32 = 200;
/// Bytes of the record of a shard of 1000 bytes.
const RECORD: u64 = 1112;

fn several_segments() -> SimulatedDisk {
    let disk = SimulatedDisk::new(1);
    let store = open(&disk);
    for sequence in 0..SHARDS {
        put(&store, id(1, sequence, 0), 1000).expect("put");
    }
    store.close();
    disk
}

fn content(disk: &SimulatedDisk, name: &str) -> Vec<u8> {
    let file = disk.open(name, OpenMode::Read).expect("there");
    let mut bytes = vec![0; file.length().expect("length") as usize];
    file.read_exact_at(&mut bytes, 0).expect("read");
    bytes
}

#[test]
fn a_bad_page_of_a_closed_segment_costs_what_lies_in_it() {
    for (page, is_head) in [(4, false), (0, true)] {
        let disk = several_segments();
        let bad = page * 4096..(page + 1) * 4096;
        disk.break_sectors(FIRST, bad.clone()).expect("there");
        disk.remove(INDEX).expect("removed");
        let store = open(&disk);
        let damage = store.damaged_regions();
        let mut lost = 0;
        for sequence in 0..SHARDS {
            let begin = 128 + u64::from(sequence) * RECORD;
            let is_hit = begin < bad.end && begin + RECORD > bad.start;
            match whole(&store, id(1, sequence, 0), 1000) {
                Ok(()) => assert!(!is_hit, "shard {sequence} lies in the bad page"),
                Err(ShardError::NotFound(..) | ShardError::Corrupt(..)) => {
                    assert!(is_hit, "shard {sequence} is lost");
                    let is_told = damage.iter().any(|region| {
                        region.segment == 1
                            && region.offset <= begin
                            && begin + RECORD <= region.offset + region.bytes
                    });
                    assert!(is_told, "shard {sequence} is lost without a word: {damage:?}");
                    lost += 1;
                }
                Err(error) => panic!("shard {sequence}: {error}"),
            }
        }
        assert!((4..=5).contains(&lost), "{lost}");
        assert!(!is_head || damage.iter().any(|region| region.offset == 0), "{damage:?}");
        store.close();
        // What is told is kept, and nothing more comes of it at the next start.
        let store = open(&disk);
        assert!(damage.iter().all(|region| store.damaged_regions().contains(region)));
        put(&store, id(2, 1, 0), 1000).expect("it goes on");
    }
}

#[test]
fn a_bad_page_at_the_end_of_a_closed_segment_is_no_reserved_space() {
    let disk = SimulatedDisk::new(1);
    let store = open(&disk);
    wait(store.append((0..8).map(|n| shard(id(1, n, 0), 1000)).collect(), true)).expect("put");
    store.abort();
    // As a crash leaves it that comes when the successor is made: cut, synced, and no header yet.
    let segment = disk.open(FIRST, OpenMode::Write).expect("there");
    let length = 128 + 8 * RECORD;
    segment.set_length(length).expect("cut");
    segment.sync_data().expect("synced");
    disk.open("shards/seg-0000000000000002.dss", OpenMode::CreateNew).expect("made");
    disk.subdirectory("shards").and_then(|shards| shards.sync_directory()).expect("synced");
    let _ = disk.remove(INDEX);
    // The last two records begin in the last page.
    disk.break_sectors(FIRST, 8192..length).expect("there");
    let store = open(&disk);
    for sequence in 0..7 {
        let is_hit = 128 + (u64::from(sequence) + 1) * RECORD > 8192;
        assert_eq!(whole(&store, id(1, sequence, 0), 1000).is_err(), is_hit, "{sequence}");
    }
    assert!(!store.damaged_regions().is_empty());
    store.close();
    disk.mend_sectors();
    assert_eq!(content(&disk, FIRST).len() as u64, length, "the segment was cut");
    disk.remove(INDEX).expect("removed");
    let store = open(&disk);
    for sequence in 0..8 {
        whole(&store, id(1, sequence, 0), 1000).expect("it is all there");
    }
}

#[test]
fn a_bad_page_where_the_log_may_end_refuses_and_cuts_nothing() {
    // The page of a header, and one that only the payload of a large record lies in.
    let large = StoreOptions { segment_bytes: 1 << 20, checkpoint_log_bytes: 1 << 20, ..small() };
    let reopen = |disk: &SimulatedDisk| open_with(Arc::new(disk.clone()), large);
    for (bytes, bad) in [(1000, 128 + 2 * RECORD..128 + 3 * RECORD), (200_000, 122_880..126_976)] {
        let disk = SimulatedDisk::new(1);
        let store = reopen(&disk).expect("opened");
        put(&store, id(1, 1, 0), 1000).expect("put");
        put(&store, id(1, 2, 0), 1000).expect("put");
        put(&store, id(1, 3, 0), bytes).expect("put");
        store.abort();
        let before = content(&disk, FIRST);
        for is_rebuilt in [false, true] {
            if is_rebuilt {
                disk.remove(INDEX).expect("removed");
            }
            disk.break_sectors(FIRST, bad.clone()).expect("there");
            let refused = reopen(&disk).err();
            let is_told = matches!(refused, Some(OpenError::EndUnreadable(..)));
            assert!(is_told, "{bytes}, {is_rebuilt}: {refused:?}");
            disk.mend_sectors();
            assert_eq!(content(&disk, FIRST), before);
        }
        let store = reopen(&disk).expect("opened");
        whole(&store, id(1, 2, 0), 1000).expect("kept");
        whole(&store, id(1, 3, 0), bytes).expect("it was acknowledged");
        assert_eq!(store.damaged_regions(), []);
    }
}

#[test]
fn a_bad_page_before_the_durable_position_of_the_last_segment_is_damage() {
    let disk = SimulatedDisk::new(1);
    let store = open(&disk);
    for sequence in 0..20 {
        put(&store, id(1, sequence, 0), 1000).expect("put");
    }
    store.abort();
    let _ = disk.remove(INDEX);
    disk.break_sectors(FIRST, 0..4096).expect("there");
    let store = open(&disk);
    for sequence in 0..20 {
        let is_hit = 128 + u64::from(sequence) * RECORD < 4096;
        assert_eq!(whole(&store, id(1, sequence, 0), 1000).is_err(), is_hit, "{sequence}");
    }
    assert!(store.damaged_regions().iter().any(|region| region.offset == 0));
}

#[test]
fn a_bad_page_among_garbage_keeps_no_segment() {
    let disk = several_segments();
    let eager = StoreOptions {
        grace: Duration::ZERO,
        compaction_bytes_per_second: 0,
        scrub_interval: Duration::ZERO,
        ..small()
    };
    let store = open_with(Arc::new(disk.clone()), eager).expect("opened");
    // The garbage has whole pages of its own; what lies around it lives.
    wait(store.delete((10..50).map(|n| extent(1, n)).collect())).expect("deleted");
    wait(store.checkpoint()).expect("checkpointed");
    disk.break_sectors(FIRST, 5 * 4096..6 * 4096).expect("there");
    wait(store.compact()).expect("compacted");
    wait(store.checkpoint()).expect("checkpointed");
    for sequence in (0..10).chain(50..SHARDS) {
        whole(&store, id(1, sequence, 0), 1000).expect("moved");
    }
    store.close();
    let store = open(&disk);
    assert_eq!(store.report().shards, u64::from(SHARDS) - 40);
    store.close();
    assert!(disk.open(FIRST, OpenMode::Read).is_err(), "the segment was given back");
}
