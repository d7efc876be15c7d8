//! Buckets of which a pass left only what can't be recoded now. Pure.
//!
//! In: how passes ended. Out: which buckets rest. What always holds: the more passes in a row came to
//! nothing, the longer is the rest before the next, as each reads the whole bucket; another order, or a
//! pass that came to something, ends it.

use std::collections::BTreeMap;
use std::time::Duration;

use model::names::BucketName;
use model::time::Timestamp;

/// After the first such pass, this many intervals go by; twice as many after the next, and so on.
const INTERVALS: u32 = 6;

/// The longest rest: what could not be read may come back with a disk.
const REST_MAX: Duration = Duration::from_hours(1);

/// The buckets that rest.
#[derive(Debug, Default)]
pub(super) struct Rests(BTreeMap<BucketName, Rest>);

#[derive(Clone, Copy, Debug)]
struct Rest {
    /// Names the order.
    ordered: Timestamp,
    until: Duration,
    length: Duration,
}

impl Rests {
    /// Whether a bucket with this order rests.
    pub(super) fn rests(&self, bucket: &BucketName, ordered: Timestamp, now: Duration) -> bool {
        self.0.get(bucket).is_some_and(|rest| rest.ordered == ordered && now < rest.until)
    }

    /// A pass over it came to nothing, though something is left.
    pub(super) fn leftover(
        &mut self,
        bucket: BucketName,
        ordered: Timestamp,
        now: Duration,
        interval: Duration,
    ) {
        let before = self.0.get(&bucket).filter(|rest| rest.ordered == ordered);
        let length = before.map_or(interval * INTERVALS, |rest| rest.length * 2).min(REST_MAX);
        self.0.insert(bucket, Rest { ordered, until: now + length, length });
    }

    /// A pass over it came to something, or its order is carried out.
    pub(super) fn end(&mut self, bucket: &BucketName) {
        self.0.remove(bucket);
    }

    /// All of them are looked at again.
    pub(super) fn end_all(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_get_longer_until_something_changes() {
        let second = Duration::from_secs;
        let (mut rests, interval) = (Rests::default(), second(5));
        let bucket = BucketName::parse("bucket").expect("valid");
        let mut ends = Vec::new();
        let mut now = Duration::ZERO;
        for _ in 0..9 {
            rests.leftover(bucket.clone(), Timestamp(1), now, interval);
            let before = now;
            while rests.rests(&bucket, Timestamp(1), now) {
                now += second(1);
            }
            ends.push(now.saturating_sub(before).as_secs());
        }
        assert_eq!(ends, [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
        rests.leftover(bucket.clone(), Timestamp(1), now, interval);
        assert!(!rests.rests(&bucket, Timestamp(2), now), "another order");
        rests.end(&bucket);
        assert!(!rests.rests(&bucket, Timestamp(1), now));
        rests.leftover(bucket.clone(), Timestamp(1), now, interval);
        assert!(!rests.rests(&bucket, Timestamp(1), now + second(30)), "it begins anew");
        rests.end_all();
        assert!(!rests.rests(&bucket, Timestamp(1), now));
    }
}
