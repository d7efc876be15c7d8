//! Multipart uploads: parts are bodies of their own, joined by one command.

use model::checksum::StoredChecksum;
use model::command::{Command, Committed, CompleteUpload, Outcome, PutPart};
use model::ids::UploadId;
use model::names::{BucketName, ObjectKey};
use model::upload::Upload;
use model::version::Part;

use crate::commit::CommitError;
use crate::engine::Engine;
use crate::write::WrittenBody;

/// What UploadPart records with a body.
#[derive(Clone, Debug)]
pub struct PartCommit {
    /// The bucket.
    pub bucket: BucketName,
    /// The key.
    pub key: ObjectKey,
    /// The upload.
    pub upload: UploadId,
    /// The part number, 1 to 10,000.
    pub number: u16,
    /// MD5 of the part.
    pub md5: [u8; 16],
    /// The part's checksum, where the client asked for one.
    pub checksum: Option<StoredChecksum>,
}

impl Engine {
    /// Begins an upload. The caller draws its id by [`Engine::new_upload`].
    pub async fn create_upload(
        &self,
        bucket: BucketName,
        key: ObjectKey,
        upload: Upload,
    ) -> Result<(), CommitError> {
        done(&self.propose(Command::CreateUpload { bucket, key, upload }).await?)
    }

    /// Makes a written body a part of an upload, in place of an earlier one of its number.
    pub async fn put_part(
        &self,
        body: WrittenBody,
        commit: PartCommit,
    ) -> Result<Committed, CommitError> {
        let part = Part {
            number: commit.number,
            size: body.size(),
            md5: commit.md5,
            checksum: commit.checksum,
            extents: body.extents().to_vec(),
        };
        let (bucket, key, upload) = (commit.bucket, commit.key, commit.upload);
        let put = PutPart { bucket, key, upload, part, shared_with: None };
        self.commit_body(body, Command::PutPart(put)).await
    }

    /// Makes the parts of an upload an object, in one step. Again with the same parts it is
    /// answered the same.
    pub async fn complete_upload(
        &self,
        complete: CompleteUpload,
    ) -> Result<Committed, CommitError> {
        self.with_record(
            || self.record_of_upload(&complete),
            |record| Command::CompleteUpload(CompleteUpload { record, ..complete.clone() }),
        )
        .await
    }

    /// Ends an upload without an object; its parts become garbage.
    pub async fn abort_upload(
        &self,
        bucket: BucketName,
        key: ObjectKey,
        upload: UploadId,
    ) -> Result<(), CommitError> {
        done(&self.propose(Command::AbortUpload { bucket, key, upload }).await?)
    }
}

fn done(outcome: &Outcome) -> Result<(), CommitError> {
    match outcome {
        Outcome::Done => Ok(()),
        _ => Err(CommitError::Unknown),
    }
}
