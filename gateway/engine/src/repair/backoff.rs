//! Which extents are left alone for now, since repairing them failed: longer each time; and why.
//!
//! In: failures and successes of the gateway that repairs. Out: whether an extent rests, and what
//! operators are told of it. Does no IO, and knows no clock.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::ids::ExtentId;

use super::RepairFailure;

/// The pause after the first failure; it doubles.
const PAUSE_FIRST: Duration = Duration::from_secs(5);

/// The longest pause: a disk that comes back, or a lost shard that turns up, is noticed by then.
const PAUSE_MAX: Duration = Duration::from_mins(10);

/// Extents that are remembered; beyond that all are tried again, which costs time, no data.
const EXTENTS_MAX: usize = 100_000;

/// Extents whose repair failed.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failed: Mutex<BTreeMap<ExtentId, Pause>>,
}

#[derive(Clone, Copy, Debug)]
struct Pause {
    until: Duration,
    length: Duration,
    attempts: u32,
    failure: RepairFailure,
}

/// The last attempt to repair an extent, which failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedRepair {
    /// Attempts in a row that failed.
    pub attempts: u32,
    /// Why the last one did, in half a sentence.
    pub failure: String,
    /// How long until it is tried again.
    pub next_try: Duration,
}

impl Backoff {
    /// Nothing failed.
    pub(super) fn forget_all(&self) {
        self.failures().clear();
    }

    /// Whether the extent is to be left alone.
    pub(super) fn rests(&self, extent: ExtentId, now: Duration) -> bool {
        self.failures().get(&extent).is_some_and(|pause| now < pause.until)
    }

    /// Takes note of a failure; says whether it is the first one in a row.
    pub(super) fn failed(&self, extent: ExtentId, failure: RepairFailure, now: Duration) -> bool {
        let mut failures = self.failures();
        let before = failures.get(&extent).map(|pause| (pause.length, pause.attempts));
        let length = before.map_or(PAUSE_FIRST, |(length, _)| (length * 2).min(PAUSE_MAX));
        let attempts = before.map_or(0, |(_, attempts)| attempts).saturating_add(1);
        if before.is_none() && failures.len() >= EXTENTS_MAX {
            failures.clear();
        }
        failures.insert(extent, Pause { until: now + length, length, attempts, failure });
        before.is_none()
    }

    /// The extent is repaired.
    pub(super) fn succeeded(&self, extent: ExtentId) {
        self.failures().remove(&extent);
    }

    /// Forgets extents whose pause is long over: they have left the queue.
    pub(super) fn prune(&self, now: Duration) {
        self.failures().retain(|_, pause| now < pause.until + PAUSE_MAX);
    }

    /// The last attempt at an extent, if it failed.
    pub(crate) fn last(&self, extent: ExtentId, now: Duration) -> Option<FailedRepair> {
        let pause = self.failures().get(&extent).copied()?;
        Some(FailedRepair {
            attempts: pause.attempts,
            failure: pause.failure.to_string(),
            next_try: pause.until.saturating_sub(now),
        })
    }

    /// How many extents rest now, by why they do, the most frequent reason first.
    pub(crate) fn resting(&self, now: Duration) -> Vec<(String, u64)> {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for pause in self.failures().values().filter(|pause| now < pause.until) {
            *counts.entry(pause.failure.to_string()).or_default() += 1;
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        counts
    }

    fn failures(&self) -> MutexGuard<'_, BTreeMap<ExtentId, Pause>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_end_with_success() {
        let (backoff, extent) = (Backoff::default(), ExtentId::default());
        let second = Duration::from_secs;
        assert!(!backoff.rests(extent, second(0)));
        assert!(backoff.failed(extent, RepairFailure::OutOfReach, second(0)));
        assert!(backoff.rests(extent, second(4)) && !backoff.rests(extent, second(5)));
        assert!(!backoff.failed(extent, RepairFailure::OutOfReach, second(5)));
        assert!(backoff.rests(extent, second(14)) && !backoff.rests(extent, second(15)));
        for _ in 0..20 {
            backoff.failed(extent, RepairFailure::OutOfReach, second(100));
        }
        assert!(backoff.rests(extent, second(699)) && !backoff.rests(extent, second(700)));
        backoff.prune(second(1299));
        assert!(!backoff.failures().is_empty());
        backoff.prune(second(1300));
        assert!(backoff.failures().is_empty());
        backoff.failed(extent, RepairFailure::OutOfReach, second(0));
        backoff.succeeded(extent);
        assert!(!backoff.rests(extent, second(0)));
    }
    #[test]
    fn the_last_failure_is_told() {
        let (backoff, extent) = (Backoff::default(), ExtentId::default());
        let second = Duration::from_secs;
        assert_eq!(backoff.last(extent, second(0)), None);
        backoff.failed(extent, RepairFailure::OutOfReach, second(0));
        backoff.failed(extent, RepairFailure::Lost, second(10));
        let last = backoff.last(extent, second(13)).expect("failed");
        assert_eq!((last.attempts, last.next_try), (2, second(7)));
        assert!(last.failure.contains("more shards than its parity"), "{}", last.failure);
        assert_eq!(backoff.resting(second(13)), [(last.failure, 1)]);
        assert!(backoff.resting(second(20)).is_empty());
        backoff.forget_all();
        assert_eq!(backoff.last(extent, second(0)), None);
    }
}
