//! Checksums as S3 names and writes them, and what a body must match.
//!
//! Here: the names of the algorithms and their text form. `digests` computes what a body has,
//! `expectations` reads what it must have, `parts` makes an object's checksum of its parts'.

mod digests;
mod expectations;
mod parts;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::checksum::{ChecksumAlgorithm, ChecksumKind, StoredChecksum};

use crate::error::{S3Error, S3ErrorCode};

pub use digests::{BodyDigests, Digests, NextBytes};
pub use expectations::{CompleteExpectations, Expectations, upload_checksum, wanted_algorithm};
pub use parts::{composite, full_object};

/// Every algorithm.
pub const ALGORITHMS: [ChecksumAlgorithm; 5] = [
    ChecksumAlgorithm::Crc32,
    ChecksumAlgorithm::Crc32c,
    ChecksumAlgorithm::Crc64Nvme,
    ChecksumAlgorithm::Sha1,
    ChecksumAlgorithm::Sha256,
];

/// The algorithm's name in headers and documents.
pub const fn algorithm_name(algorithm: ChecksumAlgorithm) -> &'static str {
    match algorithm {
        ChecksumAlgorithm::Crc32 => "CRC32",
        ChecksumAlgorithm::Crc32c => "CRC32C",
        ChecksumAlgorithm::Crc64Nvme => "CRC64NVME",
        ChecksumAlgorithm::Sha1 => "SHA1",
        ChecksumAlgorithm::Sha256 => "SHA256",
    }
}

/// The header, or trailer, that carries a checksum of the algorithm.
pub const fn header_name(algorithm: ChecksumAlgorithm) -> &'static str {
    match algorithm {
        ChecksumAlgorithm::Crc32 => "x-amz-checksum-crc32",
        ChecksumAlgorithm::Crc32c => "x-amz-checksum-crc32c",
        ChecksumAlgorithm::Crc64Nvme => "x-amz-checksum-crc64nvme",
        ChecksumAlgorithm::Sha1 => "x-amz-checksum-sha1",
        ChecksumAlgorithm::Sha256 => "x-amz-checksum-sha256",
    }
}

/// The kind's name in headers and documents.
pub const fn kind_name(kind: ChecksumKind) -> &'static str {
    match kind {
        ChecksumKind::FullObject => "FULL_OBJECT",
        ChecksumKind::Composite => "COMPOSITE",
    }
}

/// Bytes of a digest of the algorithm.
pub const fn digest_bytes(algorithm: ChecksumAlgorithm) -> usize {
    match algorithm {
        ChecksumAlgorithm::Crc32 | ChecksumAlgorithm::Crc32c => 4,
        ChecksumAlgorithm::Crc64Nvme => 8,
        ChecksumAlgorithm::Sha1 => 20,
        ChecksumAlgorithm::Sha256 => 32,
    }
}

/// A digest as S3 writes it.
pub fn to_base64(digest: &[u8]) -> String {
    STANDARD.encode(digest)
}

/// A stored checksum as it is answered: a composite one says of how many parts, where it is known.
pub fn value_text(checksum: &StoredChecksum, parts: Option<u32>) -> String {
    match (checksum.kind, parts) {
        (ChecksumKind::Composite, Some(parts)) => {
            format!("{}-{parts}", to_base64(&checksum.digest))
        }
        _ => to_base64(&checksum.digest),
    }
}

/// Reads an algorithm's name.
pub fn parse_algorithm(name: &str) -> Option<ChecksumAlgorithm> {
    ALGORITHMS.into_iter().find(|one| algorithm_name(*one).eq_ignore_ascii_case(name))
}

/// Reads a digest of the algorithm; one of the wrong length is no digest of it.
pub fn parse_digest(algorithm: ChecksumAlgorithm, text: &str) -> Result<Vec<u8>, S3Error> {
    let digest = STANDARD.decode(text).ok();
    digest.filter(|digest| digest.len() == digest_bytes(algorithm)).ok_or_else(|| {
        let name = header_name(algorithm);
        S3Error::with(S3ErrorCode::InvalidRequest, format!("Value for {name} header is invalid."))
    })
}
