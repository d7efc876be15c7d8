//! repair: shards to spare, extent id → lacking slots.
//!
//! The priority is the number of surviving shards beyond those that a reader needs, so that
//! codings of different width compare; the most endangered extent comes first.

use minicbor::{Decode, Encode};
use model::coding::Coding;
use model::extent::SlotSet;
use model::ids::ExtentId;

use super::{Record, TableId};

/// An extent that lacks shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Repair {
    /// The slots.
    #[n(0)]
    pub lacking: SlotSet,
}

impl Record for Repair {
    const TABLE: TableId = TableId::Repair;
}

/// The row of an extent with these slots lacking.
pub fn key(extent: ExtentId, coding: Coding, lacking: SlotSet) -> [u8; 17] {
    let lost = lacking.len().min(u32::from(coding.width())) as u8;
    let mut key = [0; 17];
    // 128 is none to spare; below that the extent is lost unless shards come back.
    key[0] = 128 + coding.parity() - lost;
    key[1..].copy_from_slice(&extent.to_key());
    key
}

/// The extent of a row.
pub fn read_key(key: &[u8]) -> Option<ExtentId> {
    ExtentId::from_key(key.get(1..)?)
}
