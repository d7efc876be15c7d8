//! Bodies of S3 requests: XML documents, and the `aws-chunked` framing in pieces of any size.
//!
//! Nothing panics; what the framing gives out is no more than was announced.

#![no_main]

use bytes::Bytes;
use http::HeaderMap;
use libfuzzer_sys::fuzz_target;
use s3::chunked::ChunkedDecoder;
use s3::sigv4::PayloadMode;
use s3::xml;

fn documents(body: &[u8]) {
    let _ = xml::complete::parse(body);
    let _ = xml::delete::DeleteRequest::parse(body);
    let _ = xml::buckets::check_create_bucket(body, "us-east-1");
}

fuzz_target!(|data: &[u8]| {
    documents(data);
    let Some((first, body)) = data.split_first() else { return };
    let announced = u64::from(first & 0x7f);
    let mut headers = HeaderMap::new();
    headers.insert("x-amz-decoded-content-length", announced.into());
    headers.insert("content-encoding", http::HeaderValue::from_static("aws-chunked"));
    headers.insert("x-amz-trailer", http::HeaderValue::from_static("x-amz-checksum-crc32"));
    let mode = PayloadMode::StreamingUnsignedTrailer;
    let Ok(Some(mut decoder)) = ChunkedDecoder::for_body(&mode, &headers) else { return };
    let step = if first & 0x80 == 0 { 1 } else { 1000 };
    let mut given = 0;
    for piece in body.chunks(step) {
        if decoder.push(Bytes::copy_from_slice(piece)).is_err() {
            return;
        }
        while let Some(bytes) = decoder.pop() {
            given += bytes.len() as u64;
        }
    }
    if decoder.finish().is_ok() {
        assert_eq!(given, announced);
    }
});
