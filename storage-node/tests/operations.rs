//! What a disk does when nothing goes wrong.

use std::sync::Arc;

use bytes::Bytes;
use model::ids::{ClusterId, Incarnation, PgId, ShardId};
use model::shard::ShardError;
use storage_node::{OpenError, Store, StoreOptions};
use wire::clock::SystemClock;
use wire::disk::{Disk, OpenMode, RealDisk, SimulatedDisk};

use crate::world::{
    DISK, extent, id, identity, open, open_with, put, read, shard, small, wait, whole,
};

#[test]
fn a_shard_reads_back_in_any_range() {
    let disk = SimulatedDisk::new(1);
    let store = open(&disk);
    let length = 200_000;
    put(&store, id(1, 1, 0), length).expect("put");
    whole(&store, id(1, 1, 0), length).expect("whole");
    let blocks = read(&store, id(1, 1, 0), 70_000, 10).expect("read");
    assert_eq!((blocks.first_block, blocks.payload.len()), (1, 65_536));
    assert_eq!((blocks.checksums.len(), blocks.shard_bytes), (1, length as u32));
    let outside = read(&store, id(1, 1, 0), 199_999, 2);
    assert!(matches!(outside, Err(ShardError::Invalid(_))));
    let absent = id(1, 1, 1);
    assert_eq!(read(&store, absent, 0, 1).err(), Some(ShardError::NotFound(DISK, absent)));
}

#[test]
fn a_retry_succeeds_and_other_bytes_are_refused() {
    let store = open(&SimulatedDisk::new(1));
    put(&store, id(1, 1, 0), 5000).expect("put");
    let before = store.report();
    put(&store, id(1, 1, 0), 5000).expect("the same again");
    let twins = vec![shard(id(1, 2, 0), 100), shard(id(1, 2, 0), 100)];
    wait(store.append(twins, true)).expect("twins in one request");
    assert_eq!(store.report().shards, before.shards + 1);
    assert_eq!(put(&store, id(1, 1, 0), 5001), Err(ShardError::Exists(id(1, 1, 0))));
    whole(&store, id(1, 1, 0), 5000).expect("the first stays");
}

#[test]
fn what_is_no_shard_is_refused() {
    let store = open(&SimulatedDisk::new(1));
    let good = shard(id(1, 1, 0), 1000);
    let check = |spoil: &dyn Fn(&mut model::shard::ShardAppend)| {
        let mut bad = good.clone();
        spoil(&mut bad);
        let refused = wait(store.append(vec![bad], true));
        assert!(matches!(refused, Err(ShardError::Invalid(_))), "{refused:?}");
    };
    check(&|bad| bad.payload = Bytes::from(vec![0; 1000]));
    check(&|bad| bad.payload = Bytes::new());
    check(&|bad| bad.stripe_bytes = 0);
    check(&|bad| bad.stripe_bytes = 1001);
    check(&|bad| bad.id.slot = 1);
    check(&|bad| bad.id.stripe = 64);
    check(&|bad| bad.checksums = Arc::from([]));
    check(&|bad| bad.owner = Bytes::from(vec![0; 2049]));
    assert!(matches!(wait(store.append(vec![], true)), Err(ShardError::Invalid(_))));
    assert_eq!(store.report().shards, 0);
}

#[test]
fn a_sync_of_an_earlier_run_is_refused() {
    let disk = SimulatedDisk::new(1);
    let store = open(&disk);
    let (incarnation, position) =
        wait(store.append(vec![shard(id(1, 1, 0), 10)], false)).expect("appended");
    assert!(store.durable() < position);
    wait(store.sync(incarnation, position)).expect("synced");
    assert!(store.durable() >= position);
    let beyond = wait(store.sync(incarnation, position + 1));
    assert!(matches!(beyond, Err(ShardError::Invalid(_))));
    store.close();
    let store = open(&disk);
    assert_eq!(store.incarnation(), Incarnation(incarnation.0 + 1));
    assert_eq!(wait(store.sync(incarnation, position)), Err(ShardError::WrongIncarnation(DISK)));
}

#[test]
fn a_delete_takes_an_extent_and_nothing_else() {
    let disk = SimulatedDisk::new(1);
    let store = open(&disk);
    for stripe in 0..5 {
        put(&store, id(1, 1, stripe), 3000).expect("put");
        put(&store, id(1, 2, stripe), 3000).expect("put");
    }
    wait(store.checkpoint()).expect("checkpoint");
    put(&store, id(1, 1, 5), 3000).expect("put");
    let before = store.report();
    wait(store.delete(vec![extent(1, 1), extent(9, 9)])).expect("deleted");
    let after = store.report();
    assert_eq!((before.shards, after.shards), (11, 5));
    assert_eq!(after.live_bytes, before.live_bytes / 11 * 5);
    assert_eq!(after.garbage_bytes, before.garbage_bytes + before.live_bytes / 11 * 6 + 88);
    for reopened in [false, true] {
        let store = if reopened { open(&disk) } else { open_after_crash(&store, &disk) };
        assert!(matches!(whole(&store, id(1, 1, 0), 3000), Err(ShardError::NotFound(..))));
        whole(&store, id(1, 2, 4), 3000).expect("kept");
        let report = store.report();
        assert_eq!(report.shards, 5);
        assert_eq!(
            (report.live_bytes, report.garbage_bytes),
            (after.live_bytes, after.garbage_bytes)
        );
        store.close();
    }
}

fn open_after_crash(store: &Store, disk: &SimulatedDisk) -> Store {
    store.abort();
    disk.crash();
    open(disk)
}

#[test]
fn the_inventory_is_paged_in_key_order() {
    let store = open(&SimulatedDisk::new(1));
    let ids: Vec<ShardId> = (0..30).map(|n| id(5, n / 3, (n % 3) as u16)).collect();
    for (number, id) in ids.iter().enumerate() {
        put(&store, *id, 10 + number).expect("put");
        if number == 15 {
            wait(store.checkpoint()).expect("checkpoint");
        }
    }
    put(&store, id(4, 1, 0), 10).expect("another PG");
    put(&store, id(6, 1, 0), 10).expect("another PG");
    wait(store.delete(vec![extent(5, 2), extent(5, 9)])).expect("deleted");
    let mut listed = Vec::new();
    let mut after = None;
    loop {
        let page = wait(store.inventory(PgId(5), after, 4)).expect("page");
        if page.is_empty() {
            break;
        }
        after = page.last().map(|(id, _)| *id);
        listed.extend(page);
    }
    let expected: Vec<(ShardId, u32)> = ids
        .iter()
        .enumerate()
        .filter(|(_, id)| ![2, 9].contains(&id.extent.sequence))
        .map(|(number, id)| (*id, 10 + number as u32))
        .collect();
    assert_eq!(listed, expected);
}

#[test]
fn concurrent_appends_share_syncs() {
    let disk = SimulatedDisk::new(1);
    let store =
        Arc::new(open_with(Arc::new(disk.clone()), StoreOptions::default()).expect("opened"));
    let before = disk.syncs();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("runtime");
    runtime.block_on(async {
        let tasks: Vec<_> = (0..400)
            .map(|number| {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    store.append(vec![shard(id(1, number, 0), 4096)], true).await
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("ran").expect("appended");
        }
    });
    assert_eq!(store.report().shards, 400);
    assert!(disk.syncs() - before <= 401, "never more than a sync for each");
    store.close();
}

#[test]
fn another_disks_files_are_refused() {
    let disk = SimulatedDisk::new(1);
    open(&disk).close();
    let mut other = identity();
    other.cluster = ClusterId([9; 16]);
    let clock = Arc::new(SystemClock::new());
    let refused = Store::open(
        Arc::new(disk),
        other,
        small(),
        clock,
        std::time::Duration::from_secs(1),
        Arc::default(),
    );
    assert!(matches!(refused, Err(OpenError::Foreign { .. })));
}

#[test]
fn a_hundred_thousand_small_shards_restart_fast() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let disk = || Arc::new(RealDisk::open(directory.path()).expect("opened"));
    let store = open_with(disk(), StoreOptions::default()).expect("opened");
    for batch in 0..100 {
        let shards = (0..1000).map(|n| shard(id(batch, n / 10, (n % 10) as u16), 300)).collect();
        wait(store.append(shards, false)).expect("appended");
    }
    wait(store.checkpoint()).expect("checkpoint");
    store.close();
    let clock = SystemClock::new();
    let store = open_with(disk(), StoreOptions::default()).expect("opened");
    let took = wire::clock::Clock::monotonic(&clock);
    assert_eq!(store.report().shards, 100_000);
    println!("restart with 100,000 shards took {took:?}");
    store.abort();
    // As after a crash that took the index.
    std::fs::remove_file(directory.path().join("shards/index.redb")).expect("removed");
    let clock = SystemClock::new();
    let store = open_with(disk(), StoreOptions::default()).expect("opened");
    println!("and a rebuild of the index {:?}", wire::clock::Clock::monotonic(&clock));
    assert_eq!(store.report().shards, 100_000);
    whole(&store, id(99, 99, 9), 300).expect("there");
    store.close();
    assert!(took < std::time::Duration::from_secs(5));
}

#[test]
fn a_closed_store_that_is_still_held_leaves_the_next_one_alone() {
    for seed in 0..40 {
        let disk = SimulatedDisk::new(seed);
        let old = open(&disk);
        for sequence in 0..60 {
            put(&old, id(1, sequence, 0), 500).expect("put");
        }
        old.close();
        let new = open(&disk);
        assert_eq!(whole(&old, id(1, 0, 0), 500), Err(ShardError::Failed(DISK)));
        for sequence in 60..120 {
            put(&new, id(1, sequence, 0), 500).expect("put");
        }
        wait(new.checkpoint()).expect("checkpoint");
        let index = |name: &str| {
            let file = disk.open(name, OpenMode::Read).expect("there");
            let mut bytes = vec![0; file.length().expect("length") as usize];
            file.read_exact_at(&mut bytes, 0).expect("read");
            bytes
        };
        let before = index("shards/index.redb");
        drop(old);
        assert!(before == index("shards/index.redb"), "the old store wrote to the index");
        new.abort();
        disk.crash();
        let store = open(&disk);
        for sequence in 0..120 {
            whole(&store, id(1, sequence, 0), 500).expect("kept");
        }
        store.close();
    }
}
