//! Buckets.

use minicbor::{Decode, Encode};

use crate::class::RecodeOrder;
use crate::ids::BucketId;
use crate::names::BucketName;
use crate::time::Timestamp;

/// A bucket as the metadata records it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Bucket {
    /// Its number.
    #[n(0)]
    pub id: BucketId,
    /// Its name.
    #[n(1)]
    pub name: BucketName,
    /// When it was made.
    #[n(2)]
    pub created: Timestamp,
    /// The identity that made it.
    #[n(3)]
    pub owner: String,
    /// The location constraint it was made with; empty for the default region.
    #[n(4)]
    pub location: String,
    /// What it holds is being brought to a storage class.
    #[n(5)]
    pub recode: Option<RecodeOrder>,
}
