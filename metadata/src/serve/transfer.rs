//! The lead, given to another replica: before a planned stop, and when somebody asks.
//!
//! What always holds: it is given to nobody who would have to apply much before it could lead. What a
//! replica has in its log says little of that: it may have got the entries in bulk, and its tables
//! may be a minute behind. So it is asked.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use model::ids::ReplicaId;
use model::query::MetadataError;
use openraft::Instant;
use openraft::type_config::async_runtime::watch::WatchReceiver;
use wire::clock::{Clock, timeout};

use super::MetadataService;
use crate::client::MetadataClient;
use crate::limits::{
    FOLLOWER_HEARD_WITHIN, PROBE_DEADLINE, READY_ENTRIES, TRANSFER_DEADLINE, TRANSFER_POLL,
};

/// Those of `replicas` whose tables lack no more than [`READY_ENTRIES`] of the entries up to `last`.
/// Who doesn't answer within [`PROBE_DEADLINE`] isn't among them.
pub(crate) async fn that_have_applied(
    client: &MetadataClient,
    clock: &dyn Clock,
    replicas: &[u64],
    last: u64,
) -> BTreeSet<u64> {
    let ask = |id: &u64| {
        let id = *id;
        async move {
            let status = timeout(clock, PROBE_DEADLINE, client.status(ReplicaId(id))).await;
            let applied = status.ok()?.ok()?.last_applied_index;
            (applied + READY_ENTRIES >= last).then_some(id)
        }
    };
    join_all(replicas.iter().map(ask)).await.into_iter().flatten().collect()
}

impl MetadataService {
    /// Gives the lead to `to`, or to the voter that lacks least, and waits until somebody else
    /// leads. Errors: `NotLeader`; `Unavailable` when there is nobody to take it, or who should
    /// doesn't: then this replica leads on.
    pub async fn transfer(&self, to: Option<ReplicaId>) -> Result<ReplicaId, MetadataError> {
        self.check_leader()?;
        if to == Some(self.replica) {
            return Ok(self.replica);
        }
        let heirs = self.heirs().await;
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

    /// Voters that could lead at once, the best first.
    pub(crate) async fn heirs(&self) -> Vec<u64> {
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
        // A replica without a keeper knows no way to ask.
        if let Some(peers) = self.peers.get() {
            let last = metrics.last_applied.map_or(0, |id| id.index);
            let ready = that_have_applied(peers, &*self.clock, &heirs, last).await;
            heirs.retain(|id| ready.contains(id));
        }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::query::{MetadataRequest, MetadataResponse, MetadataStatus};
    use wire::BoxFuture;
    use wire::clock::SystemClock;
    use wire::network::{InProcess, Peer, Service};

    use super::*;
    use crate::client::ReplicaBook;

    /// A replica that has applied so much; one that is asked in vain, for `None`.
    struct Replica(Option<u64>);

    impl Service<MetadataRequest, MetadataResponse> for Replica {
        fn serve(&self, request: MetadataRequest) -> BoxFuture<'_, MetadataResponse> {
            Box::pin(async move {
                let Some(last_applied_index) = self.0 else {
                    return std::future::pending().await;
                };
                if !matches!(request, MetadataRequest::Status) {
                    return MetadataResponse::Failed(MetadataError::Unavailable);
                }
                // Its log is whole.
                let last_log_index = 50_000;
                let status =
                    MetadataStatus { last_applied_index, last_log_index, ..Default::default() };
                MetadataResponse::Status(Box::new(status))
            })
        }
    }

    #[tokio::test]
    async fn who_has_to_apply_much_first_is_not_ready() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let network = Arc::new(InProcess::new(Arc::clone(&clock)));
        let behind = 50_000 - READY_ENTRIES;
        let replicas = [Some(50_000), Some(behind), Some(behind - 1), Some(0), None];
        for (id, applied) in (1..).zip(replicas) {
            network.register(Peer(id), Arc::new(Replica(applied)));
        }
        let book = Arc::new(ReplicaBook::default());
        let client = MetadataClient::new(network, book, Arc::clone(&clock));
        // Nobody is there as 6.
        let ready = that_have_applied(&client, &*clock, &[1, 2, 3, 4, 5, 6], 50_000).await;
        assert_eq!(ready, BTreeSet::from([1, 2]));
        assert!(clock.monotonic() < PROBE_DEADLINE * 3, "all are asked at once");
    }
}
