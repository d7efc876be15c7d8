//! The aws-chunked framing: AWS's published examples, and random pieces.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;
use s3::S3ErrorCode;
use s3::chunked::{ChunkedDecoder, Trailers};
use s3::sigv4::PayloadMode;

use crate::signatures::{NOW, Request, authorization};

/// The published upload of 66560 bytes in chunks of 64 KiB.
fn published_upload() -> Request {
    let signature = authorization(
        "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class",
        "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
    );
    Request::new(
        "PUT",
        "/examplebucket/chunkObject.txt",
        &[
            ("host", "s3.amazonaws.com"),
            ("x-amz-date", "20130524T000000Z"),
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
            ("authorization", &signature),
            ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
            ("content-encoding", "aws-chunked"),
            ("x-amz-decoded-content-length", "66560"),
            ("content-length", "66824"),
        ],
    )
}

fn published_body() -> Vec<u8> {
    let mut body = b"10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n".to_vec();
    body.extend(vec![b'a'; 65_536]);
    body.extend(b"\r\n400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n");
    body.extend([b'a'; 1024]);
    body.extend(b"\r\n0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n");
    body
}

fn decode(
    payload: &PayloadMode,
    headers: &HeaderMap,
    pieces: impl IntoIterator<Item = Vec<u8>>,
) -> Result<(Vec<u8>, Trailers), (S3ErrorCode, Vec<u8>)> {
    let mut decoder = ChunkedDecoder::for_body(payload, headers)
        .map_err(|error| (error.code, vec![]))?
        .expect("a chunked mode");
    let mut out = Vec::new();
    for piece in pieces {
        let pushed = decoder.push(Bytes::from(piece));
        while let Some(bytes) = decoder.pop() {
            out.extend_from_slice(&bytes);
        }
        pushed.map_err(|error| (error.code, out.clone()))?;
    }
    decoder.finish().map(|trailers| (out.clone(), trailers)).map_err(|error| (error.code, out))
}

fn published(body: &[u8], piece_bytes: usize) -> Result<usize, (S3ErrorCode, usize)> {
    let request = published_upload();
    let signed = request.verify_at(NOW).expect("verified").expect("signed");
    let pieces = body.chunks(piece_bytes).map(<[u8]>::to_vec);
    decode(&signed.payload, &request.headers, pieces)
        .map(|(bytes, _)| bytes.len())
        .map_err(|(code, bytes)| (code, bytes.len()))
}

#[test]
fn published_chunked_upload() {
    let body = published_body();
    assert_eq!(body.len(), 66_824);
    for piece_bytes in [1, 7, 100, 4096, 65_536, 1 << 20] {
        assert_eq!(published(&body, piece_bytes), Ok(66_560), "{piece_bytes}");
    }
}

#[test]
fn a_changed_byte_lets_nothing_of_its_chunk_out() {
    let check = |at: usize, expected: (S3ErrorCode, usize)| {
        let mut body = published_body();
        body[at] ^= 1;
        assert_eq!(published(&body, 999), Err(expected), "{at}");
    };
    use S3ErrorCode::{IncompleteBody, SignatureDoesNotMatch};
    check(200, (SignatureDoesNotMatch, 0));
    check(65_000, (SignatureDoesNotMatch, 0));
    check(30, (SignatureDoesNotMatch, 0));
    check(0, (SignatureDoesNotMatch, 0));
    check(5, (IncompleteBody, 0));
    check(66_000, (SignatureDoesNotMatch, 65_536));
    check(66_819, (SignatureDoesNotMatch, 66_560));
    check(66_820, (IncompleteBody, 66_560));
}

#[test]
fn a_body_that_ends_early_is_incomplete() {
    let body = published_body();
    for end in [0, 1, 85, 100, 65_000, 65_625, 65_700, 66_700, 66_740, 66_820, 66_822, 66_823] {
        let (code, _) = published(&body[..end], 4096).expect_err("incomplete");
        assert_eq!(code, S3ErrorCode::IncompleteBody, "{end}");
    }
    let mut longer = body;
    longer.push(b'x');
    assert_eq!(published(&longer, 4096).expect_err("too long").0, S3ErrorCode::IncompleteBody);
}

/// The published example with a trailing checksum.
#[test]
fn published_upload_with_trailer() {
    let signature = authorization(
        "content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class;x-amz-trailer",
        "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
    );
    let request = Request::new(
        "PUT",
        "/examplebucket/chunkObject.txt",
        &[
            ("host", "s3.amazonaws.com"),
            ("x-amz-date", "20130524T000000Z"),
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
            ("authorization", &signature),
            ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"),
            ("content-encoding", "aws-chunked"),
            ("x-amz-decoded-content-length", "66560"),
            ("x-amz-trailer", "x-amz-checksum-crc32c"),
        ],
    );
    let signed = request.verify_at(NOW).expect("verified").expect("signed");
    let body = |end: &str| {
        let mut body = b"10000;chunk-signature=b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2\r\n".to_vec();
        body.extend(vec![b'a'; 65_536]);
        body.extend(b"\r\n400;chunk-signature=1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7\r\n");
        body.extend([b'a'; 1024]);
        body.extend(b"\r\n0;chunk-signature=2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992\r\n");
        body.extend(end.as_bytes());
        body
    };
    let run = |end: &str| {
        decode(&signed.payload, &request.headers, [body(end)])
            .map(|(bytes, trailers)| {
                assert_eq!(bytes.len(), 66_560);
                trailers
                    .into_iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect::<Vec<_>>()
            })
            .map_err(|(code, _)| code)
    };
    let trailer = "x-amz-checksum-crc32c:sOO8/Q==";
    let signature =
        "x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435";
    let expected = Ok(vec!["x-amz-checksum-crc32c=sOO8/Q==".to_owned()]);
    assert_eq!(run(&format!("{trailer}\r\n{signature}\r\n\r\n")), expected);
    assert_eq!(run(&format!("{trailer}\n\r\n{signature}\r\n\r\n")), expected);
    use S3ErrorCode::{IncompleteBody, MalformedTrailerError, SignatureDoesNotMatch};
    assert_eq!(run(&format!("{trailer}\r\n\r\n")), Err(MalformedTrailerError));
    assert_eq!(run(&format!("{trailer}\r\n{signature}\r\n")), Err(IncompleteBody));
    assert_eq!(
        run(&format!("x-amz-checksum-crc32c:sOO8/A==\r\n{signature}\r\n\r\n")),
        Err(SignatureDoesNotMatch)
    );
    assert_eq!(
        run(&format!("{trailer}\r\n{trailer}\r\n{signature}\r\n\r\n")),
        Err(MalformedTrailerError)
    );
    assert_eq!(
        run(&format!("x-amz-checksum-crc32:AAAAAA==\r\n{signature}\r\n\r\n")),
        Err(MalformedTrailerError)
    );
    assert_eq!(run(&format!("{signature}\r\n{trailer}\r\n\r\n")), Err(MalformedTrailerError));
    assert_eq!(run(&format!("nonsense\r\n{signature}\r\n\r\n")), Err(MalformedTrailerError));
}

fn unsigned(length: &str, body: &[u8]) -> Result<(Vec<u8>, usize), S3ErrorCode> {
    let mut headers = HeaderMap::new();
    headers.insert("x-amz-trailer", HeaderValue::from_static("x-amz-checksum-crc32"));
    if !length.is_empty() {
        headers.insert(
            "x-amz-decoded-content-length",
            HeaderValue::from_str(length).expect("a value"),
        );
    }
    decode(&PayloadMode::StreamingUnsignedTrailer, &headers, [body.to_vec()])
        .map(|(bytes, trailers)| (bytes, trailers.len()))
        .map_err(|(code, _)| code)
}

#[test]
fn unsigned_chunks() {
    use S3ErrorCode::*;
    let check = |length: &str, body: &str, expected: Result<(&str, usize), S3ErrorCode>| {
        let expected = expected.map(|(bytes, trailers)| (bytes.as_bytes().to_vec(), trailers));
        assert_eq!(unsigned(length, body.as_bytes()), expected, "{length} {body:?}");
    };
    check("5", "5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n", Ok(("hello", 1)));
    check("5", "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", Ok(("hello", 0)));
    check("0", "0\r\nX-Amz-Checksum-CRC32: AAAAAA==\r\n\r\n", Ok(("", 1)));
    check("10", "A\r\n0123456789\r\n00000000\r\n\r\n", Ok(("0123456789", 0)));
    check("", "0\r\n\r\n", Err(MissingContentLength));
    check("x", "0\r\n\r\n", Err(InvalidArgument));
    check("-1", "0\r\n\r\n", Err(InvalidArgument));
    check("99999999999999999999", "0\r\n\r\n", Err(InvalidArgument));
    check("5", "", Err(IncompleteBody));
    check("5", "5\r\nhello", Err(IncompleteBody));
    check("5", "5\r\nhello\r\n", Err(IncompleteBody));
    check("5", "5\r\nhello\r\n0\r\n", Err(IncompleteBody));
    check("4", "5\r\nhello\r\n0\r\n\r\n", Err(IncompleteBody));
    check("6", "5\r\nhello\r\n0\r\n\r\n", Err(IncompleteBody));
    check("5", "5\r\nhelloo\r\n0\r\n\r\n", Err(IncompleteBody));
    check("5", "5\nhello\r\n0\r\n\r\n", Err(IncompleteBody));
    check("5", "+5\r\nhello\r\n0\r\n\r\n", Err(IncompleteBody));
    check("5", "\r\nhello\r\n0\r\n\r\n", Err(IncompleteBody));
    check("5", "000000005\r\nhello\r\n0\r\n\r\n", Err(IncompleteBody));
    check("5", "5;ext=1\r\nhello\r\n0\r\n\r\n", Err(IncompleteBody));
    check("5", "5\r\nhello\r\n0\r\n\r\nx", Err(IncompleteBody));
    check("5", "5\r\nhello\r\n0\r\nx-amz-meta-a:1\r\n\r\n", Err(MalformedTrailerError));
    check("5", "5\r\nhello\r\n0\r\nx-amz-trailer-signature:1\r\n\r\n", Err(MalformedTrailerError));
    check("5", &"0".repeat(300), Err(IncompleteBody));
}

#[test]
fn a_signed_chunk_that_is_too_large_is_refused_before_it_is_read() {
    let mut request = published_upload();
    let signed = request.verify_at(NOW).expect("verified").expect("signed");
    request.headers.insert("x-amz-decoded-content-length", HeaderValue::from_static("99999999999"));
    let line = format!("1000001;chunk-signature={}\r\n", "0".repeat(64));
    let outcome = decode(&signed.payload, &request.headers, [line.into_bytes()]);
    assert_eq!(outcome.expect_err("too large").0, S3ErrorCode::InvalidRequest);
}

proptest! {
    #[test]
    fn any_chunks_in_any_pieces_give_the_same_bytes(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..8),
        cuts in prop::collection::vec(1usize..200, 1..20),
    ) {
        let mut body = Vec::new();
        for chunk in &chunks {
            body.extend(format!("{:x}\r\n", chunk.len()).bytes());
            body.extend(chunk);
            body.extend(b"\r\n");
        }
        body.extend(b"0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n");
        let whole = chunks.concat();
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-trailer", HeaderValue::from_static("x-amz-checksum-crc32"));
        headers.insert("x-amz-decoded-content-length", HeaderValue::from(whole.len()));
        let mut pieces = Vec::new();
        let mut rest = body.as_slice();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, more) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece.to_vec());
            rest = more;
        }
        let (bytes, trailers) = decode(&PayloadMode::StreamingUnsignedTrailer, &headers, pieces).expect("decoded");
        prop_assert_eq!(bytes, whole);
        prop_assert_eq!(trailers.len(), 1);
    }

    #[test]
    fn no_body_panics(body: Vec<u8>, framed in "[0-9a-f;\r\n:x-]{0,80}") {
        let _ = unsigned("5", &body);
        let _ = unsigned("5", framed.as_bytes());
    }
}
