//! The tables of the state machine: one file for each, with its keys and its record.
//!
//! Every row is sealed: its value begins with an XXH3-64 of table, key and value, checked on every
//! read. The sums of all rows of a table make its [`Digest`], kept in the same transaction. What
//! always holds: keys are order-preserving, so a listing is a range scan.

use minicbor::{Decode, Encode};
use redb::TableDefinition;
use twox_hash::XxHash3_64;

use crate::state::StateError;

pub mod buckets;
pub mod cluster_map;
pub mod completed;
pub mod counters;
pub mod extents;
pub mod garbage;
pub mod held;
pub mod keys;
pub mod leases;
pub mod pages;
pub mod parts;
pub mod repair;
pub mod sessions;
pub mod trust;
pub mod uploads;
pub mod versions;
mod view;
mod writer;

pub use view::{View, Walk};
pub use writer::Tables;

/// The tables, in the order of the digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableId {
    /// name → bucket.
    Buckets,
    /// bucket id, object key, version order → version.
    Versions,
    /// manifest, page → parts.
    Pages,
    /// bucket id, key, upload id → upload.
    Uploads,
    /// bucket id, key, upload id, part number → part.
    Parts,
    /// bucket id, upload id → what the upload became.
    Completed,
    /// time, bucket id, upload id → nothing: the order in which completions are forgotten.
    CompletedOrder,
    /// extent id → coding, length, references, owner, lacking slots.
    Extents,
    /// time, extent id → coding, length.
    Garbage,
    /// shards to spare, extent id → lacking slots.
    Repair,
    /// session → gateway, start, outcomes.
    Sessions,
    /// the cluster map.
    ClusterMap,
    /// ids given out, totals, time.
    Counters,
}

impl TableId {
    /// How many there are.
    pub const COUNT: usize = 13;

    /// All of them, in order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Buckets,
        Self::Versions,
        Self::Pages,
        Self::Uploads,
        Self::Parts,
        Self::Completed,
        Self::CompletedOrder,
        Self::Extents,
        Self::Garbage,
        Self::Repair,
        Self::Sessions,
        Self::ClusterMap,
        Self::Counters,
    ];

    /// Its name, in the database and for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Buckets => "buckets",
            Self::Versions => "versions",
            Self::Pages => "pages",
            Self::Uploads => "uploads",
            Self::Parts => "parts",
            Self::Completed => "completed",
            Self::CompletedOrder => "completed_order",
            Self::Extents => "extents",
            Self::Garbage => "garbage",
            Self::Repair => "repair",
            Self::Sessions => "sessions",
            Self::ClusterMap => "cluster_map",
            Self::Counters => "counters",
        }
    }

    /// The table with this number, if there is one.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    pub(crate) const fn definition(self) -> RawDefinition {
        TableDefinition::new(self.name())
    }

    /// The checksum of a row.
    pub fn seal(self, key: &[u8], value: &[u8]) -> u64 {
        // The table's number, as the seed of the key's hash, keeps rows of two tables apart.
        let key_sum = XxHash3_64::oneshot_with_seed(self as u64 + 1, key);
        XxHash3_64::oneshot_with_seed(key_sum, value)
    }
}

/// How every table looks to the database.
pub(crate) type RawDefinition = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// Bytes of the checksum in front of a value.
const SEAL_BYTES: usize = 8;

/// Splits a stored value into its checksum and the value, verified.
pub(crate) fn open_row<'v>(
    table: TableId,
    key: &[u8],
    stored: &'v [u8],
) -> Result<(u64, &'v [u8]), StateError> {
    let damaged =
        || StateError::Damaged(format!("a row of table {} fails its checksum", table.name()));
    let (seal, value) = stored.split_first_chunk::<SEAL_BYTES>().ok_or_else(damaged)?;
    let seal = u64::from_le_bytes(*seal);
    if seal == table.seal(key, value) { Ok((seal, value)) } else { Err(damaged()) }
}

/// A record that is a row's value.
pub trait Record: Encode<()> + for<'b> Decode<'b, ()> {
    /// Its table.
    const TABLE: TableId;
}

/// Decodes a verified value.
pub(crate) fn decode<R: Record>(value: &[u8]) -> Result<R, StateError> {
    minicbor::decode(value).map_err(|error| {
        StateError::Damaged(format!("a row of table {} can't be read: {error}", R::TABLE.name()))
    })
}

/// Rows of a table, and the sum of their checksums: independent of order and history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// Rows.
    pub rows: u64,
    /// Sum modulo 2^64.
    pub sum: u64,
}

impl Digest {
    /// Counts a row in.
    pub fn add(&mut self, seal: u64) {
        self.rows = self.rows.wrapping_add(1);
        self.sum = self.sum.wrapping_add(seal);
    }

    /// Counts a row out.
    pub fn subtract(&mut self, seal: u64) {
        self.rows = self.rows.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(seal);
    }
}

/// The digests of all tables, by [`TableId`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digests(pub [Digest; TableId::COUNT]);

impl Digests {
    /// Bytes of the stored form.
    pub const BYTES: usize = TableId::COUNT * 16;

    /// The stored form: rows and sum of each table, little-endian.
    pub fn to_bytes(self) -> Vec<u8> {
        self.0
            .iter()
            .flat_map(|digest| [digest.rows.to_le_bytes(), digest.sum.to_le_bytes()])
            .flatten()
            .collect()
    }

    /// Reads the stored form.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != Self::BYTES {
            return None;
        }
        let mut digests = Self::default();
        for (digest, chunk) in digests.0.iter_mut().zip(bytes.chunks_exact(16)) {
            let (rows, sum) = chunk.split_first_chunk::<8>()?;
            digest.rows = u64::from_le_bytes(*rows);
            digest.sum = u64::from_le_bytes(sum.try_into().ok()?);
        }
        Some(digests)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seal_of_a_row_is_pinned() {
        assert_eq!(TableId::Buckets.seal(b"key", b"value"), 0x176b_1eb2_978f_993a);
        assert_ne!(
            TableId::Versions.seal(b"key", b"value"),
            TableId::Buckets.seal(b"key", b"value")
        );
    }

    #[test]
    fn numbers_are_positions() {
        for (number, table) in TableId::ALL.into_iter().enumerate() {
            assert_eq!(table as usize, number);
        }
    }
}
