//! Seals the owner of an extent, so that a storage node, or a stolen disk, doesn't tell bucket
//! names and keys, and opens it again for whoever has the cluster key.
//!
//! ```text
//! byte  0       1            13                 13 + n        13 + n + 16
//!       +-------+------------+------------------+-------------+
//!       | 1     | nonce (12) | ciphertext (n)   | tag (16)    |    AES-256-GCM
//!       +-------+------------+------------------+-------------+
//! ```
//!
//! The additional data is the extent's key form, so that a seal can't be moved to another extent.
//! Version history: 1 is the first.

use std::sync::Arc;

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use bytes::Bytes;
use model::ids::ExtentId;
use model::limits::OWNER_BYTES_MAX;
use model::owner::Owner;
use wire::entropy::Entropy;

const VERSION: u8 = 1;
const NONCE_BYTES: usize = 12;

/// Why an owner was not sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OwnerSealError {
    /// It is too large to be stored.
    #[error("the owner is larger than {OWNER_BYTES_MAX} bytes")]
    TooLarge,
    /// It was sealed in a form that this version doesn't know.
    #[error("the owner is sealed in an unknown form")]
    UnknownVersion,
    /// It was sealed with another key, for another extent, or is damaged.
    #[error("the owner's seal does not verify")]
    Broken,
}

/// Seals and opens owners with the cluster key.
pub struct OwnerSeal {
    cipher: Aes256Gcm,
    entropy: Arc<dyn Entropy>,
}

impl OwnerSeal {
    /// With this cluster key; nonces are drawn from `entropy`.
    pub fn new(cluster_key: &[u8; 32], entropy: Arc<dyn Entropy>) -> Self {
        Self { cipher: Aes256Gcm::new(cluster_key.into()), entropy }
    }

    /// Seals the owner of `extent`.
    pub fn seal(&self, extent: ExtentId, owner: &Owner) -> Result<Bytes, OwnerSealError> {
        let mut plain = Vec::with_capacity(256);
        // Writing to a vector can't fail.
        minicbor::encode(owner, &mut plain).map_err(|_| OwnerSealError::TooLarge)?;
        let mut nonce = [0u8; NONCE_BYTES];
        self.entropy.fill(&mut nonce);
        let payload = Payload { msg: &plain, aad: &extent.to_key() };
        let sealed = self
            .cipher
            .encrypt(&Nonce::from(nonce), payload)
            .map_err(|_| OwnerSealError::TooLarge)?;
        let mut out = Vec::with_capacity(1 + NONCE_BYTES + sealed.len());
        out.push(VERSION);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&sealed);
        if out.len() > OWNER_BYTES_MAX {
            return Err(OwnerSealError::TooLarge);
        }
        Ok(Bytes::from(out))
    }

    /// Opens the sealed owner of `extent`.
    pub fn open(&self, extent: ExtentId, sealed: &[u8]) -> Result<Owner, OwnerSealError> {
        let (version, rest) = sealed.split_first().ok_or(OwnerSealError::Broken)?;
        if *version != VERSION {
            return Err(OwnerSealError::UnknownVersion);
        }
        let (nonce, ciphertext) =
            rest.split_first_chunk::<NONCE_BYTES>().ok_or(OwnerSealError::Broken)?;
        let payload = Payload { msg: ciphertext, aad: &extent.to_key() };
        let plain = self
            .cipher
            .decrypt(&Nonce::from(*nonce), payload)
            .map_err(|_| OwnerSealError::Broken)?;
        minicbor::decode(&plain).map_err(|_| OwnerSealError::Broken)
    }
}

#[cfg(test)]
mod tests {
    use model::ids::{ManifestId, PgId, SessionId};
    use model::time::Timestamp;
    use wire::entropy::SeededEntropy;

    use super::*;

    fn owner(key: &str) -> Owner {
        Owner {
            bucket: "photos".to_owned(),
            bucket_id: None,
            key: key.to_owned(),
            manifest: ManifestId([3; 16]),
            upload: None,
            part: 0,
            offset: 0,
            started: Timestamp(5),
            ..Owner::default()
        }
    }

    #[test]
    fn a_seal_opens_for_its_extent_and_key_only() {
        let seal = OwnerSeal::new(&[1; 32], Arc::new(SeededEntropy::new(1)));
        let extent = ExtentId { pg: PgId(1), session: SessionId(2), sequence: 3 };
        let other = ExtentId { sequence: 4, ..extent };
        let sealed = seal.seal(extent, &owner("a/b")).expect("small");
        assert_eq!(seal.open(extent, &sealed), Ok(owner("a/b")));
        assert_eq!(seal.open(other, &sealed), Err(OwnerSealError::Broken));
        let stranger = OwnerSeal::new(&[2; 32], Arc::new(SeededEntropy::new(1)));
        assert_eq!(stranger.open(extent, &sealed), Err(OwnerSealError::Broken));
        assert_eq!(seal.open(extent, &[9, 9]), Err(OwnerSealError::UnknownVersion));
        assert_eq!(seal.open(extent, &[1, 9]), Err(OwnerSealError::Broken));
        assert_eq!(seal.open(extent, &[]), Err(OwnerSealError::Broken));
        // The longest names that there are.
        assert!(seal.seal(extent, &owner(&"k".repeat(1024))).is_ok());
    }
}
