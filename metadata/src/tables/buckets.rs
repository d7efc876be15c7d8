//! buckets: name → bucket.

use model::bucket::Bucket;

use super::{Record, TableId};

impl Record for Bucket {
    const TABLE: TableId = TableId::Buckets;
}
