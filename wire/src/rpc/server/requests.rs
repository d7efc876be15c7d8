//! The requests of one connection: begun, carried out each in a task of its own, answered, dropped.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::rpc::{Frame, Service};
use tokio::task::{AbortHandle, JoinSet};

use super::Shared;
use super::budget::{Budget, InFlight};
use crate::clock::timeout;
use crate::rpc::error::Refusal;
use crate::rpc::frame::{frame_bytes, is_sendable};
use crate::rpc::outbox::{Outbox, Outgoing};
use crate::rpc::services::Caller;
use crate::rpc::telemetry;

/// A request as it came.
pub(super) struct Arrived {
    pub id: u64,
    pub service: u8,
    pub target: u64,
    pub deadline: Duration,
    pub frame: Frame,
}

/// The requests of one connection.
pub(super) struct Requests {
    shared: Arc<Shared>,
    caller: Caller,
    outbox: Arc<Outbox>,
    budget: Arc<Budget>,
    tasks: JoinSet<()>,
    running: Running,
}

/// Those whose handlers run.
type Running = Arc<Mutex<HashMap<u64, AbortHandle>>>;

impl Requests {
    pub fn new(
        shared: &Arc<Shared>,
        caller: Caller,
        outbox: &Arc<Outbox>,
        budget: &Arc<Budget>,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            caller,
            outbox: Arc::clone(outbox),
            budget: Arc::clone(budget),
            tasks: JoinSet::new(),
            running: Running::default(),
        }
    }

    /// Answers that the server takes nothing more.
    pub fn turn_away(&self, request: &Arrived) {
        let held = self.budget.take(0);
        let reply = self.reply(request, held);
        telemetry::served(service_name(request.service), "any", "going_away", Duration::ZERO);
        reply.refuse(Refusal::GoingAway);
    }

    /// Begins a request.
    pub fn begin(&mut self, request: Arrived) {
        while self.tasks.try_join_next().is_some() {}
        let held = self.budget.take(frame_bytes(&request.frame));
        let reply = self.reply(&request, held);
        let (shared, caller) = (Arc::clone(&self.shared), self.caller.clone());
        let is_over = Arc::new(AtomicBool::new(false));
        let (running, id) = (Arc::clone(&self.running), request.id);
        let ended = Ended { running, is_over: Arc::clone(&is_over), id };
        // Spawned without the lock: a runtime that shuts down drops the task here and now, and that
        // takes the lock.
        let task = self.tasks.spawn(async move {
            let _ended = ended;
            carry_out(&shared, caller, request, reply).await;
        });
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_over.load(Ordering::Relaxed) {
            running.insert(id, task);
        }
    }

    /// Drops a request, whose caller doesn't wait any more, and its answer.
    pub fn cancel(&self, id: u64) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        if let Some(task) = running {
            task.abort();
        }
        self.outbox.cancel(id, false);
    }

    /// Drops everything, and waits until it is gone.
    pub async fn end(mut self) {
        self.tasks.shutdown().await;
    }

    fn reply(&self, request: &Arrived, held: InFlight) -> Reply {
        Reply { id: request.id, outbox: Arc::clone(&self.outbox), held: Some(held) }
    }
}

/// Forgets a request whose task ends, however it does.
struct Ended {
    running: Running,
    /// Read and written under the lock of `running`: whether there is nothing to remember any more.
    is_over: Arc<AtomicBool>,
    id: u64,
}

impl Drop for Ended {
    fn drop(&mut self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_over.store(true, Ordering::Relaxed);
        running.remove(&self.id);
    }
}

async fn carry_out(shared: &Shared, caller: Caller, request: Arrived, reply: Reply) {
    let service = service_name(request.service);
    let began = shared.clock.monotonic();
    let (id, ip) = (request.id, caller.address.ip());
    let is_removed = request.service != Service::Membership as u8
        && shared.services.is_removed(caller.identity.as_ref());
    let accepted = if is_removed {
        Err(Refusal::NotAllowed)
    } else {
        let answering = shared.services.find(request.service, request.target);
        answering
            .ok_or(Refusal::NotHere)
            .and_then(|answering| answering.read(caller, request.frame))
    };
    let accepted = match accepted {
        Ok(accepted) => accepted,
        Err(why) => {
            if why != Refusal::NotHere && shared.log.allows(&ip.to_string(), began) {
                tracing::warn!(address = %ip, service, request = id, %why, "a request was refused");
            }
            telemetry::served(service, "any", why.as_str(), Duration::ZERO);
            return reply.refuse(why);
        }
    };
    let answer = timeout(&*shared.clock, request.deadline, accepted.work).await;
    let took = shared.clock.monotonic().saturating_sub(began);
    let outcome = match answer {
        Ok(frame) if is_sendable(&frame) => {
            reply.answer(frame);
            "ok"
        }
        Ok(frame) => {
            let bytes = frame_bytes(&frame);
            tracing::error!(service, request = accepted.name, bytes, "an answer is too large");
            reply.refuse(Refusal::Failed);
            "too_large"
        }
        Err(_) => {
            reply.refuse(Refusal::Expired);
            "expired"
        }
    };
    telemetry::served(service, accepted.name, outcome, took);
}

fn service_name(number: u8) -> &'static str {
    Service::from_number(number).map_or("unknown", Service::as_str)
}

/// The answer that is owed. Dropped without one by a panic, it says that the server failed; by a
/// cancelled request, nothing.
struct Reply {
    id: u64,
    outbox: Arc<Outbox>,
    held: Option<InFlight>,
}

impl Reply {
    fn answer(self, frame: Frame) {
        self.send(0, frame);
    }

    fn refuse(self, why: Refusal) {
        self.send(why as u8, Frame::default());
    }

    fn send(mut self, outcome: u8, frame: Frame) {
        let Some(mut held) = self.held.take() else { return };
        held.answered(frame_bytes(&frame));
        // Without a connection nobody waits for it.
        self.outbox.push(Outgoing::response(self.id, outcome, frame, Some(Box::new(held))));
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(held) = self.held.take()
            && std::thread::panicking()
        {
            let (outcome, held) = (Refusal::Failed as u8, Some(Box::new(held) as _));
            self.outbox.push(Outgoing::response(self.id, outcome, Frame::default(), held));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::mpsc;

    use model::ids::{ClusterId, NodeId};
    use model::node::Roles;

    use super::*;
    use crate::clock::SystemClock;
    use crate::rpc::log_limit::LogLimit;
    use crate::rpc::services::Services;
    use crate::rpc::{Security, ServerLimits};
    use crate::tls::Identity;

    #[test]
    fn a_request_at_a_runtime_that_is_gone_is_dropped() {
        let identity = Identity { cluster: ClusterId([1; 16]), node: NodeId(1), roles: Roles::ALL };
        let shared = Arc::new(Shared {
            security: Security::Plain(identity),
            tls: None,
            services: Services::new(),
            limits: ServerLimits::default(),
            clock: Arc::new(SystemClock::new()),
            log: LogLimit::default(),
            counts: Mutex::default(),
        });
        let (done, begun) = mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("built");
            let handle = runtime.handle().clone();
            drop(runtime);
            let _entered = handle.enter();
            let caller = Caller { identity: None, address: SocketAddr::from(([127, 0, 0, 1], 1)) };
            let (outbox, budget) = (Arc::default(), Budget::new(8, 1 << 20));
            let mut requests = Requests::new(&shared, caller, &outbox, &budget);
            let (deadline, frame) = (Duration::from_secs(1), Frame::default());
            requests.begin(Arrived { id: 7, service: 1, target: 0, deadline, frame });
            let left = requests.running.lock().expect("whole").len();
            done.send(left).expect("awaited");
        });
        assert_eq!(begun.recv_timeout(Duration::from_secs(20)), Ok(0));
    }
}
