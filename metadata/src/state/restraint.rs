//! When no snapshot is made although enough entries came for one: with each, Raft purges its log.
//!
//! In: whether a follower needs the log ([`Restraint::keep_log`]), and failures. Out: whether one
//! may be made now. What always holds: a follower that needs the log holds it back within a bound,
//! in entries here, in bytes by whoever says that it is needed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::limits::{LOG_ENTRIES_HELD_MAX, SNAPSHOT_RETRY_AFTER};

/// Holds snapshots back.
#[derive(Debug, Default)]
pub struct Restraint {
    keeps_log: AtomicBool,
    failed_at: Mutex<Option<Duration>>,
}

impl Restraint {
    /// Says whether a follower or learner lacks so much of the log that the next purge would leave it
    /// to another snapshot.
    pub fn keep_log(&self, is_needed: bool) {
        self.keeps_log.store(is_needed, Ordering::Relaxed);
    }

    /// Whether the log is kept for somebody.
    pub fn keeps_log(&self) -> bool {
        self.keeps_log.load(Ordering::Relaxed)
    }

    /// A snapshot could not be written.
    pub fn failed(&self, now: Duration) {
        *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// Whether a snapshot may be made, so many entries after the last one.
    pub fn allows(&self, now: Duration, entries: u64) -> bool {
        if self.keeps_log() && entries < LOG_ENTRIES_HELD_MAX {
            return false;
        }
        let failed_at = *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner);
        failed_at.is_none_or(|at| now.saturating_sub(at) >= SNAPSHOT_RETRY_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_kept_within_a_bound_and_a_failure_puts_off_the_next_try() {
        let restraint = Restraint::default();
        let (start, later) =
            (Duration::from_secs(5), Duration::from_secs(5) + SNAPSHOT_RETRY_AFTER);
        assert!(restraint.allows(start, 0));
        restraint.keep_log(true);
        assert!(!restraint.allows(start, LOG_ENTRIES_HELD_MAX - 1));
        assert!(restraint.allows(start, LOG_ENTRIES_HELD_MAX));
        restraint.keep_log(false);
        assert!(restraint.allows(start, 0));
        restraint.failed(start);
        assert!(!restraint.allows(start, LOG_ENTRIES_HELD_MAX));
        assert!(restraint.allows(later, 0));
    }
}
