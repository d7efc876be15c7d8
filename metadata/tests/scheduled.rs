//! Backups by schedule: when one is taken, which are kept, and what a failing store leaves.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use metadata::backup::schedule::{BackupStore, BackupTarget, BackupWriting, Schedule, round};
use metadata::backup::{BackupFile, BackupProgress, BackupSink};
use model::command::{Command, Outcome};
use wire::BoxFuture;

use crate::backup::file;
use crate::harness::{TestCluster, create_bucket, put};
use crate::restore::{backup_of, held, restore_all};

type Kept = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

#[derive(Default)]
struct MemoryStore {
    kept: Kept,
    is_full: AtomicBool,
}

impl MemoryStore {
    fn names(&self) -> Vec<String> {
        self.kept.lock().expect("kept").keys().cloned().collect()
    }
}

fn target(store: &Arc<MemoryStore>) -> BackupTarget {
    let hour = Duration::from_hours(1);
    let progress = Arc::new(BackupProgress::new("memory", "here".to_owned(), hour));
    BackupTarget { store: Arc::clone(store) as Arc<_>, progress }
}

struct Incoming {
    kept: Kept,
    name: String,
    bytes: Vec<u8>,
    is_full: bool,
}

impl BackupStore for MemoryStore {
    fn names(&self) -> BoxFuture<'_, io::Result<Vec<String>>> {
        let mut names: Vec<String> = self.kept.lock().expect("kept").keys().cloned().collect();
        names.push("something else".to_owned());
        names.reverse();
        Box::pin(std::future::ready(Ok(names)))
    }

    fn begin<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Box<dyn BackupWriting>>> {
        let incoming = Incoming {
            kept: Arc::clone(&self.kept),
            name: name.to_owned(),
            bytes: Vec::new(),
            is_full: self.is_full.load(Ordering::Relaxed),
        };
        Box::pin(std::future::ready(Ok(Box::new(incoming) as Box<dyn BackupWriting>)))
    }

    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<()>> {
        self.kept.lock().expect("kept").remove(name).expect("there");
        Box::pin(std::future::ready(Ok(())))
    }
}

impl BackupSink for Incoming {
    fn put(&mut self, piece: Bytes) -> BoxFuture<'_, io::Result<()>> {
        self.bytes.extend_from_slice(&piece);
        let full = io::Error::from(io::ErrorKind::StorageFull);
        Box::pin(std::future::ready(if self.is_full { Err(full) } else { Ok(()) }))
    }
}

impl BackupWriting for Incoming {
    fn finish(self: Box<Self>) -> BoxFuture<'static, io::Result<()>> {
        self.kept.lock().expect("kept").insert(self.name, self.bytes);
        Box::pin(std::future::ready(Ok(())))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backups_are_taken_when_due_and_the_newest_are_kept() {
    let mut cluster = TestCluster::new(1, 1).await;
    let writer = cluster.writer().await;
    create_bucket(&writer).await;
    let map = cluster.map().await;
    let store = Arc::new(MemoryStore::default());
    let target = target(&store);
    let hourly = Schedule::default();
    let next = round(&cluster.client, &target, hourly).await.expect("taken");
    assert_eq!(next, hourly.interval);
    // The store's list says that there is time yet, whoever asks.
    let next = round(&cluster.client, &target, hourly).await.expect("nothing to do");
    assert!(next < hourly.interval && next + Duration::from_mins(5) > hourly.interval);
    assert_eq!(store.kept.lock().expect("kept").len(), 1);

    let often = Schedule { interval: Duration::ZERO, keep: 3 };
    let mut all = Vec::new();
    for number in 0..6 {
        put(&writer, &map, &format!("o{number}"), number).await;
        round(&cluster.client, &target, often).await.expect("taken");
        all.push(store.kept.lock().expect("kept").keys().next_back().cloned().expect("some"));
    }
    let kept: Vec<String> = store.kept.lock().expect("kept").keys().cloned().collect();
    assert_eq!(kept, all[3..]);

    let figures = target.progress.figures();
    let newest =
        store.kept.lock().expect("kept").values().next_back().map(|bytes| bytes.len() as u64);
    assert!(figures.newest.is_some() && figures.newest_bytes == newest);

    // What can't be stored replaces nothing.
    store.is_full.store(true, Ordering::Relaxed);
    assert!(round(&cluster.client, &target, often).await.is_err());
    let still: Vec<String> = store.kept.lock().expect("kept").keys().cloned().collect();
    assert_eq!(still, kept);
    let root = tempfile::tempdir().expect("made");
    for (bytes, objects) in store.kept.lock().expect("kept").values().zip(4..) {
        let backup = BackupFile::open(file(root.path(), bytes)).expect("opened");
        let contents = backup.check(&|_| {}).expect("whole");
        assert!(contents.rows().any(|row| row == ("versions", objects)));
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_removed_while_something_is_held() {
    let mut cluster = TestCluster::new(1, 1).await;
    let writer = cluster.writer().await;
    create_bucket(&writer).await;
    let store = Arc::new(MemoryStore::default());
    let target = target(&store);
    let often = Schedule { interval: Duration::ZERO, keep: 2 };
    for _ in 0..2 {
        round(&cluster.client, &target, often).await.expect("taken");
    }
    let before = store.names();
    let bytes = backup_of(&cluster).await;
    drop(writer);
    restore_all(&mut cluster, &bytes).await;
    let kept = held(&cluster).await.expect("something is held");
    for number in 1..=4 {
        round(&cluster.client, &target, often).await.expect("taken");
        let names = store.names();
        assert_eq!((&names[..2], names.len()), (&before[..], 2 + number));
    }
    // Not even when nothing is to be taken.
    let hourly = Schedule { keep: 2, ..Schedule::default() };
    round(&cluster.client, &target, hourly).await.expect("looked at");
    assert_eq!(store.names().len(), 6);

    let release = Command::ReleaseHeld { until: kept.until() };
    assert_eq!(cluster.client.propose_one(release).await, Ok(Outcome::Done));
    round(&cluster.client, &target, hourly).await.expect("looked at");
    let names = store.names();
    assert!(names.len() == 2 && !names.contains(&before[1]), "{names:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_a_wrong_clock_has_dated_is_in_nobodys_way() {
    let mut cluster = TestCluster::new(1, 1).await;
    let store = Arc::new(MemoryStore::default());
    let target = target(&store);
    let future = format!("metadata-{:020}.drybackup", u64::MAX);
    store.kept.lock().expect("kept").insert(future.clone(), Vec::new());
    let often = Schedule { interval: Duration::ZERO, keep: 1 };
    for _ in 0..3 {
        round(&cluster.client, &target, often).await.expect("taken");
        let names = store.names();
        assert!(names.len() == 2 && names[1] == future, "{names:?}");
    }
    cluster.stop().await;
}
