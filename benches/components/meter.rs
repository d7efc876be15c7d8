//! Times work, and prints what it took.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use wire::clock::{Clock, SystemClock};

/// A measurement under way.
pub struct Meter {
    clock: SystemClock,
    cpu: Duration,
    /// What it took, once that is over.
    took: Option<(Duration, Duration)>,
}

impl Meter {
    /// Begins to measure.
    pub fn start() -> Self {
        Self { clock: SystemClock::new(), cpu: cpu(), took: None }
    }

    /// Ends the measurement: time stands still in it from now on.
    #[must_use]
    pub fn stopped(mut self) -> Self {
        self.took = Some((self.elapsed(), self.cpu()));
        self
    }

    /// How long it has taken so far.
    pub fn elapsed(&self) -> Duration {
        self.took.map_or_else(|| self.clock.monotonic(), |(elapsed, _)| elapsed)
    }

    /// The processor time that this process used so far.
    pub fn cpu(&self) -> Duration {
        self.took.map_or_else(|| cpu().saturating_sub(self.cpu), |(_, cpu)| cpu)
    }

    /// Prints what `operations`, which moved `bytes` altogether, took.
    pub fn print(&self, name: &str, operations: u64, bytes: u64) {
        self.print_with(name, operations, bytes, &json!({}));
    }

    /// Prints that with further fields.
    pub fn print_with(&self, name: &str, operations: u64, bytes: u64, further: &Value) {
        let wall = self.elapsed().as_secs_f64();
        let cpu = self.cpu().as_secs_f64();
        let each = |seconds: f64| rounded(seconds * 1e6 / operations.max(1) as f64);
        let mib = bytes as f64 / f64::from(1 << 20);
        let mut line = json!({
            "name": name,
            "operations": operations,
            "wall_us": each(wall),
            "cpu_us": each(cpu),
            "mib_per_s": rounded(mib / wall),
        });
        if bytes > 0 {
            line["cpu_s_per_gib"] = json!(rounded(cpu * 1024.0 / mib));
        }
        if let (Some(line), Some(further)) = (line.as_object_mut(), further.as_object()) {
            line.extend(further.clone());
        }
        println!("{line}");
    }
}

/// Three decimals: what is behind them is noise.
pub fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// CPU time of this process, user and system, of all its threads.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
