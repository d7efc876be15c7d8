//! What the shards of an object can't tell, written beside them, so that the namespace can be rebuilt
//! from the disks alone.
//!
//! The owner of a shard is sealed when the first byte is written: it knows nothing of a multipart
//! upload's end, of a copy that shares its source's extents, and a body without bytes has no shards.
//! For these, and where headers don't fit into an owner, a record is written as a small body of its
//! own, durably, before the version is committed that names it; it goes when the version does.

use minicbor::{Decode, Encode};

use crate::checksum::StoredChecksum;
use crate::ids::{ManifestId, UploadId};
use crate::names::{BucketName, ObjectKey};
use crate::time::Timestamp;
use crate::version::{ETag, ObjectHeaders, Part};

/// Bytes of a record, at most: 10,000 parts with the most extents that they can have.
pub const RECORD_BYTES_MAX: u64 = 64 << 20;

/// All that there is to know of a version.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RecoveryRecord {
    /// The bucket.
    #[n(0)]
    pub bucket: BucketName,
    /// The key.
    #[n(1)]
    pub key: ObjectKey,
    /// The body's name in the version.
    #[n(2)]
    pub manifest: ManifestId,
    /// Bytes.
    #[n(3)]
    pub size: u64,
    /// Entity tag.
    #[n(4)]
    pub etag: ETag,
    /// Headers.
    #[n(5)]
    pub headers: ObjectHeaders,
    /// Checksum.
    #[n(6)]
    pub checksum: Option<StoredChecksum>,
    /// The parts with their extents; none for an empty body. Which slots lack shards may have changed
    /// since.
    #[n(7)]
    pub parts: Vec<Part>,
    /// The upload that it was the completion of.
    #[n(8)]
    pub upload: Option<UploadId>,
    /// When it was written: right before the commit.
    #[n(9)]
    pub written: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_pinned() {
        let record = RecoveryRecord {
            bucket: BucketName::parse("abc").expect("valid"),
            key: ObjectKey::parse("k").expect("valid"),
            manifest: ManifestId([1; 16]),
            size: 0,
            etag: ETag { md5: [2; 16], parts: None },
            headers: ObjectHeaders::default(),
            checksum: None,
            parts: Vec::new(),
            upload: None,
            written: Timestamp(5),
        };
        let bytes = minicbor::to_vec(&record).expect("encoded");
        let mut expected = vec![0x8a, 0x63, b'a', b'b', b'c', 0x61, b'k', 0x50];
        expected.extend([1; 16]);
        expected.extend([0, 0x81, 0x50]);
        expected.extend([2; 16]);
        expected.extend([0x87, 0xf6, 0xf6, 0xf6, 0xf6, 0xf6, 0xf6, 0x80, 0xf6, 0x80, 0xf6, 5]);
        assert_eq!(bytes, expected);
        assert_eq!(minicbor::decode::<RecoveryRecord>(&bytes).expect("decoded"), record);
    }
}
