//! Requests for what isn't there: refused, never accepted in silence.
//!
//! In: a route and the headers (with hoisted parameters, see `headers::hoist`). Out: nothing, or the
//! error. Harmless to ignore, and ignored: `x-amz-expected-bucket-owner` (every bucket here has the
//! same owner, whose id no client can know beforehand), `x-amz-request-payer` (nobody is charged) and
//! `x-amz-mfa` (nothing is protected by it).

use http::HeaderMap;

use crate::error::{S3Error, S3ErrorCode};
use crate::operation::{Operation, Verb};
use crate::route::Route;

/// Headers that ask for a feature that isn't there, whatever their value.
const REFUSED_HEADERS: &[&str] = &[
    "x-amz-grant-full-control",
    "x-amz-grant-read",
    "x-amz-grant-read-acp",
    "x-amz-grant-write",
    "x-amz-grant-write-acp",
    "x-amz-server-side-encryption-customer-algorithm",
    "x-amz-server-side-encryption-customer-key",
    "x-amz-server-side-encryption-customer-key-md5",
    "x-amz-copy-source-server-side-encryption-customer-algorithm",
    "x-amz-copy-source-server-side-encryption-customer-key",
    "x-amz-copy-source-server-side-encryption-customer-key-md5",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-context",
    "x-amz-server-side-encryption-bucket-key-enabled",
    "x-amz-tagging",
    "x-amz-object-lock-mode",
    "x-amz-object-lock-retain-until-date",
    "x-amz-object-lock-legal-hold",
    "x-amz-website-redirect-location",
    "x-amz-write-offset-bytes",
    "x-amz-if-match-last-modified-time",
    "x-amz-if-match-size",
    "x-amz-rename-source",
];

const STORAGE_CLASSES: &[&str] = &[
    "REDUCED_REDUNDANCY",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER",
    "GLACIER_IR",
    "DEEP_ARCHIVE",
    "EXPRESS_ONEZONE",
    "SNOW",
    "OUTPOSTS",
    "FSX_OPENZFS",
];

/// Refuses a request whose success would promise something that isn't done.
pub fn refuse_unsupported(route: &Route, headers: &HeaderMap) -> Result<(), S3Error> {
    check_version(route)?;
    for name in REFUSED_HEADERS {
        if headers.contains_key(*name) {
            return Err(S3Error::header_not_implemented(name));
        }
    }
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if let Some(acl) = text("x-amz-acl") {
        check_acl(acl)?;
    }
    if let Some(algorithm) = text("x-amz-server-side-encryption") {
        check_encryption(algorithm)?;
    }
    if text("x-amz-bucket-object-lock-enabled")
        .is_some_and(|value| !value.eq_ignore_ascii_case("false"))
    {
        return Err(S3Error::header_not_implemented("x-amz-bucket-object-lock-enabled"));
    }
    if let Some(ownership) = text("x-amz-object-ownership")
        && ownership != "BucketOwnerEnforced"
    {
        return Err(S3Error::header_not_implemented("x-amz-object-ownership"));
    }
    // Keeping tags that don't exist, or replacing them by none, is what happens anyway.
    if let Some(directive) = text("x-amz-tagging-directive")
        && !matches!(directive, "COPY" | "REPLACE")
    {
        return Err(S3Error::invalid_argument(
            "x-amz-tagging-directive",
            directive,
            "Unknown tagging directive.",
        ));
    }
    Ok(())
}

/// Buckets have no versions yet: the only one of an object is `null`.
fn check_version(route: &Route) -> Result<(), S3Error> {
    let Some(version) = route.query.get("versionId") else { return Ok(()) };
    let row = route.operation.row();
    let takes_version = route.key.is_some()
        && match row.verb {
            Verb::Get | Verb::Head => true,
            Verb::Delete => route.operation != Operation::AbortMultipartUpload,
            Verb::Put | Verb::Post => {
                !row.query.is_empty() && route.query.get("uploadId").is_none()
            }
        };
    if !takes_version {
        return Err(S3Error::invalid_argument(
            "versionId",
            version,
            "This operation does not accept a version-id.",
        ));
    }
    check_version_id(version)
}

/// Accepts `null`, the version id of every object in a bucket that never had versioning.
pub fn check_version_id(version: &str) -> Result<(), S3Error> {
    match version {
        "null" => Ok(()),
        "" => Err(S3Error::invalid_argument(
            "versionId",
            version,
            "Version id cannot be the empty string",
        )),
        _ => Err(S3Error::new(S3ErrorCode::NoSuchVersion).field("VersionId", version)),
    }
}

fn check_acl(acl: &str) -> Result<(), S3Error> {
    match acl {
        "private" | "bucket-owner-full-control" => Ok(()),
        "public-read" | "public-read-write" | "authenticated-read" | "aws-exec-read"
        | "bucket-owner-read" | "log-delivery-write" => {
            Err(S3Error::header_not_implemented("x-amz-acl"))
        }
        _ => Err(S3Error::invalid_argument("x-amz-acl", acl, "Unknown canned ACL.")),
    }
}

fn check_encryption(algorithm: &str) -> Result<(), S3Error> {
    match algorithm {
        "AES256" | "aws:kms" | "aws:kms:dsse" => {
            Err(S3Error::header_not_implemented("x-amz-server-side-encryption"))
        }
        _ => Err(S3Error::with(
            S3ErrorCode::InvalidEncryptionAlgorithmError,
            "The encryption request you specified is not valid. Supported value: AES256.",
        )
        .field("ArgumentValue", algorithm)),
    }
}

/// What is said of a storage class that no operator has made: one that S3 has could be, and isn't here.
pub fn unknown_storage_class(class: &str) -> S3Error {
    if STORAGE_CLASSES.contains(&class) {
        S3Error::header_not_implemented("x-amz-storage-class")
    } else {
        S3Error::new(S3ErrorCode::InvalidStorageClass).field("StorageClassRequested", class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::{Addressing, route};
    use http::{HeaderValue, Method};

    fn check(
        method: &Method,
        target: &str,
        header: Option<(&'static str, &'static str)>,
        expected: Option<S3ErrorCode>,
    ) {
        let mut headers = HeaderMap::new();
        if let Some((name, value)) = header {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let route =
            route(method, &target.parse().expect("a target"), &headers, &Addressing::default());
        let refusal = refuse_unsupported(&route.expect("a route"), &headers).err();
        assert_eq!(refusal.map(|error| error.code), expected, "{target} {header:?}");
    }

    #[test]
    fn headers() {
        let check =
            |name, value, expected| check(&Method::PUT, "/abc/k", Some((name, value)), expected);
        use S3ErrorCode::*;
        check("x-amz-acl", "private", None);
        check("x-amz-acl", "bucket-owner-full-control", None);
        check("x-amz-acl", "public-read", Some(NotImplemented));
        check("x-amz-acl", "everybody", Some(InvalidArgument));
        check("x-amz-grant-read", "id=1", Some(NotImplemented));
        check("x-amz-storage-class", "FAST", None);
        assert_eq!(unknown_storage_class("GLACIER").code, NotImplemented);
        assert_eq!(unknown_storage_class("FAST").code, InvalidStorageClass);
        check("x-amz-server-side-encryption", "aws:kms", Some(NotImplemented));
        check("x-amz-server-side-encryption", "ROT13", Some(InvalidEncryptionAlgorithmError));
        check("x-amz-server-side-encryption-customer-algorithm", "AES256", Some(NotImplemented));
        check("x-amz-tagging", "a=b", Some(NotImplemented));
        check("x-amz-object-lock-mode", "GOVERNANCE", Some(NotImplemented));
        check("x-amz-website-redirect-location", "/x", Some(NotImplemented));
        check("x-amz-expected-bucket-owner", "123456789012", None);
        check("x-amz-request-payer", "requester", None);
    }

    #[test]
    fn versions() {
        use S3ErrorCode::*;
        check(&Method::GET, "/abc/k?versionId=null", None, None);
        check(&Method::DELETE, "/abc/k?versionId=null", None, None);
        check(&Method::GET, "/abc/k?versionId=", None, Some(InvalidArgument));
        check(&Method::GET, "/abc/k?versionId=abc", None, Some(NoSuchVersion));
        check(&Method::PUT, "/abc/k?versionId=null", None, Some(InvalidArgument));
        check(&Method::GET, "/abc?versionId=null", None, Some(InvalidArgument));
    }
}
