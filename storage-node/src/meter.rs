//! The metrics of one disk. Handles are made once, when the disk is opened: install the recorder
//! before that.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use model::ids::DiskId;

/// The meters of one disk; each is labelled `disk`.
pub(crate) struct Meter {
    pub(crate) fsyncs: Counter,
    pub(crate) fsync_seconds: Histogram,
    pub(crate) appends: Counter,
    pub(crate) append_bytes: Counter,
    pub(crate) deletes: Counter,
    pub(crate) reads: Counter,
    pub(crate) read_bytes: Counter,
    pub(crate) reads_inline: Counter,
    pub(crate) batch_jobs: Histogram,
    pub(crate) queue_jobs: Gauge,
    pub(crate) health: Gauge,
    pub(crate) live_bytes: Gauge,
    pub(crate) garbage_bytes: Gauge,
    pub(crate) free_bytes: Gauge,
    pub(crate) shards: Gauge,
    pub(crate) damaged_regions: Gauge,
    pub(crate) checkpoints: Counter,
    disk: String,
}

impl Meter {
    pub(crate) fn new(disk: DiskId) -> Self {
        let disk = disk.to_string();
        let count = |name: &'static str| counter!(name, "disk" => disk.clone());
        let level = |name: &'static str| gauge!(name, "disk" => disk.clone());
        let spread = |name: &'static str| histogram!(name, "disk" => disk.clone());
        Self {
            fsyncs: count("drystone_disk_fsyncs_total"),
            fsync_seconds: spread("drystone_disk_fsync_seconds"),
            appends: count("drystone_shard_appends_total"),
            append_bytes: count("drystone_shard_append_bytes_total"),
            deletes: count("drystone_extent_deletes_total"),
            reads: count("drystone_shard_reads_total"),
            read_bytes: count("drystone_shard_read_bytes_total"),
            reads_inline: count("drystone_shard_reads_inline_total"),
            batch_jobs: spread("drystone_disk_batch_jobs"),
            queue_jobs: level("drystone_disk_queue_jobs"),
            health: level("drystone_disk_health"),
            live_bytes: level("drystone_disk_live_bytes"),
            garbage_bytes: level("drystone_disk_garbage_bytes"),
            free_bytes: level("drystone_disk_free_bytes"),
            shards: level("drystone_disk_shards"),
            damaged_regions: level("drystone_disk_damaged_regions"),
            checkpoints: count("drystone_disk_checkpoints_total"),
            disk,
        }
    }

    /// Counts a failure; `kind` is one of a few fixed words.
    pub(crate) fn failure(&self, kind: &'static str) {
        counter!("drystone_disk_failures_total", "disk" => self.disk.clone(), "kind" => kind)
            .increment(1);
    }
}
