//! What a shard record says of the object that it belongs to, so that the namespace can be rebuilt
//! from the disks alone. Sealed with the cluster key before it is stored (design §5).

use minicbor::{Decode, Encode};

use crate::checksum::ChecksumAlgorithm;
use crate::ids::{BucketId, ManifestId, UploadId};
use crate::time::Timestamp;
use crate::version::ObjectHeaders;

/// What the bytes of an extent are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum OwnerKind {
    /// A body, or a part of one.
    #[default]
    #[n(0)]
    Body,
    /// A [`crate::record::RecoveryRecord`].
    #[n(1)]
    Record,
}

/// The owner of an extent, as known when its first byte is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
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
    /// What the bytes are.
    #[n(8)]
    #[cbor(default)]
    pub kind: OwnerKind,
    /// Bytes of the whole body or part, where the writer knew how many would come: what is shorter
    /// was never finished.
    #[n(9)]
    pub part_bytes: Option<u64>,
    /// The checksum that is kept of the body or part.
    #[n(10)]
    pub checksum: Option<ChecksumAlgorithm>,
    /// The headers of an object that was put in one request: in its first extent only, and not where
    /// they don't fit into `limits::OWNER_BYTES_MAX`.
    #[n(11)]
    pub headers: Option<ObjectHeaders>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_of_an_older_release_is_read() {
        let owner = Owner {
            bucket: "b".to_owned(),
            key: "k".to_owned(),
            manifest: ManifestId([1; 16]),
            part: 3,
            offset: 4,
            started: Timestamp(5),
            ..Owner::default()
        };
        let mut bytes = vec![0x88, 0x61, b'b', 0xf6, 0x61, b'k', 0x50];
        bytes.extend([1; 16]);
        bytes.extend([0xf6, 3, 4, 5]);
        assert_eq!(minicbor::decode::<Owner>(&bytes).expect("decoded"), owner);
    }

    #[test]
    fn the_form_is_pinned() {
        let owner = Owner {
            kind: OwnerKind::Record,
            part_bytes: Some(9),
            checksum: Some(ChecksumAlgorithm::Crc64Nvme),
            headers: Some(ObjectHeaders::default()),
            ..Owner::default()
        };
        let bytes = minicbor::to_vec(&owner).expect("encoded");
        let mut expected = vec![0x8c, 0x60, 0xf6, 0x60, 0x50];
        expected.extend([0; 16]);
        expected.extend([0xf6, 0, 0, 0, 1, 9, 2]);
        expected.extend([0x87, 0xf6, 0xf6, 0xf6, 0xf6, 0xf6, 0xf6, 0x80]);
        assert_eq!(bytes, expected);
        assert_eq!(minicbor::decode::<Owner>(&bytes).expect("decoded"), owner);
    }
}
