//! S3 in TLS.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use engine::EngineOptions;
use gateway::http::listener::{ListenerOptions, Stopped};
use gateway::http::tls::{Tls, TlsError};
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::world::{World, noise};

/// A certificate on disk.
pub struct Files {
    directory: TempDir,
}

impl Files {
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a directory") }
    }

    pub fn certificate(&self) -> PathBuf {
        self.directory.path().join("s3.pem")
    }

    pub fn key(&self) -> PathBuf {
        self.directory.path().join("s3.key")
    }

    /// Writes a new pair; its certificate.
    pub fn write(&self, name: &str) -> CertificateDer<'static> {
        let (certificate, key) = pair(name);
        std::fs::write(self.key(), pem("PRIVATE KEY", &key)).expect("written");
        std::fs::write(self.certificate(), pem("CERTIFICATE", &certificate)).expect("written");
        certificate
    }

    pub fn load(&self) -> Result<Arc<Tls>, TlsError> {
        Tls::load(&self.certificate(), &self.key())
    }
}

fn pair(name: &str) -> (CertificateDer<'static>, Vec<u8>) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("valid");
    params.distinguished_name.push(DnType::CommonName, name);
    let certificate = params.self_signed(&key).expect("a certificate");
    (certificate.der().clone(), key.serialize_der())
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ascii")).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

pub async fn world(tls: &Arc<Tls>) -> World {
    let listening = ListenerOptions {
        tls: Some(Arc::clone(tls)),
        handshake_timeout: Duration::from_millis(500),
        ..ListenerOptions::default()
    };
    World::start_with(EngineOptions::default(), listening).await
}

async fn connect(
    world: &World,
    trusted: &CertificateDer<'static>,
    version: &'static SupportedProtocolVersion,
    protocols: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("supported")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let stream = TcpStream::connect(world.address).await?;
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Sends a request and reads the whole of an answer with a length.
async fn exchange(stream: &mut TlsStream<TcpStream>, request: &[u8]) -> Vec<u8> {
    stream.write_all(request).await.expect("taken");
    // What a full socket didn't take waits in the client's buffer.
    stream.flush().await.expect("sent");
    let mut seen = Vec::new();
    let mut buffer = vec![0u8; 64 * 1024];
    loop {
        let count = stream.read(&mut buffer).await.expect("read");
        assert!(count > 0, "closed after {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..count]);
        let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&seen[..end]).to_lowercase();
        let length = head.split("content-length: ").nth(1).map_or(0, |rest| {
            rest.split("\r\n").next().expect("a line").parse::<usize>().expect("a number")
        });
        if seen.len() >= end + 4 + length {
            return seen[end + 4..].to_vec();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_go_both_ways_in_both_versions() {
    let files = Files::new();
    let certificate = files.write("one");
    let world = world(&files.load().expect("loaded")).await;
    let body = noise(5 << 20);
    for (bucket, version) in [("a-bucket", &TLS12), ("b-bucket", &TLS13)] {
        let mut stream =
            connect(&world, &certificate, version, &[b"h2", b"http/1.1"]).await.expect("tls");
        let (_, session) = stream.get_ref();
        assert_eq!(session.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert_eq!(session.protocol_version(), Some(version.version));
        let make = world.call("PUT", &format!("/{bucket}")).head("content-length: 0\r\n");
        exchange(&mut stream, make.as_bytes()).await;
        let put = world.call("PUT", &format!("/{bucket}/key")).payload("UNSIGNED-PAYLOAD");
        let mut request = put.head(&format!("content-length: {}\r\n", body.len())).into_bytes();
        request.extend_from_slice(&body);
        exchange(&mut stream, &request).await;
        let get = world.call("GET", &format!("/{bucket}/key")).head("");
        assert!(exchange(&mut stream, get.as_bytes()).await == body);
    }
    assert_eq!(world.stop().await, Stopped::Finished);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_connection_is_told() {
    let files = Files::new();
    let certificate = files.write("one");
    let world = world(&files.load().expect("loaded")).await;
    let mut stream = connect(&world, &certificate, &TLS13, &[]).await.expect("tls");
    let head = world.call("GET", "/").head("connection: close\r\n");
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    // An end without close_notify would be an error here.
    stream.read_to_end(&mut answer).await.expect("a proper end");
    assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_certificate_is_for_new_connections_and_ends_none() {
    let files = Files::new();
    let first = files.write("one");
    let tls = files.load().expect("loaded");
    let world = world(&tls).await;
    let mut old = connect(&world, &first, &TLS13, &[]).await.expect("tls");
    let list = world.call("GET", "/").head("");
    exchange(&mut old, list.as_bytes()).await;
    assert!(!tls.reload_if_changed().expect("nothing new"));
    let second = files.write("two");
    assert!(tls.reload_if_changed().expect("a new pair"));
    assert!(!tls.reload_if_changed().expect("nothing newer"));
    exchange(&mut old, list.as_bytes()).await;
    let mut new = connect(&world, &second, &TLS13, &[]).await.expect("the new one");
    exchange(&mut new, list.as_bytes()).await;
    connect(&world, &first, &TLS13, &[]).await.expect_err("the old one is gone");
    // Half of the next pair: the one in use stays.
    let (certificate, _) = pair("three");
    std::fs::write(files.certificate(), pem("CERTIFICATE", &certificate)).expect("written");
    let error = tls.reload_if_changed().expect_err("they don't fit");
    assert!(matches!(error, TlsError::Mismatch { .. }), "{error}");
    connect(&world, &second, &TLS13, &[]).await.expect("still good");
    let third = files.write("four");
    tls.reload().expect("whole again");
    connect(&world, &third, &TLS13, &[]).await.expect("the newest");
    exchange(&mut old, list.as_bytes()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_speaks_no_tls_or_nothing_at_all_is_let_go() {
    let files = Files::new();
    let certificate = files.write("one");
    let world = world(&files.load().expect("loaded")).await;
    let mut silent = TcpStream::connect(world.address).await.expect("connected");
    let mut plain = TcpStream::connect(world.address).await.expect("connected");
    plain.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("sent");
    for stream in [&mut plain, &mut silent] {
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest));
        // Reset, or closed behind an alert; no HTTP in the clear.
        let _either = closed.await.expect("closed");
        assert!(!rest.starts_with(b"HTTP"), "{rest:?}");
    }
    connect(&world, &certificate, &TLS13, &[b"h3"]).await.expect_err("nothing in common");
    let mut stream = connect(&world, &certificate, &TLS13, &[]).await.expect("tls");
    exchange(&mut stream, world.call("GET", "/").head("").as_bytes()).await;
}

#[test]
fn files_that_are_no_pair_are_told_apart() {
    let files = Files::new();
    let says = |part: &str| {
        let error = files.load().expect_err("no pair").to_string();
        assert!(error.contains(part), "{error}");
    };
    says("s3.pem can't be read");
    files.write("one");
    files.load().expect("a pair");
    std::fs::write(files.key(), "").expect("written");
    says("s3.key holds no private key");
    std::fs::write(files.key(), pem("PRIVATE KEY", b"no key")).expect("written");
    says("the certificate in");
    let (_, another) = pair("two");
    std::fs::write(files.key(), pem("PRIVATE KEY", &another)).expect("written");
    says("does not belong to the first certificate");
    std::fs::write(files.certificate(), "nothing").expect("written");
    says("s3.pem holds no certificate");
    std::fs::write(files.certificate(), "-----BEGIN CERTIFICATE-----\n!!\n").expect("written");
    says("s3.pem is not PEM");
}
