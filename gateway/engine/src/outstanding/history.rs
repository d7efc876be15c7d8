//! How fast it goes, and how much was done since something began to lack shards. Pure.
//!
//! In: now and then, how much was rebuilt here and how much is left. Out: a rate measured over the
//! last minute, and sums. What always holds: a rate is told only when something was rebuilt, or got
//! less, within that minute.

use std::collections::VecDeque;
use std::time::Duration;

/// How far back the rate goes.
const WINDOW: Duration = Duration::from_mins(1);

/// Samples that are kept at most.
const SAMPLES_MAX: usize = 256;

/// A rate isn't told by less.
const SPAN_MIN: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Duration,
    /// Bytes of shards that were rebuilt here since the engine began.
    rebuilt: u64,
    /// Bytes of shards that are left to be rebuilt, where that was counted.
    left: Option<u64>,
}

/// What happened of late.
#[derive(Debug, Default)]
pub(super) struct History {
    samples: VecDeque<Sample>,
    /// What had been rebuilt when something began to lack shards.
    base: u64,
    /// The most that was left since.
    peak: u64,
    /// While nothing lacks anything, what has been rebuilt: a new round begins from there.
    whole: Option<u64>,
}

impl History {
    /// Takes note of what was rebuilt here by now.
    pub(super) fn note_rebuilt(&mut self, at: Duration, rebuilt: u64) {
        self.push(Sample { at, rebuilt, left: None });
    }

    /// Takes note of what is left, too. `is_nothing` says that nothing lacks anything.
    pub(super) fn note(&mut self, at: Duration, rebuilt: u64, left: u64, is_nothing: bool) {
        if is_nothing {
            self.whole = Some(rebuilt);
        } else if let Some(base) = self.whole.take() {
            (self.base, self.peak) = (base, 0);
        }
        self.peak = self.peak.max(left);
        self.push(Sample { at, rebuilt, left: Some(left) });
    }

    /// Bytes of shards that were rebuilt since something began to lack shards, with `left` still to be:
    /// when nothing does, those of the last round.
    pub(super) fn done(&self, rebuilt: u64, left: u64) -> u64 {
        // What another gateway rebuilt is seen only by what there is less of.
        rebuilt.saturating_sub(self.base).max(self.peak.saturating_sub(left))
    }

    /// Bytes of shards that are rebuilt in a second.
    pub(super) fn rate(&self, now: Duration) -> Option<u64> {
        let recent: Vec<&Sample> =
            self.samples.iter().filter(|sample| now.saturating_sub(sample.at) <= WINDOW).collect();
        let per_second = |bytes: u64, from: Duration, to: Duration| {
            let span = to.checked_sub(from).filter(|span| *span >= SPAN_MIN)?;
            let rate = (bytes as f64 / span.as_secs_f64()) as u64;
            (rate > 0).then_some(rate)
        };
        let (first, last) = (recent.first()?, recent.last()?);
        let here = per_second(last.rebuilt.saturating_sub(first.rebuilt), first.at, last.at);
        let by_less = || {
            let counted = || recent.iter().filter_map(|sample| Some((sample.at, sample.left?)));
            let (from, before) = counted().max_by_key(|(at, left)| (*left, *at))?;
            let (to, after) = counted().next_back()?;
            per_second(before.saturating_sub(after), from, to)
        };
        here.or_else(by_less)
    }

    fn push(&mut self, sample: Sample) {
        let is_old = |old: &Sample| sample.at.saturating_sub(old.at) > WINDOW;
        while self.samples.len() >= SAMPLES_MAX || self.samples.front().is_some_and(is_old) {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn second(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_rate_is_that_of_the_last_minute() {
        let mut history = History::default();
        assert_eq!(history.rate(second(0)), None);
        history.note_rebuilt(second(0), 0);
        assert_eq!(history.rate(second(0)), None);
        history.note_rebuilt(second(10), 100 * MIB);
        assert_eq!(history.rate(second(10)), Some(10 * MIB));
        for tick in 11..=120 {
            history.note_rebuilt(second(tick), 100 * MIB + (tick - 10) * MIB);
        }
        assert_eq!(history.rate(second(120)), Some(MIB));
        assert!(history.samples.len() <= 61);
        // Nothing for a minute.
        history.note_rebuilt(second(185), 210 * MIB);
        assert_eq!(history.rate(second(185)), None);
    }

    #[test]
    fn what_another_gateway_does_is_seen_by_what_is_left() {
        let mut history = History::default();
        history.note(second(0), 0, 0, true);
        history.note(second(5), 0, 500 * MIB, false);
        history.note(second(15), 0, 400 * MIB, false);
        assert_eq!(history.rate(second(15)), Some(10 * MIB));
        assert_eq!(history.done(0, 400 * MIB), 100 * MIB);
        // Nothing is left; what comes then is a new round.
        history.note(second(20), 0, 0, true);
        assert_eq!(history.done(0, 0), 500 * MIB);
        history.note(second(25), 0, 30 * MIB, false);
        assert_eq!(history.done(0, 30 * MIB), 0);
    }

    #[test]
    fn what_was_done_counts_from_when_nothing_lacked_anything() {
        let mut history = History::default();
        history.note(second(0), 7 * MIB, 0, true);
        history.note(second(5), 9 * MIB, 10 * MIB, false);
        assert_eq!(history.done(9 * MIB, 10 * MIB), 2 * MIB);
        assert_eq!(history.done(19 * MIB, 0), 12 * MIB);
    }

    #[test]
    fn samples_are_bounded() {
        let mut history = History::default();
        for tick in 0..10_000 {
            history.note_rebuilt(Duration::from_millis(tick), tick);
        }
        assert_eq!(history.samples.len(), SAMPLES_MAX);
    }
}
