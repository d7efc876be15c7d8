//! The life of one disk: random work, faults, ends and restarts, each compared with the model.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use model::ids::{PgId, ShardId};
use model::shard::{DiskHealth, ScrubOrder, ShardAppend, ShardError, ShardRead, ShardState};
use storage_node::index::DamagedRegion;
use storage_node::{Bug, Store, StoreOptions, Switches};
use wire::clock::{Clock, SimulatedClock, SystemClock};
use wire::disk::{Disk, DiskFaultOdds, DiskFaults, SimulatedDisk};
use wire::entropy::{Entropy, SeededEntropy};

use super::check::{self, Excuse};
use super::model::{Fate, Model, PGS};
use super::ticker::Ticker;
use super::{Checked, Tally, ensure, rot};
use crate::world::{identity, other_shard, shard, small, wait};

/// What the disk suffers in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weather {
    Calm,
    /// Space runs out.
    Full,
    /// Writes or syncs fail.
    BadWrites,
    /// Reads fail, lie, or are short.
    BadReads,
    /// The directory vanishes, or turns read-only.
    Lost,
}

/// What a life is like.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// Restarts in a life.
    pub rounds: u64,
    /// Whether bits are flipped.
    pub rots: bool,
    /// Whether the disk fails in other ways than by crashes.
    pub fails: bool,
    /// Whether checkpoints, compaction and scrub run beside the writer, in an order that no seed
    /// replays.
    pub loose: bool,
    /// A mistake for the store to make.
    pub bug: Option<Bug>,
}

/// Regions and shards.
type KnownDamage = (Vec<DamagedRegion>, Result<Vec<ShardId>, ShardError>);

/// A disk and its model.
pub struct Life {
    entropy: SeededEntropy,
    disk: SimulatedDisk,
    clock: SimulatedClock,
    habits: Habits,
    options: StoreOptions,
    model: Model,
    weather: Weather,
    excuse: Excuse,
    pub tally: Tally,
    /// What was done in this round, for messages.
    diary: String,
    _ticker: Option<Ticker>,
}

impl Life {
    pub fn new(seed: u64, habits: Habits) -> Self {
        Self::with_crashes_of(seed, seed ^ 0x5eed, habits)
    }

    /// A life whose work follows from one seed, and what crashes leave from another.
    pub fn with_crashes_of(seed: u64, crashes: u64, habits: Habits) -> Self {
        let entropy = SeededEntropy::new(seed);
        let options = StoreOptions {
            segment_bytes: (8 << 10) << entropy.below(4),
            checkpoint_log_bytes: (12 << 10) << entropy.below(4),
            index_cache_bytes: 256 << 10,
            reserve_bytes: Some(6 << 20),
            grace: Duration::from_millis([0, 300, 3000][entropy.below(3) as usize]),
            compaction_bytes_per_second: if habits.loose { 64 << 20 } else { 0 },
            scrub_interval: if habits.loose { Duration::from_secs(2) } else { Duration::ZERO },
            switches: Switches { bug: habits.bug, in_step: !habits.loose },
            ..small()
        };
        let clock = SimulatedClock::new();
        let ticker = habits.loose.then(|| Ticker::new(clock.clone()));
        Self {
            entropy,
            disk: SimulatedDisk::new(crashes),
            clock,
            habits,
            options,
            model: Model::default(),
            weather: Weather::Calm,
            excuse: Excuse::default(),
            tally: Tally::default(),
            diary: String::new(),
            _ticker: ticker,
        }
    }

    /// Lives to the end. An error says what was violated, and in what.
    pub fn live(&mut self) -> Checked {
        let outcome = self.all_rounds();
        outcome.map_err(|violation| format!("{violation}\nthe last round: {}", self.diary))
    }

    fn all_rounds(&mut self) -> Checked {
        let mut store = self.start(false)?;
        for _ in 0..self.habits.rounds {
            self.diary.clear();
            self.round(&store)?;
            let damage = (store.damaged_regions(), store.damaged(None, 10_000));
            let mut knows = self.is_calm() && !self.habits.loose;
            let (crashed, orderly) = self.end(&store);
            knows &= orderly;
            drop(store);
            if self.habits.rots && self.entropy.below(3) == 0 {
                // A bit in the index costs what only the index knows.
                let hit = rot::flip(&self.disk, &self.entropy, &mut self.model)?;
                self.note(&format!("rot of {hit}"));
                self.excuse.rotten = true;
                knows &= !hit.contains("index");
            }
            if self.entropy.below(10) == 0 {
                self.note("the index is removed");
                let _ = self.disk.remove("shards/index.redb");
                knows = false;
            }
            let crashes = self.tally.crashes;
            store = self.start(crashed)?;
            if knows && crashes == self.tally.crashes {
                Self::remembers(&store, &damage)?;
            }
            self.check(&store)?;
        }
        store.abort();
        Ok(())
    }

    /// One run of thirty steps, in which the power fails after so many changes; then a restart and a
    /// check. Tells whether the power lasted.
    pub fn live_until(&mut self, changes: u64) -> Checked<bool> {
        let store = self.open().map_err(|error| error.to_string())?;
        self.disk.cut_power_after(changes);
        for _ in 0..30 {
            self.step(&store)?;
            self.model.durable(store.durable());
            if self.disk.is_powerless() {
                break;
            }
        }
        let lasted = !self.disk.is_powerless();
        store.abort();
        self.disk.crash();
        self.model.ended(store.incarnation(), true);
        drop(store);
        let store = self.open().map_err(|error| error.to_string())?;
        self.check(&store)?;
        store.abort();
        Ok(lasted)
    }

    /// What the life came to: how often the disk was changed, and how it was left.
    pub fn trace(&self) -> (u64, String) {
        (self.disk.changes(), self.diary.clone())
    }

    /// The damage that was known when the disk was closed is known when it is opened.
    fn remembers(store: &Store, known: &KnownDamage) -> Checked {
        let regions = store.damaged_regions();
        let lost = known.0.iter().find(|region| !regions.contains(region));
        ensure!(lost.is_none(), "damage was forgotten: {lost:?}");
        let listed = store.damaged(None, 10_000).map_err(|error| error.to_string())?;
        let shards = known.1.as_deref().unwrap_or_default();
        let lost = shards.iter().find(|id| !listed.contains(id));
        ensure!(lost.is_none(), "the damage of a shard was forgotten: {lost:?}");
        Ok(())
    }

    fn note(&mut self, what: &str) {
        let _ = write!(self.diary, "{what}; ");
    }

    fn open(&self) -> Result<Store, storage_node::OpenError> {
        let clock = Arc::new(self.clock.clone());
        let disk = Arc::new(self.disk.clone());
        Store::open(disk, identity(), self.options, clock, Duration::from_mins(1), Arc::default())
    }

    /// Opens the disk; the power may fail while it recovers.
    fn start(&mut self, crashed: bool) -> Checked<Store> {
        let mut crashed = crashed;
        while self.entropy.below(3) == 0 {
            let changes = self.entropy.below(40);
            self.disk.cut_power_after(changes);
            let opened = self.open();
            if let Ok(store) = &opened {
                store.abort();
            }
            drop(opened);
            self.note(&format!("the power fails {changes} changes after a start"));
            self.disk.crash();
            self.tally.crashes += 1;
            crashed = true;
        }
        let store = match self.open() {
            Ok(store) => store,
            // A disk that others have filled opens when there is space.
            Err(_) if self.weather == Weather::Full => {
                self.disk.set_faults(DiskFaults::default());
                self.open().map_err(|error| format!("a disk doesn't open: {error}"))?
            }
            Err(error) => return Err(format!("a disk doesn't open: {error}")),
        };
        self.disk.set_faults(DiskFaults::default());
        store.look_after();
        self.tally.recoveries += u64::from(crashed);
        self.weather = Weather::Calm;
        self.excuse.misread = false;
        self.excuse.unsynced_lost = false;
        Ok(store)
    }

    fn check(&mut self, store: &Store) -> Checked {
        self.tally.checks += 1;
        check::whole_disk(store, &self.disk, &mut self.model, self.excuse)?;
        if self.excuse.rotten || self.excuse.misread_before || self.habits.loose {
            return Ok(());
        }
        check::files(
            &self.disk,
            &self.model.within_grace(self.clock.monotonic(), self.options.grace),
        )
    }

    fn round(&mut self, store: &Store) -> Checked {
        if self.entropy.below(2) == 0 {
            let changes = self.entropy.below(80);
            self.note(&format!("power for {changes} changes"));
            self.disk.cut_power_after(changes);
        }
        let steps = self.entropy.below(30);
        let storm = if self.habits.fails { self.entropy.below(60) } else { u64::MAX };
        for number in 0..steps {
            if number == storm {
                self.storm();
            }
            self.tally.operations += 1;
            let moment = Duration::from_millis(self.entropy.below(200));
            self.clock.advance(moment);
            self.step(store)?;
            self.model.durable(store.durable());
            self.check_health(store)?;
            if self.disk.is_powerless() {
                break;
            }
        }
        Ok(())
    }

    /// Lets something go wrong until the next start.
    fn storm(&mut self) {
        let odds = DiskFaultOdds::default();
        let once = 1 + self.entropy.below(6) as u32;
        let mut faults = DiskFaults::default();
        (self.weather, faults.odds) = match self.entropy.below(10) {
            0 => (Weather::BadWrites, DiskFaultOdds { writes_fail: once * 3, ..odds }),
            1 | 2 => (Weather::BadWrites, DiskFaultOdds { syncs_fail: once, ..odds }),
            3 => (Weather::BadReads, DiskFaultOdds { reads_fail: once, ..odds }),
            4 => (Weather::BadReads, DiskFaultOdds { reads_short: once, ..odds }),
            5 => (Weather::BadReads, DiskFaultOdds { reads_flip: once, ..odds }),
            6 => {
                faults.gone = true;
                (Weather::Lost, odds)
            }
            7 => {
                faults.read_only = true;
                (Weather::Lost, odds)
            }
            _ => {
                let space = self.disk.space().unwrap_or_default();
                let used = space.capacity_bytes - space.free_bytes;
                faults.capacity_bytes = used + self.entropy.below(12 << 20);
                (Weather::Full, odds)
            }
        };
        let misread = matches!(self.weather, Weather::BadReads | Weather::Lost);
        self.excuse.misread |= misread;
        self.excuse.unsynced_lost |= self.weather == Weather::BadWrites;
        self.excuse.misread_before |= misread;
        self.note(&format!("{:?} {faults:?}", self.weather));
        self.disk.set_faults(faults);
    }

    fn is_calm(&self) -> bool {
        self.weather == Weather::Calm && !self.disk.is_powerless()
    }

    /// Ends the run, in order or not; tells whether the power was cut, and whether it was closed.
    fn end(&mut self, store: &Store) -> (bool, bool) {
        let powerless = self.disk.is_powerless();
        // After failed writes what counts is what the page cache shows to the next run.
        let way = self.entropy.below(if self.weather == Weather::BadWrites { 3 } else { 8 });
        let run = store.incarnation();
        if powerless || way > 1 {
            store.abort();
            self.disk.crash();
            self.tally.crashes += 1;
            self.model.ended(run, true);
            self.note("crash");
            return (true, false);
        }
        // The process ends alone: what the page cache holds is still seen.
        let orderly = way == 0;
        if orderly {
            store.close();
        } else {
            store.abort();
        }
        let powerless = self.disk.is_powerless();
        self.model.ended(run, !orderly || self.weather != Weather::Calm || powerless);
        self.note(if orderly { "close" } else { "abort" });
        if powerless {
            self.disk.crash();
            self.tally.crashes += 1;
            return (true, false);
        }
        self.disk.keep_power();
        if self.weather != Weather::Full {
            self.disk.set_faults(DiskFaults::default());
        }
        (false, orderly)
    }

    fn check_health(&self, store: &Store) -> Checked {
        let health = store.report().health;
        let fits = match self.weather {
            _ if self.disk.is_powerless() => true,
            Weather::Calm => health == DiskHealth::Ok,
            Weather::Full => matches!(health, DiskHealth::Ok | DiskHealth::Full),
            Weather::BadReads | Weather::BadWrites | Weather::Lost => true,
        };
        ensure!(fits, "the disk is {health:?} in {:?}: {:?}", self.weather, store.report().reason);
        Ok(())
    }

    /// In calm weather everything that is asked for is done.
    fn done<T>(&mut self, what: &str, outcome: &Result<T, ShardError>) -> Checked<bool> {
        let said = outcome.as_ref().err().map(ToString::to_string);
        self.note(&format!("{what}: {}", said.as_deref().unwrap_or("done")));
        match outcome {
            Ok(_) => Ok(true),
            Err(error) => {
                ensure!(!self.is_calm(), "{what} failed on a sound disk: {error}");
                let full = matches!(error, ShardError::Full(_)) || self.disk.is_powerless();
                ensure!(self.weather != Weather::Full || full, "{what} on a full disk: {error}");
                Ok(false)
            }
        }
    }

    fn step(&mut self, store: &Store) -> Checked {
        match self.entropy.below(24) {
            0..=4 => self.put(store),
            5..=7 => self.append(store),
            8 | 9 => self.sync(store),
            10 | 11 => self.delete(store),
            12 => {
                store.look_after();
                self.note("tick");
                Ok(())
            }
            13 => self.checkpoint(store),
            14 | 15 => self.read(store),
            16 => self.inventory(store),
            17 => self.again(store),
            18 => self.imposter(store),
            19 | 20 => self.compact(store),
            21 => self.verify(store),
            22 if self.habits.loose => self.scrub(store),
            _ => self.repair(store),
        }
    }

    fn put(&mut self, store: &Store) -> Checked {
        let (id, length) = self.model.fresh(&self.entropy);
        self.write(store, "put", id, length)
    }

    fn write(&mut self, store: &Store, what: &str, id: ShardId, length: u32) -> Checked {
        let outcome = wait(store.append(vec![shard(id, length as usize)], true));
        let before = self.model.shards.get(&id).map(|entry| entry.fate);
        let done = self.done(&format!("{what} {id} ({length})"), &outcome)?;
        match (done, before) {
            (true, _) => self.model.set(id, length, Fate::Kept),
            // A retry that fails takes nothing back.
            (false, Some(Fate::Kept | Fate::Answered | Fate::Damaged)) => {}
            (false, _) => self.model.set(id, length, Fate::Open),
        }
        Ok(())
    }

    fn append(&mut self, store: &Store) -> Checked {
        let count = 1 + self.entropy.below(5);
        let batch: Vec<(ShardId, u32)> =
            (0..count).map(|_| self.model.fresh(&self.entropy)).collect();
        let shards: Vec<ShardAppend> =
            batch.iter().map(|(id, length)| shard(*id, *length as usize)).collect();
        self.model.asked(&batch);
        let outcome = wait(store.append(shards, false));
        let (from, to) = (batch[0].0, batch[batch.len() - 1].0);
        self.done(&format!("append {from} to {to}"), &outcome)?;
        if let Ok((incarnation, position)) = outcome {
            ensure!(incarnation == store.incarnation(), "an append of another run");
            self.model.answered(&batch, position);
        }
        Ok(())
    }

    fn sync(&mut self, store: &Store) -> Checked {
        if let Some((run, position)) = self.model.old_receipt() {
            let outcome = wait(store.sync(run, position));
            ensure!(
                matches!(outcome, Err(ShardError::WrongIncarnation(_))),
                "a sync of an earlier run is answered by {outcome:?}"
            );
        }
        let Some(position) = self.model.receipt(&self.entropy) else { return Ok(()) };
        let outcome = wait(store.sync(store.incarnation(), position));
        if self.done("sync", &outcome)? {
            self.model.durable(position);
        }
        Ok(())
    }

    fn delete(&mut self, store: &Store) -> Checked {
        let Some((id, _)) = self.model.any(&self.entropy, |_| true) else { return Ok(()) };
        let mut extents = vec![id.extent];
        if self.entropy.below(3) == 0 {
            extents.extend(self.model.any(&self.entropy, |_| true).map(|(id, _)| id.extent));
        }
        let outcome = wait(store.delete(extents.clone()));
        let done = self.done(&format!("delete {extents:?}"), &outcome)?;
        let now = self.clock.monotonic();
        for extent in extents {
            self.model.deleted(extent, done, now);
        }
        Ok(())
    }

    fn compact(&mut self, store: &Store) -> Checked {
        if self.weather == Weather::Full {
            return Ok(());
        }
        let outcome = wait(store.compact());
        self.tally.compacted += outcome.as_ref().map_or(0, |report| report.segments);
        self.done("compact", &outcome).map(drop)
    }

    fn verify(&mut self, store: &Store) -> Checked {
        let Some((id, _)) = self.model.any(&self.entropy, |_| true) else { return Ok(()) };
        let outcome = wait(store.verify(vec![id.extent]));
        if !self.done(&format!("verify {:?}", id.extent), &outcome)? {
            return Ok(());
        }
        let states = outcome.unwrap_or_default();
        let damaged = store.damaged(None, 10_000).map_err(|error| error.to_string())?;
        // What can't be made durable any more, a moved copy included, is not called sound.
        let is_stuck = store.report().health == DiskHealth::ReadOnly;
        let same = self.model.shards.iter().filter(|(other, _)| other.extent == id.extent);
        for (id, entry) in same {
            let state = states.iter().find(|(found, _)| found == id).map(|(_, state)| *state);
            let fits = match (entry.fate, state) {
                (Fate::Kept | Fate::Answered, Some(ShardState::Sound))
                | (Fate::Absent | Fate::Gone, None)
                | (Fate::Open | Fate::Damaged | Fate::Haunted, _) => true,
                (Fate::Kept | Fate::Answered, Some(ShardState::Damaged)) => {
                    self.excuse.misread || self.excuse.unsynced_lost || is_stuck
                }
                (Fate::Kept | Fate::Answered, None) | (Fate::Absent | Fate::Gone, Some(_)) => false,
            };
            ensure!(fits, "shard {id}, which is {:?}, is verified as {state:?}", entry.fate);
            let told = state != Some(ShardState::Damaged) || damaged.contains(id) || is_stuck;
            ensure!(told, "shard {id} is verified as damaged and not listed so");
        }
        Ok(())
    }

    /// A pass over the whole disk, waited for: what rot has hit is listed then.
    fn scrub(&mut self, store: &Store) -> Checked {
        if !self.is_calm() || self.excuse.misread {
            return Ok(());
        }
        store
            .scrub(ScrubOrder::Begin { bytes_per_second: 0 })
            .map_err(|error| error.to_string())?;
        let before = store.report().scrub.last_ended;
        let clock = SystemClock::new();
        while store.report().scrub.last_ended == before && !self.disk.is_powerless() {
            ensure!(clock.monotonic() < Duration::from_mins(1), "a scrub doesn't end");
            std::thread::park_timeout(Duration::from_micros(300));
        }
        self.note("scrub");
        let listed = store.damaged(None, 10_000).map_err(|error| error.to_string())?;
        for id in listed {
            let fate = self.model.shards.get(&id).map(|entry| entry.fate);
            let fits = matches!(fate, Some(Fate::Damaged | Fate::Open | Fate::Haunted));
            ensure!(
                fits || self.excuse.misread_before,
                "shard {id}, which is {fate:?}, is listed as damaged"
            );
        }
        Ok(())
    }

    fn checkpoint(&mut self, store: &Store) -> Checked {
        // redb gives up for good when space runs out under it; the store knows when not to ask.
        if self.weather == Weather::Full {
            return Ok(());
        }
        let outcome = wait(store.checkpoint());
        self.done("checkpoint", &outcome).map(drop)
    }

    fn read(&mut self, store: &Store) -> Checked {
        let Some((id, entry)) = self.model.any(&self.entropy, |_| true) else { return Ok(()) };
        let offset = self.entropy.below(u64::from(entry.length)) as u32;
        let length = 1 + self.entropy.below(u64::from(entry.length - offset)) as u32;
        let answers = wait(store.read(vec![ShardRead { id, offset, length }]));
        let Ok(answers) = answers else {
            ensure!(self.weather == Weather::Lost, "a read is refused: {answers:?}");
            return Ok(());
        };
        let Some(known) = self.model.shards.get_mut(&id) else { return Ok(()) };
        let told = check::tells_damage(store, &self.disk);
        for answer in &answers {
            check::judge(id, known, answer, false, told, self.excuse)?;
            if let Ok(blocks) = answer {
                let from = blocks.first_block * 65_536;
                let covers = from <= offset
                    && u64::from(from) + blocks.payload.len() as u64
                        >= u64::from(offset) + u64::from(length);
                ensure!(covers, "a read gives another range");
            }
        }
        self.note(&format!("read {id}"));
        Ok(())
    }

    fn inventory(&mut self, store: &Store) -> Checked {
        let pg = PgId(self.entropy.below(u64::from(PGS)) as u32);
        let limit = 1 + self.entropy.below(20) as u32;
        let after = self.model.any(&self.entropy, |_| true).map(|(id, _)| id);
        let outcome = wait(store.inventory(pg, after, limit));
        let Ok(page) = outcome else {
            ensure!(!self.is_calm(), "an inventory failed: {outcome:?}");
            return Ok(());
        };
        let end = if page.len() < limit as usize { None } else { page.last().map(|(id, _)| *id) };
        let in_page = |id: &ShardId| {
            id.extent.pg == pg
                && after.is_none_or(|after| *id > after)
                && end.is_none_or(|end| *id <= end)
        };
        for (id, entry) in self.model.shards.iter().filter(|(id, _)| in_page(id)) {
            let listed = page.binary_search(&(*id, entry.length)).is_ok();
            match entry.fate {
                Fate::Kept | Fate::Answered => ensure!(listed, "the inventory lacks {id}"),
                Fate::Absent | Fate::Gone => ensure!(!listed, "the inventory has {id}"),
                Fate::Open | Fate::Damaged | Fate::Haunted => {}
            }
        }
        self.note("inventory");
        Ok(())
    }

    /// A retry: of what is there, or of what a crash has taken.
    fn again(&mut self, store: &Store) -> Checked {
        let suits = |fate| matches!(fate, Fate::Kept | Fate::Absent);
        let Some((id, entry)) = self.model.any(&self.entropy, suits) else { return Ok(()) };
        self.write(store, "again", id, entry.length)
    }

    /// Other bytes under an id that is taken (I-3).
    fn imposter(&mut self, store: &Store) -> Checked {
        if !self.is_calm() {
            return Ok(());
        }
        let suits = |fate| matches!(fate, Fate::Kept | Fate::Answered);
        let Some((id, entry)) = self.model.any(&self.entropy, suits) else { return Ok(()) };
        let length = entry.length as usize + self.entropy.below(2) as usize;
        let outcome = wait(store.append(vec![other_shard(id, length)], true));
        self.note(&format!("imposter {id}"));
        ensure!(
            matches!(outcome, Err(ShardError::Exists(_)))
                || (outcome.is_err() && self.disk.is_powerless()),
            "other bytes under the id {id} are answered by {outcome:?}"
        );
        Ok(())
    }

    fn repair(&mut self, store: &Store) -> Checked {
        let damaged = |fate| fate == Fate::Damaged;
        let Some((id, entry)) = self.model.any(&self.entropy, damaged) else { return Ok(()) };
        self.write(store, "repair", id, entry.length)
    }
}
