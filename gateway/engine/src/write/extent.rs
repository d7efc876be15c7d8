//! What is known of an extent while it is written.

use std::sync::Arc;

use bytes::Bytes;
use model::coding::{Coding, StripeGeometry};
use model::extent::{Extent, SlotSet};
use model::ids::{DiskId, ExtentId, Incarnation};
use model::limits::EXTENT_STRIPES_MAX;
use model::shard::LogPosition;

use super::send::StripeOutcome;

/// What doesn't change about an open extent.
#[derive(Debug)]
pub(super) struct ExtentSpec {
    pub(super) id: ExtentId,
    pub(super) coding: Coding,
    /// The disk of each slot.
    pub(super) disks: Arc<[DiskId]>,
    /// The epoch of the map that says so.
    pub(super) epoch: u64,
    /// The sealed owner.
    pub(super) owner: Bytes,
}

/// That a disk took shards: proof to be made good by a sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub(crate) incarnation: Incarnation,
    pub(crate) position: LogPosition,
}

/// A stripe that has been sent.
#[derive(Clone, Copy, Debug)]
struct SentStripe {
    bytes: u32,
    /// Slots whose disks took their shard.
    stored: SlotSet,
}

/// An extent that takes stripes.
#[derive(Debug)]
pub(super) struct OpenExtent {
    pub(super) spec: Arc<ExtentSpec>,
    /// Slots that get no more shards.
    pub(super) skip: SlotSet,
    /// Stripes under way or sent.
    pub(super) begun: u16,
    /// The receipts are for stable storage already.
    pub(super) synced: bool,
    /// Shards may arrive after their request failed.
    pub(super) late: bool,
    stripes: Vec<SentStripe>,
    receipts: Vec<Option<Receipt>>,
    /// Slots whose disk lost what it took.
    lost: SlotSet,
}

/// An extent with nothing under way.
#[derive(Debug)]
pub(super) struct SealedExtent {
    pub(super) extent: Extent,
    pub(super) spec: Arc<ExtentSpec>,
    /// Whether every stripe has its write quorum on stable storage (I-1).
    pub(super) is_durable: bool,
    pub(super) late: bool,
}

impl OpenExtent {
    pub(super) fn new(spec: ExtentSpec, skip: SlotSet) -> Self {
        let receipts = vec![None; spec.disks.len()];
        Self {
            spec: Arc::new(spec),
            skip,
            begun: 0,
            synced: false,
            late: false,
            stripes: Vec::new(),
            receipts,
            lost: SlotSet::default(),
        }
    }

    /// Whether a stripe of `bytes` bytes may follow: there is room, and enough of its slots live.
    pub(super) fn takes(&self, bytes: u32) -> bool {
        let live = StripeGeometry::new(self.spec.coding, bytes).is_some_and(|geometry| {
            live_slots(&geometry, self.skip) >= u32::from(geometry.write_quorum())
        });
        live && self.begun < EXTENT_STRIPES_MAX
    }

    /// Whether no stripe was kept.
    pub(super) fn is_empty(&self) -> bool {
        self.stripes.is_empty()
    }

    /// Takes note of a stripe that stays; they come in order.
    pub(super) fn keep(&mut self, outcome: &StripeOutcome) {
        assert_eq!(usize::from(outcome.number), self.stripes.len(), "stripes are kept in order");
        let (bytes, stored) = (outcome.stripe.bytes(), outcome.stored);
        self.stripes.push(SentStripe { bytes, stored });
        for (slot, receipt) in &outcome.receipts {
            let Some(known) = self.receipts.get_mut(usize::from(*slot)) else { continue };
            match known {
                // A restart between two appends: what came before may be lost.
                Some(known) if known.incarnation != receipt.incarnation => self.lost.insert(*slot),
                Some(known) => known.position = known.position.max(receipt.position),
                None => *known = Some(*receipt),
            }
        }
    }

    /// Whether a stripe has its quorum, though some of its shards failed.
    pub(super) fn would_keep(&self, outcome: &StripeOutcome) -> bool {
        StripeGeometry::new(self.spec.coding, outcome.stripe.bytes())
            .is_some_and(|geometry| outcome.stored.len() >= u32::from(geometry.write_quorum()))
    }

    /// Disks to be synced, with their slots and what they took.
    pub(super) fn to_sync(&self) -> Vec<(u8, DiskId, Receipt)> {
        let slots = (0u8..).zip(self.spec.disks.iter()).zip(&self.receipts);
        slots
            .filter(|((slot, _), _)| !self.lost.contains(*slot))
            .filter_map(|((slot, disk), receipt)| Some((slot, *disk, (*receipt)?)))
            .collect()
    }

    /// A slot's disk did not sync.
    pub(super) fn lose(&mut self, slot: u8) {
        self.lost.insert(slot);
    }

    /// Whether every stripe would have its quorum without the slots in `doubtful`.
    pub(super) fn is_durable_without(&self, doubtful: SlotSet) -> bool {
        let gone = self.lost.union(doubtful);
        self.stripes.iter().all(|stripe| {
            StripeGeometry::new(self.spec.coding, stripe.bytes).is_some_and(|geometry| {
                let there = |slot: &u8| stripe.stored.contains(*slot) && !gone.contains(*slot);
                geometry.slots().filter(there).count() >= usize::from(geometry.write_quorum())
            })
        })
    }

    /// The end of the extent.
    pub(super) fn seal(self) -> SealedExtent {
        let is_durable = self.is_durable_without(SlotSet::default());
        let mut missing = SlotSet::default();
        for stripe in &self.stripes {
            let geometry = StripeGeometry::new(self.spec.coding, stripe.bytes);
            for slot in geometry.iter().flat_map(StripeGeometry::slots) {
                if !stripe.stored.contains(slot) || self.lost.contains(slot) {
                    missing.insert(slot);
                }
            }
        }
        let length = self.stripes.iter().map(|stripe| u64::from(stripe.bytes)).sum();
        let ExtentSpec { id, coding, epoch, .. } = *self.spec;
        let extent = Extent { id, coding, length, missing, epoch };
        SealedExtent { extent, spec: self.spec, is_durable, late: self.late }
    }
}

/// Slots of a stripe that are not in `skip`.
pub(super) fn live_slots(geometry: &StripeGeometry, skip: SlotSet) -> u32 {
    geometry.slots().filter(|slot| !skip.contains(*slot)).count() as u32
}
