//! `drystone server`: all roles in one process.
//!
//! [`run`] tells the story from the settings to the exit status; the rooms in `roles` each start one
//! role and know how to stop it. With a host directory the process is a node of a cluster, and its
//! story is told by `host`.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use gateway::admin::{AdminHandler, AdminParts, Process, StatusGatherer};
use gateway::http::listener::ListenerOptions;
use metadata::client::MetadataClient;
use metadata::session::Writer;
use model::ids::NodeId;
use model::node::Roles;
use model::query::{Answer, Query};
use tokio::sync::watch;
use wire::entropy::Entropy;

mod greeting;

use crate::directories::{self, DirectoryLock, Plan, Secrets};
use crate::host::{self, HostParts};
use crate::process::{self, Doors, Listening, bind, signals, telemetry};
use crate::roles::disks::{self, DiskPlace};
use crate::roles::gateway::{GatewayPart, GatewayParts, GatewayRole};
use crate::roles::metadata::start_alone;
use crate::settings::{RootCredentials, ServerArguments, ServerSettings};

/// The name under which the gateway of this process opens its sessions; stable, so that a restart
/// ends the sessions of the run before.
const GATEWAY_NAME: &str = "server";

/// The only node of an all-in-one server.
const NODE: NodeId = NodeId(1);

/// How long the metadata may take to find a leader at the start.
const START_PATIENCE: Duration = Duration::from_mins(1);

/// Runs the server until it is told to stop.
pub fn run(arguments: &ServerArguments) -> Result<ExitCode> {
    let settings = arguments.resolve()?;
    if let Some(host_directory) = settings.host_directory.clone() {
        return host::run(HostParts::of_server(settings, host_directory));
    }
    process::prepare(&settings.log, settings.log_format)?;
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    let doors = Doors::of_the_machine();
    let found = directories::inspect(&settings.directories)?;
    let mut locks = Vec::new();
    for directory in found.iter().filter(|directory| directory.path.exists()) {
        locks.push(directories::lock(&directory.path)?);
    }
    let plan = directories::decide(found, settings.coding, &*doors.entropy)?;
    process::run(serve_until_stopped(&settings, plan, locks, doors))
}

async fn serve_until_stopped(
    settings: &ServerSettings,
    mut plan: Plan,
    mut locks: Vec<DirectoryLock>,
    doors: Doors,
) -> Result<ExitCode> {
    // Before anything is written: a second server on the same port must leave no trace.
    let s3_listener = bind(settings.listen)?;
    let admin_listener = bind(settings.admin_listen)?;
    let part = GatewayPart::from(settings);
    let s3_options = part.listener_options()?;
    let (secrets, root) = credentials(settings, &plan, &*doors.entropy);
    directories::format(&plan, &secrets)?;
    for directory in plan.new_directories() {
        if plan.founded {
            let path = directory.display();
            tracing::warn!(%path, "an empty directory joins the store as a new disk");
        }
        // Those that were there are locked already.
        if let Ok(lock) = directories::lock(directory) {
            locks.push(lock);
        }
    }
    let cluster_key = secrets.cluster_key().context("the secrets file holds no cluster key")?;
    let metrics = telemetry::start()?;

    let replicas = start_alone(&plan, &doors, START_PATIENCE).await?;
    refuse_a_cluster(replicas.client()).await?;
    if !plan.founded {
        plan.founded = true;
        directories::format(&plan, &secrets)?;
    }
    let place =
        DiskPlace { cluster: plan.cluster, node: NODE, rack: String::new(), zone: String::new() };
    let (recoverable, client) = (settings.recoverable, replicas.client());
    let disks = disks::start(&plan.directories, place, recoverable, client, &doors, |_| {}).await?;
    let writer = Writer::open(Arc::clone(replicas.client()), GATEWAY_NAME)
        .await
        .context("no writer session could be opened")?;
    let parts = GatewayParts {
        client: Arc::clone(replicas.client()),
        node: None,
        metadata: Arc::new(writer),
        shards: disks.network(),
        cluster_key,
        root: root.clone(),
        cluster: plan.cluster,
    };
    let role = GatewayRole::start(parts, &part, &doors)?;
    let (stop, stopping) = watch::channel(false);
    // It tells that the server stops, until the last request is answered.
    let (stop_admin, stopping_admin) = watch::channel(false);
    let process = Process {
        roles: Roles::ALL,
        node: None,
        stopping: stopping.clone(),
        engine: Some(role.engine().clone()),
    };
    let admin_parts = AdminParts {
        gatherer: StatusGatherer::new(Arc::clone(replicas.client()), replicas.places(), process)
            .with_backups(role.backup_progress()),
        metrics: Arc::new(move || metrics.render()),
        clock: Arc::clone(&doors.clock),
        jobs: Some(Arc::clone(role.jobs())),
        orders: None,
    };
    let handler = Arc::clone(role.gateway());
    let s3 = Listening::start(s3_listener, handler, s3_options, &doors, stopping)?;
    let handler = Arc::new(AdminHandler::new(admin_parts));
    let options = ListenerOptions::default();
    let admin = Listening::start(admin_listener, handler, options, &doors, stopping_admin)?;
    // Whoever reads the greeting may ask for the end at once.
    let orders = signals::Orders::catch()?;
    greeting::print(&greeting::Greeting {
        plan: &plan,
        s3: s3.address(),
        scheme: part.scheme(),
        admin: admin.address(),
        root: &root,
        generated: settings.root.is_none(),
        region: &settings.region,
    });

    orders.wait().await;
    tracing::info!("stopping: requests in flight are finished first");
    stop.send_replace(true);
    let cut_off = s3.ended().await?;
    role.stop().await;
    disks.stop().await;
    stop_admin.send_replace(true);
    let cut_off = cut_off + admin.ended().await?;
    replicas.stop().await;
    drop(locks);
    if cut_off > 0 {
        bail!("{cut_off} connections did not end in time and were cut off");
    }
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// A store that became a node of a cluster must not act as if it were alone.
async fn refuse_a_cluster(client: &MetadataClient) -> Result<()> {
    let map = client.query(Query::ClusterMap { known_epoch: 0 }).await;
    let map = map.context("the metadata can't be asked")?;
    if let Answer::ClusterMap(Some(map)) = map
        && !map.nodes.is_empty()
    {
        bail!("this store is a node of a cluster; start it with --host-directory");
    }
    Ok(())
}

/// The secrets to be kept, and the root credentials in force: the operator's, else the stored
/// ones, else new ones.
fn credentials(
    settings: &ServerSettings,
    plan: &Plan,
    entropy: &dyn Entropy,
) -> (Secrets, RootCredentials) {
    let mut secrets = plan.secrets.clone().unwrap_or_else(|| Secrets::generate(entropy));
    let root = match (&settings.root, secrets.root()) {
        (Some(chosen), _) => chosen.clone(),
        (None, Some(stored)) => stored,
        (None, None) => secrets.generate_root(entropy),
    };
    (secrets, root)
}
