//! Compaction: gives back the space of what was deleted.
//!
//! [`plan`] chooses a segment and a rate, [`run`] carries what is still needed of it to the end
//! of the log and condemns it, [`free`] removes the condemned once a checkpoint has made the
//! index that knows no more of them durable. [`deaths`] remembers what died lately, [`quarantine`]
//! keeps aside what is damaged.
//!
//! What always holds: a segment is removed only when every record in it was proved to be needed
//! no more (I-9), and only after the copies of what was needed, and the index that points to
//! them, are durable. A damaged live record holds its segment until it is repaired or deleted.
//! Whatever crashes in between, the segments that are left hold everything, and the work begins
//! again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::shard::CompactionReport;
use model::time::Timestamp;

mod deaths;
mod free;
mod plan;
mod quarantine;
mod run;
mod survey;
mod thread;

pub(crate) use free::free;
pub(crate) use run::reclaim_all;
pub(crate) use thread::Compactor;

use crate::lock::lock;
use crate::store::Shared;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};
use deaths::Deaths;
use survey::Survey;

/// What compaction knows of one disk.
pub(crate) struct Compaction {
    /// Held by whoever compacts: one at a time.
    turn: Mutex<()>,
    /// Segments of which nothing is needed, with the bytes of their files.
    condemned: Mutex<BTreeMap<u64, u64>>,
    /// Segments that were not to be compacted, and until when they are left alone.
    avoided: Mutex<BTreeMap<u64, Duration>>,
    deaths: Mutex<Deaths>,
    surveys: Mutex<BTreeMap<u64, Survey>>,
    /// When the next segment may be surveyed.
    survey_due: Mutex<Duration>,
    /// The monotonic time at which the disk was opened.
    opened: Duration,
    moved_bytes: AtomicU64,
    reclaimed_bytes: AtomicU64,
    segments: AtomicU64,
    appended_bytes: AtomicU64,
}

impl Compaction {
    pub(crate) fn new(now: Duration) -> Self {
        Self {
            turn: Mutex::default(),
            condemned: Mutex::default(),
            avoided: Mutex::default(),
            deaths: Mutex::default(),
            surveys: Mutex::default(),
            survey_due: Mutex::default(),
            opened: now,
            moved_bytes: AtomicU64::new(0),
            reclaimed_bytes: AtomicU64::new(0),
            segments: AtomicU64::new(0),
            appended_bytes: AtomicU64::new(0),
        }
    }

    /// Figures since the disk was opened.
    pub(crate) fn report(&self) -> CompactionReport {
        CompactionReport {
            moved_bytes: self.moved_bytes.load(Ordering::Relaxed),
            reclaimed_bytes: self.reclaimed_bytes.load(Ordering::Relaxed),
            segments: self.segments.load(Ordering::Relaxed),
            appended_bytes: self.appended_bytes.load(Ordering::Relaxed),
        }
    }

    /// Clients appended records of so many bytes.
    pub(crate) fn appended(&self, bytes: u64) {
        self.appended_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Records of so many bytes were carried to the end of the log.
    pub(crate) fn moved(&self, bytes: u64) {
        self.moved_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Shards were deleted: segments and bytes. They stay for the grace period.
    pub(crate) fn died(&self, deaths: Vec<(u64, u64)>, now: Duration, grace: Duration) {
        if !deaths.is_empty() && !grace.is_zero() {
            lock(&self.deaths).add(deaths, now, grace);
        }
    }

    /// The segments that are to be removed.
    pub(crate) fn condemned(&self) -> Vec<u64> {
        lock(&self.condemned).keys().copied().collect()
    }

    /// Whether there are any.
    pub(crate) fn has_condemned(&self) -> bool {
        !lock(&self.condemned).is_empty()
    }

    fn condemned_bytes(&self) -> u64 {
        lock(&self.condemned).values().sum()
    }

    fn condemn(&self, segment: u64, bytes: u64) {
        lock(&self.condemned).insert(segment, bytes);
    }

    /// A condemned segment is gone.
    fn removed(&self, segment: u64) -> u64 {
        lock(&self.surveys).remove(&segment);
        lock(&self.avoided).remove(&segment);
        let bytes = lock(&self.condemned).remove(&segment).unwrap_or(0);
        self.reclaimed_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.segments.fetch_add(1, Ordering::Relaxed);
        bytes
    }

    fn may_survey(&self, now: Duration) -> bool {
        now >= *lock(&self.survey_due)
    }

    /// So many bytes were read to find out what tombstones guard.
    fn surveyed(&self, now: Duration, bytes: u64, rate: Option<u64>) {
        if let Some(rate) = rate {
            let micros = bytes.saturating_mul(1_000_000) / rate.max(1);
            *lock(&self.survey_due) = now + Duration::from_micros(micros);
        }
    }

    fn avoid(&self, segment: u64, until: Duration) {
        lock(&self.avoided).insert(segment, until);
    }

    /// The segments that are not to be chosen now.
    fn untouchable(&self, now: Duration) -> BTreeSet<u64> {
        let mut avoided = lock(&self.avoided);
        avoided.retain(|_, until| *until > now);
        avoided.keys().copied().chain(lock(&self.condemned).keys().copied()).collect()
    }
}

impl Shared {
    /// Whether what was deleted at that time has been kept for the grace period. A time that lies
    /// in the future was told by another clock: then the period begins when the disk was opened.
    pub(crate) fn is_ripe(&self, deleted: Timestamp) -> bool {
        let age = match self.clock.now().0.checked_sub(deleted.0) {
            Some(nanos) => Duration::from_nanos(nanos),
            None => self.clock.monotonic().saturating_sub(self.compaction.opened),
        };
        age >= self.options.grace
    }
}
