//! `drystone server`: all roles in one process.
//!
//! [`run`] tells the story from the settings to the exit status; the rooms below each start one
//! role and know how to stop it.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use engine::{Engine, EngineOptions, EngineParts};
use gateway::admin::{AdminHandler, ScrubJobs, StatusGatherer};
use gateway::auth::Secret;
use gateway::http::listener::{ListenerOptions, Stopped, serve};
use gateway::{Gateway, GatewayOptions, Identity};
use metadata::session::Writer;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::sync::watch;
use wire::clock::{Clock, SystemClock};
use wire::entropy::{Entropy, SystemEntropy};

mod disks;
mod greeting;
mod limits;
mod replicas;
mod signals;
mod telemetry;

use crate::directories::{self, DirectoryLock, Plan, Secrets};
use crate::logging;
use crate::settings::{RootCredentials, ServerArguments, ServerSettings};

/// The name under which the gateway of this process opens its sessions; stable, so that a restart
/// ends the sessions of the run before.
const GATEWAY_NAME: &str = "server";

/// How long the metadata may take to find a leader at the start.
const START_PATIENCE: Duration = Duration::from_mins(1);

/// The doors of this process.
#[derive(Clone)]
struct Doors {
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

/// Runs the server until it is told to stop.
pub fn run(arguments: &ServerArguments) -> Result<ExitCode> {
    let settings = arguments.resolve()?;
    let arenas = limits::limit_arenas();
    logging::start(&settings.log, settings.log_format)?;
    if let Err(error) = arenas {
        tracing::warn!(%error, "the allocator's arenas were not limited; more memory is used");
    }
    limits::raise_open_files();
    let doors =
        Doors { clock: Arc::new(SystemClock::new()), entropy: Arc::new(SystemEntropy::new()) };
    let found = directories::inspect(&settings.directories)?;
    let mut locks = Vec::new();
    for directory in found.iter().filter(|directory| directory.path.exists()) {
        locks.push(directories::lock(&directory.path)?);
    }
    let plan = directories::decide(found, settings.coding, &*doors.entropy)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = runtime.block_on(serve_until_stopped(&settings, plan, locks, doors))?;
    // Whatever still runs in a blocking thread has nothing to say any more.
    runtime.shutdown_timeout(Duration::from_secs(5));
    Ok(code)
}

async fn serve_until_stopped(
    settings: &ServerSettings,
    mut plan: Plan,
    mut locks: Vec<DirectoryLock>,
    doors: Doors,
) -> Result<ExitCode> {
    let bind = async |address| {
        TcpListener::bind(address).await.with_context(|| format!("can't listen on {address}"))
    };
    // Before anything is written: a second server on the same port must leave no trace.
    let s3_listener = bind(settings.listen).await?;
    let admin_listener = bind(settings.admin_listen).await?;
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

    let replicas = replicas::start(&plan, &doors, START_PATIENCE).await?;
    if !plan.founded {
        plan.founded = true;
        directories::format(&plan, &secrets)?;
    }
    let disks = disks::start(&plan, replicas.client(), &doors).await?;
    let writer = Writer::open(Arc::clone(replicas.client()), GATEWAY_NAME)
        .await
        .context("no writer session could be opened")?;
    let engine = Engine::new(EngineParts {
        metadata: Arc::new(writer),
        shards: disks.network(),
        clock: Arc::clone(&doors.clock),
        entropy: Arc::clone(&doors.entropy),
        cluster_key,
        options: EngineOptions {
            garbage_delay: settings.garbage_delay,
            ..EngineOptions::default()
        },
    });
    let jobs = Arc::new(ScrubJobs::new(engine.clone(), Arc::clone(&doors.clock)));
    let gateway = gateway(settings, &root, engine.clone(), &doors);
    let (stop, stopping) = watch::channel(false);
    let s3_address = s3_listener.local_addr()?;
    let admin_address = admin_listener.local_addr()?;
    let s3 = tokio::spawn(serve(
        s3_listener,
        gateway,
        ListenerOptions::default(),
        Arc::clone(&doors.clock),
        stopping.clone(),
    ));
    let admin = tokio::spawn(serve(
        admin_listener,
        admin_handler(&replicas, metrics, &jobs),
        ListenerOptions::default(),
        Arc::clone(&doors.clock),
        stopping,
    ));
    // Whoever reads the greeting may ask for the end at once.
    let orders = signals::Orders::catch()?;
    greeting::print(&greeting::Greeting {
        plan: &plan,
        s3: s3_address,
        admin: admin_address,
        root: &root,
        generated: settings.root.is_none(),
        region: &settings.region,
    });

    orders.wait().await;
    tracing::info!("stopping: requests in flight are finished first");
    stop.send_replace(true);
    let stopped = [s3.await?, admin.await?];
    jobs.stop_all().await;
    engine.shutdown().await;
    disks.stop().await;
    replicas.stop().await;
    drop(locks);
    for outcome in stopped {
        if let Stopped::CutOff(connections) = outcome {
            bail!("{connections} connections did not end in time and were cut off");
        }
    }
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
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

fn gateway(
    settings: &ServerSettings,
    root: &RootCredentials,
    engine: Engine,
    doors: &Doors,
) -> Arc<Gateway> {
    let options = GatewayOptions {
        region: settings.region.clone(),
        domains: settings.domains.clone(),
        root: gateway::auth::RootCredentials {
            access_key: root.access_key.clone(),
            secret_key: Secret::new(root.secret_key.clone()),
        },
        owner: Identity { id: "drystone".to_owned(), display_name: "drystone".to_owned() },
    };
    let (clock, entropy) = (Arc::clone(&doors.clock), Arc::clone(&doors.entropy));
    Arc::new(Gateway::new(engine, clock, entropy, options))
}

fn admin_handler(
    replicas: &replicas::Replicas,
    metrics: PrometheusHandle,
    jobs: &Arc<ScrubJobs>,
) -> Arc<AdminHandler> {
    let gatherer = StatusGatherer::new(Arc::clone(replicas.client()), replicas.places());
    Arc::new(AdminHandler::new(gatherer, Arc::new(move || metrics.render()), Arc::clone(jobs)))
}
