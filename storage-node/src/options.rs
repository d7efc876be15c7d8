//! What the operator may choose for a disk, and who a disk is.

use std::time::Duration;

use model::ids::{ClusterId, DiskId, DiskUuid};

/// Segments are not made shorter than this for want of space.
const SEGMENT_BYTES_LEAST: u64 = 1 << 20;

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
    /// Bytes of the file that is given up when a disk can't be opened for want of space: enough for
    /// the superblock, a commit of the index and some thousand tombstones. 0: none.
    pub spare_bytes: u64,
    /// How long a deleted shard stays on the disk, and recoverable.
    pub grace: Duration,
    /// Bytes a second that compaction copies while there is space; more as space runs out, and
    /// without a limit before the reserve is touched. 0: compaction runs only when asked for.
    pub compaction_bytes_per_second: u64,
    /// The part of a segment, in percent, that must be garbage before it is compacted while there
    /// is space. Each byte reclaimed then costs at most `100 / percent - 1` bytes copied.
    pub compaction_garbage_percent: u8,
    /// Every record is verified about once in this time; zero: only when that is asked for.
    pub scrub_interval: Duration,
    /// The least bytes a second of such a pass: a small disk is done early.
    pub scrub_bytes_per_second_min: u64,
    /// The most bytes a second, however late the pass is.
    pub scrub_bytes_per_second_max: u64,
    /// The most of the disk's time that such a pass takes, in percent.
    pub scrub_busy_percent: u32,
    /// How often a node looks after its disks and reports them.
    pub heartbeat_interval: Duration,
    /// What this crate's own tests switch.
    #[cfg(feature = "switches")]
    pub switches: crate::switches::Switches,
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
            spare_bytes: 8 << 20,
            grace: Duration::from_mins(10),
            compaction_bytes_per_second: 64 << 20,
            compaction_garbage_percent: 40,
            scrub_interval: Duration::from_hours(7 * 24),
            scrub_bytes_per_second_min: 1 << 20,
            scrub_bytes_per_second_max: 128 << 20,
            scrub_busy_percent: 20,
            heartbeat_interval: Duration::from_secs(1),
            #[cfg(feature = "switches")]
            switches: crate::switches::Switches::default(),
        }
    }
}

impl StoreOptions {
    /// The free bytes to keep on a disk of this capacity.
    pub fn reserve(&self, capacity_bytes: u64) -> u64 {
        self.reserve_bytes.unwrap_or_else(|| (capacity_bytes / 50).clamp(64 << 20, 8 << 30))
    }

    /// The length at which a segment is closed on a disk of this capacity; offsets in it fit 32
    /// bits whatever is appended. The live records of a whole segment fit the reserve, so that
    /// compaction can always go on.
    pub fn segment_limit(&self, capacity_bytes: u64) -> u64 {
        let affordable = self.reserve(capacity_bytes) / 4 * 3;
        self.segment_bytes.min(2 << 30).min(affordable.max(SEGMENT_BYTES_LEAST))
    }
}
