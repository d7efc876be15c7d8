//! Asks the policy: the only place of the gateway where a permit comes from.
//!
//! In: who sends a request and what it wants. Out: a permit, or `AccessDenied`.

use model::names::{BucketName, ObjectKey};
pub use policy::Permit;
use policy::{Action, Principal, Resource};
use s3::operation::Operation;
use s3::route::Route;
use s3::sigv4::Signed;
use s3::{S3Error, S3ErrorCode};

use crate::backup_store::BACKUP_BUCKET;

/// Who a request is from, by what its signature proved.
pub fn principal(signed: Option<&Signed>) -> Principal {
    match signed {
        // The root's is the only access key that a signature can be proved with.
        Some(signed) => Principal::Root { access_key: signed.access_key.clone() },
        None => Principal::Anonymous,
    }
}

/// A permit for what a request wants.
pub fn authorize(principal: &Principal, route: &Route) -> Result<Permit, S3Error> {
    let resource = Resource::new(route.bucket.as_ref(), route.key.as_ref());
    let action = Action(route.operation.action());
    keep_backups(route.bucket.as_ref(), action)?;
    decide(principal, action, &resource)
}

/// A permit for the source of a copy.
pub fn authorize_source(
    principal: &Principal,
    bucket: &BucketName,
    key: &ObjectKey,
) -> Result<Permit, S3Error> {
    authorize_object(principal, Operation::GetObject, bucket, key)
}

/// A permit for an operation on an object that the request's path doesn't name.
pub fn authorize_object(
    principal: &Principal,
    operation: Operation,
    bucket: &BucketName,
    key: &ObjectKey,
) -> Result<Permit, S3Error> {
    let resource = Resource::new(Some(bucket), Some(key));
    let action = Action(operation.action());
    keep_backups(Some(bucket), action)?;
    decide(principal, action, &resource)
}

/// Refuses everybody what would change the cluster's own backups.
fn keep_backups(bucket: Option<&BucketName>, action: Action) -> Result<(), S3Error> {
    const HARMLESS: [&str; 3] = ["s3:GetObject", "s3:ListBucket", "s3:GetBucketLocation"];
    let is_kept = bucket.is_some_and(|bucket| bucket.as_str() == BACKUP_BUCKET);
    if is_kept && !HARMLESS.contains(&action.0) {
        return Err(S3Error::new(S3ErrorCode::AccessDenied));
    }
    Ok(())
}

/// Whether the permit is the one for this request; anything else is our bug.
pub fn covers(permit: &Permit, route: &Route) -> bool {
    let resource = Resource::new(route.bucket.as_ref(), route.key.as_ref());
    permit.covers(Action(route.operation.action()), &resource)
}

fn decide(principal: &Principal, action: Action, resource: &Resource) -> Result<Permit, S3Error> {
    policy::decide(principal, action, resource).into_result().map_err(|reason| {
        // The reason is for the operator: a stranger learns nothing.
        tracing::debug!(%action, %resource, %reason, "denied");
        S3Error::new(S3ErrorCode::AccessDenied)
    })
}
