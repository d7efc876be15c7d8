//! Computes lacking shards of one stripe from any `k'` others.
//!
//! In: a stripe and the slots that are wanted. Out: their shards, and the owner that the surviving
//! records carry. What always holds: every shard that went in was verified on the disk and again
//! here, and where data was reconstructed, coding it anew gave the parity that was read.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use model::cluster_map::{ClusterMap, DiskState};
use model::coding::StripeGeometry;
use model::extent::{Extent, SlotSet};
use model::ids::ShardId;

use super::RepairFailure;
use crate::read::{Piece, read_shard_and_owner, rebuild};
use crate::shard_door::ShardFailure;
use crate::shared::Shared;
use crate::write::parity;

/// Stripes of at least this many bytes are coded off the async threads.
const COMPUTE_BYTES_MIN: u32 = 256 * 1024;

/// A stripe that lacks shards.
pub(crate) struct StripeTask<'a> {
    pub(crate) map: &'a ClusterMap,
    pub(crate) extent: &'a Extent,
    pub(crate) stripe: u16,
    /// The slots to be computed; the stripe has a shard in each.
    pub(crate) wanted: SlotSet,
}

/// The shards of the wanted slots.
pub(crate) struct Rebuilt {
    pub(crate) shards: Vec<(u8, Bytes)>,
    /// The sealed owner of the extent.
    pub(crate) owner: Bytes,
    /// Bytes that were read for it.
    pub(crate) read_bytes: u64,
}

/// What was read.
struct Gathered {
    pieces: Vec<Piece>,
    owner: Bytes,
}

/// Reads and computes.
pub(crate) async fn rebuild_stripe(
    shared: &Arc<Shared>,
    task: StripeTask<'_>,
) -> Result<Rebuilt, RepairFailure> {
    let geometry = task.extent.stripe_geometry(task.stripe).ok_or(RepairFailure::Contradiction)?;
    let Gathered { pieces, owner } = gather(shared, &task, &geometry).await?;
    let read_bytes = pieces.iter().map(|piece| piece.bytes.len() as u64).sum();
    let data = data_of(shared, geometry, &pieces).await?;
    let wanted = task.wanted;
    let code = {
        let shared = Arc::clone(shared);
        move || code(&shared, &geometry, &data, &pieces, wanted)
    };
    let coded = if geometry.bytes() < COMPUTE_BYTES_MIN {
        code()
    } else {
        shared.compute(code).await.map_err(|_| RepairFailure::Busy)?
    };
    let shards = coded.inspect_err(|failure| {
        tracing::error!(extent = %task.extent.id, stripe = task.stripe, %failure, "a stripe can't be rebuilt");
    })?;
    Ok(Rebuilt { shards, owner, read_bytes })
}

/// Reads `k'` shards, the likely ones first.
async fn gather(
    shared: &Shared,
    task: &StripeTask<'_>,
    geometry: &StripeGeometry,
) -> Result<Gathered, RepairFailure> {
    let enough = usize::from(geometry.data_shards());
    let mut candidates = candidates(shared, task, geometry);
    let mut answers = FuturesUnordered::new();
    let mut pieces: Vec<Piece> = Vec::with_capacity(enough);
    let mut owners: Vec<Bytes> = Vec::with_capacity(enough);
    let mut losses = task.wanted.len();
    while pieces.len() < enough {
        while pieces.len() + answers.len() < enough
            && let Some(slot) = candidates.pop_front()
        {
            answers.push(read(shared, task, geometry, slot));
        }
        match answers.next().await {
            Some((_, Ok((piece, owner)))) => {
                pieces.push(piece);
                owners.push(owner);
            }
            Some((slot, Err(failure))) => {
                if failure.is_loss() {
                    losses += 1;
                    shared.reports.report(task.extent.id, slot);
                }
            }
            None if losses > u32::from(geometry.parity_shards()) => {
                return Err(RepairFailure::Lost);
            }
            None => return Err(RepairFailure::OutOfReach),
        }
    }
    // All records of an extent carry the same owner; one that was sealed by our key is preferred.
    let opens = |owner: &&Bytes| shared.seal.open(task.extent.id, owner).is_ok();
    let owner = owners.iter().find(opens).or(owners.first()).cloned().unwrap_or_default();
    Ok(Gathered { pieces, owner })
}

/// Slots to read from: those that should have their shard, on disks that answer, data first; and
/// those of which that isn't known at the end.
fn candidates(shared: &Shared, task: &StripeTask<'_>, geometry: &StripeGeometry) -> VecDeque<u8> {
    let mut slots: Vec<(bool, u8)> = geometry
        .slots()
        .filter(|slot| !task.wanted.contains(*slot))
        .map(|slot| {
            let is_likely = task.map.disk_of(task.extent.id, slot).is_some_and(|disk| {
                matches!(disk.state, DiskState::Up | DiskState::Full)
                    && !shared.door.is_bad_for_reads(disk.id)
            }) && !task.extent.missing.contains(slot);
            (!is_likely, slot)
        })
        .collect();
    slots.sort_unstable();
    slots.into_iter().map(|(_, slot)| slot).collect()
}

async fn read(
    shared: &Shared,
    task: &StripeTask<'_>,
    geometry: &StripeGeometry,
    slot: u8,
) -> (u8, Result<(Piece, Bytes), ShardFailure>) {
    let id = ShardId { extent: task.extent.id, stripe: task.stripe, slot };
    let bytes = geometry.stored_bytes(slot);
    let result = match task.map.disk_of(task.extent.id, slot) {
        Some(disk) => read_shard_and_owner(shared, disk.id, id, bytes, 0..bytes).await,
        None => Err(ShardFailure::Unreachable),
    };
    (slot, result)
}

/// The data shards of the stripe one behind the other, those that weren't read reconstructed.
async fn data_of(
    shared: &Arc<Shared>,
    geometry: StripeGeometry,
    pieces: &[Piece],
) -> Result<Vec<Bytes>, RepairFailure> {
    let is_here = |slot: u8| pieces.iter().any(|piece| piece.slot == slot);
    let lacking: Vec<u8> = (0..geometry.data_shards()).filter(|slot| !is_here(*slot)).collect();
    let columns = 0..geometry.shard_bytes();
    let rebuilt = if lacking.is_empty() {
        Vec::new()
    } else {
        rebuild(shared, geometry, columns, pieces.to_vec(), Vec::new(), lacking)
            .await
            .ok_or(RepairFailure::Contradiction)?
    };
    let mut data = Vec::with_capacity(usize::from(geometry.data_shards()));
    for slot in 0..geometry.data_shards() {
        let piece = pieces.iter().chain(&rebuilt).find(|piece| piece.slot == slot);
        let bytes = &piece.ok_or(RepairFailure::Contradiction)?.bytes;
        let stored = geometry.stored_bytes(slot) as usize;
        // What was reconstructed comes with its padding, which was zeros when it was coded.
        let padding = bytes.get(stored..).ok_or(RepairFailure::Contradiction)?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(RepairFailure::Contradiction);
        }
        data.push(bytes.slice(..stored));
    }
    Ok(data)
}

/// The wanted shards, once coding the data anew has given the parity that was read.
fn code(
    shared: &Shared,
    geometry: &StripeGeometry,
    data: &[Bytes],
    pieces: &[Piece],
    wanted: SlotSet,
) -> Result<Vec<(u8, Bytes)>, RepairFailure> {
    let stripe = match data {
        [single] => single.clone(),
        several => {
            let mut buffer = shared.buffers.take(geometry.bytes() as usize);
            for shard in several {
                buffer.data.extend_from_slice(shard);
            }
            buffer.freeze()
        }
    };
    let parity = parity(shared, geometry, &stripe).map_err(|_| RepairFailure::Contradiction)?;
    let shard_bytes = geometry.shard_bytes() as usize;
    let shard = |slot: u8| match geometry.data_range(slot) {
        Some(range) => Some(stripe.slice(range.start as usize..range.end as usize)),
        // All parity shards of a single data shard are the same.
        None if parity.len() == shard_bytes => Some(parity.clone()),
        None => {
            let at = usize::from(slot.checked_sub(geometry.coding().data())?) * shard_bytes;
            (at + shard_bytes <= parity.len()).then(|| parity.slice(at..at + shard_bytes))
        }
    };
    let agrees = |piece: &Piece| shard(piece.slot).is_some_and(|coded| coded == piece.bytes);
    if !pieces.iter().all(agrees) {
        return Err(RepairFailure::Contradiction);
    }
    wanted
        .iter()
        .map(|slot| Some((slot, shard(slot)?)))
        .collect::<Option<Vec<_>>>()
        .ok_or(RepairFailure::Contradiction)
}
