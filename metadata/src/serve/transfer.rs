//! The lead, given to another replica: before a planned stop, and when somebody asks.

use std::time::Duration;

use model::ids::ReplicaId;
use model::query::MetadataError;
use openraft::Instant;
use openraft::type_config::async_runtime::watch::WatchReceiver;
use wire::clock::timeout;

use super::MetadataService;
use crate::limits::{FOLLOWER_HEARD_WITHIN, TRANSFER_DEADLINE, TRANSFER_POLL};

impl MetadataService {
    /// Gives the lead to `to`, or to the voter that lacks least, and waits until somebody else
    /// leads. Errors: `NotLeader`; `Unavailable` when there is nobody to take it, or who should
    /// doesn't: then this replica leads on.
    pub async fn transfer(&self, to: Option<ReplicaId>) -> Result<ReplicaId, MetadataError> {
        self.check_leader()?;
        if to == Some(self.replica) {
            return Ok(self.replica);
        }
        let heirs = self.heirs();
        let heir = match to {
            Some(to) => heirs.into_iter().find(|heir| *heir == to.0),
            None => heirs.into_iter().next(),
        };
        let heir = heir.ok_or(MetadataError::Unavailable)?;
        let asked = self.raft.trigger().transfer_leader(heir).await;
        asked.map_err(|_| MetadataError::Unavailable)?;
        let waited = timeout(&*self.clock, TRANSFER_DEADLINE, self.until_another_leads()).await;
        if let Ok(leader) = waited {
            tracing::info!(from = %self.replica, to = %leader, "the metadata's lead was handed over");
            return Ok(leader);
        }
        // Raft takes no writes while it hands over, however long that takes: an election of our
        // own ends it.
        let elected = self.raft.trigger().elect(false).await;
        elected.map_err(|_| MetadataError::Unavailable)?;
        Err(MetadataError::Unavailable)
    }

    /// Voters that could lead, the best first.
    pub(crate) fn heirs(&self) -> Vec<u64> {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let (Some(replication), Some(heard)) = (metrics.replication, metrics.heartbeat) else {
            return Vec::new();
        };
        let is_here = |id: &u64| {
            let last = heard.get(id).copied().flatten();
            last.is_some_and(|last| last.elapsed() < FOLLOWER_HEARD_WITHIN)
        };
        let voters = metrics.membership_config.membership().voter_ids();
        let mut heirs: Vec<u64> =
            voters.filter(|id| *id != self.replica.0).filter(is_here).collect();
        heirs.sort_by_key(|id| std::cmp::Reverse(replication.get(id).copied().flatten()));
        heirs
    }

    async fn until_another_leads(&self) -> ReplicaId {
        let pause: Duration = TRANSFER_POLL;
        loop {
            let leader = self.raft.server_metrics().borrow_watched().current_leader;
            if let Some(leader) = leader.filter(|leader| *leader != self.replica.0) {
                return ReplicaId(leader);
            }
            self.clock.sleep(pause).await;
        }
    }
}
