//! What a body has: its MD5 always, its SHA-256 and one more checksum where they are wanted.
//!
//! In: the body's decoded bytes in pieces. Out: `Digests`. A SHA-256 that is wanted twice, for the
//! signature and as a checksum, is computed once. The MD5s and SHA-256s of several bodies can be
//! computed side by side, which costs less than one after the other.

use crc_fast::CrcAlgorithm;
use kernels::md5::{self, Md5};
use kernels::sha256::{self, Sha256};
use model::checksum::{ChecksumAlgorithm, ChecksumKind, StoredChecksum};
use sha1::{Digest as _, Sha1};

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
            Checksummer::Sha256(digest) => digest.finish().to_vec(),
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

/// The next bytes of a body, in pieces.
pub struct NextBytes<'a, B> {
    /// The body's digests so far.
    pub digests: &'a mut BodyDigests,
    /// What comes next, in order.
    pub pieces: &'a [B],
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

    /// The algorithm of the further checksum, if one is wanted.
    pub fn algorithm(&self) -> Option<ChecksumAlgorithm> {
        self.checksum.as_ref().map(|(algorithm, _)| *algorithm)
    }

    /// Takes the next bytes of the body.
    pub fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        if let Some(sha256) = self.sha256() {
            sha256.update(bytes);
        }
        self.update_others(bytes);
    }

    /// Takes the next bytes of several bodies, hashed side by side where that is faster.
    pub fn update_together<B: AsRef<[u8]>>(bodies: &mut [NextBytes<'_, B>]) {
        for body in &mut *bodies {
            for piece in body.pieces {
                body.digests.update_others(piece.as_ref());
            }
        }
        let mut lanes: Vec<sha256::Lane<'_, B>> = bodies
            .iter_mut()
            .filter_map(|body| {
                let pieces = body.pieces;
                body.digests.sha256().map(|sha256| sha256::Lane { sha256, pieces })
            })
            .collect();
        sha256::update_lanes(&mut lanes);
        let mut lanes: Vec<md5::Lane<'_, B>> = bodies
            .iter_mut()
            .map(|body| md5::Lane { md5: &mut body.digests.md5, pieces: body.pieces })
            .collect();
        md5::update_lanes(&mut lanes);
    }

    /// The SHA-256 that is computed, for the signature or as the checksum; there is never a second.
    fn sha256(&mut self) -> Option<&mut Sha256> {
        match (&mut self.sha256, &mut self.checksum) {
            (Some(sha256), _) | (None, Some((_, Some(Checksummer::Sha256(sha256))))) => {
                Some(sha256)
            }
            (None, _) => None,
        }
    }

    /// All but MD5 and SHA-256, and their bytes.
    fn update_others(&mut self, bytes: &[u8]) {
        match &mut self.checksum {
            Some((_, Some(Checksummer::Sha256(_)) | None)) | None => {}
            Some((_, Some(checksum))) => checksum.update(bytes),
        }
        self.bytes += bytes.len() as u64;
    }

    /// Ends the body.
    pub fn finish(self) -> Digests {
        let sha256: Option<[u8; 32]> = self.sha256.map(Sha256::finish);
        let checksum = self.checksum.map(|(algorithm, own)| StoredChecksum {
            algorithm,
            kind: ChecksumKind::FullObject,
            digest: own.map(Checksummer::finish).or(sha256.map(Vec::from)).unwrap_or_default(),
        });
        Digests { md5: self.md5.finish(), sha256, checksum, bytes: self.bytes }
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
    #[test]
    fn bodies_hashed_together_have_the_digests_that_they_have_alone() {
        let whole: Vec<Vec<u8>> = (0..7usize)
            .map(|body| (0..body * 1000).map(|at| (at * body % 251) as u8).collect())
            .collect();
        let wanted = |body: usize| {
            let sha256 = if body.is_multiple_of(2) { Sha256Wanted::Yes } else { Sha256Wanted::No };
            BodyDigests::new(sha256, super::super::ALGORITHMS.get(body).copied())
        };
        let mut together: Vec<BodyDigests> = (0..whole.len()).map(wanted).collect();
        let pieces: Vec<Vec<&[u8]>> = whole.iter().map(|body| body.chunks(700).collect()).collect();
        let mut bodies: Vec<NextBytes<'_, &[u8]>> = together
            .iter_mut()
            .zip(&pieces)
            .map(|(digests, pieces)| NextBytes { digests, pieces })
            .collect();
        BodyDigests::update_together(&mut bodies);
        for (at, (found, body)) in together.into_iter().zip(&whole).enumerate() {
            let mut alone = wanted(at);
            alone.update(body);
            assert_eq!(found.finish(), alone.finish(), "body {at}");
        }
    }
}
