//! Snapshot and replay give the same tables (I-11).

use std::sync::Arc;

use metadata::raft::Machine;
use metadata::raft::types::{Batch, Entry, LeaderId, LogId};
use metadata::replica::{DIRECTORY, OpenError, Replica};
use metadata::state::{Fence, SnapshotFile, StateError, StateMachine};
use model::command::{Command, CommandEnvelope, CommandId};
use model::ids::ReplicaId;
use model::time::Timestamp;
use openraft::RaftSnapshotBuilder;
use openraft::entry::RaftEntry;
use openraft::storage::RaftStateMachine;
use wire::clock::{Clock, SystemClock};
use wire::disk::{Disk, RealDisk};

/// A state machine on a directory of its own.
pub fn machine() -> (tempfile::TempDir, StateMachine) {
    let root = tempfile::tempdir().expect("made");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(root.path()).expect("opened"));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let machine = StateMachine::create(disk, clock, Arc::new(Fence::default())).expect("made");
    (root, machine)
}

/// An entry with these commands, outside any session.
pub fn entry(index: u64, commands: Vec<Command>) -> Entry {
    let envelopes: Vec<CommandEnvelope> = commands
        .into_iter()
        .map(|command| CommandEnvelope {
            id: CommandId::default(),
            acknowledged_below: 0,
            proposed: Timestamp(index * 1000),
            command,
        })
        .collect();
    let encoded = Batch::encode(&envelopes);
    let id = LogId::new(LeaderId { term: 1, node_id: 1 }, index);
    Entry::new_normal(id, Batch::new(envelopes, &[encoded]))
}

/// Applies entries in groups of `group`.
pub fn feed(machine: &StateMachine, entries: &[Entry], group: usize) {
    for chunk in entries.chunks(group) {
        machine.take(chunk.iter().map(|entry| (entry.clone(), None)).collect());
        machine.flush().expect("applied");
    }
}

#[test]
fn a_snapshot_and_replay_give_the_same_tables() {
    let entries: Vec<Entry> = crate::model_apply::history(11, 400)
        .chunks(5)
        .zip(1..)
        .map(|(commands, index)| entry(index, commands.to_vec()))
        .collect();
    let (_one, whole) = machine();
    feed(&whole, &entries, 1);
    let (_two, first) = machine();
    feed(&first, &entries[..50], 7);
    let snapshot = first.build_snapshot().expect("built");
    let (root, second) = machine();
    second.install(&snapshot).expect("installed");
    feed(&second, &entries[50..], 13);
    let (expected, found) = (whole.summary().expect("told"), second.summary().expect("told"));
    assert_eq!(expected.applied, found.applied);
    assert_eq!(expected.digests, found.digests);
    second.verify_tables().expect("whole");
    assert!(expected.digests.0.iter().map(|digest| digest.rows).sum::<u64>() > 100);

    // What was installed is there after a stop.
    second.checkpoint().expect("durable");
    drop(second);
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(root.path()).expect("opened"));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let again = StateMachine::open(disk, clock, Arc::new(Fence::default())).expect("opened");
    assert_eq!(again.summary().expect("told").digests, expected.digests);
}

#[test]
fn a_damaged_snapshot_is_refused() {
    let (root, source) = machine();
    let commands = crate::model_apply::history(12, 100);
    feed(&source, &[entry(1, commands)], 1);
    source.build_snapshot().expect("built");
    let path = root.path().join("snapshot");
    let good = std::fs::read(&path).expect("read");
    for at in (0..good.len()).step_by(97) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&path, &bad).expect("written");
        let disk = RealDisk::open(root.path()).expect("opened");
        let snapshot = SnapshotFile::current(&disk).expect("read").expect("there");
        let (_other, target) = machine();
        // Eight bytes of the header are spare.
        let is_spare = (8..16).contains(&at);
        assert_eq!(target.install(&snapshot).is_ok(), is_spare, "byte {at}");
        assert_eq!(target.fence().is_set(), !is_spare);
    }
}

#[test]
fn after_a_crash_the_state_is_whole_and_replay_completes_it() {
    let entries: Vec<Entry> = crate::model_apply::history(13, 300)
        .chunks(3)
        .zip(1..)
        .map(|(commands, index)| entry(index, commands.to_vec()))
        .collect();
    let (root, machine) = machine();
    feed(&machine, &entries[..40], 4);
    machine.checkpoint().expect("durable");
    feed(&machine, &entries[40..], 4);
    let expected = machine.summary().expect("told");
    // What a crash leaves: the file as it is, without what is only in memory.
    let copy = tempfile::tempdir().expect("made");
    std::fs::copy(root.path().join("state.redb"), copy.path().join("state.redb")).expect("copied");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(copy.path()).expect("opened"));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let again = StateMachine::open(disk, clock, Arc::new(Fence::default())).expect("opened");
    again.verify_tables().expect("whole");
    let applied = again.applied().expect("told").last.expect("some").index;
    assert!(applied >= 40, "{applied}");
    feed(&again, &entries[applied as usize..], 9);
    assert_eq!(again.summary().expect("told").digests, expected.digests);
}

fn covered(root: &tempfile::TempDir) -> Option<u64> {
    let disk = RealDisk::open(root.path()).expect("opened");
    let current = SnapshotFile::current(&disk).expect("read")?;
    current.meta().expect("whole").last_log_id.map(|id| id.index)
}

#[test]
fn an_older_snapshot_never_takes_the_place_of_a_newer_one() {
    let entries: Vec<Entry> = crate::model_apply::history(14, 60)
        .chunks(3)
        .zip(1..)
        .map(|(commands, index)| entry(index, commands.to_vec()))
        .collect();
    let (_other_root, other) = machine();
    feed(&other, &entries[..5], 5);
    let five = other.build_snapshot().expect("built");
    feed(&other, &entries[5..15], 5);
    let fifteen = other.build_snapshot().expect("built");
    let (root, machine) = machine();
    feed(&machine, &entries[..10], 5);
    machine.build_snapshot().expect("built");
    machine.keep_snapshot(&five).expect("put aside");
    assert_eq!(covered(&root), Some(10));
    machine.keep_snapshot(&fifteen).expect("kept");
    assert_eq!(covered(&root), Some(15));
    // One that was begun before that one came.
    machine.build_snapshot().expect("put aside");
    assert_eq!(covered(&root), Some(15));
    let names = machine.disk().list().expect("listed");
    assert!(!names.iter().any(|name| name.contains(".tmp")), "{names:?}");
}

#[test]
fn a_snapshot_that_cant_be_written_fences_nothing() {
    let commands = crate::model_apply::history(15, 60);
    let (root, machine) = machine();
    feed(&machine, &[entry(1, commands)], 1);
    machine.build_snapshot().expect("built");
    feed(&machine, &[entry(2, Vec::new())], 1);
    // Nothing can be made under this name.
    let blocked = root.path().join("snapshot.tmp");
    std::fs::create_dir(&blocked).expect("made");
    let error = machine.build_snapshot().err().expect("blocked");
    assert!(matches!(error, StateError::Io(_)), "{error}");
    assert!(!machine.fence().is_set());
    assert_eq!(covered(&root), Some(1));
    std::fs::remove_dir(&blocked).expect("removed");
    machine.build_snapshot().expect("built");
    assert_eq!(covered(&root), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn raft_goes_on_when_a_snapshot_cant_be_written() {
    let (root, machine) = machine();
    feed(&machine, &[entry(1, crate::model_apply::history(16, 60))], 1);
    machine.build_snapshot().expect("built");
    feed(&machine, &[entry(2, Vec::new())], 1);
    std::fs::create_dir(root.path().join("snapshot.tmp")).expect("made");
    let mut adaptor = Machine(Arc::new(machine));
    let mut builder = adaptor.try_create_snapshot_builder(false).await.expect("there is space");
    let built = builder.build_snapshot().await.expect("the one before");
    assert_eq!(built.meta.last_log_id.map(|id| id.index), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_a_snapshot_is_installed_damages_nothing() {
    let entries: Vec<Entry> = crate::model_apply::history(17, 60)
        .chunks(3)
        .zip(1..)
        .map(|(commands, index)| entry(index, commands.to_vec()))
        .collect();
    let (_other_root, other) = machine();
    feed(&other, &entries[..12], 5);
    let snapshot = other.build_snapshot().expect("built");
    let expected = other.summary().expect("told").digests;
    for (is_kept, is_installed) in [(true, false), (true, true), (false, true)] {
        let root = tempfile::tempdir().expect("made");
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(root.path()).expect("opened"));
        let world = crate::restore::world();
        let replica = Replica::create_joining(&world, &disk, ReplicaId(4)).await.expect("made");
        replica.shutdown().await;
        drop(replica);
        let directory = disk.subdirectory(DIRECTORY).expect("there");
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let machine =
            StateMachine::open(directory, clock, Arc::new(Fence::default())).expect("opened");
        if is_kept {
            machine.keep_snapshot(&snapshot).expect("kept");
        }
        if is_installed {
            machine.install(&snapshot).expect("installed");
        }
        drop(machine);
        let opened = Replica::open(&world, &disk).await;
        if is_kept {
            let replica = opened.expect("opened");
            assert_eq!(replica.machine().summary().expect("told").digests, expected);
            replica.shutdown().await;
        } else {
            // Nothing says where this state is from: the log may have lost what it must hold.
            assert!(matches!(opened.err(), Some(OpenError::Damaged { .. })));
        }
    }
}
