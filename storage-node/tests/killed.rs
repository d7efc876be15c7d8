//! A real process on a real directory, killed at every change that it makes to the disk.
//!
//! The test runs its own executable as a child, which works on a directory and tells on its
//! standard output what was acknowledged to it, until it kills itself at the n-th change. The
//! parent then opens the directory and compares. So every step of append, sync, checkpoint,
//! compaction and removal of a segment is a fail point, before it is done and after.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use model::shard::ShardError;
use storage_node::{Store, StoreOptions, Switches};
use wire::disk::{Disk, RealDisk};
use wire::entropy::{Entropy, SystemEntropy};

use crate::lethal::Lethal;
use crate::world::{extent, id, open_with, put, shard, small, wait, whole};

const DIRECTORY: &str = "DRYSTONE_KILLED_DIRECTORY";
const CHANGES: &str = "DRYSTONE_KILLED_CHANGES";
const AFTER: &str = "DRYSTONE_KILLED_AFTER";

/// How many extents the child writes, of three shards each.
const EXTENTS: u32 = 12;
/// One change in so many is a fail point in a test; by hand it is every one.
const STRIDE: i64 = 19;

fn options() -> StoreOptions {
    let switches = Switches { in_step: true, ..Switches::default() };
    StoreOptions {
        segment_bytes: 16 << 10,
        checkpoint_log_bytes: 20 << 10,
        grace: Duration::ZERO,
        compaction_bytes_per_second: 0,
        switches,
        ..small()
    }
}

fn length(sequence: u32, stripe: u16) -> usize {
    700 + 513 * sequence as usize % 4000 + 100 * usize::from(stripe)
}

fn tell(what: &str, sequence: u32) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{what} {sequence}").and_then(|()| out.flush()).expect("the parent listens");
}

/// What the child does: every kind of work, with a restart in the middle.
fn work(disk: &Arc<dyn Disk>) {
    for half in 0..2 {
        let store = open_with(Arc::clone(disk), options()).expect("opened");
        for sequence in half * EXTENTS / 2..(half + 1) * EXTENTS / 2 {
            one(&store, sequence);
        }
        store.close();
    }
}

/// One extent: written in part with a sync and in part without; every third is deleted again.
fn one(store: &Store, sequence: u32) {
    put(store, id(1, sequence, 0), length(sequence, 0)).expect("put");
    let rest = (1..3).map(|stripe| shard(id(1, sequence, stripe), length(sequence, stripe)));
    let (run, position) = wait(store.append(rest.collect(), false)).expect("appended");
    wait(store.sync(run, position)).expect("synced");
    tell("kept", sequence);
    if sequence % 3 == 2 {
        wait(store.delete(vec![extent(1, sequence - 1)])).expect("deleted");
        tell("gone", sequence - 1);
        store.look_after();
    }
    if sequence % 4 == 3 {
        wait(store.compact()).expect("compacted");
    }
    if sequence % 5 == 4 {
        wait(store.checkpoint()).expect("checkpoint");
    }
}

#[expect(clippy::disallowed_methods, reason = "a parent talks to its child")]
fn told(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn number(name: &str) -> i64 {
    told(name).and_then(|text| text.parse().ok()).unwrap_or(i64::MAX)
}

/// Not a test by itself: what the others run as another process.
#[test]
#[ignore = "is run by the tests beside it, as their child"]
fn child() {
    let Some(directory) = told(DIRECTORY) else { return };
    let disk = RealDisk::create(Path::new(&directory)).expect("created");
    let disk: Arc<dyn Disk> = Arc::new(Lethal::new(disk, number(CHANGES), number(AFTER) == 1));
    work(&disk);
    tell("survived", 0);
}

/// What a child said before it died.
#[derive(Default)]
struct Said {
    kept: BTreeSet<u32>,
    gone: BTreeSet<u32>,
    survived: bool,
}

fn run_child(directory: &Path, changes: i64, after: bool) -> Said {
    let output = Command::new(std::env::current_exe().expect("this executable"))
        .args(["--exact", "killed::child", "--ignored", "--nocapture", "--test-threads", "1"])
        .env(DIRECTORY, directory)
        .env(CHANGES, changes.to_string())
        .env(AFTER, i32::from(after).to_string())
        .stderr(Stdio::null())
        .output()
        .expect("the child runs");
    let mut said = Said::default();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        match line.split_once(' ').and_then(|(what, number)| Some((what, number.parse().ok()?))) {
            Some(("kept", sequence)) => drop(said.kept.insert(sequence)),
            Some(("gone", sequence)) => drop(said.gone.insert(sequence)),
            Some(("survived", _)) => said.survived = true,
            _ => {}
        }
    }
    assert!(said.survived || !output.status.success(), "the child ended early by itself");
    said
}

/// Opens what a child left, and compares it with what was acknowledged to it.
fn compare(directory: &Path, said: &Said, when: &str) {
    let disk = Arc::new(RealDisk::create(directory).expect("a directory"));
    let store = open_with(disk, options()).unwrap_or_else(|error| panic!("{when}: {error}"));
    let mut shards = 0;
    for sequence in 0..EXTENTS {
        for stripe in 0..3 {
            let outcome = whole(&store, id(1, sequence, stripe), length(sequence, stripe));
            shards += u64::from(outcome.is_ok());
            match outcome {
                Ok(()) => assert!(!said.gone.contains(&sequence), "{when}: {sequence} is back"),
                Err(ShardError::NotFound(..)) => {
                    // A deletion that was asked for, or done, and not acknowledged.
                    let open = !said.kept.contains(&sequence) || sequence % 3 == 1;
                    assert!(open, "{when}: extent {sequence} is lost");
                }
                Err(error) => panic!("{when}: {error}"),
            }
        }
    }
    assert_eq!(store.damaged_regions(), [], "{when}");
    assert_eq!(store.report().shards, shards, "{when}");
    put(&store, id(2, 0, 0), 100).expect("it goes on");
    store.close();
}

/// Kills at one change in `stride`; gives how many deaths there were.
fn kill_at_every(stride: i64) -> u32 {
    let mut deaths = 0;
    let mut changes = 1 + SystemEntropy::new().below(stride.cast_unsigned()).cast_signed();
    loop {
        for after in [false, true] {
            let directory = tempfile::tempdir().expect("temporary directory");
            let said = run_child(directory.path(), changes, after);
            compare(directory.path(), &said, &format!("killed at change {changes}"));
            if said.survived {
                assert_eq!(said.gone.len() as u32, EXTENTS / 3);
                println!("{deaths} deaths, {changes} changes");
                return deaths;
            }
            deaths += 1;
        }
        changes += stride;
    }
}

#[test]
fn a_process_killed_at_any_change_has_lost_nothing_that_it_acknowledged() {
    assert!(kill_at_every(STRIDE) > 10, "the fail points are not reached");
}

#[test]
#[ignore = "minutes: every single change, by hand"]
fn a_process_killed_at_every_single_change() {
    assert!(kill_at_every(1) > 100, "the fail points are not reached");
}
