//! CreateMultipartUpload.

use http::{HeaderName, HeaderValue};
use model::upload::Upload;
use s3::S3Error;
use s3::checksum::{algorithm_name, kind_name, upload_checksum};

use super::answer::{Answer, document};
use crate::auth::Permit;
use crate::{Gateway, S3Request, refusal};

/// Begins an upload.
pub async fn run(
    gateway: &Gateway,
    _permit: Permit,
    request: &S3Request,
) -> Result<Answer, S3Error> {
    let (bucket, key) = request.object()?;
    let checksum = upload_checksum(&request.headers)?;
    let headers = s3::headers::object_headers(&request.headers)?;
    let headers = gateway.with_known_class(headers).await?;
    let id = gateway.engine.new_upload();
    let upload = Upload {
        id,
        initiated: gateway.clock.now(),
        headers,
        checksum,
        owner: gateway.owner.id.clone(),
    };
    let (name, text) = (bucket.clone(), key.clone());
    gateway.engine.create_upload(bucket, key, upload).await.map_err(refusal::of_commit)?;
    let mut answer = document(s3::xml::uploads::initiate(name.as_str(), text.as_str(), id));
    if let Some(checksum) = checksum {
        let headers = answer.headers_mut();
        headers.insert(
            HeaderName::from_static("x-amz-checksum-algorithm"),
            HeaderValue::from_static(algorithm_name(checksum.algorithm)),
        );
        headers.insert(
            HeaderName::from_static("x-amz-checksum-type"),
            HeaderValue::from_static(kind_name(checksum.kind)),
        );
    }
    Ok(answer)
}
