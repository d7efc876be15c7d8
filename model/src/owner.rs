//! What a shard record says of the object that it belongs to, so that the namespace can be rebuilt
//! from the disks alone. Sealed with the cluster key before it is stored (design §5).

use minicbor::{Decode, Encode};

use crate::ids::{BucketId, ManifestId, UploadId};
use crate::time::Timestamp;

/// The owner of an extent, as known when its first byte is written.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Owner {
    /// The bucket's name.
    #[n(0)]
    pub bucket: String,
    /// The bucket's number, where the writer knew it.
    #[n(1)]
    pub bucket_id: Option<BucketId>,
    /// The object key.
    #[n(2)]
    pub key: String,
    /// The body that the extent is part of.
    #[n(3)]
    pub manifest: ManifestId,
    /// The multipart upload, if any.
    #[n(4)]
    pub upload: Option<UploadId>,
    /// The part number; 0 for a body that was put in one request.
    #[n(5)]
    pub part: u16,
    /// Where the extent begins in its part, in stored bytes.
    #[n(6)]
    pub offset: u64,
    /// When the write began.
    #[n(7)]
    pub started: Timestamp,
}
