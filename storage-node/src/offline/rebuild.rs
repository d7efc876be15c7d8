//! Makes the index of a stopped disk anew from its segments. The one offline tool that writes.
//!
//! It does what a start does that finds no index: the disk's run is raised, a torn tail cut, the
//! index written. The old index is kept aside until the new one is there, and put back when none can
//! be made. A crash in between leaves no index or a sound one, and both are right.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use model::ids::Incarnation;
use wire::clock::Clock;
use wire::disk::Disk;

use super::Watch;
use super::directory::{OfflineError, ShardsDirectory};
use super::index_report::{missing, reached};
use super::overlay::Overlay;
use super::root::{Progress, Root};
use crate::index::{INDEX_NAME, Index};
use crate::lock::lock;
use crate::options::StoreOptions;
use crate::store::{OpenError, recover};

/// What the old index is called meanwhile. Nobody reads it; the next rebuild replaces it.
const ASIDE_NAME: &str = "index.redb.old";
/// How often progress is told.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// A segment that held live shards when the index was last written, and is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingSegment {
    /// Its number.
    pub segment: u64,
    /// Live shards that were in it.
    pub shards: u64,
}

/// Why an index was not made anew.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The directory is refused; nothing was changed.
    #[error(transparent)]
    Refused(#[from] OfflineError),
    /// The old index can't be put aside; it is where it was.
    #[error("the old index can't be put aside: {0}")]
    PutAside(io::Error),
    /// The disk can't be opened. It has the index that it had.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The disk can't be opened, and the old index not be put back: the next start makes one.
    #[error("{cause}; and the old index can't be put back: {error}")]
    PutBack {
        /// Why no index was made.
        cause: OpenError,
        /// Why the old one isn't back.
        error: io::Error,
    },
    /// The new index is there, but the old one is still beside it.
    #[error("the index was made anew, but the old one can't be removed: {0}")]
    Remove(io::Error),
}

/// What the new index holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    /// Live shards.
    pub shards: u64,
    /// Bytes of their records.
    pub live_bytes: u64,
    /// Bytes of the log that aren't live.
    pub garbage_bytes: u64,
    /// Damaged regions of the segments.
    pub damaged_regions: u64,
    /// The disk's run now.
    pub incarnation: Incarnation,
    /// What the old index knew to be there and isn't: the new one can't tell of it any more.
    pub missing: Vec<MissingSegment>,
}

/// Makes the index anew. The caller holds the lock that keeps servers out. `watch` is told of about
/// [`ShardsDirectory::bytes`] bytes.
pub fn rebuild_index(
    directory: &ShardsDirectory,
    clock: Arc<dyn Clock>,
    watch: Watch<'_>,
) -> Result<Rebuilt, RebuildError> {
    let options = StoreOptions::default();
    let overlay = Overlay::new(Arc::clone(&directory.disk));
    let lost = match Index::open(&overlay, directory.identity.uuid, options.index_cache_bytes) {
        Ok((index, saved)) => {
            index.close();
            missing(directory, &saved)
        }
        Err(_) => Vec::new(),
    };
    let had_index = match directory.disk.rename(INDEX_NAME, ASIDE_NAME) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(RebuildError::PutAside(error)),
    };
    let progress = Progress::default();
    let root = Root::new(Arc::clone(&directory.disk), Arc::clone(&progress));
    let done = AtomicBool::new(false);
    let opened = std::thread::scope(|scope| {
        let opener = scope.spawn(|| {
            let (identity, never) = (directory.identity, Duration::MAX);
            let opened = recover(&root, identity, options, clock, never, Arc::default());
            done.store(true, Ordering::Release);
            opened
        });
        let mut told = 0;
        while !done.load(Ordering::Acquire) && !opener.is_finished() {
            std::thread::park_timeout(WATCH_INTERVAL);
            let now = reached(&progress);
            watch(now - told);
            told = now;
        }
        opener.join()
    });
    let (shared, _) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(cause)) if had_index => {
            return Err(match put_back(&*directory.disk) {
                Ok(()) => RebuildError::Open(cause),
                Err(error) => RebuildError::PutBack { cause, error },
            });
        }
        Ok(Err(cause)) => return Err(RebuildError::Open(cause)),
        Err(panic) => {
            if had_index {
                // The panic says more than what this may add.
                let _ = put_back(&*directory.disk);
            }
            std::panic::resume_unwind(panic)
        }
    };
    shared.index.close();
    match directory.disk.remove(ASIDE_NAME).and_then(|()| directory.disk.sync_directory()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(RebuildError::Remove(error));
        }
        _ => {}
    }
    let ledger = lock(&shared.ledger);
    let totals = ledger.totals();
    Ok(Rebuilt {
        shards: totals.shards,
        live_bytes: totals.live_bytes,
        garbage_bytes: totals.garbage_bytes,
        damaged_regions: ledger.damaged_regions() as u64,
        incarnation: shared.incarnation,
        missing: lost,
    })
}

/// Puts the old index in place of what a rebuild that failed has left. Its checksums beside it may be
/// the new one's; then the next start checks it the long way.
fn put_back(disk: &dyn Disk) -> io::Result<()> {
    disk.rename(ASIDE_NAME, INDEX_NAME)?;
    disk.sync_directory()
}
