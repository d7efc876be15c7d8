//! What a node proves itself with, and whom it believes.
//!
//! Shared by all connections of a process; the certificate can be replaced while they are open.
//! Handshakes that begin afterwards show the new one.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use model::time::Timestamp;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, SignatureScheme};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::identity::{cluster_of, identity_of, validity};
use super::{Identity, TlsError};

/// A node's certificate and private key, and the certificate of the authority that it believes.
pub struct Credentials {
    authority: CertificateDer<'static>,
    roots: Arc<RootCertStore>,
    own: RwLock<Arc<Own>>,
}

/// What changes when the certificate is renewed.
struct Own {
    identity: Identity,
    begins: Timestamp,
    expires: Timestamp,
    certified: Arc<CertifiedKey>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Credentials").field(&self.own().identity).finish()
    }
}

impl Credentials {
    /// The credentials of a node with this `certificate` and private `key`, of the cluster with
    /// this `authority` (all in DER, the key as PKCS #8). They must fit together; whether the
    /// certificate's time is over is not looked at.
    pub fn new(certificate: &[u8], key: &[u8], authority: &[u8]) -> Result<Arc<Self>, TlsError> {
        cluster_of(authority)?;
        let own = Own::new(certificate, key, authority)?;
        let authority = CertificateDer::from(authority.to_vec());
        let roots = Arc::new(roots(&authority)?);
        Ok(Arc::new(Self { authority, roots, own: RwLock::new(Arc::new(own)) }))
    }

    /// Shows another certificate from now on; of the same node, by the same authority.
    pub fn replace(&self, certificate: &[u8], key: &[u8]) -> Result<(), TlsError> {
        let fresh = Own::new(certificate, key, &self.authority)?;
        let mut own = self.own.write().unwrap_or_else(PoisonError::into_inner);
        if fresh.identity.node != own.identity.node {
            return Err(TlsError::OtherIdentity(fresh.identity.to_string()));
        }
        *own = Arc::new(fresh);
        Ok(())
    }

    /// Who the certificate says that this node is.
    pub fn identity(&self) -> Identity {
        self.own().identity.clone()
    }

    /// When the certificate's time is over.
    pub fn expires(&self) -> Timestamp {
        self.own().expires
    }

    /// When it is time to ask for another one: two thirds through.
    pub fn renew_at(&self) -> Timestamp {
        let own = self.own();
        let lifetime = own.expires.0.saturating_sub(own.begins.0);
        own.begins.plus_nanos(lifetime / 3 * 2)
    }

    /// The authority's certificate, X.509 in DER.
    pub fn authority(&self) -> &[u8] {
        &self.authority
    }

    /// The authority, as what certificates are verified by.
    pub(super) fn roots(&self) -> Arc<RootCertStore> {
        Arc::clone(&self.roots)
    }

    fn own(&self) -> Arc<Own> {
        Arc::clone(&self.own.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Own {
    fn new(certificate: &[u8], key: &[u8], authority: &[u8]) -> Result<Self, TlsError> {
        let identity = identity_of(certificate)?;
        if identity.cluster != cluster_of(authority)? {
            return Err(TlsError::OtherIdentity(identity.to_string()));
        }
        let (begins, expires) = validity(certificate)?;
        is_issued_by(certificate, authority)?;
        // The authority's certificate goes along, so that who only knows its pin can verify it.
        let chain = [certificate, authority].map(|der| CertificateDer::from(der.to_vec()));
        let key = PrivatePkcs8KeyDer::from(key.to_vec());
        let provider = rustls::crypto::ring::default_provider();
        let certified = CertifiedKey::from_der(chain.into(), key.into(), &provider);
        let certified = certified.map_err(|why| match why {
            rustls::Error::InconsistentKeys(_) => TlsError::OtherKey,
            why => TlsError::unreadable("the private key", why),
        })?;
        Ok(Self { identity, begins, expires, certified: Arc::new(certified) })
    }
}

/// The store that believes this authority alone.
pub(super) fn roots(authority: &CertificateDer<'_>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    roots
        .add(authority.clone())
        .map_err(|why| TlsError::unreadable("the authority's certificate", why))?;
    Ok(roots)
}

/// Whether an authority signed a certificate.
pub(super) fn is_issued_by(certificate: &[u8], authority: &[u8]) -> Result<(), TlsError> {
    let read = |der| X509Certificate::from_der(der).map(|(_, certificate)| certificate);
    let unreadable = |why| TlsError::unreadable("the certificate", why);
    let (certificate, authority) =
        (read(certificate).map_err(unreadable)?, read(authority).map_err(unreadable)?);
    certificate.verify_signature(Some(authority.public_key())).map_err(|_| TlsError::OtherAuthority)
}

impl ResolvesServerCert for Credentials {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.own().certified))
    }
}

impl ResolvesClientCert for Credentials {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.own().certified))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
