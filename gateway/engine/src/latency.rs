//! A moving 95th percentile of latencies, from which deadlines for stragglers and hedges follow.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Samples that are remembered.
const WINDOW: usize = 128;

/// The percentile is computed anew every so many samples.
const EVERY: usize = 16;

/// The latencies of one kind of request.
#[derive(Debug)]
pub(crate) struct Latency {
    samples: Mutex<Samples>,
    /// In microseconds; 0 while there are too few samples.
    p95_micros: AtomicU64,
}

#[derive(Debug)]
struct Samples {
    micros: [u32; WINDOW],
    count: usize,
}

impl Latency {
    pub(crate) fn new() -> Self {
        let samples = Mutex::new(Samples { micros: [0; WINDOW], count: 0 });
        Self { samples, p95_micros: AtomicU64::new(0) }
    }

    /// Takes a sample.
    pub(crate) fn record(&self, latency: Duration) {
        let micros = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let at = samples.count % WINDOW;
        samples.micros[at] = micros;
        samples.count += 1;
        if samples.count.is_multiple_of(EVERY) {
            let filled = samples.count.min(WINDOW);
            let mut sorted = samples.micros;
            let (_, p95, _) = sorted[..filled].select_nth_unstable(filled * 95 / 100);
            self.p95_micros.store(u64::from(*p95).max(1), Ordering::Relaxed);
        }
    }

    /// `factor` times the 95th percentile, kept between `least` and `most`; `most` while nothing
    /// is known.
    pub(crate) fn deadline(&self, factor: u32, least: Duration, most: Duration) -> Duration {
        match self.p95_micros.load(Ordering::Relaxed) {
            0 => most,
            p95 => Duration::from_micros(p95).saturating_mul(factor).clamp(least, most.max(least)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_follow_the_usual_latency_within_bounds() {
        let latency = Latency::new();
        let (least, most) = (Duration::from_millis(20), Duration::from_secs(1));
        assert_eq!(latency.deadline(3, least, most), most);
        for _ in 0..128 {
            latency.record(Duration::from_millis(10));
        }
        assert_eq!(latency.deadline(3, least, most), Duration::from_millis(30));
        assert_eq!(latency.deadline(1, least, most), least);
        assert_eq!(latency.deadline(1000, least, most), most);
        // A few slow ones don't move it.
        for _ in 0..4 {
            latency.record(Duration::from_secs(9));
        }
        assert_eq!(latency.deadline(3, least, most), Duration::from_millis(30));
    }
}
