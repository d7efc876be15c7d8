//! Sends one stripe: encode, checksum, append to all disks at once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use model::checksum::block_checksums;
use model::coding::StripeGeometry;
use model::extent::SlotSet;
use model::ids::{DiskId, ShardId};
use model::shard::{ShardAppend, ShardError, ShardRequest, ShardResponse};

use super::WriteError;
use super::extent::{ExtentSpec, Receipt};
use super::straggler::gather;
use crate::shard_door::ShardFailure;
use crate::shared::Shared;
use crate::stripe::Stripe;

/// Stripes of at least this many bytes are coded off the async threads.
const COMPUTE_BYTES_MIN: u32 = 256 * 1024;

/// Times that a disk with a full queue is asked again.
const OVERLOADED_ATTEMPTS: u32 = 6;

/// The first pause before that; it doubles.
const OVERLOADED_PAUSE: Duration = Duration::from_millis(10);

/// A stripe to be sent.
pub(super) struct StripeJob {
    pub(super) extent: Arc<ExtentSpec>,
    pub(super) number: u16,
    pub(super) stripe: Stripe,
    /// Slots that get no shard.
    pub(super) skip: SlotSet,
    /// Whether the shards are to be durable when their disks answer.
    pub(super) sync: bool,
}

/// What became of it.
pub(super) struct StripeOutcome {
    pub(super) number: u16,
    pub(super) stripe: Stripe,
    /// Slots whose disks took their shard.
    pub(super) stored: SlotSet,
    pub(super) receipts: Vec<(u8, Receipt)>,
    /// Slots whose disks did not, and weren't skipped.
    pub(super) failed: Vec<(u8, DiskId)>,
    /// A shard may arrive yet.
    pub(super) late: bool,
}

/// Sends a stripe to the slots that aren't skipped. Failures of disks are in the outcome.
pub(super) async fn send_stripe(
    shared: Arc<Shared>,
    job: StripeJob,
) -> Result<StripeOutcome, WriteError> {
    let StripeJob { extent, number, stripe, skip, sync } = job;
    let bytes = stripe.bytes();
    let geometry = StripeGeometry::new(extent.coding, bytes).ok_or(WriteError::Failed)?;
    let shards = if bytes < COMPUTE_BYTES_MIN {
        encode(&shared, &extent, number, &geometry, &stripe.data)?
    } else {
        let (shared_too, extent, data) =
            (Arc::clone(&shared), Arc::clone(&extent), stripe.data.clone());
        shared
            .compute(move || encode(&shared_too, &extent, number, &geometry, &data))
            .await
            .map_err(|_| WriteError::Unavailable)??
    };
    metrics::gauge!("drystone_stripes_in_flight").increment(1);
    let _sent = InFlight;
    let answers: FuturesUnordered<_> = shards
        .into_iter()
        .filter(|shard| !skip.contains(shard.id.slot))
        .filter_map(|shard| {
            let disk = *extent.disks.get(usize::from(shard.id.slot))?;
            Some(append(&shared, disk, shard, sync))
        })
        .collect();
    let mut outcome = StripeOutcome {
        number,
        stripe,
        stored: SlotSet::default(),
        receipts: Vec::with_capacity(answers.len()),
        failed: Vec::new(),
        late: false,
    };
    let options = &shared.options;
    let grace = shared.door.writes.deadline(10, options.straggler_min, options.straggler_max);
    let quorum = u32::from(geometry.write_quorum());
    gather(&*shared.clock, grace, answers, |(slot, disk, answer)| {
        match answer {
            Ok(receipt) => {
                outcome.stored.insert(slot);
                outcome.receipts.push((slot, receipt));
            }
            Err(failure) => {
                outcome.late |= failure.is_late();
                outcome.failed.push((slot, disk));
            }
        }
        outcome.stored.len() >= quorum
    })
    .await;
    // Whoever hasn't answered is a straggler.
    for slot in geometry.slots().filter(|slot| !skip.contains(*slot)) {
        let answered = outcome.stored.contains(slot)
            || outcome.failed.iter().any(|(failed, _)| *failed == slot);
        if !answered && let Some(disk) = extent.disks.get(usize::from(slot)) {
            shared.door.note_failure(*disk, "append", &ShardFailure::TimedOut);
            outcome.failed.push((slot, *disk));
            outcome.late = true;
        }
    }
    Ok(outcome)
}

/// Counts a stripe that is under way, however its sending ends.
struct InFlight;

impl Drop for InFlight {
    fn drop(&mut self) {
        metrics::gauge!("drystone_stripes_in_flight").decrement(1);
    }
}

/// All shards of a stripe, with their checksums.
fn encode(
    shared: &Shared,
    extent: &ExtentSpec,
    number: u16,
    geometry: &StripeGeometry,
    data: &Bytes,
) -> Result<Vec<ShardAppend>, WriteError> {
    let shard_bytes = geometry.shard_bytes() as usize;
    let parity = parity(shared, geometry, data)?;
    let payload = |slot: u8| match geometry.data_range(slot) {
        Some(range) => data.slice(range.start as usize..range.end as usize),
        None if parity.len() == shard_bytes => parity.clone(),
        None => {
            let at = usize::from(slot - extent.coding.data()) * shard_bytes;
            parity.slice(at..at + shard_bytes)
        }
    };
    Ok(geometry
        .slots()
        .map(|slot| {
            let id = ShardId { extent: extent.id, stripe: number, slot };
            let payload = payload(slot);
            ShardAppend {
                id,
                coding: extent.coding,
                stripe_bytes: geometry.bytes(),
                checksums: block_checksums(id, &payload).into(),
                payload,
                owner: extent.owner.clone(),
            }
        })
        .collect())
}

/// The parity shards one behind the other; a single one when they are all the same.
pub(crate) fn parity(
    shared: &Shared,
    geometry: &StripeGeometry,
    data: &Bytes,
) -> Result<Bytes, WriteError> {
    let shard_bytes = geometry.shard_bytes() as usize;
    // The parity of a single data shard is its copy: stored as often, held in memory once.
    if geometry.data_shards() == 1 && data.len() == shard_bytes {
        return Ok(data.clone());
    }
    let mut parity =
        shared.buffers.take_filled(usize::from(geometry.parity_shards()) * shard_bytes);
    shared.codec.encode(geometry, data, &mut parity.data).map_err(|error| {
        tracing::error!(%error, "a stripe could not be encoded");
        WriteError::Failed
    })?;
    Ok(parity.freeze())
}

/// Appends one shard; a full queue is tried again, what was spoilt on the way once.
pub(crate) async fn append(
    shared: &Shared,
    disk: DiskId,
    shard: ShardAppend,
    sync: bool,
) -> (u8, DiskId, Result<Receipt, ShardFailure>) {
    let slot = shard.id.slot;
    let bytes = shard.payload.len() as u64;
    let started = shared.clock.monotonic();
    let mut pause = OVERLOADED_PAUSE;
    let mut attempt = 0;
    let result = loop {
        let request = ShardRequest::Append { disk, shards: vec![shard.clone()], sync };
        attempt += 1;
        match shared.door.call(disk, request, shared.options.append_deadline).await {
            Ok(ShardResponse::Appended { incarnation, position }) => {
                break Ok(Receipt { incarnation, position });
            }
            Ok(_) => {
                break Err(ShardFailure::Refused(ShardError::Invalid("another answer".into())));
            }
            Err(ShardFailure::Refused(ShardError::Overloaded(_)))
                if attempt < OVERLOADED_ATTEMPTS =>
            {
                shared.clock.sleep(pause).await;
                pause *= 2;
            }
            Err(ShardFailure::Refused(ShardError::Invalid(_))) if attempt == 1 => {}
            Err(failure) => break Err(failure),
        }
    };
    if result.is_ok() {
        let latency = shared.clock.monotonic().saturating_sub(started);
        shared.door.writes.record(latency);
        metrics::counter!("drystone_shard_bytes_total", "operation" => "append").increment(bytes);
    }
    (slot, disk, result)
}
