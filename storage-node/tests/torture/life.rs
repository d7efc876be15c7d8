//! The life of one disk: random work, faults, ends and restarts, each compared with the model.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use model::ids::ShardId;
use model::shard::{DiskHealth, ShardError};
use storage_node::index::DamagedRegion;
use storage_node::{Bug, Store, StoreOptions, Switches};
use wire::clock::{Clock, SimulatedClock};
use wire::disk::{Disk, DiskFaultOdds, DiskFaults, SimulatedDisk};
use wire::entropy::{Entropy, SeededEntropy};

use super::check::{self, Excuse};
use super::model::Model;
use super::ticker::Ticker;
use super::{Checked, Tally, ensure, rot};
use crate::world::{identity, small};

mod steps;

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
}
