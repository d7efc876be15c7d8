//! A client that signs its requests and shows every detail of the answers.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use model::time::Timestamp;
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use wire::clock::{Clock, SystemClock};

pub const ACCESS_KEY: &str = "TESTKEY";
pub const SECRET_KEY: &str = "a secret for tests";
pub const REGION: &str = "us-east-1";

/// A request in the making.
pub struct Call {
    address: SocketAddr,
    method: Method,
    target: String,
    pub headers: Vec<(String, String)>,
    body: Bytes,
    payload: Option<String>,
    secret: &'static str,
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("utf-8")
    }

    /// The text of the first element of a name.
    pub fn element(&self, name: &str) -> Option<&str> {
        let (_, rest) = self.text().split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
    }

    /// Asserts an error document with this status and code.
    #[track_caller]
    pub fn is_error(&self, status: u16, code: &str) {
        assert_eq!((self.status.as_u16(), self.element("Code")), (status, Some(code)), "{self:?}");
        assert_eq!(self.element("RequestId"), self.header("x-amz-request-id"));
        assert_eq!(self.header("content-type"), Some("application/xml"));
    }

    /// Asserts a status, and gives the answer back.
    #[track_caller]
    pub fn is(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        self
    }
}

impl Call {
    pub fn new(address: SocketAddr, method: &str, target: &str) -> Self {
        Self {
            address,
            method: method.parse().expect("a method"),
            target: target.to_owned(),
            headers: vec![("host".to_owned(), "localhost".to_owned())],
            body: Bytes::new(),
            payload: None,
            secret: SECRET_KEY,
        }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// What `x-amz-content-sha256` says; without it, the truth.
    pub fn payload(mut self, payload: &str) -> Self {
        self.payload = Some(payload.to_owned());
        self
    }

    pub fn secret(mut self, secret: &'static str) -> Self {
        self.secret = secret;
        self
    }

    /// The headers with the signature, by which chunks are signed too.
    pub fn sign(&self) -> (Vec<(String, String)>, ChunkSigner) {
        let seconds = SystemClock::new().now().as_seconds();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let time = s3::date::basic(Timestamp::from_seconds(seconds));
        let truth = || hex::encode(Sha256::digest(&self.body));
        let payload = self.payload.clone().unwrap_or_else(truth);
        let mut headers = self.headers.clone();
        headers.push(("x-amz-date".to_owned(), time.clone()));
        headers.push(("x-amz-content-sha256".to_owned(), payload.clone()));
        headers.sort();
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        let mut query: Vec<String> = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| if pair.contains('=') { pair.to_owned() } else { format!("{pair}=") })
            .collect();
        query.sort();
        let lines: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
        let canonical = lines.concat();
        let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
        let names = names.join(";");
        let request = format!(
            "{}\n{path}\n{}\n{canonical}\n{names}\n{payload}",
            self.method,
            query.join("&")
        );
        let scope = format!("{}/{REGION}/s3/aws4_request", &time[..8]);
        let digest = hex::encode(Sha256::digest(&request));
        let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{digest}");
        let key = generate_signing_key(self.secret, now, REGION, "s3");
        let signature = calculate_signature(key.as_ref(), to_sign.as_bytes());
        headers.push((
            "authorization".to_owned(),
            format!("AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{scope},SignedHeaders={names},Signature={signature}"),
        ));
        (headers, ChunkSigner { key: key.as_ref().to_vec(), time, scope, previous: signature })
    }

    /// The request as it goes over the wire, without its body.
    pub fn head(&self, extra: &str) -> String {
        let (headers, _) = self.sign();
        let lines: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let lines = lines.concat();
        format!("{} {} HTTP/1.1\r\n{lines}{extra}\r\n", self.method, self.target)
    }

    pub async fn send(self) -> Reply {
        let (headers, _) = self.sign();
        self.send_with(headers).await
    }

    pub async fn send_unsigned(self) -> Reply {
        let headers = self.headers.clone();
        self.send_with(headers).await
    }

    /// Sends the body as signed chunks of `chunk_bytes`; `trailer` is a line of the trailer.
    pub async fn send_chunked(
        mut self,
        chunk_bytes: usize,
        trailer: Option<(&str, &str)>,
        damage: bool,
    ) -> Reply {
        let signed = self.payload.as_deref().is_some_and(|payload| payload.contains("HMAC"));
        self = {
            let length = self.body.len().to_string();
            self.header("x-amz-decoded-content-length", &length)
        };
        if let Some((name, _)) = trailer {
            self = self.header("x-amz-trailer", name);
        }
        let (headers, mut signer) = self.sign();
        let mut framed = Vec::new();
        for chunk in self.body.chunks(chunk_bytes).chain([&[][..]]) {
            let signature = signer.chunk(chunk);
            let extension =
                if signed { format!(";chunk-signature={signature}") } else { String::new() };
            framed.extend(format!("{:x}{extension}\r\n", chunk.len()).into_bytes());
            framed.extend(chunk);
            if !chunk.is_empty() {
                framed.extend(b"\r\n");
            }
        }
        if let Some((name, value)) = trailer {
            framed.extend(format!("{name}:{value}\r\n").into_bytes());
            if signed {
                let signature = signer.trailer(name, value);
                framed.extend(format!("x-amz-trailer-signature:{signature}\r\n").into_bytes());
            }
        }
        framed.extend(b"\r\n");
        if damage {
            let first_line = framed.iter().position(|byte| *byte == b'\n').expect("a line");
            let at = first_line + 10;
            framed[at] ^= 1;
        }
        self.body = framed.into();
        self.send_with(headers).await
    }

    async fn send_with(self, headers: Vec<(String, String)>) -> Reply {
        let stream = TcpStream::connect(self.address).await.expect("connected");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("handshake");
        tokio::spawn(connection);
        let mut request = Request::builder().method(self.method).uri(&self.target);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        // hyper says nothing of a body without bytes.
        request = request.header("content-length", self.body.len());
        let request = request.body(Full::new(self.body)).expect("a request");
        let exchange = async {
            let answer = sender.send_request(request).await.expect("an answer");
            let (parts, body) = answer.into_parts();
            let body = body.collect().await.expect("a whole body").to_bytes();
            Reply { status: parts.status, headers: parts.headers, body }
        };
        tokio::time::timeout(Duration::from_secs(20), exchange).await.expect("no hang")
    }
}

/// Signs chunks, one after the other.
pub struct ChunkSigner {
    key: Vec<u8>,
    time: String,
    scope: String,
    previous: String,
}

impl ChunkSigner {
    fn chunk(&mut self, bytes: &[u8]) -> String {
        let (empty, digest) =
            (hex::encode(Sha256::digest(b"")), hex::encode(Sha256::digest(bytes)));
        self.next("AWS4-HMAC-SHA256-PAYLOAD", &format!("{empty}\n{digest}"))
    }

    fn trailer(&mut self, name: &str, value: &str) -> String {
        let digest = hex::encode(Sha256::digest(format!("{name}:{value}\n")));
        self.next("AWS4-HMAC-SHA256-TRAILER", &digest)
    }

    fn next(&mut self, algorithm: &str, rest: &str) -> String {
        let to_sign =
            format!("{algorithm}\n{}\n{}\n{}\n{rest}", self.time, self.scope, self.previous);
        self.previous = calculate_signature(&self.key, to_sign.as_bytes());
        self.previous.clone()
    }
}
