//! One request to the admin listener.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;

/// An answer longer than this is none of ours.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long an order may take that moves or reads all of the metadata.
const LONG_TIMEOUT: Duration = Duration::from_mins(30);

/// Reads a document.
pub(super) async fn get(endpoint: &str, path: &str) -> Result<Vec<u8>> {
    send(endpoint, http::Method::GET, path, Bytes::new(), ANSWER_TIMEOUT).await
}

/// Reads a document that takes its time.
pub(super) async fn get_patiently(endpoint: &str, path: &str) -> Result<Vec<u8>> {
    send(endpoint, http::Method::GET, path, Bytes::new(), LONG_TIMEOUT).await
}

/// Gives an order.
pub(super) async fn post(endpoint: &str, path: &str, body: Vec<u8>) -> Result<Vec<u8>> {
    send(endpoint, http::Method::POST, path, body.into(), ANSWER_TIMEOUT).await
}

/// Gives an order that takes its time.
pub(super) async fn post_patiently(endpoint: &str, path: &str, body: Vec<u8>) -> Result<Vec<u8>> {
    send(endpoint, http::Method::POST, path, body.into(), LONG_TIMEOUT).await
}

/// Reads a document that says itself whether all is well: its status is part of the answer.
pub(super) async fn look(endpoint: &str, path: &str) -> Result<(http::StatusCode, Vec<u8>)> {
    exchange(endpoint, http::Method::GET, path, Bytes::new(), ANSWER_TIMEOUT).await
}

/// Has something taken away.
pub(super) async fn delete(endpoint: &str, path: &str) -> Result<Vec<u8>> {
    send(endpoint, http::Method::DELETE, path, Bytes::new(), ANSWER_TIMEOUT).await
}

/// The host that is asked, by its address: what is asked by a name is mostly refused.
pub(super) fn host_of(stream: &tokio::net::TcpStream) -> Result<String> {
    let peer = stream.peer_addr()?;
    // Without the scope that an address of IPv6 may have here.
    Ok(std::net::SocketAddr::new(peer.ip(), peer.port()).to_string())
}

async fn send(
    endpoint: &str,
    method: http::Method,
    path: &str,
    body: Bytes,
    limit: Duration,
) -> Result<Vec<u8>> {
    let (status, body) = exchange(endpoint, method, path, body, limit).await?;
    if !status.is_success() {
        let why = String::from_utf8_lossy(&body);
        bail!("the server answered {status}: {}", why.trim());
    }
    Ok(body)
}

async fn exchange(
    endpoint: &str,
    method: http::Method,
    path: &str,
    body: Bytes,
    limit: Duration,
) -> Result<(http::StatusCode, Vec<u8>)> {
    let authority = endpoint.strip_prefix("http://").unwrap_or(endpoint).trim_end_matches('/');
    let work = async {
        let stream = tokio::net::TcpStream::connect(authority)
            .await
            .with_context(|| format!("no server answers at {endpoint}; give --endpoint"))?;
        let host = host_of(&stream)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let mut request =
            http::Request::builder().method(&method).uri(path).header(http::header::HOST, host);
        if method == http::Method::POST {
            request = request.header(http::header::CONTENT_TYPE, "application/json");
        }
        let answer = sender.send_request(request.body(Full::new(body))?).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?;
        drop(sender);
        driver.abort();
        Ok((status, body.to_bytes().to_vec()))
    };
    tokio::time::timeout(limit, work).await.context("the server did not answer in time")?
}
