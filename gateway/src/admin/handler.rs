//! The requests of the admin listener.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use serde::Serialize;

use crate::admin::gather::StatusGatherer;
use crate::admin::gauges::Gauges;
use crate::http::connection::Peer;
use crate::http::listener::Handler;
use crate::http::response::ResponseBody;

/// Writes all metrics in the text format of Prometheus.
pub type MetricsText = Arc<dyn Fn() -> String + Send + Sync>;

/// Answers `/metrics`, `/health/live`, `/health/ready` and `/status`.
pub struct AdminHandler {
    gatherer: StatusGatherer,
    metrics: MetricsText,
    gauges: Gauges,
}

impl AdminHandler {
    /// Answers from these sources.
    pub fn new(gatherer: StatusGatherer, metrics: MetricsText) -> Self {
        Self { gatherer, metrics, gauges: Gauges::default() }
    }

    async fn answer(&self, path: &str) -> Response<ResponseBody> {
        match path {
            "/metrics" => {
                self.gauges.set(&self.gatherer.status().await);
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
            "/status" => json(StatusCode::OK, &self.gatherer.status().await),
            _ => plain(
                StatusCode::NOT_FOUND,
                "There is /metrics, /health/live, /health/ready and /status.\n",
            ),
        }
    }
}

impl Handler for AdminHandler {
    async fn handle(&self, request: Request<Incoming>, peer: Peer) -> Response<ResponseBody> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            peer.connection.leave_body_unread();
            let mut answer =
                plain(StatusCode::METHOD_NOT_ALLOWED, "Only GET and HEAD are allowed.\n");
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            return answer;
        }
        let answer = self.answer(request.uri().path()).await;
        if request.method() == Method::HEAD {
            answer.map(|_| ResponseBody::empty())
        } else {
            answer
        }
    }
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
