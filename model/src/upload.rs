//! Multipart uploads in progress.

use minicbor::{Decode, Encode};

use crate::checksum::{ChecksumAlgorithm, ChecksumKind};
use crate::ids::UploadId;
use crate::time::Timestamp;
use crate::version::{ObjectHeaders, Part};

/// A multipart upload.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Upload {
    /// Its name.
    #[n(0)]
    pub id: UploadId,
    /// When it began.
    #[n(1)]
    pub initiated: Timestamp,
    /// The headers of the object to be.
    #[n(2)]
    pub headers: ObjectHeaders,
    /// The checksum that the client asked for, and what it is to cover.
    #[n(3)]
    pub checksum: Option<UploadChecksum>,
    /// The identity that began it.
    #[n(4)]
    pub owner: String,
}

/// The checksum of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct UploadChecksum {
    /// The algorithm.
    #[n(0)]
    pub algorithm: ChecksumAlgorithm,
    /// What it is to cover.
    #[n(1)]
    pub kind: ChecksumKind,
}

/// A part that has been uploaded.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct UploadedPart {
    /// The part.
    #[n(0)]
    pub part: Part,
    /// When it was committed.
    #[n(1)]
    pub modified: Timestamp,
}

/// A part as CompleteMultipartUpload names it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PartReference {
    /// The part number.
    #[n(0)]
    pub number: u16,
    /// The MD5 that the client has of it.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub md5: [u8; 16],
    /// The checksum that the client has of it, if it gave one.
    #[n(2)]
    pub checksum: Option<crate::checksum::StoredChecksum>,
}
