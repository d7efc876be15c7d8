//! One request and its answer over a connection of its own, in the clear or by TLS.
//!
//! In: a signed request. Out: the whole answer, of limited length. What always holds: each connection
//! has an end in time; a certificate is trusted when an authority of this host, or the one that the
//! operator named, has signed it for the endpoint's name. Backups are few and large, so that no
//! connection is kept between requests.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use wire::clock::{Clock, timeout};

use super::endpoint::Endpoint;
use super::error::RemoteError;

/// How long a connection may take to be made, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A page of a listing of a thousand keys is shorter than 1 MiB.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Why an endpoint's certificate can't be verified at all.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file of the operator's authority is no use.
    #[error("it holds no certificate that can be read: {0}")]
    Authority(String),
    /// There is nobody to trust.
    #[error("this host has no certificate authorities to trust: give backup_ca")]
    Nobody,
    /// The endpoint can't be named in a certificate.
    #[error("{0} is no name that a certificate could have")]
    Name(String),
    /// TLS itself can't be set up.
    #[error("TLS can't be set up: {0}")]
    Unmakeable(#[from] rustls::Error),
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// The way to an endpoint.
pub struct Connector {
    endpoint: Endpoint,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    clock: Arc<dyn Clock>,
}

impl Connector {
    /// To `endpoint`, trusting `authority` too. Reads the authorities of this host.
    pub fn new(
        endpoint: Endpoint,
        authority: Option<&Path>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, TrustError> {
        let tls = if endpoint.is_tls() {
            let name = ServerName::try_from(endpoint.host().to_owned())
                .map_err(|_| TrustError::Name(endpoint.host().to_owned()))?;
            let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_protocol_versions(&[&TLS13, &TLS12])?
                .with_root_certificates(trusted(authority)?)
                .with_no_client_auth();
            Some((TlsConnector::from(Arc::new(config)), name))
        } else {
            None
        };
        Ok(Self { endpoint, tls, clock })
    }

    /// Where it leads.
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The clock that it goes by.
    pub const fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Sends a request and reads the answer, in `limit`. Dropped, it closes the connection.
    pub async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        limit: Duration,
    ) -> Result<Answer, RemoteError> {
        let work = async {
            let connecting = timeout(&*self.clock, CONNECT_TIMEOUT, self.connect()).await;
            send(connecting.map_err(|_| RemoteError::TimedOut)??, request).await
        };
        timeout(&*self.clock, limit, work).await.map_err(|_| RemoteError::TimedOut)?
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, RemoteError> {
        let address = (self.endpoint.host(), self.endpoint.port());
        let stream = TcpStream::connect(address).await.map_err(RemoteError::Unreachable)?;
        let Some((connector, name)) = &self.tls else { return Ok(Box::new(stream)) };
        match connector.connect(name.clone(), stream).await {
            Ok(stream) => Ok(Box::new(stream)),
            // What TLS itself found is of this kind.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(RemoteError::Untrusted(error))
            }
            Err(error) => Err(RemoteError::Unreachable(error)),
        }
    }
}

/// A connection, whatever it is made of.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn send(
    stream: Box<dyn Stream>,
    request: Request<Full<Bytes>>,
) -> Result<Answer, RemoteError> {
    let broken = |error: hyper::Error| RemoteError::Unreachable(io::Error::other(error));
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let exchange = async {
        let (head, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() {
                RemoteError::Malformed("it is too long")
            } else {
                RemoteError::Unreachable(io::Error::other(error))
            }
        })?;
        Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
    };
    tokio::pin!(exchange);
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        // It may end before its last bytes were read; what went wrong, the request is told.
        _ended = connection => exchange.await,
    }
}

/// The authorities of this host and that of the operator.
fn trusted(authority: Option<&Path>) -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    // Some that can't be read are no hindrance as long as others can.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for certificate in authority.map(read_authority).transpose()?.unwrap_or_default() {
        roots.add(certificate).map_err(|error| TrustError::Authority(error.to_string()))?;
    }
    if roots.is_empty() { Err(TrustError::Nobody) } else { Ok(roots) }
}

/// The certificates in a PEM file, at least one.
pub fn read_authority(path: &Path) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let unusable = |error: &dyn std::fmt::Display| TrustError::Authority(error.to_string());
    let read = CertificateDer::pem_file_iter(path).map_err(|error| unusable(&error))?;
    let read: Vec<_> = read.collect::<Result<_, _>>().map_err(|error| unusable(&error))?;
    if read.is_empty() { Err(unusable(&"it has none")) } else { Ok(read) }
}
