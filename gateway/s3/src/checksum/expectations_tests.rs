//! What a body must have, case by case.

use super::*;
use http::HeaderValue;

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, HeaderValue::from_str(value).expect("a value"));
    }
    headers
}

/// Reads the expectations, and compares a body of "123456789" with them.
fn outcome(
    pairs: &[(&'static str, &str)],
    payload: &PayloadMode,
    trailers: &[(HeaderName, String)],
) -> Result<(), S3ErrorCode> {
    let expectations = Expectations::parse(&headers(pairs), payload).map_err(|error| error.code)?;
    let mut digests = expectations.digests();
    digests.update(b"123456789");
    expectations.verify(&digests.finish(), trailers).map_err(|error| error.code)
}

#[test]
fn header_values() {
    use S3ErrorCode::*;
    let check = |pairs: &[(&'static str, &str)], expected| {
        assert_eq!(outcome(pairs, &PayloadMode::Unsigned, &[]), expected, "{pairs:?}");
    };
    check(&[], Ok(()));
    check(&[("content-md5", "JfnnlDI7RTiF9RgfG2JNCw==")], Ok(()));
    check(&[("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==")], Err(BadDigest));
    check(&[("content-md5", "JfnnlDI7RTiF9RgfG2JN")], Err(InvalidDigest));
    check(&[("content-md5", "not base64")], Err(InvalidDigest));
    check(&[("content-md5", "")], Err(InvalidDigest));
    check(&[("x-amz-checksum-crc32", "y/Q5Jg==")], Ok(()));
    check(&[("x-amz-checksum-crc32", "AAAAAA==")], Err(BadDigest));
    check(&[("x-amz-checksum-crc32", "AAAA")], Err(InvalidRequest));
    check(&[("x-amz-checksum-crc32", "?")], Err(InvalidRequest));
    check(&[("x-amz-checksum-crc32c", "4waSgw==")], Ok(()));
    check(&[("x-amz-checksum-crc64nvme", "rosUhgp5mIg=")], Ok(()));
    check(&[("x-amz-checksum-xxhash", "AAAA")], Err(NotImplemented));
    check(
        &[("x-amz-checksum-crc32", "y/Q5Jg=="), ("x-amz-checksum-crc32c", "4waSgw==")],
        Err(InvalidRequest),
    );
    check(
        &[("x-amz-checksum-crc32", "y/Q5Jg=="), ("x-amz-sdk-checksum-algorithm", "CRC32")],
        Ok(()),
    );
    check(
        &[("x-amz-checksum-crc32", "y/Q5Jg=="), ("x-amz-sdk-checksum-algorithm", "SHA1")],
        Err(InvalidRequest),
    );
    check(&[("x-amz-sdk-checksum-algorithm", "CRC32")], Err(InvalidRequest));
    check(&[("x-amz-sdk-checksum-algorithm", "MD4")], Err(InvalidRequest));
    check(&[("x-amz-trailer", "x-amz-checksum-crc32")], Err(InvalidRequest));
    check(&[("x-amz-checksum-algorithm", "CRC32"), ("x-amz-checksum-mode", "ENABLED")], Ok(()));
}

#[test]
fn signed_payloads() {
    let digest = |text: &str| {
        let mut digest = [0; 32];
        hex::decode_to_slice(text, &mut digest).expect("hex");
        PayloadMode::Sha256(digest)
    };
    let right = digest("15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225");
    assert_eq!(outcome(&[], &right, &[]), Ok(()));
    let sha256 = [("x-amz-checksum-sha256", "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=")];
    assert_eq!(outcome(&sha256, &right, &[]), Ok(()));
    let wrong = PayloadMode::Sha256([0; 32]);
    assert_eq!(outcome(&sha256, &wrong, &[]), Err(S3ErrorCode::XAmzContentSHA256Mismatch));
}

#[test]
fn trailers() {
    let check = |announced: &str, given: Option<(&'static str, &str)>, expected| {
        let trailers: Vec<_> = given
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), (*value).to_owned()))
            .collect();
        let found = outcome(
            &[("x-amz-trailer", announced)],
            &PayloadMode::StreamingUnsignedTrailer,
            &trailers,
        );
        assert_eq!(found, expected, "{announced} {given:?}");
    };
    use S3ErrorCode::*;
    check("x-amz-checksum-crc32", Some(("x-amz-checksum-crc32", "y/Q5Jg==")), Ok(()));
    check("X-Amz-Checksum-CRC32", Some(("x-amz-checksum-crc32", "y/Q5Jg==")), Ok(()));
    check("x-amz-checksum-crc32", Some(("x-amz-checksum-crc32", "AAAAAA==")), Err(BadDigest));
    check("x-amz-checksum-crc32", Some(("x-amz-checksum-crc32", "AA")), Err(InvalidRequest));
    check("x-amz-checksum-crc32", None, Err(MalformedTrailerError));
    check("x-amz-meta-a", None, Err(InvalidRequest));
    check("x-amz-checksum-crc32,x-amz-checksum-sha1", None, Err(InvalidRequest));
}

#[test]
fn uploads() {
    use ChecksumAlgorithm::*;
    use ChecksumKind::*;
    let check =
        |pairs: &[(&'static str, &str)],
         expected: Result<Option<(ChecksumAlgorithm, ChecksumKind)>, S3ErrorCode>| {
            let found = upload_checksum(&headers(pairs));
            let found =
                found.map(|found| found.map(|checksum| (checksum.algorithm, checksum.kind)));
            assert_eq!(found.map_err(|error| error.code), expected, "{pairs:?}");
        };
    check(&[], Ok(None));
    check(&[("x-amz-checksum-algorithm", "CRC32")], Ok(Some((Crc32, Composite))));
    check(&[("x-amz-checksum-algorithm", "CRC64NVME")], Ok(Some((Crc64Nvme, FullObject))));
    check(
        &[("x-amz-checksum-algorithm", "CRC32C"), ("x-amz-checksum-type", "FULL_OBJECT")],
        Ok(Some((Crc32c, FullObject))),
    );
    check(
        &[("x-amz-checksum-algorithm", "SHA256"), ("x-amz-checksum-type", "FULL_OBJECT")],
        Err(S3ErrorCode::InvalidRequest),
    );
    check(
        &[("x-amz-checksum-algorithm", "CRC64NVME"), ("x-amz-checksum-type", "COMPOSITE")],
        Err(S3ErrorCode::InvalidRequest),
    );
    check(&[("x-amz-checksum-algorithm", "MD5")], Err(S3ErrorCode::InvalidRequest));
    check(&[("x-amz-checksum-type", "COMPOSITE")], Err(S3ErrorCode::InvalidRequest));
}

#[test]
fn a_part_must_use_the_algorithm_of_its_upload() {
    let mut plain =
        Expectations::parse(&HeaderMap::new(), &PayloadMode::Unsigned).expect("expectations");
    plain.compute(ChecksumAlgorithm::Sha1).expect("nothing given");
    assert!(plain.digests().finish().checksum.is_some());
    let given = headers(&[("x-amz-checksum-crc32", "y/Q5Jg==")]);
    let mut given = Expectations::parse(&given, &PayloadMode::Unsigned).expect("expectations");
    assert!(given.compute(ChecksumAlgorithm::Crc32).is_ok());
    assert!(given.compute(ChecksumAlgorithm::Sha1).is_err());
}

#[test]
fn completion() {
    let found = StoredChecksum {
        algorithm: ChecksumAlgorithm::Crc32,
        kind: ChecksumKind::Composite,
        digest: vec![0; 4],
    };
    let check = |pairs: &[(&'static str, &str)], expected: Result<(), S3ErrorCode>| {
        let outcome = CompleteExpectations::parse(&headers(pairs))
            .and_then(|expectations| expectations.verify(2, 9, Some(&found)));
        assert_eq!(outcome.map_err(|error| error.code), expected, "{pairs:?}");
    };
    use S3ErrorCode::*;
    check(&[], Ok(()));
    check(
        &[
            ("x-amz-checksum-crc32", "AAAAAA==-2"),
            ("x-amz-checksum-type", "COMPOSITE"),
            ("x-amz-mp-object-size", "9"),
        ],
        Ok(()),
    );
    check(&[("x-amz-checksum-crc32", "AAAAAA==")], Ok(()));
    check(&[("x-amz-checksum-crc32", "AAAAAA==-3")], Err(BadDigest));
    check(&[("x-amz-checksum-crc32", "AAAAAQ==")], Err(BadDigest));
    check(&[("x-amz-checksum-crc32c", "AAAAAA==")], Err(BadDigest));
    check(&[("x-amz-checksum-type", "FULL_OBJECT")], Err(InvalidRequest));
    check(&[("x-amz-mp-object-size", "8")], Err(InvalidRequest));
    check(&[("x-amz-mp-object-size", "x")], Err(InvalidArgument));
}
