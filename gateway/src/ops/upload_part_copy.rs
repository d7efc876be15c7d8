//! UploadPartCopy.

use engine::{CommitError, PartCommit, PartShare, WriteTarget};
use model::checksum::{ChecksumKind, StoredChecksum};
use model::command::{Committed, Refusal, SourceObject};
use model::ids::UploadId;
use model::limits::PUT_BYTES_MAX;
use model::names::{BucketName, ClassName, ObjectKey};
use model::query::{ObjectFound, PlanWanted};
use model::upload::Upload;
use s3::checksum::BodyDigests;
use s3::condition::ReadConditions;
use s3::copy_source::CopySource;
use s3::multipart::{part_number, upload_id};
use s3::range::{RangeRequest, resolve_copy_source};
use s3::{S3Error, S3ErrorCode};

use super::answer::{Answer, document};
use crate::auth::{Permit, authorize};
use crate::{Gateway, S3Request, payload, refusal};

/// How often a copy begins anew when its source is replaced meanwhile.
const ATTEMPTS_MAX: usize = 4;

/// The part that is to be.
struct Destination {
    bucket: BucketName,
    key: ObjectKey,
    upload: UploadId,
    number: u16,
}

/// Makes an object, or a range of one, a part of an upload.
pub async fn run(
    gateway: &Gateway,
    _permit: Permit,
    request: &S3Request,
) -> Result<Answer, S3Error> {
    let (bucket, key) = request.object()?;
    let number = part_number(&request.route.query)?;
    let id = upload_id(&request.route.query)?;
    let source = CopySource::parse(&request.headers)?;
    authorize::authorize_source(&request.principal, &source.bucket, &source.key)?;
    let conditions = ReadConditions::of_copy_source(&request.headers);
    let upload = gateway.upload(&bucket, &key, id).await?;
    let destination = Destination { bucket, key, upload: id, number };
    for _attempt in 0..ATTEMPTS_MAX {
        let plan = match source.range {
            Some(RangeRequest::Between { first, last }) => PlanWanted::Between(first, last),
            Some(RangeRequest::From { first }) => PlanWanted::From(first),
            Some(RangeRequest::Last { length }) => PlanWanted::Last(length),
            None => PlanWanted::Whole,
        };
        let found = gateway.object(&source.bucket, &source.key, plan).await?;
        let version = &found.version;
        conditions.evaluate_copy_source(&version.etag.to_string(), version.modified)?;
        let length = match source.range {
            Some(range) => resolve_copy_source(range, version.size)?.length,
            None => version.size,
        };
        if length > PUT_BYTES_MAX {
            return Err(S3Error::with(
                S3ErrorCode::InvalidRequest,
                format!(
                    "The specified copy source is larger than the maximum allowable size for a copy source: {PUT_BYTES_MAX}"
                ),
            ));
        }
        let (own, wanted) = (version.headers.class.as_ref(), upload.headers.class.as_ref());
        let has_coding = gateway.have_one_coding(own, wanted).await?;
        let shared = if has_coding {
            share(gateway, &source, &found, &upload, &destination).await
        } else {
            None
        };
        let copied = match shared {
            Some(shared) => shared?,
            None => Some(rewrite(gateway, &found, &upload, &destination).await?),
        };
        if let Some(committed) = copied {
            let checksum = committed.checksum.as_ref();
            let (md5, modified) = (committed.etag.md5, committed.modified);
            return Ok(document(s3::xml::copy::part(md5, modified, checksum)));
        }
    }
    Err(refusal::of_refusal(Refusal::SourceChanged))
}

/// A part that shares the source's bytes. `None` when they can't be shared, `Some(Ok(None))` when
/// the source was replaced meanwhile.
async fn share(
    gateway: &Gateway,
    source: &CopySource,
    found: &ObjectFound,
    upload: &Upload,
    destination: &Destination,
) -> Option<Result<Option<Committed>, S3Error>> {
    let share = PartShare {
        source: SourceObject {
            bucket: source.bucket.clone(),
            key: source.key.clone(),
            manifest: found.version.manifest,
        },
        bucket: destination.bucket.clone(),
        key: destination.key.clone(),
        upload: destination.upload,
        number: destination.number,
        checksum: checksum_to_share(found, upload)?,
    };
    let shared = gateway.engine.share_part(share, found).await?;
    Some(match shared {
        Ok(committed) => Ok(Some(committed)),
        Err(CommitError::Refused(Refusal::SourceChanged)) => Ok(None),
        Err(error) => Err(refusal::of_commit(error)),
    })
}

/// The source's checksum, if the upload can do with it; `None` when another must be computed.
#[expect(clippy::option_option, reason = "the inner one is a checksum that nobody asked for")]
fn checksum_to_share(found: &ObjectFound, upload: &Upload) -> Option<Option<StoredChecksum>> {
    let Some(wanted) = upload.checksum else { return Some(None) };
    let checksum = found.version.checksum.as_ref()?;
    let fits = checksum.algorithm == wanted.algorithm && checksum.kind == ChecksumKind::FullObject;
    fits.then(|| Some(checksum.clone()))
}

/// A part with bytes of its own.
async fn rewrite(
    gateway: &Gateway,
    found: &ObjectFound,
    upload: &Upload,
    destination: &Destination,
) -> Result<Committed, S3Error> {
    let target = WriteTarget {
        bucket: destination.bucket.clone(),
        bucket_id: None,
        key: destination.key.clone(),
        manifest: gateway.engine.new_manifest(),
        upload: Some(destination.upload),
        part: destination.number,
        size_hint: found.range.as_ref().map(|range| range.end - range.start),
        headers: None,
        checksum: upload.checksum.map(|checksum| checksum.algorithm),
        class: Some(upload.headers.class.clone().unwrap_or_else(ClassName::standard)),
    };
    let digests = BodyDigests::of_copy(upload.checksum.map(|checksum| checksum.algorithm));
    let (written, digests) =
        payload::copy(&gateway.engine, &gateway.hasher, found, digests, target).await?;
    let commit = PartCommit {
        bucket: destination.bucket.clone(),
        key: destination.key.clone(),
        upload: destination.upload,
        number: destination.number,
        md5: digests.md5,
        checksum: digests.checksum,
    };
    gateway.engine.put_part(written, commit).await.map_err(refusal::of_commit)
}
