//! A connection before its first frame: the socket, TLS and the hellos.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use model::time::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ServerConfig};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, ToSocketAddrs};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::hello::{HELLO_BYTES, Hello, HelloError};
use super::limits::{
    KERNEL_UNSENT_BYTES, READ_AHEAD_BYTES, TICK, TLS_BUFFER_BYTES, UNACKNOWLEDGED,
};
use crate::tls::{Identity, TlsError, ends, identity_of, server_name};

/// Either side's stream.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection whose sides know each other.
pub(super) struct Met {
    pub stream: Box<dyn Stream>,
    /// Who the peer is; none for one without a certificate.
    pub peer: Option<Identity>,
    /// When what proves that is over.
    pub expires: Option<Timestamp>,
    /// The other certificates that it sent.
    pub chain: Vec<CertificateDer<'static>>,
}

/// Why two sides didn't come together.
#[derive(Debug, thiserror::Error)]
pub(super) enum MeetError {
    /// The socket, or TLS.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The certificate says nothing of sense.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// The hello isn't one.
    #[error("{0}")]
    Hello(#[from] HelloError),
    /// The hello says something else than the certificate.
    #[error("the peer says that it is another node than its certificate does")]
    OtherThanCertificate,
    /// The peer is of another cluster.
    #[error("the peer is of another cluster")]
    OtherCluster,
    /// The peer was a node of this cluster.
    #[error("the peer was removed from the cluster")]
    Removed,
    /// The peer has as many connections as it may.
    #[error("it has too many connections")]
    TooMany,
    /// It took too long.
    #[error("it took too long")]
    TooLong,
}

impl MeetError {
    /// The word used in metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            // rustls' own errors come as data that is invalid.
            Self::Io(error) if error.kind() == io::ErrorKind::InvalidData => "tls",
            Self::Io(_) => "broken",
            Self::Tls(_) => "certificate",
            Self::Hello(_) | Self::OtherThanCertificate => "hello",
            Self::OtherCluster => "cluster",
            Self::Removed => "removed",
            Self::TooMany => "too_many",
            Self::TooLong => "too_long",
        }
    }
}

/// Sets a socket up: nothing waits to be sent, and a peer that is gone is noticed.
pub(super) fn set_up(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    socket.set_tcp_notsent_lowat(KERNEL_UNSENT_BYTES)?;
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(10)).with_interval(TICK);
    socket.set_tcp_keepalive(&keepalive)
}

/// Meets a client, and asks `admit` whether there is a place for it: once this side has said hello,
/// the client may believe that its requests are read.
pub(super) async fn accept<T>(
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    own: Identity,
    admit: impl FnOnce(Option<&Identity>) -> Result<T, MeetError>,
) -> Result<(Met, T), MeetError> {
    set_up(&stream)?;
    let cluster = own.cluster;
    let stream = BufReader::with_capacity(READ_AHEAD_BYTES, stream);
    let Some(tls) = tls else {
        let mut stream = stream;
        let hello = read_hello(&mut stream).await?;
        check_cluster(&hello, cluster)?;
        let place = admit(hello.identity.as_ref())?;
        write_hello(&mut stream, Some(own)).await?;
        return Ok((Met::new(stream, hello.identity), place));
    };
    let mut stream = TlsAcceptor::from(tls).accept(stream).await?;
    let (_, connection) = stream.get_mut();
    connection.set_buffer_limit(Some(TLS_BUFFER_BYTES));
    let (proven, expires, chain) = proven(connection.peer_certificates())?;
    let hello = read_hello(&mut stream).await?;
    if hello.identity != proven {
        return Err(MeetError::OtherThanCertificate);
    }
    check_cluster(&hello, cluster)?;
    let place = admit(proven.as_ref())?;
    write_hello(&mut stream, Some(own)).await?;
    Ok((Met { expires, chain, ..Met::new(stream, proven) }, place))
}

/// Meets a server.
pub(super) async fn connect(
    address: impl ToSocketAddrs,
    tls: Option<Arc<ClientConfig>>,
    own: Option<Identity>,
) -> Result<Met, MeetError> {
    let stream = TcpStream::connect(address).await?;
    set_up(&stream)?;
    let cluster = own.as_ref().map(|own| own.cluster);
    let mut stream = BufReader::with_capacity(READ_AHEAD_BYTES, stream);
    let Some(tls) = tls else {
        write_hello(&mut stream, own).await?;
        let hello = read_hello(&mut stream).await?;
        if let Some(cluster) = cluster {
            check_cluster(&hello, cluster)?;
        }
        return Ok(Met::new(stream, hello.identity));
    };
    let mut stream = TlsConnector::from(tls).connect(server_name()?, stream).await?;
    let (_, connection) = stream.get_mut();
    connection.set_buffer_limit(Some(TLS_BUFFER_BYTES));
    let (proven, expires, chain) = proven(connection.peer_certificates())?;
    write_hello(&mut stream, own).await?;
    let hello = read_hello(&mut stream).await?;
    if hello.identity != proven {
        return Err(MeetError::OtherThanCertificate);
    }
    Ok(Met { expires, chain, ..Met::new(stream, proven) })
}

impl Met {
    fn new(stream: impl Stream + 'static, peer: Option<Identity>) -> Self {
        Self { stream: Box::new(stream), peer, expires: None, chain: Vec::new() }
    }

    /// The peer's address, for those that have only a socket.
    pub fn peer_name(&self, address: SocketAddr) -> String {
        match &self.peer {
            Some(peer) => format!("node {} at {}", peer.node, address.ip()),
            None => address.ip().to_string(),
        }
    }
}

type Proven = (Option<Identity>, Option<Timestamp>, Vec<CertificateDer<'static>>);

/// What certificates that were verified say.
fn proven(certificates: Option<&[CertificateDer<'static>]>) -> Result<Proven, TlsError> {
    let Some((first, others)) = certificates.and_then(<[_]>::split_first) else {
        return Ok((None, None, Vec::new()));
    };
    Ok((Some(identity_of(first)?), Some(ends(first)?), others.to_vec()))
}

fn check_cluster(hello: &Hello, cluster: model::ids::ClusterId) -> Result<(), MeetError> {
    match &hello.identity {
        Some(identity) if identity.cluster != cluster => Err(MeetError::OtherCluster),
        _ => Ok(()),
    }
}

async fn read_hello(stream: &mut (impl AsyncRead + Unpin)) -> Result<Hello, MeetError> {
    let mut bytes = [0u8; HELLO_BYTES];
    stream.read_exact(&mut bytes).await?;
    Ok(Hello::decode(&bytes)?)
}

async fn write_hello(
    stream: &mut (impl AsyncWrite + Unpin),
    identity: Option<Identity>,
) -> Result<(), MeetError> {
    stream.write_all(&Hello::new(identity).encode()).await?;
    stream.flush().await?;
    Ok(())
}
