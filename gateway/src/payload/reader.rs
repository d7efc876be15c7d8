//! The payload of a request: its body without the `aws-chunked` framing.

use bytes::Bytes;
use http::{HeaderMap, header};
use s3::chunked::{ChunkedDecoder, Trailers};
use s3::sigv4::PayloadMode;
use s3::{S3Error, S3ErrorCode};

use super::body_error;
use crate::http::body::RequestBody;

/// Reads a payload of known length.
pub struct PayloadReader<'a> {
    body: &'a mut RequestBody,
    decoder: Option<ChunkedDecoder>,
    length: u64,
}

impl<'a> PayloadReader<'a> {
    /// A payload that must say how long it is, by Content-Length or, framed,
    /// x-amz-decoded-content-length. Reads nothing yet.
    pub fn sized(
        body: &'a mut RequestBody,
        payload: &PayloadMode,
        headers: &HeaderMap,
    ) -> Result<Self, S3Error> {
        let decoder = ChunkedDecoder::for_body(payload, headers)?;
        let length = match &decoder {
            Some(decoder) => decoder.decoded_bytes(),
            None => plain_length(body, headers)?,
        };
        Ok(Self { body, decoder, length })
    }

    /// Bytes of the payload.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The next bytes; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, S3Error> {
        let Some(decoder) = &mut self.decoder else {
            return self.body.next().await.map_err(body_error);
        };
        loop {
            if let Some(bytes) = decoder.pop() {
                return Ok(Some(bytes));
            }
            match self.body.next().await.map_err(body_error)? {
                Some(framed) => decoder.push(framed)?,
                None => return Ok(None),
            }
        }
    }

    /// To be called at the end: the trailers. A body that ended early is an error here.
    pub fn finish(self) -> Result<Trailers, S3Error> {
        match self.decoder {
            Some(decoder) => decoder.finish(),
            None if self.body.received() == self.length => Ok(Trailers::new()),
            None => Err(S3Error::new(S3ErrorCode::IncompleteBody)),
        }
    }
}

/// The Content-Length, which a plain body must have.
fn plain_length(body: &RequestBody, headers: &HeaderMap) -> Result<u64, S3Error> {
    // A request without a length and without chunks has no body; S3 wants it said.
    let said = headers.contains_key(header::CONTENT_LENGTH);
    let length = body.length().filter(|_| said);
    length.ok_or(S3Error::new(S3ErrorCode::MissingContentLength))
}
