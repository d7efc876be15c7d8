//! The leader is here: this process makes Raft's members what the cluster map asks for.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::cluster_map::ClusterMap;
use model::command::Command;
use model::ids::ReplicaId;
use model::query::MetadataError;
use openraft::type_config::async_runtime::watch::WatchReceiver;
use openraft::{ChangeMembers, EmptyNode, Instant};
use wire::clock::timeout;

use super::{Concern, Keeping};
use crate::limits::{FOLLOWER_HEARD_WITHIN, PROBE_DEADLINE, READY_ENTRIES, VOTER_SILENT_AFTER};
use crate::members::{Situation, Step, plan};
use crate::raft::Raft;
use crate::replica::Replica;
use crate::serve::that_have_applied;

impl Keeping {
    /// Takes one step towards what should be.
    pub(super) async fn lead(&self, leader: &Arc<Replica>, map: &ClusterMap) {
        let situation = self.situation(leader.raft(), map).await;
        let Some(step) = plan(&situation) else {
            return;
        };
        tracing::info!(?step, voters = ?situation.voters, "metadata replicas change");
        if self.take(leader, step).await {
            // There may be more to do.
            self.attention.notify_one();
        }
    }

    async fn take(&self, leader: &Arc<Replica>, step: Step) -> bool {
        let raft = leader.raft();
        match step {
            Step::Finish => {
                let nothing = ChangeMembers::AddVoterIds(BTreeSet::new());
                self.change(raft.change_membership(nothing, true)).await
            }
            Step::AddLearner(id) => {
                self.change(raft.add_learner(id, EmptyNode::new(), false)).await
            }
            Step::SetVoters(ids) => self.change(raft.change_membership(ids, true)).await,
            Step::RemoveLearner(id) => {
                let gone = ChangeMembers::RemoveNodes(BTreeSet::from([id]));
                self.change(raft.change_membership(gone, true)).await
            }
            Step::HandOver(id) => self.change(leader.service().transfer(Some(ReplicaId(id)))).await,
            Step::Forget(id) => {
                let command = Command::ForgetReplica { replica: ReplicaId(id), taken_from: None };
                self.change(self.parts.client.propose_one(command)).await
            }
        }
    }

    async fn situation(&self, leader: &Raft, map: &ClusterMap) -> Situation {
        let metrics = leader.metrics().borrow_watched().clone();
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let members: BTreeSet<u64> = membership.nodes().map(|(id, _)| *id).collect();
        let last = metrics.last_log_index.unwrap_or_default();
        self.leads_only_in(Some(metrics.current_term));
        let has_led = self.has_lasted(Concern::Leading(metrics.current_term));
        let heard = metrics.heartbeat.unwrap_or_default();
        let replication = metrics.replication.unwrap_or_default();
        let silence = |id: &u64| {
            let last = heard.get(id).copied().flatten();
            last.map_or(has_led, |last| last.elapsed().min(has_led))
        };
        let is_ready = |id: &u64| {
            let was_heard = heard.get(id).copied().flatten().is_some();
            let matched = replication.get(id).copied().flatten().map(|id| id.index);
            was_heard
                && silence(id) < FOLLOWER_HEARD_WITHIN
                && matched.is_some_and(|matched| matched + READY_ENTRIES >= last)
        };
        let mut ready: BTreeSet<u64> = members.iter().filter(|id| is_ready(id)).copied().collect();
        ready.insert(*leader.node_id());
        // A learner gets its log in bulk, and its tables take longer.
        let learners: Vec<u64> = ready.difference(&voters).copied().collect();
        let clock = &*self.parts.world.clock;
        let applied = that_have_applied(&self.parts.client, clock, &learners, last).await;
        ready.retain(|id| voters.contains(id) || applied.contains(id));
        let silent = voters.iter().filter(|id| !ready.contains(id));
        let silent = silent.filter(|id| silence(id) >= VOTER_SILENT_AFTER).copied().collect();
        let mut waiting = BTreeSet::new();
        for place in &map.replicas {
            if !members.contains(&place.replica.0) && self.answers(place.replica).await {
                waiting.insert(place.replica.0);
            }
        }
        Situation {
            leader: *leader.node_id(),
            is_joint: membership.get_joint_config().len() > 1,
            learners: members.difference(&voters).copied().collect(),
            voters,
            placed: map.replicas.iter().map(|place| (place.replica.0, place.node)).collect(),
            ready,
            silent,
            waiting,
        }
    }

    /// Whether a replica is there.
    async fn answers(&self, replica: ReplicaId) -> bool {
        let status = self.parts.client.status(replica);
        let answer = timeout(&*self.parts.world.clock, PROBE_DEADLINE, status).await;
        answer.is_ok_and(|status| status.is_ok())
    }

    /// Gives the lead to a replica, or to the best of those in other processes.
    pub(super) async fn transfer(&self, to: Option<ReplicaId>) -> Result<ReplicaId, MetadataError> {
        let leader = self.leader().ok_or(MetadataError::NotLeader { leader: None })?;
        if to.is_some() {
            return leader.service().transfer(to).await;
        }
        let own: BTreeSet<u64> = self.running().iter().map(|replica| replica.id().0).collect();
        let heirs = leader.service().heirs().await;
        let heir = heirs.into_iter().find(|id| !own.contains(id));
        let heir = heir.ok_or(MetadataError::Unavailable)?;
        leader.service().transfer(Some(ReplicaId(heir))).await
    }
}
