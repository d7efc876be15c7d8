//! Raft's messages between replicas, both ends.
//!
//! In one process they are handed over as they are: entries share their commands and bytes.

use std::future::Future;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias;
use openraft::{AnyError, EmptyNode, OptionalSend, RaftNetworkFactory, Snapshot};
use tokio::sync::Mutex;
use wire::BoxFuture;
use wire::disk::DiskFile;
use wire::network::{Network, Peer, Service};

use super::Raft;
use super::types::{SnapshotMeta, TypeConfig, Vote};
use crate::limits::{RAFT_MESSAGE_DEADLINE, SNAPSHOT_CHUNK_DEADLINE, SNAPSHOT_INSTALL_DEADLINE};
use crate::state::{Fence, SnapshotFile, StateMachine};

/// A message to a replica.
pub enum RaftRequest {
    /// Entries, or a heartbeat.
    Append(AppendEntriesRequest<TypeConfig>),
    /// A candidate asks for a vote.
    Vote(VoteRequest<TypeConfig>),
    /// A candidate asks whether it would get the vote.
    PreVote(VoteRequest<TypeConfig>),
    /// The leader hands over.
    TransferLeader(TransferLeaderRequest<TypeConfig>),
    /// A piece of a snapshot; the first, at 0, begins a new one.
    SnapshotPiece {
        /// Where it goes.
        offset: u64,
        /// What goes there.
        piece: Bytes,
    },
    /// All pieces were sent: install it.
    SnapshotEnd {
        /// The leader's vote.
        vote: Vote,
        /// What the snapshot covers.
        meta: SnapshotMeta,
    },
}

/// The answer.
pub enum RaftResponse {
    /// To `Append`.
    Append(AppendEntriesResponse<TypeConfig>),
    /// To `Vote` and `PreVote`.
    Vote(VoteResponse<TypeConfig>),
    /// To `TransferLeader`.
    TransferLeader(TransferLeaderResponse<TypeConfig>),
    /// To `SnapshotPiece`: it is there.
    PieceTaken,
    /// To `SnapshotEnd`.
    Snapshot(SnapshotResponse<TypeConfig>),
    /// The replica can't answer, for this reason.
    Failed(String),
}

/// The network that carries them; a replica's peer number is its id.
pub type RaftNetwork = dyn Network<RaftRequest, RaftResponse>;

/// The sending end: makes a connection to each other replica.
#[derive(Clone)]
pub struct Connections {
    /// Carries the messages.
    pub network: Arc<RaftNetwork>,
    /// Whose snapshots are sent.
    pub machine: Arc<StateMachine>,
}

/// The sending end, to one replica.
pub struct Connection {
    network: Arc<RaftNetwork>,
    machine: Arc<StateMachine>,
    target: Peer,
}

impl RaftNetworkFactory<TypeConfig> for Connections {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, _node: &EmptyNode) -> Connection {
        let (network, machine) = (Arc::clone(&self.network), Arc::clone(&self.machine));
        Connection { network, machine, target: Peer(target) }
    }
}

type RpcError = RPCError<TypeConfig>;

impl Connection {
    async fn call(
        &self,
        request: RaftRequest,
        deadline: Duration,
    ) -> Result<RaftResponse, RpcError> {
        match self.network.call(self.target, request, deadline).await {
            Ok(RaftResponse::Failed(reason)) => {
                Err(RPCError::Unreachable(Unreachable::new(&AnyError::error(reason))))
            }
            Ok(response) => Ok(response),
            Err(error @ wire::network::NetworkError::Unreachable(_)) => {
                Err(RPCError::Unreachable(Unreachable::new(&error)))
            }
            Err(error @ wire::network::NetworkError::TimedOut(_)) => {
                Err(RPCError::Network(NetworkError::new(&error)))
            }
        }
    }

    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: alias::SnapshotOf<TypeConfig, SnapshotFile>,
    ) -> Result<SnapshotResponse<TypeConfig>, RpcError> {
        self.check(&snapshot.snapshot).await?;
        let mut offset = 0;
        loop {
            let file = snapshot.snapshot.clone();
            let read = tokio::task::spawn_blocking(move || file.piece(offset)).await;
            let piece =
                read.map_err(|error| unreadable(&error))?.map_err(|error| unreadable(&error))?;
            if piece.is_empty() {
                break;
            }
            let length = piece.len() as u64;
            let request = RaftRequest::SnapshotPiece { offset, piece: piece.into() };
            match self.call(request, SNAPSHOT_CHUNK_DEADLINE).await? {
                RaftResponse::PieceTaken => offset += length,
                _ => return Err(mismatched()),
            }
        }
        let request = RaftRequest::SnapshotEnd { vote, meta: snapshot.meta };
        match self.call(request, SNAPSHOT_INSTALL_DEADLINE).await? {
            RaftResponse::Snapshot(response) => Ok(response),
            _ => Err(mismatched()),
        }
    }
}

impl Connection {
    /// Reads a snapshot before any of it is sent. One that is damaged is made anew, and the new one is
    /// sent at Raft's next try.
    async fn check(&self, snapshot: &SnapshotFile) -> Result<(), RpcError> {
        let (machine, snapshot) = (Arc::clone(&self.machine), snapshot.clone());
        let checked = tokio::task::spawn_blocking(move || {
            snapshot.check().inspect_err(|why| {
                // It says itself what came of it.
                let _ = machine.remake_snapshot(why);
            })
        });
        let checked = checked.await.map_err(|error| unreadable(&error))?;
        checked.map_err(|error| RPCError::Unreachable(Unreachable::new(&error)))
    }
}

fn unreadable(error: &(impl std::error::Error + 'static)) -> RpcError {
    RPCError::Network(NetworkError::new(error))
}

/// How long an answer is waited for.
fn deadline(option: &RPCOption) -> Duration {
    option.hard_ttl().max(RAFT_MESSAGE_DEADLINE)
}

fn mismatched() -> RpcError {
    let error = AnyError::error("the answer is of another kind than the request");
    RPCError::Network(NetworkError::new(&error))
}

impl RaftNetworkV2<TypeConfig> for Connection {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RpcError> {
        match self.call(RaftRequest::Append(rpc), deadline(&option)).await? {
            RaftResponse::Append(response) => Ok(response),
            _ => Err(mismatched()),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        match self.call(RaftRequest::Vote(rpc), deadline(&option)).await? {
            RaftResponse::Vote(response) => Ok(response),
            _ => Err(mismatched()),
        }
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        match self.call(RaftRequest::PreVote(rpc), deadline(&option)).await? {
            RaftResponse::Vote(response) => Ok(response),
            _ => Err(mismatched()),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: alias::SnapshotOf<TypeConfig, SnapshotFile>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = self.send_snapshot(vote, snapshot) => sent.map_err(StreamingError::from),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RpcError> {
        match self.call(RaftRequest::TransferLeader(request), deadline(&option)).await? {
            RaftResponse::TransferLeader(response) => Ok(response),
            _ => Err(mismatched()),
        }
    }
}

/// A snapshot that arrives.
const INCOMING: &str = "snapshot.incoming";

/// The receiving end of one replica.
pub struct RaftMessages {
    raft: Raft,
    machine: Arc<StateMachine>,
    fence: Arc<Fence>,
    incoming: Mutex<Option<Incoming>>,
    /// Held while a snapshot is installed; whether none may be any more.
    installing: Arc<Mutex<bool>>,
}

struct Incoming {
    file: Arc<dyn DiskFile>,
    next: u64,
}

impl RaftMessages {
    /// Hands messages to `raft`, unless the fence is set.
    pub fn new(raft: Raft, machine: Arc<StateMachine>, fence: Arc<Fence>) -> Self {
        let installing = Arc::new(Mutex::new(false));
        Self { raft, machine, fence, incoming: Mutex::new(None), installing }
    }

    /// Ends when no snapshot is being installed; none will be from then on.
    pub async fn stop(&self) {
        *self.installing.lock().await = true;
    }

    async fn answer(&self, request: RaftRequest) -> Result<RaftResponse, String> {
        if self.fence.is_set() {
            return Err("the replica is fenced".to_owned());
        }
        let response = match request {
            RaftRequest::Append(rpc) => {
                self.raft.append_entries(rpc).await.map(RaftResponse::Append)
            }
            RaftRequest::Vote(rpc) => self.raft.vote(rpc).await.map(RaftResponse::Vote),
            RaftRequest::PreVote(rpc) => self.raft.pre_vote(rpc).await.map(RaftResponse::Vote),
            RaftRequest::TransferLeader(request) => {
                let transferred = self.raft.handle_transfer_leader(request).await;
                return transferred
                    .map(RaftResponse::TransferLeader)
                    .map_err(|error| error.to_string());
            }
            RaftRequest::SnapshotPiece { offset, piece } => {
                return self.take_piece(offset, piece).await.map(|()| RaftResponse::PieceTaken);
            }
            RaftRequest::SnapshotEnd { vote, meta } => {
                return self.install(vote, meta).await.map(RaftResponse::Snapshot);
            }
        };
        // A fence that was raised meanwhile makes the answer worthless (I-13).
        if self.fence.is_set() {
            return Err("the replica is fenced".to_owned());
        }
        response.map_err(|error| error.to_string())
    }

    async fn take_piece(&self, offset: u64, piece: Bytes) -> Result<(), String> {
        let mut incoming = self.incoming.lock().await;
        if offset == 0 {
            let file = crate::state::new_file(&**self.machine.disk(), INCOMING)
                .map_err(|error| error.to_string())?;
            *incoming = Some(Incoming { file, next: 0 });
        }
        let current = incoming.as_mut().ok_or("no snapshot was begun")?;
        if current.next != offset {
            return Err("a piece of the snapshot is missing".to_owned());
        }
        let file = Arc::clone(&current.file);
        let length = piece.len() as u64;
        let write =
            tokio::task::spawn_blocking(move || file.write_at(&[IoSlice::new(&piece)], offset));
        write.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        current.next += length;
        Ok(())
    }

    async fn install(
        &self,
        vote: Vote,
        meta: SnapshotMeta,
    ) -> Result<SnapshotResponse<TypeConfig>, String> {
        let incoming = self.incoming.lock().await.take().ok_or("no snapshot was begun")?;
        let file = SnapshotFile::new(incoming.file);
        let inside = {
            let file = file.clone();
            let read = tokio::task::spawn_blocking(move || file.meta()).await;
            read.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?
        };
        if inside != meta {
            return Err("the snapshot covers something else than was said".to_owned());
        }
        let (raft, machine) = (self.raft.clone(), Arc::clone(&self.machine));
        let installing = Arc::clone(&self.installing);
        // On its own: whoever waits for the answer may give up, and another snapshot must not be
        // begun in the middle of this one.
        let install = tokio::spawn(async move {
            let is_stopped = installing.lock().await;
            if *is_stopped {
                return Err("the replica stops".to_owned());
            }
            let stage = {
                let machine = Arc::clone(&machine);
                tokio::task::spawn_blocking(move || machine.stage(&file))
            };
            // What goes wrong until here is no error of Raft's storage: the sender tries again.
            let staged = stage.await.map_err(|error| error.to_string())?;
            let snapshot = staged.map_err(|error| {
                tracing::error!(%error, "a snapshot that came can't be used");
                error.to_string()
            })?;
            let snapshot = Snapshot { meta, snapshot };
            let installed = raft.install_full_snapshot(vote, snapshot).await;
            machine.unstage();
            installed.map_err(|error| error.to_string())
        });
        install.await.map_err(|error| error.to_string())?
    }
}

impl Service<RaftRequest, RaftResponse> for RaftMessages {
    fn serve(&self, request: RaftRequest) -> BoxFuture<'_, RaftResponse> {
        Box::pin(async move { self.answer(request).await.unwrap_or_else(RaftResponse::Failed) })
    }
}
