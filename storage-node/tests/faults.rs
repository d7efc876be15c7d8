//! Disks that fail, fill up and vanish.

use std::sync::Arc;

use model::shard::{DiskHealth, ShardError};
use storage_node::{StoreOptions, Switches};
use wire::disk::{Disk, DiskFaults, OpenMode, RealDisk, SimulatedDisk};

use crate::world::{DISK, extent, id, open, open_with, put, shard, small, wait, whole};

#[test]
fn a_failed_sync_makes_the_disk_read_only_for_good() {
    let disk = SimulatedDisk::new(1);
    let store = open(&disk);
    put(&store, id(1, 1, 0), 1000).expect("put");
    disk.set_faults(DiskFaults { syncs_fail: true, ..DiskFaults::default() });
    assert_eq!(put(&store, id(1, 2, 0), 1000), Err(ShardError::ReadOnly(DISK)));
    disk.set_faults(DiskFaults::default());
    assert_eq!(put(&store, id(1, 3, 0), 1000), Err(ShardError::ReadOnly(DISK)));
    assert_eq!(wait(store.delete(vec![extent(1, 1)])), Err(ShardError::ReadOnly(DISK)));
    whole(&store, id(1, 1, 0), 1000).expect("reads go on");
    let report = store.report();
    assert_eq!(report.health, DiskHealth::ReadOnly);
    assert!(report.reason.expect("a reason").contains("sync"));
    store.close();
    disk.crash();
    let store = open(&disk);
    whole(&store, id(1, 1, 0), 1000).expect("kept");
    assert!(matches!(whole(&store, id(1, 2, 0), 1000), Err(ShardError::NotFound(..))));
    put(&store, id(1, 3, 0), 1000).expect("a new run writes again");
}

#[test]
fn a_failed_write_makes_the_disk_read_only() {
    let disk = SimulatedDisk::new(1);
    let store = open(&disk);
    put(&store, id(1, 1, 0), 1000).expect("put");
    disk.set_faults(DiskFaults { writes_fail: true, ..DiskFaults::default() });
    assert_eq!(put(&store, id(1, 2, 0), 1000), Err(ShardError::ReadOnly(DISK)));
    assert_eq!(store.report().health, DiskHealth::ReadOnly);
    whole(&store, id(1, 1, 0), 1000).expect("reads go on");
}

/// Opening runs out of space at every one of its steps: the spare file's space is enough to do it
/// again from the start, whatever the first attempt has left behind.
#[test]
fn a_disk_opens_wherever_its_space_ends() {
    let options = StoreOptions { spare_bytes: 6 << 20, ..small() };
    let mut given_up = 0;
    let steps = (0..120).map(|step| step * 37_003);
    for (left, is_index_lost) in [100, 200, 4_200, 4_300]
        .into_iter()
        .chain(steps)
        .flat_map(|left| [(left, false), (left, true)])
    {
        let disk = SimulatedDisk::new(1);
        let store = open_with(Arc::new(disk.clone()), options).expect("opened");
        for number in 0..10 {
            put(&store, id(1, number, 0), 3000).expect("put");
        }
        store.abort();
        drop(store);
        let shards = disk.subdirectory("shards").expect("there");
        if is_index_lost {
            shards.remove("index.redb").expect("there");
        }
        let space = disk.space().expect("space");
        let capacity_bytes = space.capacity_bytes - space.free_bytes + left;
        disk.set_faults(DiskFaults { capacity_bytes, ..DiskFaults::default() });
        let has_spare = || shards.list().expect("names").iter().any(|name| name == "spare");
        assert!(has_spare());
        let store = open_with(Arc::new(disk.clone()), options);
        let store = store.unwrap_or_else(|error| panic!("{left} bytes left: {error}"));
        given_up += u32::from(!has_spare());
        for number in 0..10 {
            whole(&store, id(1, number, 0), 3000).expect("kept");
        }
        assert_eq!(store.damaged_regions(), []);
    }
    assert!(given_up > 20, "only {given_up} wanted it");
}

/// A checkpoint on a full file system has the spare file's space, or doesn't begin.
#[test]
fn a_checkpoint_never_meets_a_full_file_system() {
    for spare_bytes in [0, 6 << 20] {
        let disk = SimulatedDisk::new(1);
        let options = StoreOptions {
            spare_bytes,
            checkpoint_log_bytes: 1 << 30,
            checkpoint_changes: 15,
            switches: Switches { in_step: true, ..Switches::default() },
            ..small()
        };
        let store = open_with(Arc::new(disk.clone()), options).expect("opened");
        for number in 0..10 {
            put(&store, id(1, number, 0), 3000).expect("put");
        }
        // Others take all that is left, and nobody has looked since.
        let space = disk.space().expect("space");
        let capacity_bytes = space.capacity_bytes - space.free_bytes;
        disk.set_faults(DiskFaults { capacity_bytes, ..DiskFaults::default() });
        let index = || {
            let file = disk.open("shards/index.redb", OpenMode::Read).expect("there");
            let mut bytes = vec![0; file.length().expect("length") as usize];
            file.read_exact_at(&mut bytes, 0).expect("read");
            bytes
        };
        let before = index();
        let extents = (0..5).map(|number| extent(1, number)).collect();
        wait(store.delete(extents)).expect("there is room in the segment");
        wait(store.delete(Vec::new())).expect("a job behind the checkpoint");
        assert_eq!(store.report().health, DiskHealth::Full, "{:?}", store.report().reason);
        let names = disk.subdirectory("shards").and_then(|shards| shards.list()).expect("listed");
        assert!(!names.iter().any(|name| name == "spare"));
        assert_eq!(index() != before, spare_bytes > 0, "whether the index was written");
        store.abort();
    }
}

#[test]
fn a_full_disk_takes_deletes_and_comes_back() {
    let disk = SimulatedDisk::new(1);
    let options = StoreOptions { reserve_bytes: Some(1 << 20), ..small() };
    let store = open_with(Arc::new(disk.clone()), options).expect("opened");
    let capacity_bytes = 6 << 20;
    disk.set_faults(DiskFaults { capacity_bytes, ..DiskFaults::default() });
    let mut kept = 0;
    let refused = loop {
        match put(&store, id(1, kept, 0), 30_000) {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 1000, "the disk never fills");
    };
    assert_eq!(refused, ShardError::Full(DISK));
    assert_eq!(store.report().health, DiskHealth::Full);
    for number in 0..kept {
        whole(&store, id(1, number, 0), 30_000).expect("kept");
    }
    wait(store.delete(vec![extent(1, 0)])).expect("deletes go on");
    // Not a byte is left: what is reserved behind the last shard still takes tombstones.
    let space = disk.space().expect("space");
    let capacity_bytes = space.capacity_bytes - space.free_bytes;
    disk.set_faults(DiskFaults { capacity_bytes, ..DiskFaults::default() });
    store.look_after();
    wait(store.delete(vec![extent(1, 1)])).expect("deletes go on");
    disk.set_faults(DiskFaults::default());
    store.look_after();
    assert_eq!(store.report().health, DiskHealth::Ok);
    put(&store, id(2, 1, 0), 30_000).expect("space is back");
    store.close();
    let store = open(&disk);
    assert_eq!(store.report().shards, u64::from(kept) - 1);
}

#[test]
fn a_read_that_fails_is_told_as_damage_of_that_shard() {
    let disk = SimulatedDisk::new(1);
    let store = open(&disk);
    put(&store, id(1, 1, 0), 1000).expect("put");
    disk.set_faults(DiskFaults { reads_fail: true, ..DiskFaults::default() });
    assert_eq!(whole(&store, id(1, 1, 0), 1000), Err(ShardError::Corrupt(DISK, id(1, 1, 0))));
    disk.set_faults(DiskFaults::default());
    whole(&store, id(1, 1, 0), 1000).expect("it was the device");
}

#[test]
fn a_deleted_directory_fails_the_disk() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("disk");
    let disk = Arc::new(RealDisk::create(&path).expect("created"));
    let store = open_with(disk, StoreOptions::default()).expect("opened");
    put(&store, id(1, 1, 0), 1000).expect("put");
    std::fs::remove_dir_all(&path).expect("removed");
    let refused = put(&store, id(1, 2, 0), 1000);
    assert_eq!(refused, Err(ShardError::Failed(DISK)), "nothing is acknowledged into the void");
    assert_eq!(store.report().health, DiskHealth::Failed);
    assert_eq!(whole(&store, id(1, 1, 0), 1000), Err(ShardError::Failed(DISK)));
    store.close();
}

#[test]
fn a_vanished_directory_is_noticed_without_traffic() {
    let disk = SimulatedDisk::new(1);
    let store = open(&disk);
    disk.set_faults(DiskFaults { gone: true, ..DiskFaults::default() });
    store.look_after();
    assert_eq!(store.report().health, DiskHealth::Failed);
    assert_eq!(
        wait(store.append(vec![shard(id(1, 1, 0), 10)], true)),
        Err(ShardError::Failed(DISK))
    );
}

#[test]
fn what_a_failed_sync_left_in_the_page_cache_is_not_trusted_by_the_next_run() {
    let disk = SimulatedDisk::new(1);
    let store = open(&disk);
    put(&store, id(1, 1, 0), 1000).expect("put");
    disk.set_faults(DiskFaults { syncs_fail: true, ..DiskFaults::default() });
    assert_eq!(put(&store, id(1, 2, 0), 1000), Err(ShardError::ReadOnly(DISK)));
    // The process ends and begins again; the page cache lives on, and calls its pages clean.
    store.abort();
    disk.set_faults(DiskFaults::default());
    let store = open(&disk);
    put(&store, id(1, 2, 0), 1000).expect("the same again");
    store.abort();
    disk.crash();
    let store = open(&disk);
    whole(&store, id(1, 1, 0), 1000).expect("kept");
    whole(&store, id(1, 2, 0), 1000).expect("it was acknowledged");
    assert_eq!(store.damaged_regions(), []);
}
