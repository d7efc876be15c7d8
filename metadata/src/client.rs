//! The metadata as its users see it: any number of replicas behind one address book.
//!
//! In: queries, proposals, heartbeats. Out: answers from the leader. The client finds the leader,
//! follows redirects and tries again within one total deadline. A proposal is only ever repeated
//! under the same [`model::command::CommandId`], so repeating is harmless (I-5); commands of
//! session 0 are those that may be repeated anyway.
//!
//! Sessions, sequence numbers and extent ids are in [`crate::session`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use model::command::{Command, CommandEnvelope, CommandId, Outcome, Refusal};
use model::ids::ReplicaId;
use model::query::{
    Answer, Heartbeat, MetadataError, MetadataRequest, MetadataResponse, MetadataStatus, Query,
};
use wire::clock::Clock;
use wire::network::{Network, NetworkError, Peer};

/// The network between metadata clients and replicas; a replica's peer number is its id.
pub type MetadataNetwork = dyn Network<MetadataRequest, MetadataResponse>;

/// How long a query or proposal may take altogether, redirects and an election included.
pub const TOTAL_DEADLINE: Duration = Duration::from_secs(15);

/// How long one attempt at one replica may take: longer than a loaded leader needs, short enough
/// that a hung one leaves time for its successor.
pub const ATTEMPT_DEADLINE: Duration = Duration::from_secs(5);

/// The pause after the first failed round; it doubles up to [`PAUSE_MAX`].
const PAUSE_FIRST: Duration = Duration::from_millis(5);

/// The longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// The replicas that there are, shared by everyone in the process and changed by the keeper.
#[derive(Debug, Default)]
pub struct ReplicaBook {
    replicas: RwLock<Vec<ReplicaId>>,
}

impl ReplicaBook {
    /// A book with these replicas.
    pub fn new(replicas: Vec<ReplicaId>) -> Self {
        Self { replicas: RwLock::new(replicas) }
    }

    /// The replicas, in no particular order.
    pub fn replicas(&self) -> Vec<ReplicaId> {
        self.replicas.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the list.
    pub fn set(&self, replicas: Vec<ReplicaId>) {
        *self.replicas.write().unwrap_or_else(PoisonError::into_inner) = replicas;
    }

    /// The replica at `turn`, counted round and round.
    fn at(&self, turn: usize) -> Option<ReplicaId> {
        let replicas = self.replicas.read().unwrap_or_else(PoisonError::into_inner);
        let count = replicas.len();
        (count > 0).then(|| replicas.get(turn % count).copied()).flatten()
    }
}

/// A client of the metadata service. Cheap to share by `Arc`.
pub struct MetadataClient {
    network: Arc<MetadataNetwork>,
    book: Arc<ReplicaBook>,
    clock: Arc<dyn Clock>,
    /// The last leader that answered; 0 for none.
    leader: AtomicU64,
}

/// How one attempt ended.
enum Attempt {
    Answered(MetadataResponse),
    /// Nothing was done; ask this one next, if known.
    Redirected(Option<ReplicaId>),
    /// Nothing was done; pause and ask another.
    Refused(MetadataError),
    /// It may have been done.
    Unknown,
}

impl MetadataClient {
    /// A client of the replicas in `book`.
    pub fn new(
        network: Arc<MetadataNetwork>,
        book: Arc<ReplicaBook>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { network, book, clock, leader: AtomicU64::new(0) }
    }

    /// The clock that the client waits by.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The replicas that the client knows.
    pub fn book(&self) -> &Arc<ReplicaBook> {
        &self.book
    }

    /// A linearizable answer (I-4). Errors: `Unavailable`, `Overloaded`, when they last for
    /// [`TOTAL_DEADLINE`].
    pub async fn query(&self, query: Query) -> Result<Answer, MetadataError> {
        match self.call_leader(MetadataRequest::Query(query)).await?.0 {
            MetadataResponse::Answer(answer) => Ok(*answer),
            _ => Err(MetadataError::Unavailable),
        }
    }

    /// Proposes commands under the ids that they have; an outcome for each, in order. Errors:
    /// `Unknown` when they may or may not have taken effect, else nothing was done.
    pub async fn propose(
        &self,
        commands: Vec<CommandEnvelope>,
    ) -> Result<Vec<Outcome>, MetadataError> {
        let count = commands.len();
        let (response, was_unknown) = self.call_leader(MetadataRequest::Propose(commands)).await?;
        match response {
            MetadataResponse::Outcomes(outcomes) if outcomes.len() == count => {
                // An ended session remembers no outcomes: what an earlier attempt did isn't known.
                let ended = Outcome::Refused(Refusal::SessionEnded);
                if was_unknown && outcomes.contains(&ended) {
                    return Err(MetadataError::Unknown);
                }
                Ok(outcomes)
            }
            _ => Err(MetadataError::Unknown),
        }
    }

    /// Proposes one command outside any session: for the commands that may be repeated without
    /// harm (`InitCluster`, `RegisterDisk`, `SetDiskState`, `AllocateReplica`, `OpenSession`,
    /// `EndSession`, `QueueRepair`, `CollectGarbage`). All others go through
    /// [`crate::session::Writer`].
    pub async fn propose_one(&self, command: Command) -> Result<Outcome, MetadataError> {
        let envelope = CommandEnvelope {
            id: CommandId::default(),
            acknowledged_below: 0,
            proposed: self.clock.now(),
            command,
        };
        let outcomes = self.propose(vec![envelope]).await?;
        outcomes.into_iter().next().ok_or(MetadataError::Unknown)
    }

    /// Reports a storage node's disks to the leader; answers the epoch of the cluster map.
    pub async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<u64, MetadataError> {
        match self.call_leader(MetadataRequest::Heartbeat(heartbeat)).await?.0 {
            MetadataResponse::HeartbeatTaken { epoch } => Ok(epoch),
            _ => Err(MetadataError::Unavailable),
        }
    }

    /// What one replica tells of itself.
    pub async fn status(&self, replica: ReplicaId) -> Result<MetadataStatus, MetadataError> {
        let call = self.network.call(Peer(replica.0), MetadataRequest::Status, ATTEMPT_DEADLINE);
        match call.await {
            Ok(MetadataResponse::Status(status)) => Ok(*status),
            Ok(MetadataResponse::Failed(error)) => Err(error),
            Ok(_) | Err(_) => Err(MetadataError::Unavailable),
        }
    }

    /// Asks until a leader answers; also says whether an earlier attempt may have taken effect.
    async fn call_leader(
        &self,
        request: MetadataRequest,
    ) -> Result<(MetadataResponse, bool), MetadataError> {
        let started = self.clock.monotonic();
        let mut pause = PAUSE_FIRST;
        let mut turn = 0usize;
        let mut was_unknown = false;
        let mut hint = self.known_leader();
        // Redirects that point in a circle during an election must not spin.
        let mut redirects = 0;
        loop {
            let spent = self.clock.monotonic().saturating_sub(started);
            let left = TOTAL_DEADLINE.saturating_sub(spent);
            let target = hint.take().or_else(|| {
                turn += 1;
                self.book.at(turn - 1)
            });
            let last = match target {
                None => MetadataError::Unavailable,
                Some(replica) => match self.attempt(replica, request.clone(), left).await {
                    Attempt::Answered(response) => {
                        self.leader.store(replica.0, Ordering::Relaxed);
                        return Ok((response, was_unknown));
                    }
                    Attempt::Redirected(Some(leader)) if redirects < 3 && leader != replica => {
                        redirects += 1;
                        hint = Some(leader);
                        continue;
                    }
                    Attempt::Redirected(_) => MetadataError::Unavailable,
                    Attempt::Refused(error) => error,
                    Attempt::Unknown => {
                        was_unknown = true;
                        MetadataError::Unknown
                    }
                },
            };
            self.leader.store(0, Ordering::Relaxed);
            redirects = 0;
            let spent = self.clock.monotonic().saturating_sub(started);
            if spent + pause >= TOTAL_DEADLINE {
                return Err(if was_unknown { MetadataError::Unknown } else { last });
            }
            // All replicas get their turn before the pause grows.
            if turn.is_multiple_of(self.book.replicas().len().max(1)) {
                self.clock.sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }

    async fn attempt(
        &self,
        replica: ReplicaId,
        request: MetadataRequest,
        left: Duration,
    ) -> Attempt {
        // Only a proposal changes anything; a lost query was not done.
        let lost = if matches!(request, MetadataRequest::Propose(_)) {
            Attempt::Unknown
        } else {
            Attempt::Refused(MetadataError::Unavailable)
        };
        let deadline = left.min(ATTEMPT_DEADLINE);
        match self.network.call(Peer(replica.0), request, deadline).await {
            Ok(MetadataResponse::Failed(MetadataError::NotLeader { leader })) => {
                Attempt::Redirected(leader)
            }
            Ok(MetadataResponse::Failed(MetadataError::Unknown)) => Attempt::Unknown,
            Ok(MetadataResponse::Failed(MetadataError::Fenced)) => {
                Attempt::Refused(MetadataError::Unavailable)
            }
            Ok(MetadataResponse::Failed(error)) => Attempt::Refused(error),
            Ok(response) => Attempt::Answered(response),
            Err(NetworkError::Unreachable(_)) => Attempt::Refused(MetadataError::Unavailable),
            Err(NetworkError::TimedOut(_)) => lost,
        }
    }

    fn known_leader(&self) -> Option<ReplicaId> {
        match self.leader.load(Ordering::Relaxed) {
            0 => None,
            id => Some(ReplicaId(id)),
        }
    }
}
