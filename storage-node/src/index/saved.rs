//! What a checkpoint keeps beside the places of shards, and how much of the log it covers.

use model::ids::DiskUuid;
use model::shard::LogPosition;
use twox_hash::XxHash3_64;

use super::{DamagedRegion, DamagedShard, SegmentUse};

/// What an index covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The disk that it is of.
    pub uuid: DiskUuid,
    /// The segment in which replay begins.
    pub segment: u64,
    /// The offset in it at which replay begins.
    pub offset: u64,
    /// The log position there. Everything before it was durable when the checkpoint was taken.
    pub position: LogPosition,
}

impl Checkpoint {
    /// Bytes of the form in the index.
    pub const BYTES: usize = 48;
    /// An index of another version is made anew from the segments.
    const VERSION: u64 = 2;

    /// The form in the index.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut out = [0u8; Self::BYTES];
        out[..16].copy_from_slice(&self.uuid.0);
        let words = [Self::VERSION << 32 | self.offset, self.segment, self.position];
        for (place, word) in out[16..40].chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        let checksum = XxHash3_64::oneshot(&out[..40]);
        out[40..].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// The inverse of [`Checkpoint::encode`]; `None` for another version or a wrong checksum.
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let word = |at: usize| -> Option<u64> {
            Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
        };
        let (versioned, segment, position) = (word(16)?, word(24)?, word(32)?);
        let sound = word(40)? == XxHash3_64::oneshot(bytes.get(..40)?);
        if !sound || versioned >> 32 != Self::VERSION {
            return None;
        }
        let uuid = DiskUuid(bytes.get(..16)?.try_into().ok()?);
        Some(Self { uuid, segment, offset: versioned & 0xffff_ffff, position })
    }
}

/// What is saved with each checkpoint, and found in an index that is opened.
#[derive(Clone, Debug, Default)]
pub struct SavedIndex {
    /// What it covers; `None` for a new one.
    pub checkpoint: Option<Checkpoint>,
    /// The use of each segment.
    pub segments: Vec<(u64, SegmentUse)>,
    /// The damage known.
    pub damage: Vec<DamagedRegion>,
    /// The live shards whose records are known to be damaged.
    pub damaged_shards: Vec<DamagedShard>,
    /// How far scrub is, in a form of its own.
    pub scrub: Vec<u8>,
}
