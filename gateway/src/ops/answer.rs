//! The answers that operations give, and the headers that several of them share.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use model::checksum::StoredChecksum;
use model::time::Timestamp;
use model::version::ETag;
use s3::checksum::{header_name, kind_name, value_text};

use crate::http::response::ResponseBody;

/// An answer of an operation, without what all answers have.
pub type Answer = Response<ResponseBody>;

/// `x-amz-checksum-type`.
const CHECKSUM_TYPE: HeaderName = HeaderName::from_static("x-amz-checksum-type");

/// A status and no body.
pub fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(ResponseBody::empty());
    *answer.status_mut() = status;
    answer
}

/// 200 with a document.
pub fn document(xml: Bytes) -> Answer {
    let mut answer = Response::new(ResponseBody::whole(xml));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    answer
}

/// Sets a header whose value is ours; one that can't be sent is left out.
pub fn set(headers: &mut HeaderMap, name: HeaderName, value: impl Into<String>) {
    if let Ok(value) = HeaderValue::try_from(value.into()) {
        headers.insert(name, value);
    }
}

/// An entity tag as it is in a header.
pub fn quoted(etag: ETag) -> String {
    format!("\"{etag}\"")
}

/// Sets ETag.
pub fn set_etag(headers: &mut HeaderMap, etag: ETag) {
    set(headers, header::ETAG, quoted(etag));
}

/// Sets Last-Modified.
pub fn set_modified(headers: &mut HeaderMap, modified: Timestamp) {
    set(headers, header::LAST_MODIFIED, s3::date::http(modified));
}

/// Sets `x-amz-checksum-…` and its type; `parts` is how many parts a composite one is of.
pub fn set_checksum(headers: &mut HeaderMap, checksum: &StoredChecksum, parts: Option<u32>) {
    set(
        headers,
        HeaderName::from_static(header_name(checksum.algorithm)),
        value_text(checksum, parts),
    );
    headers.insert(CHECKSUM_TYPE, HeaderValue::from_static(kind_name(checksum.kind)));
}
