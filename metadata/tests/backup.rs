//! Backups: what they hold, and that every damage to one is found.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use metadata::backup::{BackupError, BackupFile, BackupSink};
use metadata::raft::types::Entry;
use metadata::serve::Backups;
use metadata::tables::Digests;
use model::ids::ReplicaId;
use model::query::MetadataError;
use model::recovery::BackupBegun;
use wire::BoxFuture;
use wire::clock::{Clock, SystemClock};
use wire::disk::{Disk, DiskFile, OpenMode, RealDisk};

use crate::harness::{TestCluster, create_bucket, put};
use crate::model_apply::history;
use crate::snapshots::{entry, feed, machine};

/// Takes a backup into memory.
#[derive(Default)]
pub struct Memory(pub Vec<u8>);

impl BackupSink for Memory {
    fn put(&mut self, piece: Bytes) -> BoxFuture<'_, io::Result<()>> {
        self.0.extend_from_slice(&piece);
        Box::pin(std::future::ready(Ok(())))
    }
}

/// A backup in a file of its own.
pub fn file(root: &Path, bytes: &[u8]) -> Arc<dyn DiskFile> {
    let disk = RealDisk::open(root).expect("opened");
    let _ = disk.remove("backup");
    let file = disk.open("backup", OpenMode::CreateNew).expect("made");
    file.write_at(&[IoSlice::new(bytes)], 0).expect("written");
    file
}

async fn read_all(backups: &Backups, begun: BackupBegun) -> Vec<u8> {
    let (mut bytes, clock) = (Vec::new(), SystemClock::new());
    loop {
        let piece = backups.read(begun.id, bytes.len() as u64).await.expect("read");
        bytes.extend_from_slice(&piece.bytes);
        if piece.length == Some(bytes.len() as u64) {
            return bytes;
        }
        if piece.bytes.is_empty() {
            clock.sleep(std::time::Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_is_the_state_at_its_index() {
    for seed in [21, 22, 23] {
        let entries: Vec<Entry> = history(seed, 3000)
            .chunks(3)
            .zip(1..)
            .map(|(commands, index)| entry(index, commands.to_vec()))
            .collect();
        let (_root, machine) = machine();
        let machine = Arc::new(machine);
        feed(&machine, &entries[..10], 1);
        let is_done = Arc::new(AtomicBool::new(false));
        let load = {
            let (machine, is_done) = (Arc::clone(&machine), Arc::clone(&is_done));
            std::thread::spawn(move || {
                let mut digests: BTreeMap<u64, Digests> = BTreeMap::new();
                let note = |digests: &mut BTreeMap<u64, Digests>| {
                    let summary = machine.summary().expect("told");
                    digests.insert(summary.applied.last.expect("some").index, summary.digests);
                };
                note(&mut digests);
                for entry in &entries[10..] {
                    feed(&machine, std::slice::from_ref(entry), 1);
                    note(&mut digests);
                }
                is_done.store(true, Ordering::Release);
                digests
            })
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let backups = Arc::new(Backups::new(ReplicaId(1), Arc::clone(&machine), clock));
        let mut taken = Vec::new();
        while !is_done.load(Ordering::Acquire) || taken.is_empty() {
            let begun = backups.begin().await.expect("begun");
            taken.push((begun, read_all(&backups, begun).await));
            backups.end(begun.id);
        }
        let digests = load.join().expect("whole");
        let root = tempfile::tempdir().expect("made");
        assert!(taken.len() > 1, "{} backups", taken.len());
        for (begun, bytes) in taken {
            let backup = BackupFile::open(file(root.path(), &bytes)).expect("opened");
            let contents = backup.check(&|_| {}).expect("sound");
            assert_eq!(contents.header.index, begun.index);
            assert_eq!(Some(&contents.digests), digests.get(&begun.index));
            assert_eq!(contents.length, bytes.len() as u64);
        }
        machine.verify_tables().expect("whole");
        assert!(!machine.fence().is_set());
    }
}

#[tokio::test]
async fn few_backups_are_open_and_none_without_being_read() {
    let (root, machine) = machine();
    feed(&machine, &[entry(1, history(5, 50))], 1);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let backups = Arc::new(Backups::new(ReplicaId(1), Arc::new(machine), clock));
    let first = backups.begin().await.expect("begun");
    let second = backups.begin().await.expect("begun");
    assert_ne!(first.id, second.id);
    let last = backups.begin().await.expect("begun");
    assert_eq!(backups.begin().await, Err(MetadataError::Overloaded));
    // They have no name: nothing is left of them but what is held open.
    let names = RealDisk::open(root.path()).expect("opened").list().expect("listed");
    assert_eq!(names, ["state.redb"]);
    backups.end(first.id);
    assert!(backups.read(first.id, 0).await.is_err());
    let third = backups.begin().await.expect("begun");
    read_all(&backups, second).await;
    read_all(&backups, third).await;
    read_all(&backups, last).await;
    assert!(backups.read(third.id + 1, 0).await.is_err());
    let behind = backups.read(third.id, u64::MAX).await.expect("nothing");
    assert!(behind.bytes.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_changed_byte_is_found() {
    let (_root, machine) = machine();
    feed(&machine, &[entry(1, history(6, 40))], 1);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let backups = Arc::new(Backups::new(ReplicaId(1), Arc::new(machine), clock));
    let begun = backups.begin().await.expect("begun");
    let bytes = read_all(&backups, begun).await;
    assert!((4000..200_000).contains(&bytes.len()), "{}", bytes.len());
    let root = tempfile::tempdir().expect("made");
    let file = file(root.path(), &bytes);
    let check = || BackupFile::open(Arc::clone(&file)).and_then(|backup| backup.check(&|_| {}));
    check().expect("sound");
    for at in 0..bytes.len() {
        let flipped = bytes[at] ^ (1 << (at % 8));
        file.write_at(&[IoSlice::new(&[flipped])], at as u64).expect("written");
        let found = check();
        assert!(
            matches!(found, Err(BackupError::Damaged(_) | BackupError::NotABackup)),
            "byte {at}: {found:?}"
        );
        file.write_at(&[IoSlice::new(&bytes[at..=at])], at as u64).expect("written");
    }
    check().expect("sound again");
    for length in (0..bytes.len()).rev().step_by(13) {
        file.set_length(length as u64).expect("cut");
        let found = check();
        assert!(
            matches!(found, Err(BackupError::Damaged(_) | BackupError::NotABackup)),
            "{length} bytes: {found:?}"
        );
    }
    file.write_at(&[IoSlice::new(&bytes), IoSlice::new(&[0])], 0).expect("written");
    assert!(matches!(check(), Err(BackupError::Damaged(_))), "something behind it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_gives_a_backup_to_its_client() {
    let mut cluster = TestCluster::new(3, 3).await;
    let writer = cluster.writer().await;
    create_bucket(&writer).await;
    let map = cluster.map().await;
    for number in 0..200 {
        put(&writer, &map, &format!("o{number}"), number).await;
    }
    let mut sink = Memory::default();
    let taken = cluster.client.backup(&mut sink).await.expect("taken");
    assert_eq!(taken.length, sink.0.len() as u64);
    let root = tempfile::tempdir().expect("made");
    file(root.path(), &sink.0);
    let backup = BackupFile::open_path(&root.path().join("backup")).expect("opened");
    assert_eq!(backup.header().cluster, crate::harness::CLUSTER);
    assert_eq!((backup.header().index, backup.header().replica), (taken.index, taken.replica));
    let contents = backup.check(&|_| {}).expect("sound");
    let rows: BTreeMap<&str, u64> = contents.rows().collect();
    assert_eq!((rows["versions"], rows["buckets"], rows["extents"]), (200, 1, 200));
    // A leader that is gone can't finish one.
    cluster.stop().await;
    assert!(cluster.client.backup(&mut Memory::default()).await.is_err());
}
