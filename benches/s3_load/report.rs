//! What a run came to, as one line of JSON and as a sentence.
//!
//! In: the [`Outcome`] of the measured phase. Out: figures; latencies are those of requests that
//! succeeded, in milliseconds.

use std::fmt;

use serde_json::json;

use crate::options::Options;
use crate::worker::Outcome;

/// The figures of one run.
pub struct Report {
    op: &'static str,
    size: usize,
    concurrency: usize,
    seconds: f64,
    requests: u64,
    /// Requests that did not succeed.
    pub errors: u64,
    bytes: u64,
    client_cpu_seconds: f64,
    /// p50, p90, p99 and the longest.
    latencies_ms: [f64; 4],
}

impl Report {
    /// Sorts the latencies and takes the figures from them.
    pub fn new(options: &Options, mut outcome: Outcome) -> Self {
        outcome.latencies_us.sort_unstable();
        let at = |share: f64| percentile_ms(&outcome.latencies_us, share);
        Self {
            op: options.op.name(),
            size: options.size,
            concurrency: options.concurrency,
            seconds: outcome.elapsed.as_secs_f64(),
            requests: outcome.latencies_us.len() as u64,
            errors: outcome.errors,
            bytes: outcome.bytes,
            client_cpu_seconds: outcome.client_cpu.as_secs_f64(),
            latencies_ms: [at(0.5), at(0.9), at(0.99), at(1.0)],
        }
    }

    fn ops_per_second(&self) -> f64 {
        self.requests as f64 / self.seconds
    }

    fn mib_per_second(&self) -> f64 {
        self.bytes as f64 / f64::from(1 << 20) / self.seconds
    }

    /// One line of JSON.
    pub fn to_json(&self) -> String {
        let [p50, p90, p99, max] = self.latencies_ms;
        json!({
            "op": self.op,
            "size": self.size,
            "concurrency": self.concurrency,
            "seconds": rounded(self.seconds),
            "requests": self.requests,
            "ops_per_s": rounded(self.ops_per_second()),
            "mib_per_s": rounded(self.mib_per_second()),
            "p50_ms": p50,
            "p90_ms": p90,
            "p99_ms": p99,
            "max_ms": max,
            "errors": self.errors,
            "bytes": self.bytes,
            "client_cpu_seconds": rounded(self.client_cpu_seconds),
        })
        .to_string()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, _, p99, max] = self.latencies_ms;
        write!(
            f,
            "{} of {} bytes, {} at a time: {:.0}/s, {:.1} MiB/s, p50 {p50} ms, p99 {p99} ms, \
             longest {max} ms, {} errors",
            self.op,
            self.size,
            self.concurrency,
            self.ops_per_second(),
            self.mib_per_second(),
            self.errors
        )
    }
}

/// The value below which `share` of the sorted values lie, in milliseconds.
fn percentile_ms(sorted_us: &[u32], share: f64) -> f64 {
    let rank = (sorted_us.len() as f64 * share).ceil() as usize;
    let value = sorted_us.get(rank.saturating_sub(1)).copied().unwrap_or(0);
    f64::from(value) / 1000.0
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
