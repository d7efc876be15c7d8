//! Which storage nodes this gateway can't reach, whatever the cluster thinks of them.
//!
//! In: nodes that let a request wait, or couldn't be reached. Out: those that don't answer the
//! simplest question either. What always holds: a node is *lost* after [`PROBES_TO_LOSE`] probes in
//! a row without an answer, nor one to any other request meanwhile (a slow network may have much to
//! carry before the probe), and reached again with the first answer; it is probed until a probe is
//! answered. A node that answers and whose disk hangs isn't lost: others may wait for it.
//!
//! What follows from it is decided where stripes are placed and sent: nobody waits for a lost node.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::cluster_map::{ClusterMap, DiskState};
use model::ids::{DiskId, NodeId};
use model::limits::STRIPE_BYTES_MAX;
use model::shard::ShardRequest;
use tokio::sync::watch;
use wire::network::Peer;

use crate::open_groups::OpenGroups;
use crate::shared::Shared;
use crate::write::can_place;

/// Probes in a row without an answer that make a node lost.
const PROBES_TO_LOSE: u32 = 2;

/// The nodes that are probed.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    /// Each with its probes in a row that weren't answered.
    unanswered: watch::Sender<BTreeMap<NodeId, u32>>,
}

/// What this gateway can't reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutOfReach {
    /// The disks.
    pub disks: Vec<DiskId>,
    /// Whether a full stripe finds enough of the others for its write quorum.
    pub can_write: bool,
}

impl Reach {
    /// Has a node probed until it answers.
    pub(crate) fn suspect(&self, node: NodeId) {
        self.unanswered.send_if_modified(|nodes| {
            let is_new = !nodes.contains_key(&node);
            nodes.entry(node).or_insert(0);
            is_new
        });
    }

    /// It answered something: it is there. Says whether it was lost before.
    pub(crate) fn hear(&self, node: NodeId) -> bool {
        // Mostly nobody is suspected.
        let known = self.unanswered.borrow().get(&node).copied();
        let Some(unanswered @ 1..) = known else { return false };
        self.unanswered.send_modify(|nodes| {
            nodes.entry(node).and_modify(|unanswered| *unanswered = 0);
        });
        unanswered >= PROBES_TO_LOSE
    }

    /// Whether it is lost.
    pub(crate) fn is_lost(&self, node: NodeId) -> bool {
        is_lost(&self.unanswered.borrow(), node)
    }

    /// Ends when it is lost.
    pub(crate) async fn lost(&self, node: NodeId) {
        let mut nodes = self.unanswered.subscribe();
        if nodes.wait_for(|nodes| is_lost(nodes, node)).await.is_err() {
            // Nobody probes any more.
            std::future::pending::<()>().await;
        }
    }

    /// The disks of lost nodes.
    pub(crate) fn lost_disks(&self, map: &ClusterMap) -> Vec<DiskId> {
        let nodes = self.unanswered.borrow();
        // Nearly always: whoever writes asks, and there are many disks.
        if !nodes.values().any(|unanswered| *unanswered >= PROBES_TO_LOSE) {
            return Vec::new();
        }
        // Nobody wants to reach what was given up.
        let wanted = map.disks.iter().filter(|disk| disk.state != DiskState::Out);
        let lost = wanted.filter(|disk| is_lost(&nodes, disk.node));
        lost.map(|disk| disk.id).collect()
    }

    /// What the lost disks stop; `None` where there are none.
    pub(crate) fn out_of_reach(&self, groups: &OpenGroups) -> Option<OutOfReach> {
        let disks = self.lost_disks(groups.map());
        if disks.is_empty() {
            return None;
        }
        let can_write = can_place(groups, &disks, STRIPE_BYTES_MAX);
        Some(OutOfReach { disks, can_write })
    }

    fn note(&self, node: NodeId, is_answered: bool) {
        self.unanswered.send_modify(|nodes| {
            if is_answered {
                nodes.remove(&node);
            } else if let Some(count) = nodes.get_mut(&node) {
                *count = count.saturating_add(1);
            }
        });
    }
}

fn is_lost(nodes: &BTreeMap<NodeId, u32>, node: NodeId) -> bool {
    nodes.get(&node).is_some_and(|unanswered| *unanswered >= PROBES_TO_LOSE)
}

/// Probes suspects until told to stop.
pub(crate) async fn watch(shared: Arc<Shared>, mut stopping: watch::Receiver<bool>) {
    let mut suspects = shared.door.reach.unanswered.subscribe();
    loop {
        let work = async {
            let some = suspects.wait_for(|nodes| !nodes.is_empty()).await;
            let nodes: Vec<NodeId> =
                some.map(|nodes| nodes.keys().copied().collect()).unwrap_or_default();
            let probes = nodes.into_iter().map(|node| probe(&shared, node));
            futures_util::future::join_all(probes).await;
            shared.clock.sleep(shared.options.probe_interval).await;
        };
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            () = work => {}
        }
    }
}

async fn probe(shared: &Shared, node: NodeId) {
    let reach = &shared.door.reach;
    let map = shared.map.current();
    let is_member = map.as_ref().is_some_and(|map| map.disks.iter().any(|disk| disk.node == node));
    let peer = Peer(u64::from(node.0));
    let deadline = shared.options.probe_deadline;
    let answered = !is_member
        || shared.door.network().call(peer, ShardRequest::Status, deadline).await.is_ok();
    let was_lost = reach.is_lost(node);
    reach.note(node, answered);
    match (was_lost, reach.is_lost(node)) {
        (false, true) => tracing::warn!(%node, "a storage node can't be reached from here"),
        (true, false) => {
            tracing::info!(%node, "a storage node can be reached again");
            shared.door.forgive(node);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_lost_by_silence_in_a_row_and_back_with_one_answer() {
        let reach = Reach::default();
        let node = NodeId(7);
        reach.note(node, false);
        reach.note(node, false);
        assert!(!reach.is_lost(node), "nobody suspected it");
        reach.suspect(node);
        reach.note(node, false);
        reach.suspect(node);
        assert!(!reach.is_lost(node));
        reach.note(node, false);
        assert!(reach.is_lost(node) && !reach.is_lost(NodeId(8)));
        reach.note(node, true);
        assert!(!reach.is_lost(node));
        reach.suspect(node);
        assert!(!reach.is_lost(node), "what was before is forgotten");
        // Whatever it answers counts.
        reach.note(node, false);
        assert!(!reach.hear(node));
        reach.note(node, false);
        assert!(!reach.is_lost(node));
        reach.note(node, false);
        assert!(reach.is_lost(node) && reach.hear(node));
        assert!(!reach.is_lost(node) && !reach.hear(node));
    }
}
