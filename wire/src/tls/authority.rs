//! A cluster's own certificate authority: issues the nodes' certificates.
//!
//! In go a cluster's id or the authority's certificate and key, and nodes' requests; out come
//! certificates. Whether a node may have one isn't decided here.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use model::ids::ClusterId;
use model::time::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, SubjectPublicKeyInfo,
    date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

use super::credentials::is_issued_by;
use super::identity::{authority_uri, cluster_of, identity_of, public_key};
use super::key::{generate, key_pair};
use super::{CLOCK_SKEW, Identity, TlsError};
use crate::entropy::{Entropy, SystemEntropy};

/// How long an authority lasts: longer than any cluster. What protects it is that its key is kept
/// sealed, not that it ends.
const LIFETIME_SECONDS: u64 = 50 * 365 * 24 * 3600;

/// The last second that a certificate can name.
const SECONDS_MAX: u64 = 253_402_300_799;

/// A certificate authority with its private key.
pub struct Authority {
    cluster: ClusterId,
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl Authority {
    /// A new authority for `cluster`, with a new key.
    pub fn create(cluster: ClusterId, now: Timestamp) -> Result<Self, TlsError> {
        let key = generate()?;
        let name = format!("Drystone cluster {cluster}");
        let mut params = params(&name, now, Duration::from_secs(LIFETIME_SECONDS));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.subject_alt_names = vec![uri(authority_uri(cluster))?];
        let certificate = params.self_signed(&*key).map_err(unmakeable)?;
        Ok(Self {
            cluster,
            certificate: certificate.der().to_vec(),
            key: Zeroizing::new(key.serialize_der()),
        })
    }

    /// The authority with this certificate (X.509 in DER) and private key (PKCS #8 in DER).
    pub fn from_der(certificate: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let cluster = cluster_of(certificate)?;
        if key_pair(key)?.subject_public_key_info() != public_key(certificate)? {
            return Err(TlsError::OtherKey);
        }
        let key = Zeroizing::new(key.to_vec());
        Ok(Self { cluster, certificate: certificate.to_vec(), key })
    }

    /// The cluster that it is the authority of.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Its certificate, X.509 in DER.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// Its private key, PKCS #8 in DER.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// A certificate (X.509 in DER) which says that the key in `certificate_request` (PKCS #10 in
    /// DER) is that of `identity`, from a little before `now` until `lifetime` after it. Nothing is
    /// taken from the request but the key, and it must be signed by that. The hosts of `addresses`
    /// (`HOST` or `HOST:PORT`) are put into the certificate for people to read.
    pub fn issue(
        &self,
        certificate_request: &[u8],
        identity: &Identity,
        addresses: &[String],
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<Vec<u8>, TlsError> {
        if identity.cluster != self.cluster {
            return Err(TlsError::OtherIdentity(identity.to_string()));
        }
        let text = identity.to_string();
        if Identity::parse(&text).as_ref() != Some(identity) {
            // A node without a role has nothing to prove.
            return Err(TlsError::NoIdentity);
        }
        let key = requested_key(certificate_request)?;
        let mut params = params(&format!("Drystone node {}", identity.node), now, lifetime);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.subject_alt_names = vec![uri(text)?];
        for address in addresses {
            params.subject_alt_names.push(host(address)?);
        }
        let authority = CertificateDer::from(self.certificate.as_slice());
        let own_key = key_pair(&self.key)?;
        let issuer = Issuer::from_ca_cert_der(&authority, &*own_key).map_err(unmakeable)?;
        Ok(params.signed_by(&key, &issuer).map_err(unmakeable)?.der().to_vec())
    }

    /// The node that this authority once certified with `certificate`, if `certificate_request` is
    /// signed by the same key: who has that, is that node. Whether the certificate's time is over is
    /// not looked at; whether the node is still one isn't known here.
    pub fn holder(
        &self,
        certificate: &[u8],
        certificate_request: &[u8],
    ) -> Result<Identity, TlsError> {
        let identity = identity_of(certificate)?;
        if identity.cluster != self.cluster {
            return Err(TlsError::OtherIdentity(identity.to_string()));
        }
        is_issued_by(certificate, &self.certificate)?;
        if requested_key(certificate_request)?.subject_public_key_info() != public_key(certificate)?
        {
            return Err(TlsError::OtherKey);
        }
        Ok(identity)
    }

    /// What a join token says about an authority, so that it is recognised: SHA-256 of its
    /// certificate in DER.
    pub fn pin(certificate: &[u8]) -> [u8; 32] {
        Sha256::digest(certificate).into()
    }
}

/// The public key in a request that it proves to belong to.
fn requested_key(request: &[u8]) -> Result<SubjectPublicKeyInfo, TlsError> {
    const WHAT: &str = "the certificate request";
    let (rest, request) = X509CertificationRequest::from_der(request)
        .map_err(|why| TlsError::unreadable(WHAT, why))?;
    if !rest.is_empty() {
        return Err(TlsError::unreadable(WHAT, "there is something behind it"));
    }
    request.verify_signature().map_err(|_| TlsError::BadSignature)?;
    SubjectPublicKeyInfo::from_der(request.certification_request_info.subject_pki.raw)
        .map_err(|why| TlsError::unreadable(WHAT, why))
}

fn params(name: &str, now: Timestamp, lifetime: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let mut serial = SystemEntropy::new().id();
    // Positive and not zero, as X.509 wants it.
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    let epoch = date_time_ymd(1970, 1, 1);
    let at = |seconds: u64| epoch + Duration::from_secs(seconds.min(SECONDS_MAX));
    // The other nodes' clocks may be behind.
    params.not_before = at(now.as_seconds().saturating_sub(CLOCK_SKEW.as_secs()));
    params.not_after = at(now.as_seconds().saturating_add(lifetime.as_secs()));
    params
}

fn uri(text: String) -> Result<SanType, TlsError> {
    Ok(SanType::URI(text.try_into().map_err(unmakeable)?))
}

fn host(address: &str) -> Result<SanType, TlsError> {
    if let Ok(ip) = address.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(ip));
    }
    if let Ok(address) = address.parse::<SocketAddr>() {
        return Ok(SanType::IpAddress(address.ip()));
    }
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let is_name = !host.is_empty()
        && host.len() <= 253
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    if !is_name {
        return Err(TlsError::Address(address.to_owned()));
    }
    Ok(SanType::DnsName(host.to_owned().try_into().map_err(unmakeable)?))
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn unmakeable(why: rcgen::Error) -> TlsError {
    TlsError::Unmakeable(why.to_string())
}
