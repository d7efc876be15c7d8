//! Runs the roles of a process of a cluster, from the host directory to the exit status.
//!
//! The order at the start: listeners are bound before anything is written; the metadata first, since
//! everybody else asks it; then the disks; the gateway last. It stops in the opposite order.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use gateway::admin::{
    AdminHandler, AdminOrders, AdminParts, Process, ReplicaPlace, StatusGatherer,
};
use gateway::http::listener::ListenerOptions;
use metadata::client::MetadataClient;
use metadata::session::Writer;
use metrics_exporter_prometheus::PrometheusHandle;
use model::coding::Coding;
use model::node::Roles;
use model::query::{Answer, Query};
use model::shard::{ShardRequest, ShardResponse};
use tokio::sync::watch;
use wire::disk::RealDisk;
use wire::network::{InProcess, Service};
use wire::rpc::{CallerService, WithoutCaller};

use super::directory::{HostDirectory, HostIdentity};
use super::link::Link;
use super::metadata::MetadataRole;
use super::orders::Orders;
use crate::directories::{self, DirectoryLock, DirectoryRole, PlannedDirectory};
use crate::process::{self, Doors, Listening, bind, signals, telemetry};
use crate::roles::disks::{self, DiskPlace, Disks};
use crate::roles::gateway::{GatewayPart, GatewayParts, GatewayRole};
use crate::roles::metadata::LocalPeers;
use crate::settings::{
    GatewaySettings, LogFormat, MetadataSettings, RootCredentials, ServerSettings,
    StorageNodeSettings,
};

/// The pause between two attempts of what needs the metadata at the start.
const START_PAUSE: Duration = Duration::from_secs(1);

/// What a process of a cluster is to run.
pub struct HostParts {
    /// The host directory.
    pub host_directory: PathBuf,
    /// The internal listener; `None` for the port of the node's address.
    pub cluster_listen: Option<SocketAddr>,
    /// The admin listener.
    pub admin_listen: SocketAddr,
    /// Where replicas of the metadata may be.
    pub metadata: Option<Vec<PathBuf>>,
    /// The disks.
    pub storage: Option<StoragePart>,
    /// The gateway.
    pub gateway: Option<GatewayPart>,
    /// The root identity, if the operator of a server chose one.
    pub root: Option<RootCredentials>,
    /// The log filter.
    pub log: String,
    /// The log format.
    pub log_format: LogFormat,
    /// What is allowed but unwise.
    pub warnings: Vec<String>,
}

/// The disks of a process.
pub struct StoragePart {
    /// The data directories.
    pub directories: Vec<PathBuf>,
    /// How long deleted shards stay recoverable.
    pub recoverable: Duration,
}

impl HostParts {
    fn roles(&self) -> Roles {
        let of = |has: bool, role| if has { role } else { Roles::NONE };
        of(self.metadata.is_some(), Roles::METADATA)
            .and(of(self.storage.is_some(), Roles::STORAGE_NODE))
            .and(of(self.gateway.is_some(), Roles::GATEWAY))
    }
}

impl From<StorageNodeSettings> for HostParts {
    fn from(settings: StorageNodeSettings) -> Self {
        Self {
            host_directory: settings.host_directory,
            cluster_listen: settings.cluster_listen,
            admin_listen: settings.admin_listen,
            metadata: None,
            storage: Some(StoragePart {
                directories: settings.directories,
                recoverable: settings.recoverable,
            }),
            gateway: None,
            root: None,
            log: settings.log,
            log_format: settings.log_format,
            warnings: settings.warnings,
        }
    }
}

impl From<MetadataSettings> for HostParts {
    fn from(settings: MetadataSettings) -> Self {
        Self {
            host_directory: settings.host_directory,
            cluster_listen: settings.cluster_listen,
            admin_listen: settings.admin_listen,
            metadata: Some(vec![settings.directory]),
            storage: None,
            gateway: None,
            root: None,
            log: settings.log,
            log_format: settings.log_format,
            warnings: settings.warnings,
        }
    }
}

impl From<GatewaySettings> for HostParts {
    fn from(settings: GatewaySettings) -> Self {
        Self {
            gateway: Some(GatewayPart::from(&settings)),
            host_directory: settings.host_directory,
            cluster_listen: settings.cluster_listen,
            admin_listen: settings.admin_listen,
            metadata: None,
            storage: None,
            root: None,
            log: settings.log,
            log_format: settings.log_format,
            warnings: settings.warnings,
        }
    }
}

impl HostParts {
    /// All roles in one process, as a node of a cluster.
    pub fn of_server(settings: ServerSettings, host_directory: PathBuf) -> Self {
        Self {
            gateway: Some(GatewayPart::from(&settings)),
            host_directory,
            cluster_listen: settings.cluster_listen,
            admin_listen: settings.admin_listen,
            metadata: Some(settings.directories.clone()),
            storage: Some(StoragePart {
                directories: settings.directories,
                recoverable: settings.recoverable,
            }),
            root: settings.root,
            log: settings.log,
            log_format: settings.log_format,
            warnings: settings.warnings,
        }
    }
}

/// Runs them until told to stop.
pub fn run(parts: HostParts) -> Result<ExitCode> {
    process::prepare(&parts.log, parts.log_format)?;
    for warning in &parts.warnings {
        tracing::warn!("{warning}");
    }
    process::run(serve_until_stopped(parts, Doors::of_the_machine()))
}

async fn serve_until_stopped(parts: HostParts, doors: Doors) -> Result<ExitCode> {
    let directory = HostDirectory::open(&parts.host_directory)?;
    check_roles(&directory, parts.roles())?;
    let mut orders = signals::Orders::catch()?;
    let admin_listener = bind(parts.admin_listen)?;
    let s3_listener = match &parts.gateway {
        Some(gateway) => Some(bind(gateway.listen)?),
        None => None,
    };
    let mut storage = match &parts.storage {
        Some(part) => Some(Storage::look(part, &directory, &doors)?),
        None => None,
    };
    if parts.gateway.is_some() {
        keep_root(&directory, parts.root.as_ref())?;
    }
    if let (Some(storage), Some(coding)) = (&mut storage, directory.identity().founds) {
        // A founder's replicas are in the directories of its disks.
        storage.format(directory.identity(), coding)?;
    }
    let metrics = telemetry::start()?;
    let peers = LocalPeers::new(&doors);
    let local_shards = Arc::new(InProcess::new(Arc::clone(&doors.clock)));
    let mut link = Link::open(directory, parts.cluster_listen, &doors)?;
    let client = link.metadata_client(Some(Arc::clone(&peers.service)));
    let (stop, stopping) = watch::channel(false);
    // It tells that the process stops, until its last request is answered.
    let (stop_admin, stopping_admin) = watch::channel(false);

    let metadata = match &parts.metadata {
        Some(paths) => {
            Some(MetadataRole::start(&mut link, paths, peers, Arc::clone(&client), &doors).await?)
        }
        None => None,
    };
    link.keep_up(Arc::clone(&client));
    let gateway = match &parts.gateway {
        Some(settings) => {
            Some(start_gateway(&link, settings, &client, Arc::clone(&local_shards), &doors)?)
        }
        None => None,
    };
    let admin = Listening::start(
        admin_listener,
        Arc::new(AdminHandler::new(AdminParts {
            gatherer: StatusGatherer::new(
                Arc::clone(&client),
                metadata.as_ref().map_or_else(nowhere, MetadataRole::places),
                Process {
                    roles: parts.roles(),
                    node: Some(link.directory().identity().node),
                    stopping: stopping.clone(),
                    engine: gateway.as_ref().map(|role| role.engine().clone()),
                },
            )
            .with_backups(gateway.as_ref().map(GatewayRole::backup_progress).unwrap_or_default())
            .with_certificate(link.certificate_end()),
            metrics: rendered(metrics),
            clock: Arc::clone(&doors.clock),
            jobs: gateway.as_ref().map(|role| Arc::clone(role.jobs())),
            orders: match metadata {
                Some(_) => Some(orders_of(&link, &client, &doors)?),
                None => None,
            },
        })),
        ListenerOptions::default(),
        &doors,
        stopping_admin,
    )?;
    let s3 = match (&gateway, s3_listener, &parts.gateway) {
        (Some(role), Some(listener), Some(settings)) => {
            let options = settings.listener_options()?;
            let handler = Arc::clone(role.gateway());
            Some(Listening::start(listener, handler, options, &doors, stopping)?)
        }
        _ => None,
    };
    let disks = match &mut storage {
        Some(storage) => tokio::select! {
            disks = storage.start(&link, &client, &local_shards, &doors) => Some(disks?),
            () = orders.arrived() => None,
        },
        None => None,
    };
    if let (Some(metadata), Some(paths)) = (&metadata, &parts.metadata) {
        metadata.add_directories(paths);
    }
    greet(&link, parts.roles(), s3.as_ref(), &admin, parts.gateway.as_ref());

    orders.wait().await;
    tracing::info!("stopping: requests in flight are finished first");
    stop.send_replace(true);
    let mut cut_off = 0;
    if let Some(s3) = s3 {
        cut_off += s3.ended().await?;
    }
    if let Some(gateway) = &gateway {
        gateway.stop().await;
    }
    if let Some(disks) = disks {
        let node = link.directory().identity().node;
        link.services().remove(model::rpc::Service::Shards, u64::from(node.0));
        disks.stop().await;
    }
    stop_admin.send_replace(true);
    cut_off += admin.ended().await?;
    if let Some(metadata) = metadata {
        metadata.stop(&link).await;
    }
    link.stop().await;
    drop(storage);
    if cut_off > 0 {
        bail!("{cut_off} connections did not end in time and were cut off");
    }
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// What a process is started as must be what the cluster let in.
fn check_roles(directory: &HostDirectory, roles: Roles) -> Result<()> {
    let known = directory.identity().roles;
    ensure!(
        known == roles,
        "the host directory {} is that of a node with the roles {known}, and this process has the roles {roles}",
        directory.path().display()
    );
    Ok(())
}

/// Root credentials that the operator chose for a server become the cluster's: every gateway has
/// the same ones.
fn keep_root(directory: &HostDirectory, chosen: Option<&RootCredentials>) -> Result<()> {
    let mut secrets = directory.secrets()?;
    if let Some(chosen) = chosen {
        secrets.set_root(chosen);
        directory.write_secrets(&secrets)?;
    }
    ensure!(
        secrets.root().is_some(),
        "the cluster has no root credentials; set DRYSTONE_ROOT_ACCESS_KEY and DRYSTONE_ROOT_SECRET_KEY, as the store had them"
    );
    Ok(())
}

fn orders_of(
    link: &Link,
    client: &Arc<MetadataClient>,
    doors: &Doors,
) -> Result<Arc<dyn AdminOrders>> {
    Ok(Arc::new(Orders::new(Arc::clone(client), link.authority_pin()?, doors)))
}

fn nowhere() -> ReplicaPlace {
    Arc::new(|_| None)
}

fn rendered(metrics: PrometheusHandle) -> Arc<dyn Fn() -> String + Send + Sync> {
    Arc::new(move || metrics.render())
}

fn start_gateway(
    link: &Link,
    settings: &GatewayPart,
    client: &Arc<MetadataClient>,
    local: Arc<InProcess<ShardRequest, ShardResponse>>,
    doors: &Doors,
) -> Result<GatewayRole> {
    let secrets = link.directory().secrets()?;
    let cluster_key = secrets.cluster_key().context("the secrets file holds no cluster key")?;
    let root = secrets.root().context("the secrets file holds no root credentials")?;
    let name = format!("node-{}", link.directory().identity().node);
    let writer = Writer::open_later(Arc::clone(client), &name);
    let parts = GatewayParts {
        client: Arc::clone(client),
        node: Some(link.directory().identity().node),
        metadata: Arc::new(writer),
        shards: link.shard_network(Some(local)),
        cluster_key,
        root,
        cluster: link.directory().identity().cluster,
    };
    GatewayRole::start(parts, settings, doors)
}

/// The disks of this process, before and after the metadata is found.
struct Storage {
    planned: Vec<PlannedDirectory>,
    recoverable: Duration,
    /// Directories that were there, and so are locked.
    present: Vec<PathBuf>,
    locks: Vec<DirectoryLock>,
    is_formatted: bool,
}

impl Storage {
    /// Looks at the directories; writes nothing.
    fn look(part: &StoragePart, host: &HostDirectory, doors: &Doors) -> Result<Self> {
        let found = directories::inspect(&part.directories)?;
        let there = found.iter().map(|directory| &directory.path);
        let present: Vec<PathBuf> = there.filter(|path| path.exists()).cloned().collect();
        let locks = present.iter().map(|path| directories::lock(path));
        let locks = locks.collect::<Result<Vec<_>>>()?;
        let cluster = host.identity().cluster;
        let planned = directories::decide_joined(found, cluster, &*doors.entropy)?;
        let recoverable = part.recoverable;
        Ok(Self { planned, recoverable, present, locks, is_formatted: false })
    }

    /// Makes the new directories disks of the cluster. Each is locked before anything is written.
    fn format(&mut self, host: &HostIdentity, coding: Coding) -> Result<()> {
        if self.is_formatted {
            return Ok(());
        }
        for directory in &self.planned {
            if !matches!(directory.role, DirectoryRole::New(_)) {
                continue;
            }
            let path = &directory.path;
            if !self.present.contains(path) {
                RealDisk::create(path)
                    .with_context(|| format!("the directory {} can't be made", path.display()))?;
                self.locks.push(directories::lock(path)?);
            }
            ensure!(
                !directories::has_identity(path),
                "the directory {} was made a disk by another process",
                path.display()
            );
        }
        directories::format_joined(&self.planned, host.cluster, coding)?;
        self.is_formatted = true;
        Ok(())
    }

    /// Registers and opens the disks, as soon as the metadata can be asked, and answers for them.
    async fn start(
        &mut self,
        link: &Link,
        client: &Arc<MetadataClient>,
        local: &InProcess<ShardRequest, ShardResponse>,
        doors: &Doors,
    ) -> Result<Disks> {
        let identity = link.directory().identity();
        let coding = loop {
            match client.query(Query::ClusterMap { known_epoch: 0 }).await {
                Ok(Answer::ClusterMap(Some(map))) => break map.coding,
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "waiting for the metadata"),
            }
            doors.clock.sleep(START_PAUSE).await;
        };
        self.format(identity, coding)?;
        let place = DiskPlace {
            cluster: identity.cluster,
            node: identity.node,
            rack: identity.rack.clone(),
            zone: identity.zone.clone(),
        };
        let peer = u64::from(identity.node.0);
        let open_to_others = |service: Arc<dyn Service<ShardRequest, ShardResponse>>| {
            local.register(wire::network::Peer(peer), Arc::clone(&service));
            let service: Arc<dyn CallerService<ShardRequest, ShardResponse>> =
                Arc::new(WithoutCaller(service));
            link.services().add(peer, service);
        };
        disks::start(&self.planned, place, self.recoverable, client, doors, open_to_others).await
    }
}

/// Says that it is ready, and where; the last line before it serves in silence.
fn greet(
    link: &Link,
    roles: Roles,
    s3: Option<&Listening>,
    admin: &Listening,
    settings: Option<&GatewayPart>,
) {
    let identity = link.directory().identity();
    println!("Drystone {}", env!("CARGO_PKG_VERSION"));
    println!("Node {} ({roles}) of cluster {}", identity.node, identity.cluster);
    println!("Internal listener on {}, for others at {}", link.address(), identity.address);
    if let (Some(s3), Some(settings)) = (s3, settings) {
        println!("S3 listening on {}://{}", settings.scheme(), s3.address());
    }
    println!("Admin listening on http://{}", admin.address());
}
