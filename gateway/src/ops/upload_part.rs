//! UploadPart.

use engine::{PartCommit, WriteTarget};
use http::{HeaderName, StatusCode};
use model::names::ClassName;
use s3::S3Error;
use s3::checksum::{header_name, to_base64};
use s3::multipart::{check_put_bytes, part_number, upload_id};

use super::answer::{Answer, empty, set, set_etag};
use crate::auth::Permit;
use crate::http::body::RequestBody;
use crate::payload::{self, PayloadReader};
use crate::{Gateway, S3Request, refusal};

/// Stores a part of an upload.
pub async fn run(
    gateway: &Gateway,
    _permit: Permit,
    request: &S3Request,
    body: &mut RequestBody,
) -> Result<Answer, S3Error> {
    let (bucket, key) = request.object()?;
    let number = part_number(&request.route.query)?;
    let id = upload_id(&request.route.query)?;
    let mut expectations = request.expectations()?;
    let payload = PayloadReader::sized(body, &request.signed.payload, &request.headers)?;
    check_put_bytes(payload.length())?;
    let upload = gateway.upload(&bucket, &key, id).await?;
    if let Some(checksum) = upload.checksum {
        expectations.compute(checksum.algorithm)?;
    }
    let target = WriteTarget {
        bucket: bucket.clone(),
        bucket_id: None,
        key: key.clone(),
        manifest: gateway.engine.new_manifest(),
        upload: Some(id),
        part: number,
        size_hint: Some(payload.length()),
        headers: None,
        checksum: expectations.algorithm(),
        class: Some(upload.headers.class.unwrap_or_else(ClassName::standard)),
    };
    let (written, digests) =
        payload::store(&gateway.engine, &gateway.hasher, payload, &expectations, target).await?;
    let commit = PartCommit {
        bucket,
        key,
        upload: id,
        number,
        md5: digests.md5,
        checksum: digests.checksum,
    };
    let committed = gateway.engine.put_part(written, commit).await.map_err(refusal::of_commit)?;
    let mut answer = empty(StatusCode::OK);
    let headers = answer.headers_mut();
    set_etag(headers, committed.etag);
    if let Some(checksum) = &committed.checksum {
        let name = HeaderName::from_static(header_name(checksum.algorithm));
        set(headers, name, to_base64(&checksum.digest));
    }
    Ok(answer)
}
