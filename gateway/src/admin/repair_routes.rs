//! The paths that look at repair and at objects: which is which, and their answers.
//!
//! In: a path and a query. Out: documents. `GET /repair`, `GET /repair/why/BUCKET/KEY` and
//! `GET /objects/BUCKET/KEY`; a key is percent-encoded as in S3, and its slashes may stand as they are.
//! What always holds: nothing is changed by asking.

use std::time::Duration;

use bytes::Bytes;
use engine::{Engine, InspectError, InspectRequest};
use futures_util::future::join_all;
use http::{Method, Response, StatusCode, Uri};
use model::ids::NodeId;
use model::names::{BucketName, ObjectKey};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use wire::clock::timeout;

use crate::admin::answers::{json, not_allowed, plain, respond};
use crate::admin::gather::StatusGatherer;
use crate::admin::inspect::ObjectDocument;
use crate::admin::repair::RepairDocument;
use crate::admin::why::{Circumstances, WhyDocument};
use crate::http::response::ResponseBody;

/// Extents that are looked at when nothing else is said.
const EXTENTS_DEFAULT: usize = 100;

/// Extents that are looked at for the question why.
const EXTENTS_WHY: usize = 1000;

/// How long a replica may take to tell whose disks it doesn't give up.
const DOUBTS_DEADLINE: Duration = Duration::from_secs(2);

/// What stays as it is in a key's path.
const KEY_SET: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// `/repair`.
    Status,
    /// `/repair/why/BUCKET/KEY`.
    Why(InspectRequest),
    /// `/objects/BUCKET/KEY`.
    Object(InspectRequest),
    /// It can't be read, for this reason.
    Unreadable(String),
}

/// The path of an object behind `/repair/why` or `/objects`: what [`Question::parse`] reads.
pub fn object_path(bucket: &str, key: &str) -> String {
    let encode = |text: &str| utf8_percent_encode(text, KEY_SET).to_string();
    format!("/{}/{}", encode(bucket), encode(key))
}

impl Question {
    /// What a request asks; `None` when its path is for something else.
    pub(super) fn parse(uri: &Uri) -> Option<Self> {
        let path = uri.path();
        if path == "/repair" {
            return Some(Self::Status);
        }
        let (name, make): (&str, fn(InspectRequest) -> Self) =
            match (path.strip_prefix("/repair/why"), path.strip_prefix("/objects")) {
                (Some(rest), _) => (rest, Self::Why),
                (_, Some(rest)) => (rest, Self::Object),
                (None, None) => return None,
            };
        if !name.is_empty() && !name.starts_with('/') {
            return None;
        }
        Some(match read(name.strip_prefix('/').unwrap_or(name), uri.query().unwrap_or("")) {
            Ok(request) => make(request),
            Err(why) => Self::Unreadable(why),
        })
    }
}

fn read(name: &str, query: &str) -> Result<InspectRequest, String> {
    let decode = |text: &str| {
        let decoded = percent_decode_str(text).decode_utf8();
        decoded.map(std::borrow::Cow::into_owned).map_err(|_| "A name is not UTF-8.".to_owned())
    };
    let Some((bucket, key)) = name.split_once('/').filter(|(_, key)| !key.is_empty()) else {
        return Err("An object is named BUCKET/KEY behind the path.".to_owned());
    };
    let bucket = BucketName::parse(&decode(bucket)?)
        .map_err(|_| "No bucket can have that name.".to_owned())?;
    let key = ObjectKey::parse(&decode(key)?).map_err(|_| "No key is that long.".to_owned())?;
    let mut request =
        InspectRequest { bucket, key, from: 0, limit: EXTENTS_DEFAULT, verify: false };
    for setting in query.split('&').filter(|setting| !setting.is_empty()) {
        let unknown = || format!("`{setting}` is none of verify=true, limit=N and from=BYTE.");
        match setting.split_once('=') {
            Some(("verify", "true")) => request.verify = true,
            Some(("verify", "false")) => request.verify = false,
            Some(("limit", number)) => {
                let limit: usize = number.parse().map_err(|_| unknown())?;
                request.limit = Some(limit).filter(|limit| *limit > 0).ok_or_else(unknown)?;
            }
            Some(("from", number)) => request.from = number.parse().map_err(|_| unknown())?,
            _ => return Err(unknown()),
        }
    }
    Ok(request)
}

/// Answers.
pub(super) async fn answer(
    gatherer: &StatusGatherer,
    method: &Method,
    question: Question,
) -> Response<ResponseBody> {
    if method != Method::GET && method != Method::HEAD {
        return not_allowed("Only GET and HEAD are allowed here.\n", "GET, HEAD");
    }
    let Some(engine) = gatherer.engine() else {
        let text = "This process is no gateway; ask the admin listener of one.\n";
        return plain(StatusCode::NOT_IMPLEMENTED, text);
    };
    let answer = match question {
        Question::Unreadable(why) => sentence(StatusCode::BAD_REQUEST, &why),
        Question::Status => status(gatherer, engine).await,
        Question::Object(request) => match engine.inspect(&request).await {
            Ok(report) => {
                let InspectRequest { bucket, key, verify, .. } = &request;
                json(StatusCode::OK, &ObjectDocument::new(bucket, key, *verify, &report))
            }
            Err(error) => refused(&request, &error),
        },
        Question::Why(request) => {
            let request = InspectRequest { limit: request.limit.max(EXTENTS_WHY), ..request };
            let (report, withheld) =
                futures_util::join!(engine.inspect(&request), withheld(gatherer));
            match report {
                Ok(report) => {
                    let InspectRequest { bucket, key, verify, .. } = &request;
                    let found = ObjectDocument::new(bucket, key, *verify, &report);
                    let withheld: Vec<u32> = withheld.iter().map(|node| node.0).collect();
                    let repairs_here = report.repairs_here;
                    let circumstances = Circumstances { repairs_here, withheld: &withheld };
                    json(StatusCode::OK, &WhyDocument::new(&found, circumstances))
                }
                Err(error) => refused(&request, &error),
            }
        }
    };
    if method == Method::HEAD { answer.map(|_| ResponseBody::empty()) } else { answer }
}

async fn status(gatherer: &StatusGatherer, engine: &Engine) -> Response<ResponseBody> {
    let (counted, withheld) = futures_util::join!(engine.outstanding(), withheld(gatherer));
    match counted {
        Ok(outstanding) => {
            let (repaired, moved) = (engine.repair_progress(), engine.rebalance_progress());
            json(StatusCode::OK, &RepairDocument::new(&outstanding, repaired, &moved, &withheld))
        }
        Err(_) => plain(StatusCode::SERVICE_UNAVAILABLE, SILENT),
    }
}

const SILENT: &str = "The metadata service can't be asked now.\n";

/// Nodes of which so many are silent at once that their disks aren't given up without an operator.
async fn withheld(gatherer: &StatusGatherer) -> Vec<NodeId> {
    let client = gatherer.client();
    let clock = client.clock().as_ref();
    let replicas = client.book().replicas();
    let asked = join_all(replicas.into_iter().map(|id| async move {
        let status = timeout(clock, DOUBTS_DEADLINE, client.status(id)).await;
        status.ok().and_then(Result::ok)
    }));
    // Only the leader names any.
    asked.await.into_iter().flatten().flat_map(|status| status.withheld).collect()
}

fn refused(request: &InspectRequest, error: &InspectError) -> Response<ResponseBody> {
    let InspectRequest { bucket, key, .. } = request;
    match error {
        InspectError::NoSuchBucket => {
            sentence(StatusCode::NOT_FOUND, &format!("There is no bucket {bucket}."))
        }
        InspectError::NoSuchObject => {
            let text = format!("There is no object {key} in the bucket {bucket}.");
            sentence(StatusCode::NOT_FOUND, &text)
        }
        InspectError::Refused(refusal) => {
            sentence(StatusCode::BAD_REQUEST, &format!("The metadata refuses: {refusal}."))
        }
        InspectError::Unavailable => plain(StatusCode::SERVICE_UNAVAILABLE, SILENT),
    }
}

fn sentence(status: StatusCode, text: &str) -> Response<ResponseBody> {
    respond(status, "text/plain; charset=utf-8", Bytes::from(format!("{text}\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(target: &str) -> Option<Question> {
        Question::parse(&target.parse().expect("a target"))
    }

    fn named(target: &str) -> Option<(String, String)> {
        match parse(target)? {
            Question::Object(request) | Question::Why(request) => {
                Some((request.bucket.to_string(), request.key.to_string()))
            }
            Question::Status | Question::Unreadable(_) => None,
        }
    }

    #[test]
    fn keys_are_read_as_they_were_written() {
        for key in [
            "a",
            "a/b/c",
            "a//b/",
            "/a",
            "a b",
            "a+b",
            "a?b&c=d",
            "a%20b",
            "ä/日本/🙂",
            ".",
            "../x",
            "a#b",
            "\u{1}\n",
            "'\"<>",
        ] {
            let path = object_path("photos", key);
            let expected = Some(("photos".to_owned(), key.to_owned()));
            assert_eq!(named(&format!("/objects{path}")), expected, "{path}");
            assert_eq!(named(&format!("/repair/why{path}?from=7")), expected, "{path}");
        }
    }

    #[test]
    fn other_paths_are_not_for_this() {
        for none in ["/", "/repairs", "/repair/", "/repair/whynot/a/b", "/objectsx/a/b", "/status"]
        {
            assert_eq!(parse(none), None, "{none}");
        }
        assert_eq!(parse("/repair"), Some(Question::Status));
        for unreadable in [
            "/objects",
            "/objects/",
            "/objects/photos",
            "/objects/photos/",
            "/objects/No/key",
            "/objects/photos/%ff",
            "/objects/photos/a?limit=0",
            "/objects/photos/a?limit=x",
            "/objects/photos/a?all=1",
            "/repair/why",
            "/repair/why/photos",
        ] {
            assert!(matches!(parse(unreadable), Some(Question::Unreadable(_))), "{unreadable}");
        }
        let long = format!("/objects/photos/{}", "k".repeat(1025));
        assert!(matches!(parse(&long), Some(Question::Unreadable(_))));
    }

    #[test]
    fn settings_are_read() {
        let Some(Question::Object(request)) = parse("/objects/photos/a?verify=true&limit=3&from=9")
        else {
            panic!("a question");
        };
        assert_eq!((request.verify, request.limit, request.from), (true, 3, 9));
        let Some(Question::Object(request)) = parse("/objects/photos/a") else {
            panic!("a question");
        };
        assert_eq!((request.verify, request.limit, request.from), (false, EXTENTS_DEFAULT, 0));
    }
}
