//! The cluster as orders are judged by: the map, and what the metadata's leader has heard.
//!
//! In: one look. Out: a [`Picture`], or why there is none. What always holds: it isn't older than the
//! order.

use std::sync::Arc;

use model::cluster_map::ClusterMap;
use model::command::{Command, Outcome, Refusal};
use model::ids::{DiskId, NodeId, PgId, ReplicaId};
use model::node::Roles;
use model::placement::tolerance::Voter;
use model::query::{Answer, MetadataStatus, Query};
use model::shard::DiskReport;
use model::upkeep::RepairItem;

use engine::Engine;

use super::{Found, FoundMap, StatusGatherer};
use crate::admin::classes::RecodeOrders;
use crate::admin::orders::OrderError;

/// Extents of the repair queue that are looked at for one order.
const REPAIRS_MAX: u32 = 10_000;

/// The cluster as it was found.
pub(in crate::admin) struct Picture {
    /// The map.
    pub map: Arc<ClusterMap>,
    /// Groups that hold nothing and are out of use, ascending.
    pub unused: Vec<PgId>,
    /// The disks' last reports, ascending by disk.
    pub reports: Vec<DiskReport>,
    /// Disks that are silent and not down yet.
    pub suspects: Vec<DiskId>,
    /// Who votes; `None` while nobody leads.
    pub voters: Option<Vec<Voter>>,
}

impl StatusGatherer {
    /// One look at the cluster.
    pub(in crate::admin) async fn picture(&self) -> Result<Picture, OrderError> {
        let found = self.ask().await;
        let map = found.map.wanted()?;
        let leader = found.leader();
        let reports = found.reports().to_vec();
        let suspects = leader.map(|leader| leader.suspects.clone()).unwrap_or_default();
        let voters = found.voters_of(&map);
        Ok(Picture { map, unused: found.unused, reports, suspects, voters })
    }

    /// The cluster map as it is now, for what needs to know no more.
    pub(in crate::admin) async fn map(&self) -> Result<Arc<ClusterMap>, OrderError> {
        self.ask_map(self.known_map()).await.wanted()
    }

    /// The extents that lack shards, and how many there are beyond those.
    pub(in crate::admin) async fn lacking(&self) -> Result<(Vec<RepairItem>, u64), OrderError> {
        let query = Query::Repairs { after: None, limit: REPAIRS_MAX };
        match self.client.query(query).await {
            Ok(Answer::Repairs(page)) => {
                let unlooked = page.total.saturating_sub(page.items.len() as u64);
                Ok((page.items, unlooked))
            }
            _ => Err(unavailable()),
        }
    }

    /// Has the metadata carry out a command that may be repeated without harm.
    pub(in crate::admin) async fn propose(&self, command: Command) -> Result<(), OrderError> {
        let outcome = self.client.propose_one(command).await.map_err(|_| unavailable())?;
        let Outcome::Refused(refusal) = outcome else { return Ok(()) };
        Err(match refusal {
            Refusal::NoSuchDisk => OrderError::NotFound("There is no such disk.".to_owned()),
            Refusal::NoSuchNode => OrderError::NotFound("There is no such node.".to_owned()),
            Refusal::MovesOutdated => {
                OrderError::Refused("There is no such move any more.".to_owned())
            }
            Refusal::LevelTooLow => OrderError::Refused(
                "Not every node is of a release that knows this yet.".to_owned(),
            ),
            Refusal::NoSuchClass => OrderError::NotFound("There is no such class.".to_owned()),
            Refusal::ClassInUse => {
                OrderError::Refused("Buckets use the class, or are being recoded to it.".to_owned())
            }
            Refusal::TooManyClasses => {
                OrderError::Refused("There are as many classes as there may be.".to_owned())
            }
            Refusal::UpkeepChanged => {
                let text = "Others change how the cluster keeps itself whole; ask again.";
                OrderError::Refused(text.to_owned())
            }
            Refusal::RecodeChanged => {
                OrderError::Refused("The bucket's order changed meanwhile; ask again.".to_owned())
            }
            Refusal::NoSuchBucket => OrderError::NotFound("There is no such bucket.".to_owned()),
            Refusal::InvalidCommand => OrderError::Invalid("The metadata refuses it.".to_owned()),
            refusal => OrderError::Failed(format!("The metadata refuses it: {refusal}.")),
        })
    }

    /// The engine, where this is a gateway.
    pub(in crate::admin) const fn engine(&self) -> Option<&Engine> {
        self.process.engine.as_ref()
    }

    /// The buckets that are being recoded.
    pub(in crate::admin) fn recode_orders(&self) -> &RecodeOrders {
        &self.recode_orders
    }

    /// The node of this process.
    pub(in crate::admin) const fn node(&self) -> Option<NodeId> {
        self.process.node
    }

    /// Whether this process may order anything: storage nodes may not.
    pub(in crate::admin) const fn may_order(&self) -> bool {
        let roles = self.process.roles;
        roles.contains(Roles::METADATA) || roles.contains(Roles::GATEWAY)
    }
}

impl FoundMap {
    /// The map, or why no order can be judged.
    fn wanted(&self) -> Result<Arc<ClusterMap>, OrderError> {
        match self {
            Self::Made(map, _) => Ok(Arc::clone(map)),
            Self::Unmade => Err(OrderError::Refused("The cluster has no disks yet.".to_owned())),
            Self::Silence => Err(unavailable()),
        }
    }
}

impl Found {
    /// Who votes, where they are, and whether they are well; `None` while nobody leads.
    pub(super) fn voters_of(&self, map: &ClusterMap) -> Option<Vec<Voter>> {
        let leader = self.leader()?;
        let status = |id: &ReplicaId| self.replicas.iter().find(|(replica, _)| replica == id);
        let is_well = |status: &MetadataStatus| status.state != "fenced";
        // Where there is but one process, all replicas are where the disks are.
        let only = map.disks.first().map(|disk| disk.node).filter(|_| map.nodes.is_empty());
        let voter = |id: &ReplicaId| Voter {
            node: map.node_of(*id).map(|node| node.id).or(only).unwrap_or_default(),
            is_well: status(id).and_then(|(_, status)| status.as_ref()).is_some_and(is_well),
        };
        Some(leader.voters.iter().map(voter).collect())
    }
}

fn unavailable() -> OrderError {
    OrderError::Unavailable("The metadata can't be asked now.".to_owned())
}
