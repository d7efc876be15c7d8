//! Extents as the metadata records them.

use minicbor::{Decode, Encode};

use crate::coding::{Coding, StripeGeometry};
use crate::ids::ExtentId;
use crate::limits::{EXTENT_BYTES_MAX, STRIPE_BYTES_MAX};

/// A set of slots of a placement group, one bit each (bit 0 is slot 0).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct SlotSet(pub u32);

impl SlotSet {
    /// Whether no slot is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many slots are in the set.
    pub const fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether `slot` is in the set.
    pub const fn contains(self, slot: u8) -> bool {
        slot < 32 && self.0 & (1 << slot) != 0
    }

    /// Adds `slot` (below 32).
    pub const fn insert(&mut self, slot: u8) {
        if slot < 32 {
            self.0 |= 1 << slot;
        }
    }

    /// The slots of either set.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The slots of this set that aren't in `other`.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The slots, ascending.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..32u8).filter(move |slot| self.contains(*slot))
    }
}

/// A reference to an extent from an object's manifest: everything that a reader needs beside the
/// cluster map. Every stripe but the last holds exactly [`STRIPE_BYTES_MAX`] bytes.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Extent {
    /// Its name.
    #[n(0)]
    pub id: ExtentId,
    /// The coding of its stripes.
    #[n(1)]
    pub coding: Coding,
    /// Stored bytes.
    #[n(2)]
    pub length: u64,
    /// Slots that lacked a shard when it was committed (I-2); a hint for readers. The repair
    /// table is the truth.
    #[n(3)]
    pub missing: SlotSet,
    /// The epoch of the cluster map that its writer went by, which tells whether its slots are where
    /// the map has them by now; 0 where that isn't known.
    #[n(4)]
    #[cbor(skip_if = "crate::encoding::is_default")]
    pub epoch: u64,
}

impl Extent {
    /// Whether the numbers can be those of an extent.
    pub fn is_valid(&self) -> bool {
        self.length > 0 && self.length <= EXTENT_BYTES_MAX
    }

    /// How many stripes it has.
    pub fn stripe_count(&self) -> u16 {
        self.length.div_ceil(u64::from(STRIPE_BYTES_MAX)) as u16
    }

    /// Bytes of stripe `stripe`; 0 beyond the end.
    pub fn stripe_bytes(&self, stripe: u16) -> u32 {
        let start = u64::from(stripe) * u64::from(STRIPE_BYTES_MAX);
        self.length.saturating_sub(start).min(u64::from(STRIPE_BYTES_MAX)) as u32
    }

    /// The geometry of stripe `stripe`; `None` beyond the end.
    pub fn stripe_geometry(&self, stripe: u16) -> Option<StripeGeometry> {
        StripeGeometry::new(self.coding, self.stripe_bytes(stripe))
    }
}
