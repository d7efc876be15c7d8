//! A node's private key (ECDSA on P-256), and the request for a certificate for it.

use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use zeroize::Zeroizing;

use super::TlsError;

/// A node's private key. It never leaves the node.
pub struct NodeKey {
    der: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NodeKey")
    }
}

impl NodeKey {
    /// A new key.
    pub fn generate() -> Result<Self, TlsError> {
        let key = generate()?;
        Ok(Self { der: Zeroizing::new(key.serialize_der()) })
    }

    /// Reads what [`NodeKey::der`] gives.
    pub fn from_der(der: &[u8]) -> Result<Self, TlsError> {
        key_pair(der)?;
        Ok(Self { der: Zeroizing::new(der.to_vec()) })
    }

    /// The private key, as PKCS #8 in DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// A PKCS #10 request in DER, which carries the public key and proves that its sender has the
    /// private one. It says nothing else: who the node is, the authority says.
    pub fn certificate_request(&self) -> Result<Vec<u8>, TlsError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params
            .serialize_request(&*key_pair(&self.der)?)
            .map_err(|why| TlsError::Unmakeable(why.to_string()))?;
        Ok(request.der().to_vec())
    }
}

/// A new key; wiped when dropped.
pub(super) fn generate() -> Result<Zeroizing<KeyPair>, TlsError> {
    let key = KeyPair::generate().map_err(|why| TlsError::Unmakeable(why.to_string()))?;
    Ok(Zeroizing::new(key))
}

/// The key in PKCS #8; wiped when dropped.
pub(super) fn key_pair(der: &[u8]) -> Result<Zeroizing<KeyPair>, TlsError> {
    let key = KeyPair::try_from(der).map_err(|why| TlsError::unreadable("the private key", why))?;
    Ok(Zeroizing::new(key))
}
