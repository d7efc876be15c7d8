//! The metadata of this process: `2m+1` replicas, at most five, each on a directory of its own.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use gateway::admin::ReplicaPlace;
use metadata::client::{MetadataClient, ReplicaBook};
use metadata::keeper::{Keeper, KeeperParts, MayFound};
use metadata::replica::World;
use model::command::{Command, Outcome};
use model::ids::ReplicaId;
use model::query::{MetadataRequest, MetadataResponse};
use wire::disk::{Disk, RealDisk};
use wire::network::InProcess;

use super::Doors;
use crate::directories::{DirectoryRole, Plan};

/// More replicas than this cost writes without making loss less likely in practice.
const REPLICAS_MAX: usize = 5;

/// The running replicas.
pub struct Replicas {
    keeper: Arc<Keeper>,
    client: Arc<MetadataClient>,
}

/// Opens the replicas, or founds the cluster if that was never done, and waits for a leader.
pub async fn start(plan: &Plan, doors: &Doors, patience: Duration) -> Result<Replicas> {
    let raft_peers = Arc::new(InProcess::new(Arc::clone(&doors.clock)));
    let service_peers: Arc<InProcess<MetadataRequest, MetadataResponse>> =
        Arc::new(InProcess::new(Arc::clone(&doors.clock)));
    let book = Arc::new(ReplicaBook::default());
    let client = Arc::new(MetadataClient::new(
        Arc::clone(&service_peers) as _,
        book,
        Arc::clone(&doors.clock),
    ));
    let paths: Vec<_> = plan
        .directories
        .iter()
        .filter(|directory| !matches!(directory.role, DirectoryRole::Unusable(_)))
        .map(|directory| directory.path.clone())
        .collect();
    let count = replica_count(plan.coding.parity(), paths.len());
    // Opened once: a directory that is deleted and made again is not the disk that it was.
    let disks: Vec<Arc<dyn Disk>> = paths
        .iter()
        .filter_map(|path| RealDisk::open(path).ok())
        .map(|disk| Arc::new(disk) as Arc<dyn Disk>)
        .collect();
    let parts = KeeperParts {
        world: World {
            cluster: plan.cluster,
            raft_network: Arc::clone(&raft_peers) as _,
            clock: Arc::clone(&doors.clock),
        },
        disks: Arc::new(move || disks.clone()),
        replicas: count,
        raft_peers,
        service_peers,
        client: Arc::clone(&client),
    };
    let may_found = if plan.founded { MayFound::No } else { MayFound::Yes };
    let keeper = Keeper::start(parts, may_found).await.context(
        "the metadata can't be opened; give all directories of the store, or restore its metadata",
    )?;
    let replicas = Replicas { keeper: Arc::new(keeper), client };
    let init = Command::InitCluster {
        cluster: plan.cluster,
        coding: plan.coding,
        replicas: ReplicaId(count as u64),
    };
    match wire::clock::timeout(&*doors.clock, patience, replicas.client.propose_one(init)).await {
        Ok(Ok(Outcome::Done)) => Ok(replicas),
        Ok(Ok(other)) => bail!("the metadata is of another cluster: {other:?}"),
        Ok(Err(error)) => Err(error)
            .context("the metadata replicas elect no leader: a majority of them must be there"),
        Err(_) => bail!("the metadata replicas elect no leader in time"),
    }
}

impl Replicas {
    /// The way to the metadata.
    pub fn client(&self) -> &Arc<MetadataClient> {
        &self.client
    }

    /// Tells where each replica is.
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
fn replica_count(parity: u8, directories: usize) -> usize {
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
