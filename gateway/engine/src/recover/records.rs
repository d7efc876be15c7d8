//! Recovery records: what the shards of an object can't tell, written before the commit and read
//! again by a recovery.
//!
//! In: all that there is to know of a version. Out: a small durable body of its own, whose extent the
//! commit names, or the record that such a body holds. A cluster with nodes of an older release has
//! none: their metadata would forget the extent.

use std::sync::Arc;

use bytes::Bytes;
use model::checksum::StoredChecksum;
use model::cluster_map::ClusterMap;
use model::command::{CompleteUpload, CopyObject, Refusal};
use model::extent::Extent;
use model::ids::UploadId;
use model::limits::{LIST_KEYS_MAX, OWNER_BYTES_MAX};
use model::names::{BucketName, ObjectKey};
use model::owner::{Owner, OwnerKind};
use model::query::{Answer, MetadataError, PlanWanted, Query};
use model::record::{RECORD_BYTES_MAX, RecoveryRecord};
use model::upload::Upload;
use model::version::{ObjectHeaders, Part};

use crate::commit::{CommitError, ObjectCommit};
use crate::engine::Engine;
use crate::shared::Shared;
use crate::write::{ObjectWriter, WantedCoding, WriteError, WrittenBody};

/// The feature level from which on metadata keeps the extents of records.
const LEVEL: u32 = 1;

/// How often a record is written again that ended up in two extents, because a disk failed.
const ATTEMPTS_MAX: usize = 3;

/// Bytes of a sealed owner besides bucket, key and headers, at most.
const OWNER_REST_BYTES_MAX: usize = 160;

/// Whether the owner of the first extent has all that a body put in one request is to be recovered
/// with.
pub(crate) fn owner_tells_all(commit: &ObjectCommit, size: u64) -> bool {
    let names = commit.bucket.as_str().len() + commit.key.as_str().len();
    size > 0 && names + header_bytes(&commit.headers) + OWNER_REST_BYTES_MAX <= OWNER_BYTES_MAX
}

/// Bytes of the headers' form, at most.
fn header_bytes(headers: &ObjectHeaders) -> usize {
    let ObjectHeaders {
        content_type,
        cache_control,
        content_disposition,
        content_encoding,
        content_language,
        expires,
        user,
        class,
    } = headers;
    let named = [
        content_type,
        cache_control,
        content_disposition,
        content_encoding,
        content_language,
        expires,
    ];
    let named: usize = named.into_iter().flatten().map(|value| value.len() + 3).sum();
    let user: usize = user.iter().map(|item| item.name.len() + item.value.len() + 7).sum();
    let class = class.as_ref().map_or(0, |class| class.as_str().len() + 3);
    named + user + class + 16
}

/// The form of a record.
fn record_bytes(record: &RecoveryRecord) -> Bytes {
    let mut bytes = Vec::with_capacity(512);
    // Writing to a Vec can't fail.
    let _ = minicbor::encode(record, &mut bytes);
    bytes.into()
}

fn is_recording(map: &ClusterMap) -> bool {
    map.nodes.is_empty() || map.level >= LEVEL
}

/// A record on stable storage, and the extent that a commit is to name.
#[derive(Debug, Default)]
pub(crate) struct Recorded(Option<WrittenBody>);

impl Recorded {
    /// None: where none is needed.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    pub(crate) fn extent(&self) -> Option<Extent> {
        self.0.as_ref().and_then(|body| body.extents().first().cloned())
    }

    pub(crate) fn into_body(self) -> Option<WrittenBody> {
        self.0
    }
}

impl From<WriteError> for CommitError {
    /// The record of a commit wasn't written, and the commit wasn't proposed.
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Overloaded => Self::Overloaded,
            WriteError::Unavailable
            | WriteError::OutOfReach
            | WriteError::Full
            | WriteError::NameTooLong
            | WriteError::Failed => Self::Unavailable,
        }
    }
}

/// Writes a record with this coding, durably.
pub(crate) async fn write_record(
    shared: &Arc<Shared>,
    record: &RecoveryRecord,
    wanted: &WantedCoding,
) -> Result<Recorded, CommitError> {
    let map = shared.map.get().await.map_err(CommitError::from)?;
    let bytes = record_bytes(record);
    let length = bytes.len() as u64;
    if !is_recording(&map) || length > RECORD_BYTES_MAX {
        return Ok(Recorded::none());
    }
    for _attempt in 0..ATTEMPTS_MAX {
        let owner = Owner {
            bucket: record.bucket.as_str().to_owned(),
            key: record.key.as_str().to_owned(),
            manifest: record.manifest,
            started: shared.clock.now(),
            kind: OwnerKind::Record,
            part_bytes: Some(length),
            ..Owner::default()
        };
        let mut writer = ObjectWriter::as_owner(Arc::clone(shared), owner, wanted.clone());
        writer.write(bytes.clone()).await?;
        let body = writer.finish().await?;
        if body.extents().len() == 1 {
            return Ok(Recorded(Some(body)));
        }
    }
    // The object matters more: without its record it is only lost if all metadata is.
    tracing::warn!("a recovery record was not written, because disks fail");
    Ok(Recorded::none())
}

impl Engine {
    /// Writes the record of an object that is about to be committed.
    async fn write_record(&self, record: &RecoveryRecord) -> Result<Recorded, CommitError> {
        let wanted = WantedCoding::OfClass(record.headers.class.clone());
        write_record(self.shared(), record, &wanted).await
    }

    /// The record of a body put in one request.
    pub(crate) async fn record_of_object(
        &self,
        commit: &ObjectCommit,
        size: u64,
        parts: Vec<Part>,
    ) -> Result<Recorded, CommitError> {
        let record = RecoveryRecord {
            bucket: commit.bucket.clone(),
            key: commit.key.clone(),
            manifest: commit.manifest,
            size,
            etag: model::version::ETag { md5: commit.md5, parts: None },
            headers: commit.headers.clone(),
            checksum: commit.checksum.clone(),
            parts,
            upload: None,
            written: self.shared().clock.now(),
        };
        self.write_record(&record).await
    }

    /// The record of a copy by reference; refused when the source has another body by now.
    pub(crate) async fn record_of_copy(&self, copy: &CopyObject) -> Result<Recorded, CommitError> {
        let changed = || CommitError::Refused(Refusal::SourceChanged);
        let (bucket, key) = (copy.source.bucket.clone(), copy.source.key.clone());
        let query = Query::Object { bucket, key, plan: PlanWanted::Whole };
        let found = match self.shared().metadata.query(query).await? {
            Answer::Object(found) if found.version.manifest == copy.source.manifest => found,
            Answer::Object(_) | Answer::Refused(_) => return Err(changed()),
            _ => return Err(CommitError::Unavailable),
        };
        let mut extents = found.extents.into_iter().map(|planned| planned.extent);
        let mut parts = self.parts_of_copy(copy).await?;
        for part in &mut parts {
            let mut left = part.size;
            part.extents = Vec::new();
            while left > 0 {
                // The plan is of this very body: its extents are those of its parts.
                let extent = extents.next().ok_or_else(changed)?;
                left = left.checked_sub(extent.length).ok_or_else(changed)?;
                part.extents.push(extent);
            }
        }
        let version = found.version;
        let record = RecoveryRecord {
            bucket: copy.bucket.clone(),
            key: copy.key.clone(),
            manifest: copy.manifest,
            size: version.size,
            etag: version.etag,
            headers: copy.headers.clone().unwrap_or(version.headers),
            checksum: version.checksum,
            parts,
            upload: None,
            written: self.shared().clock.now(),
        };
        self.write_record(&record).await
    }

    /// The parts of a copy's source, without their extents.
    async fn parts_of_copy(&self, copy: &CopyObject) -> Result<Vec<Part>, CommitError> {
        let mut parts: Vec<Part> = Vec::new();
        let mut after = None;
        loop {
            let query = Query::ObjectParts {
                bucket: copy.source.bucket.clone(),
                key: copy.source.key.clone(),
                after: after.unwrap_or(0),
                limit: LIST_KEYS_MAX,
            };
            let page = match self.shared().metadata.query(query).await? {
                Answer::ObjectParts(page) if page.version.manifest == copy.source.manifest => page,
                Answer::ObjectParts(_) | Answer::Refused(_) => {
                    return Err(CommitError::Refused(Refusal::SourceChanged));
                }
                _ => return Err(CommitError::Unavailable),
            };
            // A body put in one request has one part, with the number 0, which lies behind nothing.
            if after.is_none()
                && let model::version::Parts::Inline(inline) = &page.version.parts
            {
                return Ok(inline.clone());
            }
            let more = page.truncated && !page.parts.is_empty();
            parts.extend(page.parts);
            after = parts.last().map(|part| part.number);
            if !more {
                return Ok(parts);
            }
        }
    }

    /// The record of a completed upload; none when it isn't there any more, or has other parts: then
    /// the metadata says what is to be said.
    pub(crate) async fn record_of_upload(
        &self,
        complete: &CompleteUpload,
    ) -> Result<Recorded, CommitError> {
        let (bucket, key, id) = (&complete.bucket, &complete.key, complete.upload);
        let Some((upload, mut uploaded)) = self.uploaded(bucket, key, id).await? else {
            return Ok(Recorded::none());
        };
        uploaded.retain(|part| {
            let named = |reference: &model::upload::PartReference| {
                reference.number == part.number && reference.md5 == part.md5
            };
            complete.parts.iter().any(named)
        });
        if uploaded.len() != complete.parts.len() {
            return Ok(Recorded::none());
        }
        let record = RecoveryRecord {
            bucket: bucket.clone(),
            key: key.clone(),
            manifest: complete.manifest,
            size: complete.size,
            etag: complete.etag,
            headers: upload.headers,
            checksum: complete.checksum.clone(),
            parts: uploaded,
            upload: Some(id),
            written: self.shared().clock.now(),
        };
        self.write_record(&record).await
    }

    /// An upload with its parts; `None` when there is none.
    async fn uploaded(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        upload: UploadId,
    ) -> Result<Option<(Upload, Vec<Part>)>, CommitError> {
        let mut parts: Vec<Part> = Vec::new();
        loop {
            let query = Query::Parts {
                bucket: bucket.clone(),
                key: key.clone(),
                upload,
                after: parts.last().map_or(0, |last| last.number),
                limit: LIST_KEYS_MAX,
            };
            let page = match self.shared().metadata.query(query).await? {
                Answer::Parts(page) => page,
                Answer::Refused(_) => return Ok(None),
                _ => return Err(MetadataError::Unavailable.into()),
            };
            let more = page.truncated && !page.parts.is_empty();
            parts.extend(page.parts.into_iter().map(|uploaded| uploaded.part));
            if !more {
                return Ok(Some((page.upload, parts)));
            }
        }
    }
}

/// What a record says of its object, as far as a recovery can use it.
pub(crate) fn read_record(bytes: &[u8]) -> Option<RecoveryRecord> {
    let record: RecoveryRecord = minicbor::decode(bytes).ok()?;
    let is_whole = record.parts.iter().all(Part::is_valid)
        && record.parts.iter().try_fold(0u64, |sum, part| sum.checked_add(part.size))
            == Some(record.size);
    let is_digest = |checksum: &StoredChecksum| !checksum.digest.is_empty();
    (is_whole && record.checksum.as_ref().is_none_or(is_digest)).then_some(record)
}

#[cfg(test)]
mod tests {
    use model::command::WriteCondition;
    use model::ids::{ExtentId, ManifestId};
    use model::owner::Owner;
    use model::version::UserMetadata;
    use wire::entropy::SeededEntropy;

    use super::*;
    use crate::owner_seal::OwnerSeal;

    /// What is said to fit, fits; at most a few bytes less are used than there are.
    #[test]
    fn an_owner_that_tells_all_fits() {
        let seal = OwnerSeal::new(&[1; 32], std::sync::Arc::new(SeededEntropy::new(1)));
        let mut largest = 0;
        for value_bytes in 0..2100 {
            let item = UserMetadata { name: "n".to_owned(), value: "v".repeat(value_bytes) };
            let headers = ObjectHeaders {
                content_type: Some("text/plain".to_owned()),
                user: vec![item],
                ..ObjectHeaders::default()
            };
            let commit = ObjectCommit {
                bucket: BucketName::parse("bucket").expect("valid"),
                key: ObjectKey::parse("key").expect("valid"),
                manifest: ManifestId([9; 16]),
                md5: [1; 16],
                headers: headers.clone(),
                checksum: None,
                condition: WriteCondition::Always,
            };
            if !owner_tells_all(&commit, 1) {
                continue;
            }
            let owner = Owner {
                bucket: "bucket".to_owned(),
                bucket_id: Some(model::ids::BucketId(u64::MAX)),
                key: "key".to_owned(),
                manifest: ManifestId([9; 16]),
                upload: Some(UploadId([9; 16])),
                part: u16::MAX,
                offset: u64::MAX,
                started: model::time::Timestamp(u64::MAX),
                kind: OwnerKind::Body,
                part_bytes: Some(u64::MAX),
                checksum: Some(model::checksum::ChecksumAlgorithm::Sha256),
                headers: Some(headers),
            };
            largest = seal.seal(ExtentId::default(), &owner).expect("it fits").len();
        }
        assert!(largest > OWNER_BYTES_MAX - 100, "{largest}");
    }
}
