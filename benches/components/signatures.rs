//! SigV4: parsing and verifying a small request with a cached signing key. The request is the
//! first example of
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>.

use anyhow::{Result, anyhow};
use http::{HeaderMap, HeaderValue, Method, Uri};
use model::time::Timestamp;
use s3::sigv4::{AuthClaim, RequestParts, SigningKeyCache, parse};

use crate::meter::Meter;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const NOW: Timestamp = Timestamp::from_seconds(1_369_353_600);
const ROUNDS: u64 = 50_000;

/// Measures verification.
pub fn measure() -> Result<()> {
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static("examplebucket.s3.amazonaws.com"));
    headers.insert("range", HeaderValue::from_static("bytes=0-9"));
    headers.insert("x-amz-date", HeaderValue::from_static("20130524T000000Z"));
    headers.insert(
        "x-amz-content-sha256",
        HeaderValue::from_static(
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ),
    );
    headers.insert("authorization", HeaderValue::from_static("AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"));
    let (method, uri) = (Method::GET, Uri::from_static("/test.txt"));
    let parts = RequestParts { method: &method, uri: &uri, headers: &headers };
    let refused = |error: s3::S3Error| anyhow!("{error:?}");
    let mut cache = SigningKeyCache::new();
    let meter = Meter::start();
    for _ in 0..ROUNDS {
        let AuthClaim::Header(claim) = parse(&parts, "us-east-1").map_err(refused)? else {
            return Err(anyhow!("the example carries a signature"));
        };
        let key = cache.key(claim.access_key(), SECRET, claim.scope());
        claim.verify(&key, &parts, NOW).map_err(refused)?;
    }
    meter.print("signatures/verify", ROUNDS, 0);
    Ok(())
}
