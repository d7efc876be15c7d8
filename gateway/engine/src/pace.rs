//! Limits the bandwidth of a job in the background.
//!
//! In: the bytes that were just moved. Out: a wait that keeps their average at the rate. Work that
//! doesn't use its share doesn't save it up. Another rate counts at once, for those who wait, too.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use wire::clock::Clock;

/// What a byte is counted as: a byte a second is one such a nanosecond.
const PER_BYTE: u128 = 1_000_000_000;

/// A rate that all tasks of a job share.
pub(crate) struct Pace {
    clock: Arc<dyn Clock>,
    /// Bytes a second; 0 for no limit.
    rate: watch::Sender<u64>,
    account: Mutex<Account>,
}

/// What had its time, and what was asked for, since the beginning; in [`PER_BYTE`].
#[derive(Default)]
struct Account {
    /// Up to when `served` is reckoned.
    at: Duration,
    served: u128,
    asked: u128,
}

impl Account {
    /// Reckons what had its time at this rate.
    fn serve(&mut self, now: Duration, rate: u64) {
        let elapsed = now.saturating_sub(self.at).as_nanos();
        self.served = self.served.saturating_add(elapsed.saturating_mul(rate.into()));
        self.at = self.at.max(now);
    }
}

impl Pace {
    /// At most `bytes_per_second`; 0 for no limit.
    pub(crate) fn new(clock: Arc<dyn Clock>, bytes_per_second: u64) -> Self {
        let account = Account { at: clock.monotonic(), ..Account::default() };
        let rate = watch::Sender::new(bytes_per_second);
        Self { clock, rate, account: Mutex::new(account) }
    }

    /// From now on at most this many; 0 for no limit.
    pub(crate) fn set_rate(&self, bytes_per_second: u64) {
        self.rate.send_if_modified(|rate| {
            if *rate == bytes_per_second {
                return false;
            }
            // Until now the old rate counted.
            let mut account = self.account();
            account.serve(self.clock.monotonic(), *rate);
            if bytes_per_second == 0 {
                // Nobody waits any more, and owes anything.
                account.asked = account.served;
            }
            *rate = bytes_per_second;
            true
        });
    }

    /// Waits for as long as `bytes` take.
    pub(crate) async fn spend(&self, bytes: u64) {
        let mut rate = self.rate.subscribe();
        let turn = self.ask(bytes);
        loop {
            let current = *rate.borrow_and_update();
            let wait = self.wait_for(turn, current);
            if wait.is_zero() {
                return;
            }
            tokio::select! {
                () = self.clock.sleep(wait) => {}
                // It can't end while this is here.
                _ = rate.changed() => {}
            }
        }
    }

    /// Asks for bytes; says when it is their turn to have had their time.
    fn ask(&self, bytes: u64) -> u128 {
        let rate = *self.rate.borrow();
        let mut account = self.account();
        account.serve(self.clock.monotonic(), rate);
        // Time that nobody used is gone.
        let start = account.asked.max(account.served);
        let turn = start.saturating_add(u128::from(bytes).saturating_mul(PER_BYTE));
        if rate > 0 {
            account.asked = turn;
        }
        turn
    }

    fn wait_for(&self, turn: u128, rate: u64) -> Duration {
        if rate == 0 {
            return Duration::ZERO;
        }
        let mut account = self.account();
        account.serve(self.clock.monotonic(), rate);
        let left = turn.saturating_sub(account.served).div_ceil(rate.into());
        Duration::from_nanos(u64::try_from(left).unwrap_or(u64::MAX))
    }

    fn account(&self) -> std::sync::MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use wire::clock::SimulatedClock;

    use super::*;

    fn second(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn at(bytes_per_second: u64) -> (Arc<SimulatedClock>, Pace) {
        let clock = Arc::new(SimulatedClock::new());
        (clock.clone(), Pace::new(clock, bytes_per_second))
    }

    #[test]
    fn bytes_take_their_time_one_after_the_other() {
        let (clock, pace) = at(1000);
        let wait = |bytes| pace.wait_for(pace.ask(bytes), 1000);
        assert_eq!(wait(500), Duration::from_millis(500));
        assert_eq!(wait(10_000), Duration::from_millis(10_500));
        clock.advance(second(10));
        assert_eq!(wait(0), Duration::from_millis(500));
        // What wasn't used isn't saved up.
        clock.advance(second(1000));
        assert_eq!(wait(2000), second(2));
    }

    #[tokio::test]
    async fn another_rate_counts_for_those_who_wait() {
        let (clock, pace) = at(1);
        let first = pace.spend(10_000);
        let mut first = std::pin::pin!(first);
        assert!(futures_util::poll!(&mut first).is_pending());
        clock.advance(second(1000));
        assert!(futures_util::poll!(&mut first).is_pending());
        // 9000 bytes are left.
        pace.set_rate(9000);
        assert!(futures_util::poll!(&mut first).is_pending());
        clock.advance(second(1));
        first.await;
        let second = pace.spend(u64::MAX);
        let mut second = std::pin::pin!(second);
        assert!(futures_util::poll!(&mut second).is_pending());
        pace.set_rate(0);
        second.await;
        // What went without a limit is owed to nobody.
        pace.set_rate(1000);
        assert_eq!(pace.wait_for(pace.ask(1000), 1000), Duration::from_secs(1));
    }
}
