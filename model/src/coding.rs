//! Codings and the geometry of a stripe: how many shards, how long, which bytes in which.

use std::fmt;

use minicbor::{Decode, Decoder, Encode};

use crate::limits::{
    DATA_SHARDS_MAX, PARITY_SHARDS_MAX, SHARD_ALIGN_BYTES, SHORT_SHARD_BYTES, STRIPE_BYTES_MAX,
};

/// A coding `k+m`: `k` data shards and `m` parity shards; any `k` of them rebuild the stripe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode)]
pub struct Coding {
    #[n(0)]
    data: u8,
    #[n(1)]
    parity: u8,
}

impl<'b, C> Decode<'b, C> for Coding {
    /// Refuses what [`Coding::new`] refuses, so that no arithmetic on a coding can overflow.
    fn decode(decoder: &mut Decoder<'b>, context: &mut C) -> Result<Self, minicbor::decode::Error> {
        #[derive(Decode)]
        struct Unchecked {
            #[n(0)]
            data: u8,
            #[n(1)]
            parity: u8,
        }
        let Unchecked { data, parity } = Unchecked::decode(decoder, context)?;
        Self::new(data, parity).map_err(minicbor::decode::Error::custom)
    }
}

/// Why a coding was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodingError {
    /// Not of the form `K+M`.
    #[error("a coding is written K+M, such as 4+2; {0:?} is not")]
    Syntax(String),
    /// Out of range.
    #[error("coding {0}+{1} is out of range: K is 1 to 16, M is 0 to 4")]
    Range(u8, u8),
}

impl Coding {
    /// A coding of `data` + `parity` shards.
    pub fn new(data: u8, parity: u8) -> Result<Self, CodingError> {
        if (1..=DATA_SHARDS_MAX).contains(&data) && parity <= PARITY_SHARDS_MAX {
            Ok(Self { data, parity })
        } else {
            Err(CodingError::Range(data, parity))
        }
    }

    /// Reads `K+M`.
    pub fn parse(text: &str) -> Result<Self, CodingError> {
        let syntax = || CodingError::Syntax(text.to_owned());
        let (data, parity) = text.split_once('+').ok_or_else(syntax)?;
        let number = |part: &str| part.trim().parse::<u8>().map_err(|_| syntax());
        Self::new(number(data)?, number(parity)?)
    }

    /// The best coding that `disks` disks allow when nobody chose one: 4+2 from six on, and below
    /// that as many parity shards (two, then one, then none) as leave a sensible overhead.
    pub fn default_for(disks: usize) -> Option<Self> {
        let (data, parity) = match disks {
            0 => return None,
            1 => (1, 0),
            2 => (1, 1),
            3 => (2, 1),
            4 => (2, 2),
            5 => (3, 2),
            _ => (4, 2),
        };
        Some(Self { data, parity })
    }

    /// Data shards, `k`.
    pub const fn data(self) -> u8 {
        self.data
    }

    /// Parity shards, `m`.
    pub const fn parity(self) -> u8 {
        self.parity
    }

    /// All shards, `k+m`: the slots of a placement group.
    pub const fn width(self) -> u8 {
        self.data + self.parity
    }

    /// How many shards of a stripe with `data_shards` data shards must be on stable storage before
    /// it is acknowledged (I-1): one more than needed to read it, two more when `m >= 3`, and all
    /// of them where the coding has no more.
    pub const fn write_quorum(self, data_shards: u8) -> u8 {
        let surplus = if self.parity >= 3 { 2 } else { 1 };
        data_shards + if surplus < self.parity { surplus } else { self.parity }
    }

    /// How good it is in place of `wanted`: the greater, the better. The same one is best; then what
    /// is as safe, since a narrower stripe costs space and one with less parity costs safety.
    pub fn rank_for(self, wanted: Self) -> impl Ord + Copy + use<> {
        let is_within = self.data <= wanted.data && self.parity <= wanted.parity;
        let safety = self.parity.min(wanted.parity);
        (self == wanted, safety, is_within, self.data, self.parity)
    }
}

impl fmt::Display for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.data, self.parity)
    }
}

/// The geometry of one stripe of `bytes` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StripeGeometry {
    coding: Coding,
    bytes: u32,
    data_shards: u8,
    shard_bytes: u32,
}

impl StripeGeometry {
    /// The geometry of a stripe of `bytes` bytes, 1 to [`STRIPE_BYTES_MAX`]; `None` outside that.
    ///
    /// Data shards are contiguous byte ranges of the stripe, so that a small range read touches
    /// one shard. A short stripe uses `k' = clamp(ceil(bytes / 16 KiB), 1, k)` of them.
    pub fn new(coding: Coding, bytes: u32) -> Option<Self> {
        if bytes == 0 || bytes > STRIPE_BYTES_MAX {
            return None;
        }
        let wanted = bytes.div_ceil(SHORT_SHARD_BYTES).min(u32::from(coding.data)) as u8;
        let shard_bytes = bytes.div_ceil(u32::from(wanted)).next_multiple_of(SHARD_ALIGN_BYTES);
        // Rounding up can leave the last shard without a byte only when shards are tiny, which
        // the 16 KiB rule excludes; count again all the same, so that no shard is ever empty.
        let data_shards = bytes.div_ceil(shard_bytes) as u8;
        Some(Self { coding, bytes, data_shards, shard_bytes })
    }

    /// Bytes of the stripe.
    pub const fn bytes(&self) -> u32 {
        self.bytes
    }

    /// The coding of the extent.
    pub const fn coding(&self) -> Coding {
        self.coding
    }

    /// Data shards in use, `k'`.
    pub const fn data_shards(&self) -> u8 {
        self.data_shards
    }

    /// Parity shards, `m`.
    pub const fn parity_shards(&self) -> u8 {
        self.coding.parity
    }

    /// Bytes of a full shard: every parity shard, and the length that data shards are padded to
    /// (with zeros, for coding only).
    pub const fn shard_bytes(&self) -> u32 {
        self.shard_bytes
    }

    /// The slots in use, data first: `0..k'` and `k..k+m`.
    pub fn slots(&self) -> impl Iterator<Item = u8> + use<> {
        (0..self.data_shards).chain(self.coding.data..self.coding.width())
    }

    /// Whether a shard lies in `slot`.
    pub const fn uses_slot(&self, slot: u8) -> bool {
        slot < self.data_shards || (slot >= self.coding.data && slot < self.coding.width())
    }

    /// The byte range of the stripe that data slot `slot` holds; `None` for any other slot.
    pub fn data_range(&self, slot: u8) -> Option<std::ops::Range<u32>> {
        if slot >= self.data_shards {
            return None;
        }
        let start = u32::from(slot) * self.shard_bytes;
        Some(start..(start + self.shard_bytes).min(self.bytes))
    }

    /// Bytes that are stored for `slot`: a data shard without its padding, or a whole parity
    /// shard; 0 for a slot that is not in use.
    pub fn stored_bytes(&self, slot: u8) -> u32 {
        match self.data_range(slot) {
            Some(range) => range.end - range.start,
            None if self.uses_slot(slot) => self.shard_bytes,
            None => 0,
        }
    }

    /// Shards that must be durable before the stripe is acknowledged (I-1).
    pub const fn write_quorum(&self) -> u8 {
        self.coding.write_quorum(self.data_shards)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn codings_parse() {
        assert_eq!(Coding::parse("4+2").map(|c| c.to_string()), Ok("4+2".to_owned()));
        assert!(matches!(Coding::parse("42"), Err(CodingError::Syntax(_))));
        assert!(matches!(Coding::parse("4+x"), Err(CodingError::Syntax(_))));
        assert_eq!(Coding::parse("17+2"), Err(CodingError::Range(17, 2)));
        assert_eq!(Coding::parse("0+2"), Err(CodingError::Range(0, 2)));
    }

    #[test]
    fn a_small_object_takes_three_small_writes() {
        let coding = Coding::new(4, 2).expect("valid");
        let geometry = StripeGeometry::new(coding, 4096).expect("valid");
        assert_eq!(geometry.slots().collect::<Vec<_>>(), [0, 4, 5]);
        assert_eq!(geometry.shard_bytes(), 4096);
        assert_eq!(geometry.write_quorum(), 2);
    }

    #[test]
    fn quorum_is_never_k_while_there_is_parity() {
        let quorum = |k, m| Coding::new(k, m).expect("valid").write_quorum(k);
        assert_eq!(quorum(4, 2), 5);
        assert_eq!(quorum(8, 4), 10);
        assert_eq!(quorum(6, 3), 8);
        assert_eq!(quorum(2, 1), 3);
        assert_eq!(quorum(1, 0), 1);
    }

    proptest! {
        #[test]
        fn data_ranges_cover_the_stripe_once(
            k in 1u8..=16, m in 0u8..=4, bytes in 1u32..=STRIPE_BYTES_MAX
        ) {
            let coding = Coding::new(k, m).expect("valid");
            let geometry = StripeGeometry::new(coding, bytes).expect("valid");
            let mut next = 0;
            for slot in 0..geometry.data_shards() {
                let range = geometry.data_range(slot).expect("in use");
                prop_assert_eq!(range.start, next);
                prop_assert!(range.end > range.start);
                next = range.end;
            }
            prop_assert_eq!(next, bytes);
            prop_assert_eq!(geometry.shard_bytes() % SHARD_ALIGN_BYTES, 0);
            prop_assert_eq!(
                geometry.slots().count(),
                usize::from(geometry.data_shards() + geometry.parity_shards())
            );
        }
    }
}
