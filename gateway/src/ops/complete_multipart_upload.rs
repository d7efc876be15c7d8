//! CompleteMultipartUpload.

use http::header;
use model::checksum::{ChecksumKind, StoredChecksum};
use model::command::CompleteUpload;
use model::ids::UploadId;
use model::limits::LIST_KEYS_MAX;
use model::names::{BucketName, ObjectKey};
use model::query::{Answer as Found, PlanWanted, Query};
use model::upload::{PartReference, Upload, UploadedPart};
use s3::checksum::{CompleteExpectations, composite, full_object};
use s3::condition::WriteCondition as AskedCondition;
use s3::multipart::{etag, object_bytes, upload_id};
use s3::xml::complete::{COMPLETE_BYTES_MAX, Completed, parse, result};
use s3::{S3Error, S3ErrorCode};

use super::answer::{Answer, document};
use super::ask::{out_of_turn, write_condition};
use crate::auth::Permit;
use crate::http::body::RequestBody;
use crate::{Gateway, S3Request, refusal};

/// Makes an upload's parts an object.
pub async fn run(
    gateway: &Gateway,
    _permit: Permit,
    request: &S3Request,
    body: &mut RequestBody,
) -> Result<Answer, S3Error> {
    let (bucket, key) = request.object()?;
    let upload = upload_id(&request.route.query)?;
    let condition = write_condition(&AskedCondition::parse(&request.headers)?);
    let expected = CompleteExpectations::parse(&request.headers)?;
    // The checksum headers are about the object; the body is proved by the signature alone.
    let mut headers = http::HeaderMap::new();
    for name in [
        header::HeaderName::from_static("content-md5"),
        header::HeaderName::from_static("x-amz-decoded-content-length"),
        header::HeaderName::from_static("x-amz-trailer"),
    ] {
        if let Some(value) = request.headers.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    let of_body = s3::checksum::Expectations::parse(&headers, &request.signed.payload)?;
    let references = parse(&request.document(body, &of_body, COMPLETE_BYTES_MAX).await?)?;
    let etag = etag(references.iter().map(|reference| &reference.md5));
    let (size, checksum) = match gateway.upload(&bucket, &key, upload).await {
        Ok(found) => {
            let uploaded = uploaded_parts(gateway, &bucket, &key, upload).await?;
            let (size, checksum) = join(&found, &references, &uploaded)?;
            let count = etag.parts.unwrap_or_default();
            expected.verify(count, size, checksum.as_ref())?;
            (size, checksum)
        }
        // It may be the same completion again: the metadata knows, but wants to hear the size.
        Err(error) if error.code == S3ErrorCode::NoSuchUpload => {
            let current = gateway.object(&bucket, &key, PlanWanted::Nothing).await;
            let current = current.ok().filter(|found| found.version.etag == etag);
            let version = current.ok_or(error)?.version;
            (version.size, version.checksum)
        }
        Err(error) => return Err(error),
    };
    let complete = CompleteUpload {
        bucket: bucket.clone(),
        key: key.clone(),
        upload,
        parts: references,
        manifest: gateway.engine.new_manifest(),
        etag,
        size,
        checksum,
        condition,
        record: None,
    };
    let committed = gateway.engine.complete_upload(complete).await.map_err(refusal::of_commit)?;
    let host = request.header(header::HOST.as_str()).unwrap_or_default();
    Ok(document(result(Completed {
        location: &location(host, &bucket, &key),
        bucket: bucket.as_str(),
        key: key.as_str(),
        etag: committed.etag,
        checksum: committed.checksum.as_ref(),
    })))
}

/// Every part that was uploaded, ascending by number.
async fn uploaded_parts(
    gateway: &Gateway,
    bucket: &BucketName,
    key: &ObjectKey,
    upload: UploadId,
) -> Result<Vec<UploadedPart>, S3Error> {
    let mut all: Vec<UploadedPart> = Vec::new();
    loop {
        let after = all.last().map_or(0, |last| last.part.number);
        let (bucket, key) = (bucket.clone(), key.clone());
        let query = Query::Parts { bucket, key, upload, after, limit: LIST_KEYS_MAX };
        let Found::Parts(page) = gateway.ask(query).await? else { return Err(out_of_turn()) };
        let more = page.truncated && !page.parts.is_empty();
        all.extend(page.parts);
        if !more {
            return Ok(all);
        }
    }
}

/// The size and checksum of the object that the named parts make.
fn join(
    upload: &Upload,
    references: &[PartReference],
    uploaded: &[UploadedPart],
) -> Result<(u64, Option<StoredChecksum>), S3Error> {
    let mut named = Vec::with_capacity(references.len());
    for reference in references {
        let at = uploaded.binary_search_by_key(&reference.number, |uploaded| uploaded.part.number);
        let part = at.ok().and_then(|at| uploaded.get(at)).map(|uploaded| &uploaded.part);
        let part = part.filter(|part| {
            part.md5 == reference.md5
                && (reference.checksum.is_none() || reference.checksum == part.checksum)
        });
        named.push(part.ok_or_else(|| invalid_part(reference))?);
    }
    let size = object_bytes(named.iter().map(|part| (part.number, part.size)))?;
    let Some(wanted) = upload.checksum else { return Ok((size, None)) };
    // Every part of such an upload has a checksum of its algorithm.
    let digests =
        named.iter().map(|part| part.checksum.as_ref().map(|checksum| checksum.digest.as_slice()));
    let digests: Option<Vec<&[u8]>> = digests.collect();
    let digests = digests.ok_or(S3Error::new(S3ErrorCode::InternalError))?;
    let checksum = match wanted.kind {
        ChecksumKind::Composite => Some(composite(wanted.algorithm, digests)),
        ChecksumKind::FullObject => {
            let sizes = named.iter().map(|part| part.size);
            full_object(wanted.algorithm, digests.into_iter().zip(sizes))
        }
    };
    match checksum {
        Some(checksum) => Ok((size, Some(checksum))),
        None => Err(S3Error::new(S3ErrorCode::InternalError)),
    }
}

fn invalid_part(reference: &PartReference) -> S3Error {
    let etag = model::version::ETag { md5: reference.md5, parts: None };
    S3Error::new(S3ErrorCode::InvalidPart)
        .field("PartNumber", reference.number.to_string())
        .field("ETag", etag.to_string())
}

/// Where the object can be reached, as the client reached us.
fn location(host: &str, bucket: &BucketName, key: &ObjectKey) -> String {
    let key =
        percent_encoding::utf8_percent_encode(key.as_str(), percent_encoding::NON_ALPHANUMERIC);
    // Virtual-hosted clients have the bucket in their host already.
    if host.split('.').next() == Some(bucket.as_str()) {
        return format!("http://{host}/{key}");
    }
    format!("http://{host}/{bucket}/{key}")
}
