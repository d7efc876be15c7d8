//! Checksums: those that S3 clients ask for, and the one that guards every stored block.

use minicbor::{Decode, Encode};
use twox_hash::XxHash3_64;

use crate::ids::ShardId;
use crate::limits::BLOCK_BYTES;

/// The additional checksum algorithms of S3
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum ChecksumAlgorithm {
    /// CRC-32 (ISO-HDLC), 4 bytes.
    #[n(0)]
    Crc32,
    /// CRC-32C (Castagnoli), 4 bytes.
    #[n(1)]
    Crc32c,
    /// CRC-64/NVME, 8 bytes.
    #[n(2)]
    Crc64Nvme,
    /// SHA-1, 20 bytes.
    #[n(3)]
    Sha1,
    /// SHA-256, 32 bytes.
    #[n(4)]
    Sha256,
}

/// What a stored checksum covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum ChecksumKind {
    /// All bytes of the object.
    #[n(0)]
    FullObject,
    /// The checksums of the parts, one after the other; written with `-N` behind it.
    #[n(1)]
    Composite,
}

/// A checksum as it is stored with a part or an object.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct StoredChecksum {
    /// The algorithm.
    #[n(0)]
    pub algorithm: ChecksumAlgorithm,
    /// What it covers.
    #[n(1)]
    pub kind: ChecksumKind,
    /// The raw digest, big-endian for CRCs, without the `-N`.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub digest: Vec<u8>,
}

/// Blocks of a shard of `shard_bytes` bytes.
pub const fn block_count(shard_bytes: u32) -> u32 {
    shard_bytes.div_ceil(BLOCK_BYTES)
}

/// The checksum of one block of a shard: XXH3-64 of its bytes, seeded with the shard's identity
/// and the block's number, so that a block that is whole but lies in the wrong place fails too.
/// Source: <https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md>.
pub fn block_checksum(shard: ShardId, block: u32, bytes: &[u8]) -> u64 {
    let mut identity = [0u8; ShardId::KEY_BYTES + 4];
    identity[..ShardId::KEY_BYTES].copy_from_slice(&shard.to_key());
    identity[ShardId::KEY_BYTES..].copy_from_slice(&block.to_le_bytes());
    XxHash3_64::oneshot_with_seed(XxHash3_64::oneshot(&identity), bytes)
}

/// The checksums of all blocks of a shard, in order.
pub fn block_checksums(shard: ShardId, payload: &[u8]) -> Vec<u64> {
    payload
        .chunks(BLOCK_BYTES as usize)
        .zip(0u32..)
        .map(|(block, number)| block_checksum(shard, number, block))
        .collect()
}

/// Whether `payload`, which begins at block `first_block` of the shard, has these checksums.
/// A payload with more or fewer blocks than checksums fails.
pub fn blocks_verify(shard: ShardId, first_block: u32, payload: &[u8], checksums: &[u64]) -> bool {
    payload.len().div_ceil(BLOCK_BYTES as usize) == checksums.len()
        && payload
            .chunks(BLOCK_BYTES as usize)
            .zip(first_block..)
            .zip(checksums)
            .all(|((block, number), checksum)| block_checksum(shard, number, block) == *checksum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ExtentId;

    #[test]
    fn a_block_in_the_wrong_place_fails() {
        let shard = ShardId { extent: ExtentId::default(), stripe: 1, slot: 2 };
        let other = ShardId { slot: 3, ..shard };
        let payload = vec![7u8; BLOCK_BYTES as usize * 2 + 5];
        let sums = block_checksums(shard, &payload);
        assert_eq!(sums.len(), 3);
        assert!(blocks_verify(shard, 0, &payload, &sums));
        assert!(!blocks_verify(other, 0, &payload, &sums));
        assert!(!blocks_verify(shard, 1, &payload, &sums));
        assert!(blocks_verify(shard, 2, &payload[BLOCK_BYTES as usize * 2..], &sums[2..]));
        assert!(!blocks_verify(shard, 0, &payload[..10], &sums));
    }
}
