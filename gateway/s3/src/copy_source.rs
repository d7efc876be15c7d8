//! The source of a copy: `x-amz-copy-source` and its directives.
//!
//! In: the header, percent-encoded as clients send it. Out: a bucket and key parsed by the same code as
//! those of a path, so that no name means two things.

use http::HeaderMap;
use model::names::{BucketName, ObjectKey};

use crate::error::{S3Error, S3ErrorCode};
use crate::query::Query;
use crate::range::{RangeRequest, parse_copy_source};
use crate::route::{parse_bucket, parse_key};
use crate::unsupported::check_version_id;

/// What is to be copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopySource {
    /// The source's bucket.
    pub bucket: BucketName,
    /// The source's key.
    pub key: ObjectKey,
    /// For UploadPartCopy: which bytes of it, if not all.
    pub range: Option<RangeRequest>,
}

/// Whose headers a copied object gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetadataDirective {
    /// Those of the source.
    Copy,
    /// Those of the request.
    Replace,
}

impl CopySource {
    /// Reads `x-amz-copy-source` and `x-amz-copy-source-range`.
    pub fn parse(headers: &HeaderMap) -> Result<CopySource, S3Error> {
        let raw = text(headers, "x-amz-copy-source")?.unwrap_or_default();
        let (path, query) = match raw.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (raw, None),
        };
        if let Some(version) = Query::parse(query)?.get("versionId") {
            check_version_id(version)?;
        }
        // Some clients encode the separating slash too.
        let path = path.strip_prefix('/').unwrap_or(path);
        let path = path.strip_prefix("%2F").unwrap_or(path);
        let encoded = path.split_once("%2F").filter(|(bucket, _)| !bucket.contains('/'));
        let (bucket, key) = encoded.or(path.split_once('/')).ok_or_else(|| invalid(raw))?;
        Ok(CopySource {
            bucket: parse_bucket(bucket)?,
            key: parse_key(key)?.ok_or_else(|| invalid(raw))?,
            range: text(headers, "x-amz-copy-source-range")?.map(parse_copy_source).transpose()?,
        })
    }
}

impl MetadataDirective {
    /// Reads `x-amz-metadata-directive`.
    pub fn parse(headers: &HeaderMap) -> Result<MetadataDirective, S3Error> {
        match text(headers, "x-amz-metadata-directive")? {
            None | Some("COPY") => Ok(MetadataDirective::Copy),
            Some("REPLACE") => Ok(MetadataDirective::Replace),
            Some(other) => Err(S3Error::invalid_argument(
                "x-amz-metadata-directive",
                other,
                "Unknown metadata directive.",
            )),
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, S3Error> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = std::str::from_utf8(value.as_bytes());
    text.map(Some)
        .map_err(|_| S3Error::with(S3ErrorCode::InvalidArgument, "A header isn't valid UTF-8."))
}

fn invalid(raw: &str) -> S3Error {
    S3Error::invalid_argument(
        "x-amz-copy-source",
        raw,
        "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn parsed(source: &str) -> Result<(String, String), S3ErrorCode> {
        let mut headers = HeaderMap::new();
        headers.insert(
            "x-amz-copy-source",
            HeaderValue::from_bytes(source.as_bytes()).expect("a value"),
        );
        CopySource::parse(&headers)
            .map(|source| (source.bucket.to_string(), source.key.to_string()))
            .map_err(|error| error.code)
    }

    #[test]
    fn sources() {
        let check = |source: &str, key: &str| {
            assert_eq!(parsed(source), Ok(("abc".to_owned(), key.to_owned())), "{source}");
        };
        check("abc/k", "k");
        check("/abc/k", "k");
        check("abc/a/../b//c", "a/../b//c");
        check("abc/a%2Fb", "a/b");
        check("abc%2Fa%2Fb", "a/b");
        check("/abc/a+b%20c%2Bd", "a+b c+d");
        check("abc/a%3Fb?versionId=null", "a?b");
        check("abc/é", "é");
        check("abc//k", "/k");
        let refuse = |source: &str, code| assert_eq!(parsed(source), Err(code), "{source}");
        refuse("", S3ErrorCode::InvalidArgument);
        refuse("abc", S3ErrorCode::InvalidArgument);
        refuse("abc/", S3ErrorCode::InvalidArgument);
        refuse("A/k", S3ErrorCode::InvalidBucketName);
        refuse("//k", S3ErrorCode::InvalidBucketName);
        refuse("abc/k?versionId=x", S3ErrorCode::NoSuchVersion);
        refuse("abc/%ff", S3ErrorCode::InvalidURI);
    }
}
