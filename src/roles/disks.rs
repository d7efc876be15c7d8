//! The storage node of a process: registers the directories as disks, opens them, and reports them
//! to the metadata.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use metadata::client::MetadataClient;
use model::cluster_map::{Disk as MapDisk, DiskState};
use model::command::{Command, Outcome, Refusal};
use model::ids::{ClusterId, DiskId, DiskUuid, NodeId};
use model::query::{Answer, Heartbeat, Query};
use model::shard::{ShardRequest, ShardResponse};
use storage_node::offline::ShardsDirectory;
use storage_node::{DiskIdentity, HeartbeatReporter, StorageNode, StoreOptions};
use wire::BoxFuture;
use wire::disk::{Disk, RealDisk};
use wire::network::{InProcess, Peer, Service};

use crate::directories::{DirectoryRole, PlannedDirectory};
use crate::process::Doors;

/// Disks are weighed in GiB.
const WEIGHT_BYTES: u64 = 1 << 30;

/// How long a disk waits for its node to be known; registering a node takes no longer.
const NODE_PATIENCE: Duration = Duration::from_mins(1);

/// The pause between two attempts.
const NODE_PAUSE: Duration = Duration::from_millis(500);

/// Where a disk keeps its shards.
const SHARDS: &str = "shards";

/// Whose disks they are, and where.
pub struct DiskPlace {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// Its rack.
    pub rack: String,
    /// Its zone.
    pub zone: String,
}

/// The running storage node.
pub struct Disks {
    node: Arc<StorageNode>,
    network: Arc<InProcess<ShardRequest, ShardResponse>>,
}

/// Registers and opens the disks. `open_to_others` is given what answers for them, before the
/// metadata is told that they are up.
pub async fn start(
    directories: &[PlannedDirectory],
    place: DiskPlace,
    recoverable: Duration,
    client: &Arc<MetadataClient>,
    doors: &Doors,
    open_to_others: impl FnOnce(Arc<dyn Service<ShardRequest, ShardResponse>>),
) -> Result<Disks> {
    let mut disks = Vec::new();
    let mut registered = Vec::new();
    for directory in directories {
        if let Some((disk, uuid)) = open_directory(directory) {
            let id = register_patiently(&disk, uuid, &place, client).await?;
            registered.push((Arc::clone(&disk), uuid));
            disks.push((disk, DiskIdentity { cluster: place.cluster, disk: id, uuid }));
        }
    }
    let id = place.node;
    let options = StoreOptions { grace: recoverable, ..StoreOptions::default() };
    let (clock, entropy) = (Arc::clone(&doors.clock), Arc::clone(&doors.entropy));
    let (node, errors) =
        tokio::task::spawn_blocking(move || StorageNode::open(id, disks, options, clock, entropy))
            .await?;
    for error in errors {
        tracing::error!(%error, "a disk is not in use");
    }
    let network = Arc::new(InProcess::new(Arc::clone(&doors.clock)));
    let service: Arc<dyn Service<ShardRequest, ShardResponse>> = Arc::clone(&node) as _;
    network.register(Peer(u64::from(id.0)), Arc::clone(&service));
    open_to_others(service);
    let epoch = AtomicU64::new(0);
    let reporter = Arc::new(Reporter { client: Arc::clone(client), place, registered, epoch });
    // The first report goes out before the first request comes in: disks that were down and are
    // back must be open for writes by then.
    reporter.report(node.heartbeat()).await;
    node.start(reporter);
    Ok(Disks { node, network })
}

impl Disks {
    /// The way to the node, in this process.
    pub fn network(&self) -> Arc<InProcess<ShardRequest, ShardResponse>> {
        Arc::clone(&self.network)
    }

    /// Finishes what is queued and closes the disks.
    pub async fn stop(&self) {
        self.node.shutdown().await;
    }
}

fn open_directory(directory: &PlannedDirectory) -> Option<(Arc<dyn Disk>, DiskUuid)> {
    let path = directory.path.display();
    let uuid = match &directory.role {
        DirectoryRole::Member(uuid) | DirectoryRole::New(uuid) => *uuid,
        DirectoryRole::Unusable(reason) => {
            tracing::error!(%path, reason, "the directory is not in use");
            return None;
        }
    };
    match RealDisk::open(&directory.path) {
        Ok(disk) => Some((Arc::new(disk), uuid)),
        Err(error) => {
            tracing::error!(%path, %error, "the directory is not in use");
            None
        }
    }
}

/// Registers a disk, and waits until the metadata knows its node: metadata that was put back takes
/// in the nodes that it has forgotten while they start.
async fn register_patiently(
    disk: &Arc<dyn Disk>,
    uuid: DiskUuid,
    place: &DiskPlace,
    client: &MetadataClient,
) -> Result<DiskId> {
    let clock = client.clock();
    let until = clock.monotonic() + NODE_PATIENCE;
    loop {
        match register(disk, uuid, place, client).await? {
            Some(id) => return Ok(id),
            None if clock.monotonic() >= until => {
                bail!("a disk can't be registered: the cluster doesn't know node {}", place.node)
            }
            None => clock.sleep(NODE_PAUSE).await,
        }
    }
}

/// Registers a disk; none when the metadata doesn't know its node.
async fn register(
    disk: &Arc<dyn Disk>,
    uuid: DiskUuid,
    place: &DiskPlace,
    client: &MetadataClient,
) -> Result<Option<DiskId>> {
    let capacity = disk.space().map_or(0, |space| space.capacity_bytes);
    let weight = u32::try_from(capacity / WEIGHT_BYTES).unwrap_or(u32::MAX).max(1);
    let path = disk.path().to_string_lossy().into_owned();
    // Metadata that was put back may be older than the disk: it comes back under the number that it
    // has on itself. Any other metadata refuses this, or knows the disk.
    if let Some(id) = own_number(disk, uuid, place.cluster).await {
        let known = MapDisk {
            id,
            uuid,
            node: place.node,
            rack: place.rack.clone(),
            zone: place.zone.clone(),
            weight,
            state: DiskState::Up,
            path: path.clone(),
            standing: model::cluster_map::Standing::default(),
        };
        let adopted = client.propose_one(Command::AdoptDisk(known)).await;
        let adopted = adopted.context("a disk can't be registered")?;
        // Under a new number, what it holds would be taken for nobody's.
        if let Outcome::Refused(refusal @ Refusal::GroupsSettled) = adopted {
            bail!(
                "disk {id} can't be registered: {refusal}. To have what only it knows, begin the \
                 recovery anew with all disks; to use it as an empty one, empty its directory"
            );
        }
        // Once its node is known the disk must come back under its own number, not under a new one.
        if adopted == Outcome::Refused(Refusal::NoSuchNode) {
            return Ok(None);
        }
        tracing::debug!(disk = %id, ?adopted, "the metadata was told of the disk's own number");
    }
    let command = Command::RegisterDisk {
        uuid,
        node: place.node,
        rack: place.rack.clone(),
        zone: place.zone.clone(),
        weight,
        path,
    };
    match client.propose_one(command).await.context("a disk can't be registered")? {
        Outcome::DiskRegistered(id) => Ok(Some(id)),
        Outcome::Refused(Refusal::NoSuchNode) => Ok(None),
        other => bail!("a disk can't be registered: {other:?}"),
    }
}

/// The number that a disk has on itself, if it was in use before.
async fn own_number(disk: &Arc<dyn Disk>, uuid: DiskUuid, cluster: ClusterId) -> Option<DiskId> {
    let disk = Arc::clone(disk);
    let look = move || {
        let identity = ShardsDirectory::open(disk.subdirectory(SHARDS).ok()?).ok()?.identity();
        (identity.uuid == uuid && identity.cluster == cluster).then_some(identity.disk)
    };
    tokio::task::spawn_blocking(look).await.ok().flatten()
}

/// Takes reports to the metadata leader, and registers the disks again when the metadata has
/// forgotten them: it was put back from a backup, or begun anew.
struct Reporter {
    client: Arc<MetadataClient>,
    place: DiskPlace,
    registered: Vec<(Arc<dyn Disk>, DiskUuid)>,
    /// The cluster map's epoch in which all disks were known.
    epoch: AtomicU64,
}

impl Reporter {
    async fn register_forgotten(&self, epoch: u64) {
        let query = Query::ClusterMap { known_epoch: 0 };
        let Ok(Answer::ClusterMap(Some(map))) = self.client.query(query).await else {
            return;
        };
        for (disk, uuid) in &self.registered {
            if map.disks.iter().any(|known| known.uuid == *uuid) {
                continue;
            }
            match register(disk, *uuid, &self.place, &self.client).await {
                Ok(Some(id)) => tracing::warn!(disk = %id, "the metadata had forgotten the disk"),
                // With the next report: this node is about to be known again.
                Ok(None) => return,
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::error!(error, "a disk that the metadata has forgotten is not taken");
                    return;
                }
            }
        }
        self.epoch.store(epoch, Ordering::Relaxed);
    }
}

impl HeartbeatReporter for Reporter {
    fn report(&self, heartbeat: Heartbeat) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            match self.client.heartbeat(heartbeat).await {
                Ok(epoch) if epoch == self.epoch.load(Ordering::Relaxed) => {}
                Ok(epoch) => self.register_forgotten(epoch).await,
                Err(error) => tracing::warn!(%error, "the disks' report was not taken"),
            }
        })
    }
}
