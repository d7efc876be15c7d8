//! Snapshot and replay give the same tables (I-11).

use std::sync::Arc;

use metadata::raft::types::{Batch, Entry, LeaderId, LogId};
use metadata::state::{Fence, SnapshotFile, StateMachine};
use model::command::{Command, CommandEnvelope, CommandId};
use model::time::Timestamp;
use openraft::entry::RaftEntry;
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
