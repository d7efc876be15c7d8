//! ListObjectsV2.

use s3::S3Error;
use s3::list::ListObjects;

use super::answer::Answer;
use crate::auth::Permit;
use crate::{Gateway, S3Request};

/// Lists objects behind a continuation token.
pub async fn run(
    gateway: &Gateway,
    permit: Permit,
    request: &S3Request,
) -> Result<Answer, S3Error> {
    let list = ListObjects::parse_v2(&request.route.query)?;
    super::list_objects::page(gateway, permit, request, &list).await
}
