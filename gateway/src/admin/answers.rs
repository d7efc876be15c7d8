//! How the admin listener's answers look.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use crate::http::connection::Peer;
use crate::http::response::ResponseBody;

/// A document.
pub(super) fn json(status: StatusCode, document: &impl Serialize) -> Response<ResponseBody> {
    match serde_json::to_vec(document) {
        Ok(text) => respond(status, "application/json", text.into()),
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "The answer could not be written.\n"),
    }
}

/// A sentence.
pub(super) fn plain(status: StatusCode, text: &'static str) -> Response<ResponseBody> {
    respond(status, "text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()))
}

/// Any bytes.
pub(super) fn respond(
    status: StatusCode,
    content_type: &'static str,
    body: Bytes,
) -> Response<ResponseBody> {
    let length = body.len();
    let mut answer = Response::new(ResponseBody::whole(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// The refusal of a method.
pub(super) fn not_allowed(text: &'static str, allowed: &'static str) -> Response<ResponseBody> {
    let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, text);
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    answer
}

/// An answer before the request's body was read: the connection ends with it.
pub(super) fn unread(mut answer: Response<ResponseBody>, peer: &Peer) -> Response<ResponseBody> {
    peer.connection.leave_body_unread();
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}
