//! What was deleted lately, by segment: garbage that may not be reclaimed yet.
//!
//! For choosing only, so it is kept coarsely, in memory and since the start: whether a record may
//! go is decided by its tombstone when its turn comes.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Parts into which a grace period is divided.
const BUCKETS: u32 = 16;

/// Deaths within the grace period, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Deaths {
    /// When a bucket is ripe, and the bytes that died in each segment.
    buckets: VecDeque<(Duration, BTreeMap<u64, u64>)>,
}

impl Deaths {
    /// Adds segments and bytes that died now.
    pub(super) fn add(&mut self, deaths: Vec<(u64, u64)>, now: Duration, grace: Duration) {
        let ripe = now + grace;
        if self.buckets.back().is_none_or(|(end, _)| *end < ripe) {
            self.buckets.push_back((ripe + grace / BUCKETS, BTreeMap::new()));
        }
        if let Some((_, bytes_of)) = self.buckets.back_mut() {
            for (segment, bytes) in deaths {
                *bytes_of.entry(segment).or_insert(0) += bytes;
            }
        }
    }

    /// The bytes of each segment that aren't ripe.
    pub(super) fn unripe(&mut self, now: Duration) -> BTreeMap<u64, u64> {
        while self.buckets.front().is_some_and(|(ripe, _)| *ripe <= now) {
            self.buckets.pop_front();
        }
        let mut sums = BTreeMap::new();
        for (segment, bytes) in self.buckets.iter().flat_map(|(_, bytes_of)| bytes_of) {
            *sums.entry(*segment).or_insert(0) += *bytes;
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_died_is_ripe_after_the_grace_and_not_before() {
        let mut deaths = Deaths::default();
        let grace = Duration::from_secs(160);
        let at = Duration::from_secs;
        deaths.add(vec![(1, 100), (2, 50)], at(0), grace);
        deaths.add(vec![(1, 10)], at(5), grace);
        deaths.add(vec![(1, 1)], at(100), grace);
        let unripe = |deaths: &mut Deaths, now| {
            let sums = deaths.unripe(at(now));
            (sums.get(&1).copied().unwrap_or(0), sums.get(&2).copied().unwrap_or(0))
        };
        assert_eq!(unripe(&mut deaths, 100), (111, 50));
        assert_eq!(unripe(&mut deaths, 165), (111, 50));
        assert_eq!(unripe(&mut deaths, 170), (1, 0));
        assert_eq!(unripe(&mut deaths, 259), (1, 0));
        assert_eq!(unripe(&mut deaths, 270), (0, 0));
        for second in 0..10_000 {
            deaths.add(vec![(1, 1)], at(1000 + second), grace);
            deaths.unripe(at(1000 + second));
        }
        assert!(deaths.buckets.len() <= 18, "{}", deaths.buckets.len());
    }
}
