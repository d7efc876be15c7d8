//! Conditional requests: RFC 9110 preconditions as S3 evaluates them.
//!
//! In: the conditional headers and what the object is now. Out: go on, 304 or 412. For writes only the
//! parsing is here: the metadata evaluates the condition inside the commit, where it is atomic.

use http::{HeaderMap, HeaderName, header};
use model::time::Timestamp;

use crate::date;
use crate::error::{S3Error, S3ErrorCode};

/// What a read does once its conditions were evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Answer the request.
    Proceed,
    /// Answer 304 without a body, with ETag and Last-Modified.
    NotModified,
    /// Answer 412 `PreconditionFailed`.
    PreconditionFailed,
}

/// The conditions of a read, or those on the source of a copy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadConditions {
    if_match: Option<EntityTags>,
    if_none_match: Option<EntityTags>,
    if_modified_since: Option<Timestamp>,
    if_unmodified_since: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum EntityTags {
    Any,
    Listed(Vec<String>),
}

impl EntityTags {
    fn parse(value: &str) -> EntityTags {
        if value.trim() == "*" {
            return EntityTags::Any;
        }
        EntityTags::Listed(value.split(',').map(|tag| bare_etag(tag).to_owned()).collect())
    }

    fn matches(&self, etag: &str) -> bool {
        match self {
            EntityTags::Any => true,
            EntityTags::Listed(tags) => tags.iter().any(|tag| tag == bare_etag(etag)),
        }
    }
}

/// An entity tag without its quotes and weakness mark: S3 compares tags so, and takes them unquoted too.
pub fn bare_etag(tag: &str) -> &str {
    let tag = tag.trim();
    let tag = tag.strip_prefix("W/").unwrap_or(tag);
    tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).unwrap_or(tag)
}

impl ReadConditions {
    /// The `If-*` headers of a GET or HEAD.
    pub fn of_read(headers: &HeaderMap) -> ReadConditions {
        ReadConditions::parse(
            headers,
            [
                &header::IF_MATCH,
                &header::IF_NONE_MATCH,
                &header::IF_MODIFIED_SINCE,
                &header::IF_UNMODIFIED_SINCE,
            ],
        )
    }

    /// The `x-amz-copy-source-if-*` headers of a copy.
    pub fn of_copy_source(headers: &HeaderMap) -> ReadConditions {
        ReadConditions::parse(
            headers,
            [
                &HeaderName::from_static("x-amz-copy-source-if-match"),
                &HeaderName::from_static("x-amz-copy-source-if-none-match"),
                &HeaderName::from_static("x-amz-copy-source-if-modified-since"),
                &HeaderName::from_static("x-amz-copy-source-if-unmodified-since"),
            ],
        )
    }

    fn parse(headers: &HeaderMap, names: [&HeaderName; 4]) -> ReadConditions {
        let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let [if_match, if_none_match, modified, unmodified] = names;
        // RFC 9110: a date that can't be read makes the condition as if it weren't there.
        ReadConditions {
            if_match: text(if_match).map(EntityTags::parse),
            if_none_match: text(if_none_match).map(EntityTags::parse),
            if_modified_since: text(modified).and_then(date::parse_http),
            if_unmodified_since: text(unmodified).and_then(date::parse_http),
        }
    }

    /// Whether there is anything to evaluate.
    pub fn is_empty(&self) -> bool {
        *self == ReadConditions::default()
    }

    /// Evaluates in the order of RFC 9110 §13.2.2: a condition on the tag overrides that on the date.
    pub fn evaluate(&self, etag: &str, modified: Timestamp) -> Outcome {
        let modified_seconds = seconds(modified);
        let kept = match (&self.if_match, self.if_unmodified_since) {
            (Some(tags), _) => tags.matches(etag),
            (None, Some(since)) => modified_seconds <= seconds(since),
            (None, None) => true,
        };
        if !kept {
            return Outcome::PreconditionFailed;
        }
        let changed = match (&self.if_none_match, self.if_modified_since) {
            (Some(tags), _) => !tags.matches(etag),
            (None, Some(since)) => modified_seconds > seconds(since),
            (None, None) => true,
        };
        if changed { Outcome::Proceed } else { Outcome::NotModified }
    }

    /// Evaluates for the source of a copy, where every failure is a 412.
    pub fn evaluate_copy_source(&self, etag: &str, modified: Timestamp) -> Result<(), S3Error> {
        match self.evaluate(etag, modified) {
            Outcome::Proceed => Ok(()),
            Outcome::NotModified | Outcome::PreconditionFailed => {
                Err(S3Error::new(S3ErrorCode::PreconditionFailed))
            }
        }
    }
}

// HTTP dates have whole seconds, so finer parts of a modification time must not count.
fn seconds(time: Timestamp) -> u64 {
    time.as_seconds()
}

/// The condition under which a write is allowed to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteCondition {
    /// No condition.
    Always,
    /// `If-None-Match: *`: only if there is no object at the key.
    IfAbsent,
    /// `If-Match`: only if the object at the key has this entity tag (without quotes).
    IfMatch(String),
    /// `If-Match: *`: only if there is an object at the key.
    IfPresent,
}

impl WriteCondition {
    /// The condition of a PutObject or CompleteMultipartUpload.
    pub fn parse(headers: &HeaderMap) -> Result<WriteCondition, S3Error> {
        for dated in ["if-modified-since", "if-unmodified-since"] {
            if headers.contains_key(dated) {
                return Err(S3Error::header_not_implemented(dated));
            }
        }
        let if_none_match = single(headers, "if-none-match")?;
        let if_match = single(headers, "if-match")?;
        match (if_none_match, if_match) {
            (None, None) => Ok(WriteCondition::Always),
            (Some("*"), None) => Ok(WriteCondition::IfAbsent),
            (Some(_), _) => Err(S3Error::header_not_implemented("If-None-Match")),
            (None, Some("*")) => Ok(WriteCondition::IfPresent),
            (None, Some(tag)) if tag.is_empty() || tag.contains(',') => {
                Err(S3Error::header_not_implemented("If-Match"))
            }
            (None, Some(tag)) => Ok(WriteCondition::IfMatch(bare_etag(tag).to_owned())),
        }
    }
}

fn single<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, S3Error> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match (value.to_str(), values.next()) {
        (Ok(text), None) => Ok(Some(text.trim())),
        _ => Err(S3Error::header_not_implemented(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODIFIED: &str = "Fri, 24 May 2013 00:00:00 GMT";
    const BEFORE: &str = "Thu, 23 May 2013 00:00:00 GMT";
    const AFTER: &str = "Sat, 25 May 2013 00:00:00 GMT";

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, http::HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn reads_follow_the_precedence_of_the_rfc() {
        let modified = date::parse_http(MODIFIED).expect("a date");
        // Half a second later than the header can say, which must not matter.
        let modified = modified.plus_nanos(500_000_000);
        let check = |pairs: &[(&'static str, &'static str)], expected: Outcome| {
            let conditions = ReadConditions::of_read(&headers(pairs));
            assert_eq!(conditions.evaluate("\"abc\"", modified), expected, "{pairs:?}");
        };
        use Outcome::{NotModified, PreconditionFailed, Proceed};
        check(&[], Proceed);
        check(&[("if-match", "\"abc\"")], Proceed);
        check(&[("if-match", "abc")], Proceed);
        check(&[("if-match", "\"x\", \"abc\"")], Proceed);
        check(&[("if-match", "*")], Proceed);
        check(&[("if-match", "\"x\"")], PreconditionFailed);
        check(&[("if-none-match", "\"abc\"")], NotModified);
        check(&[("if-none-match", "W/\"abc\"")], NotModified);
        check(&[("if-none-match", "*")], NotModified);
        check(&[("if-none-match", "\"x\"")], Proceed);
        check(&[("if-modified-since", MODIFIED)], NotModified);
        check(&[("if-modified-since", AFTER)], NotModified);
        check(&[("if-modified-since", BEFORE)], Proceed);
        check(&[("if-modified-since", "yesterday")], Proceed);
        check(&[("if-unmodified-since", MODIFIED)], Proceed);
        check(&[("if-unmodified-since", BEFORE)], PreconditionFailed);
        check(&[("if-match", "\"abc\""), ("if-unmodified-since", BEFORE)], Proceed);
        check(&[("if-none-match", "\"x\""), ("if-modified-since", AFTER)], Proceed);
        check(&[("if-none-match", "\"abc\""), ("if-modified-since", BEFORE)], NotModified);
        check(&[("if-match", "\"x\""), ("if-none-match", "\"abc\"")], PreconditionFailed);
    }

    #[test]
    fn copy_sources_fail_with_412_only() {
        let modified = date::parse_http(MODIFIED).expect("a date");
        let check = |name: &'static str, value: &'static str, passes: bool| {
            let conditions = ReadConditions::of_copy_source(&headers(&[(name, value)]));
            assert_eq!(conditions.evaluate_copy_source("abc", modified).is_ok(), passes, "{name}");
        };
        check("x-amz-copy-source-if-match", "\"abc\"", true);
        check("x-amz-copy-source-if-match", "\"x\"", false);
        check("x-amz-copy-source-if-none-match", "\"abc\"", false);
        check("x-amz-copy-source-if-modified-since", AFTER, false);
        check("x-amz-copy-source-if-unmodified-since", BEFORE, false);
    }

    #[test]
    fn writes_take_only_what_s3_takes() {
        let check = |pairs: &[(&'static str, &'static str)], expected: Option<WriteCondition>| {
            assert_eq!(WriteCondition::parse(&headers(pairs)).ok(), expected, "{pairs:?}");
        };
        check(&[], Some(WriteCondition::Always));
        check(&[("if-none-match", "*")], Some(WriteCondition::IfAbsent));
        check(&[("if-match", "\"abc\"")], Some(WriteCondition::IfMatch("abc".into())));
        check(&[("if-match", "abc")], Some(WriteCondition::IfMatch("abc".into())));
        check(&[("if-match", "*")], Some(WriteCondition::IfPresent));
        check(&[("if-none-match", "\"abc\"")], None);
        check(&[("if-none-match", "*"), ("if-match", "\"abc\"")], None);
        check(&[("if-match", "\"a\", \"b\"")], None);
        check(&[("if-match", "\"a\""), ("if-match", "\"b\"")], None);
        check(&[("if-match", "")], None);
        check(&[("if-unmodified-since", MODIFIED)], None);
    }
}
