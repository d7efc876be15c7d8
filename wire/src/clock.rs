//! The door to time.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use model::time::Timestamp;
use tokio::sync::oneshot;

use crate::BoxFuture;

/// Wall time, a monotonic clock and waiting.
pub trait Clock: Send + Sync + 'static {
    /// The time of day. May jump; nothing about correctness depends on it (reliability R40).
    fn now(&self) -> Timestamp;

    /// Time since some start that this clock chose; never goes back.
    fn monotonic(&self) -> Duration;

    /// Ends after `duration`.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// The time was up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the deadline passed")]
pub struct Elapsed;

/// Runs `work` for at most `limit`; past that the work is dropped.
pub async fn timeout<T>(
    clock: &dyn Clock,
    limit: Duration,
    work: impl Future<Output = T>,
) -> Result<T, Elapsed> {
    tokio::select! {
        biased;
        done = work => Ok(done),
        () = clock.sleep(limit) => Err(Elapsed),
    }
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time begins now.
    #[expect(clippy::disallowed_methods, reason = "this is the door that the rule points to")]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the door that the rule points to")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// A clock that stands still until it is advanced by hand.
#[derive(Clone, Debug, Default)]
pub struct SimulatedClock {
    state: Arc<Mutex<SimulatedTime>>,
}

#[derive(Debug, Default)]
struct SimulatedTime {
    elapsed: Duration,
    sleepers: BTreeMap<(Duration, u64), oneshot::Sender<()>>,
    slept: u64,
}

impl SimulatedClock {
    /// A clock at the epoch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves the time on, and wakes the sleepers whose time has come, the earliest first.
    pub fn advance(&self, duration: Duration) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.elapsed += duration;
        let now = state.elapsed;
        while let Some(entry) = state.sleepers.first_entry() {
            if entry.key().0 > now {
                break;
            }
            // A sleeper that was dropped needs no waking.
            let _ = entry.remove().send(());
        }
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        Timestamp(u64::try_from(self.monotonic().as_nanos()).unwrap_or(u64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).elapsed
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let (wake, woken) = oneshot::channel();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.slept += 1;
        let key = (state.elapsed + duration, state.slept);
        state.sleepers.insert(key, wake);
        drop(state);
        Box::pin(async move {
            if woken.await.is_err() {
                // The clock is gone, and with it the world of this sleeper.
                std::future::pending::<()>().await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sleepers_wake_when_their_time_has_come() {
        let clock = SimulatedClock::new();
        let early = tokio::spawn(clock.sleep(Duration::from_secs(1)));
        let late = clock.sleep(Duration::from_secs(5));
        clock.advance(Duration::from_secs(2));
        early.await.expect("woken");
        assert_eq!(
            timeout(&SystemClock::new(), Duration::from_millis(1), late).await,
            Err(Elapsed)
        );
        assert_eq!(clock.now(), Timestamp::from_seconds(2));
    }
}
