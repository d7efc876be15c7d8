//! What the operator may choose for a disk, and who a disk is.

use std::time::Duration;

use model::ids::{ClusterId, DiskId, DiskUuid};

/// Who a disk is: checked against what is written on it before anything is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskIdentity {
    /// The cluster that it belongs to.
    pub cluster: ClusterId,
    /// Its number in the cluster map.
    pub disk: DiskId,
    /// Drawn at random when the directory was formatted.
    pub uuid: DiskUuid,
}

/// How a disk is kept. Every field has a default that suits a real disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// A segment is closed when it has reached this length (at most 2 GiB are used).
    pub segment_bytes: u64,
    /// Space is reserved in steps that double up to this many bytes, so that a small store stays
    /// small and a busy one extends its file seldom.
    pub allocation_step_bytes_max: u64,
    /// A checkpoint is taken after this many bytes of log: it bounds the replay after a crash.
    pub checkpoint_log_bytes: u64,
    /// A checkpoint is taken after so many changes, which bounds the memory they take.
    pub checkpoint_changes: usize,
    /// A checkpoint is taken when changes are older than this.
    pub checkpoint_age: Duration,
    /// Memory that redb may use as its cache.
    pub index_cache_bytes: usize,
    /// Bytes that may wait for the writer; more wait in front of the queue.
    pub queue_bytes: u64,
    /// How long a request waits for a place in the queue before the disk counts as overloaded.
    pub queue_wait: Duration,
    /// Reads that may wait for the device at the same time.
    pub reads_parallel: usize,
    /// Free bytes below which the disk takes deletes only; without a value, 2 % of the capacity,
    /// between 64 MiB and 8 GiB.
    pub reserve_bytes: Option<u64>,
    /// How often a node looks after its disks and reports them.
    pub heartbeat_interval: Duration,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 256 << 20,
            allocation_step_bytes_max: 16 << 20,
            checkpoint_log_bytes: 256 << 20,
            checkpoint_changes: 100_000,
            checkpoint_age: Duration::from_mins(1),
            index_cache_bytes: 16 << 20,
            queue_bytes: 32 << 20,
            queue_wait: Duration::from_secs(5),
            reads_parallel: 16,
            reserve_bytes: None,
            heartbeat_interval: Duration::from_secs(1),
        }
    }
}

impl StoreOptions {
    /// The free bytes to keep on a disk of this capacity.
    pub fn reserve(&self, capacity_bytes: u64) -> u64 {
        self.reserve_bytes.unwrap_or_else(|| (capacity_bytes / 50).clamp(64 << 20, 8 << 30))
    }

    /// The length at which a segment is closed; offsets in it fit 32 bits whatever is appended.
    pub fn segment_limit(&self) -> u64 {
        self.segment_bytes.min(2 << 30)
    }
}
