//! AbortMultipartUpload.

use http::StatusCode;
use s3::S3Error;
use s3::multipart::upload_id;

use super::answer::{Answer, empty};
use crate::auth::Permit;
use crate::{Gateway, S3Request, refusal};

/// Gives an upload up.
pub async fn run(
    gateway: &Gateway,
    _permit: Permit,
    request: &S3Request,
) -> Result<Answer, S3Error> {
    let (bucket, key) = request.object()?;
    let upload = upload_id(&request.route.query)?;
    gateway.engine.abort_upload(bucket, key, upload).await.map_err(refusal::of_commit)?;
    Ok(empty(StatusCode::NO_CONTENT))
}
