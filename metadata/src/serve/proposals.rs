//! Proposals, gathered into Raft entries.
//!
//! In: requests of a few commands each. Out: their outcomes. While [`BATCHES_IN_FLIGHT_MAX`]
//! entries are under way, what comes gathers for the next one, so that one round of the network
//! and one fsync of each log carry many commands. What always holds: the commands of one request
//! keep their order and stay in one entry; no command moves the cluster's time further ahead of the
//! leader's clock than clocks may differ.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use model::command::{CommandEnvelope, Outcome};
use model::ids::ReplicaId;
use model::query::MetadataError;
use model::time::Timestamp;
use openraft::errors::{ClientWriteError, RaftError};
use tokio::sync::oneshot;
use wire::clock::{Clock, timeout};
use wire::tls::CLOCK_SKEW;

use crate::limits::{
    BATCH_BYTES_MAX, BATCHES_IN_FLIGHT_MAX, LOG_PAYLOAD_BYTES_MAX, QUEUE_COMMANDS_MAX,
    QUORUM_DEADLINE,
};
use crate::raft::Raft;
use crate::raft::types::{Batch, TypeConfig};

use super::followers::until_left_alone;

/// The queue of proposals.
pub struct Proposals {
    raft: Raft,
    clock: Arc<dyn Clock>,
    queue: Mutex<Queue>,
    /// Whether new commands are refused until a follower has caught up.
    is_slow: AtomicBool,
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
        Self { raft, clock, queue: Mutex::default(), is_slow: AtomicBool::new(false) }
    }

    /// Refuses new commands from now on, or takes them again.
    pub fn slow_down(&self, is_slow: bool) {
        self.is_slow.store(is_slow, Ordering::Relaxed);
    }

    /// Proposes commands and waits for their outcomes. Dropping the future leaves them proposed.
    pub async fn propose(
        self: &Arc<Self>,
        mut commands: Vec<CommandEnvelope>,
    ) -> Result<Vec<Outcome>, MetadataError> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        if self.is_slow.load(Ordering::Relaxed) {
            metrics::counter!("drystone_metadata_overloaded_total").increment(1);
            return Err(MetadataError::Overloaded);
        }
        clamp(&mut commands, self.clock.now());
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
        let written = timeout(&*self.clock, QUORUM_DEADLINE, write);
        let result = tokio::select! {
            biased;
            written = written => match written {
                Ok(Ok(response)) => Ok(response.data.0),
                Ok(Err(error)) => Err(failure(&error)),
                Err(_) => Err(MetadataError::Unknown),
            },
            // The others may have taken it, or their new leader may take it back.
            () = until_left_alone(&self.raft, &*self.clock) => Err(MetadataError::Unknown),
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

/// Holds the proposers' clocks to the leader's, so that one of them which is wrong doesn't move the
/// cluster's time, which never goes back. Done before the commands are encoded: what is applied is
/// the same everywhere.
fn clamp(commands: &mut [CommandEnvelope], now: Timestamp) {
    let latest = now.plus_nanos(CLOCK_SKEW.as_nanos() as u64);
    for command in commands {
        command.proposed = command.proposed.min(latest);
    }
}

/// What a failed write means to the proposer.
fn failure(error: &RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> MetadataError {
    match error {
        // Refused before anything was appended: it takes no effect.
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
            MetadataError::NotLeader { leader: forward.leader_id.map(ReplicaId) }
        }
        // Appended, then taken back here: it may be committed by another leader still.
        RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) | RaftError::Fatal(_) => {
            MetadataError::Unknown
        }
        RaftError::APIError(_) => MetadataError::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use model::command::{Command, CommandId};
    use openraft::errors::{Fatal, ForwardToLeader};

    use super::*;

    #[test]
    fn only_what_was_never_appended_is_told_to_have_no_effect() {
        let check = |error, expected| assert_eq!(failure(&error), expected);
        check(
            RaftError::APIError(ClientWriteError::ForwardToLeader(ForwardToLeader::empty())),
            MetadataError::NotLeader { leader: None },
        );
        check(
            RaftError::APIError(ClientWriteError::LogEntryDiscarded(ForwardToLeader::empty())),
            MetadataError::Unknown,
        );
        check(RaftError::Fatal(Fatal::Stopped), MetadataError::Unknown);
    }

    #[test]
    fn a_wrong_clock_does_not_move_the_time() {
        let now = Timestamp(1 << 60);
        let skew = CLOCK_SKEW.as_nanos() as u64;
        let proposed = |at: u64| CommandEnvelope {
            id: CommandId::default(),
            acknowledged_below: 0,
            proposed: Timestamp(at),
            command: Command::AllocateReplica,
        };
        let mut commands =
            [0, now.0, now.0 + skew, now.0 + skew + 1, u64::MAX].map(proposed).to_vec();
        clamp(&mut commands, now);
        let times: Vec<u64> = commands.iter().map(|command| command.proposed.0).collect();
        assert_eq!(times, [0, now.0, now.0 + skew, now.0 + skew, now.0 + skew]);
    }
}
