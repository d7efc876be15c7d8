//! Proposals, gathered into Raft entries.
//!
//! In: requests of a few commands each. Out: their outcomes. While [`BATCHES_IN_FLIGHT_MAX`]
//! entries are under way, what comes gathers for the next one, so that one round of the network
//! and one fsync of each log carry many commands. What always holds: the commands of one request
//! keep their order and stay in one entry.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use model::command::{CommandEnvelope, Outcome};
use model::ids::ReplicaId;
use model::query::MetadataError;
use openraft::errors::{ClientWriteError, RaftError};
use tokio::sync::oneshot;
use wire::clock::{Clock, timeout};

use crate::limits::{
    BATCH_BYTES_MAX, BATCHES_IN_FLIGHT_MAX, LOG_PAYLOAD_BYTES_MAX, QUEUE_COMMANDS_MAX,
    QUORUM_DEADLINE,
};
use crate::raft::Raft;
use crate::raft::types::{Batch, TypeConfig};

/// The queue of proposals.
pub struct Proposals {
    raft: Raft,
    clock: Arc<dyn Clock>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Proposal>,
    commands: usize,
    in_flight: usize,
}

struct Proposal {
    commands: Vec<CommandEnvelope>,
    encoded: Bytes,
    answer: oneshot::Sender<Result<Vec<Outcome>, MetadataError>>,
}

impl Proposals {
    /// An empty queue before `raft`.
    pub fn new(raft: Raft, clock: Arc<dyn Clock>) -> Self {
        Self { raft, clock, queue: Mutex::default() }
    }

    /// Proposes commands and waits for their outcomes. Dropping the future leaves them proposed.
    pub async fn propose(
        self: &Arc<Self>,
        commands: Vec<CommandEnvelope>,
    ) -> Result<Vec<Outcome>, MetadataError> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        // Encoded here, so that it is done for all at once by those who propose.
        let encoded = Batch::encode(&commands);
        if encoded.len() > LOG_PAYLOAD_BYTES_MAX {
            return Err(MetadataError::Overloaded);
        }
        let (answer, answered) = oneshot::channel();
        {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            if queue.commands + commands.len() > QUEUE_COMMANDS_MAX && !queue.waiting.is_empty() {
                metrics::counter!("drystone_metadata_overloaded_total").increment(1);
                return Err(MetadataError::Overloaded);
            }
            queue.commands += commands.len();
            queue.waiting.push_back(Proposal { commands, encoded, answer });
            if queue.in_flight < BATCHES_IN_FLIGHT_MAX {
                queue.in_flight += 1;
                tokio::spawn(Arc::clone(self).drive());
            }
        }
        answered.await.unwrap_or(Err(MetadataError::Unknown))
    }

    /// Proposes batch after batch until nothing waits.
    async fn drive(self: Arc<Self>) {
        while let Some(batch) = self.next_batch() {
            self.carry_out(batch).await;
        }
    }

    /// What waits, up to a batch's limits; gives the place in flight back when nothing does.
    fn next_batch(&self) -> Option<Vec<Proposal>> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut commands, mut bytes) = (0, 0);
        let mut batch = Vec::new();
        while let Some(next) = queue.waiting.front() {
            let is_full = commands + next.commands.len() > model::limits::BATCH_COMMANDS_MAX
                || bytes + next.encoded.len() > BATCH_BYTES_MAX;
            if is_full && !batch.is_empty() {
                break;
            }
            commands += next.commands.len();
            bytes += next.encoded.len();
            batch.extend(queue.waiting.pop_front());
        }
        queue.commands -= commands;
        if batch.is_empty() {
            queue.in_flight -= 1;
            return None;
        }
        metrics::histogram!("drystone_metadata_batch_commands").record(commands as f64);
        metrics::counter!("drystone_metadata_proposals_total").increment(commands as u64);
        Some(batch)
    }

    async fn carry_out(&self, batch: Vec<Proposal>) {
        let mut commands = Vec::with_capacity(batch.len());
        let mut encodings = Vec::with_capacity(batch.len());
        let mut answers = Vec::with_capacity(batch.len());
        for proposal in batch {
            answers.push((proposal.commands.len(), proposal.answer));
            commands.extend(proposal.commands);
            encodings.push(proposal.encoded);
        }
        let write = self.raft.client_write(Batch::new(commands, &encodings));
        let result = match timeout(&*self.clock, QUORUM_DEADLINE, write).await {
            Ok(Ok(response)) => Ok(response.data.0),
            Ok(Err(error)) => Err(failure(&error)),
            Err(_) => Err(MetadataError::Unknown),
        };
        match result {
            Ok(outcomes) => {
                let mut outcomes = outcomes.into_iter();
                for (count, answer) in answers {
                    // Whoever asked may be gone.
                    let _ = answer.send(Ok(outcomes.by_ref().take(count).collect()));
                }
            }
            Err(error) => {
                for (_, answer) in answers {
                    let _ = answer.send(Err(error));
                }
            }
        }
    }
}

/// What a failed write means to the proposer.
fn failure(error: &RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> MetadataError {
    match error {
        // Also told of entries that a new leader has taken back: they took no effect.
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
            MetadataError::NotLeader { leader: forward.leader_id.map(ReplicaId) }
        }
        RaftError::APIError(_) => MetadataError::Unavailable,
        RaftError::Fatal(_) => MetadataError::Unknown,
    }
}
