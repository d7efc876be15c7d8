//! The requests of the admin listener.
//!
//! `GET` and `HEAD` read. `POST` and `DELETE` give orders; a `POST` must carry JSON by its content
//! type, which a page in the operator's browser can't send without asking first, and such questions
//! (`OPTIONS`) are refused. What a browser says comes from a page of elsewhere is refused altogether;
//! and but for what monitoring reads, so is what is asked by a host name, which may be a page's own
//! that was made to lead here. Every role has such a listener; what a process
//! can't do for want of a gateway or of metadata it says.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use wire::clock::{Clock, timeout};

use crate::admin::answers::{json, not_allowed, plain, respond, unread};
use crate::admin::backup;
use crate::admin::classes::paths::{self as class_paths, ClassPath};
use crate::admin::gather::StatusGatherer;
use crate::admin::gauges::Gauges;
use crate::admin::health::Health;
use crate::admin::job::ScrubOrder;
use crate::admin::jobs::{Begun, ScrubJobs};
use crate::admin::order_routes::{OrderPath, answer, carry_out, nobody, read};
use crate::admin::orders::{AdminOrders, OrderError};
use crate::admin::recovery::Released;
use crate::admin::repair_routes::{self, Question};
use crate::admin::status::ClusterStatus;
use crate::admin::upkeep::UpkeepDesk;
use crate::admin::upkeep::paths::{self, UpkeepPath};
use crate::http::connection::Peer;
use crate::http::listener::Handler;
use crate::http::response::ResponseBody;

/// Bytes of an order: a bucket's name and a key of 1024 bytes, escaped as JSON allows.
const ORDER_BYTES_MAX: usize = 16 * 1024;

/// How long an order may take to arrive.
const ORDER_TIMEOUT: Duration = Duration::from_secs(10);

const PATHS: &str = "There is /metrics, /health, /health/live, /health/ready, /status, /nodes, /jobs, /jobs/ID, /metadata/backup, /metadata/check, /metadata/recovery, /cluster/tokens, /disks, /nodes/ID/ok-to-stop, /repair, /repair/why/BUCKET/KEY, /objects/BUCKET/KEY, /moves, /upkeep, /classes, /buckets/NAME/class, /recode; to POST to /health/mute, /scrub, /jobs/ID/stop, /metadata/recovery, /metadata/recovery/stop, /metadata/recovery/release, /metadata/transfer, /metadata/add, /metadata/remove, /cluster/tokens, /nodes/ID/{remove,drain,undrain,move}, /disks/ID/{drain,undrain,out,in,weigh}, /moves/{pause,resume,cancel}, /upkeep, /classes/NAME, /buckets/NAME/class, /recode/BUCKET; and to DELETE /cluster/tokens/ID, /classes/NAME.\n";

/// Writes all metrics in the text format of Prometheus.
pub type MetricsText = Arc<dyn Fn() -> String + Send + Sync>;

/// What an admin listener answers from.
pub struct AdminParts {
    /// The state of the cluster and of this process.
    pub gatherer: StatusGatherer,
    /// The metrics.
    pub metrics: MetricsText,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Scrubs, where there is a gateway to carry them out.
    pub jobs: Option<Arc<ScrubJobs>>,
    /// Orders to the cluster, where there is metadata to carry them out.
    pub orders: Option<Arc<dyn AdminOrders>>,
}

/// Answers the admin listener's requests.
pub struct AdminHandler {
    parts: AdminParts,
    gauges: Gauges,
    upkeep: UpkeepDesk,
}

impl AdminHandler {
    /// Answers from these sources.
    pub fn new(parts: AdminParts) -> Self {
        let upkeep = UpkeepDesk::new(parts.gatherer.clone(), Arc::clone(&parts.clock));
        Self { parts, gauges: Gauges::default(), upkeep }
    }

    async fn read(&self, path: &str) -> Response<ResponseBody> {
        let gatherer = &self.parts.gatherer;
        match path {
            "/metrics" => {
                self.gauges.set(&gatherer.status().await);
                let text = (self.parts.metrics)();
                respond(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text.into())
            }
            "/health" => {
                let ClusterStatus { health, margin, reasons, .. } = gatherer.status().await;
                let ready = !reasons.iter().any(|reason| reason.blocking);
                json(StatusCode::OK, &Health { ready, status: health, margin, reasons })
            }
            // That this process answers is all that it says.
            "/health/live" => json(StatusCode::OK, &serde_json::json!({ "live": true })),
            "/health/ready" => {
                let health = gatherer.health().await;
                let status =
                    if health.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                json(status, &health)
            }
            "/status" => json(StatusCode::OK, &gatherer.status().await),
            "/metadata/backup" => backup::stream(Arc::clone(gatherer.client())).await,
            "/nodes" => json(StatusCode::OK, &gatherer.status().await.nodes),
            "/jobs" => {
                let jobs = self.parts.jobs.as_ref();
                json(StatusCode::OK, &jobs.map(|jobs| jobs.list()).unwrap_or_default())
            }
            RECOVERY => match self.parts.jobs.as_ref().and_then(|jobs| jobs.recovery().report()) {
                Some(report) => json(StatusCode::OK, &report),
                None => plain(StatusCode::NOT_FOUND, "No recovery was begun here.\n"),
            },
            path => match job_number(path).and_then(|id| self.parts.jobs.as_ref()?.get(id)) {
                Some(job) => json(StatusCode::OK, &job),
                None if path == "/scrub"
                    || path == HEALTH_MUTE
                    || RECOVERY_ORDERS.contains(&path)
                    || stopped_number(path).is_some() =>
                {
                    not_allowed("Only POST is allowed here.\n", "POST")
                }
                None => plain(StatusCode::NOT_FOUND, PATHS),
            },
        }
    }

    /// An order to the cluster.
    async fn command(
        &self,
        path: OrderPath,
        request: Request<Incoming>,
        peer: &Peer,
    ) -> Response<ResponseBody> {
        let method = request.method().clone();
        if !path.allows(&method) {
            return unread(not_allowed("This method isn't allowed here.\n", path.allowed()), peer);
        }
        let refused = if method == Method::POST { refuse_pages(request.headers()) } else { None };
        if let Some(refused) = refused {
            return unread(refused, peer);
        }
        let Some(orders) = &self.parts.orders else { return unread(nobody(), peer) };
        let body = match self.receive(request, peer).await {
            Ok(body) => body,
            Err(refused) => return refused,
        };
        carry_out(&**orders, path, &method, &body).await
    }

    /// An order to disks, nodes and moves.
    async fn upkeep(
        &self,
        path: UpkeepPath,
        request: Request<Incoming>,
        peer: &Peer,
    ) -> Response<ResponseBody> {
        let method = request.method().clone();
        if !path.allows(&method) {
            return unread(not_allowed("This method isn't allowed here.\n", path.allowed()), peer);
        }
        let refused = if method == Method::POST { refuse_pages(request.headers()) } else { None };
        if let Some(refused) = refused {
            return unread(refused, peer);
        }
        let body = match self.receive(request, peer).await {
            Ok(body) => body,
            Err(refused) => return refused,
        };
        paths::carry_out(&self.upkeep, path, &method, &body).await
    }

    /// An order about storage classes.
    async fn classes(
        &self,
        path: ClassPath,
        request: Request<Incoming>,
        peer: &Peer,
    ) -> Response<ResponseBody> {
        let method = request.method().clone();
        if !path.allows(&method) {
            return unread(not_allowed("This method isn't allowed here.\n", path.allowed()), peer);
        }
        let refused = if method == Method::POST { refuse_pages(request.headers()) } else { None };
        if let Some(refused) = refused {
            return unread(refused, peer);
        }
        let body = match self.receive(request, peer).await {
            Ok(body) => body,
            Err(refused) => return refused,
        };
        let now = self.parts.clock.now();
        class_paths::carry_out(&self.parts.gatherer, now, path, &method, &body).await
    }

    /// An order to mute a health code.
    async fn mute(&self, request: Request<Incoming>, peer: &Peer) -> Response<ResponseBody> {
        if let Some(refused) = refuse_pages(request.headers()) {
            return unread(refused, peer);
        }
        let body = match self.receive(request, peer).await {
            Ok(body) => body,
            Err(refused) => return refused,
        };
        let muted = async { self.parts.gatherer.mute(&read(&body)?).await };
        answer(StatusCode::OK, muted.await)
    }

    /// An order to recover, or about the recovery.
    async fn recovery(&self, request: Request<Incoming>, peer: &Peer) -> Response<ResponseBody> {
        if let Some(refused) = refuse_pages(request.headers()) {
            return unread(refused, peer);
        }
        let Some(jobs) = &self.parts.jobs else {
            let text = "This process is no gateway; ask the admin listener of one.\n";
            return unread(plain(StatusCode::NOT_IMPLEMENTED, text), peer);
        };
        let path = request.uri().path().to_owned();
        let body = match self.receive(request, peer).await {
            Ok(body) => body,
            Err(refused) => return refused,
        };
        let recovery = jobs.recovery();
        match path.as_str() {
            RECOVERY => {
                let order = serde_json::from_slice(&body).map_err(|error| {
                    OrderError::Invalid(format!("The order can't be read: {error}."))
                });
                answer(StatusCode::ACCEPTED, order.and_then(|order| recovery.begin(order)))
            }
            RECOVERY_STOP => match recovery.stop() {
                Some(report) => json(StatusCode::OK, &report),
                None => plain(StatusCode::NOT_FOUND, "No recovery was begun here.\n"),
            },
            _ => match serde_json::from_slice(&body) {
                Ok(order) => answer(StatusCode::OK, recovery.release(order).await),
                Err(error) => {
                    let text = format!("The order can't be read: {error}.");
                    answer::<Released>(StatusCode::OK, Err(OrderError::Invalid(text)))
                }
            },
        }
    }

    /// An order to scrub.
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
        let Some(jobs) = &self.parts.jobs else {
            let text = "This process is no gateway; ask the admin listener of one.\n";
            return unread(plain(StatusCode::NOT_IMPLEMENTED, text), peer);
        };
        if let Some(id) = stopped {
            let answer = match jobs.stop(id) {
                Some(job) => json(StatusCode::OK, &job),
                None => plain(StatusCode::NOT_FOUND, "There is no such job.\n"),
            };
            return unread(answer, peer);
        }
        let body = match self.receive(request, peer).await {
            Ok(body) => body,
            Err(refused) => return refused,
        };
        let Ok(order) = serde_json::from_slice::<ScrubOrder>(&body) else {
            return plain(StatusCode::BAD_REQUEST, "The order can't be read.\n");
        };
        match jobs.begin(order) {
            Begun::New(job) => json(StatusCode::ACCEPTED, &job),
            Begun::Running(job) => json(StatusCode::OK, &job),
            Begun::Invalid => {
                plain(StatusCode::BAD_REQUEST, "The order has a name that can't be one.\n")
            }
            Begun::Busy => plain(StatusCode::SERVICE_UNAVAILABLE, "Too many scrubs run already.\n"),
        }
    }

    /// An order's document.
    async fn receive(
        &self,
        request: Request<Incoming>,
        peer: &Peer,
    ) -> Result<Bytes, Response<ResponseBody>> {
        let body = Limited::new(request.into_body(), ORDER_BYTES_MAX).collect();
        match timeout(&*self.parts.clock, ORDER_TIMEOUT, body).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(_)) => {
                let text = "The order is too long, or broke off.\n";
                Err(unread(plain(StatusCode::PAYLOAD_TOO_LARGE, text), peer))
            }
            Err(_) => {
                let text = "The order did not arrive in time.\n";
                Err(unread(plain(StatusCode::REQUEST_TIMEOUT, text), peer))
            }
        }
    }
}

impl Handler for AdminHandler {
    async fn handle(&self, request: Request<Incoming>, peer: Peer) -> Response<ResponseBody> {
        if let Some(refused) = refuse_elsewhere(request.uri(), request.headers()) {
            return unread(refused, &peer);
        }
        if let Some(path) = OrderPath::parse(request.uri().path()) {
            return self.command(path, request, &peer).await;
        }
        if let Some(path) = UpkeepPath::parse(request.uri().path()) {
            return self.upkeep(path, request, &peer).await;
        }
        if let Some(path) = ClassPath::parse(request.uri().path()) {
            return self.classes(path, request, &peer).await;
        }
        if let Some(question) = Question::parse(request.uri()) {
            let answer =
                repair_routes::answer(&self.parts.gatherer, request.method(), question).await;
            let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
            return if is_read { answer } else { unread(answer, &peer) };
        }
        match *request.method() {
            Method::GET => self.read(request.uri().path()).await,
            Method::HEAD => self.read(request.uri().path()).await.map(|_| ResponseBody::empty()),
            Method::POST if RECOVERY_ORDERS.contains(&request.uri().path()) => {
                self.recovery(request, &peer).await
            }
            Method::POST if request.uri().path() == HEALTH_MUTE => self.mute(request, &peer).await,
            Method::POST => self.order(request, &peer).await,
            _ => {
                let text = "Only GET, HEAD and POST are allowed.\n";
                unread(not_allowed(text, "GET, HEAD, POST"), &peer)
            }
        }
    }
}

/// The recovery's report, and the order to begin one.
const RECOVERY: &str = "/metadata/recovery";
const RECOVERY_STOP: &str = "/metadata/recovery/stop";
const RECOVERY_RELEASE: &str = "/metadata/recovery/release";
const RECOVERY_ORDERS: [&str; 3] = [RECOVERY, RECOVERY_STOP, RECOVERY_RELEASE];

/// The order to mute a health code, or to end that.
const HEALTH_MUTE: &str = "/health/mute";

/// Paths that are read, besides those of jobs.
const READABLE: [&str; 8] = [
    "/health",
    "/metrics",
    "/health/live",
    "/health/ready",
    "/status",
    "/nodes",
    "/jobs",
    "/metadata/backup",
];

/// What only operators ask for; the rest monitoring reads, too, by whatever name it knows.
const PRIVATE: [&str; 14] = [
    "/classes",
    "/buckets",
    "/recode",
    "/health/mute",
    "/metadata",
    "/cluster",
    "/nodes",
    "/scrub",
    "/jobs",
    "/disks",
    "/moves",
    "/upkeep",
    "/repair",
    "/objects",
];

/// Where a browser says on whose behalf it asks.
const FETCH_SITE: &str = "sec-fetch-site";

fn job_number(path: &str) -> Option<u64> {
    path.strip_prefix("/jobs/")?.parse().ok()
}

fn stopped_number(path: &str) -> Option<u64> {
    job_number(path.strip_suffix("/stop")?)
}

/// Refuses orders such as a page in a browser can send to any address.
fn refuse_pages(headers: &HeaderMap) -> Option<Response<ResponseBody>> {
    let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    (content_type != Some(b"application/json")).then(|| {
        let text = "Orders have the content type application/json.\n";
        plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, text)
    })
}

/// Refuses what a browser sends for a page that isn't of this listener, and what may be from a page
/// whose own name was made to lead here.
fn refuse_elsewhere(uri: &Uri, headers: &HeaderMap) -> Option<Response<ResponseBody>> {
    let is_own = |site: &HeaderValue| matches!(site.as_bytes(), b"none" | b"same-origin");
    let is_of_page =
        headers.contains_key(header::ORIGIN) || !headers.get_all(FETCH_SITE).iter().all(is_own);
    if is_of_page {
        return Some(plain(StatusCode::FORBIDDEN, "Requests of web pages are refused.\n"));
    }
    let is_private = PRIVATE.iter().any(|private| {
        let rest = uri.path().strip_prefix(private);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    let mut hosts = headers
        .get_all(header::HOST)
        .iter()
        .map(HeaderValue::as_bytes)
        .chain(uri.authority().map(|authority| authority.as_str().as_bytes()));
    let is_by_name = !hosts.all(is_address);
    (is_private && is_by_name).then(|| {
        let text = "This is answered only when asked by an IP address or localhost.\n";
        plain(StatusCode::FORBIDDEN, text)
    })
}

/// Whether a host, with or without a port, is none that a name server could be made to lie about.
fn is_address(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    let bare = match host.rsplit_once(':') {
        Some((bare, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => bare,
        _ => host,
    };
    let is_v6 = |host: &str| {
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        inner.is_some_and(|inner| inner.parse::<Ipv6Addr>().is_ok())
    };
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<Ipv4Addr>().is_ok() || is_v6(bare)
}
