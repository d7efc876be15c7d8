//! HTTPS: the certificate that clients see, and its replacement while connections go on.
//!
//! In: a certificate chain and its private key as PEM files. Out: TLS 1.2 and 1.3 on accepted
//! sockets, HTTP/1.1 inside. The files are looked at every few seconds; a new pair is for the
//! handshakes from then on, and no connection is touched. What always holds: a pair that can't be
//! used, or is half written, changes nothing.

use std::fs::{self, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{InconsistentKeys, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use wire::clock::{Clock, timeout};

/// A PEM file longer than this is none: a chain of ten certificates has 20 KiB.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// Why a certificate can't be used; each says what to look at.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("{path} can't be read: {error}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// A file isn't PEM.
    #[error("{path} is not PEM: {reason}")]
    Malformed {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// The certificate file has none.
    #[error("{0} holds no certificate")]
    NoCertificate(String),
    /// The key file has none that can be read.
    #[error("{0} holds no private key (PKCS #8, PKCS #1 or SEC 1, without a passphrase)")]
    NoKey(String),
    /// They don't belong together.
    #[error("the key in {key} does not belong to the first certificate in {certificate}")]
    Mismatch {
        /// The certificate file.
        certificate: String,
        /// The key file.
        key: String,
    },
    /// The pair is of a kind that isn't supported.
    #[error("the certificate in {path} can't be used: {reason}")]
    Unusable {
        /// The certificate file.
        path: String,
        /// Why.
        reason: String,
    },
}

/// Why a client has no TLS connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// It took too long.
    #[error("the client took too long")]
    TimedOut,
    /// It speaks no TLS, no version or cipher that we do, or left.
    #[error("{0}")]
    Failed(#[from] std::io::Error),
}

/// The certificate in use, and where it comes from.
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    current: Arc<Current>,
    acceptor: TlsAcceptor,
    /// What the files looked like when they were last read.
    seen: Mutex<Option<[Stamp; 2]>>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// Gives every handshake the current certificate.
struct Current {
    pair: RwLock<Arc<CertifiedKey>>,
}

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Current")
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.pair.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// By what a file is seen to be another than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Self { inode: metadata.ino(), length: metadata.len(), modified }
    }
}

impl Tls {
    /// Reads a certificate chain, the server's own first, and its key.
    pub fn load(certificate: &Path, key: &Path) -> Result<Arc<Self>, TlsError> {
        let provider = ring::default_provider();
        let seen = stamps(certificate, key).ok();
        let pair = read_pair(certificate, key, &provider)?;
        let current = Arc::new(Current { pair: RwLock::new(Arc::new(pair)) });
        let builder = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|error| unusable(certificate, &error))?;
        let mut config =
            builder.with_no_client_auth().with_cert_resolver(Arc::clone(&current) as Arc<_>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            current,
            acceptor: TlsAcceptor::from(Arc::new(config)),
            seen: Mutex::new(seen),
        }))
    }

    /// Reads the files again, whether or not they look new. After an error the pair from before
    /// stays in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        let read = read_pair(&self.certificate, &self.key, &ring::default_provider());
        let result = if read.is_ok() { "replaced" } else { "failed" };
        metrics::counter!("drystone_tls_reloads_total", "result" => result).increment(1);
        let pair = Arc::new(read?);
        *self.current.pair.write().unwrap_or_else(PoisonError::into_inner) = pair;
        Ok(())
    }

    /// Reads the files again if they look other than before; whether there is a new pair.
    pub fn reload_if_changed(&self) -> Result<bool, TlsError> {
        // Files that aren't there for a moment are being replaced.
        let Ok(now) = stamps(&self.certificate, &self.key) else { return Ok(false) };
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.replace(now) == Some(now) {
                return Ok(false);
            }
        }
        self.reload().map(|()| true)
    }

    /// Looks at the files every few seconds, for ever.
    pub async fn follow(self: Arc<Self>, clock: Arc<dyn Clock>) {
        loop {
            clock.sleep(LOOK_INTERVAL).await;
            let this = Arc::clone(&self);
            let Ok(looked) = tokio::task::spawn_blocking(move || this.reload_if_changed()).await
            else {
                return;
            };
            let certificate = self.certificate.display();
            match looked {
                Ok(true) => tracing::info!(%certificate, "the certificate was replaced"),
                Ok(false) => {}
                // Told once: the next look finds nothing new.
                Err(error) => {
                    tracing::error!(%certificate, %error, "the old certificate stays in use");
                }
            }
        }
    }

    /// Shakes hands with a client, which has so long for it.
    pub async fn accept(
        &self,
        stream: TcpStream,
        clock: &dyn Clock,
        limit: Duration,
    ) -> Result<TlsStream<TcpStream>, HandshakeError> {
        let shaken = match timeout(clock, limit, self.acceptor.accept(stream)).await {
            Ok(shaken) => shaken.map_err(HandshakeError::Failed),
            Err(_) => Err(HandshakeError::TimedOut),
        };
        let result = match &shaken {
            Ok(_) => "done",
            Err(HandshakeError::TimedOut) => "timed-out",
            Err(HandshakeError::Failed(_)) => "failed",
        };
        metrics::counter!("drystone_tls_handshakes_total", "result" => result).increment(1);
        shaken
    }
}

fn stamps(certificate: &Path, key: &Path) -> std::io::Result<[Stamp; 2]> {
    Ok([Stamp::of(&fs::metadata(certificate)?), Stamp::of(&fs::metadata(key)?)])
}

fn read_pair(
    certificate: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let text = read(certificate)?;
    let chain = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| malformed(certificate, &error))?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate(shown(certificate)));
    }
    let text = zeroize::Zeroizing::new(read(key)?);
    let private = match PrivateKeyDer::from_pem_slice(&text) {
        Ok(private) => private,
        Err(rustls::pki_types::pem::Error::NoItemsFound) => {
            return Err(TlsError::NoKey(shown(key)));
        }
        Err(error) => return Err(malformed(key, &error)),
    };
    CertifiedKey::from_der(chain, private, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            TlsError::Mismatch { certificate: shown(certificate), key: shown(key) }
        }
        error => unusable(certificate, &error),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable = |error| TlsError::Unreadable { path: shown(path), error };
    let file = fs::File::open(path).map_err(unreadable)?;
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut text).map_err(unreadable)?;
    Ok(text)
}

fn malformed(path: &Path, error: &rustls::pki_types::pem::Error) -> TlsError {
    TlsError::Malformed { path: shown(path), reason: error.to_string() }
}

fn unusable(path: &Path, error: &rustls::Error) -> TlsError {
    TlsError::Unusable { path: shown(path), reason: error.to_string() }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
