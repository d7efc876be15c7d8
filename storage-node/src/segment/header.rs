//! The first 128 bytes of a segment file: whose it is, and where in the log it begins.
//!
//! Written and synced, with the directory, before any record of the segment counts as durable.

use model::ids::{ClusterId, DiskId, DiskUuid, Incarnation};
use model::shard::LogPosition;
use model::time::Timestamp;
use twox_hash::XxHash3_64;

use super::fields::{array, get_u32, get_u64, put};
use crate::options::DiskIdentity;

/// Bytes of a segment header; the first record begins behind it.
pub const SEGMENT_HEADER_BYTES: u64 = 128;

const BYTES: usize = SEGMENT_HEADER_BYTES as usize;
const MAGIC: [u8; 8] = *b"DRYSEG\r\n";
const VERSION: u32 = 1;
const CHECKSUM_AT: usize = BYTES - 8;

/// A decoded segment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The disk that wrote it.
    pub identity: DiskIdentity,
    /// The segment's number, as in its file name.
    pub segment: u64,
    /// The log position of the file's first byte.
    pub start: LogPosition,
    /// The run of the disk that wrote it; a segment is never appended to by a later run.
    pub incarnation: Incarnation,
    /// When it was made.
    pub created: Timestamp,
}

/// Why bytes are no segment header of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Too short, another magic, or the checksum fails.
    #[error("the segment header is damaged")]
    Damaged,
    /// Written by a newer release; nothing about it may be guessed (R13).
    #[error("segment format version {0} is newer than this release knows")]
    Version(u32),
}

impl SegmentHeader {
    /// The bytes at the head of the file.
    pub fn encode(&self) -> [u8; BYTES] {
        let mut out = [0u8; BYTES];
        put(&mut out, 0, &MAGIC);
        put(&mut out, 8, &VERSION.to_le_bytes());
        put(&mut out, 12, &(BYTES as u32).to_le_bytes());
        put(&mut out, 16, &self.identity.cluster.0);
        put(&mut out, 32, &self.identity.uuid.0);
        put(&mut out, 48, &self.identity.disk.0.to_le_bytes());
        put(&mut out, 56, &self.segment.to_le_bytes());
        put(&mut out, 64, &self.start.to_le_bytes());
        put(&mut out, 72, &self.incarnation.0.to_le_bytes());
        put(&mut out, 80, &self.created.0.to_le_bytes());
        let checksum = XxHash3_64::oneshot(&out[..CHECKSUM_AT]);
        put(&mut out, CHECKSUM_AT, &checksum.to_le_bytes());
        out
    }

    /// The inverse of [`SegmentHeader::encode`]. Every version keeps magic, version and checksum
    /// where they are, so that rot is never taken for a newer format.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let sound = bytes.get(..CHECKSUM_AT).is_some_and(|covered| {
            Some(XxHash3_64::oneshot(covered)) == get_u64(bytes, CHECKSUM_AT)
        });
        if !sound || array::<8>(bytes, 0) != Some(MAGIC) {
            return Err(HeaderError::Damaged);
        }
        match get_u32(bytes, 8) {
            Some(VERSION) => Self::fields(bytes).ok_or(HeaderError::Damaged),
            Some(version) => Err(HeaderError::Version(version)),
            None => Err(HeaderError::Damaged),
        }
    }

    fn fields(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            identity: DiskIdentity {
                cluster: ClusterId(array(bytes, 16)?),
                uuid: DiskUuid(array(bytes, 32)?),
                disk: DiskId(get_u32(bytes, 48)?),
            },
            segment: get_u64(bytes, 56)?,
            start: get_u64(bytes, 64)?,
            incarnation: Incarnation(get_u64(bytes, 72)?),
            created: Timestamp(get_u64(bytes, 80)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> SegmentHeader {
        SegmentHeader {
            identity: DiskIdentity {
                cluster: ClusterId([0xc1; 16]),
                disk: DiskId(7),
                uuid: DiskUuid([0xd2; 16]),
            },
            segment: 3,
            start: 0x0102_0304,
            incarnation: Incarnation(9),
            created: Timestamp(0x1122_3344_5566_7788),
        }
    }

    #[test]
    fn the_bytes_of_version_1_never_change() {
        let mut expected = Vec::new();
        expected.extend_from_slice(b"DRYSEG\r\n");
        expected.extend_from_slice(&[1, 0, 0, 0, 128, 0, 0, 0]);
        expected.extend_from_slice(&[0xc1; 16]);
        expected.extend_from_slice(&[0xd2; 16]);
        expected.extend_from_slice(&[7, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend_from_slice(&[3, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend_from_slice(&[4, 3, 2, 1, 0, 0, 0, 0]);
        expected.extend_from_slice(&[9, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend_from_slice(&[0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]);
        expected.extend_from_slice(&[0; 32]);
        assert_eq!(example().encode()[..120], expected[..]);
        assert_eq!(example().encode()[120..], [254, 121, 99, 21, 157, 158, 180, 175]);
    }

    #[test]
    fn it_reads_back_and_every_flipped_bit_is_seen() {
        let bytes = example().encode();
        assert_eq!(SegmentHeader::decode(&bytes), Ok(example()));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&bad), Err(HeaderError::Damaged), "bit {bit}");
        }
        assert_eq!(SegmentHeader::decode(&bytes[..100]), Err(HeaderError::Damaged));
        assert_eq!(SegmentHeader::decode(&[]), Err(HeaderError::Damaged));
    }

    #[test]
    fn a_newer_version_is_named_and_rot_is_none() {
        let mut bytes = example().encode();
        bytes[8] = 9;
        bytes[90] = 1;
        assert_eq!(SegmentHeader::decode(&bytes), Err(HeaderError::Damaged));
        let checksum = XxHash3_64::oneshot(&bytes[..CHECKSUM_AT]);
        put(&mut bytes, CHECKSUM_AT, &checksum.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&bytes), Err(HeaderError::Version(9)));
    }
}
