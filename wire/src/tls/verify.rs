//! Who is believed: a certificate of this cluster's authority, for a node of this cluster.
//!
//! The chain, the signature, the purpose and the time are webpki's to verify. Names of hosts aren't
//! looked at; which node it must be is decided after the handshake, by who wants to talk to it.

use std::sync::Arc;
use std::time::Duration;

use model::ids::ClusterId;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};

use super::credentials::roots;
use super::identity::{cluster_of, identity_of};
use super::{Authority, CLOCK_SKEW, TlsError};

/// Verifies clients: without a certificate they are strangers, with a wrong one they are refused.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    cluster: ClusterId,
    chain: Arc<dyn ClientCertVerifier>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientVerifier {
    pub(super) fn new(
        cluster: ClusterId,
        roots: Arc<RootCertStore>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let chain = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider))
            .build()
            .map_err(|why| TlsError::unreadable("the authority's certificate", why))?;
        Ok(Self { cluster, chain, algorithms: provider.signature_verification_algorithms })
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        of_cluster(end_entity, self.cluster)?;
        // The authority issues nodes' certificates itself: there is nothing in between.
        about_now(now, |now| self.chain.verify_client_cert(end_entity, &[], now))
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Whom a client believes.
#[derive(Debug)]
pub(super) enum Believed {
    /// The authority of the cluster that it belongs to.
    Authority { cluster: ClusterId, roots: Arc<RootCertStore> },
    /// The authority, sent along by the server, whose certificate has this SHA-256.
    Pin([u8; 32]),
}

/// Verifies servers.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    believed: Believed,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerVerifier {
    pub(super) fn new(believed: Believed, provider: &CryptoProvider) -> Self {
        Self { believed, algorithms: provider.signature_verification_algorithms }
    }

    fn verify_chain(
        &self,
        end_entity: &CertificateDer<'_>,
        roots: &RootCertStore,
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = rustls::server::ParsedCertificate::try_from(end_entity)?;
        about_now(now, |now| {
            rustls::client::verify_server_cert_signed_by_trust_anchor(
                &parsed,
                roots,
                &[],
                now,
                self.algorithms.all,
            )
        })?;
        Ok(ServerCertVerified::assertion())
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.believed {
            Believed::Authority { cluster, roots } => {
                of_cluster(end_entity, *cluster)?;
                self.verify_chain(end_entity, roots, now)
            }
            Believed::Pin(pin) => {
                let authority = intermediates
                    .iter()
                    .find(|certificate| Authority::pin(certificate) == *pin)
                    .ok_or(CertificateError::UnknownIssuer)?;
                let cluster = cluster_of(authority).map_err(|_| CertificateError::BadEncoding)?;
                of_cluster(end_entity, cluster)?;
                let roots = roots(authority).map_err(|_| CertificateError::BadEncoding)?;
                self.verify_chain(end_entity, &roots, now)
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn of_cluster(certificate: &CertificateDer<'_>, cluster: ClusterId) -> Result<(), Error> {
    let identity = identity_of(certificate).map_err(|_| CertificateError::BadEncoding)?;
    if identity.cluster == cluster {
        return Ok(());
    }
    Err(CertificateError::ApplicationVerificationFailure.into())
}

/// Verifies as of now; where that fails by a little time, as of that little time before or after.
fn about_now<T>(now: UnixTime, verify: impl Fn(UnixTime) -> Result<T, Error>) -> Result<T, Error> {
    use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    let seconds = Duration::from_secs(now.as_secs());
    let verified = verify(now);
    match &verified {
        Err(Error::InvalidCertificate(Expired | ExpiredContext { .. })) => {
            verify(UnixTime::since_unix_epoch(seconds.saturating_sub(CLOCK_SKEW)))
        }
        Err(Error::InvalidCertificate(NotValidYet | NotValidYetContext { .. })) => {
            verify(UnixTime::since_unix_epoch(seconds + CLOCK_SKEW))
        }
        _ => verified,
    }
}

fn no_tls12() -> Error {
    rustls::PeerIncompatible::ServerDoesNotSupportTls12Or13.into()
}
