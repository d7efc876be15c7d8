//! Decides which disks are slow. Pure: in come latencies with their time, out come verdicts.
//!
//! What always holds: a disk is slow when its typical latency (the median of its last
//! [`TYPICAL_SAMPLES`]) is [`FACTOR`] times that of its peers (the median of theirs) and above a
//! floor. Where all are slow alike, none is; where too little is known of it or of its peers, it
//! isn't either. It is well again when its last requests all took less than half of what makes slow:
//! as many as [`HEALING_SAMPLES`], and more if it was slow not long before.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use model::ids::{DiskId, NodeId};

use super::{SlowDisk, SlowKind};

/// Latencies that make up what is typical of a disk.
const TYPICAL_SAMPLES: usize = 12;

/// As many say something.
const SAMPLES_MIN: usize = 6;

/// Older ones don't.
const WINDOW: Duration = Duration::from_mins(1);

/// Latencies of a disk that are remembered: as many as the most that healing takes.
const SAMPLES_KEPT: usize = HEALING_SAMPLES << RELAPSES_MAX;

/// How far off its peers a slow disk is.
const FACTOR: u32 = 8;

/// Peers that a disk is compared with at least: of two disks nobody knows which is the usual one.
const PEERS_MIN: usize = 2;

/// Requests in a row that must go well until a disk is no longer slow.
const HEALING_SAMPLES: usize = 6;

/// How often that number doubles ...
const RELAPSES_MAX: u32 = 2;

/// ... for a disk that gets slow again this soon.
const RELAPSE_WITHIN: Duration = Duration::from_mins(10);

/// A slow disk of which nothing was heard for so long is one of which nothing is known.
const SILENT_AFTER: Duration = Duration::from_mins(2);

/// Disks that are remembered; more than a gateway has to do with.
const DISKS_MAX: usize = 10_000;

/// A change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) disk: DiskId,
    pub(super) kind: SlowKind,
    pub(super) is_slow: bool,
    pub(super) typical: Duration,
    pub(super) peers: Duration,
}

/// What is known of all disks.
#[derive(Debug, Default)]
pub(super) struct Detector {
    tracks: BTreeMap<(SlowKind, DiskId), Track>,
}

/// What is known of one disk's requests of one kind.
#[derive(Debug, Default)]
struct Track {
    /// When each ended and what it took; the oldest first.
    samples: VecDeque<(Duration, Duration)>,
    slow: Option<Slow>,
    /// How often it got slow again soon after it was well.
    relapses: u32,
    healed_at: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Slow {
    since: Duration,
    peers: Duration,
}

impl Detector {
    /// Takes a latency.
    pub(super) fn record(&mut self, disk: DiskId, kind: SlowKind, took: Duration, now: Duration) {
        if self.tracks.len() >= DISKS_MAX && !self.tracks.contains_key(&(kind, disk)) {
            return;
        }
        let track = self.tracks.entry((kind, disk)).or_default();
        if track.samples.len() >= SAMPLES_KEPT {
            track.samples.pop_front();
        }
        track.samples.push_back((now, took));
    }

    /// Forgets the disks that `is_there` doesn't know; says what it knew of.
    pub(super) fn keep(&mut self, is_there: impl Fn(DiskId) -> bool) -> Vec<(DiskId, SlowKind)> {
        let mut forgotten = Vec::new();
        self.tracks.retain(|(kind, disk), _| {
            let is_kept = is_there(*disk);
            if !is_kept {
                forgotten.push((*disk, *kind));
            }
            is_kept
        });
        forgotten
    }

    /// Judges every disk by what is known now.
    pub(super) fn judge(&mut self, now: Duration) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for kind in SlowKind::ALL {
            let typical = self.typical_of(kind, now);
            let places = typical.iter().zip(0..).map(|((_, disk), place)| (*disk, place));
            let places: BTreeMap<DiskId, usize> = places.collect();
            for ((_, disk), track) in self.tracks.range_mut(range(kind)) {
                let peers = median_without(&typical, places.get(disk).copied());
                if let Some(is_slow) = track.judge(kind, peers, now) {
                    let typical = track.typical(now).unwrap_or_default();
                    let peers = peers.or(track.slow.map(|slow| slow.peers)).unwrap_or_default();
                    verdicts.push(Verdict { disk: *disk, kind, is_slow, typical, peers });
                }
            }
        }
        verdicts
    }

    /// What is typical of each disk, the least first.
    fn typical_of(&self, kind: SlowKind, now: Duration) -> Vec<(Duration, DiskId)> {
        let tracks = self.tracks.range(range(kind));
        let mut typical: Vec<_> =
            tracks.filter_map(|((_, disk), track)| Some((track.typical(now)?, *disk))).collect();
        typical.sort_unstable();
        typical
    }

    /// The same of both kinds.
    pub(super) fn typical(&self, now: Duration) -> Vec<(DiskId, SlowKind, Duration)> {
        let tracks = self.tracks.iter();
        tracks
            .filter_map(|((kind, disk), track)| Some((*disk, *kind, track.typical(now)?)))
            .collect()
    }

    /// The disks that are slow at this, the slowest first.
    pub(super) fn slow(&self, kind: SlowKind) -> Vec<DiskId> {
        let tracks = self.tracks.range(range(kind)).filter(|(_, track)| track.slow.is_some());
        let mut slow: Vec<(Duration, DiskId)> =
            tracks.map(|((_, disk), track)| (track.median(|_| true), *disk)).collect();
        slow.sort_unstable_by(|left, right| right.0.cmp(&left.0).then(left.1.cmp(&right.1)));
        slow.into_iter().map(|(_, disk)| disk).collect()
    }

    /// The slow disks by their number, each by what it is furthest off its peers at; their nodes are
    /// for the caller to fill in.
    pub(super) fn worst(&self, now: Duration) -> Vec<SlowDisk> {
        let mut worst: BTreeMap<DiskId, SlowDisk> = BTreeMap::new();
        for ((kind, disk), track) in &self.tracks {
            let Some(Slow { since, peers }) = track.slow else { continue };
            let slow = SlowDisk {
                disk: *disk,
                node: NodeId(0),
                is_whole_node: false,
                kind: *kind,
                typical: track.median(|_| true),
                peers,
                lasting: now.saturating_sub(since),
            };
            let off = |slow: &SlowDisk| slow.typical.as_micros() / slow.peers.as_micros().max(1);
            let known = worst.entry(*disk).or_insert(slow);
            if off(&slow) > off(known) {
                *known = slow;
            }
        }
        worst.into_values().collect()
    }
}

/// The tracks of one kind.
fn range(kind: SlowKind) -> std::ops::RangeInclusive<(SlowKind, DiskId)> {
    (kind, DiskId(0))..=(kind, DiskId(u32::MAX))
}

/// The upper median of all but the one in a place; `None` where there are too few. The upper one,
/// since of a near disk and two far ones, those aren't slow.
fn median_without(typical: &[(Duration, DiskId)], own: Option<usize>) -> Option<Duration> {
    let count = typical.len() - usize::from(own.is_some());
    if count < PEERS_MIN {
        return None;
    }
    let middle = count / 2;
    let at = if own.is_some_and(|own| own <= middle) { middle + 1 } else { middle };
    typical.get(at).map(|(typical, _)| *typical)
}

/// What makes slow, by what is usual.
fn limit(kind: SlowKind, peers: Duration) -> Duration {
    peers.saturating_mul(FACTOR).max(kind.floor())
}

impl Track {
    /// The median of the last samples that `is_fit`; zero without any.
    fn median(&self, is_fit: impl Fn(Duration) -> bool) -> Duration {
        let last = self.samples.iter().rev().take(TYPICAL_SAMPLES).filter(|(at, _)| is_fit(*at));
        let mut took: Vec<Duration> = last.map(|(_, took)| *took).collect();
        took.sort_unstable();
        took.get(took.len() / 2).copied().unwrap_or_default()
    }

    /// What is typical, if enough is known.
    fn typical(&self, now: Duration) -> Option<Duration> {
        let is_fit = |at: Duration| now.saturating_sub(at) <= WINDOW;
        let last = self.samples.iter().rev().take(TYPICAL_SAMPLES);
        let known = last.filter(|(at, _)| is_fit(*at)).count();
        (known >= SAMPLES_MIN).then(|| self.median(is_fit))
    }

    /// Whether it is slow from now on, or no longer; `None` where nothing changes.
    fn judge(&mut self, kind: SlowKind, peers: Option<Duration>, now: Duration) -> Option<bool> {
        if let Some(slow) = self.slow {
            let peers = peers.unwrap_or(slow.peers);
            if self.is_silent(slow, now) || self.is_well(slow, limit(kind, peers) / 2) {
                (self.slow, self.healed_at) = (None, Some(now));
                return Some(false);
            }
            return None;
        }
        let peers = peers?;
        if self.typical(now)? <= limit(kind, peers) {
            return None;
        }
        let is_relapse = self.healed_at.is_some_and(|at| now.saturating_sub(at) < RELAPSE_WITHIN);
        self.relapses = if is_relapse { (self.relapses + 1).min(RELAPSES_MAX) } else { 0 };
        self.slow = Some(Slow { since: now, peers });
        Some(true)
    }

    fn is_well(&self, slow: Slow, limit: Duration) -> bool {
        let needed = HEALING_SAMPLES << self.relapses;
        let last = self.samples.iter().rev().take(needed);
        let well = last.filter(|(at, took)| *at > slow.since && *took <= limit);
        well.count() == needed
    }

    fn is_silent(&self, slow: Slow, now: Duration) -> bool {
        let heard = self.samples.back().map_or(slow.since, |(at, _)| *at);
        now.saturating_sub(heard) > SILENT_AFTER
    }
}

#[cfg(test)]
#[path = "detector_tests.rs"]
mod tests;
