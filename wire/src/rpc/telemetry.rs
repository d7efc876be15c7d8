//! What the transport counts.
//!
//! | metric | labels | what |
//! | --- | --- | --- |
//! | `drystone_rpc_requests_total` | service, request, outcome | requests that this process was asked |
//! | `drystone_rpc_seconds` | service, request | how long it took to carry them out |
//! | `drystone_rpc_calls_total` | service, request, outcome | requests that this process asked of others |
//! | `drystone_rpc_call_seconds` | service, request | how long they took, all in all |
//! | `drystone_rpc_received_bytes_total`, `drystone_rpc_sent_bytes_total` | side | bytes of frames |
//! | `drystone_rpc_connections` | side | connections that are open |
//! | `drystone_rpc_refused_connections_total` | reason | connections that weren't taken in |

use std::time::Duration;

use metrics::{Counter, Gauge, counter, gauge, histogram};

/// Counts a request that was asked of this process.
pub(super) fn served(
    service: &'static str,
    request: &'static str,
    outcome: &'static str,
    took: Duration,
) {
    counter!("drystone_rpc_requests_total",
        "service" => service, "request" => request, "outcome" => outcome)
    .increment(1);
    histogram!("drystone_rpc_seconds", "service" => service, "request" => request)
        .record(took.as_secs_f64());
}

/// Counts a request that this process asked.
pub(super) fn called(
    service: &'static str,
    request: &'static str,
    outcome: &'static str,
    took: Duration,
) {
    counter!("drystone_rpc_calls_total",
        "service" => service, "request" => request, "outcome" => outcome)
    .increment(1);
    histogram!("drystone_rpc_call_seconds", "service" => service, "request" => request)
        .record(took.as_secs_f64());
}

/// Counts a connection that wasn't taken in.
pub(super) fn refused(reason: &'static str) {
    counter!("drystone_rpc_refused_connections_total", "reason" => reason).increment(1);
}

/// Counts an open connection, while it is there, and its bytes.
pub(super) struct OpenConnection {
    open: Gauge,
    received: Counter,
    sent: Counter,
    counted: (u64, u64),
}

impl OpenConnection {
    /// Counts one of this side.
    pub fn new(side: &'static str) -> Self {
        let open = gauge!("drystone_rpc_connections", "side" => side);
        open.increment(1);
        Self {
            open,
            received: counter!("drystone_rpc_received_bytes_total", "side" => side),
            sent: counter!("drystone_rpc_sent_bytes_total", "side" => side),
            counted: (0, 0),
        }
    }

    /// Counts what came and went, given all of it so far.
    pub fn bytes(&mut self, received: u64, sent: u64) {
        self.received.increment(received.saturating_sub(self.counted.0));
        self.sent.increment(sent.saturating_sub(self.counted.1));
        self.counted = (received, sent);
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.open.decrement(1);
    }
}
