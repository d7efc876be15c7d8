//! The head of an S3 request: its target, the `Authorization` header, and the signature in either
//! place.
//!
//! Lines of the input are the target, the value of `Authorization`, the date and the payload's hash.
//! Nothing panics, and a signature that nobody made never verifies.

#![no_main]

use http::{HeaderMap, HeaderValue, Method, Uri};
use libfuzzer_sys::fuzz_target;
use model::time::Timestamp;
use s3::range::RangeRequest;
use s3::route;
use s3::sigv4::{self, RequestParts};

const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

fuzz_target!(|data: &[u8]| {
    let mut lines = data.split(|byte| *byte == b'\n');
    let mut next = || lines.next().unwrap_or_default();
    let Ok(uri) = Uri::try_from(next()) else { return };
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static("localhost"));
    for name in ["authorization", "x-amz-date", "x-amz-content-sha256", "range"] {
        let value = next();
        if let Ok(value) = HeaderValue::from_bytes(value)
            && !value.is_empty()
        {
            headers.insert(name, value);
        }
    }
    let addressing = route::Addressing { domains: vec!["localhost".to_owned()] };
    let _ = route::route(&Method::GET, &uri, &headers, &addressing);
    if let Some(text) = headers.get("range").and_then(|value| value.to_str().ok()) {
        let _ = RangeRequest::parse(text).map(|range| range.resolve(1 << 40));
    }
    let parts = RequestParts { method: &Method::GET, uri: &uri, headers: &headers };
    if let Ok(auth) = sigv4::parse(&parts, "us-east-1")
        && let Some(claim) = auth.claim()
    {
        let key = sigv4::SigningKey::derive("secret", claim.scope());
        assert!(claim.verify(&key, &parts, NOW).is_err(), "nobody signed it");
    }
});
