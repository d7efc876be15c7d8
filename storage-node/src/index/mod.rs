//! The index of a disk: which shard lies where. A cache of the log, never the truth.
//!
//! Changes are kept in memory ([`view`]) until a checkpoint writes them to redb in one durable
//! transaction ([`database`]), together with the log position that it covers and the use of every
//! segment. After a crash the log is replayed from there; when the index is missing or damaged it
//! is rebuilt from the segments.
//!
//! redb verifies no page when it reads it. So: the whole file is verified when the index is opened
//! ([`sums`]), and every page read later must be the one that was verified or written
//! ([`backend`]). What
//! that doesn't catch is caught where it matters: a record's own header must carry the shard's id
//! and a sound checksum. A lost key would be a `NotFound`, which proves nothing about the cluster
//! and is answered by parity.

use model::ids::ShardId;
use model::shard::LogPosition;

mod backend;
mod database;
mod saved;
mod sums;
mod tombstone;
mod view;

pub use database::IndexError;
pub use saved::{Checkpoint, SavedIndex};
pub use sums::SUMS_NAME;
pub use tombstone::Tombstone;
pub use view::{Change, Index};

/// The file name of the index, beside the segments.
pub const INDEX_NAME: &str = "index.redb";

/// Where a shard's record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// The segment.
    pub segment: u64,
    /// The record's first byte in it.
    pub offset: u32,
    /// Bytes of the record.
    pub record_bytes: u32,
    /// Bytes of the shard.
    pub payload_bytes: u32,
}

impl Location {
    /// Bytes of the form in the index.
    pub const BYTES: usize = 20;

    /// The form in the index.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut out = [0u8; Self::BYTES];
        out[..8].copy_from_slice(&self.segment.to_le_bytes());
        out[8..12].copy_from_slice(&self.offset.to_le_bytes());
        out[12..16].copy_from_slice(&self.record_bytes.to_le_bytes());
        out[16..].copy_from_slice(&self.payload_bytes.to_le_bytes());
        out
    }

    /// The inverse of [`Location::encode`].
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Self {
        let word = |at: usize| {
            let mut word = [0u8; 4];
            word.copy_from_slice(&bytes[at..at + 4]);
            u32::from_le_bytes(word)
        };
        Self {
            segment: u64::from(word(0)) | u64::from(word(4)) << 32,
            offset: word(8),
            record_bytes: word(12),
            payload_bytes: word(16),
        }
    }
}

/// What a segment holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentUse {
    /// The log position of the file's first byte.
    pub start: LogPosition,
    /// Bytes of the file that are log, its header included.
    pub end: u64,
    /// Bytes of live records.
    pub live_bytes: u64,
    /// Live shards.
    pub shards: u64,
    /// Bytes of the tombstones in it that the index points to.
    pub tombstone_bytes: u64,
    /// Whether a record in it was replaced by a later one of the same shard, so that a tombstone
    /// of that shard must outlast this segment although no live shard is left here.
    pub superseded: bool,
}

/// A live shard whose record is damaged, and where that record lies.
pub type DamagedShard = (ShardId, Location);

/// A damaged region of a segment: quarantined, which is to say never served, never written over,
/// and told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DamagedRegion {
    /// The segment.
    pub segment: u64,
    /// The first byte.
    pub offset: u64,
    /// How many.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_a_location_never_change() {
        let location = Location {
            segment: 0x0102_0304_0506_0708,
            offset: 0x1112_1314,
            record_bytes: 0x2122_2324,
            payload_bytes: 0x3132_3334,
        };
        let bytes = [
            8, 7, 6, 5, 4, 3, 2, 1, 0x14, 0x13, 0x12, 0x11, 0x24, 0x23, 0x22, 0x21, 0x34, 0x33,
            0x32, 0x31,
        ];
        assert_eq!(location.encode(), bytes);
        assert_eq!(Location::decode(&bytes), location);
    }
}
