//! CreateBucket.

use http::{StatusCode, header};
use model::command::Command;
use s3::xml::buckets::{CREATE_BUCKET_BYTES_MAX, check_create_bucket};
use s3::{S3Error, S3ErrorCode};

use super::answer::{Answer, empty, set};
use crate::auth::Permit;
use crate::http::body::RequestBody;
use crate::{Gateway, S3Request};

/// The region in which S3 answers 200 when one's own bucket is created again.
const CLASSIC_REGION: &str = "us-east-1";

/// Creates a bucket.
pub async fn run(
    gateway: &Gateway,
    _permit: Permit,
    request: &S3Request,
    body: &mut RequestBody,
) -> Result<Answer, S3Error> {
    let name = request.bucket()?;
    let expectations = request.expectations()?;
    let document = request.document(body, &expectations, CREATE_BUCKET_BYTES_MAX).await?;
    check_create_bucket(&document, &gateway.region)?;
    let command = Command::CreateBucket {
        name: name.clone(),
        owner: gateway.owner.id.clone(),
        location: gateway.region.clone(),
    };
    match gateway.command(command).await {
        Ok(_) => {}
        Err(error)
            if error.code == S3ErrorCode::BucketAlreadyOwnedByYou
                && gateway.region == CLASSIC_REGION => {}
        Err(error) => return Err(error.field("BucketName", name.as_str())),
    }
    let mut answer = empty(StatusCode::OK);
    set(answer.headers_mut(), header::LOCATION, format!("/{name}"));
    Ok(answer)
}
