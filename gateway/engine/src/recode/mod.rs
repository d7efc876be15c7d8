//! Recoding: what a bucket holds gets the coding of another storage class.
//!
//! In: buckets with an order ([`model::class::RecodeOrder`]). Out: the same objects in other extents; the
//! metadata forgets the order when a whole pass found nothing to do.
//!
//! [`plan`] decides when to wait and what goes into one step; [`object`] recodes one object; [`run`] works
//! off the orders, object by object; [`rest`] remembers which of them can't be carried out for now.
//!
//! What always holds: an object is readable at every moment, and by whoever began to read it before;
//! what takes the place of an extent is whole on stable storage, with all of its shards, before the
//! metadata hears of it (I-12); nothing is recoded while redundancy is short anywhere: no object, and no
//! step of a large one, is begun by a map that says so.

mod object;
mod plan;
mod rest;
mod run;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use model::names::BucketName;
use tokio::sync::Notify;

pub use plan::RecodePause;
pub(crate) use run::run;

/// What recoding shares with the rest of the engine.
#[derive(Default)]
pub(crate) struct RecodeDesk {
    /// An order was given.
    wake: Notify,
    objects: AtomicU64,
    bytes: AtomicU64,
    failures: AtomicU64,
    state: Mutex<(Option<BucketName>, Option<RecodePause>)>,
}

/// What recoding has come to since the engine began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecodeProgress {
    /// Objects that were recoded.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Attempts that failed; they are repeated.
    pub failures: u64,
    /// The bucket that this gateway recodes now.
    pub bucket: Option<BucketName>,
    /// Why nothing is recoded though there are orders, if so.
    pub paused: Option<RecodePause>,
}

impl RecodeDesk {
    /// Has the orders looked at now.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// What it has come to.
    pub(crate) fn progress(&self) -> RecodeProgress {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (bucket, paused) = self.state().clone();
        RecodeProgress {
            objects: read(&self.objects),
            bytes: read(&self.bytes),
            failures: read(&self.failures),
            bucket,
            paused,
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, (Option<BucketName>, Option<RecodePause>)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_bucket(&self, bucket: Option<BucketName>) {
        self.state().0 = bucket;
    }

    fn set_paused(&self, paused: Option<RecodePause>) {
        self.state().1 = paused;
    }

    fn count(&self, bytes: u64) {
        self.objects.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        metrics::counter!("drystone_recode_objects_total").increment(1);
        metrics::counter!("drystone_recode_bytes_total").increment(bytes);
    }

    fn count_failure(&self, failure: RecodeFailure) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("drystone_recode_failures_total", "kind" => failure.as_str())
            .increment(1);
    }
}

/// Why an object wasn't recoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecodeFailure {
    /// It has another body by now, or is gone. Nothing is lost; the next pass looks again.
    #[error("the object has changed meanwhile")]
    Changed,
    /// Too few of its shards are in reach, or left.
    #[error("too few of its shards can be read now")]
    Unreadable,
    /// Its new extents would not have the coding, or all of their shards.
    #[error("not enough disks take its new shards")]
    NoPlace,
    /// None of its shards says whose it is.
    #[error("none of its shards tells its owner")]
    NoOwner,
    /// The metadata can't be asked, or doesn't say what came of it.
    #[error("the metadata service is not available")]
    Unavailable,
    /// The metadata says no.
    #[error("the metadata refuses it")]
    Refused,
    /// Nothing is to be recoded for now. It isn't a failure; what is left of it is done later.
    #[error("recoding waits")]
    Paused(RecodePause),
}

impl RecodeFailure {
    /// The word used in metrics.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Unreadable => "unreadable",
            Self::NoPlace => "no-place",
            Self::NoOwner => "no-owner",
            Self::Unavailable => "unavailable",
            Self::Refused => "refused",
            Self::Paused(_) => "paused",
        }
    }
}

impl From<model::query::MetadataError> for RecodeFailure {
    fn from(_: model::query::MetadataError) -> Self {
        Self::Unavailable
    }
}
