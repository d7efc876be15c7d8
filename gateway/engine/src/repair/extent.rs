//! Repairs one extent: asks its disks what they have, rebuilds the rest, and has it read back.
//!
//! Durability: shards are appended without a sync; at the end every disk that took some makes them
//! durable and then verifies all its shards of the extent. Only what it finds sound is confirmed.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::join_all;
use model::checksum::block_checksums;
use model::cluster_map::ClusterMap;
use model::extent::{Extent, SlotSet};
use model::ids::{DiskId, ShardId};
use model::shard::{ShardAppend, ShardError, ShardState};

use super::RepairFailure;
use super::plan::{RepairPlan, Target, stripes_with};
use super::stripe::{Rebuilt, StripeTask, rebuild_stripe};
use crate::scrub::verify;
use crate::shard_door::ShardFailure;
use crate::shared::Shared;
use crate::write::{Receipt, append, sync};

/// What the repair of an extent came to.
#[derive(Debug, Default)]
pub(super) struct Repaired {
    /// Slots whose disks have verified every shard.
    pub(super) slots: SlotSet,
    /// Shards that were rebuilt.
    pub(super) shards: u64,
    /// Their bytes.
    pub(super) bytes: u64,
    /// Why slots of the plan aren't among `slots`.
    pub(super) failure: Option<RepairFailure>,
}

/// A slot under repair.
struct Patient {
    slot: u8,
    disk: DiskId,
    /// Stripes whose shard it lacks.
    lacking: BTreeSet<u16>,
    receipt: Option<Receipt>,
    failure: Option<RepairFailure>,
}

/// Repairs an extent as far as its plan goes.
pub(super) async fn repair_extent(
    shared: &Arc<Shared>,
    map: &ClusterMap,
    plan: &RepairPlan,
) -> Repaired {
    let mut repaired = Repaired::default();
    // A disk may have its shards after all: it was away, or only the way to it was bad.
    let examined = plan.targets.iter().map(|target| examine(shared, &plan.extent, *target));
    let mut patients: Vec<Patient> = join_all(examined).await;
    for stripe in 0..plan.extent.stripe_count() {
        let bytes = restore_stripe(shared, map, plan, stripe, &mut patients, &mut repaired).await;
        if bytes > 0 && !plan.is_urgent {
            shared.repair.pace.spend(bytes).await;
        }
    }
    let confirmed = patients.into_iter().map(|patient| confirm(shared, &plan.extent, patient));
    for (slot, result) in join_all(confirmed).await {
        match result {
            Ok(()) => repaired.slots.insert(slot),
            // Why a stripe could not be rebuilt says more than that its slot isn't whole.
            Err(failure) => {
                repaired.failure.get_or_insert(failure);
            }
        }
    }
    repaired
}

/// Asks a disk which shards of its slot it has.
async fn examine(shared: &Shared, extent: &Extent, target: Target) -> Patient {
    let Target { slot, disk } = target;
    let (lacking, failure) = match lacking_stripes(shared, extent, slot, disk).await {
        Ok(lacking) => (lacking, None),
        Err(_) => (BTreeSet::new(), Some(RepairFailure::TargetFailed)),
    };
    Patient { slot, disk, lacking, receipt: None, failure }
}

/// Stripes of the extent whose shard in `slot` its disk doesn't find sound.
async fn lacking_stripes(
    shared: &Shared,
    extent: &Extent,
    slot: u8,
    disk: DiskId,
) -> Result<BTreeSet<u16>, ShardFailure> {
    let mut lacking: BTreeSet<u16> = stripes_with(extent, slot).collect();
    for (id, state) in verify(shared, disk, vec![extent.id]).await? {
        if id.extent == extent.id && id.slot == slot && state == ShardState::Sound {
            lacking.remove(&id.stripe);
        }
    }
    Ok(lacking)
}

/// Rebuilds what the patients lack of one stripe; the bytes that were moved.
async fn restore_stripe(
    shared: &Arc<Shared>,
    map: &ClusterMap,
    plan: &RepairPlan,
    stripe: u16,
    patients: &mut [Patient],
    repaired: &mut Repaired,
) -> u64 {
    let extent = &plan.extent;
    let is_in_need =
        |patient: &&mut Patient| patient.lacking.contains(&stripe) && patient.failure.is_none();
    let mut wanted = SlotSet::default();
    patients.iter_mut().filter(is_in_need).for_each(|patient| wanted.insert(patient.slot));
    if wanted.is_empty() {
        return 0;
    }
    let stripe_bytes = extent.stripe_bytes(stripe);
    // What is read, the stripe in one piece, and its parity.
    let memory = u64::from(stripe_bytes) * 3;
    let (clock, patience) = (&*shared.clock, shared.options.budget_wait);
    let permit = shared.repair.budget.acquire(memory, clock, patience).await;
    let rebuilt = match &permit {
        Some(_) => rebuild_stripe(shared, StripeTask { map, extent, stripe, wanted }).await,
        None => Err(RepairFailure::Busy),
    };
    let Rebuilt { shards, owner, read_bytes } = match rebuilt {
        Ok(rebuilt) => rebuilt,
        Err(failure) => {
            // The other stripes are worth repairing all the same; the slot isn't confirmed.
            if repaired.failure.is_none_or(|known| known == RepairFailure::Busy) {
                repaired.failure = Some(failure);
            }
            return 0;
        }
    };
    let mut appends = Vec::with_capacity(shards.len());
    for (slot, payload) in shards {
        let Some(patient) = patients.iter().find(|patient| patient.slot == slot) else { continue };
        let id = ShardId { extent: extent.id, stripe, slot };
        let shard = ShardAppend {
            id,
            coding: extent.coding,
            stripe_bytes,
            checksums: block_checksums(id, &payload).into(),
            payload,
            owner: owner.clone(),
        };
        let bytes = shard.payload.len() as u64;
        let append = append(shared, patient.disk, shard, false);
        appends.push(async move { (bytes, append.await) });
    }
    let mut moved = read_bytes;
    for (bytes, (slot, _, result)) in join_all(appends).await {
        let Some(patient) = patients.iter_mut().find(|patient| patient.slot == slot) else {
            continue;
        };
        match result {
            Ok(receipt) => {
                patient.take(receipt);
                repaired.shards += 1;
                repaired.bytes += bytes;
                moved += bytes;
            }
            Err(failure) => {
                if matches!(failure, ShardFailure::Refused(ShardError::Exists(_))) {
                    let (extent, disk) = (extent.id, patient.disk.0);
                    tracing::error!(%extent, stripe, slot, disk, "a disk holds another shard than the one that was rebuilt");
                }
                patient.failure = Some(RepairFailure::TargetFailed);
            }
        }
    }
    moved
}

impl Patient {
    /// Takes note of an append; a restart in between may have lost what came before.
    fn take(&mut self, receipt: Receipt) {
        match &mut self.receipt {
            Some(known) if known.incarnation != receipt.incarnation => {
                self.failure = Some(RepairFailure::NotThere);
            }
            Some(known) => known.position = known.position.max(receipt.position),
            None => self.receipt = Some(receipt),
        }
    }
}

/// Makes durable what the disk took, and has all of its shards verified.
async fn confirm(
    shared: &Shared,
    extent: &Extent,
    patient: Patient,
) -> (u8, Result<(), RepairFailure>) {
    let Patient { slot, disk, lacking, receipt, failure } = patient;
    let check = async {
        if let Some(failure) = failure {
            return Err(failure);
        }
        let Some(receipt) = receipt else {
            // It lacked nothing, or nothing of it could be rebuilt.
            return if lacking.is_empty() { Ok(()) } else { Err(RepairFailure::OutOfReach) };
        };
        let (_, _, synced) = sync(shared, slot, disk, receipt).await;
        synced.map_err(|_| RepairFailure::TargetFailed)?;
        match lacking_stripes(shared, extent, slot, disk).await {
            Ok(lacking) if lacking.is_empty() => Ok(()),
            Ok(_) => Err(RepairFailure::NotThere),
            Err(_) => Err(RepairFailure::TargetFailed),
        }
    };
    (slot, check.await)
}
