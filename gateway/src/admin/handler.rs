//! The requests of the admin listener.
//!
//! `GET` and `HEAD` read. `POST` begins or stops a scrub, and must carry JSON by its content type
//! and no `Origin`: a page in the operator's browser can send neither without asking first, and
//! such questions (`OPTIONS`) are refused.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::Serialize;
use wire::clock::timeout;

use crate::admin::gather::StatusGatherer;
use crate::admin::gauges::Gauges;
use crate::admin::job::ScrubOrder;
use crate::admin::jobs::{Begun, ScrubJobs};
use crate::http::connection::Peer;
use crate::http::listener::Handler;
use crate::http::response::ResponseBody;

/// Bytes of an order: a bucket's name and a key of 1024 bytes, escaped as JSON allows.
const ORDER_BYTES_MAX: usize = 16 * 1024;

/// How long an order may take to arrive.
const ORDER_TIMEOUT: Duration = Duration::from_secs(10);

const PATHS: &str = "There is /metrics, /health/live, /health/ready, /status, /jobs, /jobs/ID, and to POST to /scrub and /jobs/ID/stop.\n";

/// Writes all metrics in the text format of Prometheus.
pub type MetricsText = Arc<dyn Fn() -> String + Send + Sync>;

/// Answers `/metrics`, `/health/live`, `/health/ready`, `/status`, `/scrub` and `/jobs`.
pub struct AdminHandler {
    gatherer: StatusGatherer,
    metrics: MetricsText,
    gauges: Gauges,
    jobs: Arc<ScrubJobs>,
}

impl AdminHandler {
    /// Answers from these sources.
    pub fn new(gatherer: StatusGatherer, metrics: MetricsText, jobs: Arc<ScrubJobs>) -> Self {
        Self { gatherer, metrics, gauges: Gauges::default(), jobs }
    }

    async fn read(&self, path: &str) -> Response<ResponseBody> {
        match path {
            "/metrics" => {
                self.gauges.set(&self.gatherer.status(&self.jobs).await);
                let text = (self.metrics)();
                respond(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text.into())
            }
            // That this process answers is all that it says.
            "/health/live" => json(StatusCode::OK, &serde_json::json!({ "live": true })),
            "/health/ready" => {
                let health = self.gatherer.health().await;
                let status =
                    if health.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                json(status, &health)
            }
            "/status" => json(StatusCode::OK, &self.gatherer.status(&self.jobs).await),
            "/jobs" => json(StatusCode::OK, &self.jobs.list()),
            path => match job_number(path).and_then(|id| self.jobs.get(id)) {
                Some(job) => json(StatusCode::OK, &job),
                None if path == "/scrub" || stopped_number(path).is_some() => {
                    not_allowed("Only POST is allowed here.\n", "POST")
                }
                None => plain(StatusCode::NOT_FOUND, PATHS),
            },
        }
    }

    async fn order(&self, request: Request<Incoming>, peer: &Peer) -> Response<ResponseBody> {
        let path = request.uri().path();
        let stopped = stopped_number(path);
        let refused = if path != "/scrub" && stopped.is_none() {
            let is_readable = job_number(path).is_some() || READABLE.contains(&path);
            Some(if is_readable {
                not_allowed("Only GET and HEAD are allowed here.\n", "GET, HEAD")
            } else {
                plain(StatusCode::NOT_FOUND, PATHS)
            })
        } else {
            refuse_pages(request.headers())
        };
        if let Some(refused) = refused {
            return unread(refused, peer);
        }
        if let Some(id) = stopped {
            let answer = match self.jobs.stop(id) {
                Some(job) => json(StatusCode::OK, &job),
                None => plain(StatusCode::NOT_FOUND, "There is no such job.\n"),
            };
            return unread(answer, peer);
        }
        let body = Limited::new(request.into_body(), ORDER_BYTES_MAX).collect();
        let body = match timeout(self.jobs.clock(), ORDER_TIMEOUT, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(_)) => {
                let text = "The order is too long, or broke off.\n";
                return unread(plain(StatusCode::PAYLOAD_TOO_LARGE, text), peer);
            }
            Err(_) => {
                let text = "The order did not arrive in time.\n";
                return unread(plain(StatusCode::REQUEST_TIMEOUT, text), peer);
            }
        };
        let Ok(order) = serde_json::from_slice::<ScrubOrder>(&body) else {
            return plain(StatusCode::BAD_REQUEST, "The order can't be read.\n");
        };
        match self.jobs.begin(order) {
            Begun::New(job) => json(StatusCode::ACCEPTED, &job),
            Begun::Running(job) => json(StatusCode::OK, &job),
            Begun::Invalid => {
                plain(StatusCode::BAD_REQUEST, "The order has a name that can't be one.\n")
            }
            Begun::Busy => plain(StatusCode::SERVICE_UNAVAILABLE, "Too many scrubs run already.\n"),
        }
    }
}

impl Handler for AdminHandler {
    async fn handle(&self, request: Request<Incoming>, peer: Peer) -> Response<ResponseBody> {
        match *request.method() {
            Method::GET => self.read(request.uri().path()).await,
            Method::HEAD => self.read(request.uri().path()).await.map(|_| ResponseBody::empty()),
            Method::POST => self.order(request, &peer).await,
            _ => {
                let text = "Only GET, HEAD and POST are allowed.\n";
                unread(not_allowed(text, "GET, HEAD, POST"), &peer)
            }
        }
    }
}

/// Paths that are read, besides those of jobs.
const READABLE: [&str; 5] = ["/metrics", "/health/live", "/health/ready", "/status", "/jobs"];

fn job_number(path: &str) -> Option<u64> {
    path.strip_prefix("/jobs/")?.parse().ok()
}

fn stopped_number(path: &str) -> Option<u64> {
    job_number(path.strip_suffix("/stop")?)
}

/// Refuses what a page in a browser can send to any address.
fn refuse_pages(headers: &HeaderMap) -> Option<Response<ResponseBody>> {
    if headers.contains_key(header::ORIGIN) {
        return Some(plain(StatusCode::FORBIDDEN, "Orders from web pages are refused.\n"));
    }
    let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    (content_type != Some(b"application/json")).then(|| {
        let text = "Orders have the content type application/json.\n";
        plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, text)
    })
}

/// An answer before the request's body was read: the connection ends with it.
fn unread(mut answer: Response<ResponseBody>, peer: &Peer) -> Response<ResponseBody> {
    peer.connection.leave_body_unread();
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

fn not_allowed(text: &'static str, allowed: &'static str) -> Response<ResponseBody> {
    let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, text);
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    answer
}

fn json(status: StatusCode, document: &impl Serialize) -> Response<ResponseBody> {
    match serde_json::to_vec(document) {
        Ok(text) => respond(status, "application/json", text.into()),
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "The answer could not be written.\n"),
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<ResponseBody> {
    respond(status, "text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()))
}

fn respond(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<ResponseBody> {
    let length = body.len();
    let mut answer = Response::new(ResponseBody::whole(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
