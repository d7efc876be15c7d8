//! DeleteObjects: the request that names up to 1000 keys, and its answer.

use bytes::Bytes;
use model::names::{NameError, ObjectKey};

use crate::condition::bare_etag;
use crate::error::{S3Error, S3ErrorCode};
use crate::unsupported::check_version_id;
use crate::xml::reader::{self, Element};
use crate::xml::writer::XmlWriter;

/// 1000 keys of 1024 bytes, and room for escapes.
pub const DELETE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Keys in one request (S3).
pub const DELETE_KEYS_MAX: usize = 1000;

/// A DeleteObjects request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteRequest {
    /// What to delete, in order.
    pub objects: Vec<DeleteTarget>,
    /// Whether only failures are to be answered.
    pub quiet: bool,
}

/// One object to delete, or why that one can't be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeleteTarget {
    /// An object; with a condition, only if it has this entity tag (without quotes).
    Object {
        /// The key.
        key: ObjectKey,
        /// Its version was named, and is `null`.
        version: Option<NullVersion>,
        /// The entity tag that it must have.
        if_match: Option<String>,
    },
    /// A target that fails by itself, without the others.
    Refused {
        /// The key as it was written.
        key: String,
        /// Why.
        error: S3Error,
    },
}

/// The version id `null`: the only one there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NullVersion;

/// What became of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeleteOutcome<'a> {
    /// It isn't there any more, or never was.
    Deleted {
        /// The key.
        key: &'a str,
        /// Whether its version had been named.
        version: Option<NullVersion>,
    },
    /// It couldn't be deleted.
    Failed {
        /// The key.
        key: &'a str,
        /// Why.
        error: &'a S3Error,
    },
}

impl DeleteRequest {
    /// Reads the body.
    pub fn parse(body: &[u8]) -> Result<DeleteRequest, S3Error> {
        let root = reader::read(body, "Delete", DELETE_BYTES_MAX)?;
        let mut objects = Vec::new();
        let mut quiet = false;
        for child in &root.children {
            match child.name.as_str() {
                "Object" if objects.len() == DELETE_KEYS_MAX => return Err(malformed()),
                "Object" => objects.push(target(child)?),
                "Quiet" => quiet = child.text.trim().eq_ignore_ascii_case("true"),
                _ => return Err(malformed()),
            }
        }
        if objects.is_empty() { Err(malformed()) } else { Ok(DeleteRequest { objects, quiet }) }
    }
}

fn malformed() -> S3Error {
    S3Error::new(S3ErrorCode::MalformedXML)
}

fn target(element: &Element) -> Result<DeleteTarget, S3Error> {
    let text = element.required("Key")?;
    let refused = |error| Ok(DeleteTarget::Refused { key: text.to_owned(), error });
    for child in &element.children {
        match child.name.as_str() {
            "Key" | "VersionId" | "ETag" => {}
            "LastModifiedTime" | "Size" => {
                return refused(S3Error::new(S3ErrorCode::NotImplemented));
            }
            _ => return Err(malformed()),
        }
    }
    let key = match ObjectKey::parse(text) {
        Ok(key) => key,
        Err(NameError::KeyTooLong) => return refused(S3Error::new(S3ErrorCode::KeyTooLongError)),
        Err(NameError::EmptyKey | NameError::InvalidBucketName | NameError::InvalidClassName) => {
            return Err(malformed());
        }
    };
    let version = match element.child_text("VersionId") {
        None | Some("") => None,
        Some(version) => match check_version_id(version) {
            Ok(()) => Some(NullVersion),
            Err(error) => return refused(error),
        },
    };
    let if_match = element.child_text("ETag").map(|etag| bare_etag(etag).to_owned());
    Ok(DeleteTarget::Object { key, version, if_match })
}

/// The answer; with `quiet`, give only the failures.
pub fn result<'a>(outcomes: impl IntoIterator<Item = DeleteOutcome<'a>>) -> Bytes {
    let mut xml = XmlWriter::new();
    xml.open_root("DeleteResult");
    for outcome in outcomes {
        match outcome {
            DeleteOutcome::Deleted { key, version } => {
                xml.open("Deleted");
                xml.text("Key", key);
                xml.optional("VersionId", version.map(|NullVersion| "null"));
                xml.close("Deleted");
            }
            DeleteOutcome::Failed { key, error } => {
                xml.open("Error");
                xml.text("Key", key);
                xml.text("Code", error.code.as_str());
                xml.text("Message", &error.message);
                xml.close("Error");
            }
        }
    }
    xml.close("DeleteResult");
    xml.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(inner: &str) -> Result<DeleteRequest, S3ErrorCode> {
        let body =
            format!("<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{inner}</Delete>");
        DeleteRequest::parse(body.as_bytes()).map_err(|error| error.code)
    }

    #[test]
    fn requests() {
        let request = parse("<Quiet>true</Quiet><Object><Key>a&#x1;&#13;b</Key></Object><Object><Key> </Key><VersionId>null</VersionId><ETag>\"e\"</ETag></Object>").expect("a request");
        assert!(request.quiet);
        let keys: Vec<_> = request
            .objects
            .iter()
            .map(|target| match target {
                DeleteTarget::Object { key, version, if_match } => {
                    (key.as_str(), version.is_some(), if_match.as_deref())
                }
                DeleteTarget::Refused { .. } => ("refused", false, None),
            })
            .collect();
        assert_eq!(keys, [("a\u{1}\rb", false, None), (" ", true, Some("e"))]);
    }

    #[test]
    fn limits_and_refusals() {
        assert_eq!(parse(""), Err(S3ErrorCode::MalformedXML));
        assert_eq!(parse("<Object/>"), Err(S3ErrorCode::MalformedXML));
        assert_eq!(parse("<Object><Key/></Object>"), Err(S3ErrorCode::MalformedXML));
        assert_eq!(parse("<Object><Key>a</Key></Object><X/>"), Err(S3ErrorCode::MalformedXML));
        assert!(parse(&"<Object><Key>a</Key></Object>".repeat(1000)).is_ok());
        assert_eq!(
            parse(&"<Object><Key>a</Key></Object>".repeat(1001)),
            Err(S3ErrorCode::MalformedXML)
        );
        let refused = |inner: &str| match parse(inner).expect("a request").objects.remove(0) {
            DeleteTarget::Refused { error, .. } => Some(error.code),
            DeleteTarget::Object { .. } => None,
        };
        assert_eq!(
            refused("<Object><Key>a</Key><VersionId>v1</VersionId></Object>"),
            Some(S3ErrorCode::NoSuchVersion)
        );
        assert_eq!(
            refused(&format!("<Object><Key>{}</Key></Object>", "k".repeat(1025))),
            Some(S3ErrorCode::KeyTooLongError)
        );
    }

    #[test]
    fn answers() {
        let error = S3Error::new(S3ErrorCode::AccessDenied);
        let xml = result([
            DeleteOutcome::Deleted { key: "a", version: None },
            DeleteOutcome::Failed { key: "b", error: &error },
        ]);
        assert!(xml.ends_with(b"<Deleted><Key>a</Key></Deleted><Error><Key>b</Key><Code>AccessDenied</Code><Message>Access Denied.</Message></Error></DeleteResult>"));
    }
}
