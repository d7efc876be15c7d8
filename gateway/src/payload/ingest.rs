//! From a client's socket, or from another object, into the engine; and small documents into memory.

use bytes::{Bytes, BytesMut};
use engine::{Engine, WriteTarget, WrittenBody};
use http::HeaderMap;
use model::query::ObjectFound;
use s3::checksum::{BodyDigests, Digests, Expectations};
use s3::chunked::ChunkedDecoder;
use s3::sigv4::PayloadMode;
use s3::{S3Error, S3ErrorCode};

use super::digester::Digester;
use super::{LaneHasher, PayloadReader, body_error};
use crate::http::body::RequestBody;
use crate::refusal;

/// Writes a payload, and compares it with what was promised. On any error, also when this is
/// dropped half-way, what was written is deleted again by the engine.
pub async fn store(
    engine: &Engine,
    hasher: &LaneHasher,
    mut payload: PayloadReader<'_>,
    expectations: &Expectations,
    target: WriteTarget,
) -> Result<(WrittenBody, Digests), S3Error> {
    let mut writer = engine.writer(target);
    let mut digester = Digester::new(hasher, expectations.digests(), payload.length());
    while let Some(bytes) = payload.next().await? {
        digester.update(&bytes).await?;
        writer.write(bytes).await.map_err(refusal::of_write)?;
    }
    let trailers = payload.finish()?;
    if digester.is_inline() {
        // Nothing need touch a disk for a small body that isn't what it should be.
        let digests = digester.finish().await?;
        expectations.verify(&digests, &trailers)?;
        let body = writer.finish().await.map_err(refusal::of_write)?;
        return Ok((body, digests));
    }
    let (digests, body) = tokio::join!(digester.finish(), writer.finish());
    let digests = digests?;
    expectations.verify(&digests, &trailers)?;
    Ok((body.map_err(refusal::of_write)?, digests))
}

/// Reads what was opened and writes it again, hashed on the way.
pub async fn copy(
    engine: &Engine,
    hasher: &LaneHasher,
    found: &ObjectFound,
    digests: BodyDigests,
    target: WriteTarget,
) -> Result<(WrittenBody, Digests), S3Error> {
    let length = found.range.as_ref().map_or(0, |range| range.end - range.start);
    let mut reader = engine.reader(found);
    let mut writer = engine.writer(target);
    let mut digester = Digester::new(hasher, digests, length);
    let mut copied = 0u64;
    while let Some(bytes) = reader.next().await {
        let bytes = bytes.map_err(refusal::of_read)?;
        copied += bytes.len() as u64;
        digester.update(&bytes).await?;
        writer.write(bytes).await.map_err(refusal::of_write)?;
    }
    if copied != length {
        return Err(S3Error::new(S3ErrorCode::InternalError));
    }
    let (digests, body) = tokio::join!(digester.finish(), writer.finish());
    Ok((body.map_err(refusal::of_write)?, digests?))
}

/// Reads a request document of at most `bytes_max` bytes, and compares it with what was promised.
/// A request without a body gives an empty one.
pub async fn document(
    body: &mut RequestBody,
    payload: &PayloadMode,
    headers: &HeaderMap,
    expectations: &Expectations,
    bytes_max: usize,
) -> Result<Bytes, S3Error> {
    let too_long = || {
        S3Error::new(S3ErrorCode::MaxMessageLengthExceeded)
            .field("MaxMessageLengthBytes", bytes_max.to_string())
    };
    let (document, trailers) = match ChunkedDecoder::for_body(payload, headers)? {
        None => {
            if body.length().is_some_and(|length| length > bytes_max as u64) {
                return Err(too_long());
            }
            (body.collect(bytes_max).await.map_err(body_error)?, Vec::new())
        }
        Some(mut decoder) => {
            if decoder.decoded_bytes() > bytes_max as u64 {
                return Err(too_long());
            }
            let mut document = BytesMut::new();
            while let Some(framed) = body.next().await.map_err(body_error)? {
                decoder.push(framed)?;
                while let Some(bytes) = decoder.pop() {
                    document.extend_from_slice(&bytes);
                }
            }
            (document.freeze(), decoder.finish()?)
        }
    };
    let mut digests = expectations.digests();
    digests.update(&document);
    expectations.verify(&digests.finish(), &trailers)?;
    Ok(document)
}
