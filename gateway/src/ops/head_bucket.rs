//! HeadBucket.

use http::{HeaderName, StatusCode};
use s3::S3Error;

use super::answer::{Answer, empty, set};
use crate::auth::Permit;
use crate::{Gateway, S3Request};

/// Tells that a bucket is there, and where.
pub async fn run(
    gateway: &Gateway,
    _permit: Permit,
    request: &S3Request,
) -> Result<Answer, S3Error> {
    gateway.bucket(request.route.bucket()?).await?;
    let mut answer = empty(StatusCode::OK);
    let name = HeaderName::from_static("x-amz-bucket-region");
    set(answer.headers_mut(), name, gateway.region.as_str());
    Ok(answer)
}
