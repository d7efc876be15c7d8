//! Object versions and their manifests.

use minicbor::{Decode, Encode};

use crate::checksum::StoredChecksum;
use crate::extent::Extent;
use crate::ids::ManifestId;
use crate::names::ClassName;
use crate::time::Timestamp;

/// An entity tag: MD5 of the body, or MD5 of the parts' MD5s with their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct ETag {
    /// The digest.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub md5: [u8; 16],
    /// For a multipart object, how many parts; written as `-N`.
    #[n(1)]
    pub parts: Option<u32>,
}

impl std::fmt::Display for ETag {
    /// Without the quotes.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for byte in self.md5 {
            write!(f, "{byte:02x}")?;
        }
        match self.parts {
            Some(parts) => write!(f, "-{parts}"),
            None => Ok(()),
        }
    }
}

/// The headers that are stored with an object and given back with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct ObjectHeaders {
    /// Content-Type.
    #[n(0)]
    pub content_type: Option<String>,
    /// Cache-Control.
    #[n(1)]
    pub cache_control: Option<String>,
    /// Content-Disposition.
    #[n(2)]
    pub content_disposition: Option<String>,
    /// Content-Encoding, without `aws-chunked`.
    #[n(3)]
    pub content_encoding: Option<String>,
    /// Content-Language.
    #[n(4)]
    pub content_language: Option<String>,
    /// Expires, as the client wrote it.
    #[n(5)]
    pub expires: Option<String>,
    /// User metadata: names in lower case without `x-amz-meta-`, in the client's order.
    #[n(6)]
    pub user: Vec<UserMetadata>,
    /// x-amz-storage-class. With what is to be written: the class that the client asked for, `None`
    /// for the bucket's. With what is stored: the class that it has, `None` for `STANDARD`.
    #[n(7)]
    pub class: Option<ClassName>,
}

/// One item of user metadata.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct UserMetadata {
    /// Lower-case name, without `x-amz-meta-`.
    #[n(0)]
    pub name: String,
    /// The value as it was sent: bytes of a header value (visible ASCII or UTF-8).
    #[n(1)]
    pub value: String,
}

/// One part of an object's body. A body that was put in one request has one part, number 0, or
/// none if it is empty.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Part {
    /// The S3 part number, 1 to 10,000; 0 for a body put in one request.
    #[n(0)]
    pub number: u16,
    /// Bytes.
    #[n(1)]
    pub size: u64,
    /// MD5 of the part.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub md5: [u8; 16],
    /// The part's own checksum, where the client asked for one.
    #[n(3)]
    pub checksum: Option<StoredChecksum>,
    /// Its extents, in order; their lengths add up to `size`.
    #[n(4)]
    pub extents: Vec<Extent>,
}

impl Part {
    /// Whether the extents are valid and add up to the size.
    pub fn is_valid(&self) -> bool {
        self.extents.iter().all(Extent::is_valid)
            && self.extents.iter().try_fold(0u64, |sum, extent| sum.checked_add(extent.length))
                == Some(self.size)
    }
}

/// Where the parts of a version are kept.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Parts {
    /// In the version's own record: at most `limits::INLINE_PARTS_MAX`.
    #[n(0)]
    Inline(#[n(0)] Vec<Part>),
    /// In pages of `limits::PAGE_PARTS_MAX` parts each, keyed by manifest and page number.
    #[n(1)]
    Paged(#[n(0)] PartIndex),
}

/// The index of a paged manifest.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PartIndex {
    /// Parts altogether.
    #[n(0)]
    pub count: u32,
    /// For each page, where its first byte lies in the object.
    #[n(1)]
    pub page_offsets: Vec<u64>,
    /// For each page, its first part number.
    #[n(2)]
    pub page_numbers: Vec<u16>,
}

/// A version of an object, without its key.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Version {
    /// The body. Unique to one write; a copy that shares extents has one of its own.
    #[n(0)]
    pub manifest: ManifestId,
    /// Bytes.
    #[n(1)]
    pub size: u64,
    /// The entity tag.
    #[n(2)]
    pub etag: ETag,
    /// When it was committed.
    #[n(3)]
    pub modified: Timestamp,
    /// Its headers.
    #[n(4)]
    pub headers: ObjectHeaders,
    /// The whole object's checksum, where the client asked for one.
    #[n(5)]
    pub checksum: Option<StoredChecksum>,
    /// Its parts.
    #[n(6)]
    pub parts: Parts,
    /// The body that holds its [`crate::record::RecoveryRecord`], where it has one.
    #[n(7)]
    pub record: Option<Extent>,
}

impl Version {
    /// How many parts it has, when it was made by a multipart upload.
    pub fn multipart_count(&self) -> Option<u32> {
        self.etag.parts
    }
}
