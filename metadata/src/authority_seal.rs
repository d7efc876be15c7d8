//! Seals the private key of the cluster's certificate authority with the cluster key, so that the
//! tables, their backups and their snapshots hold it in no readable form.
//!
//! ```text
//! byte  0       1            13                 13 + n        13 + n + 16
//!       +-------+------------+------------------+-------------+
//!       | 1     | nonce (12) | ciphertext (n)   | tag (16)    |    AES-256-GCM
//!       +-------+------------+------------------+-------------+
//! ```
//!
//! The additional data is `drystone authority` and the cluster's id, so that a seal can't be moved to
//! another cluster or purpose. Version history: 1 is the first.

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use model::ids::ClusterId;
use wire::entropy::Entropy;

const VERSION: u8 = 1;
const NONCE_BYTES: usize = 12;
const PURPOSE: &[u8] = b"drystone authority";

/// Why a key was not sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthoritySealError {
    /// It was sealed in a form that this version doesn't know.
    #[error("the authority's key is sealed in an unknown form; use a newer Drystone")]
    UnknownVersion,
    /// It was sealed with another key, for another cluster, or is damaged.
    #[error("the authority's key can't be opened: another cluster key, or damage")]
    Broken,
}

/// Seals a private key (PKCS #8 in DER).
pub fn seal(
    cluster_key: &[u8; 32],
    cluster: ClusterId,
    key: &[u8],
    entropy: &dyn Entropy,
) -> Result<Vec<u8>, AuthoritySealError> {
    let mut nonce = [0u8; NONCE_BYTES];
    entropy.fill(&mut nonce);
    let payload = Payload { msg: key, aad: &purpose(cluster) };
    let sealed = Aes256Gcm::new(cluster_key.into())
        .encrypt(&Nonce::from(nonce), payload)
        .map_err(|_| AuthoritySealError::Broken)?;
    Ok([&[VERSION], nonce.as_slice(), &sealed].concat())
}

/// Opens it again.
pub fn open(
    cluster_key: &[u8; 32],
    cluster: ClusterId,
    sealed: &[u8],
) -> Result<Vec<u8>, AuthoritySealError> {
    let (version, rest) = sealed.split_first().ok_or(AuthoritySealError::Broken)?;
    if *version != VERSION {
        return Err(AuthoritySealError::UnknownVersion);
    }
    let (nonce, ciphertext) =
        rest.split_first_chunk::<NONCE_BYTES>().ok_or(AuthoritySealError::Broken)?;
    let payload = Payload { msg: ciphertext, aad: &purpose(cluster) };
    Aes256Gcm::new(cluster_key.into())
        .decrypt(&Nonce::from(*nonce), payload)
        .map_err(|_| AuthoritySealError::Broken)
}

fn purpose(cluster: ClusterId) -> Vec<u8> {
    [PURPOSE, &cluster.0].concat()
}

#[cfg(test)]
mod tests {
    use wire::entropy::SeededEntropy;

    use super::*;

    #[test]
    fn a_seal_opens_with_its_key_for_its_cluster_only() {
        let (key, cluster) = ([1; 32], ClusterId([2; 16]));
        let sealed = seal(&key, cluster, b"secret", &SeededEntropy::new(1)).expect("sealed");
        assert_eq!(open(&key, cluster, &sealed).as_deref(), Ok(b"secret".as_slice()));
        assert_eq!(open(&[9; 32], cluster, &sealed), Err(AuthoritySealError::Broken));
        assert_eq!(open(&key, ClusterId([3; 16]), &sealed), Err(AuthoritySealError::Broken));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(open(&key, cluster, &changed).is_err(), "byte {at}");
        }
        for length in 0..sealed.len() {
            assert!(open(&key, cluster, &sealed[..length]).is_err(), "{length} bytes");
        }
    }
}
