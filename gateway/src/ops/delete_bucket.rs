//! DeleteBucket.

use http::StatusCode;
use model::command::Command;
use s3::S3Error;

use super::answer::{Answer, empty};
use crate::auth::Permit;
use crate::{Gateway, S3Request};

/// Deletes an empty bucket.
pub async fn run(
    gateway: &Gateway,
    _permit: Permit,
    request: &S3Request,
) -> Result<Answer, S3Error> {
    let name = request.bucket()?;
    gateway
        .command(Command::DeleteBucket { name: name.clone() })
        .await
        .map_err(|error| error.field("BucketName", name.as_str()))?;
    Ok(empty(StatusCode::NO_CONTENT))
}
