//! Which extents are left alone for now, since repairing them failed: longer each time. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use model::ids::ExtentId;

/// The pause after the first failure; it doubles.
const PAUSE_FIRST: Duration = Duration::from_secs(5);

/// The longest pause: a disk that comes back, or a lost shard that turns up, is noticed by then.
const PAUSE_MAX: Duration = Duration::from_mins(10);

/// Extents that are remembered; beyond that all are tried again, which costs time, no data.
const EXTENTS_MAX: usize = 100_000;

/// Extents whose repair failed.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failed: BTreeMap<ExtentId, Pause>,
}

#[derive(Clone, Copy, Debug)]
struct Pause {
    until: Duration,
    length: Duration,
}

impl Backoff {
    /// Whether the extent is to be left alone.
    pub(super) fn rests(&self, extent: ExtentId, now: Duration) -> bool {
        self.failed.get(&extent).is_some_and(|pause| now < pause.until)
    }

    /// Takes note of a failure; says whether it is the first one in a row.
    pub(super) fn failed(&mut self, extent: ExtentId, now: Duration) -> bool {
        let before = self.failed.get(&extent).map(|pause| pause.length);
        let length = before.map_or(PAUSE_FIRST, |length| (length * 2).min(PAUSE_MAX));
        if before.is_none() && self.failed.len() >= EXTENTS_MAX {
            self.failed.clear();
        }
        self.failed.insert(extent, Pause { until: now + length, length });
        before.is_none()
    }

    /// The extent is repaired.
    pub(super) fn succeeded(&mut self, extent: ExtentId) {
        self.failed.remove(&extent);
    }

    /// Forgets extents whose pause is long over: they have left the queue.
    pub(super) fn prune(&mut self, now: Duration) {
        self.failed.retain(|_, pause| now < pause.until + PAUSE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_end_with_success() {
        let (mut backoff, extent) = (Backoff::default(), ExtentId::default());
        let second = Duration::from_secs;
        assert!(!backoff.rests(extent, second(0)));
        assert!(backoff.failed(extent, second(0)));
        assert!(backoff.rests(extent, second(4)) && !backoff.rests(extent, second(5)));
        assert!(!backoff.failed(extent, second(5)));
        assert!(backoff.rests(extent, second(14)) && !backoff.rests(extent, second(15)));
        for _ in 0..20 {
            backoff.failed(extent, second(100));
        }
        assert!(backoff.rests(extent, second(699)) && !backoff.rests(extent, second(700)));
        backoff.prune(second(1299));
        assert!(!backoff.failed.is_empty());
        backoff.prune(second(1300));
        assert!(backoff.failed.is_empty());
        backoff.failed(extent, second(0));
        backoff.succeeded(extent);
        assert!(!backoff.rests(extent, second(0)));
    }
}
