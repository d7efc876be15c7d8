//! Bodies with bytes for us: taken out of their framing, hashed, compared with what was promised.
//!
//! In: the request's body and what its headers and signature say of it. Out: its bytes in the
//! engine, or a document in memory. What always holds: whoever gets a written body or a document
//! from here has one whose length, digests and signatures were verified.

mod digester;
mod ingest;
mod lane_hasher;
mod reader;
mod recovered;

pub use ingest::{copy, document, store};
pub use lane_hasher::LaneHasher;
pub use reader::PayloadReader;
pub use recovered::recovery_digests;

use s3::{S3Error, S3ErrorCode};

use crate::http::body::BodyError;

/// What a client is told when its body didn't come as it should.
fn body_error(error: BodyError) -> S3Error {
    S3Error::new(match error {
        BodyError::TooSlow => S3ErrorCode::RequestTimeout,
        BodyError::Broken => S3ErrorCode::IncompleteBody,
        BodyError::TooLong => S3ErrorCode::MaxMessageLengthExceeded,
    })
}
