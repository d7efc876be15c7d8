//! garbage: time, extent id → coding and length. The shards of these extents are to be deleted.

use minicbor::{Decode, Encode};
use model::coding::Coding;
use model::command::GarbageKey;
use model::ids::ExtentId;
use model::time::Timestamp;

use super::{Record, TableId};

/// An extent without an owner.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Garbage {
    /// Its coding.
    #[n(0)]
    pub coding: Coding,
    /// Stored bytes.
    #[n(1)]
    pub length: u64,
}

impl Record for Garbage {
    const TABLE: TableId = TableId::Garbage;
}

/// The row of an extent.
pub fn key(key: GarbageKey) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&key.since.0.to_be_bytes());
    bytes[8..].copy_from_slice(&key.extent.to_key());
    bytes
}

/// Where the rows begin that are as new as this.
pub fn since(since: Timestamp) -> [u8; 8] {
    since.0.to_be_bytes()
}

/// The inverse of [`key`].
pub fn read_key(bytes: &[u8]) -> Option<GarbageKey> {
    let (since, extent) = bytes.split_first_chunk::<8>()?;
    let since = Timestamp(u64::from_be_bytes(*since));
    Some(GarbageKey { since, extent: ExtentId::from_key(extent)? })
}
