//! Whether all replicas are the same, and whole.
//!
//! In: the client's replicas. Out: of each, its digests as of one log entry that is the same for
//! all (I-11), with every row read (I-13); or why it didn't tell. An idle cluster is given empty
//! commands until it comes to that entry.

use futures_util::FutureExt;
use futures_util::future::join_all;
use model::command::Command;
use model::ids::ReplicaId;
use model::query::{MetadataError, MetadataRequest, MetadataResponse, Query, ReplicaDigest};
use wire::clock::timeout;
use wire::network::Peer;

use crate::client::MetadataClient;
use crate::limits::{CHECK_DEADLINE, CHECK_MARGIN, CHECK_MARGIN_MAX, PROBE_DEADLINE};

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The entry that the tables were compared at.
    pub index: u64,
    /// Every replica, in the order of their ids.
    pub replicas: Vec<ReplicaCheck>,
}

/// What a check found of one replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaCheck {
    /// The replica.
    pub replica: ReplicaId,
    /// Its tables, or why it didn't tell.
    pub found: Result<ReplicaDigest, MetadataError>,
}

impl Check {
    /// Whether every replica told, is whole, and has the same tables as the others.
    pub fn is_clean(&self) -> bool {
        let told: Vec<&ReplicaDigest> =
            self.replicas.iter().filter_map(|one| one.found.as_ref().ok()).collect();
        let same = |one: &ReplicaDigest, other: &ReplicaDigest| {
            (one.term, one.index, &one.tables) == (other.term, other.index, &other.tables)
        };
        !told.is_empty()
            && told.len() == self.replicas.len()
            && told.iter().all(|one| one.tables.iter().all(|table| table.damage.is_none()))
            && told.windows(2).all(|two| same(two[0], two[1]))
    }
}

impl MetadataClient {
    /// Checks all replicas. Errors: `Unavailable`, when there is no leader.
    pub async fn check(&self) -> Result<Check, MetadataError> {
        // The book learns from the answer which replicas there are.
        self.query(Query::ClusterMap { known_epoch: 0 }).await?;
        let mut margin = CHECK_MARGIN;
        loop {
            let last = self.last_index().await?;
            let check = self.check_at(last + margin).await;
            // Who was too fast is asked again, with more room.
            let missed = |one: &ReplicaCheck| one.found == Err(MetadataError::Unavailable);
            let told = check.replicas.iter().filter(|one| one.found.is_ok()).count();
            if margin >= CHECK_MARGIN_MAX
                || told > 0 && !check.replicas.iter().any(missed)
                || told > 0
                    && !self.any_answers(check.replicas.iter().filter(|one| missed(one))).await
            {
                return Ok(check);
            }
            margin *= 8;
        }
    }

    async fn any_answers(&self, replicas: impl Iterator<Item = &ReplicaCheck>) -> bool {
        let asked =
            replicas.map(|one| timeout(&**self.clock(), PROBE_DEADLINE, self.status(one.replica)));
        join_all(asked).await.iter().any(|status| matches!(status, Ok(Ok(_))))
    }

    /// The last index of the log, as far as the replicas tell; there must be a leader among them.
    async fn last_index(&self) -> Result<u64, MetadataError> {
        self.advance().await?;
        let asked = self
            .book()
            .replicas()
            .into_iter()
            .map(|id| timeout(&**self.clock(), PROBE_DEADLINE, self.status(id)));
        let told = join_all(asked).await;
        let last = told.into_iter().flatten().flatten().map(|status| status.last_log_index).max();
        last.ok_or(MetadataError::Unavailable)
    }

    /// Asks all replicas for their tables at an entry, and moves the log on until all have told.
    async fn check_at(&self, at: u64) -> Check {
        let mut replicas = self.book().replicas();
        replicas.sort_unstable();
        let asked = replicas.into_iter().map(|replica| async move {
            ReplicaCheck { replica, found: self.digest(replica, at).await }
        });
        let mut all = std::pin::pin!(join_all(asked).fuse());
        loop {
            // Each empty command is an entry; that nobody waits for more is seen between them.
            tokio::select! {
                biased;
                replicas = &mut all => return Check { index: at, replicas },
                advanced = self.advance_towards(at) => {
                    if advanced.is_ok() {
                        let replicas = all.await;
                        return Check { index: at, replicas };
                    }
                }
            }
        }
    }

    /// Adds entries until the log has come to `at`.
    async fn advance_towards(&self, at: u64) -> Result<(), MetadataError> {
        loop {
            for _ in 0..CHECK_MARGIN {
                self.advance().await?;
            }
            let asked = self
                .book()
                .replicas()
                .into_iter()
                .map(|id| timeout(&**self.clock(), PROBE_DEADLINE, self.status(id)));
            let told = join_all(asked).await;
            let mut told = told.into_iter().flatten().flatten();
            if told.any(|status| status.last_log_index >= at) {
                return Ok(());
            }
        }
    }

    /// Adds one entry that changes nothing.
    async fn advance(&self) -> Result<(), MetadataError> {
        self.propose_one(Command::QueueRepair { lacking: Vec::new() }).await.map(drop)
    }

    async fn digest(&self, replica: ReplicaId, at: u64) -> Result<ReplicaDigest, MetadataError> {
        let request = MetadataRequest::Digest { at };
        match self.network().call(Peer(replica.0), request, CHECK_DEADLINE).await {
            Ok(MetadataResponse::Digest(digest)) => Ok(*digest),
            Ok(MetadataResponse::Failed(error)) => Err(error),
            Ok(_) | Err(_) => Err(MetadataError::Unavailable),
        }
    }
}
