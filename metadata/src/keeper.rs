//! The keeper: keeps a set of replicas alive in one process.
//!
//! In: the disks that may hold replicas, and how many there should be. Out: that many running
//! replicas, each on a disk of its own, which are the voters of the cluster. What always holds: a
//! replica that is fenced, or whose disk is gone, is replaced by a new one under a new id; nothing
//! is wiped before a quorum has given out that id, so a cluster without a quorum is left as it is.
//!
//! It looks every second, and at once when a replica is fenced.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use model::command::{Command, Outcome};
use model::ids::ReplicaId;
use model::query::{MetadataRequest, MetadataResponse};
use openraft::EmptyNode;
use openraft::type_config::async_runtime::watch::WatchReceiver;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use wire::clock::timeout;
use wire::disk::Disk;
use wire::network::{InProcess, Peer};

use crate::client::MetadataClient;
use crate::limits::{KEEPER_INTERVAL, MEMBERSHIP_DEADLINE};
use crate::raft::{Raft, RaftRequest, RaftResponse};
use crate::replica::{OpenError, Replica, World, wipe};

/// Gives the disks that may hold replicas now, the preferred first. Asked in every round, as disks
/// come and go.
pub type DiskSource = Arc<dyn Fn() -> Vec<Arc<dyn Disk>> + Send + Sync>;

/// What the keeper works with.
pub struct KeeperParts {
    /// What each replica needs; its network must lead to `raft_peers`.
    pub world: World,
    /// How many replicas there should be.
    pub replicas: usize,
    /// Where they may be.
    pub disks: DiskSource,
    /// Where replicas are registered for each other.
    pub raft_peers: Arc<InProcess<RaftRequest, RaftResponse>>,
    /// Where replicas are registered for gateways and storage nodes.
    pub service_peers: Arc<InProcess<MetadataRequest, MetadataResponse>>,
    /// A client of these replicas; its book is kept up to date.
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

/// A running keeper.
pub struct Keeper {
    keeping: Arc<Keeping>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

struct Keeping {
    parts: KeeperParts,
    replicas: Mutex<Vec<Arc<Replica>>>,
    /// Disks that hold a replica of another cluster or a newer release: not ours to use.
    foreign: Mutex<BTreeSet<PathBuf>>,
    attention: Arc<Notify>,
}

impl Keeper {
    /// Opens the replicas that there are. With `may_found`, when none was ever part of a cluster,
    /// makes the first ones, numbered from 1: to be said only of a cluster without data.
    pub async fn start(parts: KeeperParts, may_found: MayFound) -> Result<Self, KeeperError> {
        let keeping = Arc::new(Keeping {
            parts,
            replicas: Mutex::default(),
            foreign: Mutex::default(),
            attention: Arc::new(Notify::new()),
        });
        keeping.open_all().await;
        if !keeping.has_member().await {
            match may_found {
                MayFound::Yes => keeping.found().await?,
                MayFound::No => {
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

    /// Stops all replicas. Everything is durable when this returns.
    pub async fn shutdown(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the keeper of the metadata replicas failed");
        }
        self.keeping.stop_all().await;
    }
}

/// Whether a keeper may found a new cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MayFound {
    /// There is no data that a new cluster could lose.
    Yes,
    /// There was a cluster.
    No,
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

    /// One look at everything.
    async fn round(&self) {
        self.bury_the_dead().await;
        let Some(leader) = self.leader() else {
            return;
        };
        self.remove_surplus(&leader).await;
        self.replace_missing(&leader).await;
        self.adjust_voters(&leader).await;
    }

    async fn open_all(&self) {
        for disk in (self.parts.disks)() {
            match Replica::open(&self.parts.world, &disk).await {
                Ok(replica) => self.adopt(replica),
                Err(OpenError::Absent) => {}
                Err(error @ (OpenError::OtherCluster(_) | OpenError::Newer { .. })) => {
                    self.shun(&disk, &error);
                }
                Err(error @ (OpenError::Damaged { .. } | OpenError::Io(_))) => {
                    let path = disk.path().display();
                    tracing::error!(%path, %error, "metadata replica will be replaced");
                }
            }
        }
    }

    fn shun(&self, disk: &Arc<dyn Disk>, why: &OpenError) {
        let path = disk.path().to_owned();
        tracing::error!(path = %path.display(), %why, "metadata replica is left alone");
        self.foreign.lock().unwrap_or_else(PoisonError::into_inner).insert(path);
    }

    /// Whether a replica here was ever part of a cluster.
    async fn has_member(&self) -> bool {
        for replica in self.running() {
            if replica.raft().is_initialized().await.unwrap_or(false) {
                return true;
            }
        }
        false
    }

    /// Makes the first replicas, the one that begins the cluster last: a crash before that leaves
    /// nothing that was ever part of a cluster.
    async fn found(&self) -> Result<(), KeeperError> {
        self.stop_all().await;
        let disks = self.free_disks();
        let count = self.parts.replicas.min(disks.len());
        if count == 0 {
            return Err(KeeperError::NoDisk);
        }
        let members: Vec<ReplicaId> = (1..=count as u64).map(ReplicaId).collect();
        for (id, disk) in members.iter().zip(&disks).rev() {
            let replica = Replica::bootstrap(&self.parts.world, disk, *id, &members).await?;
            self.adopt(replica);
        }
        Ok(())
    }

    /// Stops and forgets replicas that can't be trusted or have lost their disk.
    async fn bury_the_dead(&self) {
        for replica in self.running() {
            let is_dead = replica.fence().is_set()
                || !replica.disk().is_present()
                || !replica.is_running().await;
            if is_dead {
                let reason = replica.fence().reason();
                let path = replica.disk().path().display().to_string();
                tracing::error!(replica = %replica.id(), path, reason, "metadata replica is lost");
                replica.fence().set("its disk is gone, or Raft has stopped");
                self.dismiss(replica).await;
            }
        }
    }

    /// Ends replicas that were replaced while they were away.
    async fn remove_surplus(&self, leader: &Raft) {
        let voters = voters(leader);
        let mut running = self.running();
        running.retain(|replica| !voters.contains(&replica.id().0));
        let surplus = (self.running().len()).saturating_sub(self.parts.replicas);
        for replica in running.into_iter().take(surplus) {
            let disk = Arc::clone(replica.disk());
            tracing::info!(replica = %replica.id(), "metadata replica was replaced before");
            self.dismiss(replica).await;
            if let Err(error) = wipe(&*disk) {
                tracing::warn!(path = %disk.path().display(), %error, "replica was not removed");
            }
        }
    }

    /// Makes new replicas for those that are missing, as far as there are disks.
    async fn replace_missing(&self, leader: &Raft) {
        let missing = self.parts.replicas.saturating_sub(self.running().len());
        // Before the cluster is made, ids can't be given out.
        if missing == 0 || !self.is_initialised(leader) {
            return;
        }
        for disk in self.free_disks().into_iter().take(missing) {
            let allocated = self.parts.client.propose_one(Command::AllocateReplica).await;
            let Ok(Outcome::ReplicaAllocated(id)) = allocated else {
                return;
            };
            match Replica::create_joining(&self.parts.world, &disk, id).await {
                Ok(replica) => self.adopt(replica),
                Err(error) => {
                    let path = disk.path().display();
                    tracing::error!(%path, %error, "no metadata replica can be made here");
                }
            }
        }
    }

    /// Makes the running replicas the voters. The dead are dropped in the same step that adds
    /// their successors, or alone when there is no disk for one.
    async fn adjust_voters(&self, leader: &Raft) {
        let wanted: BTreeSet<u64> = self.running().iter().map(|replica| replica.id().0).collect();
        if wanted == voters(leader) {
            return;
        }
        let metrics = leader.metrics().borrow_watched().clone();
        let known: BTreeSet<u64> =
            metrics.membership_config.membership().nodes().map(|(id, _)| *id).collect();
        for id in wanted.difference(&known) {
            if !self.change(leader.add_learner(*id, EmptyNode::new(), true)).await {
                return;
            }
        }
        if self.change(leader.change_membership(wanted.clone(), false)).await {
            tracing::info!(voters = ?wanted, "metadata replicas changed");
        }
    }

    /// Waits for a membership change; if it fails, the next round tries again.
    async fn change<T, E: std::fmt::Display>(
        &self,
        change: impl Future<Output = Result<T, E>>,
    ) -> bool {
        match timeout(&*self.parts.world.clock, MEMBERSHIP_DEADLINE, change).await {
            Ok(Ok(_)) => true,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the metadata replicas can't be changed yet");
                false
            }
            Err(error) => {
                tracing::warn!(%error, "the metadata replicas can't be changed yet");
                false
            }
        }
    }

    fn adopt(&self, replica: Replica) {
        let replica = Arc::new(replica);
        let peer = Peer(replica.id().0);
        self.parts.raft_peers.register(peer, Arc::clone(replica.messages()) as _);
        self.parts.service_peers.register(peer, Arc::clone(replica.service()) as _);
        let (fence, attention) = (Arc::clone(replica.fence()), Arc::clone(&self.attention));
        // Ends with the fence, which every dismissed replica's is.
        tokio::spawn(async move {
            fence.wait().await;
            attention.notify_one();
        });
        self.replicas.lock().unwrap_or_else(PoisonError::into_inner).push(replica);
        self.update_book();
    }

    /// Takes a replica out of everything and stops it.
    async fn dismiss(&self, replica: Arc<Replica>) {
        let peer = Peer(replica.id().0);
        self.parts.raft_peers.remove(peer);
        self.parts.service_peers.remove(peer);
        self.replicas
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|other| other.id() != replica.id());
        self.update_book();
        replica.shutdown().await;
    }

    async fn stop_all(&self) {
        for replica in self.running() {
            self.dismiss(replica).await;
        }
    }

    fn update_book(&self) {
        let ids = self.running().iter().map(|replica| replica.id()).collect();
        self.parts.client.book().set(ids);
    }

    fn running(&self) -> Vec<Arc<Replica>> {
        self.replicas.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn leader(&self) -> Option<Raft> {
        let running = self.running();
        running.iter().find(|replica| replica.raft().is_leader()).map(|one| one.raft().clone())
    }

    fn is_initialised(&self, leader: &Raft) -> bool {
        let leads = |replica: &&Arc<Replica>| replica.id().0 == *leader.node_id();
        let running = self.running();
        running.iter().find(leads).is_some_and(|one| one.machine().directory().map.is_some())
    }

    /// Disks that are there and hold no running replica.
    fn free_disks(&self) -> Vec<Arc<dyn Disk>> {
        let running = self.running();
        let foreign = self.foreign.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_taken = |path: &Path| {
            foreign.contains(path) || running.iter().any(|one| one.disk().path() == path)
        };
        let mut disks = (self.parts.disks)();
        disks.retain(|disk| disk.is_present() && !is_taken(disk.path()));
        disks
    }
}

fn voters(raft: &Raft) -> BTreeSet<u64> {
    let metrics = raft.metrics().borrow_watched().clone();
    metrics.membership_config.membership().voter_ids().collect()
}
