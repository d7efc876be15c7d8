//! One connection of a server: reads requests, writes answers, and looks around every second.
//!
//! All three happen in one task, so that when one ends all do, and nothing of the connection is
//! left but its requests, which are then dropped.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use model::time::Timestamp;
use tokio::io::{AsyncRead, split};
use tokio::sync::watch;

use super::budget::Budget;
use super::requests::{Arrived, Requests};
use super::{Phase, Shared};
use crate::rpc::intake::{Incoming, Intake, IntakeLimits};
use crate::rpc::limits::{
    ANONYMOUS_DEADLINE_MAX, ANONYMOUS_IDLE, DEADLINE_MAX, HANG_UP_TICKS, TICK,
};
use crate::rpc::outbox::Outbox;
use crate::rpc::services::Caller;
use crate::rpc::stream::Met;
use crate::rpc::telemetry::{self, OpenConnection};
use crate::tls::{CLOCK_SKEW, Identity};

/// Answers a peer's requests until it hangs up, breaks the rules, or the server ends.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    met: Met,
    caller: Caller,
    phase: watch::Receiver<Phase>,
) {
    let limits = &shared.limits;
    let stranger = IntakeLimits { frame_bytes_max: limits.anonymous_frame_bytes_max };
    let was_removed = shared.services.is_removed(caller.identity.as_ref());
    let is_node = caller.identity.is_some() && !was_removed;
    let (requests_max, intake_limits, deadline_max, idle) = if is_node {
        (limits.requests_in_flight_max, IntakeLimits::NODE, DEADLINE_MAX, limits.idle)
    } else {
        let idle = limits.idle.min(ANONYMOUS_IDLE);
        (limits.anonymous_requests_in_flight_max, stranger, ANONYMOUS_DEADLINE_MAX, idle)
    };
    let name = met.peer_name(caller.address);
    let outbox = Arc::new(Outbox::default());
    let budget = Budget::new(requests_max, limits.bytes_in_flight_max);
    let (read, write) = split(met.stream);
    let mut requests = Requests::new(shared, caller, &outbox, &budget);
    let intake = Intake::new(read, intake_limits);
    let watch = Watch {
        shared,
        outbox: &outbox,
        budget: &budget,
        expires: met.expires,
        node: met.peer.as_ref().filter(|_| is_node),
        deadline_max,
        idle,
        received: intake.received(),
        is_leaving: AtomicBool::new(false),
    };
    let ended = tokio::select! {
        biased;
        () = watch.look_around(phase) => Ok(()),
        read = watch.read(intake, &mut requests) => read,
        written = outbox.write_to(write) => written,
    };
    outbox.close();
    requests.end().await;
    if let Err(error) = ended {
        // rustls' errors and our own come as data that is invalid; all else is a broken line.
        if error.kind() == io::ErrorKind::InvalidData {
            telemetry::refused("frames");
            if shared.log.allows(&name, shared.clock.monotonic()) {
                tracing::warn!(peer = name, %error, "a peer broke the rules of the protocol");
            }
        } else {
            tracing::debug!(peer = name, %error, "a connection broke");
        }
    }
}

/// What the parts of a connection share.
struct Watch<'a> {
    shared: &'a Shared,
    outbox: &'a Outbox,
    budget: &'a Budget,
    expires: Option<Timestamp>,
    /// The peer, if it was in the cluster when it came.
    node: Option<&'a Identity>,
    deadline_max: Duration,
    idle: Duration,
    received: Arc<AtomicU64>,
    /// Whether requests are turned away.
    is_leaving: AtomicBool,
}

impl Watch<'_> {
    async fn read(
        &self,
        mut intake: Intake<impl AsyncRead + Unpin>,
        requests: &mut Requests,
    ) -> io::Result<()> {
        loop {
            self.budget.room().await;
            let Some(incoming) = intake.next().await? else { return Ok(()) };
            match incoming {
                Incoming::Request { id, service, target, deadline_ms, frame } => {
                    let deadline = Duration::from_millis(u64::from(deadline_ms));
                    let deadline = deadline.min(self.deadline_max);
                    let request = Arrived { id, service, target, deadline, frame };
                    if self.is_leaving.load(Ordering::Relaxed) {
                        requests.turn_away(&request);
                    } else {
                        requests.begin(request);
                    }
                }
                Incoming::Cancel(id) => requests.cancel(id),
                // Clients don't answer, and it is all the same whether they are going away.
                Incoming::Response { .. } | Incoming::GoingAway => {}
            }
        }
    }

    /// Ends when the connection should.
    async fn look_around(&self, mut phase: watch::Receiver<Phase>) {
        let mut open = OpenConnection::new("server");
        let (mut heard, mut idle_ticks, mut leaving_ticks) = (0, 0u32, 0u32);
        let idle_ticks_max = (self.idle.as_secs() / TICK.as_secs()) as u32;
        loop {
            let leaving = self.is_leaving.load(Ordering::Relaxed);
            tokio::select! {
                biased;
                changed = phase.wait_for(|phase| {
                    *phase == Phase::Ended || (*phase == Phase::Stopping && !leaving)
                }) => match changed.map(|phase| *phase) {
                    Ok(Phase::Stopping) => {
                        self.leave();
                        continue;
                    }
                    _ => return,
                },
                () = self.shared.clock.sleep(TICK) => {}
            }
            if self.shared.services.is_removed(self.node) {
                tracing::warn!(
                    node = self.node.map(|node| node.node.0),
                    "a removed node is cut off"
                );
                return;
            }
            let received = self.received.load(Ordering::Relaxed);
            open.bytes(received, self.outbox.written());
            let is_busy = self.budget.requests() > 0;
            // A client that waits listens for this, also while a large request is on its way.
            let is_active = is_busy || received != heard;
            if is_active {
                self.outbox.alive();
            }
            idle_ticks = if is_active { 0 } else { idle_ticks + 1 };
            heard = received;
            // Who was let in by a certificate is so for as long as that one is worth something.
            let is_over = self.expires.is_some_and(|expires| {
                expires.plus_nanos(CLOCK_SKEW.as_nanos() as u64) < self.shared.clock.now()
            });
            if (is_over || idle_ticks >= idle_ticks_max) && !leaving {
                self.leave();
            }
            if leaving && !is_busy {
                leaving_ticks += 1;
                if leaving_ticks >= HANG_UP_TICKS {
                    return;
                }
            }
        }
    }

    fn leave(&self) {
        self.is_leaving.store(true, Ordering::Relaxed);
        self.outbox.going_away();
    }
}
