//! The S3 protocol as pure functions and sans-IO state machines: no socket, no clock, no disk.
//!
//! A request goes through these rooms, in this order; each takes what the one before gave.
//!
//! 1. `route::route(method, uri, headers, addressing)` finds the `Operation`, bucket and key.
//! 2. `sigv4::parse(parts, region)` finds who claims to send it: `AuthClaim::{Anonymous, Header,
//!    Presigned}`. With the secret of `claim.access_key()` and a key from `SigningKeyCache`,
//!    `AuthClaim::verify` proves it and gives a `Signed`, which says how the body is framed and hashed.
//! 3. After a presigned request was verified, `headers::hoist` makes headers of its parameters.
//! 4. `unsupported::refuse_unsupported` refuses what would otherwise be ignored in silence.
//! 5. `operation::Operation::support` says how it is answered; for `Support::Document`, `Absent` and
//!    `OwnerAcl` the bucket (and object) must exist first.
//! 6. The body: `checksum::Expectations::parse` says what it must be, `chunked::ChunkedDecoder` takes
//!    its framing off, `checksum::BodyDigests` hashes it, `Expectations::verify` compares.
//! 7. Parameters: `list`, `range`, `condition`, `copy_source`, `multipart`, `headers`; documents: `xml`.
//!
//! Every refusal is an `error::S3Error`, which knows its status and writes its own document. The crate
//! knows nothing of storage, and nothing in it panics on what a client sends.

pub mod checksum;
pub mod chunked;
pub mod condition;
pub mod copy_source;
pub mod date;
pub mod error;
pub mod headers;
pub mod list;
pub mod multipart;
pub mod operation;
pub mod query;
pub mod range;
pub mod route;
pub mod sigv4;
pub mod unsupported;
pub mod xml;

pub use error::{S3Error, S3ErrorCode};
