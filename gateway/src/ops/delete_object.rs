//! DeleteObject.

use http::{HeaderName, HeaderValue, StatusCode};
use s3::S3Error;
use s3::condition::WriteCondition as AskedCondition;

use super::answer::{Answer, empty};
use super::ask::write_condition;
use crate::auth::Permit;
use crate::{Gateway, S3Request, refusal};

/// Deletes an object, or finds that there is none.
pub async fn run(
    gateway: &Gateway,
    _permit: Permit,
    request: &S3Request,
) -> Result<Answer, S3Error> {
    let (bucket, key) = request.object()?;
    let condition = write_condition(&AskedCondition::parse(&request.headers)?);
    gateway.engine.delete_object(bucket, key, condition).await.map_err(refusal::of_commit)?;
    let mut answer = empty(StatusCode::NO_CONTENT);
    if request.route.query.contains("versionId") {
        let version = HeaderName::from_static("x-amz-version-id");
        answer.headers_mut().insert(version, HeaderValue::from_static("null"));
    }
    Ok(answer)
}
