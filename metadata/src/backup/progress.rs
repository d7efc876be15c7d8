//! What became of the backups that go to one target.
//!
//! In: what the schedule did and saw there. Out: figures for the status, and metrics by target. What
//! always holds: the newest backup is the newest that is whole in the store, whoever took it; an error
//! is told until the store does what it is asked again.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::time::Timestamp;

use super::schedule::{ScheduleError, Whose};

/// A backup is late when the newest is older than so many intervals.
const LATE_INTERVALS: u32 = 3;

/// What is known of a target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackupFigures {
    /// When the newest whole backup was taken.
    pub newest: Option<Timestamp>,
    /// Bytes of it, where this process took it.
    pub newest_bytes: Option<u64>,
    /// Attempts of this process that failed.
    pub failures: u64,
    /// Why the last attempt failed; `None` once one has succeeded since, or none was due and nothing
    /// failed.
    pub error: Option<String>,
    /// Whose turn it was when that was last looked at; `None` before that.
    pub turn: Option<Whose>,
    /// Since when backups are to be taken at all.
    expected_since: Option<Timestamp>,
}

/// A target, and what became of the backups there.
#[derive(Debug)]
pub struct BackupProgress {
    name: &'static str,
    place: String,
    interval: Duration,
    figures: Mutex<BackupFigures>,
}

impl BackupProgress {
    /// Of a target that metrics call `name` and people find at `place`, which names no secret; a
    /// backup goes there each `interval`.
    pub fn new(name: &'static str, place: String, interval: Duration) -> Self {
        Self { name, place, interval, figures: Mutex::default() }
    }

    /// What metrics call the target.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Where people find it.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// What is known.
    pub fn figures(&self) -> BackupFigures {
        self.lock().clone()
    }

    /// Whether the newest backup is older than it may be.
    pub fn is_late(&self, now: Timestamp) -> bool {
        let figures = self.lock();
        let Some(expected) = figures.expected_since else { return false };
        let allowed = self.interval.saturating_mul(LATE_INTERVALS);
        let allowed = u64::try_from(allowed.as_nanos()).unwrap_or(u64::MAX);
        now > figures.newest.unwrap_or(expected).plus_nanos(allowed)
    }

    /// Takes note of whose turn it is: while it is nobody's, nothing is late.
    pub fn note_turn(&self, whose: Whose, now: Timestamp) {
        let mut figures = self.lock();
        figures.turn = Some(whose);
        match whose {
            Whose::Mine | Whose::Another => {
                figures.expected_since.get_or_insert(now);
            }
            Whose::Unknown => {}
            Whose::Nobody => figures.expected_since = None,
        }
    }

    /// Takes note of the newest backup that is in the store.
    pub fn note_newest(&self, newest: Option<Timestamp>) {
        let mut figures = self.lock();
        if figures.newest != newest {
            (figures.newest, figures.newest_bytes) = (newest, None);
        }
        drop(figures);
        self.tell_newest(newest);
    }

    /// Takes note of a backup that this process has taken.
    pub fn note_taken(&self, at: Timestamp, bytes: u64) {
        let mut figures = self.lock();
        (figures.newest, figures.newest_bytes) = (Some(at), Some(bytes));
        drop(figures);
        self.tell_newest(Some(at));
        metrics::counter!("drystone_metadata_backup_bytes_total", "target" => self.name)
            .increment(bytes);
    }

    /// Takes note that the store did all that it was asked.
    pub fn note_success(&self) {
        self.lock().error = None;
    }

    /// Takes note of an attempt that failed.
    pub fn note_failure(&self, error: &ScheduleError) {
        let mut figures = self.lock();
        figures.failures += 1;
        figures.error = Some(error.to_string());
        drop(figures);
        metrics::counter!("drystone_metadata_backup_failures_total", "target" => self.name)
            .increment(1);
    }

    fn tell_newest(&self, newest: Option<Timestamp>) {
        if let Some(newest) = newest {
            metrics::gauge!("drystone_metadata_backup_taken_seconds", "target" => self.name)
                .set(newest.as_seconds() as f64);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BackupFigures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn seconds(seconds: u64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    #[test]
    fn a_backup_is_late_after_three_intervals() {
        let progress = BackupProgress::new("remote", String::new(), Duration::from_secs(100));
        assert!(!progress.is_late(seconds(10_000)), "none is expected yet");
        progress.note_turn(Whose::Mine, seconds(1000));
        progress.note_turn(Whose::Mine, seconds(1200));
        assert!(!progress.is_late(seconds(1300)));
        assert!(progress.is_late(seconds(1301)), "none was ever taken");
        progress.note_taken(seconds(1302), 7);
        assert!(!progress.is_late(seconds(1602)));
        assert!(progress.is_late(seconds(1603)));
        progress.note_newest(Some(seconds(1603)));
        assert!(!progress.is_late(seconds(1603)), "another process took it");
        progress.note_turn(Whose::Unknown, seconds(9000));
        assert!(progress.is_late(seconds(9000)));
        progress.note_turn(Whose::Nobody, seconds(9000));
        assert!(!progress.is_late(seconds(9000)));
    }

    #[test]
    fn an_error_is_told_until_all_goes_well() {
        let progress = BackupProgress::new("remote", String::new(), Duration::from_secs(100));
        progress.note_failure(&ScheduleError::Store(io::Error::other("no way there")));
        progress.note_newest(Some(seconds(5)));
        let figures = progress.figures();
        assert_eq!((figures.failures, figures.newest), (1, Some(seconds(5))));
        let error = figures.error.expect("told");
        assert_eq!(error, "the store of the backups failed: no way there");
        progress.note_taken(seconds(6), 9);
        assert!(progress.figures().error.is_some(), "older ones may not be removed");
        progress.note_success();
        let figures = progress.figures();
        assert_eq!((figures.failures, figures.error, figures.newest_bytes), (1, None, Some(9)));
        progress.note_newest(Some(seconds(6)));
        assert_eq!(progress.figures().newest_bytes, Some(9), "it is the same backup");
    }
}
