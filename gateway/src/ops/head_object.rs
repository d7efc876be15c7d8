//! HeadObject.

use s3::S3Error;

use super::answer::Answer;
use super::read_object::{Opened, open};
use crate::auth::Permit;
use crate::{Gateway, S3Request};

/// Tells all that GetObject does, without the bytes.
pub async fn run(
    gateway: &Gateway,
    permit: Permit,
    request: &S3Request,
) -> Result<Answer, S3Error> {
    Ok(match open(gateway, permit, request).await? {
        Opened::NotModified(answer) | Opened::Found { answer, .. } => answer,
    })
}
