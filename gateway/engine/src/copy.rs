//! Copies. A whole body is copied by sharing its extents; anything else is read and written.

use bytes::Bytes;
use model::checksum::StoredChecksum;
use model::command::{Command, Committed, CopyObject, PutPart, SourceObject};
use model::extent::Extent;
use model::ids::UploadId;
use model::names::{BucketName, ObjectKey};
use model::query::ObjectFound;
use model::version::Part;

use crate::commit::CommitError;
use crate::engine::Engine;
use crate::read::ReadError;
use crate::write::{WriteError, WriteTarget, WrittenBody};

/// Why a copy by reading and writing failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// The source could not be read.
    #[error("the source could not be read: {0}")]
    Read(#[from] ReadError),
    /// The copy could not be written.
    #[error("the copy could not be written: {0}")]
    Write(#[from] WriteError),
}

/// A part that is to share the extents of a whole object.
#[derive(Clone, Debug)]
pub struct PartShare {
    /// The object, with the body that was opened.
    pub source: SourceObject,
    /// The bucket of the upload.
    pub bucket: BucketName,
    /// The key of the upload.
    pub key: ObjectKey,
    /// The upload.
    pub upload: UploadId,
    /// The part number, 1 to 10,000.
    pub number: u16,
    /// The part's checksum, where the upload asks for one.
    pub checksum: Option<StoredChecksum>,
}

impl Engine {
    /// Copies an object by sharing its extents.
    pub async fn copy_object(&self, copy: CopyObject) -> Result<Committed, CommitError> {
        self.with_record(
            || self.record_of_copy(&copy),
            |record| Command::CopyObject(CopyObject { record, ..copy.clone() }),
        )
        .await
    }

    /// The extents and MD5 of what was opened, if it is a whole body that was put in one request,
    /// so that a part may share it: `found` must be the answer to `PlanWanted::Whole`.
    pub fn shareable(found: &ObjectFound) -> Option<(Vec<Extent>, [u8; 16])> {
        let version = &found.version;
        let whole = found.range == Some(0..version.size) && version.etag.parts.is_none();
        let extents: Vec<Extent> =
            found.extents.iter().map(|planned| planned.extent.clone()).collect();
        let length: u64 = extents.iter().map(|extent| extent.length).sum();
        (whole && length == version.size).then_some((extents, version.etag.md5))
    }

    /// Makes a whole object a part of an upload by sharing its extents; `None` when it can't be
    /// shared and must be copied by [`Engine::copy_range`].
    pub async fn share_part(
        &self,
        share: PartShare,
        found: &ObjectFound,
    ) -> Option<Result<Committed, CommitError>> {
        let (extents, md5) = Self::shareable(found)?;
        let part = Part {
            number: share.number,
            size: found.version.size,
            md5,
            checksum: share.checksum,
            extents,
        };
        let (bucket, key, upload) = (share.bucket, share.key, share.upload);
        let put = PutPart { bucket, key, upload, part, shared_with: Some(share.source) };
        Some(self.propose_committed(Command::PutPart(put)).await)
    }

    /// Reads what was opened and writes it to `target`; `observe` sees every chunk in order, for
    /// the digests.
    pub async fn copy_range(
        &self,
        found: &ObjectFound,
        target: WriteTarget,
        observe: &mut (dyn FnMut(&Bytes) + Send),
    ) -> Result<WrittenBody, CopyError> {
        let mut reader = self.reader(found);
        let mut writer = self.writer(target);
        while let Some(chunk) = reader.next().await {
            let chunk = chunk?;
            observe(&chunk);
            writer.write(chunk).await?;
        }
        Ok(writer.finish().await?)
    }
}
