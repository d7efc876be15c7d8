//! The state of a disk: `ok` ⇄ `full`, and from either for good to `read-only` and `failed`.
//!
//! | what happens | state |
//! | --- | --- |
//! | less space than the reserve, or none | `full`, until there is space again |
//! | a write, a sync or a checkpoint fails; the file system turns read-only | `read-only` |
//! | reads fail at [`BAD_PLACES_MAX`] different places | `read-only` |
//! | reads fail [`FAILURES_IN_A_ROW_MAX`] times in a row, at several places | `failed` |
//! | the directory or a file in it is gone; the index can't be asked | `failed` |
//!
//! For good means until the disk is opened again, which reads the log's tail from the device.
//! A disk that stalls is reported as `failed` too, but only until it answers
//! ([`super::watched`]).

use crate::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use crate::sync::Mutex;

use model::ids::DiskId;
use model::shard::{DiskHealth, ShardError};
use tokio::sync::Notify;

use crate::lock::lock;

/// A disk that can't be read at so many places (of a MiB each) is dying: nothing more is put there.
const BAD_PLACES_MAX: usize = 8;
/// A disk whose reads fail so often without one that succeeds gives nothing any more.
const FAILURES_IN_A_ROW_MAX: u32 = 16;
/// That many different places take part in a row of failures: one bad spot that is read again and
/// again says nothing of the rest.
const FAILURE_PLACES_MIN: usize = 3;

/// The health of one disk, and who is told when it changes.
pub(crate) struct Health {
    disk: DiskId,
    level: AtomicU8,
    reason: Mutex<Option<String>>,
    /// Whether the last read failed.
    read_failed: AtomicBool,
    read_failures: Mutex<ReadFailures>,
    changed: Arc<Notify>,
}

#[derive(Default)]
struct ReadFailures {
    in_a_row: u32,
    row_places: BTreeSet<(u64, u64)>,
    /// All places of this run; bounded, since the disk's state changes at a few.
    places: BTreeSet<(u64, u64)>,
}

const fn level_of(health: DiskHealth) -> u8 {
    match health {
        DiskHealth::Ok => 0,
        DiskHealth::Full => 1,
        DiskHealth::ReadOnly => 2,
        DiskHealth::Failed => 3,
    }
}

impl Health {
    pub(crate) fn new(disk: DiskId, changed: Arc<Notify>) -> Self {
        Self {
            disk,
            level: AtomicU8::new(0),
            reason: Mutex::default(),
            read_failed: AtomicBool::new(false),
            read_failures: Mutex::default(),
            changed,
        }
    }

    pub(crate) fn get(&self) -> DiskHealth {
        match self.level.load(Ordering::Acquire) {
            0 => DiskHealth::Ok,
            1 => DiskHealth::Full,
            2 => DiskHealth::ReadOnly,
            _ => DiskHealth::Failed,
        }
    }

    pub(crate) fn reason(&self) -> Option<String> {
        lock(&self.reason).clone()
    }

    /// Makes the state worse; a state that is as bad already stays, with its first reason.
    pub(crate) fn worsen(&self, to: DiskHealth, reason: &str) {
        {
            let mut held = lock(&self.reason);
            if level_of(to) <= self.level.load(Ordering::Acquire) {
                return;
            }
            self.level.store(level_of(to), Ordering::Release);
            *held = Some(reason.to_owned());
        }
        match to {
            DiskHealth::Ok | DiskHealth::Full => {
                tracing::warn!(disk = %self.disk, reason, "the disk is {}", to.as_str());
            }
            DiskHealth::ReadOnly | DiskHealth::Failed => {
                tracing::error!(disk = %self.disk, reason, "the disk is {}", to.as_str());
            }
        }
        self.changed.notify_waiters();
        self.changed.notify_one();
    }

    /// A failed write or sync: the disk takes no more (R4), or is gone.
    pub(crate) fn write_failed(&self, error: &io::Error, what: &str) {
        let reason = format!("{what}: {error}");
        if error.kind() == io::ErrorKind::NotFound {
            self.worsen(DiskHealth::Failed, &reason);
        } else {
            self.worsen(DiskHealth::ReadOnly, &reason);
        }
    }

    /// The device failed a read of a segment. Tells whether the disk can still be read.
    pub(crate) fn read_failed(&self, segment: u64, offset: u64, error: &io::Error) -> bool {
        let (in_a_row, row_places, places) = {
            let mut failures = lock(&self.read_failures);
            let place = (segment, offset >> 20);
            failures.in_a_row = failures.in_a_row.saturating_add(1);
            if failures.row_places.len() < FAILURE_PLACES_MIN {
                failures.row_places.insert(place);
            }
            if failures.places.len() < BAD_PLACES_MAX {
                failures.places.insert(place);
            }
            self.read_failed.store(true, Ordering::Release);
            (failures.in_a_row, failures.row_places.len(), failures.places.len())
        };
        if in_a_row >= FAILURES_IN_A_ROW_MAX && row_places >= FAILURE_PLACES_MIN {
            let reason = format!("{in_a_row} reads have failed in a row: {error}");
            self.worsen(DiskHealth::Failed, &reason);
        } else if places >= BAD_PLACES_MAX {
            let reason = format!("reads have failed at {places} places: {error}");
            self.worsen(DiskHealth::ReadOnly, &reason);
        }
        self.check_read().is_ok()
    }

    /// The device gave what was read.
    pub(crate) fn read_succeeded(&self) {
        if self.read_failed.load(Ordering::Acquire) {
            let mut failures = lock(&self.read_failures);
            failures.in_a_row = 0;
            failures.row_places.clear();
            self.read_failed.store(false, Ordering::Release);
        }
    }

    /// Space has come back.
    pub(crate) fn space_returned(&self) {
        {
            let mut held = lock(&self.reason);
            if self.get() != DiskHealth::Full {
                return;
            }
            self.level.store(level_of(DiskHealth::Ok), Ordering::Release);
            *held = None;
        }
        tracing::info!(disk = %self.disk, "the disk has space again");
        self.changed.notify_one();
    }

    /// Whether shards may be appended.
    pub(crate) fn check_append(&self) -> Result<(), ShardError> {
        match self.get() {
            DiskHealth::Ok => Ok(()),
            DiskHealth::Full => Err(ShardError::Full(self.disk)),
            DiskHealth::ReadOnly => Err(ShardError::ReadOnly(self.disk)),
            DiskHealth::Failed => Err(ShardError::Failed(self.disk)),
        }
    }

    /// Whether tombstones may be appended, and syncs answered.
    pub(crate) fn check_write(&self) -> Result<(), ShardError> {
        match self.get() {
            DiskHealth::Full => Ok(()),
            _ => self.check_append(),
        }
    }

    /// Whether anything may be read.
    pub(crate) fn check_read(&self) -> Result<(), ShardError> {
        match self.get() {
            DiskHealth::Ok | DiskHealth::Full | DiskHealth::ReadOnly => Ok(()),
            DiskHealth::Failed => Err(ShardError::Failed(self.disk)),
        }
    }
}

/// Whether an error says that there is no space.
pub(crate) fn is_out_of_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether an error is for want of something in this process or machine (memory, open files), and
/// so says nothing of the disk.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    /// `ENFILE` and `EMFILE`.
    const OPEN_FILES: [i32; 2] = [23, 24];
    error.kind() == io::ErrorKind::OutOfMemory
        || error.raw_os_error().is_some_and(|code| OPEN_FILES.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health() -> Health {
        Health::new(DiskId(1), Arc::default())
    }

    fn error() -> io::Error {
        io::Error::other("bad sector")
    }

    #[test]
    fn one_bad_spot_is_no_bad_disk_however_often_it_is_read() {
        let health = health();
        for _ in 0..1000 {
            assert!(health.read_failed(1, 5000, &error()));
        }
        assert_eq!(health.get(), DiskHealth::Ok);
    }

    #[test]
    fn many_bad_places_make_it_read_only() {
        let health = health();
        for place in 0..BAD_PLACES_MAX as u64 {
            assert_eq!(health.get(), DiskHealth::Ok);
            assert!(health.read_failed(1, place << 20, &error()));
            health.read_succeeded();
        }
        assert_eq!(health.get(), DiskHealth::ReadOnly);
        assert!(health.reason().expect("a reason").contains("bad sector"));
    }

    #[test]
    fn reads_that_always_fail_make_it_failed() {
        let health = health();
        for round in 1..FAILURES_IN_A_ROW_MAX {
            assert!(health.read_failed(1, u64::from(round % 3) << 20, &error()));
        }
        assert!(!health.read_failed(1, 0, &error()));
        assert_eq!(health.get(), DiskHealth::Failed);
    }

    #[test]
    fn only_what_the_disk_did_counts_against_it() {
        assert!(is_shortage(&io::Error::from_raw_os_error(24)));
        assert!(!is_shortage(&io::Error::from_raw_os_error(5)));
    }
}
