//! Read index: proof that this replica leads still, once for all queries that wait.
//!
//! A query may be answered when a round of heartbeats, begun after the query came, was answered by
//! a quorum, and everything committed before is applied. While one round is under way, what comes
//! waits for the next.

use std::sync::{Arc, Mutex, PoisonError};

use model::ids::ReplicaId;
use model::query::MetadataError;
use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use tokio::sync::oneshot;
use wire::clock::{Clock, timeout};

use crate::limits::{QUERIES_WAITING_MAX, QUORUM_DEADLINE};
use crate::raft::Raft;
use crate::raft::types::TypeConfig;

use super::followers::until_left_alone;

type Waiter = oneshot::Sender<Result<(), MetadataError>>;

/// The queue of those who wait for a round.
pub struct ReadIndex {
    raft: Raft,
    clock: Arc<dyn Clock>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiter>,
    is_running: bool,
}

impl ReadIndex {
    /// An empty queue before `raft`.
    pub fn new(raft: Raft, clock: Arc<dyn Clock>) -> Self {
        Self { raft, clock, queue: Mutex::default() }
    }

    /// Ends when the state machine holds everything that was acknowledged before the call.
    pub async fn confirm(self: &Arc<Self>) -> Result<(), MetadataError> {
        let (waiter, confirmed) = oneshot::channel();
        {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            if queue.waiting.len() >= QUERIES_WAITING_MAX {
                return Err(MetadataError::Overloaded);
            }
            queue.waiting.push(waiter);
            if !queue.is_running {
                queue.is_running = true;
                tokio::spawn(Arc::clone(self).run());
            }
        }
        confirmed.await.unwrap_or(Err(MetadataError::Unavailable))
    }

    async fn run(self: Arc<Self>) {
        loop {
            let waiting = {
                let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
                if queue.waiting.is_empty() {
                    queue.is_running = false;
                    return;
                }
                std::mem::take(&mut queue.waiting)
            };
            metrics::histogram!("drystone_metadata_read_index_queries")
                .record(waiting.len() as f64);
            let result = self.round().await;
            for waiter in waiting {
                // Whoever asked may be gone.
                let _ = waiter.send(result);
            }
        }
    }

    async fn round(&self) -> Result<(), MetadataError> {
        let round = self.raft.ensure_linearizable(ReadPolicy::ReadIndex);
        let round = timeout(&*self.clock, QUORUM_DEADLINE, round);
        tokio::select! {
            biased;
            round = round => match round {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(failure(&error)),
                Err(_) => Err(MetadataError::Unavailable),
            },
            () = until_left_alone(&self.raft, &*self.clock) => Err(MetadataError::Unavailable),
        }
    }
}

fn failure(error: &RaftError<TypeConfig, LinearizableReadError<TypeConfig>>) -> MetadataError {
    match error {
        RaftError::APIError(LinearizableReadError::ForwardToLeader(forward)) => {
            MetadataError::NotLeader { leader: forward.leader_id.map(ReplicaId) }
        }
        RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)) | RaftError::Fatal(_) => {
            MetadataError::Unavailable
        }
    }
}
