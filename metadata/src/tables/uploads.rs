//! uploads: bucket id, key, upload id → upload.

use model::ids::{BucketId, UploadId};
use model::upload::Upload;

use super::{Record, TableId, keys};

impl Record for Upload {
    const TABLE: TableId = TableId::Uploads;
}

/// The row of an upload; also how the rows of its parts begin.
pub fn key(bucket: BucketId, object: &str, upload: UploadId) -> Vec<u8> {
    let mut key = keys::exact(bucket, object);
    key.extend_from_slice(&upload.0);
    key
}
