//! Answers to queries, and the pages and rows in them.

use minicbor::{Decode, Encode};

use crate::bucket::Bucket;
use crate::class::RecodePage;
use crate::cluster_map::ClusterMap;
use crate::coding::Coding;
use crate::command::{GarbageKey, Refusal};
use crate::extent::Extent;
use crate::ids::{PgId, UploadId};
use crate::names::{ClassName, ObjectKey};
use crate::node::{Authority, JoinToken};
use crate::recovery::Held;
use crate::time::Timestamp;
use crate::upkeep::{ExtentPage, ExtentState, RepairPage};
use crate::upload::{Upload, UploadedPart};
use crate::version::{ETag, Version};

/// The answer to a [`Query`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Answer {
    /// To `Bucket`.
    #[n(0)]
    Bucket(#[n(0)] Bucket),
    /// To `Buckets`.
    #[n(1)]
    Buckets(#[n(0)] Vec<Bucket>),
    /// To `Object`.
    #[n(2)]
    Object(#[n(0)] ObjectFound),
    /// To `Objects`.
    #[n(3)]
    Objects(#[n(0)] ObjectPage),
    /// To `Upload`.
    #[n(4)]
    Upload(#[n(0)] Upload),
    /// To `Uploads`.
    #[n(5)]
    Uploads(#[n(0)] UploadPage),
    /// To `Parts` .
    #[n(6)]
    Parts(#[n(0)] PartPage),
    /// To `ObjectParts`: the version, the parts without their extents, and whether more follow.
    #[n(7)]
    ObjectParts(#[n(0)] ObjectPartPage),
    /// To `Garbage`.
    #[n(8)]
    Garbage(#[n(0)] Vec<GarbageItem>),
    /// To `Repairs`.
    #[n(9)]
    Repairs(#[n(0)] RepairPage),
    /// To `Extents`.
    #[n(10)]
    Extents(#[n(0)] ExtentPage),
    /// To `ExtentStates`: one for each, in order.
    #[n(11)]
    ExtentStates(#[n(0)] Vec<ExtentState>),
    /// To `ClusterMap`.
    #[n(12)]
    ClusterMap(#[n(0)] Option<ClusterMap>),
    /// To `Trust`.
    #[n(13)]
    Trust(#[n(0)] Box<Trust>),
    /// It can't be answered, because of this.
    #[n(14)]
    Refused(#[n(0)] Refusal),
    /// To `Held`.
    #[n(15)]
    Held(#[n(0)] Option<Held>),
    /// To `ToRecode`.
    #[n(16)]
    ToRecode(#[n(0)] RecodePage),
    /// To `UnusedGroups`: ascending.
    #[n(17)]
    UnusedGroups(#[n(0)] Vec<PgId>),
}

/// What nodes are admitted by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Trust {
    /// The certificate authority.
    #[n(0)]
    pub authority: Option<Authority>,
    /// The join tokens that haven't been used up or forgotten.
    #[n(1)]
    pub tokens: Vec<JoinToken>,
}

/// An object, and the extents that hold the range that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ObjectFound {
    /// The version.
    #[n(0)]
    pub version: Version,
    /// The byte range of the object that the plan covers; `None` when nothing was asked for, or
    /// what was asked for doesn't exist (InvalidRange, InvalidPartNumber).
    #[n(1)]
    pub range: Option<std::ops::Range<u64>>,
    /// The extents that hold it, in order.
    #[n(2)]
    pub extents: Vec<PlannedExtent>,
}

/// An extent of a read plan.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PlannedExtent {
    /// Where its first byte lies in the object.
    #[n(0)]
    pub offset: u64,
    /// The extent.
    #[n(1)]
    pub extent: Extent,
}

/// A page of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct ObjectPage {
    /// Keys, ascending.
    #[n(0)]
    pub objects: Vec<ObjectSummary>,
    /// Common prefixes, ascending.
    #[n(1)]
    pub common_prefixes: Vec<String>,
    /// When more follow: the last key or common prefix of this page.
    #[n(2)]
    pub next: Option<String>,
}

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ObjectSummary {
    /// Its key.
    #[n(0)]
    pub key: ObjectKey,
    /// Bytes.
    #[n(1)]
    pub size: u64,
    /// Entity tag.
    #[n(2)]
    pub etag: ETag,
    /// When it was committed.
    #[n(3)]
    pub modified: Timestamp,
    /// Its checksum's algorithm and kind.
    #[n(4)]
    pub checksum: Option<crate::upload::UploadChecksum>,
    /// Its storage class; `None` for `STANDARD`.
    #[n(5)]
    pub class: Option<ClassName>,
}

/// A page of uploads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct UploadPage {
    /// Uploads, ascending by key, then by time of initiation.
    #[n(0)]
    pub uploads: Vec<(ObjectKey, Upload)>,
    /// Common prefixes, ascending.
    #[n(1)]
    pub common_prefixes: Vec<String>,
    /// When more follow: key and upload (none behind a common prefix) to go on behind.
    #[n(2)]
    pub next: Option<(String, Option<UploadId>)>,
}

/// A page of parts.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PartPage {
    /// The upload.
    #[n(0)]
    pub upload: Upload,
    /// Parts, ascending by number.
    #[n(1)]
    pub parts: Vec<UploadedPart>,
    /// Whether more follow.
    #[n(2)]
    pub truncated: bool,
}

/// A page of the parts of a committed object.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ObjectPartPage {
    /// The version.
    #[n(0)]
    pub version: Version,
    /// Parts, ascending by number; their extents are left out.
    #[n(1)]
    pub parts: Vec<crate::version::Part>,
    /// Whether more follow.
    #[n(2)]
    pub truncated: bool,
}

/// An extent to be deleted.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct GarbageItem {
    /// Its key in the garbage table.
    #[n(0)]
    pub key: GarbageKey,
    /// Its coding.
    #[n(1)]
    pub coding: Coding,
    /// Its bytes.
    #[n(2)]
    pub length: u64,
}
