//! The writer, its queue, compaction and readers under every order of events that chance gives.
//!
//! The code is the real one: recovery, log, queue, checkpoints, compaction and reads over a
//! simulated disk; only locks, atomics, channels and threads are shuttle's (`crate::sync`), which
//! runs one thread at a time and chooses at each of their steps who goes on. Not here: what runs
//! on tokio alone (back-pressure, deadlines, the scrub's thread).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::checksum::block_checksums;
use model::coding::Coding;
use model::ids::{ClusterId, DiskId, DiskUuid, ExtentId, PgId, SessionId, ShardId};
use model::shard::{LogPosition, ShardAppend, ShardError, ShardRead};
use shuttle::rand::Rng as _;
use shuttle::scheduler::RandomScheduler;
use shuttle::{Config, Runner};
use tokio::sync::oneshot;
use wire::clock::SimulatedClock;
use wire::disk::SimulatedDisk;

use super::checkpoint::Checkpointer;
use super::log::Log;
use super::queue::{Job, JobKind, Queue};
use super::read::Access;
use super::shared::Shared;
use super::{recover, write_until_closed};
use crate::compact;
use crate::lock::lock;
use crate::options::{DiskIdentity, StoreOptions};
use crate::switches::{Bug, Switches};
use crate::sync::Mutex;
use crate::sync::thread::{self, JoinHandle};
use crate::sync::wait;

const BYTES: usize = 1000;

/// Tries so many orders of events.
fn explore(orders: usize, work: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    // redb recurses on the stack of whoever calls it.
    config.stack_size = 4 << 20;
    Runner::new(RandomScheduler::new(orders), config).run(work);
}

/// One disk whose writer and checkpoints run.
struct Running {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    threads: Vec<JoinHandle<()>>,
}

fn open(disk: &SimulatedDisk) -> Running {
    open_with(disk, None)
}

/// Opens a disk whose store may make a mistake.
fn open_with(disk: &SimulatedDisk, bug: Option<Bug>) -> Running {
    let identity =
        DiskIdentity { cluster: ClusterId([1; 16]), disk: DiskId(1), uuid: DiskUuid([2; 16]) };
    let options = StoreOptions {
        segment_bytes: 4 << 10,
        checkpoint_log_bytes: 6 << 10,
        index_cache_bytes: 64 << 10,
        grace: Duration::ZERO,
        switches: Switches { bug, ..Switches::default() },
        ..StoreOptions::default()
    };
    let clock = Arc::new(SimulatedClock::new());
    let first_checkpoint_in = Duration::from_mins(1);
    let (shared, end) =
        recover(disk, identity, options, clock, first_checkpoint_in, Arc::default()).expect("open");
    let shared = Arc::new(shared);
    let queue = Arc::new(Queue::default());
    let (checkpointer, checkpoints) =
        Checkpointer::start(Arc::clone(&shared), Arc::clone(&queue)).expect("a thread");
    let log = Log::new(Arc::clone(&shared), checkpointer, &end);
    let jobs = Arc::clone(&queue);
    let writer = thread::spawn(move || write_until_closed(log, &jobs));
    Running { shared, queue, threads: vec![writer, checkpoints] }
}

impl Running {
    fn end(self, crashes: bool) {
        if crashes {
            self.queue.abort();
        } else {
            self.queue.close();
        }
        self.threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        self.shared.index.close();
    }
}

fn extent(sequence: u32) -> ExtentId {
    ExtentId { pg: PgId(1), session: SessionId(1), sequence }
}

fn id(sequence: u32) -> ShardId {
    ShardId { extent: extent(sequence), stripe: 0, slot: 0 }
}

fn shard(sequence: u32) -> ShardAppend {
    let payload = Bytes::from(vec![sequence as u8; BYTES]);
    ShardAppend {
        id: id(sequence),
        coding: Coding::new(1, 0).expect("valid"),
        stripe_bytes: BYTES as u32,
        checksums: block_checksums(id(sequence), &payload).into(),
        payload,
        owner: Bytes::new(),
    }
}

/// Asks for a job and waits; a job that was dropped is a failed disk, as for the store's callers.
fn ask(queue: &Queue, kind: JobKind) -> Result<LogPosition, ShardError> {
    let (answer, answered) = oneshot::channel();
    queue.push(Job { kind, answer, permit: None }).map_err(|_| ShardError::Failed(DiskId(1)))?;
    wait(answered).unwrap_or(Err(ShardError::Failed(DiskId(1))))
}

fn append(queue: &Queue, sequence: u32, sync: bool) -> Result<LogPosition, ShardError> {
    ask(queue, JobKind::Append { shards: vec![shard(sequence)], sync })
}

fn check(shared: &Shared, sequence: u32) -> Result<(), ShardError> {
    let read = ShardRead { id: id(sequence), offset: 0, length: BYTES as u32 };
    let blocks = shared.read_shard(&read, Access::Device)?.expect("the device answers");
    assert_eq!(blocks.payload[..], [sequence as u8; BYTES]);
    Ok(())
}

/// A client whose append was answered by one run of the disk asks another for the sync.
fn sync_across_a_restart(orders: usize, bug: Option<Bug>) {
    explore(orders, move || {
        let mut chance = shuttle::rand::thread_rng();
        // What a crash keeps differs as well.
        let disk = SimulatedDisk::new(chance.gen_range(0..u64::MAX));
        let (before_end, before_sync) = (chance.gen_range(0..60), chance.gen_range(0..3000));
        let first = open_with(&disk, bug);
        let handles = |run: &Running| (Arc::clone(&run.shared), Arc::clone(&run.queue));
        let current = Arc::new(Mutex::new(handles(&first)));
        let node = Arc::clone(&current);
        let client = thread::spawn(move || {
            let (shared, queue) = lock(&node).clone();
            let position = append(&queue, 1, false)?;
            let incarnation = shared.incarnation;
            (0..before_sync).for_each(|_| thread::yield_now());
            let (shared, queue) = lock(&node).clone();
            if !shared.is_durable_to(incarnation, position)? {
                ask(&queue, JobKind::Sync)?;
            }
            Ok::<(), ShardError>(())
        });
        (0..before_end).for_each(|_| thread::yield_now());
        first.end(true);
        disk.crash();
        let second = open_with(&disk, bug);
        // The log grows past where the first run had ended.
        for sequence in [2, 3] {
            append(&second.queue, sequence, true).expect("appended");
        }
        *lock(&current) = handles(&second);
        let answer = client.join().expect("no panic");
        second.end(true);
        disk.crash();
        let third = open(&disk);
        if answer.is_ok() {
            check(&third.shared, 1).expect("it was acknowledged");
        }
        third.end(true);
    });
}

fn commit_in_groups(orders: usize, bug: Option<Bug>) {
    explore(orders, move || {
        let disk = SimulatedDisk::new(1);
        let running = open_with(&disk, bug);
        let clients: Vec<_> = (0..3)
            .map(|client| {
                let (queue, shared) = (Arc::clone(&running.queue), Arc::clone(&running.shared));
                thread::spawn(move || {
                    let mut kept = Vec::new();
                    for number in 0..2 {
                        let sequence = client * 10 + number;
                        let durable = if client == 0 {
                            append(&queue, sequence, false)
                                .and_then(|position| ask(&queue, JobKind::Sync).map(|_| position))
                        } else {
                            append(&queue, sequence, true)
                        };
                        if let Ok(position) = durable {
                            assert!(shared.durable() >= position, "acknowledged before its sync");
                            kept.push(sequence);
                        }
                    }
                    kept
                })
            })
            .collect();
        // The power fails at any moment of that.
        let queue = Arc::clone(&running.queue);
        let crash = thread::spawn(move || {
            for _ in 0..20 {
                thread::yield_now();
            }
            queue.abort();
        });
        let kept: Vec<u32> =
            clients.into_iter().flat_map(|client| client.join().expect("no panic")).collect();
        crash.join().expect("no panic");
        running.end(true);
        disk.crash();
        let running = open(&disk);
        for sequence in kept {
            check(&running.shared, sequence).expect("it was acknowledged");
        }
        running.end(true);
    });
}

#[test]
fn a_sync_for_an_earlier_run_acknowledges_nothing() {
    sync_across_a_restart(300, None);
}

#[test]
#[should_panic(expected = "it was acknowledged")]
fn a_sync_that_ignores_the_run_is_found() {
    sync_across_a_restart(1000, Some(Bug::OldRunAccepted));
}

#[test]
fn a_group_commit_acknowledges_what_is_durable_and_a_crash_leaves_it() {
    commit_in_groups(300, None);
}

#[test]
#[should_panic(expected = "it was acknowledged")]
fn a_skipped_sync_is_found() {
    commit_in_groups(300, Some(Bug::SyncSkipped));
}

#[test]
fn readers_and_writers_go_on_while_compaction_moves_and_removes() {
    explore(100, || {
        let disk = SimulatedDisk::new(1);
        let running = open(&disk);
        for sequence in 0..9 {
            append(&running.queue, sequence, true).expect("appended");
        }
        let extents = [0, 1, 3, 4, 6].map(extent).to_vec();
        ask(&running.queue, JobKind::Delete { extents }).expect("deleted");
        let (queue, shared) = (Arc::clone(&running.queue), Arc::clone(&running.shared));
        let compactor = thread::spawn(move || {
            compact::reclaim_all(&shared, &queue).expect("compacted");
            ask(&queue, JobKind::Checkpoint).expect("checkpoint");
        });
        let shared = Arc::clone(&running.shared);
        let reader = thread::spawn(move || {
            for sequence in [2, 7, 2, 7, 2] {
                check(&shared, sequence).expect("it lives, wherever it lies");
            }
        });
        let (queue, shared) = (Arc::clone(&running.queue), Arc::clone(&running.shared));
        let writer = thread::spawn(move || {
            // A shard dies while it may be on its way.
            ask(&queue, JobKind::Delete { extents: vec![extent(5)] }).expect("deleted");
            append(&queue, 20, true).expect("appended");
            assert!(matches!(check(&shared, 5), Err(ShardError::NotFound(..))), "5 is back");
        });
        for thread in [compactor, reader, writer] {
            thread.join().expect("no panic");
        }
        assert!(running.shared.compaction.report().segments > 0, "nothing was removed");
        running.end(true);
        disk.crash();
        let running = open(&disk);
        for sequence in 0..9 {
            let lives = [2, 7, 8].contains(&sequence);
            assert_eq!(
                check(&running.shared, sequence).is_ok(),
                lives,
                "{sequence} is back or lost"
            );
        }
        check(&running.shared, 20).expect("it was acknowledged");
        assert_eq!(crate::lock::lock(&running.shared.ledger).damage(), []);
        running.end(false);
    });
}

#[test]
fn a_delete_that_nobody_waits_for_any_more_is_left_out() {
    explore(50, || {
        let running = open(&SimulatedDisk::new(1));
        append(&running.queue, 1, true).expect("appended");
        let (answer, answered) = oneshot::channel();
        drop(answered);
        let kind = JobKind::Delete { extents: vec![extent(1)] };
        running.queue.push(Job { kind, answer, permit: None }).map_err(drop).expect("taken");
        ask(&running.queue, JobKind::Sync).expect("synced");
        check(&running.shared, 1).expect("who asked has decided otherwise by now");
        ask(&running.queue, JobKind::Delete { extents: vec![extent(1)] }).expect("deleted");
        assert!(check(&running.shared, 1).is_err());
        running.end(false);
    });
}

#[test]
fn a_queue_that_closes_answers_or_refuses_every_job() {
    explore(300, || {
        let disk = SimulatedDisk::new(1);
        let running = open(&disk);
        let clients: Vec<_> = (0..3)
            .map(|client| {
                let queue = Arc::clone(&running.queue);
                thread::spawn(move || append(&queue, client, true).ok().map(|_| client))
            })
            .collect();
        let shared = Arc::clone(&running.shared);
        running.end(false);
        // Each of them comes back; who was told that it is done is right.
        let done: Vec<u32> =
            clients.into_iter().filter_map(|client| client.join().expect("no panic")).collect();
        drop(shared);
        disk.crash();
        let running = open(&disk);
        for sequence in done {
            check(&running.shared, sequence).expect("it was acknowledged");
        }
        running.end(false);
    });
}
