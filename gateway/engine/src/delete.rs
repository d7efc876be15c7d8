//! Deletes: the metadata forgets the object; its extents become garbage, which
//! [`crate::collect`] deletes from the disks later.

use futures_util::StreamExt as _;
use futures_util::stream;
use model::command::{Command, Outcome, WriteCondition};
use model::names::{BucketName, ObjectKey};

use crate::commit::CommitError;
use crate::engine::Engine;

/// Deletes of one request that are proposed together: the metadata puts them in one log entry.
const DELETES_TOGETHER: usize = 64;

impl Engine {
    /// Deletes an object; tells whether there was one.
    pub async fn delete_object(
        &self,
        bucket: BucketName,
        key: ObjectKey,
        condition: WriteCondition,
    ) -> Result<bool, CommitError> {
        match self.propose(Command::DeleteObject { bucket, key, condition }).await? {
            Outcome::Deleted { existed } => Ok(existed),
            _ => Err(CommitError::Unknown),
        }
    }

    /// Deletes many objects; an answer for each key, in order. Each is a step of its own.
    pub async fn delete_objects(
        &self,
        bucket: &BucketName,
        keys: Vec<ObjectKey>,
    ) -> Vec<Result<bool, CommitError>> {
        stream::iter(keys)
            .map(|key| self.delete_object(bucket.clone(), key, WriteCondition::Always))
            .buffered(DELETES_TOGETHER)
            .collect()
            .await
    }
}
