//! Signatures of chunks and trailers: each signs the one before, beginning with the request's.

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::{Scope, SigningKey};
use crate::error::{S3Error, S3ErrorCode};

/// The SHA-256 of nothing.
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Checks the signatures of one body, in order.
#[derive(Debug, Clone)]
pub struct ChunkSigner {
    key: SigningKey,
    /// Time and scope: the lines between the algorithm and the previous signature.
    context: String,
    previous: String,
}

impl ChunkSigner {
    pub(super) fn new(key: SigningKey, time_text: &str, scope: &Scope, seed: &str) -> ChunkSigner {
        let mut context = String::with_capacity(64);
        context.push_str(time_text);
        context.push('\n');
        scope.write(&mut context);
        ChunkSigner { key, context, previous: seed.to_owned() }
    }

    /// Checks the signature of the next chunk, whose bytes have this SHA-256.
    pub fn verify_chunk(&mut self, sha256: &[u8; 32], signature: &str) -> Result<(), S3Error> {
        let digest = hex::encode(sha256);
        self.verify("AWS4-HMAC-SHA256-PAYLOAD", &[EMPTY_SHA256, &digest], signature)
    }

    /// Checks the signature of the trailers, written as `name:value\n` each.
    pub fn verify_trailer(&mut self, trailers: &str, signature: &str) -> Result<(), S3Error> {
        let digest = hex::encode(Sha256::digest(trailers));
        self.verify("AWS4-HMAC-SHA256-TRAILER", &[&digest], signature)
    }

    fn verify(
        &mut self,
        algorithm: &str,
        digests: &[&str],
        signature: &str,
    ) -> Result<(), S3Error> {
        let mut text = String::with_capacity(320);
        for line in [algorithm, &self.context, &self.previous] {
            text.push_str(line);
            text.push('\n');
        }
        text.push_str(&digests.join("\n"));
        let expected = self.key.sign(text.as_bytes());
        if !bool::from(expected.as_bytes().ct_eq(signature.as_bytes())) {
            return Err(S3Error::new(S3ErrorCode::SignatureDoesNotMatch)
                .field("SignatureProvided", signature)
                .field("StringToSign", text));
        }
        self.previous = expected;
        Ok(())
    }
}
