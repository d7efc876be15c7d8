//! Everything else: features that can't be configured yet answer as an unconfigured bucket does,
//! the rest isn't implemented. Which is which stands in `s3::operation::TABLE`.

use bytes::Bytes;
use model::query::PlanWanted;
use s3::operation::{Level, Support};
use s3::{S3Error, S3ErrorCode};

use super::answer::{Answer, document};
use crate::auth::Permit;
use crate::{Gateway, S3Request};

/// Answers as the operation's row says.
pub async fn run(
    gateway: &Gateway,
    _permit: Permit,
    request: &S3Request,
) -> Result<Answer, S3Error> {
    let row = request.route.operation.row();
    if matches!(row.support, Support::Implemented | Support::NotImplemented) {
        return Err(S3Error::new(S3ErrorCode::NotImplemented));
    }
    match row.level {
        Level::Service => {}
        Level::Bucket => drop(gateway.bucket(request.route.bucket()?).await?),
        Level::Object => {
            let (bucket, key) = request.object()?;
            gateway.object(&bucket, &key, PlanWanted::Nothing).await?;
        }
    }
    match row.support {
        Support::Document(text) => Ok(document(Bytes::from_static(text.as_bytes()))),
        Support::OwnerAcl => Ok(document(s3::xml::acl::owner_full_control(gateway.owner()))),
        Support::Absent(code) => Err(S3Error::new(code)),
        Support::Implemented | Support::NotImplemented => {
            Err(S3Error::new(S3ErrorCode::NotImplemented))
        }
    }
}
