//! What is counted of requests, connections and refusals.
//!
//! In: what happens. Out: series of the `metrics` recorder. The recorder must be installed before a
//! [`GatewayMetrics`] is made: handles made earlier count nothing. Handles are made once and kept,
//! since looking a series up by its labels costs more than counting.
//!
//! | series | labels | |
//! | --- | --- | --- |
//! | `drystone_s3_requests_total` | `operation`, `status` (`2xx` ...) | answered requests |
//! | `drystone_s3_errors_total` | `operation`, `code` | answers with an S3 error |
//! | `drystone_s3_request_seconds` | `operation` | from the head's arrival to the answer's last byte |
//! | `drystone_s3_received_bytes_total` | | bytes of request bodies |
//! | `drystone_s3_sent_bytes_total` | | bytes of answers' bodies |
//! | `drystone_s3_requests_in_flight` | | |
//! | `drystone_s3_responses_cut_short_total` | | answers that ended in their middle (I-7) |
//! | `drystone_s3_auth_failures_total` | `kind` (an S3 code) | refused identities |
//! | `drystone_http_connections` | | open now |
//! | `drystone_http_draining` | | 1 from the order to stop on |
//! | `drystone_http_connections_cut_off_total` | | with a request in flight when the time for that was up |

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::StatusCode;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use s3::S3ErrorCode;
use s3::operation::{Operation, TABLE};
use wire::clock::Clock;

use crate::http::response::ResponseBodyError;

/// The operation's name where a request names none.
const UNKNOWN_OPERATION: &str = "Unknown";

const STATUS_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The handles of all series.
pub struct GatewayMetrics {
    clock: Arc<dyn Clock>,
    operations: Vec<OperationMetrics>,
    unknown: OperationMetrics,
    in_flight: Gauge,
    connections: Gauge,
    received: Counter,
    sent: Counter,
    cut_short: Counter,
}

/// Made at an operation's first request, so that what nobody asks for takes no room.
struct OperationMetrics {
    name: &'static str,
    seconds: OnceLock<Histogram>,
    statuses: [OnceLock<Counter>; STATUS_CLASSES.len()],
}

impl OperationMetrics {
    const fn new(name: &'static str) -> Self {
        Self { name, seconds: OnceLock::new(), statuses: [const { OnceLock::new() }; 5] }
    }
}

impl GatewayMetrics {
    /// Handles of the recorder that is installed.
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            operations: TABLE.iter().map(|row| OperationMetrics::new(row.name)).collect(),
            unknown: OperationMetrics::new(UNKNOWN_OPERATION),
            in_flight: gauge!("drystone_s3_requests_in_flight"),
            connections: gauge!("drystone_http_connections"),
            received: counter!("drystone_s3_received_bytes_total"),
            sent: counter!("drystone_s3_sent_bytes_total"),
            cut_short: counter!("drystone_s3_responses_cut_short_total"),
        })
    }

    fn operation(&self, operation: Option<Operation>) -> &OperationMetrics {
        // A row's position is its operation's discriminant.
        operation.and_then(|one| self.operations.get(one as usize)).unwrap_or(&self.unknown)
    }

    /// Begins to measure a request.
    pub fn begin(self: &Arc<Self>) -> RequestMeter {
        self.in_flight.increment(1);
        RequestMeter {
            metrics: Arc::clone(self),
            began: self.clock.monotonic(),
            operation: None,
            sent: 0,
        }
    }

    /// So many connections are open now.
    pub fn connections(&self, count: usize) {
        self.connections.set(count as f64);
    }

    /// The listener serves, or was told to stop.
    pub fn draining(&self, is_draining: bool) {
        gauge!("drystone_http_draining").set(f64::from(u8::from(is_draining)));
    }

    /// So many connections were cut off at the end.
    pub fn cut_off(&self, count: usize) {
        counter!("drystone_http_connections_cut_off_total").increment(count as u64);
    }

    /// Bytes of a request's body were received.
    pub fn received(&self, bytes: u64) {
        self.received.increment(bytes);
    }

    /// An identity was refused.
    pub fn auth_failure(&self, code: S3ErrorCode) {
        counter!("drystone_s3_auth_failures_total", "kind" => code.as_str()).increment(1);
    }
}

/// The measurement of one request; it ends when this is dropped.
pub struct RequestMeter {
    metrics: Arc<GatewayMetrics>,
    began: Duration,
    operation: Option<Operation>,
    sent: u64,
}

impl RequestMeter {
    /// The request is for this operation.
    pub fn is_for(&mut self, operation: Operation) {
        self.operation = Some(operation);
    }

    /// The request is answered with this status, and this code if that is an error.
    pub fn answered(&self, status: StatusCode, code: Option<S3ErrorCode>) {
        let operation = self.metrics.operation(self.operation);
        let class = usize::from(status.as_u16() / 100).clamp(1, STATUS_CLASSES.len()) - 1;
        let (name, class_name) = (operation.name, STATUS_CLASSES[class]);
        let new =
            || counter!("drystone_s3_requests_total", "operation" => name, "status" => class_name);
        operation.statuses[class].get_or_init(new).increment(1);
        if let Some(code) = code {
            counter!("drystone_s3_errors_total", "operation" => name, "code" => code.as_str())
                .increment(1);
        }
    }

    /// Bytes of the answer were handed over.
    pub fn sent(&mut self, bytes: u64) {
        self.sent += bytes;
    }

    /// The answer ended in its middle.
    pub fn cut_short(self, error: &ResponseBodyError) {
        self.metrics.cut_short.increment(1);
        let operation = self.metrics.operation(self.operation).name;
        tracing::warn!(%error, operation, sent_bytes = self.sent, "an answer was cut short");
    }
}

impl Drop for RequestMeter {
    fn drop(&mut self) {
        let metrics = &self.metrics;
        metrics.in_flight.decrement(1);
        metrics.sent.increment(self.sent);
        let operation = metrics.operation(self.operation);
        let name = operation.name;
        let new = || histogram!("drystone_s3_request_seconds", "operation" => name);
        let took = metrics.clock.monotonic().saturating_sub(self.began);
        operation.seconds.get_or_init(new).record(took.as_secs_f64());
    }
}
