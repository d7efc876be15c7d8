//! One keep-alive HTTP/1.1 connection that sends signed requests, one at a time.
//!
//! In: a [`Call`]. Out: an [`Answer`] whose body was read to its end (and compared, where asked). A
//! connection that failed or was closed by the server is opened again by the next call; the call
//! that saw it fail is reported as failed.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, Bytes};
use http::{HeaderValue, Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::signer::{Signable, Signer};

/// A request that takes longer counts as failed, so that a hanging server ends the run.
const REQUEST_DEADLINE: Duration = Duration::from_mins(2);
/// Bodies up to this size are kept for the caller: errors and listings, not objects.
const KEPT_BODY_BYTES_MAX: usize = 4 << 20;

/// A plain-HTTP endpoint: where to connect, and what the `host` header says.
pub struct Endpoint {
    authority: String,
    host: HeaderValue,
}

impl Endpoint {
    /// Takes `http://host:port`.
    pub fn parse(text: &str) -> Result<Self> {
        let uri: http::Uri = text.parse().with_context(|| format!("{text:?} is not a URL"))?;
        ensure!(uri.scheme_str() == Some("http"), "{text:?} does not begin with http://");
        let host = uri.authority().context("the endpoint has no host")?.as_str();
        let port = uri.port_u16().unwrap_or(80);
        let name = uri.host().context("the endpoint has no host")?;
        Ok(Self { authority: format!("{name}:{port}"), host: HeaderValue::from_str(host)? })
    }

    /// The value of the `host` header.
    pub fn host(&self) -> Result<&str> {
        Ok(self.host.to_str()?)
    }
}

/// One request, before it is signed.
pub struct Call {
    /// The HTTP method.
    pub method: Method,
    /// The path, already escaped.
    pub path: String,
    /// The canonical query; may be empty.
    pub query: String,
    /// The body; may be empty.
    pub body: Bytes,
    /// What stands in `x-amz-content-sha256`.
    pub payload_hash: HeaderValue,
}

/// What is done with the bytes that come back.
#[derive(Clone)]
pub enum Sink {
    /// They are counted.
    Count,
    /// They are kept, up to a limit, and counted.
    Keep,
    /// They are compared with these bytes and counted.
    Compare(Bytes),
}

/// What came back.
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// How many bytes the body had.
    pub bytes: u64,
    /// The body, where it was kept; always kept for a status of 300 and above.
    pub body: Vec<u8>,
}

/// A connection and what is needed to open it again.
pub struct Client {
    endpoint: Rc<Endpoint>,
    signer: Rc<Signer>,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    /// A client that connects with its first call.
    pub fn new(endpoint: Rc<Endpoint>, signer: Rc<Signer>) -> Self {
        Self { endpoint, signer, sender: None }
    }

    /// Sends one request and reads the whole answer.
    pub async fn call(&mut self, call: Call, sink: &Sink) -> Result<Answer> {
        let outcome = tokio::time::timeout(REQUEST_DEADLINE, self.exchange(call, sink)).await;
        let answer = outcome.context("no answer in time").flatten();
        if answer.is_err() {
            self.sender = None;
        }
        answer
    }

    async fn exchange(&mut self, call: Call, sink: &Sink) -> Result<Answer> {
        let request = self.request(call)?;
        let mut sender = self.connected().await?;
        let response = sender.send_request(request).await.context("the request failed")?;
        let status = response.status().as_u16();
        let mut body = response.into_body();
        let mut answer = Answer { status, bytes: 0, body: Vec::new() };
        let mut expected = match sink {
            Sink::Compare(bytes) if status < 300 => Some(bytes.clone()),
            Sink::Compare(_) | Sink::Count | Sink::Keep => None,
        };
        let keep = status >= 300 || matches!(sink, Sink::Keep);
        while let Some(frame) = body.frame().await {
            let frame = frame.context("the body broke off")?;
            let Some(data) = frame.data_ref() else { continue };
            answer.bytes += data.len() as u64;
            if keep && answer.body.len() + data.len() <= KEPT_BODY_BYTES_MAX {
                answer.body.extend_from_slice(data);
            }
            if let Some(rest) = expected.as_mut() {
                ensure!(rest.starts_with(data), "wrong bytes before {}", answer.bytes);
                rest.advance(data.len());
            }
        }
        if expected.is_some_and(|rest| !rest.is_empty()) {
            bail!("the body ended after {} bytes", answer.bytes);
        }
        self.sender = Some(sender);
        Ok(answer)
    }

    fn request(&self, call: Call) -> Result<Request<Full<Bytes>>> {
        let payload_hash = call.payload_hash.to_str()?;
        let signature = self.signer.sign(&Signable {
            method: call.method.as_str(),
            path: &call.path,
            query: &call.query,
            payload_hash,
        })?;
        let target =
            if call.query.is_empty() { call.path } else { format!("{}?{}", call.path, call.query) };
        let request = Request::builder()
            .method(call.method)
            .uri(target)
            .header(header::HOST, self.endpoint.host.clone())
            .header("x-amz-date", signature.date)
            .header("x-amz-content-sha256", call.payload_hash)
            .header(header::AUTHORIZATION, signature.authorization)
            .body(Full::new(call.body))?;
        Ok(request)
    }

    /// The open connection, which the caller puts back when its answer was read to the end.
    async fn connected(&mut self) -> Result<SendRequest<Full<Bytes>>> {
        if let Some(mut sender) = self.sender.take()
            && sender.ready().await.is_ok()
        {
            return Ok(sender);
        }
        let stream = TcpStream::connect(&self.endpoint.authority).await.context("connecting")?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends by itself when its sender is dropped; its error reaches the sender too.
        tokio::task::spawn_local(connection);
        Ok(sender)
    }
}
