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

use futures_util::future::join_all;
use model::cluster_map::ClusterMap;
use model::command::{Command, CommandEnvelope, CommandId, Outcome, Refusal};
use model::ids::{NodeId, ReplicaId};
use model::level;
use model::node::ReplicaPlace;
use model::query::{
    Answer, Heartbeat, MetadataError, MetadataRequest, MetadataResponse, MetadataStatus, Query,
};
use wire::clock::{Clock, timeout};
use wire::network::{Network, NetworkError, Peer};

use crate::levels;

/// The network between metadata clients and replicas; a replica's peer number is its id.
pub type MetadataNetwork = dyn Network<MetadataRequest, MetadataResponse>;

/// How long a query or proposal may take altogether, redirects and an election included.
pub const TOTAL_DEADLINE: Duration = Duration::from_secs(15);

/// How long one attempt at one replica may take: longer than a loaded leader needs, short enough
/// that a hung one leaves time for its successor.
pub const ATTEMPT_DEADLINE: Duration = Duration::from_secs(5);

/// After so long without an answer, the client looks whether another replica leads ...
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// ... this often.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// The pause after the first failed round; it doubles up to [`PAUSE_MAX`].
const PAUSE_FIRST: Duration = Duration::from_millis(5);

/// The longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// The replicas that there are, shared by everyone in the process: those that the process keeps
/// itself, as its keeper says, and those that the cluster map has.
#[derive(Debug, Default)]
pub struct ReplicaBook {
    pages: RwLock<Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    own: Vec<ReplicaId>,
    cluster: Vec<ReplicaId>,
    /// The cluster map's epoch that `cluster` is of.
    epoch: u64,
    /// The feature level of the newest map that was seen; `None` before the first.
    level: Option<(u64, u32)>,
    /// Both, each replica once.
    all: Vec<ReplicaId>,
}

impl Pages {
    fn join(&mut self) {
        self.all.clone_from(&self.own);
        self.all.extend(self.cluster.iter().filter(|id| !self.own.contains(id)));
    }
}

impl ReplicaBook {
    /// A book with these replicas.
    pub fn new(replicas: Vec<ReplicaId>) -> Self {
        let book = Self::default();
        book.set(replicas);
        book
    }

    /// The replicas, in no particular order.
    pub fn replicas(&self) -> Vec<ReplicaId> {
        self.pages.read().unwrap_or_else(PoisonError::into_inner).all.clone()
    }

    /// Replaces the list of the cluster's replicas.
    pub fn set(&self, replicas: Vec<ReplicaId>) {
        let mut pages = self.pages.write().unwrap_or_else(PoisonError::into_inner);
        pages.cluster = replicas;
        pages.join();
    }

    /// Replaces the list of this process's own replicas.
    pub fn set_own(&self, replicas: Vec<ReplicaId>) {
        let mut pages = self.pages.write().unwrap_or_else(PoisonError::into_inner);
        pages.own = replicas;
        pages.join();
    }

    /// Takes the cluster's replicas from a cluster map, unless a newer one is known.
    pub fn learn(&self, map: &ClusterMap) {
        let mut pages = self.pages.write().unwrap_or_else(PoisonError::into_inner);
        if pages.level.is_none_or(|(epoch, _)| map.epoch > epoch) {
            pages.level = Some((map.epoch, map.level_in_use()));
        }
        if map.epoch > pages.epoch && !map.replicas.is_empty() {
            pages.epoch = map.epoch;
            pages.cluster = map.replicas.iter().map(|place| place.replica).collect();
            pages.join();
        }
    }

    /// The feature level that commands must keep to, as far as is known.
    fn level(&self) -> u32 {
        let pages = self.pages.read().unwrap_or_else(PoisonError::into_inner);
        pages.level.map_or(level::FIRST, |(_, level)| level)
    }

    /// The replica at `turn`, counted round and round.
    fn at(&self, turn: usize) -> Option<ReplicaId> {
        let pages = self.pages.read().unwrap_or_else(PoisonError::into_inner);
        let count = pages.all.len();
        (count > 0).then(|| pages.all.get(turn % count).copied()).flatten()
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

/// Why a node can't be asked for a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddReplicaError {
    /// The node isn't there, or keeps no metadata.
    #[error("no replica can be placed there: {0}")]
    Refused(#[from] Refusal),
    /// The metadata doesn't answer.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
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
    /// No answer came, and this other replica leads by now; it may have been done.
    Superseded(ReplicaId),
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

    /// The way to the replicas.
    pub(crate) fn network(&self) -> &MetadataNetwork {
        &*self.network
    }

    /// The replicas that the client knows.
    pub fn book(&self) -> &Arc<ReplicaBook> {
        &self.book
    }

    /// A linearizable answer (I-4). Errors: `Unavailable`, `Overloaded`, when they last for
    /// [`TOTAL_DEADLINE`].
    pub async fn query(&self, query: Query) -> Result<Answer, MetadataError> {
        match self.call_leader(MetadataRequest::Query(query)).await?.0 {
            MetadataResponse::Answer(answer) => {
                if let Answer::ClusterMap(Some(map)) = &*answer {
                    self.book.learn(map);
                }
                Ok(*answer)
            }
            _ => Err(MetadataError::Unavailable),
        }
    }

    /// Proposes commands under the ids that they have; an outcome for each, in order. Those that not
    /// every node of the cluster knows are refused here: the leader may be of an older release.
    /// Errors: `Unknown` when they may or may not have taken effect, else nothing was done.
    pub async fn propose(
        &self,
        mut commands: Vec<CommandEnvelope>,
    ) -> Result<Vec<Outcome>, MetadataError> {
        if levels::are_within(&commands, self.book.level()) {
            return self.send(commands).await;
        }
        // The last node may have been upgraded just now; the book learns it.
        self.query(Query::ClusterMap { known_epoch: 0 }).await?;
        let stayed = levels::sift(&mut commands, self.book.level());
        let outcomes = if commands.is_empty() { Vec::new() } else { self.send(commands).await? };
        levels::join(&stayed, outcomes).ok_or(MetadataError::Unknown)
    }

    async fn send(&self, commands: Vec<CommandEnvelope>) -> Result<Vec<Outcome>, MetadataError> {
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

    /// Asks one replica, once.
    pub(crate) async fn call_replica(
        &self,
        replica: ReplicaId,
        request: MetadataRequest,
    ) -> Result<MetadataResponse, MetadataError> {
        let call = self.network.call(Peer(replica.0), request, ATTEMPT_DEADLINE);
        call.await.map_err(|_| MetadataError::Unavailable)
    }

    /// Gives the lead to a voter, or to the one that lacks least; answers who leads then. Errors:
    /// `Unavailable` when nobody takes it.
    pub async fn transfer(&self, to: Option<ReplicaId>) -> Result<ReplicaId, MetadataError> {
        match self.call_leader(MetadataRequest::Transfer { to }).await?.0 {
            MetadataResponse::Transferred(leader) => Ok(leader),
            _ => Err(MetadataError::Unavailable),
        }
    }

    /// Asks a node for a replica: an id is placed there that nobody has, and the node makes one
    /// under another. Answers that id.
    pub async fn add_replica(&self, node: NodeId) -> Result<ReplicaId, AddReplicaError> {
        let Outcome::ReplicaAllocated(replica) = self.propose_one(Command::AllocateReplica).await?
        else {
            return Err(MetadataError::Unavailable.into());
        };
        match self.propose_one(Command::PlaceReplica(ReplicaPlace { replica, node })).await? {
            Outcome::Refused(refusal) => Err(refusal.into()),
            _ => Ok(replica),
        }
    }

    /// Asks until a leader answers; also says whether an earlier attempt may have taken effect.
    pub(crate) async fn call_leader(
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
                Some(replica) => match self.attempt_watched(replica, request.clone(), left).await {
                    Attempt::Answered(response) => {
                        self.leader.store(replica.0, Ordering::Relaxed);
                        return Ok((response, was_unknown));
                    }
                    Attempt::Redirected(Some(leader)) if redirects < 3 && leader != replica => {
                        redirects += 1;
                        hint = Some(leader);
                        continue;
                    }
                    Attempt::Superseded(leader) => {
                        was_unknown |= matches!(request, MetadataRequest::Propose(_));
                        self.leader.store(0, Ordering::Relaxed);
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

    /// One attempt, given up when another replica is seen to lead: the one that was asked may be
    /// cut off, and nothing tells.
    async fn attempt_watched(
        &self,
        replica: ReplicaId,
        request: MetadataRequest,
        left: Duration,
    ) -> Attempt {
        tokio::select! {
            biased;
            attempt = self.attempt(replica, request, left) => attempt,
            leader = self.until_another_leads(replica) => Attempt::Superseded(leader),
        }
    }

    async fn until_another_leads(&self, replica: ReplicaId) -> ReplicaId {
        self.clock.sleep(LOOK_AFTER).await;
        loop {
            let others = self.book.replicas().into_iter().filter(|other| *other != replica);
            let asked =
                others.map(|other| timeout(&*self.clock, LOOK_INTERVAL, self.status(other)));
            let told = join_all(asked).await;
            let mut leaders: Vec<MetadataStatus> = told.into_iter().flatten().flatten().collect();
            leaders.retain(|status| status.state == "leader");
            if let Some(leader) = leaders.into_iter().max_by_key(|status| status.term) {
                return leader.replica;
            }
            self.clock.sleep(LOOK_INTERVAL).await;
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
