//! The process is the whole cluster: the replicas here are the voters.

use std::collections::BTreeSet;
use std::sync::Arc;

use openraft::EmptyNode;
use openraft::type_config::async_runtime::watch::WatchReceiver;

use super::{Keeping, replicas};
use crate::raft::Raft;
use crate::replica::{Replica, wipe};

impl Keeping {
    pub(super) async fn round_alone(&self) {
        let Some(leader) = self.leader() else {
            return;
        };
        // A node of a cluster that was started as if it were alone: the others' replicas have their
        // votes whatever this process keeps.
        let map = leader.machine().directory().map.clone();
        if map.is_some_and(|map| !map.nodes.is_empty()) {
            return;
        }
        self.remove_surplus(leader.raft()).await;
        self.replace_missing(&leader).await;
        self.adjust_voters(leader.raft()).await;
    }

    /// Ends replicas that were replaced while they were away.
    async fn remove_surplus(&self, leader: &Raft) {
        let voters = replicas::voters(leader);
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
    async fn replace_missing(&self, leader: &Replica) {
        let missing = self.parts.replicas.saturating_sub(self.running().len());
        // Before the cluster is made, ids can't be given out.
        if missing == 0 || leader.machine().directory().map.is_none() {
            return;
        }
        for disk in self.free_disks().into_iter().take(missing) {
            if self.make(&disk).await.is_none() {
                return;
            }
        }
    }

    /// Makes the running replicas the voters. The dead are dropped in the same step that adds
    /// their successors, or alone when there is no disk for one.
    async fn adjust_voters(&self, leader: &Raft) {
        let wanted: BTreeSet<u64> = self.running().iter().map(|replica| replica.id().0).collect();
        if wanted == replicas::voters(leader) {
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
}
