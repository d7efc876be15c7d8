//! The S3 operations, a file each.
//!
//! In: a permit, an authentic request and, where there is one, its body. Out: the answer. No
//! operation runs without a permit, and none sees a request that wasn't authenticated.

mod abort_multipart_upload;
pub mod answer;
mod ask;
mod complete_multipart_upload;
mod copy_object;
mod create_bucket;
mod create_multipart_upload;
mod delete_bucket;
mod delete_object;
mod delete_objects;
mod get_bucket_location;
mod get_object;
mod get_object_attributes;
mod head_bucket;
mod head_object;
mod list_buckets;
mod list_multipart_uploads;
mod list_objects;
mod list_objects_v2;
mod list_parts;
mod put_object;
mod read_object;
mod storage_class;
mod unconfigured;
mod upload_part;
mod upload_part_copy;

use s3::operation::Operation;
use s3::{S3Error, S3ErrorCode};

pub use answer::Answer;

use crate::auth::{Permit, authorize};
use crate::http::body::RequestBody;
use crate::{Gateway, S3Request};

/// Runs the operation that the permit is for.
pub async fn run(
    gateway: &Gateway,
    permit: Permit,
    request: &S3Request,
    body: &mut RequestBody,
) -> Result<Answer, S3Error> {
    if !authorize::covers(&permit, &request.route) {
        return Err(S3Error::new(S3ErrorCode::AccessDenied));
    }
    match request.route.operation {
        Operation::ListBuckets => list_buckets::run(gateway, permit, request).await,
        Operation::CreateBucket => create_bucket::run(gateway, permit, request, body).await,
        Operation::HeadBucket => head_bucket::run(gateway, permit, request).await,
        Operation::DeleteBucket => delete_bucket::run(gateway, permit, request).await,
        Operation::GetBucketLocation => get_bucket_location::run(gateway, permit, request).await,
        Operation::ListObjects => list_objects::run(gateway, permit, request).await,
        Operation::ListObjectsV2 => list_objects_v2::run(gateway, permit, request).await,
        Operation::ListMultipartUploads => {
            list_multipart_uploads::run(gateway, permit, request).await
        }
        Operation::DeleteObjects => delete_objects::run(gateway, permit, request, body).await,
        Operation::PutObject => put_object::run(gateway, permit, request, body).await,
        Operation::CopyObject => copy_object::run(gateway, permit, request).await,
        Operation::GetObject => get_object::run(gateway, permit, request).await,
        Operation::HeadObject => head_object::run(gateway, permit, request).await,
        Operation::DeleteObject => delete_object::run(gateway, permit, request).await,
        Operation::GetObjectAttributes => {
            get_object_attributes::run(gateway, permit, request).await
        }
        Operation::CreateMultipartUpload => {
            create_multipart_upload::run(gateway, permit, request).await
        }
        Operation::UploadPart => upload_part::run(gateway, permit, request, body).await,
        Operation::UploadPartCopy => upload_part_copy::run(gateway, permit, request).await,
        Operation::CompleteMultipartUpload => {
            complete_multipart_upload::run(gateway, permit, request, body).await
        }
        Operation::AbortMultipartUpload => {
            abort_multipart_upload::run(gateway, permit, request).await
        }
        Operation::ListParts => list_parts::run(gateway, permit, request).await,
        _answered_by_the_table => unconfigured::run(gateway, permit, request).await,
    }
}
