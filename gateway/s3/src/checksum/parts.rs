//! An object's checksum from its parts' checksums.
//!
//! In: the parts' digests, in order. Out: the composite checksum (the checksum of the digests one after
//! the other) or, for CRCs, that of the whole object by combination, without reading a byte again.

use model::checksum::{ChecksumAlgorithm, ChecksumKind, StoredChecksum};

use super::digests::{Checksummer, crc, crc_bytes};

/// The checksum of the parts' digests; answered with `-N` behind it.
pub fn composite<'a>(
    algorithm: ChecksumAlgorithm,
    digests: impl IntoIterator<Item = &'a [u8]>,
) -> StoredChecksum {
    let mut checksummer = Checksummer::new(algorithm);
    for digest in digests {
        checksummer.update(digest);
    }
    StoredChecksum { algorithm, kind: ChecksumKind::Composite, digest: checksummer.finish() }
}

/// The checksum of the whole object from its parts' (digest, bytes). `None` if the algorithm can't be
/// combined or a digest isn't one of it.
pub fn full_object<'a>(
    algorithm: ChecksumAlgorithm,
    parts: impl IntoIterator<Item = (&'a [u8], u64)>,
) -> Option<StoredChecksum> {
    let crc = crc(algorithm)?;
    let mut whole: Option<u64> = None;
    for (digest, bytes) in parts {
        if digest.len() != super::digest_bytes(algorithm) {
            return None;
        }
        let part = digest.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        whole = Some(match whole {
            None => part,
            Some(before) if bytes == 0 => before,
            Some(before) => crc_fast::checksum_combine(crc, before, part, bytes),
        });
    }
    let digest = match whole {
        Some(whole) => crc_bytes(algorithm, whole),
        None => Checksummer::new(algorithm).finish(),
    };
    Some(StoredChecksum { algorithm, kind: ChecksumKind::FullObject, digest })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::ALGORITHMS;
    use proptest::prelude::*;

    fn digest(algorithm: ChecksumAlgorithm, bytes: &[u8]) -> Vec<u8> {
        let mut checksummer = Checksummer::new(algorithm);
        checksummer.update(bytes);
        checksummer.finish()
    }

    #[test]
    fn composites_are_checksums_of_checksums() {
        let parts =
            [digest(ChecksumAlgorithm::Sha256, b"a"), digest(ChecksumAlgorithm::Sha256, b"b")];
        let object = composite(ChecksumAlgorithm::Sha256, parts.iter().map(Vec::as_slice));
        assert_eq!(object.digest, digest(ChecksumAlgorithm::Sha256, &parts.concat()));
    }

    proptest! {
        #[test]
        fn a_combined_crc_is_that_of_the_whole(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..6)) {
            for algorithm in ALGORITHMS {
                let digests: Vec<_> = parts.iter().map(|part| (digest(algorithm, part), part.len() as u64)).collect();
                let combined = full_object(algorithm, digests.iter().map(|(digest, bytes)| (digest.as_slice(), *bytes)));
                let expected = crc(algorithm).map(|_| digest(algorithm, &parts.concat()));
                prop_assert_eq!(combined.map(|checksum| checksum.digest), expected);
            }
        }
    }
}
