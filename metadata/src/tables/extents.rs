//! extents: extent id → what is known of it.
//!
//! An extent without references stays here until its shards are deleted, so that its id can't be
//! committed again.

use minicbor::{Decode, Encode};
use model::coding::Coding;
use model::extent::SlotSet;
use model::ids::{BucketId, ManifestId, UploadId};

use super::{Record, TableId};

/// An extent.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ExtentRecord {
    /// Its coding.
    #[n(0)]
    pub coding: Coding,
    /// Stored bytes.
    #[n(1)]
    pub length: u64,
    /// How many manifests and uploaded parts name it.
    #[n(2)]
    pub references: u64,
    /// The bucket of its first owner.
    #[n(3)]
    pub bucket: BucketId,
    /// Its first owner. When that is gone, a copy that shares the extent still holds it.
    #[n(4)]
    pub owner: ExtentOwner,
    /// Slots that lack their shards; when not empty, it is in the repair table.
    #[n(5)]
    pub lacking: SlotSet,
    /// Slots that move, and that the disk has which they are in by the map isn't known to have: they
    /// left `lacking` because the disk has them that they move to. Should the move be given up, they
    /// lack again.
    #[n(6)]
    #[cbor(skip_if = "is_default")]
    pub ahead: SlotSet,
}

/// Whether a field that an older release doesn't know says nothing, and so isn't written (I-11).
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What an extent was written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ExtentOwner {
    /// An object.
    #[n(0)]
    Manifest(#[n(0)] ManifestId),
    /// A part of an upload that isn't complete.
    #[n(1)]
    Upload(#[n(0)] UploadId),
}

impl Record for ExtentRecord {
    const TABLE: TableId = TableId::Extents;
}
