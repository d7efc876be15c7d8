//! Proves who signed a request.

use std::sync::{Mutex, PoisonError};

use model::time::Timestamp;
use s3::S3Error;
use s3::sigv4::{self, RequestParts, Signed, SigningKeyCache};

use crate::auth::Secret;

/// The credentials that may do everything.
#[derive(Clone, Debug)]
pub struct RootCredentials {
    /// The access key: public.
    pub access_key: String,
    /// The secret key.
    pub secret_key: Secret,
}

/// Knows the credentials, and proves signatures with them.
#[derive(Debug)]
pub struct Authenticator {
    root: RootCredentials,
    region: String,
    /// Held for the look-up of a derived key only.
    keys: Mutex<SigningKeyCache>,
}

impl Authenticator {
    /// Signatures must be for `region`.
    pub fn new(root: RootCredentials, region: String) -> Self {
        Self { root, region, keys: Mutex::new(SigningKeyCache::new()) }
    }

    /// Who signed the request; `None` when nobody claims to have.
    pub fn authenticate(
        &self,
        parts: &RequestParts<'_>,
        now: Timestamp,
    ) -> Result<Option<Signed>, S3Error> {
        let claim = sigv4::parse(parts, &self.region)?;
        let Some(claim) = claim.claim() else { return Ok(None) };
        if claim.access_key() != self.root.access_key {
            return Err(sigv4::unknown_access_key(claim.access_key()));
        }
        let key = {
            let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
            keys.key(claim.access_key(), self.root.secret_key.expose(), claim.scope())
        };
        claim.verify(&key, parts, now).map(Some)
    }
}
