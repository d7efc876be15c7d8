//! Signatures: AWS's published examples, and requests signed by AWS's own crate.

use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation,
    SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use model::time::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use proptest::prelude::*;
use s3::S3ErrorCode;
use s3::sigv4::{
    AuthClaim, PayloadMode, RequestParts, SignatureForm, Signed, SigningKeyCache, parse,
};

pub(crate) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
pub(crate) const ACCESS_KEY: &str = "AKIAIOSFODNN7EXAMPLE";
pub(crate) const EMPTY_SHA256: &str =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// 2013-05-24T00:00:00Z, the time of all of AWS's examples.
pub(crate) const NOW: u64 = 1_369_353_600;

/// A request to be verified.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
}

impl Request {
    pub(crate) fn new(method: &str, target: &str, headers: &[(&str, &str)]) -> Request {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            map.append(name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        }
        Request {
            method: method.parse().expect("a method"),
            uri: target.parse().expect("a target"),
            headers: map,
        }
    }

    pub(crate) fn verify_at(&self, seconds: u64) -> Result<Option<Signed>, S3ErrorCode> {
        let parts = RequestParts { method: &self.method, uri: &self.uri, headers: &self.headers };
        let claim = match parse(&parts, "us-east-1").map_err(|error| error.code)? {
            AuthClaim::Anonymous => return Ok(None),
            AuthClaim::Header(claim) | AuthClaim::Presigned(claim) => claim,
        };
        let key = SigningKeyCache::new().key(claim.access_key(), SECRET, claim.scope());
        claim
            .verify(&key, &parts, Timestamp::from_seconds(seconds))
            .map(Some)
            .map_err(|error| error.code)
    }

    fn accepted(&self) -> bool {
        matches!(self.verify_at(NOW), Ok(Some(_)))
    }

    fn set(&self, name: &'static str, value: &str) -> Request {
        let mut changed = self.clone();
        changed.headers.insert(name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        changed
    }

    fn without(&self, name: &str) -> Request {
        let mut changed = self.clone();
        changed.headers.remove(name);
        changed
    }

    fn target(&self, target: &str) -> Request {
        Request { uri: target.parse().expect("a target"), ..self.clone() }
    }
}

pub(crate) fn authorization(signed_headers: &str, signature: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20130524/us-east-1/s3/aws4_request,SignedHeaders={signed_headers},Signature={signature}"
    )
}

const HOST: (&str, &str) = ("host", "examplebucket.s3.amazonaws.com");
const DATE: (&str, &str) = ("x-amz-date", "20130524T000000Z");

fn get_object() -> Request {
    let signature = authorization(
        "host;range;x-amz-content-sha256;x-amz-date",
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    );
    Request::new(
        "GET",
        "/test.txt",
        &[
            HOST,
            ("authorization", &signature),
            ("range", "bytes=0-9"),
            ("x-amz-content-sha256", EMPTY_SHA256),
            DATE,
        ],
    )
}

#[test]
fn published_get_object_with_range() {
    let signed = get_object().verify_at(NOW).expect("verified").expect("signed");
    assert_eq!(signed.access_key, ACCESS_KEY);
    assert_eq!(signed.form, SignatureForm::Header);
    assert!(matches!(signed.payload, PayloadMode::Sha256(_)));
}

#[test]
fn published_put_object() {
    let signature = authorization(
        "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    );
    let request = Request::new(
        "PUT",
        "/test%24file.text",
        &[
            HOST,
            DATE,
            ("authorization", &signature),
            ("date", "Fri, 24 May 2013 00:00:00 GMT"),
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
            (
                "x-amz-content-sha256",
                "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
            ),
        ],
    );
    assert!(request.accepted());
    // The same with the dollar bare, as some clients send it.
    assert!(request.target("/test$file.text").accepted());
    assert!(!request.target("/test%2524file.text").accepted());
}

#[test]
fn published_bucket_examples() {
    let check = |target: &str, signature: &str| {
        let signature = authorization("host;x-amz-content-sha256;x-amz-date", signature);
        let request = Request::new(
            "GET",
            target,
            &[HOST, DATE, ("authorization", &signature), ("x-amz-content-sha256", EMPTY_SHA256)],
        );
        assert!(request.accepted(), "{target}");
    };
    check("/?lifecycle", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
    check("/?lifecycle=", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
    check(
        "/?max-keys=2&prefix=J",
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    );
    check(
        "/?prefix=J&max-keys=2",
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    );
}

fn presigned_target(expires: &str) -> String {
    format!(
        "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={ACCESS_KEY}%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires={expires}&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )
}

#[test]
fn published_presigned_get() {
    let request = Request::new("GET", &presigned_target("86400"), &[HOST]);
    let signed = request.verify_at(NOW).expect("verified").expect("signed");
    assert_eq!(signed.form, SignatureForm::Presigned);
    assert!(matches!(signed.payload, PayloadMode::Unsigned));
    assert!(request.verify_at(NOW + 86_400).is_ok());
    assert_eq!(request.verify_at(NOW + 86_401).err(), Some(S3ErrorCode::AccessDenied));
    assert!(request.verify_at(NOW - 900).is_ok());
    assert_eq!(request.verify_at(NOW - 901).err(), Some(S3ErrorCode::AccessDenied));
}

#[test]
fn presigned_refusals() {
    use S3ErrorCode::*;
    let check = |target: &str, headers: &[(&str, &str)], expected| {
        let headers: Vec<_> = [HOST].into_iter().chain(headers.iter().copied()).collect();
        assert_eq!(
            Request::new("GET", target, &headers).verify_at(NOW).err(),
            Some(expected),
            "{target}"
        );
    };
    let good = presigned_target("86400");
    for expires in ["0", "604801", "-1", "x", "", "1.5", "99999999999999999999", "%2B5"] {
        check(&presigned_target(expires), &[], AuthorizationQueryParametersError);
    }
    check(&presigned_target("604800"), &[], SignatureDoesNotMatch);
    check(&format!("{good}&x=y"), &[], SignatureDoesNotMatch);
    check(&format!("{good}&X-Amz-Date=20130524T000000Z"), &[], AuthorizationQueryParametersError);
    check(&format!("{good}&x-amz-signature=1"), &[], AuthorizationQueryParametersError);
    check(&good.replace("us-east-1", "eu-west-1"), &[], AuthorizationQueryParametersError);
    check(&good.replace("%2Fs3%2F", "%2Fec2%2F"), &[], AuthorizationQueryParametersError);
    check(&good.replace("SHA256&", "SHA1&"), &[], AuthorizationQueryParametersError);
    check(
        &good.replace("X-Amz-Date=20130524T", "X-Amz-Date=20130525T"),
        &[],
        AuthorizationQueryParametersError,
    );
    check(
        &good.replace("X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders=range"),
        &[],
        AuthorizationQueryParametersError,
    );
    check(&good.replace("&X-Amz-SignedHeaders=host", ""), &[], AuthorizationQueryParametersError);
    check(&good.replace("aeeed9", "AEEED9"), &[], AuthorizationQueryParametersError);
    check(&good.replace("aeeed9", "aeeed8"), &[], SignatureDoesNotMatch);
    check(&format!("{good}&X-Amz-Security-Token=t"), &[], InvalidToken);
    check(&good, &[("x-amz-acl", "private")], AccessDenied);
    check(&good, &[("authorization", "AWS4-HMAC-SHA256 x")], InvalidArgument);
    check("/k?AWSAccessKeyId=a&Signature=b&Expires=1", &[], InvalidRequest);
    check("/k?X-Amz-Signature=a", &[], AuthorizationQueryParametersError);
}

#[test]
fn header_refusals() {
    use S3ErrorCode::*;
    let good = get_object();
    let check = |request: &Request, expected| {
        assert_eq!(request.verify_at(NOW).err(), Some(expected), "{request:?}");
    };
    let with_authorization = |from: &str, to: &str| {
        let value = good.headers["authorization"].to_str().expect("text").replace(from, to);
        good.set("authorization", &value)
    };
    assert!(with_authorization(",", ", ").accepted());
    check(&with_authorization("f0e8bd", "f0e8bc"), SignatureDoesNotMatch);
    check(&with_authorization("f0e8bd", "F0E8BD"), AuthorizationHeaderMalformed);
    check(&with_authorization("f0e8bd", ""), AuthorizationHeaderMalformed);
    check(&with_authorization("us-east-1", "eu-west-1"), AuthorizationHeaderMalformed);
    check(&with_authorization("/s3/", "/iam/"), AuthorizationHeaderMalformed);
    check(&with_authorization("aws4_request", "aws5_request"), AuthorizationHeaderMalformed);
    check(&with_authorization("20130524", "20130523"), AuthorizationHeaderMalformed);
    check(&with_authorization("/20130524", ""), AuthorizationHeaderMalformed);
    check(&with_authorization("host;range", "range"), AuthorizationHeaderMalformed);
    check(&with_authorization("host;range", "range;host"), AuthorizationHeaderMalformed);
    check(&with_authorization("host;range", "host;host;range"), AuthorizationHeaderMalformed);
    check(&with_authorization("host;range", "Host;range"), AuthorizationHeaderMalformed);
    check(&with_authorization("Signature=", "Signatur="), AuthorizationHeaderMalformed);
    check(
        &with_authorization(",Signature=", ",Credential=x,Signature="),
        AuthorizationHeaderMalformed,
    );
    check(&with_authorization("range;x-amz-content-sha256;", "range;"), AccessDenied);
    check(&with_authorization("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1"), InvalidArgument);
    check(&with_authorization("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), NotImplemented);
    check(&good.set("authorization", "AWS AKIA:sig="), InvalidRequest);
    check(&good.set("authorization", "Bearer x"), InvalidArgument);
    check(&good.set("authorization", "nonsense"), InvalidArgument);
    check(&good.set("range", "bytes=0-8"), SignatureDoesNotMatch);
    check(&good.set("host", "other.s3.amazonaws.com"), SignatureDoesNotMatch);
    check(&good.set("x-amz-acl", "private"), AccessDenied);
    check(&good.set("x-amz-security-token", "t"), InvalidToken);
    check(&good.set("x-amz-content-sha256", "UNSIGNED-PAYLOAD"), SignatureDoesNotMatch);
    check(&good.set("x-amz-content-sha256", "nonsense"), InvalidArgument);
    check(
        &good.set("x-amz-content-sha256", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"),
        NotImplemented,
    );
    check(&good.set("x-amz-date", "20130524"), AccessDenied);
    check(&good.without("x-amz-date"), AccessDenied);
    check(&good.without("x-amz-content-sha256"), InvalidRequest);
    check(&good.without("range"), SignatureDoesNotMatch);
    check(&good.target("/test.txt?acl"), SignatureDoesNotMatch);
    check(&good.target("/Test.txt"), SignatureDoesNotMatch);
    check(&good.target("//test.txt"), SignatureDoesNotMatch);
    check(&good.target("/./test.txt"), SignatureDoesNotMatch);
    check(&Request { method: Method::HEAD, ..good.clone() }, SignatureDoesNotMatch);
    let mut twice = good.clone();
    twice.headers.append("host", HeaderValue::from_static("examplebucket.s3.amazonaws.com"));
    check(&twice, InvalidArgument);
    assert_eq!(good.verify_at(NOW + 901).err(), Some(RequestTimeTooSkewed));
    assert_eq!(good.verify_at(NOW - 901).err(), Some(RequestTimeTooSkewed));
    assert!(good.verify_at(NOW + 900).is_ok());
    assert!(good.without("authorization").verify_at(NOW).expect("anonymous").is_none());
}

/// What S3 leaves unencoded in a path.
const PATH_SET: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');
const QUERY_SET: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

fn target(key: &str, query: &[(String, String)]) -> String {
    let mut target = format!("/bucket/{}", utf8_percent_encode(key, PATH_SET));
    for (number, (name, value)) in query.iter().enumerate() {
        target.push(if number == 0 { '?' } else { '&' });
        target.push_str(&utf8_percent_encode(name, QUERY_SET).to_string());
        target.push('=');
        target.push_str(&utf8_percent_encode(value, QUERY_SET).to_string());
    }
    target
}

/// Signs with AWS's crate, as AWS's SDK does for S3.
pub(crate) fn sign_like_the_sdk(
    method: &str,
    target: &str,
    headers: &[(String, String)],
    location: SignatureLocation,
) -> Request {
    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    settings.signature_location = location;
    let body = match location {
        SignatureLocation::QueryParams => {
            settings.expires_in = Some(Duration::from_mins(15));
            settings.payload_checksum_kind = PayloadChecksumKind::NoHeader;
            SignableBody::UnsignedPayload
        }
        _ => SignableBody::Bytes(b"body"),
    };
    let identity = Credentials::for_tests_with(ACCESS_KEY, SECRET).into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region("us-east-1")
        .name("s3")
        .time(UNIX_EPOCH + Duration::from_secs(NOW))
        .settings(settings)
        .build()
        .expect("parameters")
        .into();
    let mut all = vec![("host".to_owned(), "localhost:9000".to_owned())];
    all.extend(headers.iter().cloned());
    let uri = format!("http://localhost:9000{target}");
    let pairs = all.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let signable = SignableRequest::new(method, uri.clone(), pairs, body).expect("signable");
    let (instructions, _signature) = sign(signable, &params).expect("signed").into_parts();
    let mut request =
        http::Request::builder().method(method).uri(&uri).body(()).expect("a request");
    for (name, value) in &all {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
        request
            .headers_mut()
            .append(name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
    }
    instructions.apply_to_request_http1x(&mut request);
    let (parts, ()) = request.into_parts();
    let target = parts.uri.path_and_query().expect("a target").as_str().parse().expect("a target");
    Request { method: parts.method, uri: target, headers: parts.headers }
}

trait ForTests {
    fn for_tests_with(access_key: &str, secret: &str) -> Credentials;
}

impl ForTests for Credentials {
    fn for_tests_with(access_key: &str, secret: &str) -> Credentials {
        Credentials::new(access_key, secret, None, None, "test")
    }
}

fn location() -> impl Strategy<Value = SignatureLocation> {
    prop_oneof![Just(SignatureLocation::Headers), Just(SignatureLocation::QueryParams)]
}

fn metadata() -> impl Strategy<Value = Vec<(String, String)>> {
    let values = "[!-~][ -~]{0,20}[!-~]";
    prop::collection::btree_map("x-amz-meta-[a-z0-9-]{1,8}", values, 0..4)
        .prop_map(|map| map.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_the_sdk_signs_is_accepted_and_nothing_else(
        method in "GET|PUT|POST|DELETE|HEAD",
        key in "\\PC{0,12}(/|\\.\\.|//| |%|\\+)?\\PC{0,12}",
        query in prop::collection::btree_map("[a-z~ /+%é-]{1,8}", "\\PC{0,8}", 0..4),
        headers in metadata(),
        location in location(),
        flip in any::<prop::sample::Index>(),
    ) {
        let query: Vec<_> = query.into_iter().collect();
        let request = sign_like_the_sdk(&method, &target(&key, &query), &headers, location);
        let verified = request.verify_at(NOW);
        prop_assert!(matches!(verified, Ok(Some(_))), "{verified:?} {request:?}");

        // Any other method, path, query or header value must not pass.
        let other = if method == "PUT" { Method::POST } else { Method::PUT };
        let changed = Request { method: other, ..request.clone() };
        prop_assert!(!changed.accepted());
        let text = request.uri.to_string();
        let longer = text.replacen("/bucket/", "/bucket/x", 1);
        prop_assert!(!request.target(&longer).accepted());
        let separator = if text.contains('?') { '&' } else { '?' };
        let more = format!("{text}{separator}acl");
        prop_assert!(!request.target(&more).accepted());
        let bytes = text.as_bytes();
        let at = flip.index(bytes.len());
        if bytes[at].is_ascii_lowercase() && bytes[at] != b'z' {
            let mut bytes = bytes.to_vec();
            bytes[at] += 1;
            if let Some(changed) = std::str::from_utf8(&bytes).ok().and_then(|text| text.parse::<Uri>().ok()) {
                let changed = Request { uri: changed, ..request.clone() };
                // %5a and %5A are the same byte; everything else differs.
                prop_assert!(!changed.accepted() || bytes[at.saturating_sub(2)..at].contains(&b'%'), "{changed:?}");
            }
        }
        for (name, value) in &headers {
            let mut changed = request.clone();
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            changed.headers.insert(name, HeaderValue::from_str(&format!("{value}x")).expect("a value"));
            prop_assert!(!changed.accepted());
        }
    }

    #[test]
    fn no_authorization_panics(value in "[ -~]{0,200}", query in "[!-~&&[^#]]{0,100}") {
        let mut request = get_object().set("authorization", &value);
        let _ = request.verify_at(NOW);
        let fields = format!("AWS4-HMAC-SHA256 {value}");
        let _ = request.set("authorization", &fields).verify_at(NOW);
        request.headers.remove("authorization");
        if let Ok(uri) = format!("/k?X-Amz-Signature={query}").parse() {
            request.uri = uri;
            let _ = request.verify_at(NOW);
        }
    }
}
