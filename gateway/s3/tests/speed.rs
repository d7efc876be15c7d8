//! How long verification takes; printed with `cargo test --release -p s3 -- --ignored --nocapture`.

use aws_sigv4::http_request::SignatureLocation;
use model::time::Timestamp;
use s3::sigv4::{AuthClaim, RequestParts, SigningKeyCache, parse};

use crate::signatures::{NOW, SECRET, sign_like_the_sdk};

#[test]
#[ignore = "a measurement, not a check"]
#[allow(clippy::disallowed_methods, reason = "a measurement needs the real clock")]
fn verification_of_a_small_request() {
    let request = sign_like_the_sdk(
        "GET",
        "/bucket/some/key?x-id=GetObject",
        &[],
        SignatureLocation::Headers,
    );
    let parts =
        RequestParts { method: &request.method, uri: &request.uri, headers: &request.headers };
    let mut cache = SigningKeyCache::new();
    let rounds = 20_000u32;
    let start = std::time::Instant::now();
    for _ in 0..rounds {
        let Ok(AuthClaim::Header(claim)) = parse(&parts, "us-east-1") else { panic!("a claim") };
        let key = cache.key(claim.access_key(), SECRET, claim.scope());
        claim.verify(&key, &parts, Timestamp::from_seconds(NOW)).expect("verified");
    }
    println!("{:?} per verification", start.elapsed() / rounds);
}
