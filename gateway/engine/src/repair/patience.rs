//! Whether other work in the background waits for repairs. Pure.
//!
//! In: how many extents wait for repair that could be repaired, whenever somebody looks. Out: whether
//! they are waited for. What always holds: what gets fewer is waited for, and so is what comes anew;
//! but as many as have been there for a whole patience without getting fewer are not, as repairs that
//! always fail must not keep slots and objects as they are for ever.

use std::time::Duration;

/// Of more repairs than these it isn't asked how many they are.
pub(crate) const REPAIRS_COUNTED: usize = 10_000;

/// While there are too many to count, nobody sees that they get fewer: so many times the patience.
const UNCOUNTED_PATIENCES: u32 = 10;

/// Remembers how it went with what waits for repair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RepairPatience {
    /// So many have been waited for in vain.
    hopeless: usize,
    /// The fewest since there were more than that, and when there were so few first.
    fewest: Option<(usize, Duration)>,
    /// Since when there are too many to count.
    uncounted: Option<Duration>,
}

impl RepairPatience {
    /// Whether to wait, now that `left` are left, of which [`REPAIRS_COUNTED`] need be counted.
    pub(crate) fn waits(&mut self, left: usize, now: Duration, patience: Duration) -> bool {
        if left >= REPAIRS_COUNTED {
            self.fewest = None;
            let since = *self.uncounted.get_or_insert(now);
            return now.saturating_sub(since) < patience * UNCOUNTED_PATIENCES;
        }
        self.uncounted = None;
        self.hopeless = self.hopeless.min(left);
        if left == self.hopeless {
            self.fewest = None;
            return false;
        }
        let (fewest, since) = self.fewest.unwrap_or((left, now));
        if left < fewest {
            self.fewest = Some((left, now));
            return true;
        }
        if now.saturating_sub(since) < patience {
            self.fewest = Some((fewest, since));
            return true;
        }
        // So many were there all the time. What came besides has its own.
        self.hopeless = fewest;
        self.fewest = (left > fewest).then_some((left, now));
        left > fewest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_mins(10);

    /// Looks at these minutes with so much left, and says when it waits.
    fn waits(looks: &[(u64, usize)]) -> Vec<bool> {
        let mut patience = RepairPatience::default();
        let look = |(minute, left): &(u64, usize)| {
            patience.waits(*left, Duration::from_mins(*minute), PATIENCE)
        };
        looks.iter().map(look).collect()
    }

    #[test]
    fn what_gets_fewer_is_waited_for_and_what_always_fails_is_not_for_ever() {
        assert_eq!(waits(&[(0, 0), (1, 0)]), [false, false]);
        assert_eq!(
            waits(&[(0, 9), (9, 5), (18, 2), (27, 1), (36, 0)]),
            [true, true, true, true, false]
        );
        assert_eq!(
            waits(&[(0, 1), (9, 1), (10, 1), (11, 1), (500, 1)]),
            [true, true, false, false, false]
        );
        // Another one a day later is news, whether or not the first was repaired.
        assert_eq!(
            waits(&[(0, 1), (10, 1), (1440, 2), (1449, 2), (1450, 2)]),
            [true, false, true, true, false]
        );
        assert_eq!(waits(&[(0, 1), (10, 1), (11, 0), (12, 1)]), [true, false, false, true]);
    }

    #[test]
    fn a_new_round_is_waited_for_while_one_of_the_last_is_left() {
        // One has failed for long; a scrub finds many more.
        assert_eq!(
            waits(&[(0, 1), (20, 1), (21, 5000), (30, 4000), (39, 2), (40, 1)]),
            [true, false, true, true, true, false]
        );
        // They come while the one is still waited for.
        assert_eq!(
            waits(&[(0, 1), (5, 5000), (10, 4900), (19, 4800), (28, 1), (29, 1)]),
            [true, true, true, true, false, false]
        );
        // What fails only now and then doesn't hold up anything for ever either.
        let flickers: Vec<(u64, usize)> =
            (0..30).map(|minute| (minute, if minute % 2 == 0 { 2 } else { 1 })).collect();
        let waited = waits(&flickers);
        assert!(waited[..11].iter().all(|waits| *waits), "{waited:?}");
        assert!(waited[11..].iter().any(|waits| !*waits), "{waited:?}");
    }

    #[test]
    fn as_many_as_are_not_counted_are_waited_for_much_longer() {
        let many = REPAIRS_COUNTED + 240;
        assert_eq!(
            waits(&[(0, many), (11, many), (99, many), (100, many)]),
            [true, true, true, false]
        );
        // Once they can be counted, they are seen to get fewer.
        assert_eq!(
            waits(&[(0, many), (101, many), (102, 9000), (111, 8000), (121, 8000)]),
            [true, false, true, true, false]
        );
    }
}
