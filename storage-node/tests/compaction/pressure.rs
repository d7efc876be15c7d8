//! Compaction of disks that are nearly full.

use std::time::Duration;

use model::ids::ShardId;
use model::shard::ShardError;
use storage_node::StoreOptions;
use wire::disk::{Disk, DiskFaults, SimulatedDisk};
use wire::entropy::{Entropy, SeededEntropy};

use super::{clock, delete, eager, open_at};
use crate::world::{id, put, shard, wait, whole};

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
