//! GetBucketLocation.

use s3::S3Error;

use super::answer::{Answer, document};
use crate::auth::Permit;
use crate::{Gateway, S3Request};

/// Tells a bucket's region.
pub async fn run(
    gateway: &Gateway,
    _permit: Permit,
    request: &S3Request,
) -> Result<Answer, S3Error> {
    let bucket = gateway.bucket(request.route.bucket()?).await?;
    let region = if bucket.location.is_empty() { &gateway.region } else { &bucket.location };
    Ok(document(s3::xml::buckets::location_constraint(region)))
}
