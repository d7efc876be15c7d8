//! Log and state of a replica through power failures, on a simulated disk that tears, loses and
//! reorders what wasn't synced; also through failures in the middle of recovery.
//!
//! What is checked after each: opening finds no damage; what was acknowledged is there, the vote is
//! no older one; what is applied was in the log, and replaying the rest gives the same tables as a
//! replica that never failed.

use std::sync::{Arc, OnceLock};

use metadata::raft::LogStore;
use metadata::raft::types::{Entry, LeaderId, LogId, Vote};
use metadata::raft_log::RaftLog;
use metadata::state::{Fence, StateMachine};
use metadata::tables::Digests;
use model::ids::ReplicaId;
use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use openraft::storage::RaftLogStorageExt;
use wire::clock::{Clock, SystemClock};
use wire::disk::{Disk, SimulatedDisk};
use wire::entropy::{Entropy, SeededEntropy};

use crate::harness::CLUSTER;
use crate::snapshots::entry;

/// Entries of a history, and the digests after each.
struct History {
    entries: Vec<Entry>,
    digests: Vec<Digests>,
}

const ENTRIES: usize = 150;

fn history() -> &'static History {
    static HISTORY: OnceLock<History> = OnceLock::new();
    HISTORY.get_or_init(|| {
        let commands = crate::model_apply::history(21, ENTRIES * 3);
        let entries: Vec<Entry> = commands
            .chunks(3)
            .zip(1..)
            .map(|(commands, index)| entry(index, commands.to_vec()))
            .take(ENTRIES)
            .collect();
        let (_root, machine) = crate::snapshots::machine();
        let mut digests = vec![machine.summary().expect("told").digests];
        for one in &entries {
            machine.take(vec![(one.clone(), None)]);
            machine.flush().expect("applied");
            digests.push(machine.summary().expect("told").digests);
        }
        History { entries, digests }
    })
}

/// The same entry as another term's leader writes it.
fn in_term(entry: &Entry, term: u64) -> Entry {
    let id = LogId::new(LeaderId { term, node_id: 1 }, entry.index());
    match &entry.payload {
        EntryPayload::Normal(batch) => Entry::new_normal(id, batch.clone()),
        EntryPayload::Blank | EntryPayload::Membership(_) => Entry::new_blank(id),
    }
}

struct Stores {
    log: Arc<RaftLog>,
    machine: Arc<StateMachine>,
    fence: Arc<Fence>,
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

impl Stores {
    fn create(disk: &SimulatedDisk) -> Self {
        let fence = Arc::new(Fence::default());
        let door: Arc<dyn Disk> = Arc::new(disk.clone());
        let machine = StateMachine::create(Arc::clone(&door), clock(), Arc::clone(&fence));
        let log_disk = door.subdirectory("raft-log").expect("made");
        let log = RaftLog::create(log_disk, CLUSTER, ReplicaId(1), clock(), Arc::clone(&fence));
        Self { log: log.expect("made"), machine: Arc::new(machine.expect("made")), fence }
    }

    fn open(disk: &SimulatedDisk) -> Result<Self, String> {
        let fence = Arc::new(Fence::default());
        let door: Arc<dyn Disk> = Arc::new(disk.clone());
        let machine = StateMachine::open(Arc::clone(&door), clock(), Arc::clone(&fence))
            .map_err(|error| format!("state: {error}"))?;
        let log_disk = door.subdirectory("raft-log").map_err(|error| error.to_string())?;
        let log = RaftLog::open(log_disk, CLUSTER, ReplicaId(1), clock(), Arc::clone(&fence))
            .map_err(|error| format!("log: {error}"))?;
        Ok(Self { log, machine: Arc::new(machine), fence })
    }
}

/// What must survive.
#[derive(Default)]
struct Promised {
    /// The last entry that was acknowledged, by its index; entries begin at 1.
    last: u64,
    /// All that were ever written at each index.
    written: Vec<Vec<Entry>>,
    /// Acknowledged term of the vote, and the last that was asked for.
    vote: (u64, u64),
    term: u64,
    /// Entries up to here may be applied: they never change any more.
    committed: u64,
}

/// Counts of what happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Crashes {
    pub all: u64,
    pub in_recovery: u64,
}

/// Lives of one replica, each ended by a power failure, until the history ends.
async fn live(seed: u64, lives: u64) -> Crashes {
    let entropy = SeededEntropy::new(seed);
    let disk = SimulatedDisk::new(seed);
    let mut stores = Stores::create(&disk);
    // A log begins at 0.
    let first = Entry::new_blank(LogId::new(LeaderId { term: 1, node_id: 1 }, 0));
    let appended = LogStore(Arc::clone(&stores.log)).blocking_append(vec![first.clone()]).await;
    appended.expect("appended");
    let mut promised = Promised { term: 1, ..Promised::default() };
    promised.written.resize(ENTRIES + 1, Vec::new());
    promised.written[0].push(first);
    let mut crashes = Crashes::default();
    for life in 0..lives {
        disk.cut_power_after(entropy.below(60));
        work(&stores, &mut promised, &entropy, &disk).await;
        // Whether it succeeds is no matter: the power is gone.
        let _ = stores.log.stop().await;
        drop(stores);
        disk.crash();
        crashes.all += 1;
        // Sometimes the power fails again while the replica recovers.
        while entropy.below(3) == 0 {
            disk.cut_power_after(entropy.below(8));
            if let Ok(half) = Stores::open(&disk) {
                let _ = half.machine.checkpoint();
                let _ = half.log.stop().await;
            }
            disk.crash();
            crashes.all += 1;
            crashes.in_recovery += 1;
        }
        stores = Stores::open(&disk).unwrap_or_else(|error| {
            panic!("seed {seed}, life {life}: {error}");
        });
        verify(&stores, &mut promised).unwrap_or_else(|error| {
            panic!("seed {seed}, life {life}: {error}");
        });
    }
    let _ = stores.log.stop().await;
    crashes
}

/// Does what Raft does, until the power fails.
async fn work(
    stores: &Stores,
    promised: &mut Promised,
    entropy: &SeededEntropy,
    disk: &SimulatedDisk,
) {
    let history = history();
    for _ in 0..40 {
        if disk.is_powerless() || stores.fence.is_set() {
            return;
        }
        let is_done = match entropy.below(12) {
            0 => {
                promised.term += 1;
                promised.vote.1 = promised.term;
                let leader_id = LeaderId { term: promised.term, node_id: 1 };
                let saved = stores.log.save_vote(Vote { leader_id, committed: true }).await;
                if saved.is_ok() {
                    promised.vote.0 = promised.term;
                }
                saved.is_ok()
            }
            // What isn't committed may be taken back.
            1 if promised.last > promised.committed => {
                let to = promised.committed + entropy.below(promised.last - promised.committed);
                promised.last = to;
                let last = stores.log.read(to..=to, usize::MAX).ok();
                let id = last.and_then(|last| last.first().map(RaftEntry::log_id));
                stores.log.truncate_after(id).await.is_ok()
            }
            2 => stores.machine.checkpoint().is_ok(),
            3 => match stores.machine.build_snapshot() {
                Ok(snapshot) => {
                    let covered = snapshot.meta().ok().and_then(|meta| meta.last_log_id);
                    match covered {
                        Some(id) if stores.log.purged().is_none_or(|old| old.index < id.index) => {
                            stores.log.purge(id).await.is_ok()
                        }
                        _ => true,
                    }
                }
                Err(_) => false,
            },
            4..=6 => apply(stores, promised, entropy, history),
            _ => {
                let first = promised.last + 1;
                let count = (1 + entropy.below(4)).min((ENTRIES as u64 + 1).saturating_sub(first));
                let batch: Vec<Entry> = (first..first + count)
                    .map(|index| in_term(&history.entries[index as usize - 1], promised.term))
                    .collect();
                for one in &batch {
                    promised.written[one.index() as usize].push(one.clone());
                }
                let appended =
                    LogStore(Arc::clone(&stores.log)).blocking_append(batch).await.is_ok();
                if appended {
                    promised.last += count;
                }
                appended
            }
        };
        if !is_done {
            return;
        }
    }
}

/// Commits some of what is acknowledged, and applies it.
fn apply(
    stores: &Stores,
    promised: &mut Promised,
    entropy: &SeededEntropy,
    history: &History,
) -> bool {
    let Ok(applied) = stores.machine.applied() else {
        return false;
    };
    let applied = applied.last.map_or(0, |id| id.index);
    let until = applied + entropy.below(promised.last - applied.min(promised.last) + 1);
    promised.committed = promised.committed.max(until);
    let Ok(entries) = stores.log.read(applied + 1..=until, usize::MAX) else {
        return false;
    };
    assert_eq!(entries.len() as u64, until - applied, "what isn't applied is in the log");
    assert!(history.entries.len() as u64 >= until);
    stores.machine.take(entries.into_iter().map(|entry| (entry, None)).collect());
    stores.machine.flush().is_ok()
}

fn verify(stores: &Stores, promised: &mut Promised) -> Result<(), String> {
    let history = history();
    let term = stores.log.vote().map_or(0, |vote| vote.leader_id.term);
    if term < promised.vote.0 || term > promised.vote.1 {
        return Err(format!("vote {term}, acknowledged {:?}", promised.vote));
    }
    promised.vote = (term, term);
    promised.term = promised.term.max(1);
    let last = stores.log.last().map_or(0, |id| id.index);
    if last < promised.last {
        return Err(format!("the log ends at {last}, acknowledged {}", promised.last));
    }
    // The first that the log has.
    let begin = stores.log.purged().map_or(0, |id| id.index + 1);
    let applied = stores.machine.applied().map_err(|error| error.to_string())?;
    let applied = applied.last.map_or(0, |id| id.index);
    if applied + 1 < begin || applied > last {
        return Err(format!("applied {applied}, log from {begin} to {last}"));
    }
    let found = stores.log.read(.., usize::MAX).map_err(|error| error.to_string())?;
    if !found.iter().map(RaftEntry::index).eq(begin..=last) {
        return Err(format!("the log has holes between {begin} and {last}"));
    }
    for one in &found {
        let index = one.index() as usize;
        let written = &promised.written[index];
        let is_known = if index as u64 <= promised.last {
            written.last() == Some(one)
        } else {
            written.contains(one)
        };
        if !is_known {
            return Err(format!("entry {index} isn't what was written"));
        }
    }
    stores.machine.verify_tables().map_err(|error| error.to_string())?;
    let summary = stores.machine.summary().map_err(|error| error.to_string())?;
    if summary.digests != history.digests[applied as usize] {
        return Err(format!("the tables at {applied} are others"));
    }
    // What was found is what there is from now on.
    promised.last = last;
    promised.committed = promised.committed.max(applied);
    for one in found {
        promised.written[one.index() as usize] = vec![one.clone()];
    }
    Ok(())
}

async fn run(seeds: std::ops::Range<u64>, lives: u64) -> Crashes {
    let mut total = Crashes::default();
    for seed in seeds {
        let crashes = live(seed, lives).await;
        total.all += crashes.all;
        total.in_recovery += crashes.in_recovery;
    }
    total
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_power_failure_loses_what_was_acknowledged() {
    let crashes = run(0..30, 8).await;
    assert!(crashes.all >= 240 && crashes.in_recovery >= 50, "{crashes:?}");
}

/// As many as are asked for by `DRYSTONE_CRASH_SEEDS`: `cargo test -p metadata --release --
/// --ignored power_failures_by_the_thousand --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn power_failures_by_the_thousand() {
    #[expect(clippy::disallowed_methods, reason = "a test's size")]
    let seeds =
        std::env::var("DRYSTONE_CRASH_SEEDS").map_or(1500, |text| text.parse().expect("a number"));
    let crashes = run(1000..1000 + seeds, 12).await;
    println!("{crashes:?}");
    assert!(crashes.in_recovery * 5 >= crashes.all, "{crashes:?}");
}
