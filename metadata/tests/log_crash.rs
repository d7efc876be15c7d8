//! The Raft log through crashes and damage, on a simulated disk.

use std::sync::Arc;

use metadata::raft::types::{Entry, LeaderId, LogId, TypeConfig, Vote};
use metadata::raft_log::{LogError, RaftLog};
use metadata::state::Fence;
use model::command::Command;
use model::ids::ReplicaId;
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, RaftLogStorageExt};
use openraft::type_config::TypeConfigExt;
use wire::clock::{Clock, SystemClock};
use wire::disk::{Disk, OpenMode, SimulatedDisk};
use wire::entropy::{Entropy, SeededEntropy};

use crate::harness::CLUSTER;
use crate::snapshots::entry;

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

fn open(disk: &Arc<SimulatedDisk>) -> Result<Arc<RaftLog>, LogError> {
    let disk = Arc::clone(disk) as Arc<dyn Disk>;
    RaftLog::open(disk, CLUSTER, ReplicaId(1), clock(), Arc::new(Fence::default()))
}

fn create(seed: u64) -> (Arc<SimulatedDisk>, Arc<RaftLog>) {
    let disk = Arc::new(SimulatedDisk::new(seed));
    let door = Arc::clone(&disk) as Arc<dyn Disk>;
    let fence = Arc::new(Fence::default());
    let log = RaftLog::create(door, CLUSTER, ReplicaId(1), clock(), fence).expect("made");
    (disk, log)
}

fn numbered(index: u64) -> Entry {
    let gateway = "g".repeat(index as usize * 37 % 600);
    entry(index, vec![Command::OpenSession { gateway }])
}

async fn append(log: &Arc<RaftLog>, entries: Vec<Entry>) {
    metadata::raft::LogStore(Arc::clone(log)).blocking_append(entries).await.expect("durable");
}

fn indexes(log: &RaftLog) -> Vec<u64> {
    log.read(.., usize::MAX).expect("read").iter().map(RaftEntry::index).collect()
}

#[tokio::test]
async fn what_was_called_back_survives_any_crash() {
    for seed in 0..40 {
        let (disk, log) = create(seed);
        let entropy = SeededEntropy::new(seed);
        let durable = entropy.below(30);
        for index in 0..durable {
            append(&log, vec![numbered(index)]).await;
        }
        let vote = Vote { leader_id: LeaderId { term: 3, node_id: 1 }, committed: true };
        log.save_vote(vote).await.expect("durable");
        // What follows may be under way when the crash comes.
        let (told, hears) = TypeConfig::oneshot();
        let more: Vec<Entry> = (durable..durable + 5).map(numbered).collect();
        log.append(more.clone(), IOFlushed::signal(told)).expect("taken");
        if entropy.below(2) == 0 {
            let _ = hears.await;
        }
        disk.crash();
        let log = open(&disk).expect("a crash is no damage");
        let found = indexes(&log);
        assert!(found.len() as u64 >= durable, "seed {seed}: {found:?}");
        assert!(found.iter().copied().eq(0..found.len() as u64));
        assert_eq!(log.vote(), Some(vote));
        for (entry, index) in log.read(.., usize::MAX).expect("read").iter().zip(0..) {
            assert_eq!(*entry, numbered(index));
        }
        // And it goes on from there.
        let next = found.len() as u64;
        append(&log, vec![numbered(next)]).await;
        log.stop().await.expect("stopped");
        assert_eq!(indexes(&open(&disk).expect("opened")).len() as u64, next + 1);
    }
}

#[tokio::test]
async fn truncated_and_purged_entries_stay_so() {
    let (disk, log) = create(1);
    append(&log, (0..20).map(numbered).collect()).await;
    log.truncate_after(Some(numbered(11).log_id())).await.expect("durable");
    append(&log, vec![numbered(12)]).await;
    log.purge(numbered(4).log_id()).await.expect("durable");
    disk.crash();
    let log = open(&disk).expect("opened");
    assert_eq!(indexes(&log), (5..=12).collect::<Vec<_>>());
    assert_eq!(log.purged(), Some(numbered(4).log_id()));
    // A snapshot may be ahead of the whole log.
    log.purge(numbered(40).log_id()).await.expect("durable");
    append(&log, vec![numbered(41)]).await;
    log.stop().await.expect("stopped");
    assert_eq!(indexes(&open(&disk).expect("opened")), [41]);
}

#[tokio::test]
async fn damage_before_the_durable_mark_is_never_cut_away() {
    let (disk, log) = create(2);
    for index in 0..10 {
        append(&log, vec![numbered(index)]).await;
    }
    log.stop().await.expect("stopped");
    drop(log);
    let name = "0000000000000001.log";
    let file = disk.open(name, OpenMode::Write).expect("opened");
    let mut offset = 64;
    let mut places = Vec::new();
    for index in 0..10u64 {
        places.push(offset + 70);
        let (_, payload, _) = metadata::raft::types::encode_entry(&numbered(index));
        offset += (72 + payload.len() as u64).next_multiple_of(8);
    }
    for place in places {
        let mut byte = [0];
        file.read_exact_at(&mut byte, place).expect("read");
        let spoilt = [byte[0] ^ 4];
        file.write_at(&[std::io::IoSlice::new(&spoilt)], place).expect("written");
        assert!(matches!(open(&disk), Err(LogError::Damaged(_))), "at {place}");
        file.write_at(&[std::io::IoSlice::new(&byte)], place).expect("written");
    }
    assert_eq!(indexes(&open(&disk).expect("opened")).len(), 10);
    disk.remove("hard-state").expect("removed");
    assert!(matches!(open(&disk), Err(LogError::Damaged(_))));
}

#[tokio::test]
async fn many_segments_are_made_read_and_removed() {
    let (disk, log) = create(3);
    let large = |index| entry(index, vec![Command::OpenSession { gateway: "x".repeat(1 << 20) }]);
    for index in 0..40 {
        append(&log, vec![large(index)]).await;
    }
    let segments = || disk.list().expect("listed").iter().filter(|name| name.len() == 20).count();
    assert!(segments() >= 3);
    assert_eq!(indexes(&log), (0..40).collect::<Vec<_>>());
    log.purge(LogId::new(LeaderId { term: 1, node_id: 1 }, 35)).await.expect("durable");
    assert_eq!(segments(), 1);
    log.stop().await.expect("stopped");
    drop(log);
    let log = open(&disk).expect("opened");
    assert_eq!(indexes(&log), [36, 37, 38, 39]);
    assert_eq!(log.read(37..38, 1).expect("read"), [large(37)]);
}
