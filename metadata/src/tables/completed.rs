//! completed: bucket id, upload id → what became of it, so that a completion that is sent again is
//! answered the same. completed_order: time, bucket id, upload id → nothing, to forget the oldest.

use minicbor::{Decode, Encode};
use model::command::Committed;
use model::ids::{BucketId, UploadId};
use model::names::ObjectKey;
use model::time::Timestamp;

use super::{Record, TableId};

/// A completed upload.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Completed {
    /// The object's key.
    #[n(0)]
    pub key: ObjectKey,
    /// What was answered.
    #[n(1)]
    pub committed: Committed,
}

impl Record for Completed {
    const TABLE: TableId = TableId::Completed;
}

/// The row of a completed upload.
pub fn key(bucket: BucketId, upload: UploadId) -> [u8; 24] {
    let mut key = [0; 24];
    key[..8].copy_from_slice(&bucket.0.to_be_bytes());
    key[8..].copy_from_slice(&upload.0);
    key
}

/// Its place in the order of forgetting.
pub fn order_key(completed: Timestamp, row: &[u8; 24]) -> [u8; 32] {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&completed.0.to_be_bytes());
    key[8..].copy_from_slice(row);
    key
}

/// The inverse of [`order_key`].
pub fn read_order_key(key: &[u8]) -> Option<(Timestamp, [u8; 24])> {
    let (time, row) = key.split_first_chunk::<8>()?;
    Some((Timestamp(u64::from_be_bytes(*time)), row.try_into().ok()?))
}
