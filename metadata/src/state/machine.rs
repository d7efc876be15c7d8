//! The state machine of one replica: takes committed entries, applies them in bulk, answers.
//!
//! In: committed entries, some with a proposer that waits. Out: outcomes to those, views of the
//! tables to queries. What always holds: the applied position is written in the same transaction
//! as what it covers; any failure of the tables, or a panic in the database, fences the replica.
//!
//! Followers only keep what is committed and write it in bulk, in one transaction, when there is
//! enough of it or somebody needs the state. After a crash, the log replays what was lost.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError};

use openraft::EntryPayload;
use openraft::storage::{ApplyResponder, EntryResponder};
use redb::Database;
use tokio::sync::{Notify, oneshot};
use wire::clock::Clock;
use wire::disk::Disk;

use super::backend::Blocks;
use super::database::{self, Applied, Attached};
use super::install::Staged;
use super::restraint::Restraint;
use super::{Fence, StateError};
use crate::apply::{Directory, Memory, apply};
use crate::limits::{APPLY_BYTES_MAX, APPLY_COMMANDS_MAX, CAPTURES_MAX, CHECKPOINT_COMMANDS};
use crate::raft::types::{LogId, Outcomes, StoredConfig, StoredLogId, TypeConfig};
use crate::tables::{Digests, Tables, View};

/// The state's file.
pub(crate) const STATE_FILE: &str = "state.redb";

/// A new state's file, until it takes the old one's place.
pub(super) const NEW_STATE_FILE: &str = "state.new";

/// Entries with those who wait for them.
pub type Entries = Vec<EntryResponder<TypeConfig>>;

/// The state machine. Shared by Raft's adaptor, the service and the flushing task.
pub struct StateMachine {
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    fence: Arc<Fence>,
    state: Mutex<State>,
    /// Committed, not yet in the tables. Its lock is taken after that of `state`, if both are.
    pending: Mutex<Pending>,
    pending_arrived: Notify,
    directory: Arc<RwLock<Directory>>,
    /// The same as in `state`, for views: they don't wait for a commit.
    database: RwLock<Arc<Database>>,
    /// What that database lives in.
    blocks: RwLock<Blocks>,
    shared: Mutex<Shared>,
    /// Who waits for the state as of an entry that isn't applied yet. Its lock is taken after that
    /// of `state`.
    captures: Mutex<Captures>,
    /// Held while a snapshot gets its name.
    pub(super) publishing: Mutex<()>,
    /// Held while a snapshot is built: there is one name for one that isn't whole yet.
    pub(super) building: Mutex<()>,
    /// What a snapshot that came from another replica was made into, until it is installed.
    pub(super) staged: Mutex<Option<Staged>>,
    restraint: Restraint,
}

/// Those who wait, by the entry's index.
type Captures = BTreeMap<u64, Vec<oneshot::Sender<Captured>>>;

/// The state as of one entry.
pub struct Captured {
    /// That entry.
    pub applied: Applied,
    /// The digests that were kept up to it.
    pub digests: Digests,
    /// The tables.
    pub view: View,
}

/// The view that queries share until the next commit.
#[derive(Default)]
struct Shared {
    view: Option<Arc<View>>,
    /// Counts commits.
    generation: u64,
}

/// What a transaction changes.
pub(super) struct State {
    pub(super) database: Arc<Database>,
    pub(super) memory: Memory,
    pub(super) digests: Digests,
    pub(super) applied: Applied,
    /// Commands since the state was made durable.
    unsynced: u64,
}

#[derive(Default)]
struct Pending {
    entries: VecDeque<EntryResponder<TypeConfig>>,
    commands: usize,
    bytes: usize,
    /// Whether Raft counts some of these as applied already.
    is_owed: bool,
    /// Whether what Raft counts as applied was taken from here and isn't visible yet.
    is_being_written: bool,
}

impl Pending {
    /// Takes what is to be written; until [`StateMachine::finish_writing`], it still counts as
    /// pending where Raft counts it as applied.
    fn begin_writing(&mut self) -> Self {
        let taken = std::mem::take(self);
        // What an earlier write that failed took is never visible: that replica is fenced.
        self.is_being_written = taken.is_owed || taken.is_being_written;
        taken
    }
}

impl StateMachine {
    /// Makes an empty state on `disk`.
    pub fn create(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        fence: Arc<Fence>,
    ) -> Result<Self, StateError> {
        let attached = guarded(|| database::create(&*disk, STATE_FILE))?;
        disk.sync_directory()?;
        Self::with(disk, clock, fence, attached)
    }

    /// Opens and checks the state on `disk`.
    pub fn open(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        fence: Arc<Fence>,
    ) -> Result<Self, StateError> {
        let attached = guarded(|| database::open(&*disk, STATE_FILE))?;
        Self::with(disk, clock, fence, attached)
    }

    fn with(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        fence: Arc<Fence>,
        attached: Attached,
    ) -> Result<Self, StateError> {
        let directory = Arc::new(RwLock::new(Directory::default()));
        let Attached { database, blocks } = attached;
        let state = guarded(|| State::load(Arc::new(database), Arc::clone(&directory)))?;
        let database = RwLock::new(Arc::clone(&state.database));
        Ok(Self {
            disk,
            clock,
            fence,
            state: Mutex::new(state),
            pending: Mutex::default(),
            pending_arrived: Notify::new(),
            directory,
            database,
            blocks: RwLock::new(blocks),
            shared: Mutex::default(),
            captures: Mutex::default(),
            publishing: Mutex::default(),
            building: Mutex::default(),
            staged: Mutex::default(),
            restraint: Restraint::default(),
        })
    }

    /// The disk that holds the state.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// The replica's fence.
    pub fn fence(&self) -> &Arc<Fence> {
        &self.fence
    }

    /// The time.
    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// What says when no snapshot is made.
    pub fn restraint(&self) -> &Restraint {
        &self.restraint
    }

    /// The blocks of the state's file as it is now.
    pub(crate) fn blocks(&self) -> Blocks {
        self.blocks.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Buckets and cluster map as they are now.
    pub fn directory(&self) -> std::sync::RwLockReadGuard<'_, Directory> {
        self.directory.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes committed entries without writing them; says whether they should be written now, as
    /// somebody waits or there are enough.
    pub fn take(&self, entries: Entries) -> Taken {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let mut is_awaited = false;
        for (entry, responder) in entries {
            is_awaited |= responder.is_some();
            if let EntryPayload::Normal(batch) = &entry.payload {
                pending.commands += batch.commands().len();
                pending.bytes += batch.encoded().len();
            }
            pending.entries.push_back((entry, responder));
        }
        let taken = Taken {
            commands: pending.commands,
            is_due: is_awaited
                || pending.commands >= APPLY_COMMANDS_MAX
                || pending.bytes >= APPLY_BYTES_MAX
                || pending.entries.len() >= APPLY_COMMANDS_MAX,
        };
        // Raft counts what is due as applied when it is written, the rest from now on.
        pending.is_owed |= !taken.is_due;
        drop(pending);
        if !taken.is_due {
            self.pending_arrived.notify_one();
        }
        taken
    }

    /// Whether something that Raft may count as applied isn't in the tables, or not visible yet.
    pub fn has_pending(&self) -> bool {
        let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.is_being_written || !pending.entries.is_empty()
    }

    /// Ends when everything that Raft counts as applied is visible, in the tables and in the
    /// directory. Blocks on the disk, also for a write that is under way.
    pub fn catch_up(&self) -> Result<(), StateError> {
        if self.has_pending() { self.flush() } else { Ok(()) }
    }

    fn finish_writing(&self) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.is_being_written = false;
    }

    /// Ends when entries were taken that nobody waits for.
    pub async fn pending_arrived(&self) {
        self.pending_arrived.notified().await;
    }

    /// Writes everything pending in one transaction and answers those who wait.
    pub fn flush(&self) -> Result<(), StateError> {
        let mut state = self.lock()?;
        self.flush_locked(&mut state)
    }

    /// Writes everything pending, if the state isn't in use elsewhere; says whether it did.
    pub fn try_flush(&self) -> Result<bool, StateError> {
        if self.fence.is_set() {
            return Err(StateError::Fenced);
        }
        match self.state.try_lock() {
            Ok(mut state) => self.flush_locked(&mut state).map(|()| true),
            Err(_) => Ok(false),
        }
    }

    /// Whether enough was written since the state was last made durable.
    pub fn is_checkpoint_due(&self) -> bool {
        let state = self.state.try_lock();
        state.is_ok_and(|state| state.unsynced >= CHECKPOINT_COMMANDS)
    }

    /// Makes the state durable, with all that is pending. Blocks on the disk.
    pub fn checkpoint(&self) -> Result<(), StateError> {
        let mut state = self.lock()?;
        self.flush_locked(&mut state)?;
        self.checkpoint_locked(&mut state)
    }

    /// The applied position, with all that is pending.
    pub fn applied(&self) -> Result<Applied, StateError> {
        let mut state = self.lock()?;
        self.flush_locked(&mut state)?;
        Ok(state.applied.clone())
    }

    /// What is kept beside the tables: applied position, digests, totals. Blocks on the disk, and for
    /// as long as the state is in use.
    pub fn summary(&self) -> Result<Summary, StateError> {
        let mut state = self.lock()?;
        self.summary_locked(&mut state)
    }

    /// The same; `None` while the state is in use: whoever asks doesn't wait for what is applied or
    /// installed.
    pub fn try_summary(&self) -> Result<Option<Summary>, StateError> {
        if self.fence.is_set() {
            return Err(StateError::Fenced);
        }
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(None),
        };
        self.summary_locked(&mut state).map(Some)
    }

    fn summary_locked(&self, state: &mut State) -> Result<Summary, StateError> {
        self.flush_locked(state)?;
        Ok(Summary {
            applied: state.applied.clone(),
            digests: state.digests,
            objects: state.memory.counters.objects,
            object_bytes: state.memory.counters.object_bytes,
        })
    }

    /// A view of everything that is committed; shared until the next change.
    pub fn view(&self) -> Result<Arc<View>, StateError> {
        self.catch_up()?;
        let generation = {
            let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(view) = &shared.view {
                return Ok(Arc::clone(view));
            }
            shared.generation
        };
        let database = Arc::clone(&self.database.read().unwrap_or_else(PoisonError::into_inner));
        let view = Arc::new(self.fenced(|| View::new(&database))?);
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        // A view from before a commit must not be given to those who come after it.
        if shared.generation == generation {
            shared.view = Some(Arc::clone(&view));
        }
        Ok(view)
    }

    fn outdate_views(&self) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.view = None;
        shared.generation += 1;
    }

    /// Runs a query's work on a view: damage and panics fence the replica.
    pub fn read<T>(
        &self,
        work: impl FnOnce(&View) -> Result<T, StateError>,
    ) -> Result<T, StateError> {
        if self.fence.is_set() {
            return Err(StateError::Fenced);
        }
        let view = self.view()?;
        self.fenced(|| work(&view))
    }

    /// Reads every row and compares with the digests; damage fences the replica.
    pub fn verify_tables(&self) -> Result<(), StateError> {
        let (view, expected) = {
            let mut state = self.lock()?;
            self.flush_locked(&mut state)?;
            (self.fenced(|| View::new(&state.database))?, state.digests)
        };
        self.fenced(|| {
            let found = view.digests()?;
            if found == expected {
                Ok(())
            } else {
                Err(StateError::Damaged("the tables don't match their digests".to_owned()))
            }
        })
    }

    /// The state as of the entry at `at`: now, or when that is applied. `None` when it was applied
    /// before and others after it, or when too many wait. If a snapshot jumps over the entry, the
    /// sender is dropped.
    pub fn capture_at(&self, at: u64) -> Result<Option<oneshot::Receiver<Captured>>, StateError> {
        let mut state = self.lock()?;
        self.flush_locked(&mut state)?;
        if state.applied.last.is_some_and(|id| id.index > at) {
            return Ok(None);
        }
        let (sender, receiver) = oneshot::channel();
        {
            let mut captures = self.captures.lock().unwrap_or_else(PoisonError::into_inner);
            captures.retain(|_, waiting| {
                waiting.retain(|sender| !sender.is_closed());
                !waiting.is_empty()
            });
            if captures.values().map(Vec::len).sum::<usize>() >= CAPTURES_MAX {
                return Ok(None);
            }
            captures.entry(at).or_default().push(sender);
        }
        self.capture(&state)?;
        Ok(Some(receiver))
    }

    /// The first entry that somebody waits for.
    fn next_capture(&self) -> Option<u64> {
        let captures = self.captures.lock().unwrap_or_else(PoisonError::into_inner);
        captures.first_key_value().map(|(at, _)| *at)
    }

    /// Gives the state to those who wait for it as it is now.
    fn capture(&self, state: &State) -> Result<(), StateError> {
        let Some(index) = state.applied.last.map(|id| id.index) else {
            return Ok(());
        };
        let due = {
            let mut captures = self.captures.lock().unwrap_or_else(PoisonError::into_inner);
            let later = captures.split_off(&(index + 1));
            std::mem::replace(&mut *captures, later)
        };
        // Those who wait for something earlier hear that it is past.
        for sender in due.into_iter().filter(|(at, _)| *at == index).flat_map(|(_, all)| all) {
            let view = self.fenced(|| View::new(&state.database))?;
            let (applied, digests) = (state.applied.clone(), state.digests);
            // Whoever asked may be gone.
            let _ = sender.send(Captured { applied, digests, view });
        }
        Ok(())
    }

    /// A view for a snapshot, durable with all before it, so that the log may be purged.
    pub(super) fn durable_view(&self) -> Result<View, StateError> {
        let mut state = self.lock()?;
        self.flush_locked(&mut state)?;
        self.checkpoint_locked(&mut state)?;
        self.fenced(|| View::new(&state.database))
    }

    /// Replaces the whole state by `next`, which takes the old one's place by `rename`.
    pub(super) fn replace(
        &self,
        next: Attached,
        rename: impl FnOnce() -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        let mut state = self.lock()?;
        // What was pending is covered by the snapshot.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).begin_writing();
        let Attached { database, blocks } = next;
        let next = self.fenced(|| {
            rename()?;
            State::load(Arc::new(database), Arc::clone(&self.directory))
        })?;
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&next.database);
        *self.blocks.write().unwrap_or_else(PoisonError::into_inner) = blocks;
        *state = next;
        self.outdate_views();
        self.finish_writing();
        self.capture(&state)?;
        Ok(())
    }

    fn lock(&self) -> Result<MutexGuard<'_, State>, StateError> {
        if self.fence.is_set() {
            return Err(StateError::Fenced);
        }
        Ok(self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn checkpoint_locked(&self, state: &mut State) -> Result<(), StateError> {
        if state.unsynced > 0 {
            let database = Arc::clone(&state.database);
            self.fenced(|| database::checkpoint(&database))?;
            state.unsynced = 0;
        }
        Ok(())
    }

    fn flush_locked(&self, state: &mut State) -> Result<(), StateError> {
        let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner).begin_writing();
        if pending.entries.is_empty() {
            return Ok(());
        }
        let started = self.clock.monotonic();
        let mut entries = pending.entries;
        let mut answers = Vec::new();
        while !entries.is_empty() {
            // One transaction, but for those who want to see the state in between.
            let count = self.next_capture().map_or(entries.len(), |at| {
                entries.iter().take_while(|(entry, _)| entry.log_id.index <= at).count().max(1)
            });
            let now = entries.drain(..count).collect::<Vec<_>>();
            answers.extend(self.fenced(|| state.write(now))?);
            self.outdate_views();
            self.capture(state)?;
        }
        self.finish_writing();
        let spent = self.clock.monotonic().saturating_sub(started);
        metrics::histogram!("drystone_metadata_apply_seconds").record(spent.as_secs_f64());
        metrics::histogram!("drystone_metadata_apply_commands").record(pending.commands as f64);
        for (responder, outcomes) in answers {
            responder.send(outcomes);
        }
        Ok(())
    }

    /// Runs work on the database; an error or panic fences the replica.
    pub(super) fn fenced<T>(
        &self,
        work: impl FnOnce() -> Result<T, StateError>,
    ) -> Result<T, StateError> {
        guarded(work).inspect_err(|error| self.fence.set(&error.to_string()))
    }
}

/// What [`StateMachine::take`] found.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// Commands that wait to be written.
    pub commands: usize,
    /// Whether they should be written now.
    pub is_due: bool,
}

/// What is known of the tables without reading them.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// The applied position.
    pub applied: Applied,
    /// Rows and digest of each table at that position.
    pub digests: Digests,
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub object_bytes: u64,
}

/// Turns a panic of the database, which asserts what a damaged file breaks, into damage.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T, StateError>) -> Result<T, StateError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(StateError::Damaged(format!("the database panicked: {text}")))
    })
}

type Answer = (ApplyResponder<TypeConfig>, Outcomes);

impl State {
    fn load(
        database: Arc<Database>,
        directory: Arc<RwLock<Directory>>,
    ) -> Result<Self, StateError> {
        let (applied, digests) = database::read_applied(&database)?;
        let memory = Memory::load(&View::new(&database)?, directory)?;
        Ok(Self { database, memory, digests, applied, unsynced: 0 })
    }

    /// Applies entries in one transaction.
    fn write(
        &mut self,
        entries: impl IntoIterator<Item = EntryResponder<TypeConfig>>,
    ) -> Result<Vec<Answer>, StateError> {
        let transaction = database::begin(&self.database)?;
        let mut tables = Tables::new(&transaction, self.digests);
        let mut answers = Vec::new();
        for (entry, responder) in entries {
            let mut outcomes = Vec::new();
            match &entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(batch) => {
                    self.unsynced += batch.commands().len() as u64;
                    for envelope in batch.commands() {
                        outcomes.push(apply(&mut tables, &mut self.memory, envelope)?);
                    }
                }
                EntryPayload::Membership(membership) => {
                    self.applied.membership = StoredConfig::new(Some(entry.log_id), membership);
                }
            }
            self.unsynced += 1;
            self.applied.last = Some(StoredLogId::from(entry.log_id));
            if let Some(responder) = responder {
                answers.push((responder, Outcomes(outcomes)));
            }
        }
        self.memory.save(&mut tables)?;
        self.digests = tables.digests();
        drop(tables);
        database::write_applied(&transaction, &self.applied, self.digests)?;
        transaction.commit()?;
        Ok(answers)
    }
}

/// The position of an applied state, as Raft has it.
pub(crate) fn last_applied(applied: &Applied) -> Option<LogId> {
    applied.last.map(LogId::from)
}

#[cfg(test)]
mod tests {
    use wire::clock::SystemClock;
    use wire::disk::RealDisk;

    use super::*;

    #[test]
    fn a_summary_waits_for_nobody() {
        let root = tempfile::tempdir().expect("made");
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(root.path()).expect("opened"));
        let clock = Arc::new(SystemClock::new());
        let machine = StateMachine::create(disk, clock, Arc::default()).expect("created");
        let summary = machine.try_summary().expect("well").expect("free");
        assert_eq!(summary.objects, 0);
        let busy = machine.lock().expect("well");
        // In the same thread: waiting would be for ever.
        assert!(machine.try_summary().expect("well").is_none());
        drop(busy);
        assert!(machine.try_summary().expect("well").is_some());
        machine.fence.set("a test");
        assert!(matches!(machine.try_summary(), Err(StateError::Fenced)));
    }
}
