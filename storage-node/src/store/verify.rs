//! Verifying shards on demand, and what is known to be damaged.
//!
//! A shard is verified whole: header, owner, checksums and every block, as they lie on the device.
//! One that fails twice is booked as damaged: it is never served, its segment is kept, and it is
//! listed until it is repaired or deleted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use model::ids::{ExtentId, ShardId};
use model::shard::{ScrubOrder, ShardError, ShardState};

use super::Store;
use super::queue::JobKind;
use super::shared::Shared;
use crate::index::{DamagedRegion, Location};
use crate::lock::lock;
use crate::segment::Kind;

/// Extents of one request to verify.
const VERIFY_EXTENTS_MAX: usize = 256;
/// Shards of one answer to what is damaged.
const DAMAGED_MAX: u32 = 10_000;

/// Tells work on another thread that nobody waits for it any more.
#[derive(Default)]
pub(super) struct Abandoned(Arc<AtomicBool>);

impl Abandoned {
    /// What the work looks at.
    pub(super) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Store {
    /// Verifies every shard that the index has of these extents, in key order.
    ///
    /// Takes as long as the device needs, but not longer than its caller waits: when the future
    /// is dropped the work ends with the shard that is being read.
    pub async fn verify(
        &self,
        mut extents: Vec<ExtentId>,
    ) -> Result<Vec<(ShardId, ShardState)>, ShardError> {
        self.shared.health.check_read()?;
        if extents.len() > VERIFY_EXTENTS_MAX {
            return Err(ShardError::Invalid("a verification has at most 256 extents".into()));
        }
        extents.sort_unstable();
        extents.dedup();
        let permit = self.reader().await?;
        let shared = Arc::clone(&self.shared);
        let abandoned = Abandoned::default();
        let flag = abandoned.flag();
        let work = self.blocking(move || {
            let _permit = permit;
            shared.verify_extents(&extents, &flag)
        });
        let states = self.unless_stalled(work).await??;
        drop(abandoned);
        self.only_durable(states?).await
    }

    /// What was read may be in the page cache only, and repair takes an answer for a promise: so
    /// the log is synced before one is given. On a disk that can't be synced any more, what lies
    /// behind the last success is as good as damaged.
    async fn only_durable(
        &self,
        mut states: Vec<(ShardId, ShardState)>,
    ) -> Result<Vec<(ShardId, ShardState)>, ShardError> {
        if self.shared.durable() >= self.shared.end() {
            return Ok(states);
        }
        match self.enqueue(JobKind::Sync, 1).await {
            Ok(_) => Ok(states),
            Err(ShardError::ReadOnly(_)) => {
                for (id, state) in &mut states {
                    if !self.shared.is_durable(*id)? {
                        *state = ShardState::Damaged;
                    }
                }
                Ok(states)
            }
            Err(error) => Err(error),
        }
    }

    /// At most `limit` live shards behind `after` that are known to be damaged, in key order.
    pub fn damaged(&self, after: Option<ShardId>, limit: u32) -> Result<Vec<ShardId>, ShardError> {
        // The ledger is in memory, and is told even of a disk that can't be read any more.
        let limit = limit.min(DAMAGED_MAX) as usize;
        let damaged = lock(&self.shared.ledger).damaged_shards(after, limit);
        Ok(damaged.into_iter().map(|(id, _)| id).collect())
    }

    /// Begins a scrub of the whole disk, or ends the one that was asked for.
    pub fn scrub(&self, order: ScrubOrder) -> Result<(), ShardError> {
        self.shared.health.check_read()?;
        self.scrub.order(order);
        Ok(())
    }
}

impl Shared {
    /// Whether the record of a shard lies before what is known to be durable.
    fn is_durable(&self, id: ShardId) -> Result<bool, ShardError> {
        let place = self.index.get(id).map_err(|error| self.index_failed(&error))?;
        let Some(place) = place else { return Ok(false) };
        let start = lock(&self.ledger).start_of(place.segment);
        let end = u64::from(place.offset) + u64::from(place.record_bytes);
        Ok(start.is_some_and(|start| start + end <= self.durable()))
    }

    fn verify_extents(
        &self,
        extents: &[ExtentId],
        abandoned: &AtomicBool,
    ) -> Result<Vec<(ShardId, ShardState)>, ShardError> {
        let mut states = Vec::new();
        for extent in extents {
            let shards = self.index.extent(*extent).map_err(|error| self.index_failed(&error))?;
            for (id, _) in shards {
                if abandoned.load(Ordering::Acquire) {
                    return Err(ShardError::Overloaded(self.identity.disk));
                }
                states.extend(self.verify_shard(id)?.map(|state| (id, state)));
            }
        }
        Ok(states)
    }

    /// Verifies one shard where it lies now; `None` when it doesn't live here (any more).
    pub(crate) fn verify_shard(&self, id: ShardId) -> Result<Option<ShardState>, ShardError> {
        let find = || self.index.get(id).map_err(|error| self.index_failed(&error));
        let mut place = find()?;
        let mut is_second = false;
        while let Some(location) = place {
            if is_second {
                self.distrust_record(&location);
            } else {
                self.forget_record(&location);
            }
            match self.whole_record(&location) {
                Ok((header, _)) if header.id == id && header.kind == Kind::Shard => {
                    if is_second {
                        self.was_a_flip(id, &location);
                    }
                    self.forget_record(&location);
                    lock(&self.ledger).shard_sound(id, &location);
                    return Ok(Some(ShardState::Sound));
                }
                outcome => {
                    // It may have moved or been deleted while it was read.
                    let now = find()?;
                    if now == place && is_second {
                        let fault = outcome.err().unwrap_or(super::read::Fault::Damaged);
                        return match self.unreadable(id, &location, &fault) {
                            ShardError::Corrupt(..) => Ok(Some(ShardState::Damaged)),
                            error => Err(error),
                        };
                    }
                    is_second = now == place;
                    place = now;
                }
            }
        }
        Ok(None)
    }

    /// Books a damaged record of a shard that lives there, and tells of it once.
    pub(super) fn live_damaged(&self, id: ShardId, location: &Location) {
        let region = DamagedRegion {
            segment: location.segment,
            offset: u64::from(location.offset),
            bytes: u64::from(location.record_bytes),
        };
        match self.shard_damaged(id, *location) {
            Ok(true) => {
                self.meter.failure("corrupt");
                lock(&self.ledger).damaged(region);
                tracing::error!(
                    disk = %self.identity.disk, shard = %id, segment = region.segment,
                    offset = region.offset, bytes = region.bytes,
                    "a shard is damaged: it is quarantined, and waits for its repair"
                );
            }
            Ok(false) => {}
            Err(error) => {
                self.index_failed(&error);
            }
        }
    }
}
