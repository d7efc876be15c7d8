//! A tombstone in the index: what was deleted when, where the record lies, and what it guards.
//!
//! The record must outlast every segment that still holds a record of the extent: a rebuild that
//! met such a *grave* without the tombstone would bring a deleted shard back.

use model::shard::LogPosition;
use model::time::Timestamp;

use crate::segment::fields::{get_u32, get_u64};

/// The latest tombstone of one extent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tombstone {
    /// When the extent was deleted.
    pub deleted: Timestamp,
    /// Records of the extent before this log position are deleted; later ones are not.
    pub before: LogPosition,
    /// The segment in which the tombstone's record lies.
    pub segment: u64,
    /// The record's first byte in it.
    pub offset: u32,
    /// The segments that may hold records of the extent, in order.
    pub graves: Vec<u64>,
}

/// Bytes in front of the graves.
const FIXED_BYTES: usize = 28;

impl Tombstone {
    /// The form in the index.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FIXED_BYTES + 8 * self.graves.len());
        out.extend_from_slice(&self.deleted.0.to_le_bytes());
        out.extend_from_slice(&self.before.to_le_bytes());
        out.extend_from_slice(&self.segment.to_le_bytes());
        out.extend_from_slice(&self.offset.to_le_bytes());
        for grave in &self.graves {
            out.extend_from_slice(&grave.to_le_bytes());
        }
        out
    }

    /// The inverse of [`Tombstone::encode`]; `None` for what is none.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let graves = bytes.get(FIXED_BYTES..)?;
        if graves.len() % 8 != 0 {
            return None;
        }
        Some(Self {
            deleted: Timestamp(get_u64(bytes, 0)?),
            before: get_u64(bytes, 8)?,
            segment: get_u64(bytes, 16)?,
            offset: get_u32(bytes, 24)?,
            graves: graves.chunks_exact(8).filter_map(|grave| get_u64(grave, 0)).collect(),
        })
    }

    /// Adds segments to the graves.
    pub fn bury(&mut self, graves: impl IntoIterator<Item = u64>) {
        self.graves.extend(graves);
        self.graves.sort_unstable();
        self.graves.dedup();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_a_tombstone_never_change() {
        let mut tombstone = Tombstone {
            deleted: Timestamp(0x0102),
            before: 0x0304,
            segment: 0x0506,
            offset: 0x0708,
            graves: Vec::new(),
        };
        tombstone.bury([9, 7, 9]);
        let bytes = [
            2, 1, 0, 0, 0, 0, 0, 0, 4, 3, 0, 0, 0, 0, 0, 0, 6, 5, 0, 0, 0, 0, 0, 0, 8, 7, 0, 0, 7,
            0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(tombstone.encode(), bytes);
        assert_eq!(Tombstone::decode(&bytes), Some(tombstone));
        for short in [0, 27, 29, 35, 43] {
            assert_eq!(Tombstone::decode(&bytes[..short]), None, "{short} bytes");
        }
    }
}
