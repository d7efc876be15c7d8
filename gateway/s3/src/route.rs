//! Routing: which operation a request is for, on which bucket and key.
//!
//! In: the method, the raw target and the headers. Out: a `Route`, whose names are valid. Bucket and
//! key are percent-decoded exactly once, from the raw path, and nothing is normalised: `.`, `..` and
//! `//` are parts of keys. A subresource that no row of the operation table knows is refused, since
//! taking `PUT key?something-new` for a PutObject would store a document over the object.

use http::{HeaderMap, Method, Uri, header};
use model::names::{BucketName, NameError, ObjectKey};
use percent_encoding::percent_decode_str;

use crate::error::{S3Error, S3ErrorCode};
use crate::operation::{Level, Operation, Row, TABLE, Verb};
use crate::query::Query;

/// Where the server is reached: what part of a Host header isn't a bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addressing {
    /// Domains under which `bucket.domain` names a bucket. Every other host is path-style.
    pub domains: Vec<String>,
}

/// What a request wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The operation.
    pub operation: Operation,
    /// The bucket; there is one unless the operation's level is `Service`.
    pub bucket: Option<BucketName>,
    /// The key; there is one if the operation's level is `Object`.
    pub key: Option<ObjectKey>,
    /// The decoded query.
    pub query: Query,
}

impl Route {
    /// The bucket, for operations that have one.
    pub fn bucket(&self) -> Result<&BucketName, S3Error> {
        self.bucket.as_ref().ok_or(S3Error::new(S3ErrorCode::InvalidBucketName))
    }

    /// The key, for operations that have one.
    pub fn key(&self) -> Result<&ObjectKey, S3Error> {
        self.key.as_ref().ok_or(S3Error::new(S3ErrorCode::InvalidURI))
    }
}

/// Finds the operation, bucket and key of a request.
pub fn route(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    addressing: &Addressing,
) -> Result<Route, S3Error> {
    let (bucket, key) = names(uri, headers, addressing)?;
    let level = match (&bucket, &key) {
        (None, _) => Level::Service,
        (Some(_), None) => Level::Bucket,
        (Some(_), Some(_)) => Level::Object,
    };
    let query = Query::parse(uri.query())?;
    if *method == Method::OPTIONS {
        // What S3 says to a preflight where no CORS rule exists.
        return Err(S3Error::with(
            S3ErrorCode::AccessForbidden,
            "CORSResponse: CORS is not enabled for this bucket.",
        ));
    }
    let verb = Verb::from_method(method).ok_or_else(|| method_not_allowed(method))?;
    let row = choose(verb, level, &query, headers).ok_or_else(|| method_not_allowed(method));
    check_subresources(row.as_ref().ok().copied(), verb, level, &query, method)?;
    Ok(Route { operation: row?.operation, bucket, key, query })
}

fn method_not_allowed(method: &Method) -> S3Error {
    S3Error::new(S3ErrorCode::MethodNotAllowed).field("Method", method.as_str())
}

/// The raw host of a request without its port.
fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> &'a str {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    let host = host.or(uri.authority().map(http::uri::Authority::as_str)).unwrap_or_default();
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// The bucket that a virtual-hosted request names in its host.
fn host_bucket<'a>(host: &'a str, addressing: &Addressing) -> Option<&'a str> {
    addressing.domains.iter().find_map(|domain| {
        let (bucket, suffix) = host.split_at_checked(host.len().checked_sub(domain.len())?)?;
        let bucket = bucket.strip_suffix('.')?;
        suffix.eq_ignore_ascii_case(domain).then_some(bucket)
    })
}

type Names = (Option<BucketName>, Option<ObjectKey>);

fn names(uri: &Uri, headers: &HeaderMap, addressing: &Addressing) -> Result<Names, S3Error> {
    let path = uri.path().strip_prefix('/').ok_or(S3Error::new(S3ErrorCode::InvalidURI))?;
    if let Some(bucket) = host_bucket(host(uri, headers), addressing) {
        let bucket = parse_bucket(&bucket.to_ascii_lowercase())?;
        return Ok((Some(bucket), parse_key(path)?));
    }
    if path.is_empty() {
        return Ok((None, None));
    }
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    Ok((Some(parse_bucket(&decode(bucket)?)?), parse_key(key)?))
}

/// A bucket name, or `InvalidBucketName`.
pub fn parse_bucket(name: &str) -> Result<BucketName, S3Error> {
    BucketName::parse(name)
        .map_err(|_| S3Error::new(S3ErrorCode::InvalidBucketName).field("BucketName", name))
}

/// A key from the raw (percent-encoded) rest of a path; `None` if there is no rest.
pub fn parse_key(raw: &str) -> Result<Option<ObjectKey>, S3Error> {
    if raw.is_empty() {
        return Ok(None);
    }
    let key = decode(raw)?;
    match ObjectKey::parse(&key) {
        Ok(key) => Ok(Some(key)),
        Err(NameError::EmptyKey) => Ok(None),
        Err(NameError::KeyTooLong | NameError::InvalidBucketName | NameError::InvalidClassName) => {
            Err(S3Error::new(S3ErrorCode::KeyTooLongError)
                .field("Size", key.len().to_string())
                .field("MaxSizeAllowed", model::limits::KEY_BYTES_MAX.to_string()))
        }
    }
}

fn decode(raw: &str) -> Result<String, S3Error> {
    let broken = || S3Error::new(S3ErrorCode::InvalidURI).field("URI", raw);
    let mut rest = raw.as_bytes();
    while let Some(at) = rest.iter().position(|byte| *byte == b'%') {
        let hex = rest.get(at + 1..at + 3).ok_or_else(broken)?;
        if !hex.iter().all(u8::is_ascii_hexdigit) {
            return Err(broken());
        }
        rest = &rest[at + 3..];
    }
    let decoded = percent_decode_str(raw).decode_utf8().map_err(|_| broken())?;
    Ok(decoded.into_owned())
}

/// The most specific row that the request satisfies.
fn choose(verb: Verb, level: Level, query: &Query, headers: &HeaderMap) -> Option<&'static Row> {
    let satisfied = |row: &&Row| {
        row.level == level
            && row.verb == verb
            && row.query.iter().all(|needed| has_parameter(query, needed))
            && row.header.is_none_or(|name| has_header(headers, query, name))
    };
    // The first of equals wins, so that the order of the table decides.
    TABLE.iter().filter(satisfied).rev().max_by_key(|row| specificity(row))
}

fn specificity(row: &Row) -> usize {
    row.query.len() + usize::from(row.header.is_some())
}

fn has_parameter(query: &Query, needed: &str) -> bool {
    match needed.split_once('=') {
        Some((name, value)) => query.get(name) == Some(value),
        None => query.contains(needed),
    }
}

/// A presigned request may carry an `x-amz-*` header as a parameter instead.
fn has_header(headers: &HeaderMap, query: &Query, name: &str) -> bool {
    headers.contains_key(name) || query.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
}

/// Every subresource of the request must be one that the chosen row is about.
fn check_subresources(
    chosen: Option<&Row>,
    verb: Verb,
    level: Level,
    query: &Query,
    method: &Method,
) -> Result<(), S3Error> {
    for (name, value) in query.iter() {
        if chosen.is_some_and(|row| row_names(row, name)) || is_parameter(name, verb) {
            continue;
        }
        let known = |row: &&Row| row_names(row, name);
        if name == "list-type" {
            return Err(S3Error::invalid_argument(
                "list-type",
                value,
                "Invalid List Type specified in Query",
            ));
        }
        if TABLE.iter().any(|row| known(&row) && row.level == level && row.verb == verb) {
            return Err(S3Error::with(
                S3ErrorCode::InvalidArgument,
                "Conflicting or incomplete query parameters.",
            )
            .field("ArgumentName", name));
        }
        if TABLE.iter().any(|row| known(&row)) {
            return Err(method_not_allowed(method).field("ResourceType", name.to_uppercase()));
        }
        if value.is_empty() {
            return Err(S3Error::new(S3ErrorCode::NotImplemented).field("QueryParameter", name));
        }
        // Any other parameter with a value is nobody's subresource; S3 ignores it, and so do we.
    }
    Ok(())
}

fn row_names(row: &Row, name: &str) -> bool {
    row.query.iter().any(|needed| needed.split('=').next() == Some(name))
}

/// Parameters that say how, and never what.
fn is_parameter(name: &str, verb: Verb) -> bool {
    match name {
        "prefix" | "delimiter" | "marker" | "max-keys" | "encoding-type" | "continuation-token"
        | "start-after" | "fetch-owner" | "key-marker" | "upload-id-marker" | "max-uploads"
        | "version-id-marker" | "part-number-marker" | "max-parts" | "versionId" | "id"
        | "x-id" | "max-buckets" | "bucket-region" | "AWSAccessKeyId" | "Signature" | "Expires" => {
            true
        }
        // On a GET it says which part of the object; on a PUT it must come with an upload.
        "partNumber" => verb != Verb::Put,
        _ => {
            name.starts_with("response-")
                || name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("x-amz-"))
        }
    }
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;
