//! Storage classes, which buckets use them, and the recoding of what buckets hold.
//!
//! In: orders, as JSON documents by their paths ([`paths`]). Out: proposals to the metadata, and documents
//! that say what came of them. What always holds: a plan changes nothing; an order that may be repeated
//! is; what is there keeps its coding until it is recoded.

mod desk;
pub(super) mod paths;
mod recode_orders;
mod tolerance;

use serde::{Deserialize, Serialize};

pub(super) use recode_orders::RecodeOrders;

/// A storage class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassDocument {
    /// Its name.
    pub name: String,
    /// Its coding, such as `4+2`.
    pub coding: String,
    /// How many disks of an object may be lost.
    pub disks_to_lose: u8,
    /// Bytes on disk for 100 stored.
    pub bytes_per_hundred: u32,
    /// Whether enough disks take new shards for it now.
    pub is_writable: bool,
    /// The buckets that use it; for `STANDARD` all others do.
    pub buckets: Vec<String>,
    /// What its placement groups survive, in a sentence without its full stop; to an order only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<String>,
}

/// To `POST /classes/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassOrder {
    /// The coding.
    pub coding: String,
}

/// To `POST /buckets/NAME/class`, and what `GET` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BucketClass {
    /// The class.
    pub class: String,
}

/// To `POST /recode/BUCKET`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecodeRequest {
    /// The class that the bucket uses from now on; the one that it uses for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Only tell what there would be to do.
    #[serde(default)]
    pub plan: bool,
    /// Take the order back: what was done stays.
    #[serde(default)]
    pub cancel: bool,
}

/// What an order to recode came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recoded {
    /// The bucket.
    pub bucket: String,
    /// The class.
    pub class: String,
    /// Its coding.
    pub coding: String,
    /// Whether anything was ordered or taken back.
    pub changed: bool,
    /// Objects that don't have the class and its coding; with a plan only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<u64>,
    /// Their bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Bytes of the shards to be written for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard_bytes: Option<u64>,
    /// The same in a sentence.
    pub sentence: String,
}

/// How far a bucket is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecodeStatus {
    /// The bucket.
    pub bucket: String,
    /// The class that it is being recoded to.
    pub class: String,
    /// Its coding.
    pub coding: String,
    /// Objects that were recoded.
    pub objects_done: u64,
    /// Objects there were to recode; not known before they were counted.
    pub objects_total: Option<u64>,
    /// Bytes that were recoded.
    pub bytes_done: u64,
    /// Bytes there were to recode.
    pub bytes_total: Option<u64>,
    /// Objects that could not be recoded in this pass; they are tried again.
    pub failed: u64,
    /// How long it goes on at the speed so far.
    pub seconds_left: Option<u64>,
    /// Why nothing is recoded now, as far as the asked process knows.
    pub paused: Option<String>,
}
