//! Signing keys: derived from a secret for one day and region, and kept.
//!
//! Deriving costs five HMACs, signing with a derived key one. Neither a secret nor a key is ever shown.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::Scope;
use crate::date;

/// A key for one access key, day and region.
#[derive(Clone)]
pub struct SigningKey(Zeroizing<Vec<u8>>);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

impl SigningKey {
    /// Derives the key of a scope from a secret.
    pub fn derive(secret: &str, scope: &Scope) -> SigningKey {
        // The scope's date was checked against a time when it was parsed; a scope made otherwise with
        // no date gets the first day, for which nobody signs.
        let start = date::parse_basic(&format!("{}T000000Z", scope.date)).unwrap_or_default();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(start.as_seconds());
        let key = generate_signing_key(secret, time, &scope.region, "s3");
        SigningKey(Zeroizing::new(key.as_ref().to_vec()))
    }

    /// The signature of a string to sign, in hexadecimal.
    pub(super) fn sign(&self, string_to_sign: &[u8]) -> String {
        calculate_signature(self.0.as_slice(), string_to_sign)
    }
}

/// Keys kept: more than the access keys that are busy on one day.
const KEYS_MAX: usize = 1024;

/// Derived keys by access key, day and region.
#[derive(Debug, Default)]
pub struct SigningKeyCache {
    keys: HashMap<(String, Scope), Entry>,
}

#[derive(Debug)]
struct Entry {
    /// Of the secret that the key was derived from, so that a changed secret misses.
    secret_digest: [u8; 32],
    key: SigningKey,
}

impl SigningKeyCache {
    /// An empty cache.
    pub fn new() -> Self {
        SigningKeyCache::default()
    }

    /// The key of an access key with this secret, derived if it isn't there yet.
    pub fn key(&mut self, access_key: &str, secret: &str, scope: &Scope) -> SigningKey {
        let secret_digest: [u8; 32] = Sha256::digest(secret).into();
        let name = (access_key.to_owned(), scope.clone());
        if let Some(entry) = self.keys.get(&name)
            && entry.secret_digest == secret_digest
        {
            return entry.key.clone();
        }
        if self.keys.len() >= KEYS_MAX {
            // Yesterday's keys are of no more use; should that not help, starting afresh is cheap.
            self.keys.retain(|(_, known), _| known.date >= scope.date);
            if self.keys.len() >= KEYS_MAX {
                self.keys.clear();
            }
        }
        let key = SigningKey::derive(secret, scope);
        self.keys.insert(name, Entry { secret_digest, key: key.clone() });
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_bounded_and_notices_a_new_secret() {
        let mut cache = SigningKeyCache::new();
        let scope = Scope { date: "20130524".into(), region: "us-east-1".into() };
        let first = cache.key("a", "secret", &scope).sign(b"x");
        assert_eq!(cache.key("a", "secret", &scope).sign(b"x"), first);
        assert_ne!(cache.key("a", "other", &scope).sign(b"x"), first);
        for number in 0..3000 {
            cache.key(&number.to_string(), "secret", &scope);
            assert!(cache.keys.len() <= KEYS_MAX);
        }
        assert_eq!(format!("{:?}", SigningKey::derive("secret", &scope)), "SigningKey(..)");
    }
}
