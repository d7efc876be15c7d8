//! A file system that is really full: a small tmpfs, in a mount namespace of a child process, so
//! that nothing is left behind. Where the kernel doesn't allow that, the test says so and passes.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use model::shard::{DiskHealth, ShardError};
use storage_node::StoreOptions;
use wire::disk::{Disk, RealDisk};

use crate::world::{DISK, extent, id, open_with, put, small, wait, whole};

const DIRECTORY: &str = "DRYSTONE_FULL_DIRECTORY";
const SHARD_BYTES: usize = 30_000;

fn options() -> StoreOptions {
    StoreOptions {
        segment_bytes: 512 << 10,
        checkpoint_log_bytes: 1 << 20,
        reserve_bytes: Some(8 << 20),
        grace: Duration::ZERO,
        compaction_bytes_per_second: 0,
        spare_bytes: 1 << 20,
        ..small()
    }
}

/// Not a test by itself: what the other one runs in its namespace.
#[test]
#[ignore = "is run by the test beside it, as its child"]
#[expect(clippy::disallowed_methods, reason = "a parent talks to its child")]
fn child() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let directory = Path::new(&directory);
    let disk = || Arc::new(RealDisk::create(&directory.join("disk")).expect("created"));
    let store = open_with(disk(), options()).expect("opened");
    let mut kept = 0;
    let refused = loop {
        match put(&store, id(1, kept, 0), SHARD_BYTES) {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 3000, "the disk never fills");
    };
    assert_eq!(refused, ShardError::Full(DISK));
    assert!(kept > 100, "{kept}");
    // Somebody else takes the rest, to the last byte.
    let mut other = std::fs::File::create(directory.join("other")).expect("created");
    while other.write_all(&[1; 4096]).is_ok() {}
    assert_eq!(disk().space().expect("space").free_bytes, 0);
    store.look_after();
    for number in 0..kept {
        whole(&store, id(1, number, 0), SHARD_BYTES).expect("kept");
    }
    for number in 0..20 {
        wait(store.delete(vec![extent(1, number)])).expect("deletes go on");
    }
    assert_eq!(store.report().health, DiskHealth::Full);
    assert_eq!(put(&store, id(2, 0, 0), SHARD_BYTES), Err(ShardError::Full(DISK)));
    store.abort();
    // With it go its open files, which would hold the space of what is removed.
    drop(store);
    while other.write_all(&[1; 4096]).is_ok() {}
    // It opens in the space of its spare file, reads, and deletes.
    let store = open_with(disk(), options()).expect("opened without a free byte");
    assert_eq!(store.report().health, DiskHealth::Full);
    for number in 20..kept {
        whole(&store, id(1, number, 0), SHARD_BYTES).expect("kept");
    }
    wait(store.delete(vec![extent(1, 20)])).expect("deletes go on");
    assert!(!directory.join("disk/shards/spare").exists());
    store.abort();
    drop(store);
    // It opens again when there is space, and compaction makes more of it.
    drop(other);
    std::fs::remove_file(directory.join("other")).expect("removed");
    let store = open_with(disk(), options()).expect("opened");
    for number in 21..kept / 2 {
        wait(store.delete(vec![extent(1, number)])).expect("deleted");
    }
    let before = disk().space().expect("space").free_bytes;
    wait(store.compact()).expect("compacted");
    let after = disk().space().expect("space").free_bytes;
    assert!(after > before + (2 << 20), "{before} free before and {after} after");
    store.look_after();
    assert!(directory.join("disk/shards/spare").exists());
    put(&store, id(2, 0, 0), SHARD_BYTES).expect("there is space again");
    for number in kept / 2..kept {
        whole(&store, id(1, number, 0), SHARD_BYTES).expect("kept");
    }
    assert_eq!(store.damaged_regions(), []);
    store.close();
    println!("\nthe child is done");
}

#[test]
fn a_file_system_without_a_free_byte_loses_nothing_and_recovers() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let mounted = "mount -t tmpfs -o size=32m tmpfs \"$0\" || exit 77; exec \"$@\"";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", mounted])
        .arg(directory.path())
        .arg(std::env::current_exe().expect("this executable"))
        .args(["--exact", "full::child", "--ignored", "--nocapture"])
        .env(DIRECTORY, directory.path())
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => return println!("skipped: no unshare: {error}"),
    };
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(77) || complained.contains("unshare failed") {
        return println!("skipped: no mount namespace: {complained}");
    }
    assert!(output.status.success() && said.contains("the child is done"), "{said}{complained}");
}
