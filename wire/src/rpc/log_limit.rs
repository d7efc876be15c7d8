//! Complains about the same peer once a minute at most: who knocks often must not fill the log.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::limits::{LOGGED_EVERY, LOGGED_PEERS_MAX};

/// When whom was complained about last.
#[derive(Default)]
pub(super) struct LogLimit {
    last: Mutex<HashMap<String, Duration>>,
}

impl LogLimit {
    /// Whether `peer` may be complained about now, in monotonic time.
    pub fn allows(&self, peer: &str, now: Duration) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = last.get_mut(peer) {
            let is_due = now.saturating_sub(*before) >= LOGGED_EVERY;
            if is_due {
                *before = now;
            }
            return is_due;
        }
        if last.len() >= LOGGED_PEERS_MAX {
            last.retain(|_, before| now.saturating_sub(*before) < LOGGED_EVERY);
        }
        if last.len() >= LOGGED_PEERS_MAX {
            // So many in a minute: one more line says nothing new.
            return false;
        }
        last.insert(peer.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_complained_about_once_a_minute_and_memory_is_bounded() {
        let limit = LogLimit::default();
        let at = Duration::from_secs;
        assert!(limit.allows("a", at(0)));
        assert!(!limit.allows("a", at(59)));
        assert!(limit.allows("b", at(59)));
        assert!(limit.allows("a", at(60)));
        for peer in 0..2 * LOGGED_PEERS_MAX {
            limit.allows(&peer.to_string(), at(61));
        }
        assert!(!limit.allows("c", at(62)));
        assert!(limit.allows("c", at(200)));
        assert!(limit.last.lock().expect("not poisoned").len() <= LOGGED_PEERS_MAX);
    }
}
