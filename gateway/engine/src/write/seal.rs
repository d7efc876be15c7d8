//! The sync barrier at the end of an extent (I-1).
//!
//! Durability: an append without sync only says that a disk took the shards. Here every disk that
//! took some confirms that all of them, up to the position of the last, are on stable storage. A
//! disk that fails here, or was restarted since, counts as having lost its shards of the extent.

use std::sync::Arc;

use futures_util::stream::FuturesUnordered;
use model::extent::SlotSet;
use model::ids::DiskId;
use model::shard::{ShardError, ShardRequest, ShardResponse};

use super::extent::{OpenExtent, Receipt, SealedExtent};
use super::straggler::gather;
use crate::shard_door::ShardFailure;
use crate::shared::Shared;

/// Syncs an extent to which nothing is under way any more.
pub(super) async fn seal(shared: Arc<Shared>, mut extent: OpenExtent) -> SealedExtent {
    if extent.synced {
        return extent.seal();
    }
    let targets = extent.to_sync();
    let answers: FuturesUnordered<_> =
        targets.iter().map(|(slot, disk, receipt)| sync(&shared, *slot, *disk, *receipt)).collect();
    let mut doubtful = SlotSet::default();
    for (slot, _, _) in &targets {
        doubtful.insert(*slot);
    }
    let options = &shared.options;
    let grace = shared.door.writes.deadline(10, options.straggler_min, options.straggler_max);
    gather(&*shared.clock, grace, answers, |(slot, disk, answer)| {
        match answer {
            Ok(()) => doubtful = SlotSet(doubtful.0 & !(1 << slot)),
            Err(_) => shared.door.avoid(disk),
        }
        extent.is_durable_without(doubtful)
    })
    .await;
    for slot in doubtful.iter() {
        extent.lose(slot);
    }
    extent.seal()
}

/// Has a disk make durable what it took.
pub(crate) async fn sync(
    shared: &Shared,
    slot: u8,
    disk: DiskId,
    receipt: Receipt,
) -> (u8, DiskId, Result<(), ShardFailure>) {
    let Receipt { incarnation, position } = receipt;
    let request = ShardRequest::Sync { disk, incarnation, position };
    let result = match shared.door.call(disk, request, shared.options.sync_deadline).await {
        Ok(ShardResponse::Synced) => Ok(()),
        Ok(_) => Err(ShardFailure::Refused(ShardError::Invalid("another answer".into()))),
        Err(failure) => Err(failure),
    };
    (slot, disk, result)
}
