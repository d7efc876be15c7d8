//! One record: header, owner, block checksums, payload.
//!
//! A record describes itself: with the disk's identity and its place it can be recognised, and
//! what it holds verified, without the index. The header checksum is seeded with the identity of
//! the disk and the segment's number ([`Seal`]), so that a record that lies in the wrong file is
//! none.

use model::checksum::block_count;
use model::coding::Coding;
use model::ids::{ExtentId, Incarnation, ShardId};
use model::limits::{OWNER_BYTES_MAX, STRIPE_BYTES_MAX};
use model::shard::LogPosition;
use model::time::Timestamp;
use twox_hash::XxHash3_64;

use super::RECORD_ALIGN_BYTES;
use super::fields::{array, get_u16, get_u32, get_u64, put};
use crate::options::DiskIdentity;

/// Bytes of a record header.
pub const RECORD_HEADER_BYTES: usize = 88;

/// The first bytes of every record.
pub const RECORD_MAGIC: [u8; 4] = *b"DrSh";

const VERSION: u8 = 1;
const CHECKSUM_AT: usize = RECORD_HEADER_BYTES - 8;
const ALIGN: usize = RECORD_ALIGN_BYTES as usize;

/// The longest record.
pub const RECORD_BYTES_MAX: u64 =
    (RECORD_HEADER_BYTES + OWNER_BYTES_MAX + 8 * block_count(STRIPE_BYTES_MAX) as usize) as u64
        + STRIPE_BYTES_MAX as u64;

/// What seeds a record's header checksum: the disk and the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal(u64);

impl Seal {
    /// The seal of a segment of a disk.
    pub fn new(identity: &DiskIdentity, segment: u64) -> Self {
        let mut bytes = [0u8; 40];
        put(&mut bytes, 0, &identity.cluster.0);
        put(&mut bytes, 16, &identity.uuid.0);
        put(&mut bytes, 32, &segment.to_le_bytes());
        Self(XxHash3_64::oneshot(&bytes))
    }
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A shard.
    Shard,
    /// Every earlier shard of `id.extent` on this disk is deleted.
    Tombstone,
    /// Says what is durable, and nothing else.
    Mark,
    /// A deleted shard that compaction carries along for the grace period. Never live.
    Remains,
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Self::Shard => 1,
            Self::Tombstone => 2,
            Self::Mark => 3,
            Self::Remains => 4,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Shard),
            2 => Some(Self::Tombstone),
            3 => Some(Self::Mark),
            4 => Some(Self::Remains),
            _ => None,
        }
    }
}

/// A decoded record header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// What it is.
    pub kind: Kind,
    /// The shard; for a tombstone its extent alone counts.
    pub id: ShardId,
    /// The coding of a shard's extent; `None` for what is no shard.
    pub coding: Option<Coding>,
    /// Bytes of the shard's whole stripe.
    pub stripe_bytes: u32,
    /// Bytes of the shard.
    pub payload_bytes: u32,
    /// Bytes of the sealed owner.
    pub owner_bytes: u16,
    /// Where it lies in the log.
    pub position: LogPosition,
    /// Everything before this position was durable when the record was written.
    pub durable: LogPosition,
    /// The run of the disk that wrote it.
    pub incarnation: Incarnation,
    /// When it was appended.
    pub appended: Timestamp,
    /// Checksum of owner and block checksums.
    pub body_checksum: u64,
    /// Of a tombstone that compaction has moved: it deletes what lies before this log position.
    /// 0 in any other record; a tombstone then deletes what lies before itself.
    pub before: LogPosition,
}

impl RecordHeader {
    /// The header of a record without owner and payload.
    pub fn bare(kind: Kind, extent: ExtentId) -> Self {
        Self {
            kind,
            id: ShardId { extent, stripe: 0, slot: 0 },
            coding: None,
            stripe_bytes: 0,
            payload_bytes: 0,
            owner_bytes: 0,
            position: 0,
            durable: 0,
            incarnation: Incarnation(0),
            appended: Timestamp(0),
            body_checksum: 0,
            before: 0,
        }
    }

    /// The log position before which a tombstone deletes the shards of its extent.
    pub fn deletes_before(&self) -> LogPosition {
        if self.before == 0 { self.position } else { self.before }
    }

    /// Bytes between header and payload: the owner, padded, and the block checksums.
    pub fn body_bytes(&self) -> usize {
        usize::from(self.owner_bytes).next_multiple_of(ALIGN)
            + 8 * block_count(self.payload_bytes) as usize
    }

    /// Where the payload begins, from the record's first byte.
    pub fn payload_at(&self) -> usize {
        RECORD_HEADER_BYTES + self.body_bytes()
    }

    /// Bytes of the whole record, padding included.
    pub fn record_bytes(&self) -> u64 {
        (self.payload_at() as u64 + u64::from(self.payload_bytes))
            .next_multiple_of(RECORD_ALIGN_BYTES)
    }

    /// Header, owner and block checksums as they are written; the payload and its padding follow.
    /// Sets `owner_bytes` and `body_checksum`.
    pub fn encode(&mut self, seal: Seal, owner: &[u8], checksums: &[u64]) -> Vec<u8> {
        assert!(owner.len() <= OWNER_BYTES_MAX, "owners are checked before they are queued");
        assert_eq!(checksums.len(), block_count(self.payload_bytes) as usize);
        self.owner_bytes = owner.len() as u16;
        let mut out = vec![0u8; self.payload_at()];
        put(&mut out, RECORD_HEADER_BYTES, owner);
        let table = RECORD_HEADER_BYTES + owner.len().next_multiple_of(ALIGN);
        for (place, checksum) in out[table..].chunks_exact_mut(8).zip(checksums) {
            place.copy_from_slice(&checksum.to_le_bytes());
        }
        self.body_checksum = XxHash3_64::oneshot_with_seed(seal.0, &out[RECORD_HEADER_BYTES..]);
        self.put_header(seal, &mut out);
        out
    }

    fn put_header(&self, seal: Seal, out: &mut [u8]) {
        let (data, parity) = self.coding.map_or((0, 0), |c| (c.data(), c.parity()));
        put(out, 0, &RECORD_MAGIC);
        put(out, 4, &[VERSION, self.kind.code(), data, parity]);
        put(out, 8, &self.id.to_key());
        if self.kind == Kind::Tombstone {
            put(out, 28, &self.before.to_le_bytes());
        } else {
            put(out, 28, &self.stripe_bytes.to_le_bytes());
            put(out, 32, &self.payload_bytes.to_le_bytes());
        }
        put(out, 36, &self.owner_bytes.to_le_bytes());
        put(out, 40, &self.position.to_le_bytes());
        put(out, 48, &self.durable.to_le_bytes());
        put(out, 56, &self.incarnation.0.to_le_bytes());
        put(out, 64, &self.appended.0.to_le_bytes());
        put(out, 72, &self.body_checksum.to_le_bytes());
        let checksum = XxHash3_64::oneshot_with_seed(seal.0, &out[..CHECKSUM_AT]);
        put(out, CHECKSUM_AT, &checksum.to_le_bytes());
    }

    /// Reads the header at the head of `bytes`; `None` when there is no sound one.
    pub fn decode(seal: Seal, bytes: &[u8]) -> Option<Self> {
        if array(bytes, 0) != Some(RECORD_MAGIC) {
            return None;
        }
        let checksum = XxHash3_64::oneshot_with_seed(seal.0, bytes.get(..CHECKSUM_AT)?);
        if checksum != get_u64(bytes, CHECKSUM_AT)? || bytes[4] != VERSION {
            return None;
        }
        let kind = Kind::from_code(bytes[5])?;
        let coding = match kind {
            Kind::Shard | Kind::Remains => Some(Coding::new(bytes[6], bytes[7]).ok()?),
            Kind::Tombstone | Kind::Mark => None,
        };
        let (stripe_bytes, payload_bytes, before) = match kind {
            Kind::Tombstone => (0, 0, get_u64(bytes, 28)?),
            _ => (get_u32(bytes, 28)?, get_u32(bytes, 32)?, 0),
        };
        let header = Self {
            kind,
            id: ShardId::from_key(&array::<{ ShardId::KEY_BYTES }>(bytes, 8)?)?,
            coding,
            stripe_bytes,
            payload_bytes,
            owner_bytes: get_u16(bytes, 36)?,
            position: get_u64(bytes, 40)?,
            durable: get_u64(bytes, 48)?,
            incarnation: Incarnation(get_u64(bytes, 56)?),
            appended: Timestamp(get_u64(bytes, 64)?),
            body_checksum: get_u64(bytes, 72)?,
            before,
        };
        let within_limits = usize::from(header.owner_bytes) <= OWNER_BYTES_MAX
            && header.payload_bytes <= STRIPE_BYTES_MAX;
        within_limits.then_some(header)
    }

    /// The version of a sound header that this release can't read: one of a newer format. Magic,
    /// version and checksum stay where they are in every version, so that rot is never taken for
    /// one; a new kind of record is a new version.
    pub fn newer_version(seal: Seal, bytes: &[u8]) -> Option<u8> {
        if array(bytes, 0) != Some(RECORD_MAGIC) {
            return None;
        }
        let version = *bytes.get(4)?;
        let checksum = XxHash3_64::oneshot_with_seed(seal.0, bytes.get(..CHECKSUM_AT)?);
        (checksum == get_u64(bytes, CHECKSUM_AT)? && version != VERSION).then_some(version)
    }

    /// The block checksums out of `body` (the bytes between header and payload), once they are
    /// proved sound; `None` when owner or checksums are damaged.
    pub fn checksums(&self, seal: Seal, body: &[u8]) -> Option<Vec<u64>> {
        if body.len() != self.body_bytes()
            || XxHash3_64::oneshot_with_seed(seal.0, body) != self.body_checksum
        {
            return None;
        }
        let table = body.get(usize::from(self.owner_bytes).next_multiple_of(ALIGN)..)?;
        Some(table.chunks_exact(8).filter_map(|sum| get_u64(sum, 0)).collect())
    }
}

#[cfg(test)]
mod tests {
    use model::checksum::block_checksums;
    use model::ids::{ClusterId, DiskId, DiskUuid, PgId, SessionId};

    use super::*;

    fn seal() -> Seal {
        let identity = DiskIdentity {
            cluster: ClusterId([0xc1; 16]),
            disk: DiskId(7),
            uuid: DiskUuid([0xd2; 16]),
        };
        Seal::new(&identity, 3)
    }

    fn example() -> (RecordHeader, Vec<u8>) {
        let extent = ExtentId { pg: PgId(1), session: SessionId(2), sequence: 3 };
        let id = ShardId { extent, stripe: 4, slot: 5 };
        let mut header = RecordHeader {
            id,
            coding: Coding::new(4, 2).ok(),
            stripe_bytes: 100,
            payload_bytes: 5,
            position: 0x80,
            durable: 0x40,
            incarnation: Incarnation(9),
            appended: Timestamp(0x0a0b),
            ..RecordHeader::bare(Kind::Shard, extent)
        };
        let bytes = header.encode(seal(), b"own", &block_checksums(id, b"hello"));
        (header, bytes)
    }

    #[test]
    fn the_bytes_of_version_1_never_change() {
        let (header, bytes) = example();
        let mut expected = Vec::new();
        expected.extend_from_slice(b"DrSh");
        expected.extend_from_slice(&[1, 1, 4, 2]);
        expected.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3, 0, 4, 5, 0]);
        expected.extend_from_slice(&[100, 0, 0, 0, 5, 0, 0, 0, 3, 0, 0, 0]);
        expected.extend_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend_from_slice(&[0x40, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend_from_slice(&[9, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend_from_slice(&[0x0b, 0x0a, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[..72], expected[..]);
        assert_eq!(bytes[72..80], [106, 29, 143, 191, 97, 95, 42, 71]);
        assert_eq!(bytes[80..88], [81, 135, 121, 1, 126, 30, 53, 46]);
        assert_eq!(&bytes[88..96], b"own\0\0\0\0\0");
        assert_eq!(bytes[96..], block_checksums(header.id, b"hello")[0].to_le_bytes());
    }

    #[test]
    fn it_reads_back_and_every_flipped_bit_is_seen() {
        let (header, bytes) = example();
        let read = |bytes: &[u8]| {
            let header = RecordHeader::decode(seal(), bytes)?;
            header.checksums(seal(), &bytes[RECORD_HEADER_BYTES..]).map(|sums| (header, sums))
        };
        assert_eq!(read(&bytes), Some((header, block_checksums(header.id, b"hello"))));
        assert_eq!(header.record_bytes(), 112);
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&bad), None, "bit {bit}");
        }
        for length in 0..RECORD_HEADER_BYTES {
            assert_eq!(RecordHeader::decode(seal(), &bytes[..length]), None);
        }
    }

    #[test]
    fn a_newer_version_is_named_and_rot_is_none() {
        let (_, mut bytes) = example();
        assert_eq!(RecordHeader::newer_version(seal(), &bytes), None);
        bytes[4] = 9;
        assert_eq!(RecordHeader::newer_version(seal(), &bytes), None);
        let checksum = XxHash3_64::oneshot_with_seed(seal().0, &bytes[..CHECKSUM_AT]);
        put(&mut bytes, CHECKSUM_AT, &checksum.to_le_bytes());
        assert_eq!(RecordHeader::decode(seal(), &bytes), None);
        assert_eq!(RecordHeader::newer_version(seal(), &bytes), Some(9));
        assert_eq!(RecordHeader::newer_version(Seal(1), &bytes), None);
    }

    #[test]
    fn a_moved_tombstone_says_what_it_deletes() {
        let extent = ExtentId { pg: PgId(1), session: SessionId(2), sequence: 3 };
        let mut header = RecordHeader {
            position: 0x9000,
            before: 0x1122_3344_5566_7788,
            ..RecordHeader::bare(Kind::Tombstone, extent)
        };
        let bytes = header.encode(seal(), &[], &[]);
        assert_eq!(&bytes[28..36], &[0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]);
        assert_eq!(RecordHeader::decode(seal(), &bytes), Some(header));
        assert_eq!((header.record_bytes(), header.deletes_before()), (88, 0x1122_3344_5566_7788));
        let mut first = RecordHeader { before: 0, ..header };
        let bytes = first.encode(seal(), &[], &[]);
        let read = RecordHeader::decode(seal(), &bytes).expect("sound");
        assert_eq!((read.payload_bytes, read.deletes_before()), (0, 0x9000));
    }

    #[test]
    fn a_record_of_another_segment_is_none() {
        let (_, bytes) = example();
        assert_eq!(RecordHeader::decode(Seal(1), &bytes), None);
    }
}
