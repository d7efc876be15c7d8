//! A client that does what ours wouldn't.

use std::sync::Arc;

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use wire::tls::{Authority, Identity};

use crate::world::World;

#[derive(Debug)]
pub struct Shows(pub Arc<CertifiedKey>);

impl rustls::client::ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Believes servers whose certificates name 127.0.0.1.
pub fn config(authority: &Authority) -> (ClientConfig, ServerName<'static>) {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(authority.certificate().to_vec())).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"drystone-rpc".to_vec()];
    (config, ServerName::try_from("127.0.0.1").expect("a name"))
}

/// A certificate by the authority that names what it wouldn't.
pub fn forged(authority: &Authority, uris: &[String]) -> (Vec<u8>, Vec<u8>) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names =
        uris.iter().map(|uri| SanType::URI(uri.clone().try_into().expect("ascii"))).collect();
    let authority_key = KeyPair::try_from(authority.key()).expect("a key");
    let certificate = CertificateDer::from(authority.certificate());
    let issuer = Issuer::from_ca_cert_der(&certificate, authority_key).expect("an issuer");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    (certificate.der().to_vec(), key.serialize_der())
}

/// The hello of that node.
pub fn hello(identity: &Identity) -> [u8; 48] {
    let mut hello = [0; 48];
    hello[..16].copy_from_slice(b"DRYSTRPC\x01\0\x01\0\x01\0\0\0");
    hello[16..32].copy_from_slice(&identity.cluster.0);
    hello[32..36].copy_from_slice(&identity.node.0.to_le_bytes());
    for (bit, role) in ["metadata", "storage-node", "gateway"].into_iter().enumerate() {
        hello[36] |= u8::from(identity.roles.to_string().contains(role)) << bit;
    }
    hello[37] = 1;
    hello
}

/// The hello of nobody.
pub fn strangers_hello() -> [u8; 48] {
    let mut hello = [0; 48];
    hello[..16].copy_from_slice(b"DRYSTRPC\x01\0\x01\0\x01\0\0\0");
    hello
}

/// Shakes hands, with or without a certificate.
pub async fn connect(
    world: &World,
    authority: &Authority,
    shown: Option<(&[u8], &[u8])>,
) -> TlsStream<TcpStream> {
    let (mut config, name) = config(authority);
    if let Some((certificate, key)) = shown {
        let key = PrivatePkcs8KeyDer::from(key.to_vec());
        let provider = rustls::crypto::ring::default_provider();
        let key = provider.key_provider.load_private_key(key.into()).expect("a key");
        let chain = vec![CertificateDer::from(certificate.to_vec())];
        let certified = Arc::new(CertifiedKey::new(chain, key));
        config.client_auth_cert_resolver = Arc::new(Shows(certified));
    }
    let stream = TcpStream::connect(&world.address).await.expect("it listens");
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await.expect("the server can be believed")
}

/// Says hello and hears the server's.
pub async fn say_hello(
    stream: &mut TlsStream<TcpStream>,
    identity: Option<&Identity>,
) -> std::io::Result<()> {
    let said = identity.map_or_else(strangers_hello, hello);
    stream.write_all(&said).await?;
    stream.read_exact(&mut [0; 48]).await?;
    Ok(())
}
