//! What a body has: its MD5 always, its SHA-256 and one more checksum where they are wanted.
//!
//! In: the body's decoded bytes in pieces. Out: `Digests`. A SHA-256 that is wanted twice, for the
//! signature and as a checksum, is computed once.

use crc_fast::CrcAlgorithm;
use md5::Md5;
use model::checksum::{ChecksumAlgorithm, ChecksumKind, StoredChecksum};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// A checksum being computed. Public to this module tree for parts, whose checksums it makes too.
pub(super) enum Checksummer {
    Crc(ChecksumAlgorithm, crc_fast::Digest),
    Sha1(Sha1),
    Sha256(Sha256),
}

/// The implementation of a CRC; `None` for the two that aren't CRCs.
pub(super) fn crc(algorithm: ChecksumAlgorithm) -> Option<CrcAlgorithm> {
    match algorithm {
        ChecksumAlgorithm::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
        ChecksumAlgorithm::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
        ChecksumAlgorithm::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
        ChecksumAlgorithm::Sha1 | ChecksumAlgorithm::Sha256 => None,
    }
}

/// A CRC's digest: big-endian, in its own width.
pub(super) fn crc_bytes(algorithm: ChecksumAlgorithm, crc: u64) -> Vec<u8> {
    let wide = crc.to_be_bytes();
    wide[wide.len() - super::digest_bytes(algorithm).min(8)..].to_vec()
}

impl Checksummer {
    pub(super) fn new(algorithm: ChecksumAlgorithm) -> Checksummer {
        match (crc(algorithm), algorithm) {
            (Some(crc), _) => Checksummer::Crc(algorithm, crc_fast::Digest::new(crc)),
            (None, ChecksumAlgorithm::Sha1) => Checksummer::Sha1(Sha1::new()),
            (None, _) => Checksummer::Sha256(Sha256::new()),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Checksummer::Crc(_, digest) => digest.update(bytes),
            Checksummer::Sha1(digest) => digest.update(bytes),
            Checksummer::Sha256(digest) => digest.update(bytes),
        }
    }

    pub(super) fn finish(self) -> Vec<u8> {
        match self {
            Checksummer::Crc(algorithm, digest) => crc_bytes(algorithm, digest.finalize()),
            Checksummer::Sha1(digest) => digest.finalize().to_vec(),
            Checksummer::Sha256(digest) => digest.finalize().to_vec(),
        }
    }
}

/// The digests of a body being read.
pub struct BodyDigests {
    md5: Md5,
    sha256: Option<Sha256>,
    checksum: Option<(ChecksumAlgorithm, Option<Checksummer>)>,
    bytes: u64,
}

/// The digests of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digests {
    /// The MD5, which is the entity tag of a body put in one request.
    pub md5: [u8; 16],
    /// The SHA-256, if it was wanted for the signature.
    pub sha256: Option<[u8; 32]>,
    /// The further checksum, if one was wanted.
    pub checksum: Option<StoredChecksum>,
    /// How many bytes there were.
    pub bytes: u64,
}

/// Whether the body's SHA-256 is wanted for the signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sha256Wanted {
    Yes,
    No,
}

impl BodyDigests {
    pub(super) fn new(sha256: Sha256Wanted, checksum: Option<ChecksumAlgorithm>) -> BodyDigests {
        let sha256 = (sha256 == Sha256Wanted::Yes).then(Sha256::new);
        let shared = sha256.is_some() && checksum == Some(ChecksumAlgorithm::Sha256);
        let own = |algorithm| (!shared).then(|| Checksummer::new(algorithm));
        BodyDigests {
            md5: Md5::new(),
            sha256,
            checksum: checksum.map(|algorithm| (algorithm, own(algorithm))),
            bytes: 0,
        }
    }

    /// Digests for something that nobody sent, such as a copied part: MD5 and perhaps a checksum.
    pub fn of_copy(checksum: Option<ChecksumAlgorithm>) -> BodyDigests {
        BodyDigests::new(Sha256Wanted::No, checksum)
    }

    /// Takes the next bytes of the body.
    pub fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(bytes);
        }
        if let Some((_, Some(checksum))) = &mut self.checksum {
            checksum.update(bytes);
        }
        self.bytes += bytes.len() as u64;
    }

    /// Ends the body.
    pub fn finish(self) -> Digests {
        let sha256: Option<[u8; 32]> = self.sha256.map(|digest| digest.finalize().into());
        let checksum = self.checksum.map(|(algorithm, own)| StoredChecksum {
            algorithm,
            kind: ChecksumKind::FullObject,
            digest: own.map(Checksummer::finish).or(sha256.map(Vec::from)).unwrap_or_default(),
        });
        Digests { md5: self.md5.finalize().into(), sha256, checksum, bytes: self.bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_check_values() {
        let check = |algorithm, expected: &str| {
            for wanted in [Sha256Wanted::Yes, Sha256Wanted::No] {
                let mut digests = BodyDigests::new(wanted, Some(algorithm));
                digests.update(b"1234");
                digests.update(b"56789");
                let digests = digests.finish();
                assert_eq!(hex::encode(digests.md5), "25f9e794323b453885f5181f1b624d0b");
                assert_eq!(hex::encode(digests.checksum.expect("a checksum").digest), expected);
                assert_eq!(digests.bytes, 9);
            }
        };
        check(ChecksumAlgorithm::Crc32, "cbf43926");
        check(ChecksumAlgorithm::Crc32c, "e3069283");
        check(ChecksumAlgorithm::Crc64Nvme, "ae8b14860a799888");
        check(ChecksumAlgorithm::Sha1, "f7c3bc1d808e04732adf679965ccc34ca7ae3441");
        check(
            ChecksumAlgorithm::Sha256,
            "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
        );
    }
}
