//! One node of several: this node's replicas are those that the cluster map places here.
//!
//! A placed replica that isn't here, whether it was lost or never made (`metadata add`), is made
//! under a new id, which is placed before the old one is forgotten. A replica here that isn't
//! placed, and has no vote any more, is wiped; after a restore it is kept aside instead. A metadata node without a replica makes one by
//! itself while the cluster has fewer than it should, unless an operator took its replica away.

use std::collections::BTreeSet;
use std::fs;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use model::cluster_map::ClusterMap;
use model::command::{Command, Outcome};
use model::ids::{NodeId, ReplicaId};
use model::node::{ReplicaPlace, Roles};
use model::query::{Answer, Query};
use wire::clock::timeout;
use wire::disk::Disk;

use super::{Concern, Keeping, replicas};
use crate::limits::{PROBE_DEADLINE, REPLICA_MISSING_AFTER, TOO_FEW_AFTER};
use crate::members::odd;
use crate::replica::{DIRECTORY, Replica, wipe};

impl Keeping {
    pub(super) async fn round_among(&self, node: NodeId) {
        let running = self.running();
        let Some(map) = self.read_map().await else {
            return;
        };
        // What was changed is seen by the next look.
        if self.mind_own(node, &map, &running).await {
            self.attention.notify_one();
        } else if let Some(leader) = self.leader() {
            self.lead(&leader, &map).await;
        }
    }

    /// The cluster map, if a leader tells it.
    async fn read_map(&self) -> Option<Arc<ClusterMap>> {
        let known = self.map.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let known_epoch = known.as_ref().map_or(0, |map| map.epoch);
        match self.parts.client.query(Query::ClusterMap { known_epoch }).await {
            Ok(Answer::ClusterMap(None)) => known,
            Ok(Answer::ClusterMap(Some(map))) => {
                let map = Arc::new(map);
                *self.map.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&map));
                Some(map)
            }
            Ok(_) | Err(_) => None,
        }
    }

    /// Makes this node's replicas those that are placed here; says whether anything changed.
    /// `running` are those that ran before the map was read.
    async fn mind_own(&self, node: NodeId, map: &ClusterMap, running: &[Arc<Replica>]) -> bool {
        let mut changed = self.place_founders(node, map).await;
        for replica in running {
            changed |= !is_placed(map, replica.id()) && self.retire(map, replica).await;
        }
        let is_here = |id| running.iter().any(|replica| replica.id() == id);
        let here = map.replicas.iter().filter(|place| place.node == node);
        for place in here.clone().filter(|place| !is_here(place.replica)) {
            changed |= self.replace(node, map, place.replica).await;
        }
        if here.count() == 0 && running.is_empty() && self.should_volunteer(node, map) {
            changed |= self.make_placed(node).await.is_some();
        }
        changed
    }

    /// Places the voters of a cluster that was alone: they are all here, with their leader.
    async fn place_founders(&self, node: NodeId, map: &ClusterMap) -> bool {
        let Some(leader) = self.leader() else {
            return false;
        };
        let voters = replicas::voters(leader.raft());
        let mut changed = false;
        for replica in self.running() {
            let id = replica.id();
            if !is_placed(map, id) && voters.contains(&id.0) {
                changed |= self.place(id, node).await;
            }
        }
        changed
    }

    /// Says that a replica is here; it isn't, when it was forgotten.
    async fn place(&self, replica: ReplicaId, node: NodeId) -> bool {
        let command = Command::PlaceReplica(ReplicaPlace { replica, node });
        matches!(self.parts.client.propose_one(command).await, Ok(Outcome::Done))
    }

    /// Ends a replica that isn't placed, once it has no vote.
    async fn retire(&self, map: &ClusterMap, replica: &Arc<Replica>) -> bool {
        if map.replicas.is_empty() || self.may_vote(map, replica.id()).await {
            return false;
        }
        // Metadata that was put back knows nothing of the replicas of before, and one of them may
        // know more than it.
        let Ok(Answer::Held(held)) = self.parts.client.query(Query::Held).await else {
            return false;
        };
        let disk = Arc::clone(replica.disk());
        if held.is_some() {
            self.dismiss(Arc::clone(replica)).await;
            self.put_aside(&disk, replica.id());
            return true;
        }
        tracing::info!(replica = %replica.id(), "metadata replica is no longer needed");
        self.dismiss(Arc::clone(replica)).await;
        if let Err(error) = wipe(&*disk) {
            tracing::warn!(path = %disk.path().display(), %error, "replica was not removed");
        }
        true
    }

    /// Keeps a replica's files under another name; where that can't be, its disk isn't used.
    fn put_aside(&self, disk: &Arc<dyn Disk>, replica: ReplicaId) {
        let from = disk.path().join(DIRECTORY);
        let to = disk.path().join(format!("{DIRECTORY}.before-restore-{replica}"));
        match fs::rename(&from, &to).and_then(|()| disk.sync_directory()) {
            Ok(()) => tracing::error!(
                %replica,
                path = %to.display(),
                "a metadata replica of before the restore ran here; it is stopped and kept aside: \
                 it may know what the restored metadata doesn't. Remove it once it isn't wanted"
            ),
            Err(error) => {
                self.leave_alone(disk);
                tracing::error!(
                    %replica,
                    path = %from.display(),
                    %error,
                    "a metadata replica of before the restore ran here; it is stopped, and could \
                     not be put aside: no other replica is made there"
                );
            }
        }
    }

    /// Whether the leader counts on this replica's vote; so it may, when the leader isn't found.
    async fn may_vote(&self, map: &ClusterMap, replica: ReplicaId) -> bool {
        let own = self.running();
        let own = own.iter().map(|replica| replica.id());
        let all: BTreeSet<ReplicaId> =
            map.replicas.iter().map(|place| place.replica).chain(own).collect();
        for id in all {
            let status = self.parts.client.status(id);
            let Ok(Ok(status)) = timeout(&*self.parts.world.clock, PROBE_DEADLINE, status).await
            else {
                continue;
            };
            if status.state == "leader" {
                return status.voters.contains(&replica);
            }
        }
        true
    }

    /// Makes a successor for a replica that is placed here and isn't here. Without a disk for one,
    /// its place is given up after a while: a vote that can't be cast only makes quorums larger.
    async fn replace(&self, node: NodeId, map: &ClusterMap, lost: ReplicaId) -> bool {
        let concern = Concern::Missing(lost);
        if self.free_disks().is_empty() {
            let has_others = map.replicas.len() > 1;
            if !has_others || self.has_lasted(concern) < REPLICA_MISSING_AFTER {
                return false;
            }
        } else if let Some(successor) = self.make_placed(node).await {
            tracing::warn!(%lost, %successor, "metadata replica is replaced");
        } else {
            return false;
        }
        self.is_over(concern);
        let forgotten = Command::ForgetReplica { replica: lost, taken_from: None };
        matches!(self.parts.client.propose_one(forgotten).await, Ok(Outcome::Done))
    }

    /// Makes a replica on a free disk and says so.
    async fn make_placed(&self, node: NodeId) -> Option<ReplicaId> {
        let disk = self.free_disks().into_iter().next()?;
        let id = self.make(&disk).await?;
        // If that fails, the replica is placed nowhere and votes nowhere: it is wiped soon.
        self.place(id, node).await.then_some(id)
    }

    /// Whether the cluster lacks a replica that this node, which has none, should make. Where
    /// several could, those with the lowest numbers come first, and the others when they don't.
    fn should_volunteer(&self, node: NodeId, map: &ClusterMap) -> bool {
        let keepers: BTreeSet<NodeId> = map.replicas.iter().map(|place| place.node).collect();
        let able =
            map.nodes.iter().filter(|node| node.registration.roles.contains(Roles::METADATA));
        // An operator took the replica of some away: that stays so until one is placed there.
        let able = able.map(|node| node.id).filter(|id| !map.without_metadata.contains(id));
        let able: BTreeSet<NodeId> = able.collect();
        let lacking = odd(able.len()).saturating_sub(keepers.len());
        // Before the first replicas are placed, their node is at it.
        if lacking == 0 || keepers.is_empty() || !able.contains(&node) {
            self.is_over(Concern::TooFew);
            return false;
        }
        let turn = able.difference(&keepers).take_while(|other| **other < node).count();
        turn < lacking || self.has_lasted(Concern::TooFew) >= TOO_FEW_AFTER
    }

    /// For how long a concern has lasted, from its first mention on.
    pub(super) fn has_lasted(&self, concern: Concern) -> Duration {
        let now = self.parts.world.clock.monotonic();
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        now.saturating_sub(*since.entry(concern).or_insert(now))
    }

    /// A concern is none any more.
    pub(super) fn is_over(&self, concern: Concern) {
        self.since.lock().unwrap_or_else(PoisonError::into_inner).remove(&concern);
    }

    /// Forgets since when this process leads in other terms than `term`.
    pub(super) fn leads_only_in(&self, term: Option<u64>) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.retain(|concern, _| match concern {
            Concern::Leading(other) => Some(*other) == term,
            Concern::Missing(_) | Concern::TooFew => true,
        });
    }
}

fn is_placed(map: &ClusterMap, replica: ReplicaId) -> bool {
    map.replicas.iter().any(|place| place.replica == replica)
}
