//! versions: bucket id, object key, reversed version order → version.

use model::ids::BucketId;
use model::version::Version;

use super::{Record, TableId, keys};

/// The order of the version of a bucket without versioning: behind every other.
const NULL_VERSION: [u8; 8] = [0xff; 8];

impl Record for Version {
    const TABLE: TableId = TableId::Versions;
}

/// The row of the current version.
pub fn key(bucket: BucketId, object: &str) -> Vec<u8> {
    let mut key = keys::exact(bucket, object);
    key.extend_from_slice(&NULL_VERSION);
    key
}
