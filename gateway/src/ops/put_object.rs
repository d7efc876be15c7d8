//! PutObject.

use engine::{ObjectCommit, WriteTarget};
use http::{StatusCode, header};
use model::checksum::ChecksumAlgorithm;
use model::command::WriteCondition;
use s3::S3Error;
use s3::condition::WriteCondition as AskedCondition;

use super::answer::{Answer, empty, set_checksum, set_etag};
use super::ask::write_condition;
use crate::auth::Permit;
use crate::http::body::RequestBody;
use crate::limits::INLINE_DIGEST_BYTES_MAX;
use crate::payload::{self, PayloadReader};
use crate::{Gateway, S3Request, refusal};

/// Stores an object.
pub async fn run(
    gateway: &Gateway,
    _permit: Permit,
    request: &S3Request,
    body: &mut RequestBody,
) -> Result<Answer, S3Error> {
    let (bucket, key) = request.object()?;
    let condition = write_condition(&AskedCondition::parse(&request.headers)?);
    let headers = s3::headers::object_headers(&request.headers)?;
    let headers = gateway.with_known_class(headers).await?;
    let mut expectations = request.expectations()?;
    // As S3 does it: whoever reads the object can check it, also if nobody did who wrote it.
    expectations.compute_by_default(ChecksumAlgorithm::Crc64Nvme);
    let payload = PayloadReader::sized(body, &request.signed.payload, &request.headers)?;
    let length = payload.length();
    s3::multipart::check_put_bytes(length)?;
    // A small body is sent before an answer could stop it, and the commit checks anyway: asking
    // first would cost every small object a round trip.
    let worth_asking = length > INLINE_DIGEST_BYTES_MAX
        || condition != WriteCondition::Always
        || request.headers.contains_key(header::EXPECT);
    if worth_asking {
        gateway.check_write(&bucket, &key, condition).await?;
    }
    let manifest = gateway.engine.new_manifest();
    let target = WriteTarget {
        bucket: bucket.clone(),
        bucket_id: None,
        key: key.clone(),
        manifest,
        upload: None,
        part: 0,
        size_hint: Some(length),
        headers: Some(headers.clone()),
        checksum: expectations.algorithm(),
        class: headers.class.clone(),
    };
    let (written, digests) =
        payload::store(&gateway.engine, &gateway.hasher, payload, &expectations, target).await?;
    let commit = ObjectCommit {
        bucket,
        key,
        manifest,
        md5: digests.md5,
        headers,
        checksum: digests.checksum,
        condition,
    };
    let committed = gateway.engine.put_object(written, commit).await.map_err(refusal::of_commit)?;
    let mut answer = empty(StatusCode::OK);
    set_etag(answer.headers_mut(), committed.etag);
    if let Some(checksum) = &committed.checksum {
        set_checksum(answer.headers_mut(), checksum, None);
    }
    Ok(answer)
}
