//! repair: shards to spare, extent id → lacking slots.
//!
//! The priority is the number of surviving shards beyond those that a reader needs, so that
//! codings of different width compare; the most endangered extent comes first.

use minicbor::{Decode, Encode};
use model::coding::Coding;
use model::extent::SlotSet;
use model::ids::ExtentId;
use model::upkeep::RepairCursor;

use super::{Record, TableId};

/// The priority of an extent that has just the shards that a reader needs. Below it, the extent is
/// lost unless shards come back.
pub const NONE_TO_SPARE: u8 = 128;

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
    cursor_key(RepairCursor { priority: NONE_TO_SPARE + coding.parity() - lost, extent })
}

/// The row at a place in the queue.
pub fn cursor_key(cursor: RepairCursor) -> [u8; 17] {
    let mut key = [0; 17];
    key[0] = cursor.priority;
    key[1..].copy_from_slice(&cursor.extent.to_key());
    key
}

/// The place of a row.
pub fn read_key(key: &[u8]) -> Option<RepairCursor> {
    let (priority, extent) = key.split_first()?;
    Some(RepairCursor { priority: *priority, extent: ExtentId::from_key(extent)? })
}
