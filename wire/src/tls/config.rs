//! rustls, set up the one way that it is used between nodes.

use std::fmt;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ServerConfig};

use super::verify::{Believed, ClientVerifier, ServerVerifier};
use super::{Credentials, TlsError};
use crate::clock::Clock;

/// Spoken inside, so that a certificate can't be used towards another protocol by mistake.
const PROTOCOL: &[u8] = b"drystone-rpc";

/// rustls' clock is ours.
struct ClockTime(Arc<dyn Clock>);

impl fmt::Debug for ClockTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClockTime")
    }
}

impl TimeProvider for ClockTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = self.0.now().as_seconds();
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// What a server speaks.
pub(crate) fn server_config(
    credentials: &Arc<Credentials>,
    clock: Arc<dyn Clock>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = provider();
    let cluster = credentials.identity().cluster;
    let verifier = ClientVerifier::new(cluster, credentials.roots(), &provider)?;
    let mut config = ServerConfig::builder_with_details(provider, Arc::new(ClockTime(clock)))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|why| TlsError::Unmakeable(why.to_string()))?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::clone(credentials) as _);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(Arc::new(config))
}

/// What a client with credentials speaks.
pub(crate) fn client_config(
    credentials: &Arc<Credentials>,
    clock: Arc<dyn Clock>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let cluster = credentials.identity().cluster;
    let believed = Believed::Authority { cluster, roots: credentials.roots() };
    client(believed, Some(credentials), clock)
}

/// What a client speaks that has no credentials yet, but knows what the authority looks like.
pub(crate) fn anonymous_config(
    authority_pin: [u8; 32],
    clock: Arc<dyn Clock>,
) -> Result<Arc<ClientConfig>, TlsError> {
    client(Believed::Pin(authority_pin), None, clock)
}

fn client(
    believed: Believed,
    credentials: Option<&Arc<Credentials>>,
    clock: Arc<dyn Clock>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = provider();
    let verifier = ServerVerifier::new(believed, &provider);
    let builder = ClientConfig::builder_with_details(provider, Arc::new(ClockTime(clock)))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|why| TlsError::Unmakeable(why.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match credentials {
        Some(credentials) => builder.with_client_cert_resolver(Arc::clone(credentials) as _),
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(Arc::new(config))
}

/// What is asked for in place of a host's name, which nobody looks at.
pub(crate) fn server_name() -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from("node.invalid")
        .map_err(|why| TlsError::unreadable("the server's name", why))
}
