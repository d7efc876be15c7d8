//! What GetObject and HeadObject share: conditions, ranges, parts, and the headers of the answer.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use model::checksum::{ChecksumKind, StoredChecksum};
use model::names::{BucketName, ObjectKey};
use model::query::{Answer as Found, ObjectFound, PlanWanted, Query};
use model::version::Version;
use s3::condition::{Outcome, ReadConditions};
use s3::headers::{ResponseOverrides, write_object_headers};
use s3::multipart::read_part_number;
use s3::operation::Operation;
use s3::range::{ByteRange, RangeRequest};
use s3::{S3Error, S3ErrorCode};

use super::answer::{Answer, empty, set, set_checksum, set_etag, set_modified};
use super::ask::out_of_turn;
use crate::auth::Permit;
use crate::{Gateway, S3Request};

/// An object that is about to be answered.
pub enum Opened {
    /// The client has it already.
    NotModified(Answer),
    /// It is there; the answer has its headers and no body yet.
    Found {
        /// The answer.
        answer: Answer,
        /// How to read its bytes.
        found: Box<ObjectFound>,
    },
}

/// Which bytes of an object are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Selection {
    Whole,
    Range(RangeRequest),
    Part(u16),
}

impl Selection {
    fn parse(request: &S3Request) -> Result<Selection, S3Error> {
        let part = read_part_number(&request.route.query)?;
        let range = request.header("range");
        match (part, range) {
            (Some(_), Some(_)) => Err(S3Error::with(
                S3ErrorCode::InvalidRequest,
                "Cannot specify both Range header and partNumber query parameter",
            )),
            (Some(part), None) => Ok(Selection::Part(part)),
            // What S3 doesn't take for a range means the whole object.
            (None, range) => {
                Ok(range.and_then(RangeRequest::parse).map_or(Selection::Whole, Selection::Range))
            }
        }
    }

    fn plan(self) -> PlanWanted {
        match self {
            Selection::Whole => PlanWanted::Whole,
            Selection::Range(RangeRequest::Between { first, last }) => {
                PlanWanted::Between(first, last)
            }
            Selection::Range(RangeRequest::From { first }) => PlanWanted::From(first),
            Selection::Range(RangeRequest::Last { length }) => PlanWanted::Last(length),
            Selection::Part(number) => PlanWanted::Part(number),
        }
    }
}

/// Finds the object, evaluates the conditions, and writes the headers of the answer.
pub async fn open(
    gateway: &Gateway,
    _permit: Permit,
    request: &S3Request,
) -> Result<Opened, S3Error> {
    let (bucket, key) = request.object()?;
    let selection = Selection::parse(request)?;
    let conditions = ReadConditions::of_read(&request.headers);
    let overrides = ResponseOverrides::parse(&request.route.query, Some(&request.signed))?;
    let is_head = request.route.operation == Operation::HeadObject;
    // A HEAD needs no extents, but the range of a part is only known to the plan.
    let plan = if is_head && !matches!(selection, Selection::Part(_)) {
        PlanWanted::Nothing
    } else {
        selection.plan()
    };
    let mut found = gateway.object(&bucket, &key, plan).await?;
    if !conditions.is_empty() {
        let etag = found.version.etag.to_string();
        match conditions.evaluate(&etag, found.version.modified) {
            Outcome::Proceed => {}
            Outcome::NotModified => return Ok(Opened::NotModified(not_modified(&found.version))),
            Outcome::PreconditionFailed => {
                return Err(S3Error::new(S3ErrorCode::PreconditionFailed));
            }
        }
    }
    let range = match selection {
        Selection::Whole => None,
        Selection::Range(range) => Some(range.resolve(found.version.size)?),
        Selection::Part(number) => {
            if found.version.etag.parts.is_none() {
                // An object put in one request is its own and only part.
                if number != 1 {
                    return Err(no_such_part(number));
                }
                if found.range.is_none() {
                    found = gateway.object(&bucket, &key, PlanWanted::Whole).await?;
                }
            }
            let range = found.range.clone().ok_or_else(|| no_such_part(number))?;
            let length = range.end - range.start;
            (length > 0).then_some(ByteRange { start: range.start, length })
        }
    };
    let checksum = match request.header("x-amz-checksum-mode") {
        Some(mode) if mode.eq_ignore_ascii_case("ENABLED") => {
            checksum(gateway, &bucket, &key, selection, &found.version).await?
        }
        _ => None,
    };
    let mut answer =
        empty(if range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK });
    let headers = answer.headers_mut();
    write_headers(headers, &found.version, range);
    if let Some((checksum, parts)) = checksum {
        set_checksum(headers, &checksum, parts);
    }
    if let (Selection::Part(_), Some(parts)) = (selection, found.version.etag.parts) {
        headers.insert(HeaderName::from_static("x-amz-mp-parts-count"), HeaderValue::from(parts));
    }
    overrides.apply(headers);
    Ok(Opened::Found { answer, found: Box::new(found) })
}

fn no_such_part(number: u16) -> S3Error {
    S3Error::new(S3ErrorCode::InvalidPartNumber).field("PartNumberRequested", number.to_string())
}

/// 304, with what a cache needs.
fn not_modified(version: &Version) -> Answer {
    let mut answer = empty(StatusCode::NOT_MODIFIED);
    let headers = answer.headers_mut();
    set_etag(headers, version.etag);
    set_modified(headers, version.modified);
    if let Some(cache) = &version.headers.cache_control {
        set(headers, header::CACHE_CONTROL, cache.as_str());
    }
    answer
}

fn write_headers(headers: &mut HeaderMap, version: &Version, range: Option<ByteRange>) {
    let length = range.map_or(version.size, |range| range.length);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    set_etag(headers, version.etag);
    set_modified(headers, version.modified);
    write_object_headers(&version.headers, headers);
    if let Some(range) = range {
        set(headers, header::CONTENT_RANGE, range.content_range(version.size));
    }
}

/// The checksum of what is sent: the object's, or the part's. A range has none.
async fn checksum(
    gateway: &Gateway,
    bucket: &BucketName,
    key: &ObjectKey,
    selection: Selection,
    version: &Version,
) -> Result<Option<(StoredChecksum, Option<u32>)>, S3Error> {
    let whole = version.checksum.clone().map(|checksum| (checksum, version.etag.parts));
    match (selection, version.etag.parts) {
        (Selection::Whole, _) | (Selection::Part(_), None) => Ok(whole),
        (Selection::Range(_), _) => Ok(None),
        (Selection::Part(number), Some(_)) => {
            let composite =
                version.checksum.as_ref().is_some_and(|sum| sum.kind == ChecksumKind::Composite);
            if !composite {
                return Ok(None);
            }
            let (bucket, key) = (bucket.clone(), key.clone());
            let query = Query::ObjectParts { bucket, key, after: number - 1, limit: 1 };
            let Found::ObjectParts(page) = gateway.ask(query).await? else {
                return Err(out_of_turn());
            };
            // Another body may have come in between: then the parts aren't this one's.
            let same = page.version.manifest == version.manifest;
            let part = page.parts.into_iter().find(|part| same && part.number == number);
            // The type is the object's, as S3 answers it.
            Ok(part.and_then(|part| part.checksum).map(|checksum| {
                (StoredChecksum { kind: ChecksumKind::Composite, ..checksum }, None)
            }))
        }
    }
}
