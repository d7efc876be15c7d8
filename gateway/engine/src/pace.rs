//! Limits the bandwidth of a job in the background.
//!
//! In: the bytes that were just moved. Out: a wait that keeps their average at the rate. Work that
//! doesn't use its share doesn't save it up.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use wire::clock::Clock;

/// A rate that all tasks of a job share.
pub(crate) struct Pace {
    clock: Arc<dyn Clock>,
    /// 0 for no limit.
    bytes_per_second: u64,
    /// When what was asked for so far has had its time.
    paid_until: Mutex<Duration>,
}

impl Pace {
    /// At most `bytes_per_second`; 0 for no limit.
    pub(crate) fn new(clock: Arc<dyn Clock>, bytes_per_second: u64) -> Self {
        Self { clock, bytes_per_second, paid_until: Mutex::default() }
    }

    /// Waits for as long as `bytes` take.
    pub(crate) async fn spend(&self, bytes: u64) {
        let wait = self.wait_for(bytes);
        if !wait.is_zero() {
            self.clock.sleep(wait).await;
        }
    }

    fn wait_for(&self, bytes: u64) -> Duration {
        if self.bytes_per_second == 0 {
            return Duration::ZERO;
        }
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let now = self.clock.monotonic();
        let mut paid_until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        *paid_until = (*paid_until).max(now).saturating_add(cost);
        paid_until.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use wire::clock::SystemClock;

    use super::*;

    #[test]
    fn bytes_take_their_time_one_after_the_other() {
        let pace = Pace::new(Arc::new(SystemClock::new()), 1000);
        let first = pace.wait_for(500);
        assert!(first <= Duration::from_millis(500) && first > Duration::from_millis(400));
        let second = pace.wait_for(10_000);
        assert!(second <= Duration::from_millis(10_500) && second > Duration::from_secs(10));
        assert_eq!(Pace::new(Arc::new(SystemClock::new()), 0).wait_for(u64::MAX), Duration::ZERO);
    }
}
