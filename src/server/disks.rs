//! The storage node of this process: registers the directories as disks, opens them, and reports
//! them to the metadata.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use metadata::client::MetadataClient;
use model::command::{Command, Outcome};
use model::ids::{DiskId, DiskUuid, NodeId};
use model::query::Heartbeat;
use model::shard::{ShardRequest, ShardResponse};
use storage_node::{DiskIdentity, HeartbeatReporter, StorageNode, StoreOptions};
use wire::BoxFuture;
use wire::disk::{Disk, RealDisk};
use wire::network::{InProcess, Network, Peer, Service};

use super::Doors;
use crate::directories::{DirectoryRole, Plan, PlannedDirectory};

/// The only node of an all-in-one server.
const NODE: NodeId = NodeId(1);

/// Disks are weighed in GiB.
const WEIGHT_BYTES: u64 = 1 << 30;

/// The running storage node.
pub struct Disks {
    node: Arc<StorageNode>,
    network: Arc<InProcess<ShardRequest, ShardResponse>>,
}

/// Registers and opens the disks.
pub async fn start(plan: &Plan, client: &Arc<MetadataClient>, doors: &Doors) -> Result<Disks> {
    let mut disks = Vec::new();
    for directory in &plan.directories {
        if let Some((disk, uuid)) = open_directory(directory) {
            let id = register(&*disk, uuid, client).await?;
            disks.push((disk, DiskIdentity { cluster: plan.cluster, disk: id, uuid }));
        }
    }
    let (clock, entropy) = (Arc::clone(&doors.clock), Arc::clone(&doors.entropy));
    let (node, errors) = tokio::task::spawn_blocking(move || {
        StorageNode::open(NODE, disks, StoreOptions::default(), clock, entropy)
    })
    .await?;
    for error in errors {
        tracing::error!(%error, "a disk is not in use");
    }
    let network = Arc::new(InProcess::new(Arc::clone(&doors.clock)));
    let service: Arc<dyn Service<ShardRequest, ShardResponse>> = Arc::clone(&node) as _;
    network.register(Peer(u64::from(NODE.0)), service);
    let reporter = Arc::new(Reporter { client: Arc::clone(client) });
    // The first report goes out before the first request comes in: disks that were down and are
    // back must be open for writes by then.
    reporter.report(node.heartbeat()).await;
    node.start(reporter);
    Ok(Disks { node, network })
}

impl Disks {
    /// The way to the node.
    pub fn network(&self) -> Arc<dyn Network<ShardRequest, ShardResponse>> {
        Arc::clone(&self.network) as _
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

async fn register(disk: &dyn Disk, uuid: DiskUuid, client: &MetadataClient) -> Result<DiskId> {
    let capacity = disk.space().map_or(0, |space| space.capacity_bytes);
    let command = Command::RegisterDisk {
        uuid,
        node: NODE,
        rack: String::new(),
        zone: String::new(),
        weight: u32::try_from(capacity / WEIGHT_BYTES).unwrap_or(u32::MAX).max(1),
        path: disk.path().to_string_lossy().into_owned(),
    };
    match client.propose_one(command).await.context("a disk can't be registered")? {
        Outcome::DiskRegistered(id) => Ok(id),
        other => bail!("a disk can't be registered: {other:?}"),
    }
}

/// Takes reports to the metadata leader.
struct Reporter {
    client: Arc<MetadataClient>,
}

impl HeartbeatReporter for Reporter {
    fn report(&self, heartbeat: Heartbeat) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Err(error) = self.client.heartbeat(heartbeat).await {
                tracing::warn!(%error, "the disks' report was not taken");
            }
        })
    }
}
