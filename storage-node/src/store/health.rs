//! The state of a disk: `ok` ⇄ `full`, and from either for good to `read-only` and `failed`.

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use model::ids::DiskId;
use model::shard::{DiskHealth, ShardError};
use tokio::sync::Notify;

use crate::lock::lock;

/// The health of one disk, and who is told when it changes.
pub(crate) struct Health {
    disk: DiskId,
    level: AtomicU8,
    reason: Mutex<Option<String>>,
    changed: Arc<Notify>,
}

const fn level_of(health: DiskHealth) -> u8 {
    match health {
        DiskHealth::Ok => 0,
        DiskHealth::Full => 1,
        DiskHealth::ReadOnly => 2,
        DiskHealth::Failed => 3,
    }
}

impl Health {
    pub(crate) fn new(disk: DiskId, changed: Arc<Notify>) -> Self {
        Self { disk, level: AtomicU8::new(0), reason: Mutex::default(), changed }
    }

    pub(crate) fn get(&self) -> DiskHealth {
        match self.level.load(Ordering::Acquire) {
            0 => DiskHealth::Ok,
            1 => DiskHealth::Full,
            2 => DiskHealth::ReadOnly,
            _ => DiskHealth::Failed,
        }
    }

    pub(crate) fn reason(&self) -> Option<String> {
        lock(&self.reason).clone()
    }

    /// Makes the state worse; a state that is as bad already stays, with its first reason.
    pub(crate) fn worsen(&self, to: DiskHealth, reason: &str) {
        {
            let mut held = lock(&self.reason);
            if level_of(to) <= self.level.load(Ordering::Acquire) {
                return;
            }
            self.level.store(level_of(to), Ordering::Release);
            *held = Some(reason.to_owned());
        }
        match to {
            DiskHealth::Ok | DiskHealth::Full => {
                tracing::warn!(disk = %self.disk, reason, "the disk is {}", to.as_str());
            }
            DiskHealth::ReadOnly | DiskHealth::Failed => {
                tracing::error!(disk = %self.disk, reason, "the disk is {}", to.as_str());
            }
        }
        self.changed.notify_waiters();
        self.changed.notify_one();
    }

    /// A failed write or sync: the disk takes no more (R4), or is gone.
    pub(crate) fn write_failed(&self, error: &io::Error, what: &str) {
        let reason = format!("{what}: {error}");
        if error.kind() == io::ErrorKind::NotFound {
            self.worsen(DiskHealth::Failed, &reason);
        } else {
            self.worsen(DiskHealth::ReadOnly, &reason);
        }
    }

    /// Space has come back.
    pub(crate) fn space_returned(&self) {
        {
            let mut held = lock(&self.reason);
            if self.get() != DiskHealth::Full {
                return;
            }
            self.level.store(level_of(DiskHealth::Ok), Ordering::Release);
            *held = None;
        }
        tracing::info!(disk = %self.disk, "the disk has space again");
        self.changed.notify_one();
    }

    /// Whether shards may be appended.
    pub(crate) fn check_append(&self) -> Result<(), ShardError> {
        match self.get() {
            DiskHealth::Ok => Ok(()),
            DiskHealth::Full => Err(ShardError::Full(self.disk)),
            DiskHealth::ReadOnly => Err(ShardError::ReadOnly(self.disk)),
            DiskHealth::Failed => Err(ShardError::Failed(self.disk)),
        }
    }

    /// Whether tombstones may be appended, and syncs answered.
    pub(crate) fn check_write(&self) -> Result<(), ShardError> {
        match self.get() {
            DiskHealth::Full => Ok(()),
            _ => self.check_append(),
        }
    }

    /// Whether anything may be read.
    pub(crate) fn check_read(&self) -> Result<(), ShardError> {
        match self.get() {
            DiskHealth::Ok | DiskHealth::Full | DiskHealth::ReadOnly => Ok(()),
            DiskHealth::Failed => Err(ShardError::Failed(self.disk)),
        }
    }
}

/// Whether an error says that there is no space.
pub(crate) fn is_out_of_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
