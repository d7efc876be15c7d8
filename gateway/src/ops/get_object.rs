//! GetObject.

use bytes::{Bytes, BytesMut};
use engine::ObjectReader;
use model::query::ObjectFound;
use s3::{S3Error, S3ErrorCode};

use super::answer::Answer;
use super::read_object::{Opened, open};
use crate::auth::Permit;
use crate::http::response::ResponseBody;
use crate::limits::SINGLE_WRITE_BYTES_MAX;
use crate::{Gateway, S3Request, refusal};

/// Sends an object, or a range or part of it.
pub async fn run(
    gateway: &Gateway,
    permit: Permit,
    request: &S3Request,
) -> Result<Answer, S3Error> {
    match open(gateway, permit, request).await? {
        Opened::NotModified(answer) => Ok(answer),
        Opened::Found { answer, found } => {
            let body = body(gateway, &found).await?;
            Ok(answer.map(|_| body))
        }
    }
}

/// The bytes. The first of them are read before the answer begins, so that an object that can't
/// be read is a clean error.
async fn body(gateway: &Gateway, found: &ObjectFound) -> Result<ResponseBody, S3Error> {
    let length = found.range.as_ref().map_or(0, |range| range.end - range.start);
    if length == 0 {
        return Ok(ResponseBody::empty());
    }
    let mut reader = gateway.engine.reader(found);
    let first = chunk(&mut reader).await?;
    if first.len() as u64 == length {
        return Ok(ResponseBody::whole(first));
    }
    if length > SINGLE_WRITE_BYTES_MAX {
        return Ok(ResponseBody::object(first, reader, length));
    }
    let mut whole = BytesMut::with_capacity(usize::try_from(length).unwrap_or_default());
    whole.extend_from_slice(&first);
    while (whole.len() as u64) < length {
        whole.extend_from_slice(&chunk(&mut reader).await?);
    }
    Ok(ResponseBody::whole(whole.freeze()))
}

async fn chunk(reader: &mut ObjectReader) -> Result<Bytes, S3Error> {
    match reader.next().await {
        Some(chunk) => chunk.map_err(refusal::of_read),
        None => Err(S3Error::new(S3ErrorCode::InternalError)),
    }
}
