//! The stored forms of the log: segment header, record header, hard state. FORMAT.md draws them.

use minicbor::{Decode, Encode};
use model::ids::{ClusterId, ReplicaId};
use twox_hash::XxHash3_64;

use crate::raft::types::{EntryKind, LogId, StoredLogId, Vote};

/// Bytes of a segment's header.
pub const SEGMENT_HEADER_BYTES: u64 = 64;
/// Bytes of a record's header.
pub const RECORD_HEADER_BYTES: usize = 72;

const SEGMENT_MAGIC: [u8; 8] = *b"DRYRLOG\x01";
const RECORD_MAGIC: u32 = u32::from_le_bytes(*b"DRLR");
const HARD_STATE_MAGIC: [u8; 8] = *b"DRYVOTE\x01";

/// Whose log a segment is part of, and which part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The cluster.
    pub cluster: ClusterId,
    /// The replica.
    pub replica: ReplicaId,
    /// Counts up with every segment of the log.
    pub number: u64,
    /// The sequence number of its first record.
    pub first_sequence: u64,
}

impl SegmentHeader {
    /// The stored form.
    pub fn to_bytes(self) -> [u8; SEGMENT_HEADER_BYTES as usize] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES as usize];
        bytes[..8].copy_from_slice(&SEGMENT_MAGIC);
        bytes[8..24].copy_from_slice(&self.cluster.0);
        bytes[24..32].copy_from_slice(&self.replica.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.number.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.first_sequence.to_le_bytes());
        let sum = XxHash3_64::oneshot(&bytes[..56]);
        bytes[56..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads the stored form; `None` when it isn't whole.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; SEGMENT_HEADER_BYTES as usize] = bytes.first_chunk()?;
        if bytes[..8] != SEGMENT_MAGIC || XxHash3_64::oneshot(&bytes[..56]) != u64_at(bytes, 56)? {
            return None;
        }
        Some(Self {
            cluster: ClusterId(bytes[8..24].try_into().ok()?),
            replica: ReplicaId(u64_at(bytes, 24)?),
            number: u64_at(bytes, 32)?,
            first_sequence: u64_at(bytes, 40)?,
        })
    }
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// An entry is appended.
    Entry(EntryKind),
    /// All entries behind the record's log id are taken back.
    Truncate,
}

impl RecordKind {
    const fn to_byte(self) -> u8 {
        match self {
            Self::Entry(EntryKind::Blank) => 1,
            Self::Entry(EntryKind::Commands) => 2,
            Self::Entry(EntryKind::Membership) => 3,
            Self::Truncate => 4,
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Entry(EntryKind::Blank),
            2 => Self::Entry(EntryKind::Commands),
            3 => Self::Entry(EntryKind::Membership),
            4 => Self::Truncate,
            _ => return None,
        })
    }
}

/// The header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// What it says.
    pub kind: RecordKind,
    /// Bytes of the payload.
    pub payload_bytes: u32,
    /// Counts up by one with every record of the log, for ever.
    pub sequence: u64,
    /// Every record below this sequence number was durable before this one was written: so when
    /// this record can be read, one of those that can't is damaged, not torn.
    pub durable_below: u64,
    /// The entry's log id; for `Truncate`, the last one that stays (all zero for none).
    pub log_id: StoredLogId,
    /// XXH3-64 of the payload.
    pub payload_checksum: u64,
}

impl RecordHeader {
    /// Bytes of the whole record: header and payload, rounded up to 8.
    pub fn record_bytes(&self) -> u64 {
        record_bytes(self.payload_bytes as usize)
    }

    /// The stored form.
    pub fn to_bytes(self) -> [u8; RECORD_HEADER_BYTES] {
        let mut bytes = [0; RECORD_HEADER_BYTES];
        bytes[..4].copy_from_slice(&RECORD_MAGIC.to_le_bytes());
        bytes[4] = self.kind.to_byte();
        bytes[8..12].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.durable_below.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.log_id.index.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.log_id.term.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.log_id.node.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.payload_checksum.to_le_bytes());
        let sum = XxHash3_64::oneshot(&bytes[..64]);
        bytes[64..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads the stored form; `None` when it isn't whole.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; RECORD_HEADER_BYTES] = bytes.first_chunk()?;
        let magic = u32::from_le_bytes(*bytes.first_chunk()?);
        if magic != RECORD_MAGIC || XxHash3_64::oneshot(&bytes[..64]) != u64_at(bytes, 64)? {
            return None;
        }
        Some(Self {
            kind: RecordKind::from_byte(bytes[4])?,
            payload_bytes: u32::from_le_bytes(bytes[8..12].try_into().ok()?),
            sequence: u64_at(bytes, 16)?,
            durable_below: u64_at(bytes, 24)?,
            log_id: StoredLogId {
                index: u64_at(bytes, 32)?,
                term: u64_at(bytes, 40)?,
                node: u64_at(bytes, 48)?,
            },
            payload_checksum: u64_at(bytes, 56)?,
        })
    }
}

/// Bytes of a record with such a payload.
pub fn record_bytes(payload_bytes: usize) -> u64 {
    (RECORD_HEADER_BYTES + payload_bytes).next_multiple_of(8) as u64
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// What a replica must never forget, in a file of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct HardState {
    /// The vote.
    #[n(0)]
    pub vote: Option<StoredVote>,
    /// The last entry that was purged.
    #[n(1)]
    pub purged: Option<StoredLogId>,
    /// Every record below this sequence number was durable when this was written.
    #[n(2)]
    pub durable_below: u64,
}

/// A vote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct StoredVote {
    /// For this term ...
    #[n(0)]
    pub term: u64,
    /// ... and this candidate.
    #[n(1)]
    pub node: u64,
    /// Whether a quorum granted it.
    #[n(2)]
    pub committed: bool,
}

impl From<Vote> for StoredVote {
    fn from(vote: Vote) -> Self {
        let leader = vote.leader_id;
        Self { term: leader.term, node: leader.node_id, committed: vote.committed }
    }
}

impl From<StoredVote> for Vote {
    fn from(vote: StoredVote) -> Self {
        let leader_id = crate::raft::types::LeaderId { term: vote.term, node_id: vote.node };
        Self { leader_id, committed: vote.committed }
    }
}

impl HardState {
    /// The stored form.
    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = HARD_STATE_MAGIC.to_vec();
        // Writing to a Vec can't fail.
        let _ = minicbor::encode(self, &mut bytes);
        let sum = XxHash3_64::oneshot(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads the stored form; `None` when it isn't whole.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (content, sum) = bytes.split_last_chunk::<8>()?;
        if XxHash3_64::oneshot(content) != u64::from_le_bytes(*sum) {
            return None;
        }
        minicbor::decode(content.strip_prefix(&HARD_STATE_MAGIC)?).ok()
    }
}

/// The log id that a truncation keeps.
pub fn kept(log_id: StoredLogId) -> Option<LogId> {
    (log_id != StoredLogId { term: 0, node: 0, index: 0 }).then(|| LogId::from(log_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).expect("a nibble");
        bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    }

    #[test]
    fn the_record_header_is_pinned() {
        let header = RecordHeader {
            kind: RecordKind::Entry(EntryKind::Commands),
            payload_bytes: 0x0102,
            sequence: 3,
            durable_below: 2,
            log_id: StoredLogId { term: 5, node: 6, index: 4 },
            payload_checksum: 7,
        };
        let bytes = header.to_bytes();
        let expected = "44524c520200000002010000000000000300000000000000020000000000000004000000\
                        00000000050000000000000006000000000000000700000000000000";
        let hex = hex(&bytes[..64]);
        assert_eq!(hex, expected);
        assert_eq!(RecordHeader::from_bytes(&bytes), Some(header));
        for at in 0..bytes.len() {
            let mut spoilt = bytes;
            spoilt[at] ^= 0x10;
            assert_eq!(RecordHeader::from_bytes(&spoilt), None, "byte {at}");
        }
    }

    #[test]
    fn the_segment_header_is_pinned() {
        let header = SegmentHeader {
            cluster: ClusterId([0xcc; 16]),
            replica: ReplicaId(3),
            number: 9,
            first_sequence: 0x100,
        };
        let bytes = header.to_bytes();
        let hex = hex(&bytes[..56]);
        let expected = "445259524c4f4701cccccccccccccccccccccccccccccccc0300000000000000\
                        090000000000000000010000000000000000000000000000";
        assert_eq!(hex, expected);
        assert_eq!(SegmentHeader::from_bytes(&bytes), Some(header));
    }

    #[test]
    fn the_hard_state_is_pinned() {
        let state = HardState {
            vote: Some(StoredVote { term: 2, node: 1, committed: true }),
            purged: None,
            durable_below: 5,
        };
        let bytes = state.to_bytes();
        let hex = hex(&bytes[..bytes.len() - 8]);
        assert_eq!(hex, "445259564f54450183830201f5f605");
        assert_eq!(HardState::from_bytes(&bytes), Some(state));
    }
}
