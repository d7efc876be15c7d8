//! What scrub reads next, and how fast. Pure: time, load and the ledger are parameters.

use std::time::Duration;

use model::shard::LogPosition;
use model::time::Timestamp;

use super::state::Pass;
use crate::index::SegmentUse;

/// What is read at once by a paced pass: short for those who wait behind it.
const PACED_WINDOW_BYTES: u64 = 1 << 20;
/// What is read at once at full speed.
const FULL_WINDOW_BYTES: u64 = 4 << 20;
/// The longest that a window is put off for others who use the disk.
const GIVE_WAY_MAX: Duration = Duration::from_millis(200);
/// The same at full speed: whoever asks for that wants it done.
const GIVE_WAY_FULL: Duration = Duration::from_millis(5);

/// The operator's limits of a pass that comes round by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PaceLimits {
    /// A whole pass takes about this long; zero for no paced passes at all.
    pub(crate) interval: Duration,
    /// The least bytes a second: a small disk is done early.
    pub(crate) rate_min: u64,
    /// The most bytes a second, however late the pass is.
    pub(crate) rate_max: u64,
    /// The most of the disk's time, in percent.
    pub(crate) busy_percent: u32,
}

/// How fast a pass goes just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Bytes a second; `None` for as fast as it goes.
    rate: Option<u64>,
    /// The most of the disk's time, in percent.
    busy_percent: u32,
}

impl Pace {
    /// The pace at which what remains is done by the end of the interval, within the limits.
    pub(crate) fn paced(pass: &Pass, now: Timestamp, limits: &PaceLimits) -> Self {
        let passed = Duration::from_nanos(now.0.saturating_sub(pass.began.0));
        let left = limits.interval.saturating_sub(passed).as_secs().max(1);
        let remaining = pass.total_bytes.saturating_sub(pass.verified_bytes);
        let rate_min = limits.rate_min.max(1);
        let rate = (remaining / left).clamp(rate_min, limits.rate_max.max(rate_min));
        Self { rate: Some(rate), busy_percent: limits.busy_percent.clamp(1, 100) }
    }

    /// The pace of a pass that was asked for; 0 means no limit.
    pub(crate) fn asked(bytes_per_second: u64) -> Self {
        Self { rate: (bytes_per_second > 0).then_some(bytes_per_second), busy_percent: 100 }
    }

    /// What to read at once.
    pub(crate) fn window_bytes(&self) -> u64 {
        match self.rate {
            // A slow pass reads less at once rather than once in a long while.
            Some(rate) => rate.clamp(64 << 10, PACED_WINDOW_BYTES),
            None => FULL_WINDOW_BYTES,
        }
    }

    /// How long to leave the disk alone after `bytes` that kept it busy for `busy`.
    pub(crate) fn pause(&self, bytes: u64, busy: Duration) -> Duration {
        let by_share = busy * (100 - self.busy_percent) / self.busy_percent;
        let by_rate = self.rate.map_or(Duration::ZERO, |rate| {
            Duration::from_secs_f64(bytes as f64 / rate as f64).saturating_sub(busy)
        });
        by_share.max(by_rate)
    }

    /// How long a window may be put off while others use the disk: never so long that the pass
    /// takes twice its time.
    pub(crate) fn give_way(&self) -> Duration {
        match self.rate {
            Some(rate) => {
                let window = self.window_bytes() as f64 / rate as f64;
                Duration::from_secs_f64(window / 2.0).min(GIVE_WAY_MAX)
            }
            None => GIVE_WAY_FULL,
        }
    }
}

/// When a paced pass is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Now.
    Now,
    /// After this time.
    In(Duration),
    /// Never: there are none.
    Never,
}

/// When the next paced pass begins, after one that began at `last_began` (0: none has).
pub(crate) fn due(last_began: Timestamp, now: Timestamp, interval: Duration) -> Due {
    if interval.is_zero() {
        return Due::Never;
    }
    // A clock that was set back makes no pass wait longer than the interval.
    let since = Duration::from_nanos(now.0.saturating_sub(last_began.0));
    if last_began.0 == 0 || since >= interval {
        Due::Now
    } else {
        Due::In(interval.saturating_sub(since))
    }
}

/// A stretch of a segment that is to be verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) segment: u64,
    /// The log position of the segment's first byte.
    pub(crate) start: LogPosition,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// What of the pass is left, in order. `segments` ascend.
fn stretches<'a>(
    pass: &'a Pass,
    segments: &'a [(u64, SegmentUse)],
) -> impl Iterator<Item = Stretch> + 'a {
    segments.iter().filter(|(number, _)| *number >= pass.segment).filter_map(|(number, used)| {
        let from = if *number == pass.segment { pass.offset } else { 0 };
        let to = used.end.min(pass.until.saturating_sub(used.start));
        (from < to).then_some(Stretch { segment: *number, start: used.start, from, to })
    })
}

/// What comes next; `None` when the pass is through.
pub(crate) fn next(pass: &Pass, segments: &[(u64, SegmentUse)]) -> Option<Stretch> {
    stretches(pass, segments).next()
}

/// Bytes that are left to verify.
pub(crate) fn remaining_bytes(pass: &Pass, segments: &[(u64, SegmentUse)]) -> u64 {
    stretches(pass, segments).map(|stretch| stretch.to - stretch.from).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEEK: Duration = Duration::from_hours(7 * 24);
    const LIMITS: PaceLimits =
        PaceLimits { interval: WEEK, rate_min: 1 << 20, rate_max: 64 << 20, busy_percent: 20 };

    fn pass(total_bytes: u64, verified_bytes: u64) -> Pass {
        Pass { began: Timestamp(1), total_bytes, verified_bytes, ..Pass::default() }
    }

    #[test]
    fn the_rate_follows_from_what_is_left_and_when_it_is_due() {
        let check = |total: u64, verified: u64, hours: u64, rate: u64| {
            let now = Timestamp(1 + Duration::from_hours(hours).as_nanos() as u64);
            assert_eq!(Pace::paced(&pass(total, verified), now, &LIMITS).rate, Some(rate));
        };
        let week = WEEK.as_secs();
        check(week * (10 << 20), 0, 0, 10 << 20);
        // Half the time has passed and nothing was done; or more than was due.
        check(week * (10 << 20), 0, 84, 20 << 20);
        check(week * (10 << 20), week * (5 << 20), 0, 5 << 20);
        // Small and late disks meet the limits.
        check(1 << 30, 0, 0, 1 << 20);
        check(week * (10 << 20), 0, 1000, 64 << 20);
    }

    #[test]
    fn a_simulated_week_is_one_pass_whatever_stands_in_the_way() {
        let total = 600_000 * (4u64 << 20);
        for (busy_millis, put_off) in [(1u64, false), (1, true), (20, true), (40, false)] {
            let (mut now, mut done, mut busy_for) = (Duration::ZERO, 0, Duration::ZERO);
            while done < total {
                let stamp = Timestamp(1 + now.as_nanos() as u64);
                let pace = Pace::paced(&pass(total, done), stamp, &LIMITS);
                // A hundred windows at a time: the outcome is the same, and it is sooner there.
                let bytes = pace.window_bytes() * 100;
                let busy = Duration::from_millis(busy_millis * 100);
                let wait = if put_off { pace.give_way() * 100 } else { Duration::ZERO };
                now += busy + pace.pause(bytes, busy) + wait;
                busy_for += busy;
                done += bytes;
            }
            let days = now.as_secs_f64() / 86_400.0;
            assert!((6.5..7.5).contains(&days), "{days} days at {busy_millis} ms a window");
            assert!(busy_for.as_secs_f64() <= 0.2001 * now.as_secs_f64());
        }
    }

    #[test]
    fn the_disk_is_busy_for_its_share_at_most() {
        let pace = Pace { rate: Some(64 << 20), busy_percent: 20 };
        // 1 MiB took 100 ms: the share decides; it took 1 ms: the rate does.
        assert_eq!(pace.pause(1 << 20, Duration::from_millis(100)), Duration::from_millis(400));
        let pause = pace.pause(1 << 20, Duration::from_millis(1));
        assert_eq!(pause.as_micros(), 14_625);
        let full = Pace::asked(0);
        assert_eq!(full.pause(4 << 20, Duration::from_millis(3)), Duration::ZERO);
        let half = Pace::asked(1 << 20);
        assert_eq!(half.pause(1 << 20, Duration::from_millis(250)), Duration::from_millis(750));
    }

    #[test]
    fn passes_come_round_at_the_interval() {
        let at = |hours: u64| Timestamp(1 + Duration::from_hours(hours).as_nanos() as u64);
        assert_eq!(due(Timestamp(0), at(0), WEEK), Due::Now);
        assert_eq!(due(at(0), at(100), WEEK), Due::In(Duration::from_hours(68)));
        assert_eq!(due(at(0), at(168), WEEK), Due::Now);
        assert_eq!(due(at(200), at(0), WEEK), Due::In(WEEK), "the clock was set back");
        assert_eq!(due(Timestamp(0), at(0), Duration::ZERO), Due::Never);
    }

    #[test]
    fn stretches_follow_the_cursor_and_end_where_the_pass_does() {
        let used = |start, end| SegmentUse { start, end, ..SegmentUse::default() };
        let segments = [(2, used(1000, 500)), (5, used(1500, 300)), (6, used(1800, 900))];
        let at = |segment, offset, until| Pass { until, segment, offset, ..Pass::default() };
        let check = |pass: Pass, expected: Option<(u64, u64, u64)>, left: u64| {
            let found = next(&pass, &segments);
            assert_eq!(found.map(|s| (s.segment, s.from, s.to)), expected);
            assert_eq!(remaining_bytes(&pass, &segments), left);
        };
        check(at(0, 0, 2000), Some((2, 0, 500)), 500 + 300 + 200);
        check(at(2, 100, 2000), Some((2, 100, 500)), 400 + 300 + 200);
        check(at(2, 500, 2000), Some((5, 0, 300)), 500);
        // The segment of the cursor was reclaimed.
        check(at(3, 77, 2000), Some((5, 0, 300)), 500);
        check(at(6, 128, 2000), Some((6, 128, 200)), 72);
        check(at(6, 200, 2000), None, 0);
        check(at(7, 0, 2000), None, 0);
        check(at(0, 0, 0), None, 0);
    }
}
