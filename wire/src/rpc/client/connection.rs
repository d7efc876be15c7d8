//! One connection of a client: sends requests, and brings the answers to those who wait for them.
//!
//! Reading, writing and looking around happen in one task. When that ends, whoever still waits
//! learns whether the whole of their request was given away: only then can it have arrived.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::rpc::Frame;
use tokio::io::{AsyncRead, split};
use tokio::sync::{oneshot, watch};

use crate::clock::Clock;
use crate::rpc::frame::{FrameHead, frame_bytes};
use crate::rpc::intake::{Incoming, Intake, IntakeLimits};
use crate::rpc::limits::{REQUEST_WEIGHT_BYTES, SILENT_TICKS_MAX, TICK};
use crate::rpc::outbox::{Outbox, Outgoing};
use crate::rpc::stream::Met;
use crate::rpc::telemetry::OpenConnection;

/// Why no answer came over a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::rpc) enum Lost {
    /// The request was never wholly given away.
    Unsent,
    /// It was, and the connection ended.
    Unanswered,
}

/// What a server said.
#[derive(Debug)]
pub(in crate::rpc) struct Answer {
    pub outcome: u8,
    pub frame: Frame,
}

/// A connection to a server.
#[derive(Default)]
pub(in crate::rpc) struct Connection {
    outbox: Outbox,
    waiting: Mutex<Waiting>,
    load: AtomicU64,
    is_leaving: AtomicBool,
}

#[derive(Default)]
struct Waiting {
    is_closed: bool,
    next_id: u64,
    calls: HashMap<u64, Call>,
}

/// One who waits.
struct Call {
    answer: oneshot::Sender<Result<Answer, Lost>>,
    sent: Arc<AtomicBool>,
    weight: u64,
}

impl Connection {
    /// Whether new requests may be sent over it.
    pub fn is_open(&self) -> bool {
        !self.is_leaving.load(Ordering::Relaxed) && !self.waiting().is_closed
    }

    /// What it has to carry, in bytes.
    pub fn load(&self) -> u64 {
        self.load.load(Ordering::Relaxed)
    }

    /// Sends a request and waits for what the server says. When dropped, the server is told that
    /// nobody waits any more.
    pub async fn call(&self, head: FrameHead, frame: Frame) -> Result<Answer, Lost> {
        let (answer, answered) = oneshot::channel();
        let sent = Arc::new(AtomicBool::new(false));
        let weight = frame_bytes(&frame) as u64 + REQUEST_WEIGHT_BYTES;
        let id = {
            let mut waiting = self.waiting();
            if waiting.is_closed {
                return Err(Lost::Unsent);
            }
            let id = waiting.next_id;
            waiting.next_id += 1;
            waiting.calls.insert(id, Call { answer, sent: Arc::clone(&sent), weight });
            id
        };
        self.load.fetch_add(weight, Ordering::Relaxed);
        let _waits = Waits { connection: self, id };
        // When the connection has just ended, whoever ends it says so to all who wait.
        self.outbox.push(Outgoing::request(id, head, frame, sent));
        answered.await.unwrap_or(Err(Lost::Unanswered))
    }

    /// Carries requests and answers until the connection ends.
    pub async fn run(&self, met: Met, clock: &dyn Clock, idle: Duration, ended: Ended) {
        let (read, write) = split(met.stream);
        let intake = Intake::new(read, IntakeLimits::NODE);
        let received = intake.received();
        let result = tokio::select! {
            biased;
            result = self.look_around(clock, &received, idle, ended) => result,
            result = self.read(intake) => result,
            result = self.outbox.write_to(write) => result,
        };
        if let Err(error) = result {
            tracing::debug!(%error, "a connection broke");
        }
        self.outbox.close();
        let calls = {
            let mut waiting = self.waiting();
            waiting.is_closed = true;
            std::mem::take(&mut waiting.calls)
        };
        for (_, call) in calls {
            let is_sent = call.sent.load(Ordering::Acquire);
            let lost = if is_sent { Lost::Unanswered } else { Lost::Unsent };
            // Who gave up in between needs no answer.
            let _ = call.answer.send(Err(lost));
        }
    }

    async fn read(&self, mut intake: Intake<impl AsyncRead + Unpin>) -> io::Result<()> {
        loop {
            if self.is_leaving.load(Ordering::Relaxed) && self.waiting().calls.is_empty() {
                return Ok(());
            }
            let incoming = intake.next().await?;
            match incoming {
                None => return Ok(()),
                Some(Incoming::Response { id, outcome, frame }) => {
                    if let Some(call) = self.forget(id) {
                        let _ = call.answer.send(Ok(Answer { outcome, frame }));
                    }
                }
                Some(Incoming::GoingAway) => self.is_leaving.store(true, Ordering::Relaxed),
                // A cancelled answer was given up here first; and servers don't ask.
                Some(Incoming::Cancel(_) | Incoming::Request { .. }) => {}
            }
        }
    }

    /// Ends when the connection should: it is idle, silent, or not wanted any more.
    async fn look_around(
        &self,
        clock: &dyn Clock,
        received: &AtomicU64,
        idle: Duration,
        mut ended: Ended,
    ) -> io::Result<()> {
        let mut open = OpenConnection::new("client");
        let idle_ticks_max = (idle.as_secs() / TICK.as_secs()) as u32;
        let (mut heard, mut silent_ticks, mut idle_ticks) = (0, 0, 0);
        loop {
            tokio::select! {
                biased;
                // The sender is the client: it says nothing, and is dropped in the end.
                _ = ended.changed() => return Ok(()),
                () = clock.sleep(TICK) => {}
            }
            let received = received.load(Ordering::Relaxed);
            open.bytes(received, self.outbox.written());
            let is_waiting = !self.waiting().calls.is_empty();
            let is_silent = received == heard;
            heard = received;
            silent_ticks = if is_waiting && is_silent { silent_ticks + 1 } else { 0 };
            idle_ticks = if is_waiting || !is_silent { 0 } else { idle_ticks + 1 };
            if silent_ticks >= SILENT_TICKS_MAX {
                return Err(io::ErrorKind::TimedOut.into());
            }
            if idle_ticks >= idle_ticks_max
                || (!is_waiting && self.is_leaving.load(Ordering::Relaxed))
            {
                return Ok(());
            }
        }
    }

    fn forget(&self, id: u64) -> Option<Call> {
        let call = self.waiting().calls.remove(&id)?;
        self.load.fetch_sub(call.weight, Ordering::Relaxed);
        Some(call)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends with the client.
pub(in crate::rpc) type Ended = watch::Receiver<()>;

/// Gives a call up when dropped before it is answered.
struct Waits<'a> {
    connection: &'a Connection,
    id: u64,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        if self.connection.forget(self.id).is_some() {
            self.connection.outbox.cancel(self.id, true);
        }
    }
}
