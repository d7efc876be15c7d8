//! Random operations against a model, on a disk that crashes, fails and rots (I-1, I-6, I-8, I-9).
//!
//! After every restart: each shard that was acknowledged as durable is there with its bytes or is
//! told as damaged where a bit was flipped; none whose deletion was acknowledged is back; the
//! inventory is exactly what can be read; the accounts are exact. In between, every answer is
//! compared with the model. Seeds are printed; `DRYSTONE_SEED` replays one.

use std::ops::AddAssign;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use storage_node::Bug;
use wire::clock::{Clock, SystemClock};
use wire::entropy::{Entropy, SystemEntropy};

mod check;
mod life;
mod model;
mod rot;
mod ticker;

use life::{Habits, Life};

/// A value, or what was violated.
pub type Checked<T = ()> = Result<T, String>;

/// Returns an error from the function unless something holds.
macro_rules! ensure {
    ($holds:expr, $($message:tt)+) => {
        if !$holds {
            return Err(format!($($message)+));
        }
    };
}
use ensure;

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub lives: u64,
    pub operations: u64,
    /// Times that the power failed.
    pub crashes: u64,
    /// Starts after at least one crash that were followed by a check of the whole disk.
    pub recoveries: u64,
    pub checks: u64,
    /// Segments that compaction gave back, when it was asked for.
    pub compacted: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.lives += other.lives;
        self.operations += other.operations;
        self.crashes += other.crashes;
        self.recoveries += other.recoveries;
        self.checks += other.checks;
        self.compacted += other.compacted;
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} lives, {} operations, {} crashes, {} crash recoveries, {} checks of a \
             whole disk, {} segments reclaimed",
            self.lives, self.operations, self.crashes, self.recoveries, self.checks, self.compacted
        )
    }
}

/// One life, whose habits follow from its seed.
fn live(seed: u64, habits: Habits) -> (Tally, Checked) {
    let mut life = Life::new(seed, habits);
    let outcome = catch_unwind(AssertUnwindSafe(|| life.live()));
    life.tally.lives = 1;
    (life.tally, outcome.unwrap_or_else(|_| Err("the store panicked".to_owned())))
}

fn habits_of(seed: u64) -> Habits {
    Habits {
        rounds: 16,
        rots: seed % 4 == 1,
        fails: seed % 4 == 2,
        loose: seed % 8 == 3,
        bug: None,
    }
}

/// A number that the tester may set.
#[expect(clippy::disallowed_methods, reason = "a test may be told its seed")]
fn told(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn first_seed() -> u64 {
    let seed = told("DRYSTONE_SEED").unwrap_or_else(|| SystemEntropy::new().u64() >> 24);
    println!("replay with DRYSTONE_SEED={seed}");
    seed
}

/// Lives for as long as it may, and tells of every violation.
fn live_for(time: Duration, first: u64) {
    let clock = SystemClock::new();
    let mut tally = Tally::default();
    let mut violations = 0;
    let mut told_at = Duration::ZERO;
    for seed in first.. {
        let now = clock.monotonic();
        if now >= time {
            break;
        }
        if now > told_at + Duration::from_mins(1) {
            told_at = now;
            println!("{} s: {tally}, {violations} violations", now.as_secs());
        }
        if told("DRYSTONE_TORTURE_TELL").is_some() {
            println!("{seed} {:?}", habits_of(seed));
        }
        let (done, outcome) = live(seed, habits_of(seed));
        tally += done;
        if let Err(violation) = outcome {
            violations += 1;
            println!("VIOLATION with DRYSTONE_SEED={seed}: {violation}");
        }
    }
    let Tally { lives, operations, crashes, recoveries, checks, compacted } = tally;
    println!("TOTAL {lives} {operations} {crashes} {recoveries} {checks} {compacted}");
    assert_eq!(violations, 0, "{tally}");
    println!("{tally}, no violation");
}

#[test]
fn a_disk_keeps_its_promises_whatever_happens_to_it() {
    live_for(Duration::from_secs(20), first_seed());
}

#[test]
#[ignore = "by hand: scripts/torture"]
fn by_hand() {
    let seconds = told("DRYSTONE_TORTURE_SECONDS").unwrap_or(60);
    live_for(Duration::from_secs(seconds), first_seed());
}

#[test]
fn a_seed_replays() {
    let seed = first_seed();
    for seed in (seed..seed + 8).filter(|seed| !habits_of(*seed).loose) {
        let trace = || {
            let mut life = Life::new(seed, habits_of(seed));
            life.live().expect("no violation");
            life.trace()
        };
        assert_eq!(trace(), trace(), "seed {seed}");
    }
}

/// Lives in which a deliberate bug must show.
const LIVES_MAX: u64 = 300;

/// Lives that the store makes this mistake in, until it is found.
fn find(bug: Bug, first: u64) -> Option<(u64, String)> {
    (0..LIVES_MAX).find_map(|number| {
        let seed = first + number;
        let habits = Habits { bug: Some(bug), loose: false, ..habits_of(seed) };
        let (_, outcome) = live(seed, habits);
        outcome.err().map(|violation| (number + 1, violation))
    })
}

#[test]
fn every_deliberate_bug_is_found() {
    let first = first_seed();
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        match find(bug, first) {
            Some((lives, violation)) => {
                let what = violation.lines().next().unwrap_or_default();
                println!("{bug:?} is found in life {lives}: {what}");
            }
            None => missed.push(bug),
        }
    }
    assert_eq!(missed, [], "not found in {LIVES_MAX} lives");
}

/// Every change of a short life is a moment at which the power fails, in several ways.
#[test]
fn a_short_life_ends_well_whenever_the_power_fails() {
    let first = first_seed();
    let mut ends = 0;
    for changes in 0.. {
        let mut lasted = true;
        for way in 0..2 {
            let habits = Habits { rounds: 1, ..habits_of(0) };
            // The work follows from one seed, what the crash leaves from the other.
            let mut life = Life::with_crashes_of(first, first + 1 + way, habits);
            let outcome = life.live_until(changes);
            lasted &=
                outcome.unwrap_or_else(|violation| panic!("at change {changes}: {violation}"));
            ends += 1;
        }
        if lasted {
            break;
        }
    }
    assert!(ends > 50, "{ends}");
}
