//! Requests that two servers in a row could understand differently.
//!
//! In: a request's head, as hyper reads it. Out: whether it may be answered, and whether anything
//! behind it may be taken for a request. hyper itself refuses lengths that contradict each other and
//! transfer codings that it doesn't know. What always holds: a request that doesn't say beyond doubt
//! whom it is for is refused, and the connection ends behind it.

use http::{HeaderValue, Request, Response, StatusCode, Version, header};

use crate::http::response::ResponseBody;

/// Why a request is refused before anybody looks at what it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// HTTP/1.1 demands a Host header.
    #[error("the request has no Host header")]
    NoHost,
    /// There are several Host headers.
    #[error("the request has more than one Host header")]
    ManyHosts,
    /// The target names another host than the Host header.
    #[error("the request's target and its Host header differ")]
    OtherHost,
}

/// Checks that the request is for one host.
pub fn check<B>(request: &Request<B>) -> Result<(), FramingError> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(FramingError::ManyHosts);
    }
    let Some(host) = host else {
        let may_lack_it = request.version() < Version::HTTP_11;
        return if may_lack_it { Ok(()) } else { Err(FramingError::NoHost) };
    };
    match request.uri().authority() {
        Some(named) if !named.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes()) => {
            Err(FramingError::OtherHost)
        }
        _ => Ok(()),
    }
}

/// Whether nothing may follow this request on its connection. With a transfer coding a length is
/// void, and hyper hides that there was one; whoever went by the length saw the next request begin
/// elsewhere (RFC 9112, section 6.1: the connection must be closed).
pub fn is_last<B>(request: &Request<B>) -> bool {
    request.headers().contains_key(header::TRANSFER_ENCODING)
}

/// The answer to a request that [`check`] refused: no document, since it isn't S3's to refuse.
pub fn refusal() -> Response<ResponseBody> {
    let mut answer = Response::new(ResponseBody::empty());
    *answer.status_mut() = StatusCode::BAD_REQUEST;
    close(&mut answer);
    answer
}

/// Makes an answer the last of its connection.
pub fn close(answer: &mut Response<ResponseBody>) {
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(version: Version, target: &str, hosts: &[&str]) -> Request<()> {
        let mut builder = Request::builder().version(version).uri(target);
        for host in hosts {
            builder = builder.header("host", *host);
        }
        builder.body(()).expect("a request")
    }

    #[test]
    fn exactly_one_host() {
        let checked = |version, target, hosts: &[&str]| check(&request(version, target, hosts));
        assert_eq!(checked(Version::HTTP_11, "/b", &["a:1"]), Ok(()));
        assert_eq!(checked(Version::HTTP_11, "/b", &[]), Err(FramingError::NoHost));
        assert_eq!(checked(Version::HTTP_10, "/b", &[]), Ok(()));
        assert_eq!(checked(Version::HTTP_10, "/b", &["a", "a"]), Err(FramingError::ManyHosts));
        assert_eq!(checked(Version::HTTP_11, "http://A:1/b", &["a:1"]), Ok(()));
        assert_eq!(checked(Version::HTTP_11, "http://c/b", &["a"]), Err(FramingError::OtherHost));
    }

    #[test]
    fn nothing_follows_a_transfer_coding() {
        let mut request = request(Version::HTTP_11, "/b", &["a"]);
        assert!(!is_last(&request));
        let chunked = HeaderValue::from_static("chunked");
        request.headers_mut().insert(header::TRANSFER_ENCODING, chunked);
        assert!(is_last(&request));
        assert_eq!(refusal().status(), StatusCode::BAD_REQUEST);
    }
}
