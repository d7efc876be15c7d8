//! counters: the one row with ids given out, totals, and the time.

use minicbor::{Decode, Encode};
use model::time::Timestamp;

use super::{Record, TableId};

/// The row.
pub const KEY: &[u8] = b"counters";

/// What is counted. Ids are never given twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Counters {
    /// The time of the last command.
    #[n(0)]
    pub time: Timestamp,
    /// The last bucket id.
    #[n(1)]
    pub bucket: u64,
    /// The last session id.
    #[n(2)]
    pub session: u64,
    /// The last replica id.
    #[n(3)]
    pub replica: u64,
    /// Objects in all buckets.
    #[n(4)]
    pub objects: u64,
    /// Their bytes.
    #[n(5)]
    pub object_bytes: u64,
}

impl Record for Counters {
    const TABLE: TableId = TableId::Counters;
}
