//! Rot: every byte of a small disk, the index, and what is no torn tail.

use model::shard::ShardError;
use storage_node::OpenError;
use wire::disk::{Disk, OpenMode, SimulatedDisk};

use crate::world::{extent, id, open, open_with, put, shard, small, wait, whole};

const SEGMENT: &str = "shards/seg-0000000000000001.dss";
const INDEX: &str = "shards/index.redb";

fn length(disk: &SimulatedDisk, name: &str) -> u64 {
    disk.open(name, OpenMode::Read).and_then(|file| file.length()).expect("length")
}

/// A closed disk with three shards of which one is deleted.
fn example() -> SimulatedDisk {
    let disk = SimulatedDisk::new(1);
    let store = open(&disk);
    put(&store, id(1, 1, 0), 300).expect("put");
    put(&store, id(1, 2, 0), 200).expect("put");
    put(&store, id(1, 3, 0), 100).expect("put");
    wait(store.delete(vec![extent(1, 2)])).expect("deleted");
    put(&store, id(1, 4, 0), 50).expect("put");
    store.close();
    disk
}

#[test]
fn every_flipped_byte_of_a_segment_gives_right_bytes_or_is_told() {
    let disk = example();
    for rebuilt in [false, true] {
        for at in 0..length(&disk, SEGMENT) {
            disk.flip_bit(SEGMENT, at, (at % 8) as u8).expect("flipped");
            if rebuilt {
                disk.remove(INDEX).expect("removed");
            }
            let store = open(&disk);
            for (sequence, length) in [(1, 300), (3, 100), (4, 50)] {
                match whole(&store, id(1, sequence, 0), length) {
                    Ok(()) | Err(ShardError::Corrupt(..)) => {}
                    Err(ShardError::NotFound(..)) => {
                        // Only a rebuild can lose sight of a shard; then the damage is known.
                        let is_last = sequence == 4;
                        assert!(rebuilt, "byte {at}: shard {sequence} is lost");
                        assert!(
                            is_last || !store.damaged_regions().is_empty(),
                            "byte {at}: shard {sequence} is lost without a word"
                        );
                    }
                    Err(error) => panic!("byte {at}: {error}"),
                }
            }
            store.close();
            disk.flip_bit(SEGMENT, at, (at % 8) as u8).expect("flipped back");
        }
    }
}

#[test]
fn rot_before_a_segment_that_was_never_born_is_no_torn_tail() {
    let disk = SimulatedDisk::new(1);
    let store = open(&disk);
    wait(store.append(vec![shard(id(1, 1, 0), 1000), shard(id(1, 2, 0), 1000)], true))
        .expect("put");
    store.abort();
    // As a crash leaves it that comes when the successor is made, and before its header is there:
    // the segment had been cut and synced.
    let segment = disk.open(SEGMENT, OpenMode::Write).expect("there");
    segment.set_length(128 + 2 * 1112).expect("cut");
    segment.sync_data().expect("synced");
    disk.open("shards/seg-0000000000000002.dss", OpenMode::CreateNew).expect("made");
    disk.subdirectory("shards").and_then(|shards| shards.sync_directory()).expect("synced");
    disk.flip_bit(SEGMENT, 128 + 1112 + 500, 1).expect("flipped");
    let store = open(&disk);
    whole(&store, id(1, 1, 0), 1000).expect("kept");
    assert!(matches!(whole(&store, id(1, 2, 0), 1000), Err(ShardError::Corrupt(..))));
    store.close();
}

#[test]
fn rot_before_the_durable_position_is_no_torn_tail() {
    let disk = SimulatedDisk::new(1);
    let store = open(&disk);
    for sequence in 0..5 {
        put(&store, id(1, sequence, 0), 1000).expect("put");
    }
    store.abort();
    // The third record's header: what lies behind it must not be cut.
    disk.flip_bit(SEGMENT, 128 + 2 * 1112 + 40, 1).expect("flipped");
    let store = open(&disk);
    for sequence in [0, 1, 3, 4] {
        whole(&store, id(1, sequence, 0), 1000).expect("kept");
    }
    assert!(matches!(whole(&store, id(1, 2, 0), 1000), Err(ShardError::NotFound(..))));
    let damage = store.damaged_regions();
    assert_eq!(
        damage.iter().map(|d| (d.offset, d.bytes)).collect::<Vec<_>>(),
        [(128 + 2 * 1112, 1112)]
    );
    // It is still known after a restart from the checkpoint, and the shard can be repaired.
    store.close();
    let store = open(&disk);
    assert_eq!(store.damaged_regions(), damage);
    put(&store, id(1, 2, 0), 1000).expect("repaired");
    whole(&store, id(1, 2, 0), 1000).expect("readable");
}

#[test]
fn the_last_record_of_a_burst_is_covered_by_a_mark() {
    let disk = SimulatedDisk::new(1);
    let store = open(&disk);
    put(&store, id(1, 1, 0), 1000).expect("put");
    put(&store, id(1, 2, 0), 1000).expect("put");
    store.look_after();
    // The tick is done when a later request is.
    wait(store.delete(vec![])).expect("nothing to delete");
    store.abort();
    disk.flip_bit(SEGMENT, 128 + 1112 + 500, 1).expect("flipped");
    let store = open(&disk);
    whole(&store, id(1, 1, 0), 1000).expect("kept");
    assert!(matches!(whole(&store, id(1, 2, 0), 1000), Err(ShardError::Corrupt(..))));
}

#[test]
fn a_damaged_record_is_replaced_by_the_same_shard() {
    let disk = example();
    disk.flip_bit(SEGMENT, 128 + 150, 1).expect("flipped");
    let store = open(&disk);
    assert!(matches!(whole(&store, id(1, 1, 0), 300), Err(ShardError::Corrupt(..))));
    assert_eq!(store.damaged_regions().len(), 1);
    put(&store, id(1, 1, 0), 300).expect("repaired");
    whole(&store, id(1, 1, 0), 300).expect("readable");
    assert_eq!(store.report().shards, 3);
}

#[test]
fn any_rot_of_the_index_is_healed_from_the_segments() {
    let disk = example();
    let bytes = length(&disk, INDEX);
    for at in (0..bytes).step_by(1009).chain(0..64) {
        disk.flip_bit(INDEX, at, 3).expect("flipped");
        let store = open(&disk);
        for (sequence, length) in [(1, 300), (3, 100), (4, 50)] {
            whole(&store, id(1, sequence, 0), length).expect("there");
        }
        assert!(matches!(whole(&store, id(1, 2, 0), 200), Err(ShardError::NotFound(..))));
        assert_eq!(store.report().shards, 3);
        store.close();
    }
}

#[test]
fn a_missing_index_or_noise_in_its_place_is_rebuilt() {
    let disk = example();
    let before = {
        let store = open(&disk);
        store.close();
        store.report()
    };
    for noise in [false, true] {
        disk.remove(INDEX).expect("removed");
        if noise {
            let file = disk.open(INDEX, OpenMode::CreateNew).expect("new");
            file.write_at(&[std::io::IoSlice::new(&vec![0xa5; 20_000])], 0).expect("written");
        }
        let store = open(&disk);
        let after = store.report();
        assert_eq!(after.shards, before.shards);
        assert_eq!(after.live_bytes, before.live_bytes);
        assert_eq!(after.garbage_bytes, before.garbage_bytes);
        store.close();
    }
}

#[test]
fn a_segment_full_of_noise_is_told_and_the_rest_is_kept() {
    let disk = SimulatedDisk::new(1);
    let store = open(&disk);
    for sequence in 0..200 {
        put(&store, id(1, sequence, 0), 1000).expect("put");
    }
    store.close();
    let bytes = length(&disk, SEGMENT) as usize;
    let file = disk.open(SEGMENT, OpenMode::Write).expect("there");
    file.write_at(&[std::io::IoSlice::new(&vec![0x5a; bytes])], 0).expect("written");
    for rebuilt in [false, true] {
        if rebuilt {
            disk.remove(INDEX).expect("removed");
        }
        let store = open(&disk);
        let damaged = (0..200).filter(|n| whole(&store, id(1, *n, 0), 1000).is_err()).count();
        assert!(damaged > 0 && damaged < 100, "{damaged}");
        assert!(!store.damaged_regions().is_empty());
        put(&store, id(2, u32::from(rebuilt), 0), 1000).expect("it goes on");
        store.close();
    }
}

#[test]
fn segments_without_a_superblock_are_not_touched() {
    let disk = example();
    disk.remove("shards/superblock").expect("removed");
    let refused = open_with(std::sync::Arc::new(disk), small());
    assert!(matches!(refused, Err(OpenError::SuperblockMissing)));
}

#[test]
fn a_segment_of_another_disk_is_refused() {
    let disk = example();
    let file = disk.open("shards/seg-0000000000000002.dss", OpenMode::CreateNew).expect("new");
    let mut bytes = vec![0; length(&disk, SEGMENT) as usize];
    let source = disk.open(SEGMENT, OpenMode::Read).expect("there");
    source.read_exact_at(&mut bytes, 0).expect("read");
    file.write_at(&[std::io::IoSlice::new(&bytes)], 0).expect("written");
    let refused = open_with(std::sync::Arc::new(disk), small());
    assert!(matches!(refused, Err(OpenError::ForeignSegment(_))));
}
