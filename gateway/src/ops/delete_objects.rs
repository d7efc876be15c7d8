//! DeleteObjects.

use futures_util::StreamExt as _;
use futures_util::stream;
use model::command::WriteCondition;
use model::names::BucketName;
use s3::condition::WriteCondition as AskedCondition;
use s3::operation::Operation;
use s3::xml::delete::{DELETE_BYTES_MAX, DeleteOutcome, DeleteRequest, DeleteTarget, result};
use s3::{S3Error, S3ErrorCode};

use super::answer::{Answer, document};
use super::ask::write_condition;
use crate::auth::{Permit, authorize};
use crate::http::body::RequestBody;
use crate::limits::DELETES_IN_FLIGHT_MAX;
use crate::{Gateway, S3Request, refusal};

/// Deletes up to 1000 objects, and answers for each.
pub async fn run(
    gateway: &Gateway,
    _permit: Permit,
    request: &S3Request,
    body: &mut RequestBody,
) -> Result<Answer, S3Error> {
    let bucket = request.bucket()?;
    let expectations = request.expectations()?;
    if !expectations.has_integrity() {
        return Err(S3Error::with(
            S3ErrorCode::InvalidRequest,
            "Missing required header for this request: Content-MD5 OR x-amz-checksum-*",
        ));
    }
    let body = request.document(body, &expectations, DELETE_BYTES_MAX).await?;
    let asked = DeleteRequest::parse(&body)?;
    gateway.bucket(&bucket).await?;
    let deletes = asked.objects.iter().map(|target| delete(gateway, request, &bucket, target));
    let deletes: Vec<_> = deletes.collect();
    let outcomes: Vec<Result<(), S3Error>> =
        stream::iter(deletes).buffered(DELETES_IN_FLIGHT_MAX).collect().await;
    let quiet = asked.quiet;
    let listed = asked.objects.iter().zip(&outcomes).filter_map(|(target, outcome)| {
        let (key, version) = match target {
            DeleteTarget::Object { key, version, .. } => (key.as_str(), *version),
            DeleteTarget::Refused { key, .. } => (key.as_str(), None),
        };
        match outcome {
            Ok(()) => (!quiet).then_some(DeleteOutcome::Deleted { key, version }),
            Err(error) => Some(DeleteOutcome::Failed { key, error }),
        }
    });
    Ok(document(result(listed)))
}

async fn delete(
    gateway: &Gateway,
    request: &S3Request,
    bucket: &BucketName,
    target: &DeleteTarget,
) -> Result<(), S3Error> {
    match target {
        DeleteTarget::Refused { error, .. } => Err(error.clone()),
        DeleteTarget::Object { key, if_match, .. } => {
            authorize::authorize_object(&request.principal, Operation::DeleteObject, bucket, key)?;
            let condition = match if_match.as_deref() {
                None => WriteCondition::Always,
                Some("*") => WriteCondition::Present,
                Some(tag) => write_condition(&AskedCondition::IfMatch(tag.to_owned())),
            };
            let deleted =
                gateway.engine.delete_object(bucket.clone(), key.clone(), condition).await;
            deleted.map(|_existed| ()).map_err(refusal::of_commit)
        }
    }
}
