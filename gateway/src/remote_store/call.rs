//! A call to S3, and its signature.
//!
//! In: what is asked. Out: a request in the path style, signed with AWS Signature Version 4. What
//! always holds: the signature covers the body's SHA-256, so that the other end takes no other bytes.

use std::time::{Duration, SystemTime};

use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::Full;
use model::time::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3::date;
use sha2::{Digest as _, Sha256};

use crate::auth::Secret;

/// What a signature leaves as it is.
const QUERY_SET: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The same in a path, where slashes separate.
const PATH_SET: &AsciiSet = &QUERY_SET.remove(b'/');

/// What is asked of S3.
#[derive(Clone, Debug)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// The object's key; empty for the bucket.
    pub key: String,
    /// The query, in any order, not encoded.
    pub query: Vec<(&'static str, String)>,
    /// Headers besides those of every request, in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Bytes,
}

impl Call {
    /// Of the bucket or an object in it, without a body.
    pub fn new(method: Method, key: &str) -> Self {
        let (query, headers) = (Vec::new(), Vec::new());
        Self { method, key: key.to_owned(), query, headers, body: Bytes::new() }
    }

    /// With a parameter.
    pub fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// With a header.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// With a body.
    pub fn body(mut self, body: Bytes) -> Self {
        self.body = body;
        self
    }
}

/// Who signs, and for what.
pub struct Signer {
    /// The access key.
    pub access_key: String,
    /// The secret key.
    pub secret_key: Secret,
    /// The region.
    pub region: String,
    /// The bucket.
    pub bucket: String,
}

impl Signer {
    /// The request to send to the host.
    pub fn sign(
        &self,
        call: &Call,
        host: &str,
        now: Timestamp,
    ) -> Result<Request<Full<Bytes>>, http::Error> {
        let time = date::basic(now);
        let day = time.get(..8).unwrap_or_default();
        let payload = hex(&Sha256::digest(&call.body));
        let path = format!("/{}/{}", self.bucket, call.key);
        let path = utf8_percent_encode(&path, PATH_SET).to_string();
        let query = canonical_query(&call.query);

        let mut headers: Vec<(&str, &str)> =
            call.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        headers.push((header::HOST.as_str(), host));
        headers.push(("x-amz-content-sha256", &payload));
        headers.push(("x-amz-date", &time));
        headers.sort_unstable();
        let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let lines: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
        let lines = lines.concat();

        let canonical = format!("{}\n{path}\n{query}\n{lines}\n{names}\n{payload}", call.method);
        let scope = format!("{day}/{}/s3/aws4_request", self.region);
        let digest = hex(&Sha256::digest(&canonical));
        let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{digest}");
        let when = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_seconds());
        let key = generate_signing_key(self.secret_key.expose(), when, &self.region, "s3");
        let signature = calculate_signature(key, to_sign.as_bytes());

        let target = if query.is_empty() { path } else { format!("{path}?{query}") };
        let mut request = Request::builder().method(call.method.clone()).uri(target);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if matches!(call.method, Method::PUT | Method::POST) {
            // Also of nothing: there are endpoints that insist.
            request = request.header(header::CONTENT_LENGTH, call.body.len());
        }
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope},SignedHeaders={names},Signature={signature}",
            self.access_key
        );
        request.header(header::AUTHORIZATION, authorization).body(Full::new(call.body.clone()))
    }
}

fn canonical_query(query: &[(&'static str, String)]) -> String {
    let encode = |text: &str| utf8_percent_encode(text, QUERY_SET).to_string();
    let mut pairs: Vec<(String, String)> =
        query.iter().map(|(name, value)| (encode(name), encode(value))).collect();
    pairs.sort_unstable();
    let pairs: Vec<String> =
        pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String can't fail.
        let _infallible = write!(out, "{byte:02x}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The signature was calculated apart, by the steps of the S3 documentation.
    #[test]
    fn a_signature_is_pinned() {
        let signer = Signer {
            access_key: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret_key: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned()),
            region: "us-east-1".to_owned(),
            bucket: "bucket".to_owned(),
        };
        let call = Call::new(Method::GET, "a b/c+d")
            .query("prefix", "x/y z")
            .query("list-type", "2")
            .header("x-amz-meta-a", " spaced ");
        let now = Timestamp::from_seconds(1_369_353_600);
        let request = signer.sign(&call, "localhost:9000", now).expect("made");
        assert_eq!(request.uri(), "/bucket/a%20b/c%2Bd?list-type=2&prefix=x%2Fy%20z");
        assert_eq!(request.headers()["x-amz-date"], "20130524T000000Z");
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(request.headers()["x-amz-content-sha256"], empty);
        let authorization = request.headers()["authorization"].to_str().expect("text");
        let (scope, signature) = authorization.split_once(",Signature=").expect("signed");
        assert_eq!(
            scope,
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
             SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-meta-a"
        );
        assert_eq!(signature, "5b8e0dc294b26296c6dd2d6f0aafd4c01705367556502971572bfbc2b05313bd");
        assert!(!authorization.contains("wJalr"));
        let other = signer.sign(&call.body(Bytes::from_static(b"x")), "localhost:9000", now);
        let other = other.expect("made").headers()["authorization"].clone();
        assert_ne!(other, authorization);
    }
}
