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
use gateway::{Gateway, GatewayOptions, Identity};
use metadata::backup::schedule::Schedule;
use metadata::client::MetadataClient;
use model::shard::{ShardRequest, ShardResponse};
use wire::network::Network;

use super::backups::Backups;
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
    /// When backups of the metadata are taken into the store; `None` for never.
    pub backups: Option<Schedule>,
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
        }
    }
}

fn schedule(interval: Option<Duration>, keep: usize) -> Option<Schedule> {
    interval.map(|interval| Schedule { interval, keep })
}

/// Whose the buckets are.
const OWNER: &str = "drystone";

/// What a gateway works with.
pub struct GatewayParts {
    /// The metadata's replicas, for their backups.
    pub client: Arc<MetadataClient>,
    /// The way to the metadata.
    pub metadata: Arc<dyn Metadata>,
    /// The way to the disks.
    pub shards: Arc<dyn Network<ShardRequest, ShardResponse>>,
    /// Seals owner records.
    pub cluster_key: [u8; 32],
    /// The root identity.
    pub root: RootCredentials,
}

/// A running gateway, without its listeners.
pub struct GatewayRole {
    engine: Engine,
    gateway: Arc<Gateway>,
    jobs: Arc<ScrubJobs>,
    backups: Mutex<Option<Backups>>,
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
                garbage_delay: settings.garbage_delay,
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
        let start = |schedule| Backups::start(&engine, parts.client, OWNER.to_owned(), schedule);
        let backups = Mutex::new(settings.backups.map(start).transpose()?);
        Ok(Self { engine, gateway, jobs, backups })
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
