//! `x-amz-content-sha256`: how a body is framed, and what proves it.

use super::chunk::ChunkSigner;
use crate::error::S3Error;

/// The value for a body that the signature doesn't cover.
pub(super) const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// How a body is framed, and what proves it.
#[derive(Debug, Clone)]
pub enum PayloadMode {
    /// Plain bytes with this SHA-256.
    Sha256([u8; 32]),
    /// Plain bytes that nothing proves.
    Unsigned,
    /// `aws-chunked`: every chunk has a signature.
    StreamingSigned(ChunkSigner),
    /// `aws-chunked`: every chunk has a signature, and so have the trailers.
    StreamingSignedTrailer(ChunkSigner),
    /// `aws-chunked`: no chunk has a signature; trailers follow.
    StreamingUnsignedTrailer,
}

enum Word {
    Sha256([u8; 32]),
    Unsigned,
    StreamingSigned,
    StreamingSignedTrailer,
    StreamingUnsignedTrailer,
}

fn word(text: &str) -> Result<Word, S3Error> {
    match text {
        UNSIGNED_PAYLOAD => Ok(Word::Unsigned),
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" => Ok(Word::StreamingSigned),
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => Ok(Word::StreamingSignedTrailer),
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER" => Ok(Word::StreamingUnsignedTrailer),
        text if text.starts_with("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD") => {
            Err(S3Error::header_not_implemented("x-amz-content-sha256"))
        }
        text => {
            let mut digest = [0u8; 32];
            match hex::decode_to_slice(text, &mut digest) {
                Ok(()) => Ok(Word::Sha256(digest)),
                Err(_) => Err(S3Error::invalid_argument(
                    "x-amz-content-sha256",
                    text,
                    "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 value.",
                )),
            }
        }
    }
}

impl PayloadMode {
    /// Checks the value before anything is known about who signed it.
    pub(super) fn check(text: &str) -> Result<(), S3Error> {
        word(text).map(|_| ())
    }

    /// The mode; `seed` makes the signer of the first chunk.
    pub(super) fn parse(
        text: &str,
        seed: impl FnOnce() -> ChunkSigner,
    ) -> Result<PayloadMode, S3Error> {
        Ok(match word(text)? {
            Word::Sha256(digest) => PayloadMode::Sha256(digest),
            Word::Unsigned => PayloadMode::Unsigned,
            Word::StreamingSigned => PayloadMode::StreamingSigned(seed()),
            Word::StreamingSignedTrailer => PayloadMode::StreamingSignedTrailer(seed()),
            Word::StreamingUnsignedTrailer => PayloadMode::StreamingUnsignedTrailer,
        })
    }

    /// Whether the body is `aws-chunked`, so that `x-amz-decoded-content-length` says its length.
    pub fn is_chunked(&self) -> bool {
        match self {
            PayloadMode::Sha256(_) | PayloadMode::Unsigned => false,
            PayloadMode::StreamingSigned(_)
            | PayloadMode::StreamingSignedTrailer(_)
            | PayloadMode::StreamingUnsignedTrailer => true,
        }
    }
}
