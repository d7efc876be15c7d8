//! Identifiers. Each is a newtype: one can't be passed for another.
//!
//! Ids that end up in keys have a fixed-width big-endian form, so that byte order is number order.

use std::fmt;

use minicbor::{Decode, Encode};

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
        #[cbor(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

macro_rules! opaque_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
        #[cbor(transparent)]
        pub struct $name(#[cbor(with = "minicbor::bytes")] pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                for byte in self.0 {
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl $name {
            /// Reads the 32 lower- or upper-case hex digits that `Display` writes.
            pub fn parse(text: &str) -> Option<Self> {
                parse_hex16(text).map(Self)
            }
        }
    };
}

fn parse_hex16(text: &str) -> Option<[u8; 16]> {
    let digits = text.as_bytes();
    if digits.len() != 32 {
        return None;
    }
    let mut out = [0u8; 16];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = (high * 16 + low) as u8;
    }
    Some(out)
}

opaque_id! {
    /// One cluster, drawn at random when it is made. Disks of another cluster are refused.
    ClusterId
}
opaque_id! {
    /// The identity of one formatted disk directory, drawn at random, so that two disks that were
    /// given the same number by mistake are still told apart.
    DiskUuid
}
opaque_id! {
    /// One multipart upload; drawn at random by the gateway that creates it.
    UploadId
}
opaque_id! {
    /// One stored object body (the manifest of a version), drawn at random by its writer. Two
    /// writes never share one, whatever their key and content.
    ManifestId
}

opaque_id! {
    /// The identity of one process of the cluster, drawn at random when its host directory is made.
    NodeUuid
}
opaque_id! {
    /// A join token's public half.
    TokenId
}

number_id! {
    /// A disk's number in the cluster map. Never given twice: a replaced disk gets a new one.
    DiskId(u32)
}
number_id! {
    /// A process of the cluster, whatever its roles. Never given twice.
    NodeId(u32)
}
number_id! {
    /// A placement group's number in the cluster map. Never given twice.
    PgId(u32)
}
number_id! {
    /// One metadata replica. Never given twice: a rebuilt replica gets a new one (reliability R25).
    ReplicaId(u64)
}
number_id! {
    /// A writer session, opened by a gateway in the metadata. 0 is no session.
    SessionId(u64)
}
number_id! {
    /// A bucket's number. A bucket that is deleted and made again has another one.
    BucketId(u64)
}
number_id! {
    /// One run of a disk: raised each time that the disk is opened, so that a sync for records
    /// appended before a crash can't succeed after it.
    Incarnation(u64)
}

/// Names an extent for ever: the placement group that it lives in, the writer session that made
/// it, and a number within that session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct ExtentId {
    /// Where its shards lie.
    #[n(0)]
    pub pg: PgId,
    /// Who wrote it; when this session has ended without a commit, the extent can never get an
    /// owner.
    #[n(1)]
    pub session: SessionId,
    /// Counts up within the session.
    #[n(2)]
    pub sequence: u32,
}

impl ExtentId {
    /// Bytes of the key form.
    pub const KEY_BYTES: usize = 16;

    /// The 16-byte big-endian form whose order is (pg, session, sequence).
    pub fn to_key(self) -> [u8; Self::KEY_BYTES] {
        let mut key = [0u8; Self::KEY_BYTES];
        key[..4].copy_from_slice(&self.pg.0.to_be_bytes());
        key[4..12].copy_from_slice(&self.session.0.to_be_bytes());
        key[12..].copy_from_slice(&self.sequence.to_be_bytes());
        key
    }

    /// The inverse of [`ExtentId::to_key`]; `None` when the length is wrong.
    pub fn from_key(key: &[u8]) -> Option<Self> {
        let key: &[u8; Self::KEY_BYTES] = key.try_into().ok()?;
        let (pg, rest) = key.split_first_chunk::<4>()?;
        let (session, sequence) = rest.split_first_chunk::<8>()?;
        Some(Self {
            pg: PgId(u32::from_be_bytes(*pg)),
            session: SessionId(u64::from_be_bytes(*session)),
            sequence: u32::from_be_bytes(sequence.try_into().ok()?),
        })
    }
}

impl fmt::Display for ExtentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.pg, self.session, self.sequence)
    }
}

/// Names one shard: the piece of stripe `stripe` of `extent` that lies in slot `slot` of its PG.
///
/// The slot is the shard's index in the full coding: data shards are 0..k, parity shards k..k+m.
/// A short stripe leaves out data slots k'..k.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct ShardId {
    /// The extent.
    #[n(0)]
    pub extent: ExtentId,
    /// The stripe's number in the extent, from 0.
    #[n(1)]
    pub stripe: u16,
    /// The slot in the extent's placement group.
    #[n(2)]
    pub slot: u8,
}

impl ShardId {
    /// Bytes of the key form.
    pub const KEY_BYTES: usize = ExtentId::KEY_BYTES + 3;

    /// The 19-byte big-endian form whose order is (extent, stripe, slot).
    pub fn to_key(self) -> [u8; Self::KEY_BYTES] {
        let mut key = [0u8; Self::KEY_BYTES];
        key[..16].copy_from_slice(&self.extent.to_key());
        key[16..18].copy_from_slice(&self.stripe.to_be_bytes());
        key[18] = self.slot;
        key
    }

    /// The inverse of [`ShardId::to_key`]; `None` when the length is wrong.
    pub fn from_key(key: &[u8]) -> Option<Self> {
        let key: &[u8; Self::KEY_BYTES] = key.try_into().ok()?;
        let (extent, rest) = key.split_first_chunk::<{ ExtentId::KEY_BYTES }>()?;
        let (stripe, slot) = rest.split_first_chunk::<2>()?;
        Some(Self {
            extent: ExtentId::from_key(extent)?,
            stripe: u16::from_be_bytes(*stripe),
            slot: *slot.first()?,
        })
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.extent, self.stripe, self.slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(pg: u32, session: u64, sequence: u32, stripe: u16, slot: u8) -> ShardId {
        let extent = ExtentId { pg: PgId(pg), session: SessionId(session), sequence };
        ShardId { extent, stripe, slot }
    }

    #[test]
    fn key_order_is_field_order() {
        let ordered = [
            shard(0, 9, 9, 9, 9),
            shard(1, 0, 7, 0, 0),
            shard(1, 1, 0, 0, 5),
            shard(1, 1, 0, 1, 0),
        ];
        assert!(ordered.windows(2).all(|pair| pair[0].to_key() < pair[1].to_key()));
    }

    #[test]
    fn keys_read_back() {
        let id = shard(0x0102_0304, u64::MAX - 1, 77, 63, 19);
        assert_eq!(ShardId::from_key(&id.to_key()), Some(id));
        assert_eq!(ShardId::from_key(&id.to_key()[1..]), None);
    }

    #[test]
    fn opaque_ids_print_and_parse_as_hex() {
        let id = UploadId([0xab; 16]);
        assert_eq!(UploadId::parse(&id.to_string()), Some(id));
        assert_eq!(UploadId::parse("xyz"), None);
        assert_eq!(UploadId::parse(&"é".repeat(16)), None);
    }
}
