//! Hashes a body while it is received and written.
//!
//! In: the body's bytes in order. Out: its digests. A small body is hashed where it is received; a
//! large one by the [`LaneHasher`], on another thread and together with others.

use bytes::Bytes;
use s3::checksum::{BodyDigests, Digests};
use s3::{S3Error, S3ErrorCode};

use super::lane_hasher::{HashedBody, HashingLost, LaneHasher};
use crate::limits::INLINE_DIGEST_BYTES_MAX;

/// Hashes a body.
pub enum Digester {
    /// Here and now.
    Inline(Box<BodyDigests>),
    /// By the workers, behind the receiver.
    Elsewhere(HashedBody),
}

impl Digester {
    /// For a body of `length` bytes.
    pub fn new(hasher: &LaneHasher, digests: BodyDigests, length: u64) -> Self {
        if length <= INLINE_DIGEST_BYTES_MAX {
            Self::Inline(Box::new(digests))
        } else {
            Self::Elsewhere(hasher.begin(digests))
        }
    }

    /// Whether the digests are there as soon as the body is.
    pub fn is_inline(&self) -> bool {
        matches!(self, Self::Inline(_))
    }

    /// Takes the next bytes. Waits when hashing is too far behind.
    pub async fn update(&mut self, bytes: &Bytes) -> Result<(), S3Error> {
        match self {
            Self::Inline(digests) => digests.update(bytes),
            Self::Elsewhere(body) => body.update(bytes).await.map_err(internal)?,
        }
        Ok(())
    }

    /// The digests of everything.
    pub async fn finish(self) -> Result<Digests, S3Error> {
        match self {
            Self::Inline(digests) => Ok(digests.finish()),
            Self::Elsewhere(body) => body.finish().await.map_err(internal),
        }
    }
}

fn internal(error: HashingLost) -> S3Error {
    tracing::error!(%error, "a request fails");
    S3Error::new(S3ErrorCode::InternalError)
}
