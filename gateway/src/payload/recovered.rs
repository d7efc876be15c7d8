//! The digests of bodies that a recovery reads from the disks: entity tags and checksums are known to
//! the metadata alone, and are computed again as they were when the bodies came.

use std::sync::Arc;

use engine::{BodyDigest, NewDigest};
use model::checksum::StoredChecksum;
use s3::checksum::BodyDigests;

struct Recovered(BodyDigests);

impl BodyDigest for Recovered {
    fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(self: Box<Self>) -> ([u8; 16], Option<StoredChecksum>) {
        let digests = self.0.finish();
        (digests.md5, digests.checksum)
    }
}

/// For `engine::RecoverRequest`.
pub fn recovery_digests() -> Arc<NewDigest> {
    Arc::new(|algorithm| Box::new(Recovered(BodyDigests::of_copy(algorithm))))
}

#[cfg(test)]
mod tests {
    use model::checksum::{ChecksumAlgorithm, ChecksumKind};

    use super::*;

    #[test]
    fn digests_are_those_of_a_put() {
        let mut digest = recovery_digests()(Some(ChecksumAlgorithm::Crc32));
        digest.update(b"1234");
        digest.update(b"56789");
        let (md5, checksum) = digest.finish();
        // The check value of CRC-32 (ISO-HDLC), and the MD5 of the same bytes.
        assert_eq!(u128::from_be_bytes(md5), 0x25f9_e794_323b_4538_85f5_181f_1b62_4d0b);
        let checksum = checksum.expect("wanted");
        assert_eq!(checksum.digest, [0xcb, 0xf4, 0x39, 0x26]);
        assert_eq!(checksum.kind, ChecksumKind::FullObject);
        assert!(recovery_digests()(None).finish().1.is_none());
    }
}
