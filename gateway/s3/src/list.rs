//! The parameters of listings: objects (both versions), uploads and parts.
//!
//! In: a query. Out: what to list, from where and how many. Whatever the version, a position is "the
//! last thing that the client has seen", a key or a common prefix; what follows it is listed, and
//! common prefixes at or before it aren't listed again.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use model::ids::UploadId;
use model::limits::{BUCKETS_MAX, LIST_KEYS_MAX};

use crate::error::S3Error;
use crate::query::Query;

/// The first byte of a continuation token: its layout's version.
const TOKEN_VERSION: u8 = 1;

/// How keys are written in the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As they are; what XML can't carry becomes a numeric reference.
    Plain,
    /// Percent-encoded.
    Url,
}

/// Which listing of objects was asked for, and what only that one has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListVersion {
    /// ListObjects.
    V1 {
        /// `marker`, as given.
        marker: String,
    },
    /// ListObjectsV2.
    V2 {
        /// `continuation-token`, as given.
        token: Option<String>,
        /// `start-after`, as given.
        start_after: Option<String>,
        /// Whether each object's owner is to be listed.
        fetch_owner: bool,
    },
}

/// A listing of objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListObjects {
    /// Only keys that begin with this.
    pub prefix: String,
    /// Keys that hold it behind the prefix are rolled up into common prefixes.
    pub delimiter: Option<String>,
    /// At most so many keys and common prefixes: 0 to 1000.
    pub max_keys: u32,
    /// How keys are written.
    pub encoding: Encoding,
    /// Everything up to here was seen; empty at the beginning.
    pub after: String,
    /// The version of the operation.
    pub version: ListVersion,
}

/// A listing of multipart uploads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListUploads {
    /// Only keys that begin with this.
    pub prefix: String,
    /// Keys that hold it behind the prefix are rolled up into common prefixes.
    pub delimiter: Option<String>,
    /// At most so many uploads and common prefixes.
    pub max_uploads: u32,
    /// How keys are written.
    pub encoding: Encoding,
    /// Keys before this one were seen; empty at the beginning.
    pub key_marker: String,
    /// Of the uploads of `key_marker`, those up to this one were seen. Without it, all were.
    pub upload_id_marker: Option<UploadId>,
}

/// A listing of buckets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListBuckets {
    /// Only buckets whose name begins with this.
    pub prefix: String,
    /// At most so many: 1 to 10,000.
    pub max_buckets: u32,
    /// Buckets up to this name were seen; empty at the beginning.
    pub after: String,
}

/// A listing of the parts of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListParts {
    /// At most so many.
    pub max_parts: u32,
    /// Parts up to this number were seen.
    pub after: u16,
}

impl ListObjects {
    /// Reads the parameters of ListObjects.
    pub fn parse_v1(query: &Query) -> Result<ListObjects, S3Error> {
        let marker = query.get("marker").unwrap_or_default().to_owned();
        ListObjects::parse(query, marker.clone(), ListVersion::V1 { marker })
    }

    /// Reads the parameters of ListObjectsV2.
    pub fn parse_v2(query: &Query) -> Result<ListObjects, S3Error> {
        let token = query.get("continuation-token");
        let start_after = query.get("start-after");
        // A token continues a listing that had begun behind start-after already.
        let after = match token {
            Some(token) => decode_token(token)?,
            None => start_after.unwrap_or_default().to_owned(),
        };
        let version = ListVersion::V2 {
            token: token.map(str::to_owned),
            start_after: start_after.map(str::to_owned),
            fetch_owner: query.get("fetch-owner") == Some("true"),
        };
        ListObjects::parse(query, after, version)
    }

    fn parse(query: &Query, after: String, version: ListVersion) -> Result<ListObjects, S3Error> {
        Ok(ListObjects {
            prefix: query.get("prefix").unwrap_or_default().to_owned(),
            delimiter: delimiter(query),
            max_keys: count(query, "max-keys")?,
            encoding: encoding(query)?,
            after,
            version,
        })
    }
}

impl ListUploads {
    /// Reads the parameters of ListMultipartUploads.
    pub fn parse(query: &Query) -> Result<ListUploads, S3Error> {
        let key_marker = query.get("key-marker").unwrap_or_default().to_owned();
        // Without a key marker S3 ignores the upload id marker.
        let upload_id_marker = query
            .get("upload-id-marker")
            .filter(|text| !text.is_empty() && !key_marker.is_empty())
            .map(|text| {
                UploadId::parse(text).ok_or_else(|| {
                    S3Error::invalid_argument("upload-id-marker", text, "Invalid uploadId marker")
                })
            })
            .transpose()?;
        Ok(ListUploads {
            prefix: query.get("prefix").unwrap_or_default().to_owned(),
            delimiter: delimiter(query),
            max_uploads: count(query, "max-uploads")?,
            encoding: encoding(query)?,
            key_marker,
            upload_id_marker,
        })
    }
}

impl ListBuckets {
    /// Reads the parameters of ListBuckets.
    pub fn parse(query: &Query) -> Result<ListBuckets, S3Error> {
        let limit = BUCKETS_MAX as u32;
        let max_buckets = number(query, "max-buckets")?.unwrap_or(limit);
        if !(1..=limit).contains(&max_buckets) {
            return Err(S3Error::invalid_argument(
                "max-buckets",
                &max_buckets.to_string(),
                format!("Argument max-buckets must be an integer between 1 and {limit}"),
            ));
        }
        let token = query.get("continuation-token").filter(|token| !token.is_empty());
        Ok(ListBuckets {
            prefix: query.get("prefix").unwrap_or_default().to_owned(),
            max_buckets,
            after: token.map(decode_token).transpose()?.unwrap_or_default(),
        })
    }
}

impl ListParts {
    /// Reads the parameters of ListParts.
    pub fn parse(query: &Query) -> Result<ListParts, S3Error> {
        Ok(ListParts::checked(count(query, "max-parts")?, number(query, "part-number-marker")?))
    }

    /// Reads the headers of GetObjectAttributes that page through its parts.
    pub fn parse_attributes(headers: &http::HeaderMap) -> Result<ListParts, S3Error> {
        let header = |name: &'static str| {
            let value = headers.get(name).map(|value| value.to_str().unwrap_or("?"));
            value.map(|text| parse_count(name, text)).transpose()
        };
        Ok(ListParts::checked(
            header("x-amz-max-parts")?.map_or(LIST_KEYS_MAX, |count| count.min(LIST_KEYS_MAX)),
            header("x-amz-part-number-marker")?,
        ))
    }

    fn checked(max_parts: u32, marker: Option<u32>) -> ListParts {
        // A marker past the last possible part lists nothing, as the largest does.
        let after = u16::try_from(marker.unwrap_or(0)).unwrap_or(u16::MAX);
        ListParts { max_parts, after }
    }
}

/// The token with which a listing goes on behind `last`, the last key or common prefix of a page.
pub fn encode_token(last: &str) -> String {
    let mut bytes = Vec::with_capacity(1 + last.len());
    bytes.push(TOKEN_VERSION);
    bytes.extend_from_slice(last.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn decode_token(token: &str) -> Result<String, S3Error> {
    let bytes = URL_SAFE_NO_PAD.decode(token).unwrap_or_default();
    let position = match bytes.split_first() {
        Some((&TOKEN_VERSION, position)) => String::from_utf8(position.to_vec()).ok(),
        _ => None,
    };
    position.filter(|position| !position.is_empty()).ok_or_else(|| {
        S3Error::invalid_argument(
            "continuation-token",
            token,
            "The continuation token provided is incorrect",
        )
    })
}

fn delimiter(query: &Query) -> Option<String> {
    query.get("delimiter").filter(|delimiter| !delimiter.is_empty()).map(str::to_owned)
}

fn encoding(query: &Query) -> Result<Encoding, S3Error> {
    match query.get("encoding-type") {
        None | Some("") => Ok(Encoding::Plain),
        Some("url") => Ok(Encoding::Url),
        Some(other) => Err(S3Error::invalid_argument(
            "encoding-type",
            other,
            "Invalid Encoding Method specified in Request",
        )),
    }
}

/// A count with S3's limit: without it, or above it, 1000.
fn count(query: &Query, name: &'static str) -> Result<u32, S3Error> {
    Ok(number(query, name)?.map_or(LIST_KEYS_MAX, |count| count.min(LIST_KEYS_MAX)))
}

fn number(query: &Query, name: &'static str) -> Result<Option<u32>, S3Error> {
    // SDKs send an empty parameter for an unset option; S3 takes it for the default.
    query.get(name).filter(|text| !text.is_empty()).map(|text| parse_count(name, text)).transpose()
}

fn parse_count(name: &'static str, text: &str) -> Result<u32, S3Error> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // S3 counts in signed 32-bit integers and refuses what they can't hold.
    match text.parse::<i32>() {
        Ok(count) if digits => Ok(count.unsigned_abs()),
        _ => Err(S3Error::invalid_argument(
            name,
            text,
            format!("Argument {name} must be an integer between 0 and 2147483647"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(raw: &str) -> Query {
        Query::parse(Some(raw)).expect("a query")
    }

    #[test]
    fn counts() {
        let check = |raw: &str, expected: Option<u32>| {
            let found = ListObjects::parse_v1(&query(raw)).ok().map(|list| list.max_keys);
            assert_eq!(found, expected, "{raw}");
        };
        check("", Some(1000));
        check("max-keys=0", Some(0));
        check("max-keys=7", Some(7));
        check("max-keys=1001", Some(1000));
        check("max-keys=", Some(1000));
        check("max-keys=2147483647", Some(1000));
        for raw in
            ["max-keys=-1", "max-keys=x", "max-keys=2147483648", "max-keys=%2B1", "max-keys=1.5"]
        {
            check(raw, None);
        }
    }

    #[test]
    fn buckets() {
        let parsed = |raw: &str| ListBuckets::parse(&query(raw)).ok();
        let max = |raw: &str| parsed(raw).map(|list| list.max_buckets);
        assert_eq!(max(""), Some(10_000));
        assert_eq!(max("max-buckets=7"), Some(7));
        assert_eq!(max("max-buckets=0"), None);
        assert_eq!(max("max-buckets=10001"), None);
        let token = format!("continuation-token={}&prefix=a", encode_token("abc"));
        let list = parsed(&token).expect("parsed");
        assert_eq!((list.after.as_str(), list.prefix.as_str()), ("abc", "a"));
        assert_eq!(parsed("continuation-token=abc"), None);
    }

    #[test]
    fn positions() {
        let after = |raw: &str| ListObjects::parse_v2(&query(raw)).ok().map(|list| list.after);
        assert_eq!(after("").as_deref(), Some(""));
        assert_eq!(after("start-after=k").as_deref(), Some("k"));
        let token = encode_token("a/é\u{1}");
        assert_eq!(
            after(&format!("continuation-token={token}&start-after=k")).as_deref(),
            Some("a/é\u{1}")
        );
        for bad in ["", "!!", "AQ", "Amtl", "Af8"] {
            assert_eq!(after(&format!("continuation-token={bad}")), None, "{bad}");
        }
        let list =
            ListObjects::parse_v1(&query("marker=m&delimiter=&encoding-type=url")).expect("a list");
        assert_eq!(
            (list.after.as_str(), list.delimiter, list.encoding),
            ("m", None, Encoding::Url)
        );
        assert!(ListObjects::parse_v1(&query("encoding-type=xml")).is_err());
    }

    #[test]
    fn uploads_and_parts() {
        let id = UploadId([7; 16]);
        let list = ListUploads::parse(&query(&format!("key-marker=k&upload-id-marker={id}")))
            .expect("a list");
        assert_eq!(list.upload_id_marker, Some(id));
        let list = ListUploads::parse(&query("upload-id-marker=zz&max-uploads=3")).expect("a list");
        assert_eq!((list.upload_id_marker, list.max_uploads), (None, 3));
        assert!(ListUploads::parse(&query("key-marker=k&upload-id-marker=zz")).is_err());
        let parts = ListParts::parse(&query("max-parts=5&part-number-marker=3")).expect("a list");
        assert_eq!(parts, ListParts { max_parts: 5, after: 3 });
        assert!(ListParts::parse(&query("part-number-marker=x")).is_err());
    }
}
