//! Lets the time of a simulated clock pass by itself, for disks whose threads wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use wire::clock::SimulatedClock;

/// How far the clock moves at once, and how long it stands in between.
const STEP: Duration = Duration::from_millis(1);
const PAUSE: Duration = Duration::from_micros(200);

/// A thread that advances a clock for as long as this lives.
pub struct Ticker {
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    pub fn new(clock: SimulatedClock) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stopped);
        let thread = Builder::new().name("ticker".to_owned()).spawn(move || {
            while !seen.load(Ordering::Acquire) {
                clock.advance(STEP);
                std::thread::park_timeout(PAUSE);
            }
        });
        Self { stopped, thread: Some(thread.expect("a thread")) }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
