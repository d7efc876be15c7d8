//! The metadata of a process: replicas of its own, each on a directory of its own.
//!
//! A process that is the whole cluster keeps `2m+1` of them, at most five; a node of a cluster those
//! that the cluster map places on it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use gateway::admin::ReplicaPlace;
use metadata::client::{MetadataClient, ReplicaBook};
use metadata::keeper::{Keeper, KeeperParts, MayFound, Placement};
use metadata::raft::{RaftNetwork, RaftRequest, RaftResponse};
use metadata::replica::World;
use model::coding::Coding;
use model::command::{Command, Outcome};
use model::ids::{ClusterId, ReplicaId};
use model::node::FEATURE_LEVEL;
use model::query::{MetadataRequest, MetadataResponse};
use wire::disk::{Disk, RealDisk};
use wire::network::InProcess;

use crate::directories::{DirectoryRole, Plan};
use crate::process::Doors;

/// More replicas than this cost writes without making loss less likely in practice.
const REPLICAS_MAX: usize = 5;

/// The replicas of this process, for each other and for everybody else in it.
#[derive(Clone)]
pub struct LocalPeers {
    /// Raft's messages.
    pub raft: Arc<InProcess<RaftRequest, RaftResponse>>,
    /// Requests of gateways and storage nodes.
    pub service: Arc<InProcess<MetadataRequest, MetadataResponse>>,
}

impl LocalPeers {
    /// None yet.
    pub fn new(doors: &Doors) -> Self {
        Self {
            raft: Arc::new(InProcess::new(Arc::clone(&doors.clock))),
            service: Arc::new(InProcess::new(Arc::clone(&doors.clock))),
        }
    }
}

/// What the replicas need.
pub struct ReplicaParts {
    /// The cluster.
    pub cluster: ClusterId,
    /// Where replicas may be.
    pub directories: Vec<PathBuf>,
    /// How many a new cluster begins with.
    pub count: usize,
    /// Whether they are this process's alone.
    pub placement: Placement,
    /// Where they are registered.
    pub peers: LocalPeers,
    /// The way between replicas.
    pub raft_network: Arc<RaftNetwork>,
    /// A client of the cluster's replicas.
    pub client: Arc<MetadataClient>,
}

/// The running replicas.
pub struct Replicas {
    keeper: Arc<Keeper>,
    client: Arc<MetadataClient>,
    disks: Arc<ReplicaDisks>,
}

/// The disks that may hold replicas. Each is opened once: a directory that is deleted and made again
/// is not the disk that it was.
#[derive(Default)]
struct ReplicaDisks(Mutex<BTreeMap<PathBuf, Arc<dyn Disk>>>);

impl ReplicaDisks {
    /// Opens those that are there and weren't opened before.
    fn open(&self, paths: &[PathBuf]) {
        let mut disks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for path in paths {
            if !disks.contains_key(path)
                && let Ok(disk) = RealDisk::open(path)
            {
                disks.insert(path.clone(), Arc::new(disk));
            }
        }
    }

    fn all(&self) -> Vec<Arc<dyn Disk>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

/// Opens the replicas of a process that is alone, or founds the store if that was never done, and
/// waits for a leader.
pub async fn start_alone(plan: &Plan, doors: &Doors, patience: Duration) -> Result<Replicas> {
    let peers = LocalPeers::new(doors);
    let client = Arc::new(MetadataClient::new(
        Arc::clone(&peers.service) as _,
        Arc::new(ReplicaBook::default()),
        Arc::clone(&doors.clock),
    ));
    let directories: Vec<PathBuf> = plan
        .directories
        .iter()
        .filter(|directory| !matches!(directory.role, DirectoryRole::Unusable(_)))
        .map(|directory| directory.path.clone())
        .collect();
    let parts = ReplicaParts {
        cluster: plan.cluster,
        count: replica_count(plan.coding.parity(), directories.len()),
        directories,
        placement: Placement::Alone,
        raft_network: Arc::clone(&peers.raft) as _,
        peers,
        client,
    };
    let count = parts.count;
    let may_found = if plan.founded { MayFound::No } else { MayFound::Yes };
    let replicas = Replicas::open(parts, may_found, doors).await?;
    replicas.init_cluster(plan.cluster, plan.coding, count, doors, patience).await?;
    Ok(replicas)
}

impl Replicas {
    /// Opens them.
    pub async fn open(parts: ReplicaParts, may_found: MayFound, doors: &Doors) -> Result<Self> {
        let disks = Arc::new(ReplicaDisks::default());
        disks.open(&parts.directories);
        let source = Arc::clone(&disks);
        let keeper = KeeperParts {
            world: World {
                cluster: parts.cluster,
                raft_network: parts.raft_network,
                clock: Arc::clone(&doors.clock),
            },
            disks: Arc::new(move || source.all()),
            placement: parts.placement,
            replicas: parts.count,
            raft_peers: parts.peers.raft,
            service_peers: parts.peers.service,
            client: Arc::clone(&parts.client),
        };
        let keeper = Keeper::start(keeper, may_found).await.context(
            "the metadata can't be opened; give all directories of the store, or restore its metadata",
        )?;
        Ok(Self { keeper: Arc::new(keeper), client: parts.client, disks })
    }

    /// Replicas may be in these directories, too: they are there now.
    pub fn add_directories(&self, paths: &[PathBuf]) {
        self.disks.open(paths);
    }

    /// Makes the cluster, unless it is made; waits for a leader. One that is this process alone is of
    /// this release from then on.
    pub async fn init_cluster(
        &self,
        cluster: ClusterId,
        coding: Coding,
        count: usize,
        doors: &Doors,
        patience: Duration,
    ) -> Result<()> {
        let replicas = ReplicaId(count as u64);
        let init = Command::InitCluster { cluster, coding, replicas, level: FEATURE_LEVEL };
        let proposed = self.client.propose_one(init);
        match wire::clock::timeout(&*doors.clock, patience, proposed).await {
            Ok(Ok(Outcome::Done)) => Ok(()),
            Ok(Ok(other)) => bail!("the metadata is of another cluster: {other:?}"),
            Ok(Err(error)) => Err(error)
                .context("the metadata replicas elect no leader: a majority of them must be there"),
            Err(_) => bail!("the metadata replicas elect no leader in time"),
        }
    }

    /// The way to the metadata.
    pub fn client(&self) -> &Arc<MetadataClient> {
        &self.client
    }

    /// Tells where each replica of this process is.
    pub fn places(&self) -> ReplicaPlace {
        let keeper = Arc::downgrade(&self.keeper);
        Arc::new(move |id| {
            let keeper = keeper.upgrade()?;
            let replicas = keeper.replicas();
            let replica = replicas.iter().find(|replica| replica.id() == id)?;
            Some(replica.disk().path().to_string_lossy().into_owned())
        })
    }

    /// Stops the replicas; everything is durable when this returns.
    pub async fn stop(self) {
        // Only the admin listener, which has ended by now, ever borrows the keeper.
        if let Some(keeper) = Arc::into_inner(self.keeper) {
            keeper.shutdown().await;
        }
    }
}

/// As many replicas as lose as many disks as the data may, an odd number, at most one a directory.
pub fn replica_count(parity: u8, directories: usize) -> usize {
    let wanted = (2 * usize::from(parity) + 1).min(REPLICAS_MAX).min(directories).max(1);
    // An even number tolerates no more losses than the odd one below it.
    wanted - usize::from(wanted % 2 == 0)
}

#[cfg(test)]
mod tests {
    use super::replica_count;

    #[test]
    fn an_odd_number_up_to_five() {
        let check = |parity, directories, expected| {
            assert_eq!(replica_count(parity, directories), expected);
        };
        check(2, 6, 5);
        check(2, 5, 5);
        check(2, 4, 3);
        check(1, 3, 3);
        check(1, 2, 1);
        check(0, 1, 1);
        check(4, 20, 5);
    }
}
