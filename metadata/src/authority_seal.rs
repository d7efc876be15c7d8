//! Seals the private key of the cluster's certificate authority, so that the tables, their backups
//! and their snapshots hold it in no readable form.
//!
//! The key that seals it is the *authority seal key*, which metadata nodes alone have: gateways may
//! take backups of the metadata and have the cluster key, and must not be able to admit anybody.
//!
//! ```text
//! byte  0       1            13                 13 + n        13 + n + 16
//!       +-------+------------+------------------+-------------+
//!       | 2     | nonce (12) | ciphertext (n)   | tag (16)    |    AES-256-GCM
//!       +-------+------------+------------------+-------------+
//! ```
//!
//! The additional data is `drystone authority 2` and the cluster's id, so that a seal can't be moved
//! to another cluster, purpose or version.
//!
//! Version history: 1 was sealed with the cluster key, with `drystone authority` as additional data.
//! It is still opened, never made: who had the cluster key could have opened it since it was made, so
//! that sealing the same key anew would protect nothing.

use std::fmt;

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use model::ids::ClusterId;
use wire::entropy::Entropy;

const VERSION: u8 = 2;
const VERSION_CLUSTER_KEY: u8 = 1;
const NONCE_BYTES: usize = 12;
const PURPOSE: &[u8] = b"drystone authority 2";
const PURPOSE_CLUSTER_KEY: &[u8] = b"drystone authority";

/// What a metadata node opens seals with.
#[derive(Clone)]
pub struct SealKeys {
    /// The authority seal key; none in a cluster whose authority was sealed before there was one.
    pub authority: Option<[u8; 32]>,
    /// The cluster key.
    pub cluster: [u8; 32],
}

impl fmt::Debug for SealKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKeys(redacted)")
    }
}

/// Why a key was not sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthoritySealError {
    /// It was sealed in a form that this version doesn't know.
    #[error("the authority's key is sealed in an unknown form; use a newer Drystone")]
    UnknownVersion,
    /// It was sealed with another key, for another cluster, or is damaged.
    #[error("the authority's key can't be opened: another seal key, or damage")]
    Broken,
    /// The key that it was sealed with isn't here.
    #[error(
        "the secrets hold no authority seal key; put secrets.toml of another metadata node here, which has it"
    )]
    NoSealKey,
}

/// Seals a private key (PKCS #8 in DER) with the authority seal key.
pub fn seal(
    seal_key: &[u8; 32],
    cluster: ClusterId,
    key: &[u8],
    entropy: &dyn Entropy,
) -> Result<Vec<u8>, AuthoritySealError> {
    let mut nonce = [0u8; NONCE_BYTES];
    entropy.fill(&mut nonce);
    let payload = Payload { msg: key, aad: &purpose(PURPOSE, cluster) };
    let sealed = Aes256Gcm::new(seal_key.into())
        .encrypt(&Nonce::from(nonce), payload)
        .map_err(|_| AuthoritySealError::Broken)?;
    Ok([&[VERSION], nonce.as_slice(), &sealed].concat())
}

/// Opens it again.
pub fn open(
    keys: &SealKeys,
    cluster: ClusterId,
    sealed: &[u8],
) -> Result<Vec<u8>, AuthoritySealError> {
    let (version, rest) = sealed.split_first().ok_or(AuthoritySealError::Broken)?;
    let (key, purpose_text) = match *version {
        VERSION => (keys.authority.as_ref().ok_or(AuthoritySealError::NoSealKey)?, PURPOSE),
        VERSION_CLUSTER_KEY => (&keys.cluster, PURPOSE_CLUSTER_KEY),
        _ => return Err(AuthoritySealError::UnknownVersion),
    };
    let (nonce, ciphertext) =
        rest.split_first_chunk::<NONCE_BYTES>().ok_or(AuthoritySealError::Broken)?;
    let payload = Payload { msg: ciphertext, aad: &purpose(purpose_text, cluster) };
    Aes256Gcm::new(key.into())
        .decrypt(&Nonce::from(*nonce), payload)
        .map_err(|_| AuthoritySealError::Broken)
}

fn purpose(text: &[u8], cluster: ClusterId) -> Vec<u8> {
    [text, &cluster.0].concat()
}

#[cfg(test)]
mod tests {
    use wire::entropy::SeededEntropy;

    use super::*;

    const CLUSTER: ClusterId = ClusterId([2; 16]);

    fn keys(authority: Option<u8>, cluster: u8) -> SealKeys {
        SealKeys { authority: authority.map(|byte| [byte; 32]), cluster: [cluster; 32] }
    }

    #[test]
    fn a_seal_opens_with_its_key_for_its_cluster_only() {
        let right = keys(Some(1), 3);
        let sealed = seal(&[1; 32], CLUSTER, b"secret", &SeededEntropy::new(1)).expect("sealed");
        assert_eq!(open(&right, CLUSTER, &sealed).as_deref(), Ok(b"secret".as_slice()));
        let broken = Err(AuthoritySealError::Broken);
        assert_eq!(open(&keys(Some(9), 3), CLUSTER, &sealed), broken);
        assert_eq!(open(&right, ClusterId([3; 16]), &sealed), broken);
        for at in 0..sealed.len() {
            for bit in 0..8 {
                let mut changed = sealed.clone();
                changed[at] ^= 1 << bit;
                assert!(open(&right, CLUSTER, &changed).is_err(), "byte {at}");
            }
        }
        for length in 0..sealed.len() {
            assert!(open(&right, CLUSTER, &sealed[..length]).is_err(), "{length} bytes");
        }
    }

    /// What a gateway has: the cluster key, and the sealed key from a backup.
    #[test]
    fn the_cluster_key_does_not_open_it() {
        let sealed = seal(&[1; 32], CLUSTER, b"secret", &SeededEntropy::new(1)).expect("sealed");
        assert_eq!(open(&keys(None, 3), CLUSTER, &sealed), Err(AuthoritySealError::NoSealKey));
        let mut as_before = sealed;
        as_before[0] = VERSION_CLUSTER_KEY;
        assert_eq!(open(&keys(None, 3), CLUSTER, &as_before), Err(AuthoritySealError::Broken));
        // Not even if both keys were the same: the version is under the seal.
        assert_eq!(open(&keys(Some(1), 1), CLUSTER, &as_before), Err(AuthoritySealError::Broken));
    }

    /// Bytes that were sealed with the cluster key, before there was another.
    #[test]
    fn what_was_sealed_with_the_cluster_key_opens() {
        let sealed = [
            0x01, 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x6b,
            0xe4, 0x8a, 0x02, 0x78, 0x7d, 0x23, 0xaf, 0x25, 0xcc, 0xbf, 0x90, 0x62, 0x8e, 0x8b,
            0x44, 0xf2, 0x4f, 0xd0, 0xd6, 0x27, 0x98,
        ];
        for authority in [None, Some(1)] {
            let opened = open(&keys(authority, 7), CLUSTER, &sealed);
            assert_eq!(opened.as_deref(), Ok(b"secret".as_slice()));
        }
        let broken = Err(AuthoritySealError::Broken);
        assert_eq!(open(&keys(Some(7), 8), CLUSTER, &sealed), broken);
    }

    #[test]
    fn keys_are_not_shown() {
        let keys = keys(Some(0xab), 0xcd);
        assert_eq!(format!("{keys:?}"), "SealKeys(redacted)");
    }
}
