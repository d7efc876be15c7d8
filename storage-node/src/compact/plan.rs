//! Which segment to compact, and how fast. Pure: ledger figures in, a choice out.
//!
//! A segment is worth the more the more of it is garbage and the longer it has been left alone,
//! and the less the more must be copied: `garbage × age / (all + live)` (Rosenblum and Ousterhout,
//! "The Design and Implementation of a Log-Structured File System", 1992). While there is space,
//! only segments with much garbage are taken; garbage that waits costs nothing, and a segment that
//! is left alone dies further. When space is short, the best one is taken whatever it holds.

/// What a segment holds, in bytes; its age in bytes of log that were written since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) segment: u64,
    /// Everything but its header.
    pub(super) bytes: u64,
    /// Live shards.
    pub(super) live: u64,
    /// Tombstones that are needed, and shards that were deleted within the grace period.
    pub(super) kept: u64,
    /// Live shards: each is a change of the index.
    pub(super) shards: u64,
    pub(super) age: u64,
}

/// How the disk is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Situation {
    pub(super) free: u64,
    /// Bytes that a checkpoint may take by now.
    pub(super) checkpoint: u64,
    /// What the next checkpoint gives back.
    pub(super) coming: u64,
    pub(super) reserve: u64,
}

/// Bytes that each change of the index may add to the checkpoint that gives the space back.
const CHANGE_BYTES: u64 = 512;
/// When space is short, segments with less garbage than one part in so many aren't worth it.
const GARBAGE_PARTS_MAX: u64 = 20;
/// Rates rise below so many times the reserve, and to so many times the operator's.
const RISE_BELOW: u64 = 4;
const RISE_MAX: u64 = 8;

impl Candidate {
    /// What compaction gives back.
    pub(super) fn garbage(&self) -> u64 {
        self.bytes.saturating_sub(self.live).saturating_sub(self.kept)
    }

    fn copied(&self) -> u64 {
        self.live + self.kept
    }

    /// Bytes that must be free until the segment is removed, beside those of the checkpoint.
    fn needed(&self) -> u64 {
        self.copied().saturating_add(self.shards.saturating_mul(CHANGE_BYTES))
    }

    fn score(&self) -> u128 {
        let benefit = u128::from(self.garbage()) * u128::from(self.age.max(1)) * 1024;
        benefit / u128::from((self.bytes + self.copied()).max(1))
    }
}

impl Situation {
    /// Whether segments are compacted that would better be left to die further.
    pub(super) fn is_short(&self) -> bool {
        self.free + self.coming < self.reserve + self.reserve / 4
    }

    /// Whether space is wanted back now.
    pub(super) fn is_pressed(&self) -> bool {
        self.free < self.reserve * 2
    }

    /// Bytes a second at which to copy; `None` for as fast as it goes.
    pub(super) fn rate(&self, bytes_per_second: u64) -> Option<u64> {
        let room = self.free.saturating_sub(self.reserve);
        if room < self.reserve / 8 {
            return None;
        }
        let rise = (self.reserve * RISE_BELOW / room.max(1)).clamp(1, RISE_MAX);
        Some(bytes_per_second.saturating_mul(rise))
    }
}

/// The segment to compact next, if any is worth it: at least `percent` of it is garbage, unless
/// space is short. What is entirely garbage goes first: it costs nothing.
pub(super) fn choose(candidates: &[Candidate], situation: &Situation, percent: u8) -> Option<u64> {
    let is_short = situation.is_short();
    let worth = |candidate: &&Candidate| {
        let garbage = candidate.garbage();
        let enough = if is_short {
            garbage > candidate.bytes / GARBAGE_PARTS_MAX
        } else {
            garbage * 100 >= candidate.bytes * u64::from(percent)
        };
        let fits = candidate.copied() == 0
            || candidate.needed().saturating_add(situation.checkpoint) <= situation.free;
        garbage > 0 && enough && fits
    };
    candidates
        .iter()
        .filter(worth)
        .max_by_key(|candidate| (candidate.copied() == 0, candidate.score()))
        .map(|candidate| candidate.segment)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use wire::entropy::{Entropy, SeededEntropy};

    use super::*;

    const ROOMY: Situation =
        Situation { free: 1 << 40, checkpoint: 4096, coming: 0, reserve: 1 << 30 };
    const SHORT: Situation = Situation { free: 1 << 30, ..ROOMY };

    fn of(segment: u64, live: u64, kept: u64, age: u64) -> Candidate {
        Candidate { segment, bytes: 1000, live, kept, shards: 1, age }
    }

    #[test]
    fn more_garbage_and_more_age_win_and_the_dead_go_first() {
        let check = |candidates: &[Candidate], situation, expected| {
            assert_eq!(choose(candidates, situation, 40), expected, "{candidates:?}");
        };
        check(&[], &ROOMY, None);
        check(&[of(1, 300, 0, 10), of(2, 100, 0, 10)], &ROOMY, Some(2));
        check(&[of(1, 300, 0, 30), of(2, 300, 0, 10)], &ROOMY, Some(1));
        // Old and half full before young and nearly empty.
        check(&[of(1, 500, 0, 1000), of(2, 100, 0, 10)], &ROOMY, Some(1));
        check(&[of(1, 300, 0, 1 << 40), of(2, 0, 0, 0)], &ROOMY, Some(2));
        // Not enough garbage while there is space; the best there is when it is short.
        check(&[of(1, 700, 0, 10), of(2, 800, 0, 10)], &ROOMY, None);
        check(&[of(1, 700, 0, 10), of(2, 800, 0, 10)], &SHORT, Some(1));
        check(&[of(1, 960, 0, 10)], &SHORT, None);
        // What is kept for a while is no garbage.
        check(&[of(1, 300, 500, 10)], &ROOMY, None);
        check(&[of(1, 0, 1000, 10)], &SHORT, None);
    }

    #[test]
    fn what_is_copied_must_fit_what_is_free() {
        let tight = Situation { free: 4096 + 512 + 400, ..ROOMY };
        assert_eq!(choose(&[of(1, 401, 0, 10)], &tight, 40), None);
        assert_eq!(choose(&[of(1, 401, 0, 10), of(2, 400, 0, 1)], &tight, 40), Some(2));
        let none = Situation { free: 0, ..ROOMY };
        assert_eq!(choose(&[of(1, 0, 0, 10)], &none, 40), Some(1));
    }

    #[test]
    fn what_the_next_checkpoint_frees_counts() {
        let coming = Situation { coming: 1 << 30, ..SHORT };
        assert!(SHORT.is_short() && !coming.is_short() && !ROOMY.is_short());
    }

    #[test]
    fn the_rate_rises_as_space_runs_out() {
        let rate = |free_percent: u64| {
            let reserve = 1000;
            let free = reserve * free_percent / 100;
            Situation { free, reserve, ..Situation::default() }.rate(64)
        };
        assert_eq!(rate(10_000), Some(64));
        assert_eq!(rate(500), Some(64));
        assert_eq!(rate(300), Some(128));
        assert_eq!(rate(200), Some(256));
        assert_eq!(rate(120), Some(512));
        assert_eq!(rate(112), None);
        assert_eq!(rate(50), None);
        let mut last = 0;
        for percent in (113..600).rev() {
            let now = rate(percent).expect("a limit");
            assert!(now >= last, "at {percent}");
            last = now;
        }
    }

    /// A log of segments of `SEGMENT` records of one byte each, as `choose` would keep it.
    struct Model {
        segments: BTreeMap<u64, Vec<(usize, u32)>>,
        live: BTreeMap<u64, u64>,
        /// Where each shard lies, and how often it was written.
        places: Vec<(u64, u32)>,
        active: u64,
        written: u64,
    }

    const SEGMENT: u64 = 100;
    const SEGMENTS: u64 = 250;

    impl Model {
        fn append(&mut self, shard: usize, version: u32) {
            if self.segments.get(&self.active).is_some_and(|held| held.len() as u64 >= SEGMENT) {
                self.active += 1;
            }
            if let Some(live) = self.live.get_mut(&self.places[shard].0) {
                *live = live.saturating_sub(1);
            }
            self.places[shard] = (self.active, version);
            self.segments.entry(self.active).or_default().push((shard, version));
            *self.live.entry(self.active).or_insert(0) += 1;
            self.written += 1;
        }

        fn compact(&mut self) -> bool {
            let free = (SEGMENTS - self.segments.len() as u64) * SEGMENT;
            let reserve = SEGMENTS * SEGMENT / 50;
            let situation = Situation { free, reserve, ..Situation::default() };
            let closed = self.segments.keys().filter(|segment| **segment != self.active);
            let candidates: Vec<Candidate> = closed
                .map(|segment| Candidate {
                    segment: *segment,
                    bytes: SEGMENT,
                    live: self.live[segment],
                    age: (self.active - segment) * SEGMENT,
                    ..Candidate::default()
                })
                .collect();
            let Some(segment) = choose(&candidates, &situation, 40) else { return false };
            for (shard, version) in self.segments[&segment].clone() {
                if self.places[shard] == (segment, version) {
                    self.append(shard, version);
                }
            }
            self.segments.remove(&segment);
            self.live.remove(&segment);
            true
        }
    }

    fn amplification(percent: u64) -> f64 {
        let shards = (SEGMENTS * SEGMENT * percent / 100) as usize;
        let mut model = Model {
            segments: BTreeMap::new(),
            live: BTreeMap::new(),
            places: vec![(u64::MAX, 0); shards],
            active: 0,
            written: 0,
        };
        let entropy = SeededEntropy::new(percent);
        (0..shards).for_each(|shard| model.append(shard, 0));
        let (mut before, turns) = (0, 6 * shards as u64);
        for turn in 0..turns {
            if turn == turns / 2 {
                before = model.written;
            }
            let shard = entropy.below(shards as u64) as usize;
            let version = model.places[shard].1 + 1;
            model.append(shard, version);
            if turn % (SEGMENT / 4) == 0 {
                while model.compact() {}
            }
            assert!((model.segments.len() as u64) < SEGMENTS, "the disk is full");
        }
        (model.written - before) as f64 / (turns / 2) as f64
    }

    #[test]
    fn write_amplification_under_uniform_overwrite() {
        for (percent, most) in [(50, 2.6), (70, 2.6), (80, 3.0)] {
            let found = amplification(percent);
            println!("{percent} % live: {found:.2} bytes written for each that came in");
            assert!(found <= most, "{percent} % live: {found:.2}");
        }
    }
}
