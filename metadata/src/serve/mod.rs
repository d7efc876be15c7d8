//! What a metadata replica answers to gateways and storage nodes.
//!
//! In: [`MetadataRequest`]. Out: [`MetadataResponse`]. Only the leader answers, but for the
//! status; every query is linearizable by read index, never by a lease (I-4); a fenced replica
//! answers nothing (I-13).

mod backups;
mod digest;
mod disk_states;
pub mod followers;
mod heartbeats;
mod proposals;
mod read_index;
mod status;
mod transfer;

use std::sync::{Arc, Mutex, OnceLock};

use model::command::{CommandEnvelope, Outcome};
use model::ids::ReplicaId;
use model::node::FEATURE_LEVEL;
use model::query::{Answer, MetadataError, MetadataRequest, MetadataResponse, Query};
use openraft::type_config::async_runtime::watch::WatchReceiver;
use wire::BoxFuture;
use wire::clock::Clock;
use wire::network::Service;

use crate::client::MetadataClient;
use crate::inspection::Inspection;
use crate::levels;
use crate::raft::Raft;
use crate::read;
use crate::state::{Fence, StateError, StateMachine, Summary};

pub use backups::Backups;
pub use heartbeats::Heartbeats;
use proposals::Proposals;
use read_index::ReadIndex;
pub(crate) use transfer::that_have_applied;

/// One replica's metadata service.
pub struct MetadataService {
    replica: ReplicaId,
    raft: Raft,
    machine: Arc<StateMachine>,
    fence: Arc<Fence>,
    clock: Arc<dyn Clock>,
    proposals: Arc<Proposals>,
    read_index: Arc<ReadIndex>,
    inspection: Inspection,
    heartbeats: Arc<Heartbeats>,
    backups: Arc<Backups>,
    /// The way to the other replicas, once it is known.
    peers: OnceLock<Arc<MetadataClient>>,
    /// What the status last said of the tables.
    known: Mutex<Summary>,
}

impl MetadataService {
    /// A service on top of a replica's Raft and state machine.
    pub fn new(
        replica: ReplicaId,
        raft: Raft,
        inspection: Inspection,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let machine = Arc::clone(&inspection.machine);
        let fence = Arc::clone(machine.fence());
        let proposals = Arc::new(Proposals::new(raft.clone(), Arc::clone(&clock)));
        Self {
            replica,
            read_index: Arc::new(ReadIndex::new(raft.clone(), Arc::clone(&clock))),
            backups: Arc::new(Backups::new(replica, Arc::clone(&machine), Arc::clone(&clock))),
            heartbeats: Arc::new(Heartbeats::new(Arc::clone(&clock))),
            inspection,
            clock,
            raft,
            machine,
            fence,
            proposals,
            peers: OnceLock::new(),
            known: Mutex::default(),
        }
    }

    /// Says how the other replicas are asked.
    pub fn meet(&self, peers: &Arc<MetadataClient>) {
        // The way to them is the same for as long as the process lives.
        let _ = self.peers.set(Arc::clone(peers));
    }

    /// Looks after the storage nodes' disks and the followers, for as long as this replica leads;
    /// ends with the replica.
    pub async fn watch(&self) {
        let disks = self.heartbeats.watch(&self.raft, &self.machine, &self.proposals);
        let followers =
            followers::watch(&self.raft, &self.proposals, &self.inspection, &*self.clock);
        futures_util::future::join(disks, followers).await;
    }

    async fn answer(&self, request: MetadataRequest) -> Result<MetadataResponse, MetadataError> {
        if let MetadataRequest::Status = request {
            let status = self.status().await;
            return Ok(MetadataResponse::Status(Box::new(status)));
        }
        if self.fence.is_set() {
            return Err(MetadataError::Fenced);
        }
        match request {
            // A backup is read where it was begun, whoever leads by now.
            MetadataRequest::ReadBackup { id, offset } => {
                return self.backups.read(id, offset).await.map(MetadataResponse::BackupPiece);
            }
            MetadataRequest::EndBackup { id } => {
                self.backups.end(id);
                return Ok(MetadataResponse::BackupEnded);
            }
            MetadataRequest::Digest { at } => {
                let digest = self.digest(at).await?;
                return Ok(MetadataResponse::Digest(Box::new(digest)));
            }
            _ => self.check_leader()?,
        }
        match request {
            MetadataRequest::Propose(commands) => {
                self.propose(commands).await.map(MetadataResponse::Outcomes)
            }
            MetadataRequest::Query(query) => {
                let answer = self.query(query).await?;
                Ok(MetadataResponse::Answer(Box::new(answer)))
            }
            MetadataRequest::Heartbeat(heartbeat) => {
                let proposals = &self.proposals;
                let epoch = self.heartbeats.take(heartbeat, &self.machine, proposals);
                Ok(MetadataResponse::HeartbeatTaken { epoch })
            }
            MetadataRequest::BeginBackup => {
                self.read_index.confirm().await?;
                self.backups.begin().await.map(MetadataResponse::BackupBegun)
            }
            MetadataRequest::Transfer { to } => {
                self.transfer(to).await.map(MetadataResponse::Transferred)
            }
            MetadataRequest::Status
            | MetadataRequest::Digest { .. }
            | MetadataRequest::ReadBackup { .. }
            | MetadataRequest::EndBackup { .. } => Err(MetadataError::Unavailable),
        }
    }

    /// Refuses at once what another replica must answer.
    fn check_leader(&self) -> Result<(), MetadataError> {
        let leader = self.raft.server_metrics().borrow_watched().current_leader;
        if leader == Some(self.replica.0) {
            if followers::is_left_alone(&self.raft) {
                return Err(MetadataError::NotLeader { leader: None });
            }
            Ok(())
        } else {
            Err(MetadataError::NotLeader { leader: leader.map(ReplicaId) })
        }
    }

    /// Proposes what every node of the cluster knows. The rest is refused before it reaches the log:
    /// a replica of an older release couldn't read on there.
    async fn propose(
        &self,
        mut commands: Vec<CommandEnvelope>,
    ) -> Result<Vec<Outcome>, MetadataError> {
        if levels::are_within(&commands, self.level()) {
            return self.proposals.propose(commands).await;
        }
        // What is applied here may be behind the map that the proposer saw.
        self.read_index.confirm().await?;
        let stayed = levels::sift(&mut commands, self.level());
        let outcomes = self.proposals.propose(commands).await?;
        levels::join(&stayed, outcomes).ok_or(MetadataError::Unknown)
    }

    /// The feature level of the cluster, as far as it is applied here.
    fn level(&self) -> u32 {
        let map = self.machine.directory().map.clone();
        map.map_or(FEATURE_LEVEL, |map| map.level_in_use())
    }

    async fn query(&self, query: Query) -> Result<Answer, MetadataError> {
        self.read_index.confirm().await?;
        metrics::counter!("drystone_metadata_queries_total").increment(1);
        // What this replica took as a follower may still wait to be written (I-4).
        let is_inline = read::is_cheap(&query) && !self.machine.has_pending();
        let answer = if is_inline {
            read::answer(&self.machine, &query)
        } else {
            let machine = Arc::clone(&self.machine);
            tokio::task::spawn_blocking(move || read::answer(&machine, &query))
                .await
                .map_err(|_| MetadataError::Unavailable)?
        };
        answer.map_err(|error| match error {
            StateError::Damaged(_)
            | StateError::Database(_)
            | StateError::Io(_)
            | StateError::Fenced => MetadataError::Fenced,
        })
    }
}

impl Service<MetadataRequest, MetadataResponse> for MetadataService {
    fn serve(&self, request: MetadataRequest) -> BoxFuture<'_, MetadataResponse> {
        Box::pin(async move { self.answer(request).await.unwrap_or_else(MetadataResponse::Failed) })
    }
}
