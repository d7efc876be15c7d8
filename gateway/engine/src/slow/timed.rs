//! Times requests to disks, those that nobody waits for to their end as well.
//!
//! In: a call to a disk. Out: its answer, and a latency for the detector. A write that is given up
//! took at least so long. A read that was outrun by others is waited for in the background, since
//! how long it has taken until then says little: it may have been outrun by a hair.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use model::ids::DiskId;
use model::shard::ShardResponse;
use wire::BoxFuture;
use wire::clock::Clock;
use wire::network::NetworkError;

use super::{SlowKind, Slowness};

type CallResult = Result<ShardResponse, NetworkError>;

/// Whether an answer says how fast the disk is: it did what was asked for, or didn't get to it in
/// time. A refusal comes quickly from the worst of disks.
fn is_telling(result: &CallResult) -> bool {
    !matches!(result, Ok(ShardResponse::Failed(_)) | Err(NetworkError::Unreachable(_)))
}

/// Where a latency goes.
struct Stopwatch {
    slowness: Arc<Slowness>,
    clock: Arc<dyn Clock>,
    disk: DiskId,
    kind: SlowKind,
    started: Duration,
}

impl Stopwatch {
    fn start(
        slowness: &Arc<Slowness>,
        clock: &Arc<dyn Clock>,
        disk: DiskId,
        kind: SlowKind,
    ) -> Self {
        let started = clock.monotonic();
        Self { slowness: Arc::clone(slowness), clock: Arc::clone(clock), disk, kind, started }
    }

    fn stop(&self, least: Duration) {
        let now = self.clock.monotonic();
        let took = now.saturating_sub(self.started);
        if took >= least {
            self.slowness.record(self.disk, self.kind, took, now);
        }
    }
}

/// A write under way. Dropped before its end it counts as far as it got, if that is long.
pub(crate) struct TimedWrite(Option<Stopwatch>);

impl TimedWrite {
    /// Begins now.
    pub(crate) fn start(slowness: &Arc<Slowness>, clock: &Arc<dyn Clock>, disk: DiskId) -> Self {
        Self(Some(Stopwatch::start(slowness, clock, disk, SlowKind::Writes)))
    }

    /// It ended so.
    pub(crate) fn end(mut self, result: &CallResult) {
        if let Some(stopwatch) = self.0.take().filter(|_| is_telling(result)) {
            stopwatch.stop(Duration::ZERO);
        }
    }
}

impl Drop for TimedWrite {
    fn drop(&mut self) {
        if let Some(stopwatch) = self.0.take() {
            stopwatch.stop(stopwatch.kind.floor());
        }
    }
}

/// A read under way. Dropped before its end it is waited for in the background.
pub(crate) struct TimedRead {
    stopwatch: Arc<Stopwatch>,
    call: Option<BoxFuture<'static, CallResult>>,
    /// Whether nobody else waits for it.
    is_outrun: bool,
}

impl TimedRead {
    /// Begins now.
    pub(crate) fn start(
        slowness: &Arc<Slowness>,
        clock: &Arc<dyn Clock>,
        disk: DiskId,
        call: BoxFuture<'static, CallResult>,
    ) -> Self {
        let stopwatch = Arc::new(Stopwatch::start(slowness, clock, disk, SlowKind::Reads));
        Self { stopwatch, call: Some(call), is_outrun: false }
    }
}

impl Future for TimedRead {
    type Output = CallResult;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<CallResult> {
        let this = &mut *self;
        let Some(call) = &mut this.call else { return Poll::Pending };
        let Poll::Ready(result) = call.as_mut().poll(context) else { return Poll::Pending };
        this.call = None;
        if is_telling(&result) {
            this.stopwatch.stop(Duration::ZERO);
        }
        Poll::Ready(result)
    }
}

impl Drop for TimedRead {
    fn drop(&mut self) {
        let Some(call) = self.call.take().filter(|_| !self.is_outrun) else { return };
        let stopwatch = Arc::clone(&self.stopwatch);
        let outrun = Self { stopwatch, call: Some(call), is_outrun: true };
        // Where too many are waited for already, those will do.
        let _ = self.stopwatch.slowness.outrun.try_send(outrun);
    }
}
