//! Times work, and prints what it took.

use std::time::Duration;

use wire::clock::{Clock, SystemClock};

/// A measurement under way.
pub struct Meter {
    clock: SystemClock,
    cpu: Duration,
}

impl Meter {
    /// Begins to measure.
    pub fn start() -> Self {
        Self { clock: SystemClock::new(), cpu: cpu() }
    }

    /// How long it has taken so far.
    pub fn elapsed(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Prints what `operations`, which moved `bytes` altogether, took.
    pub fn print(&self, name: &str, operations: u64, bytes: u64) {
        let wall = self.elapsed().as_secs_f64();
        let cpu = cpu().saturating_sub(self.cpu).as_secs_f64();
        let each = |seconds: f64| seconds * 1e6 / operations.max(1) as f64;
        let line = serde_json::json!({
            "name": name,
            "operations": operations,
            "wall_us": each(wall),
            "cpu_us": each(cpu),
            "mib_per_s": bytes as f64 / wall / f64::from(1 << 20),
        });
        println!("{line}");
    }
}

/// CPU time of this process, in steps of 10 ms; 0 where the kernel doesn't tell.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}
