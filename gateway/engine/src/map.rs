//! The engine's copy of the cluster map.
//!
//! In: the metadata's answers. Out: the newest map that was seen, without waiting, or one that was
//! asked for after the caller came. However many callers ask, one query is under way at a time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use model::cluster_map::ClusterMap;
use model::query::{Answer, MetadataError, Query};
use tokio::sync::{Mutex, Notify};

use crate::metadata_door::Metadata;

/// The cached map.
pub(crate) struct MapCache {
    metadata: Arc<dyn Metadata>,
    current: RwLock<Option<Arc<ClusterMap>>>,
    /// Refreshes that ended; who waited through a whole one needs no other.
    refreshed: AtomicU64,
    refreshing: Mutex<()>,
    nudged: Notify,
}

impl MapCache {
    pub(crate) fn new(metadata: Arc<dyn Metadata>) -> Self {
        Self {
            metadata,
            current: RwLock::new(None),
            refreshed: AtomicU64::new(0),
            refreshing: Mutex::new(()),
            nudged: Notify::new(),
        }
    }

    /// The newest map that was seen; `None` before the first.
    pub(crate) fn current(&self) -> Option<Arc<ClusterMap>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
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
        let known_epoch = self.current().map_or(0, |map| map.epoch);
        let answer = self.metadata.query(Query::ClusterMap { known_epoch }).await?;
        let map = match answer {
            Answer::ClusterMap(Some(map)) => self.put(map),
            Answer::ClusterMap(None) => self.current().ok_or(MetadataError::Unavailable)?,
            _ => return Err(MetadataError::Unavailable),
        };
        self.refreshed.fetch_add(1, Ordering::Release);
        Ok(map)
    }

    /// Wakes whoever waits in [`MapCache::nudged`], as a disk misbehaves.
    pub(crate) fn nudge(&self) {
        self.nudged.notify_one();
    }

    /// Ends at the next nudge.
    pub(crate) async fn nudged(&self) {
        self.nudged.notified().await;
    }

    fn put(&self, map: ClusterMap) -> Arc<ClusterMap> {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Some(known) if known.epoch > map.epoch => Arc::clone(known),
            _ => {
                let map = Arc::new(map);
                *current = Some(Arc::clone(&map));
                map
            }
        }
    }
}
