//! The engine's copy of the cluster map.
//!
//! In: the metadata's answers. Out: the newest map that was seen, without waiting, or one that was
//! asked for after the caller came. However many callers ask, one query is under way at a time.
//!
//! The map is followed by asking for it once a second, with the epoch that is known, so that the
//! answer is nearly always that nothing is new; whoever meets a disk that isn't where the map says
//! has it asked for at once. Held-open questions would tell a new epoch half a second sooner on
//! average, and would have to survive every change of the leader; this has nothing to survive.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use model::cluster_map::ClusterMap;
use model::query::{Answer, MetadataError, Query};
use tokio::sync::{Mutex, Notify, watch};
use wire::clock::Clock;

use crate::metadata_door::Metadata;
use crate::open_groups::OpenGroups;
use crate::patience::PatientMetadata;

/// The cached map.
pub(crate) struct MapCache {
    metadata: Arc<PatientMetadata>,
    clock: Arc<dyn Clock>,
    current: watch::Sender<Option<Arc<ClusterMap>>>,
    /// Of the current map, so that no extent has to look at every group of it.
    open: RwLock<Option<Arc<OpenGroups>>>,
    /// Refreshes that ended; who waited through a whole one needs no other.
    refreshed: AtomicU64,
    /// When the last one that was answered began, in nanoseconds of the monotonic clock; the map
    /// is no older than this.
    confirmed: AtomicU64,
    refreshing: Mutex<()>,
    nudged: Notify,
}

impl MapCache {
    pub(crate) fn new(metadata: Arc<PatientMetadata>, clock: Arc<dyn Clock>) -> Self {
        Self {
            metadata,
            clock,
            current: watch::Sender::new(None),
            open: RwLock::default(),
            refreshed: AtomicU64::new(0),
            confirmed: AtomicU64::new(0),
            refreshing: Mutex::new(()),
            nudged: Notify::new(),
        }
    }

    /// The newest map that was seen; `None` before the first.
    pub(crate) fn current(&self) -> Option<Arc<ClusterMap>> {
        self.current.borrow().clone()
    }

    /// The groups of the newest map that new extents may go to; `None` before the first.
    pub(crate) fn open_groups(&self) -> Option<Arc<OpenGroups>> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Every newer map, as it is seen.
    pub(crate) fn follow(&self) -> watch::Receiver<Option<Arc<ClusterMap>>> {
        self.current.subscribe()
    }

    /// How long ago the current map was the newest for certain; `None` before the first.
    pub(crate) fn age(&self) -> Option<Duration> {
        self.current.borrow().as_ref()?;
        let confirmed = Duration::from_nanos(self.confirmed.load(Ordering::Relaxed));
        Some(self.clock.monotonic().saturating_sub(confirmed))
    }

    /// The newest map that was seen; waits for the first.
    pub(crate) async fn get(&self) -> Result<Arc<ClusterMap>, MetadataError> {
        match self.current() {
            Some(map) => Ok(map),
            None => self.refresh().await,
        }
    }

    /// A map as new as this call.
    pub(crate) async fn refresh(&self) -> Result<Arc<ClusterMap>, MetadataError> {
        let before = self.refreshed.load(Ordering::Acquire);
        let _turn = self.refreshing.lock().await;
        // Two ended while we waited: the later one began after we came.
        if self.refreshed.load(Ordering::Acquire) >= before + 2
            && let Some(map) = self.current()
        {
            return Ok(map);
        }
        let began = self.clock.monotonic();
        let answer = self.metadata.query(self.question()).await?;
        self.take(began, answer)
    }

    /// As [`MapCache::refresh`], and also while the metadata is silent: its first answer tells the
    /// others that it is back.
    pub(crate) async fn probe(&self) -> Result<Arc<ClusterMap>, MetadataError> {
        let _turn = self.refreshing.lock().await;
        let began = self.clock.monotonic();
        let answer = self.metadata.probe(self.question()).await?;
        self.take(began, answer)
    }

    /// Wakes whoever waits in [`MapCache::nudged`], as a disk misbehaves.
    pub(crate) fn nudge(&self) {
        self.nudged.notify_one();
    }

    /// Ends at the next nudge.
    pub(crate) async fn nudged(&self) {
        self.nudged.notified().await;
    }

    fn question(&self) -> Query {
        let known_epoch = self.current.borrow().as_ref().map_or(0, |map| map.epoch);
        Query::ClusterMap { known_epoch }
    }

    fn take(&self, began: Duration, answer: Answer) -> Result<Arc<ClusterMap>, MetadataError> {
        match answer {
            Answer::ClusterMap(Some(map)) => self.put(map),
            Answer::ClusterMap(None) => {}
            _ => return Err(MetadataError::Unavailable),
        }
        let map = self.current().ok_or(MetadataError::Unavailable)?;
        let began = u64::try_from(began.as_nanos()).unwrap_or(u64::MAX);
        self.confirmed.store(began, Ordering::Relaxed);
        self.refreshed.fetch_add(1, Ordering::Release);
        Ok(map)
    }

    /// Of one caller at a time: whoever asks has the turn.
    fn put(&self, map: ClusterMap) {
        let known = self.current.borrow().as_ref().map(|known| known.epoch);
        if known.is_some_and(|known| map.epoch <= known) {
            return;
        }
        metrics::gauge!("drystone_map_epoch").set(map.epoch as f64);
        let map = Arc::new(map);
        let open = Arc::new(OpenGroups::new(Arc::clone(&map)));
        // Whoever follows the map finds its groups.
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = Some(open);
        self.current.send_replace(Some(map));
    }
}
