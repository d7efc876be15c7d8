//! A proxy of S3 requests that breaks, answers or changes what it is told to.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What becomes of a request.
pub enum Deed {
    /// It and its answer go through.
    Forward,
    /// It goes through with another last byte.
    Change,
    /// It goes through, and its answer doesn't.
    Swallow,
    /// The connection ends before anything goes through.
    Break,
    /// This is the answer: status and body.
    Answer(&'static str, String),
}

/// A running proxy; ends when it is dropped.
pub struct Proxy {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Proxy {
    /// In front of `target`; `deed` is asked with each request's first line.
    pub async fn start(
        target: SocketAddr,
        deed: impl Fn(&str) -> Deed + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let deed = Arc::new(deed);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let deed = Arc::clone(&deed);
                tokio::spawn(async move { serve(stream, target, &*deed).await });
            }
        });
        Self { address, task }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves one request of a connection; an error is one of a client that has gone.
async fn serve(
    mut client: TcpStream,
    target: SocketAddr,
    deed: &(impl Fn(&str) -> Deed + Sync),
) -> std::io::Result<()> {
    let mut request = read_request(&mut client).await?;
    let line = String::from_utf8_lossy(&request);
    let deed = deed(line.lines().next().unwrap_or_default());
    match deed {
        Deed::Break => return Ok(()),
        Deed::Answer(status, body) => {
            let length = body.len();
            let is_head = request.starts_with(b"HEAD");
            let body = if is_head { String::new() } else { body };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
            client.write_all(answer.as_bytes()).await?;
            return client.shutdown().await;
        }
        Deed::Change => {
            if let Some(last) = request.last_mut() {
                *last ^= 1;
            }
        }
        Deed::Forward | Deed::Swallow => {}
    }
    let mut server = TcpStream::connect(target).await?;
    server.write_all(&request).await?;
    if matches!(deed, Deed::Swallow) {
        // With the first byte of the answer it has done what it was asked.
        return server.read_u8().await.map(drop);
    }
    tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop)
}

/// The head, and as much of a body as it says.
async fn read_request(client: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut request = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = client.read(&mut buffer).await?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        request.extend_from_slice(&buffer[..count]);
        let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
        let length = head.split("content-length: ").nth(1).map_or(0, |rest| {
            rest.split("\r\n").next().expect("a line").parse().expect("a number")
        });
        let missing = (end + 4 + length).saturating_sub(request.len());
        let had = request.len();
        request.resize(had + missing, 0);
        client.read_exact(&mut request[had..]).await?;
        return Ok(request);
    }
}
