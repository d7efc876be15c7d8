//! What the threads of one disk share.

use std::sync::Arc;

use model::ids::Incarnation;
use model::shard::{DiskHealth, DiskReport, LogPosition, ScrubReport, ShardError};
use wire::clock::Clock;
use wire::disk::{Disk, DiskSpace};

use super::health::Health;
use super::ledger::Ledger;
use super::spare;
use crate::compact::Compaction;
use crate::index::{DamagedRegion, Index, IndexError};
use crate::lock::lock;
use crate::meter::Meter;
use crate::options::{DiskIdentity, StoreOptions};
use crate::segment::SegmentFiles;
use crate::switches::Bug;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// One disk, as its writer, its readers and its checkpoints see it.
pub(crate) struct Shared {
    /// The directory of the segments.
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) identity: DiskIdentity,
    pub(crate) incarnation: Incarnation,
    pub(crate) options: StoreOptions,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) files: SegmentFiles,
    pub(crate) index: Index,
    pub(crate) ledger: Mutex<Ledger>,
    pub(crate) health: Health,
    pub(crate) meter: Meter,
    /// Everything before this position is on stable storage.
    pub(crate) durable: AtomicU64,
    /// The end of the log.
    pub(crate) end: AtomicU64,
    pub(crate) space: Mutex<DiskSpace>,
    /// Whether the spare file is known to be there.
    pub(crate) has_spare: AtomicBool,
    pub(crate) compaction: Compaction,
    /// How far scrub is, in its own form: saved with each checkpoint and found again at the start.
    pub(crate) scrub_state: Mutex<Vec<u8>>,
}

impl Shared {
    pub(crate) fn durable(&self) -> LogPosition {
        self.durable.load(Ordering::Acquire)
    }

    /// Whether everything before a position that run `incarnation` answered is durable already. A
    /// position of another run says nothing: what it stood for may be lost, and the log have grown
    /// past it since.
    pub(crate) fn is_durable_to(
        &self,
        incarnation: Incarnation,
        position: LogPosition,
    ) -> Result<bool, ShardError> {
        if incarnation != self.incarnation && !self.options.breaks(Bug::OldRunAccepted) {
            return Err(ShardError::WrongIncarnation(self.identity.disk));
        }
        if position > self.end() {
            return Err(ShardError::Invalid("the position lies behind the end of the log".into()));
        }
        Ok(position <= self.durable())
    }

    pub(crate) fn end(&self) -> LogPosition {
        self.end.load(Ordering::Acquire)
    }

    /// The index can't be asked any more: nothing on the disk can be found until it is rebuilt,
    /// at the next start.
    pub(crate) fn index_failed(&self, error: &IndexError) -> ShardError {
        if !matches!(error, IndexError::Closed) {
            self.meter.failure("index");
            self.health.worsen(DiskHealth::Failed, &error.to_string());
        }
        ShardError::Failed(self.identity.disk)
    }

    /// Books damage, and tells of it once.
    pub(crate) fn damaged(&self, region: DamagedRegion) {
        if lock(&self.ledger).damaged(region) {
            self.meter.failure("corrupt");
            tracing::error!(
                disk = %self.identity.disk, segment = region.segment, offset = region.offset,
                bytes = region.bytes, "a damaged region of the log is quarantined"
            );
        }
    }

    /// Asks the file system for its space and moves between `ok` and `full` as it says.
    pub(crate) fn look_at_space(&self) {
        let Ok(space) = self.disk.space() else {
            return;
        };
        *lock(&self.space) = space;
        let reserve = self.options.reserve(space.capacity_bytes);
        if space.free_bytes < reserve {
            let reason =
                format!("{} bytes are free, {reserve} are kept in reserve", space.free_bytes);
            self.health.worsen(DiskHealth::Full, &reason);
        } else if space.free_bytes >= reserve + reserve / 8 {
            // A little above the line, so that the state doesn't flap on it.
            self.health.space_returned();
        }
    }

    /// Lays the spare file down again once there is space for it.
    pub(crate) fn keep_spare(&self) {
        let bytes = self.options.spare_bytes;
        if bytes > 0
            && self.health.get() == DiskHealth::Ok
            && !self.has_spare.load(Ordering::Relaxed)
        {
            // Without one the disk works as well, and the next look tries again.
            let kept = spare::keep(&*self.disk, bytes).is_ok();
            self.has_spare.store(kept, Ordering::Relaxed);
        }
    }

    /// Whether the index may grow by so much, by what the file system says now: others may share
    /// it. The spare file is given up where that makes the difference, as a checkpoint is what
    /// gives segments back.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        self.look_at_space();
        let free = lock(&self.space).free_bytes;
        if free >= bytes {
            return true;
        }
        let spare = self.options.spare_bytes;
        if spare == 0 || free + spare < bytes || !matches!(spare::give_up(&*self.disk), Ok(true)) {
            return false;
        }
        tracing::warn!(disk = %self.identity.disk, "the spare file's space is given up for a checkpoint");
        self.has_spare.store(false, Ordering::Relaxed);
        self.look_at_space();
        lock(&self.space).free_bytes >= bytes
    }

    /// What the node reports of the disk.
    pub(crate) fn report(&self) -> DiskReport {
        let (totals, damaged, damaged_shards) = {
            let ledger = lock(&self.ledger);
            (ledger.totals(), ledger.damaged_regions(), ledger.damaged_shard_count())
        };
        let space = *lock(&self.space);
        let health = self.health.get();
        self.meter.health.set(f64::from(health as u8));
        self.meter.live_bytes.set(totals.live_bytes as f64);
        self.meter.garbage_bytes.set(totals.garbage_bytes as f64);
        self.meter.free_bytes.set(space.free_bytes as f64);
        self.meter.shards.set(totals.shards as f64);
        self.meter.damaged_regions.set(damaged as f64);
        self.meter.damaged_shards.set(damaged_shards as f64);
        self.meter.tombstone_bytes.set(totals.tombstone_bytes as f64);
        self.meter.reserve_bytes.set(self.options.reserve(space.capacity_bytes) as f64);
        DiskReport {
            disk: self.identity.disk,
            uuid: self.identity.uuid,
            cluster: self.identity.cluster,
            health,
            reason: self.health.reason().or_else(|| {
                (damaged > 0).then(|| format!("{damaged} damaged regions are quarantined"))
            }),
            capacity_bytes: space.capacity_bytes,
            free_bytes: space.free_bytes,
            live_bytes: totals.live_bytes,
            garbage_bytes: totals.garbage_bytes,
            shards: totals.shards,
            incarnation: self.incarnation,
            reserve_bytes: self.options.reserve(space.capacity_bytes),
            damaged_shards: damaged_shards as u64,
            scrub: ScrubReport::default(),
            compaction: self.compaction.report(),
        }
    }
}
