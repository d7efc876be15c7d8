//! What the commands that write objects say: the object, its source, its condition.

use minicbor::{Decode, Encode};

use crate::checksum::StoredChecksum;
use crate::extent::Extent;
use crate::ids::{ManifestId, UploadId};
use crate::names::{BucketName, ObjectKey};
use crate::upload::PartReference;
use crate::version::{ETag, ObjectHeaders, Part};

/// A condition on the object that a write replaces, checked in the same step (I-4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum WriteCondition {
    /// None.
    #[default]
    #[n(0)]
    Always,
    /// `If-None-Match: *`: there is no such object.
    #[n(1)]
    Absent,
    /// `If-Match: <etag>`: the object is there and has this entity tag.
    #[n(2)]
    Matches(#[n(0)] ETag),
    /// `If-Match: *`: the object is there.
    #[n(3)]
    Present,
}

/// An object, and the body that it is expected to have still.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SourceObject {
    /// Its bucket.
    #[n(0)]
    pub bucket: BucketName,
    /// Its key.
    #[n(1)]
    pub key: ObjectKey,
    /// The body that was read.
    #[n(2)]
    pub manifest: ManifestId,
}

/// The new content of a key, written by PutObject.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct CommitObject {
    /// The bucket.
    #[n(0)]
    pub bucket: BucketName,
    /// The key.
    #[n(1)]
    pub key: ObjectKey,
    /// The new body's name.
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
    /// Checksum, where the client asked for one.
    #[n(6)]
    pub checksum: Option<StoredChecksum>,
    /// The parts: one, or none for an empty body. Extents with missing slots enter the repair
    /// queue in the same step (I-2).
    #[n(7)]
    pub parts: Vec<Part>,
    /// The condition.
    #[n(8)]
    pub condition: WriteCondition,
    /// The extent of the new version's [`crate::record::RecoveryRecord`], which goes when it does.
    #[n(9)]
    pub record: Option<Extent>,
}

/// A copy that shares the source's extents.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct CopyObject {
    /// What to copy; refused with [`super::Refusal::SourceChanged`] if it has another body by now.
    #[n(0)]
    pub source: SourceObject,
    /// The bucket to copy to.
    #[n(1)]
    pub bucket: BucketName,
    /// The key to copy to; may be the source itself, with new headers.
    #[n(2)]
    pub key: ObjectKey,
    /// The new body's name.
    #[n(3)]
    pub manifest: ManifestId,
    /// New headers; `None` takes the source's.
    #[n(4)]
    pub headers: Option<ObjectHeaders>,
    /// The condition on the object that is replaced.
    #[n(5)]
    pub condition: WriteCondition,
    /// The extent of the new version's [`crate::record::RecoveryRecord`], which goes when it does.
    #[n(6)]
    pub record: Option<Extent>,
}

/// A part of a multipart upload.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PutPart {
    /// The bucket.
    #[n(0)]
    pub bucket: BucketName,
    /// The key.
    #[n(1)]
    pub key: ObjectKey,
    /// The upload.
    #[n(2)]
    pub upload: UploadId,
    /// The part; replaces an earlier one of its number.
    #[n(3)]
    pub part: Part,
    /// Set when the part's extents are shared with this object's (UploadPartCopy of a whole
    /// object); refused with [`super::Refusal::SourceChanged`] if it has another body by now.
    #[n(4)]
    pub shared_with: Option<SourceObject>,
}

/// The end of a multipart upload: its parts become an object.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct CompleteUpload {
    /// The bucket.
    #[n(0)]
    pub bucket: BucketName,
    /// The key.
    #[n(1)]
    pub key: ObjectKey,
    /// The upload.
    #[n(2)]
    pub upload: UploadId,
    /// The parts, ascending by number. Each must be there with this MD5 (and checksum, if given),
    /// else [`super::Refusal::InvalidPart`]. Parts that aren't named become garbage.
    #[n(3)]
    pub parts: Vec<PartReference>,
    /// The new body's name.
    #[n(4)]
    pub manifest: ManifestId,
    /// The entity tag that follows from the parts' MD5s.
    #[n(5)]
    pub etag: ETag,
    /// The object's size that the proposer added up; refused if the parts have another by now.
    #[n(6)]
    pub size: u64,
    /// The object's checksum that follows from the parts'.
    #[n(7)]
    pub checksum: Option<StoredChecksum>,
    /// The condition on the object that is replaced.
    #[n(8)]
    pub condition: WriteCondition,
    /// The extent of the new version's [`crate::record::RecoveryRecord`], which goes when it does.
    #[n(9)]
    pub record: Option<Extent>,
}
