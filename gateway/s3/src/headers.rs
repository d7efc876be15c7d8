//! The headers that belong to an object: what is kept with it, and how it is given back.
//!
//! In: a request's headers. Out: `ObjectHeaders`, and from those the headers of an answer. Values are
//! UTF-8; user metadata that isn't ASCII is answered in RFC 2047 form, as S3 does, so that no HTTP
//! library in between can garble it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use model::names::ClassName;
use model::version::{ObjectHeaders, UserMetadata};

use crate::error::{S3Error, S3ErrorCode};
use crate::query::Query;
use crate::sigv4::Signed;
use crate::unsupported::unknown_storage_class;

/// Bytes of all user metadata of an object, names and values (S3).
pub const USER_METADATA_BYTES_MAX: usize = 2048;

/// Bytes of the system headers kept with an object: they are stored in its record.
pub const SYSTEM_METADATA_BYTES_MAX: usize = 4096;

/// The type of an object whose writer named none (S3).
pub const DEFAULT_CONTENT_TYPE: &str = "binary/octet-stream";

/// `x-amz-storage-class`.
const STORAGE_CLASS: HeaderName = HeaderName::from_static("x-amz-storage-class");

const USER_PREFIX: &str = "x-amz-meta-";

/// Parameters of a presigned request that are about its signature and stand for no header.
const SIGNATURE_PARAMETERS: &[&str] = &[
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-signedheaders",
    "x-amz-signature",
    "x-amz-security-token",
    "x-amz-content-sha256",
];

/// Puts `x-amz-*` query parameters among the headers, where a header of the name isn't already.
///
/// SDKs move headers into the query when they presign, and S3 honours them there. To be called once,
/// after the signature was verified and before anything else looks at the headers.
pub fn hoist(query: &Query, headers: &mut HeaderMap) -> Result<(), S3Error> {
    for (name, value) in query.iter() {
        let name = name.to_ascii_lowercase();
        if !name.starts_with("x-amz-")
            || SIGNATURE_PARAMETERS.contains(&name.as_str())
            || headers.contains_key(&name)
        {
            continue;
        }
        let invalid = || S3Error::invalid_argument(&name, value, "The parameter is no header.");
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| invalid())?;
        headers.insert(header, value);
    }
    Ok(())
}

/// The headers that a write asks to be kept with the object.
pub fn object_headers(headers: &HeaderMap) -> Result<ObjectHeaders, S3Error> {
    let kept = ObjectHeaders {
        content_type: text(headers, &header::CONTENT_TYPE)?,
        cache_control: text(headers, &header::CACHE_CONTROL)?,
        content_disposition: text(headers, &header::CONTENT_DISPOSITION)?,
        content_encoding: text(headers, &header::CONTENT_ENCODING)?.and_then(without_chunked),
        content_language: text(headers, &header::CONTENT_LANGUAGE)?,
        expires: text(headers, &header::EXPIRES)?,
        user: user_metadata(headers)?,
        class: storage_class(headers)?,
    };
    let bytes: usize = system_headers(&kept).filter_map(|(_, value)| value).map(str::len).sum();
    check_bytes(bytes, SYSTEM_METADATA_BYTES_MAX)?;
    Ok(kept)
}

/// The storage class that a request names, if it does; whether there is one, the cluster knows.
pub fn storage_class(headers: &HeaderMap) -> Result<Option<ClassName>, S3Error> {
    let Some(value) = headers.get(STORAGE_CLASS) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    ClassName::parse(text).map(Some).map_err(|_| unknown_storage_class(text))
}

/// The name of a class as S3 writes it in documents.
pub fn class_text(class: Option<&ClassName>) -> &str {
    class.map_or(ClassName::STANDARD, ClassName::as_str)
}

fn system_headers(kept: &ObjectHeaders) -> impl Iterator<Item = (HeaderName, Option<&str>)> {
    [
        (header::CONTENT_TYPE, kept.content_type.as_deref()),
        (header::CACHE_CONTROL, kept.cache_control.as_deref()),
        (header::CONTENT_DISPOSITION, kept.content_disposition.as_deref()),
        (header::CONTENT_ENCODING, kept.content_encoding.as_deref()),
        (header::CONTENT_LANGUAGE, kept.content_language.as_deref()),
        (header::EXPIRES, kept.expires.as_deref()),
    ]
    .into_iter()
}

/// `aws-chunked` describes the request's framing and is no encoding of the object.
fn without_chunked(encoding: String) -> Option<String> {
    if !encoding.contains("aws-chunked") {
        return Some(encoding);
    }
    let others = encoding.split(',').map(str::trim);
    let others: Vec<&str> = others.filter(|one| !matches!(*one, "aws-chunked" | "")).collect();
    (!others.is_empty()).then(|| others.join(","))
}

fn user_metadata(headers: &HeaderMap) -> Result<Vec<UserMetadata>, S3Error> {
    let mut metadata = Vec::new();
    let mut bytes = 0usize;
    for name in headers.keys() {
        let Some(short) = name.as_str().strip_prefix(USER_PREFIX) else { continue };
        if short.is_empty() {
            let message = "A metadata header needs a name behind x-amz-meta-.";
            return Err(S3Error::with(S3ErrorCode::InvalidArgument, message));
        }
        let value = text(headers, name)?.unwrap_or_default();
        bytes += short.len() + value.len();
        metadata.push(UserMetadata { name: short.to_owned(), value });
    }
    check_bytes(bytes, USER_METADATA_BYTES_MAX)?;
    Ok(metadata)
}

fn check_bytes(bytes: usize, bytes_max: usize) -> Result<(), S3Error> {
    if bytes <= bytes_max {
        return Ok(());
    }
    Err(S3Error::new(S3ErrorCode::MetadataTooLarge)
        .field("Size", bytes.to_string())
        .field("MaxSizeAllowed", bytes_max.to_string()))
}

/// All values of a header, joined by commas as S3 joins them.
fn text(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, S3Error> {
    let mut joined: Option<String> = None;
    for value in headers.get_all(name) {
        let value = std::str::from_utf8(value.as_bytes()).map_err(|_| {
            S3Error::with(S3ErrorCode::InvalidArgument, "The header's value isn't valid UTF-8.")
                .field("ArgumentName", name.as_str())
        })?;
        match &mut joined {
            Some(joined) => {
                joined.push(',');
                joined.push_str(value);
            }
            None => joined = Some(value.to_owned()),
        }
    }
    Ok(joined)
}

/// Adds an object's headers to those of the answer to a GET or HEAD.
pub fn write_object_headers(kept: &ObjectHeaders, answer: &mut HeaderMap) {
    for (name, value) in system_headers(kept) {
        let value = if name == header::CONTENT_TYPE {
            Some(value.unwrap_or(DEFAULT_CONTENT_TYPE))
        } else {
            value
        };
        if let Some(value) = value.and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok())
        {
            answer.insert(name, value);
        }
    }
    // As S3 does it: nothing is said of the usual one.
    let class = kept.class.as_ref().filter(|class| !class.is_standard());
    if let Some(value) = class.and_then(|class| HeaderValue::from_str(class.as_str()).ok()) {
        answer.insert(STORAGE_CLASS, value);
    }
    for item in &kept.user {
        let name = HeaderName::from_bytes(format!("{USER_PREFIX}{}", item.name).as_bytes());
        let value = HeaderValue::from_bytes(metadata_value(&item.value).as_bytes());
        // What was a header once is one again; only damaged records could fail here.
        if let (Ok(name), Ok(value)) = (name, value) {
            answer.append(name, value);
        }
    }
}

fn metadata_value(value: &str) -> std::borrow::Cow<'_, str> {
    if value.is_ascii() {
        value.into()
    } else {
        format!("=?UTF-8?B?{}?=", STANDARD.encode(value)).into()
    }
}

/// The `response-*` parameters of a GET: headers that the answer carries instead of the object's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResponseOverrides {
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl ResponseOverrides {
    /// Reads them. Only signed requests may have any: otherwise anyone could make a link to a public
    /// object that the browser takes for something else.
    pub fn parse(query: &Query, signed: Option<&Signed>) -> Result<ResponseOverrides, S3Error> {
        let mut headers = Vec::new();
        for (name, value) in query.iter() {
            let header = match name {
                "response-content-type" => header::CONTENT_TYPE,
                "response-content-language" => header::CONTENT_LANGUAGE,
                "response-expires" => header::EXPIRES,
                "response-cache-control" => header::CACHE_CONTROL,
                "response-content-disposition" => header::CONTENT_DISPOSITION,
                "response-content-encoding" => header::CONTENT_ENCODING,
                _ => continue,
            };
            let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| {
                S3Error::invalid_argument(name, value, "The value can't be sent as a header.")
            })?;
            headers.push((header, value));
        }
        if !headers.is_empty() && signed.is_none() {
            let message =
                "Request specific response headers cannot be used for anonymous GET requests.";
            return Err(S3Error::with(S3ErrorCode::InvalidRequest, message));
        }
        Ok(ResponseOverrides { headers })
    }

    /// Puts them over the headers of the answer.
    pub fn apply(&self, answer: &mut HeaderMap) {
        for (name, value) in &self.headers {
            answer.insert(name, value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        }
        headers
    }

    #[test]
    fn keeps_and_gives_back() {
        let kept = object_headers(&headers(&[
            ("content-type", "text/plain"),
            ("content-encoding", "aws-chunked, gzip"),
            ("content-length", "3"),
            ("expires", "whenever"),
            ("x-amz-meta-b", "2"),
            ("x-amz-meta-a", "1"),
            ("x-amz-meta-b", "3"),
            ("x-amz-meta-u", "é"),
            ("x-amz-meta-e", "=?UTF-8?Q?=C3=A9?="),
        ]))
        .expect("headers");
        assert_eq!(kept.content_encoding.as_deref(), Some("gzip"));
        assert_eq!(kept.user[0], UserMetadata { name: "b".into(), value: "2,3".into() });
        let mut answer = HeaderMap::new();
        write_object_headers(&kept, &mut answer);
        assert_eq!(answer["content-type"], "text/plain");
        assert_eq!(answer["expires"], "whenever");
        assert_eq!(answer["x-amz-meta-b"], "2,3");
        assert_eq!(answer["x-amz-meta-u"], "=?UTF-8?B?w6k=?=");
        assert_eq!(answer["x-amz-meta-e"], "=?UTF-8?Q?=C3=A9?=");
        assert!(!answer.contains_key("content-length"));
    }

    #[test]
    fn encodings_and_types() {
        let check = |encoding: &str, expected: Option<&str>| {
            let kept =
                object_headers(&headers(&[("content-encoding", encoding)])).expect("headers");
            assert_eq!(kept.content_encoding.as_deref(), expected, "{encoding}");
        };
        check("aws-chunked", None);
        check("gzip,aws-chunked", Some("gzip"));
        check("gzip", Some("gzip"));
        let mut answer = HeaderMap::new();
        write_object_headers(&ObjectHeaders::default(), &mut answer);
        assert_eq!(answer["content-type"], DEFAULT_CONTENT_TYPE);
    }

    #[test]
    fn metadata_has_a_limit() {
        let code = |length: usize| {
            let value = "v".repeat(length);
            object_headers(&headers(&[("x-amz-meta-k", &value)])).err().map(|error| error.code)
        };
        assert_eq!(code(2047), None);
        assert_eq!(code(2048), Some(S3ErrorCode::MetadataTooLarge));
    }

    #[test]
    fn hoisted_parameters_become_headers() {
        let query =
            Query::parse(Some("X-Amz-Signature=s&x-amz-acl=private&X-Amz-Meta-A=1&prefix=p"));
        let mut map = headers(&[("x-amz-acl", "public-read")]);
        hoist(&query.expect("a query"), &mut map).expect("hoisted");
        assert_eq!(map["x-amz-acl"], "public-read");
        assert_eq!(map["x-amz-meta-a"], "1");
        assert_eq!(map.len(), 2);
        let query = Query::parse(Some("x-amz-meta-a=%0A")).expect("a query");
        assert!(hoist(&query, &mut map.clone()).is_ok());
        assert!(hoist(&query, &mut HeaderMap::new()).is_err());
    }

    #[test]
    fn overrides_need_a_signature() {
        let query = Query::parse(Some("response-content-type=text%2Fhtml")).expect("a query");
        let error = ResponseOverrides::parse(&query, None).expect_err("anonymous");
        assert_eq!(error.code, S3ErrorCode::InvalidRequest);
        assert!(ResponseOverrides::parse(&Query::default(), None).is_ok());
    }
}
