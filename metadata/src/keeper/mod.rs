//! The keeper: keeps a process's metadata replicas alive.
//!
//! In: the disks that may hold replicas, and whether this process is the whole cluster or a node of
//! one ([`Placement`]). Out: running replicas, each on a disk of its own. What always holds: a
//! replica that is fenced, or whose disk is gone, is replaced by a new one under a new id; nothing
//! is wiped before a quorum has given out that id, so a cluster without a quorum is left as it is.
//!
//! Alone, all replicas are here and all vote ([`alone`]). Among others, the cluster map says where
//! replicas are ([`among`]), and the process with the leader makes them voters as
//! [`crate::members`] plans. It looks every second, and at once when a replica is fenced.

mod alone;
mod among;
mod lead;
mod replicas;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::cluster_map::ClusterMap;
use model::ids::{NodeId, ReplicaId};
use model::query::{MetadataError, MetadataRequest, MetadataResponse};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use wire::disk::Disk;
use wire::network::InProcess;

use crate::client::MetadataClient;
use crate::limits::KEEPER_INTERVAL;
use crate::raft::{RaftMessages, RaftRequest, RaftResponse};
use crate::replica::{OpenError, Replica, World};
use crate::serve::MetadataService;

/// Gives the disks that may hold replicas now, the preferred first. Asked in every round, as disks
/// come and go.
pub type DiskSource = Arc<dyn Fn() -> Vec<Arc<dyn Disk>> + Send + Sync>;

/// Opens replicas to other processes.
pub trait ReplicaDoors: Send + Sync + 'static {
    /// The replica runs: answer for it from now on.
    fn open(
        &self,
        replica: ReplicaId,
        messages: &Arc<RaftMessages>,
        service: &Arc<MetadataService>,
    );

    /// The replica is gone.
    fn close(&self, replica: ReplicaId);
}

/// Where the cluster's replicas are.
#[derive(Clone)]
pub enum Placement {
    /// All of them are here: the process is the whole cluster, and all it keeps vote.
    Alone,
    /// Where the cluster map says; this process is one node of several.
    Among {
        /// This node.
        node: NodeId,
        /// Opens this node's replicas to the others.
        doors: Arc<dyn ReplicaDoors>,
    },
}

/// What the keeper works with.
pub struct KeeperParts {
    /// What each replica needs; its network must lead to `raft_peers`.
    pub world: World,
    /// Where the cluster's replicas are.
    pub placement: Placement,
    /// How many a new cluster begins with; how many there should be, for a process that is alone.
    pub replicas: usize,
    /// Where they may be.
    pub disks: DiskSource,
    /// Where replicas are registered for each other.
    pub raft_peers: Arc<InProcess<RaftRequest, RaftResponse>>,
    /// Where replicas are registered for gateways and storage nodes.
    pub service_peers: Arc<InProcess<MetadataRequest, MetadataResponse>>,
    /// A client of the cluster's replicas; its book is told of those here.
    pub client: Arc<MetadataClient>,
}

/// Why the replicas can't be started.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// None of the disks holds a replica that was ever part of a cluster.
    #[error("no disk holds a usable metadata replica")]
    NoReplica,
    /// There is no disk to make the first replica on.
    #[error("there is no disk for a metadata replica")]
    NoDisk,
    /// A new replica could not be made.
    #[error("a metadata replica can't be made: {0}")]
    Replica(#[from] OpenError),
}

/// Whether a keeper may found a new cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MayFound {
    /// There is no data that a new cluster could lose.
    Yes,
    /// There was a cluster.
    No,
}

/// A running keeper.
pub struct Keeper {
    keeping: Arc<Keeping>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// The keeper's work.
struct Keeping {
    parts: KeeperParts,
    replicas: Mutex<Vec<Arc<Replica>>>,
    /// Disks that hold a replica of another cluster or a newer release: not ours to use.
    foreign: Mutex<BTreeSet<PathBuf>>,
    attention: Arc<Notify>,
    /// The cluster map as it was read last.
    map: Mutex<Option<Arc<ClusterMap>>>,
    /// Since when what should be otherwise is as it is.
    since: Mutex<BTreeMap<Concern, Duration>>,
}

/// What the keeper is patient with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Concern {
    /// A replica is placed here, and there is neither it nor a disk for another.
    Missing(ReplicaId),
    /// The cluster has fewer replicas than it should, and others come before this node.
    TooFew,
    /// The leader is here, in this term.
    Leading(u64),
}

impl Keeper {
    /// Opens the replicas that there are. With [`MayFound::Yes`], when none was ever part of a
    /// cluster, makes the first ones, numbered from 1. A node among others may start without any.
    pub async fn start(parts: KeeperParts, may_found: MayFound) -> Result<Self, KeeperError> {
        let keeping = Arc::new(Keeping {
            parts,
            replicas: Mutex::default(),
            foreign: Mutex::default(),
            attention: Arc::new(Notify::new()),
            map: Mutex::default(),
            since: Mutex::default(),
        });
        keeping.open_all().await;
        keeping.elect_at_once().await;
        if !keeping.has_member().await {
            match (may_found, &keeping.parts.placement) {
                (MayFound::Yes, _) => keeping.found().await?,
                (MayFound::No, Placement::Among { .. }) => {}
                (MayFound::No, Placement::Alone) => {
                    keeping.stop_all().await;
                    return Err(KeeperError::NoReplica);
                }
            }
        }
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(Arc::clone(&keeping).run(stopped));
        Ok(Self { keeping, stop, task })
    }

    /// The replicas that run now.
    pub fn replicas(&self) -> Vec<Arc<Replica>> {
        self.keeping.running()
    }

    /// Gives the lead to a replica, or to the best of those in other processes. Errors:
    /// `NotLeader` when the leader isn't here; `Unavailable` when nobody takes the lead.
    pub async fn transfer_leadership(
        &self,
        to: Option<ReplicaId>,
    ) -> Result<ReplicaId, MetadataError> {
        self.keeping.transfer(to).await
    }

    /// Stops all replicas; the lead is given to another process before, if one takes it. Everything
    /// is durable when this returns.
    pub async fn shutdown(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the keeper of the metadata replicas failed");
        }
        if self.keeping.leader().is_some()
            && let Err(error) = self.keeping.transfer(None).await
        {
            tracing::info!(%error, "nobody takes the metadata's lead; the others will elect");
        }
        self.keeping.stop_all().await;
    }
}

impl Keeping {
    async fn run(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                // The sender is only dropped with the keeper.
                _ = stopped.changed() => return,
                () = self.attention.notified() => {}
                () = self.parts.world.clock.sleep(KEEPER_INTERVAL) => {}
            }
            tokio::select! {
                _ = stopped.changed() => return,
                () = self.round() => {}
            }
        }
    }

    /// Where all voters are here, nobody else can lead: there is no reason to wait for the silence
    /// that begins an election.
    async fn elect_at_once(&self) {
        let running = self.running();
        let is_alone = |voters: &BTreeSet<u64>| {
            !voters.is_empty()
                && voters.iter().all(|id| running.iter().any(|one| one.id().0 == *id))
        };
        if let Some(first) = running.first()
            && is_alone(&replicas::voters(first.raft()))
            && let Err(error) = first.raft().trigger().elect(true).await
        {
            tracing::warn!(%error, "no election was begun at once");
        }
    }

    /// One look at everything.
    async fn round(&self) {
        self.bury_the_dead().await;
        match &self.parts.placement {
            Placement::Alone => self.round_alone().await,
            Placement::Among { node, .. } => self.round_among(*node).await,
        }
    }
}
