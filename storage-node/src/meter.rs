//! The metrics of one disk. Handles are made once, when the disk is opened: install the recorder
//! before that.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use model::ids::DiskId;
use model::shard::ScrubReport;
use model::time::Timestamp;

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
    pub(crate) reserve_bytes: Gauge,
    pub(crate) tombstone_bytes: Gauge,
    pub(crate) damaged_shards: Gauge,
    pub(crate) stalled_seconds: Gauge,
    pub(crate) scrub_bytes: Counter,
    pub(crate) scrub_seconds: Histogram,
    pub(crate) scrub_rereads: Counter,
    pub(crate) scrub_passes: Counter,
    pub(crate) scrub_verified_bytes: Gauge,
    pub(crate) scrub_total_bytes: Gauge,
    pub(crate) scrub_last_began: Gauge,
    pub(crate) scrub_last_ended: Gauge,
    pub(crate) compaction_moved_bytes: Counter,
    pub(crate) compaction_reclaimed_bytes: Counter,
    pub(crate) compaction_segments: Counter,
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
            stalled_seconds: level("drystone_disk_stalled_seconds"),
            checkpoints: count("drystone_disk_checkpoints_total"),
            scrub_bytes: count("drystone_scrub_bytes_total"),
            scrub_seconds: spread("drystone_scrub_window_seconds"),
            scrub_rereads: count("drystone_scrub_rereads_total"),
            scrub_passes: count("drystone_scrub_passes_total"),
            scrub_verified_bytes: level("drystone_scrub_verified_bytes"),
            scrub_total_bytes: level("drystone_scrub_total_bytes"),
            scrub_last_began: level("drystone_scrub_last_began_timestamp_seconds"),
            scrub_last_ended: level("drystone_scrub_last_ended_timestamp_seconds"),
            reserve_bytes: level("drystone_disk_reserve_bytes"),
            tombstone_bytes: level("drystone_disk_tombstone_bytes"),
            damaged_shards: level("drystone_disk_damaged_shards"),
            compaction_moved_bytes: count("drystone_compaction_moved_bytes_total"),
            compaction_reclaimed_bytes: count("drystone_compaction_reclaimed_bytes_total"),
            compaction_segments: count("drystone_compaction_segments_total"),
            disk,
        }
    }

    /// Shows how far scrub is.
    pub(crate) fn tell_scrub(&self, scrub: &ScrubReport) {
        let seconds = |time: Timestamp| time.0 as f64 / 1e9;
        self.scrub_verified_bytes.set(scrub.verified_bytes as f64);
        self.scrub_total_bytes.set(scrub.total_bytes as f64);
        self.scrub_last_began.set(seconds(scrub.last_began));
        self.scrub_last_ended.set(seconds(scrub.last_ended));
    }

    /// Counts a failure; `kind` is one of a few fixed words.
    pub(crate) fn failure(&self, kind: &'static str) {
        counter!("drystone_disk_failures_total", "disk" => self.disk.clone(), "kind" => kind)
            .increment(1);
    }
}
