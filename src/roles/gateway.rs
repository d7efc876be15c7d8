//! The gateway of a process: object engine, S3 protocol, scrub jobs, backups of the metadata.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use engine::{Engine, EngineOptions, EngineParts, Metadata};
use gateway::admin::ScrubJobs;
use gateway::auth::Secret;
use gateway::http::listener::ListenerOptions;
use gateway::http::tls::Tls;
use gateway::remote_store::RemoteSettings;
use gateway::{Gateway, GatewayOptions, Identity};
use metadata::backup::BackupProgress;
use metadata::backup::schedule::Schedule;
use metadata::client::MetadataClient;
use model::ids::{ClusterId, NodeId};
use model::shard::{ShardRequest, ShardResponse};
use wire::network::Network;

use super::backups::{Backups, Targets};
use crate::process::Doors;
use crate::settings::{GatewaySettings, RootCredentials, ServerSettings, TlsFiles};

/// Settings of a gateway, in whichever process it is.
pub struct GatewayPart {
    /// The S3 listener.
    pub listen: SocketAddr,
    /// What it speaks TLS with.
    pub tls: Option<TlsFiles>,
    /// The region.
    pub region: String,
    /// Domains of virtual-hosted-style requests.
    pub domains: Vec<String>,
    /// How long garbage is kept.
    pub garbage_delay: Duration,
    /// How long to go on serving after the order to stop, so that balancers notice.
    pub drain_delay: Duration,
    /// When backups of the metadata are taken; `None` for never.
    pub backups: Option<Schedule>,
    /// The other S3 endpoint that they go to, besides the store itself.
    pub backup_remote: Option<RemoteSettings>,
}

impl GatewayPart {
    /// How the S3 listener is to be.
    pub fn listener_options(&self) -> Result<ListenerOptions> {
        let tls = match &self.tls {
            Some(files) => Some(Tls::load(&files.certificate, &files.key)?),
            None => None,
        };
        Ok(ListenerOptions { tls, drain_delay: self.drain_delay, ..ListenerOptions::default() })
    }

    /// How clients speak to it.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

impl From<&GatewaySettings> for GatewayPart {
    fn from(settings: &GatewaySettings) -> Self {
        Self {
            listen: settings.listen,
            tls: settings.tls.clone(),
            region: settings.region.clone(),
            domains: settings.domains.clone(),
            garbage_delay: settings.garbage_delay,
            drain_delay: settings.drain_delay,
            backups: schedule(settings.backup_interval, settings.backup_keep),
            backup_remote: settings.backup_remote.clone(),
        }
    }
}

impl From<&ServerSettings> for GatewayPart {
    fn from(settings: &ServerSettings) -> Self {
        Self {
            listen: settings.listen,
            tls: settings.tls.clone(),
            region: settings.region.clone(),
            domains: settings.domains.clone(),
            garbage_delay: settings.garbage_delay,
            drain_delay: settings.drain_delay,
            backups: schedule(settings.backup_interval, settings.backup_keep),
            backup_remote: settings.backup_remote.clone(),
        }
    }
}

fn schedule(interval: Option<Duration>, keep: usize) -> Option<Schedule> {
    interval.map(|interval| Schedule { interval, keep })
}

/// What moves leave behind is kept as long as garbage, so that reads under way can end, and at least
/// until every gateway has the map in which it moved.
const STRAY_GRACE_MIN: Duration = Duration::from_secs(15);

/// Whose the buckets are.
const OWNER: &str = "drystone";

/// What a gateway works with.
pub struct GatewayParts {
    /// The metadata's replicas, for their backups.
    pub client: Arc<MetadataClient>,
    /// The node of this process, in a cluster of several.
    pub node: Option<NodeId>,
    /// The way to the metadata.
    pub metadata: Arc<dyn Metadata>,
    /// The way to the disks.
    pub shards: Arc<dyn Network<ShardRequest, ShardResponse>>,
    /// Seals owner records.
    pub cluster_key: [u8; 32],
    /// The root identity.
    pub root: RootCredentials,
    /// The cluster, by which its backups elsewhere are known.
    pub cluster: ClusterId,
}

/// A running gateway, without its listeners.
pub struct GatewayRole {
    engine: Engine,
    gateway: Arc<Gateway>,
    jobs: Arc<ScrubJobs>,
    backups: Mutex<Option<Backups>>,
    backup_progress: Vec<Arc<BackupProgress>>,
}

impl GatewayRole {
    /// Starts it; work in the background begins at once.
    pub fn start(parts: GatewayParts, settings: &GatewayPart, doors: &Doors) -> Result<Self> {
        let engine = Engine::new(EngineParts {
            metadata: parts.metadata,
            shards: parts.shards,
            clock: Arc::clone(&doors.clock),
            entropy: Arc::clone(&doors.entropy),
            cluster_key: parts.cluster_key,
            options: EngineOptions {
                node: parts.node,
                garbage_delay: settings.garbage_delay,
                stray_grace: settings.garbage_delay.max(STRAY_GRACE_MIN),
                ..EngineOptions::default()
            },
        });
        let jobs = Arc::new(ScrubJobs::new(engine.clone(), Arc::clone(&doors.clock)));
        let options = GatewayOptions {
            region: settings.region.clone(),
            domains: settings.domains.clone(),
            root: gateway::auth::RootCredentials {
                access_key: parts.root.access_key,
                secret_key: Secret::new(parts.root.secret_key),
            },
            owner: Identity { id: OWNER.to_owned(), display_name: OWNER.to_owned() },
        };
        let (clock, entropy) = (Arc::clone(&doors.clock), Arc::clone(&doors.entropy));
        let gateway = Arc::new(Gateway::new(engine.clone(), clock, entropy, options));
        let start = |schedule| {
            let remote = settings.backup_remote.clone();
            let targets = Targets { cluster: parts.cluster, owner: OWNER.to_owned(), remote };
            Backups::start(&engine, parts.client, targets, schedule)
        };
        let backups = settings.backups.map(start).transpose()?;
        let backup_progress = backups.as_ref().map(Backups::progress).unwrap_or_default();
        Ok(Self { engine, gateway, jobs, backups: Mutex::new(backups), backup_progress })
    }

    /// Its engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Answers S3 requests.
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// Its scrubs.
    pub fn jobs(&self) -> &Arc<ScrubJobs> {
        &self.jobs
    }

    /// What becomes of the backups, by target; none where none are taken.
    pub fn backup_progress(&self) -> Vec<Arc<BackupProgress>> {
        self.backup_progress.clone()
    }

    /// Ends the work in the background; its listeners must have ended before.
    pub async fn stop(&self) {
        self.jobs.stop_all().await;
        let backups = self.backups.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(backups) = backups {
            backups.stop().await;
        }
        self.engine.shutdown().await;
    }
}
