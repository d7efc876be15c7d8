//! The thread that compacts a disk beside its writer, at a limited rate.
//!
//! It looks for work when it is woken, about once a second. It gives way to the writer's queue,
//! unless space is short.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::Shared;
use super::run::{Halt, Scope, compact, next, situation};
use crate::lock::lock;
use crate::store::{Job, JobKind, Queue};
use crate::sync::thread::{Builder, JoinHandle};
use crate::sync::{Condvar, Mutex};

/// How long the thread sleeps before it looks again whether it may go on.
const NAP: Duration = Duration::from_millis(5);
/// How often it gives way to what is queued before it takes its turn all the same.
const GIVE_WAY_MAX: u32 = 20;
/// Bytes that may be saved up while nothing is copied.
const BURST_BYTES: u64 = 4 << 20;
/// When space is short, so many changes of the index are worth a checkpoint.
const CHANGES_MAX: usize = 4096;
/// So many condemned segments are worth a checkpoint.
const CONDEMNED_MAX: usize = 4;

/// The handle of the thread.
#[derive(Default)]
pub(crate) struct Compactor {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    woken: bool,
    stopped: bool,
}

impl Compactor {
    /// Starts the thread, if it has anything to do.
    pub(crate) fn start(
        self: &Arc<Self>,
        shared: Arc<Shared>,
        queue: Arc<Queue>,
    ) -> std::io::Result<Option<JoinHandle<()>>> {
        if shared.options.compaction_bytes_per_second == 0 {
            return Ok(None);
        }
        let this = Arc::clone(self);
        let name = format!("disk-{}-compact", shared.identity.disk);
        let thread = Builder::new().name(name).spawn(move || this.work(&shared, &queue))?;
        Ok(Some(thread))
    }

    /// Has it look for work.
    pub(crate) fn wake(&self) {
        lock(&self.state).woken = true;
        self.changed.notify_all();
    }

    /// Ends it, in the middle of a segment if need be.
    pub(crate) fn stop(&self) {
        lock(&self.state).stopped = true;
        self.changed.notify_all();
    }

    fn is_stopped(&self) -> bool {
        lock(&self.state).stopped
    }

    /// Waits to be woken; `false` when it is to end.
    fn wait(&self) -> bool {
        let mut state = lock(&self.state);
        while !state.woken && !state.stopped {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.woken = false;
        !state.stopped
    }

    /// Waits a moment; `false` when it is to end.
    fn nap(&self) -> bool {
        let state = lock(&self.state);
        if state.stopped {
            return false;
        }
        let (state, _) =
            self.changed.wait_timeout(state, NAP).unwrap_or_else(PoisonError::into_inner);
        !state.stopped
    }

    fn work(&self, shared: &Shared, queue: &Queue) {
        let mut bucket = Bucket { tokens: 0, filled: shared.clock.monotonic() };
        while self.wait() {
            while !self.is_stopped() && shared.health.check_write().is_ok() {
                let turn = lock(&shared.compaction.turn);
                let scope = Scope {
                    percent: shared.options.compaction_garbage_percent,
                    highest: u64::MAX,
                    survey_rate: Some(shared.options.compaction_bytes_per_second),
                };
                let Some(segment) = next(shared, &scope) else {
                    break;
                };
                let outcome = compact(shared, queue, segment, &mut |bytes| {
                    self.pace(shared, queue, &mut bucket, bytes)
                });
                drop(turn);
                if matches!(outcome, Err(Halt::Stopped)) {
                    return;
                }
                ask_for_checkpoint(shared, queue, CONDEMNED_MAX);
            }
            // What is condemned comes back, and what is left is not taken by many changes.
            let many = shared.index.changes() >= CHANGES_MAX;
            if situation(shared).is_pressed() {
                ask_for_checkpoint(shared, queue, usize::from(!many));
            }
        }
    }

    /// Waits until so many bytes may be copied.
    fn pace(&self, shared: &Shared, queue: &Queue, bucket: &mut Bucket, bytes: u64) -> bool {
        let mut yielded = 0;
        loop {
            if self.is_stopped() {
                return false;
            }
            let Some(rate) = situation(shared).rate(shared.options.compaction_bytes_per_second)
            else {
                return true;
            };
            let may = bucket.fill(shared.clock.monotonic(), rate);
            let busy = queue.len() > 0 && yielded < GIVE_WAY_MAX;
            if may && !busy {
                bucket.take(bytes);
                return true;
            }
            yielded += u32::from(may);
            if !self.nap() {
                return false;
            }
        }
    }
}

/// Has a checkpoint give back the condemned segments, when there are so many.
fn ask_for_checkpoint(shared: &Shared, queue: &Queue, least: usize) {
    if shared.compaction.condemned().len() >= least {
        let (answer, _) = oneshot::channel();
        // A closed queue takes its last checkpoint anyway.
        let _ = queue.push(Job { kind: JobKind::CheckpointSoon, answer, permit: None });
    }
}

/// Bytes that may be copied; below zero after a large record.
struct Bucket {
    tokens: i64,
    filled: Duration,
}

impl Bucket {
    /// Fills it up to `now`; whether anything may be copied.
    fn fill(&mut self, now: Duration, rate: u64) -> bool {
        let passed = now.saturating_sub(self.filled).as_micros();
        let fresh = u64::try_from(passed * u128::from(rate) / 1_000_000).unwrap_or(u64::MAX);
        let fresh = i64::try_from(fresh).unwrap_or(i64::MAX);
        // Time of which no byte came isn't lost.
        if fresh > 0 {
            self.filled = now;
            self.tokens = self.tokens.saturating_add(fresh).min(BURST_BYTES.cast_signed());
        }
        self.tokens > 0
    }

    fn take(&mut self, bytes: u64) {
        self.tokens = self.tokens.saturating_sub_unsigned(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_what_came_in_and_no_more() {
        let at = Duration::from_millis;
        let mut bucket = Bucket { tokens: 0, filled: at(0) };
        assert!(!bucket.fill(at(0), 1000));
        assert!(bucket.fill(at(1), 1000));
        bucket.take(500);
        assert!(!bucket.fill(at(500), 1000), "499 of 500 are paid");
        assert!(bucket.fill(at(502), 1000));
        let mut copied = 0;
        let mut bucket = Bucket { tokens: 0, filled: at(0) };
        for now in 0..10_000 {
            while bucket.fill(at(now), 1 << 20) {
                bucket.take(1 << 16);
                copied += 1 << 16;
            }
        }
        assert!((9 << 20..=(10 << 20) + (1 << 16)).contains(&copied), "{copied}");
        bucket.fill(at(1_000_000), 1 << 20);
        assert_eq!(bucket.tokens, BURST_BYTES.cast_signed());
    }
}
