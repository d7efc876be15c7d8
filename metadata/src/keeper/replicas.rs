//! The replicas of this process: opened, made, let go.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use model::command::{Command, Outcome};
use model::ids::ReplicaId;
use openraft::type_config::async_runtime::watch::WatchReceiver;
use wire::clock::timeout;
use wire::disk::Disk;
use wire::network::Peer;

use super::{KeeperError, Keeping, Placement};
use crate::limits::MEMBERSHIP_DEADLINE;
use crate::raft::Raft;
use crate::replica::{OpenError, Replica};

impl Keeping {
    pub(super) async fn open_all(&self) {
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
        tracing::error!(path = %disk.path().display(), %why, "metadata replica is left alone");
        self.leave_alone(disk);
    }

    /// Makes no replica on this disk.
    pub(super) fn leave_alone(&self, disk: &Arc<dyn Disk>) {
        let path = disk.path().to_owned();
        self.foreign.lock().unwrap_or_else(PoisonError::into_inner).insert(path);
    }

    /// Whether a replica here was ever part of a cluster.
    pub(super) async fn has_member(&self) -> bool {
        for replica in self.running() {
            if replica.raft().is_initialized().await.unwrap_or(false) {
                return true;
            }
        }
        false
    }

    /// Makes the first replicas, the one that begins the cluster last: a crash before that leaves
    /// nothing that was ever part of a cluster.
    pub(super) async fn found(&self) -> Result<(), KeeperError> {
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

    /// Makes an empty replica on a disk, under an id that a quorum has given out for it.
    pub(super) async fn make(&self, disk: &Arc<dyn Disk>) -> Option<ReplicaId> {
        let allocated = self.parts.client.propose_one(Command::AllocateReplica).await;
        let Ok(Outcome::ReplicaAllocated(id)) = allocated else {
            return None;
        };
        match Replica::create_joining(&self.parts.world, disk, id).await {
            Ok(replica) => {
                self.adopt(replica);
                Some(id)
            }
            Err(error) => {
                let path = disk.path().display();
                tracing::error!(%path, %error, "no metadata replica can be made here");
                None
            }
        }
    }

    /// Stops and forgets replicas that can't be trusted or have lost their disk.
    pub(super) async fn bury_the_dead(&self) {
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

    pub(super) fn adopt(&self, replica: Replica) {
        let replica = Arc::new(replica);
        let peer = Peer(replica.id().0);
        replica.service().meet(&self.parts.client);
        self.parts.raft_peers.register(peer, Arc::clone(replica.messages()) as _);
        self.parts.service_peers.register(peer, Arc::clone(replica.service()) as _);
        if let Placement::Among { doors, .. } = &self.parts.placement {
            doors.open(replica.id(), replica.messages(), replica.service());
        }
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
    pub(super) async fn dismiss(&self, replica: Arc<Replica>) {
        let peer = Peer(replica.id().0);
        if let Placement::Among { doors, .. } = &self.parts.placement {
            doors.close(replica.id());
        }
        self.parts.raft_peers.remove(peer);
        self.parts.service_peers.remove(peer);
        self.replicas
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|other| other.id() != replica.id());
        self.update_book();
        replica.shutdown().await;
    }

    pub(super) async fn stop_all(&self) {
        for replica in self.running() {
            self.dismiss(replica).await;
        }
    }

    fn update_book(&self) {
        let ids = self.running().iter().map(|replica| replica.id()).collect();
        self.parts.client.book().set_own(ids);
    }

    pub(super) fn running(&self) -> Vec<Arc<Replica>> {
        self.replicas.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The replica here that leads.
    pub(super) fn leader(&self) -> Option<Arc<Replica>> {
        self.running().into_iter().find(|replica| replica.raft().is_leader())
    }

    /// Disks that are there and hold no running replica.
    pub(super) fn free_disks(&self) -> Vec<Arc<dyn Disk>> {
        let running = self.running();
        let foreign = self.foreign.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_taken = |path: &Path| {
            foreign.contains(path) || running.iter().any(|one| one.disk().path() == path)
        };
        let mut disks = (self.parts.disks)();
        disks.retain(|disk| disk.is_present() && !is_taken(disk.path()));
        disks
    }

    /// Waits for a membership change; if it fails, the next round tries again.
    pub(super) async fn change<T, E: std::fmt::Display>(
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
}

pub(super) fn voters(raft: &Raft) -> BTreeSet<u64> {
    let metrics = raft.metrics().borrow_watched().clone();
    metrics.membership_config.membership().voter_ids().collect()
}
