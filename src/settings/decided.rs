//! The settings of each role, decided and valid: what the composition of the roles is given.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use gateway::remote_store::RemoteSettings;
use model::coding::Coding;

use super::effective::Effective;
use super::mistakes::Mistakes;
use super::remote_backups;
use super::table::{Role, key};
use super::together;
use super::value::LogFormat;

/// The settings of a role.
pub trait RoleSettings: Sized {
    /// The role.
    const ROLE: Role;

    /// Takes the values, and reads the files that hold some. `None` only where a value is missing,
    /// which is a mistake that was noted, as every other.
    fn decide(effective: &Effective, mistakes: &mut Mistakes) -> Option<Self>;
}

/// What the operator says the root identity is.
#[derive(Clone)]
pub struct RootCredentials {
    /// The access key.
    pub access_key: String,
    /// The secret key.
    pub secret_key: String,
}

/// What the S3 listener speaks TLS with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain, PEM.
    pub certificate: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
}

/// Settings of `drystone server`.
pub struct ServerSettings {
    /// Data directories.
    pub directories: Vec<PathBuf>,
    /// What this process knows about its cluster; `None` where it stands alone.
    pub host_directory: Option<PathBuf>,
    /// The S3 listener.
    pub listen: SocketAddr,
    /// What the S3 listener speaks TLS with; `None` for plain HTTP.
    pub tls: Option<TlsFiles>,
    /// The admin listener.
    pub admin_listen: SocketAddr,
    /// The internal listener; `None` for that of the host directory. Always `None` without one.
    pub cluster_listen: Option<SocketAddr>,
    /// The coding, if the operator chose one.
    pub coding: Option<Coding>,
    /// The region.
    pub region: String,
    /// Domains of virtual-hosted-style requests.
    pub domains: Vec<String>,
    /// How long garbage is kept.
    pub garbage_delay: Duration,
    /// How long deleted shards stay recoverable.
    pub recoverable: Duration,
    /// How long to go on serving after the order to stop.
    pub drain_delay: Duration,
    /// How often the metadata is backed up into the store; `None` for never.
    pub backup_interval: Option<Duration>,
    /// How many of these backups are kept.
    pub backup_keep: usize,
    /// The other S3 endpoint that backups go to; `None` for none.
    pub backup_remote: Option<RemoteSettings>,
    /// The log filter.
    pub log: String,
    /// The log format.
    pub log_format: LogFormat,
    /// The root identity, if the operator chose one.
    pub root: Option<RootCredentials>,
    /// What is allowed but unwise; to be logged once there is a log.
    pub warnings: Vec<String>,
}

/// Settings of `drystone metadata`.
pub struct MetadataSettings {
    /// What this process knows about itself and its cluster.
    pub host_directory: PathBuf,
    /// The directory of the replica.
    pub directory: PathBuf,
    /// The admin listener.
    pub admin_listen: SocketAddr,
    /// The internal listener; `None` for that of the host directory.
    pub cluster_listen: Option<SocketAddr>,
    /// The log filter.
    pub log: String,
    /// The log format.
    pub log_format: LogFormat,
    /// What is allowed but unwise; to be logged once there is a log.
    pub warnings: Vec<String>,
}

/// Settings of `drystone storage-node`.
pub struct StorageNodeSettings {
    /// What this process knows about itself and its cluster.
    pub host_directory: PathBuf,
    /// Data directories, at least one.
    pub directories: Vec<PathBuf>,
    /// How long deleted shards stay recoverable.
    pub recoverable: Duration,
    /// The admin listener.
    pub admin_listen: SocketAddr,
    /// The internal listener; `None` for that of the host directory.
    pub cluster_listen: Option<SocketAddr>,
    /// The log filter.
    pub log: String,
    /// The log format.
    pub log_format: LogFormat,
    /// What is allowed but unwise; to be logged once there is a log.
    pub warnings: Vec<String>,
}

/// Settings of `drystone gateway`.
pub struct GatewaySettings {
    /// What this process knows about itself and its cluster.
    pub host_directory: PathBuf,
    /// The S3 listener.
    pub listen: SocketAddr,
    /// What the S3 listener speaks TLS with; `None` for plain HTTP.
    pub tls: Option<TlsFiles>,
    /// The admin listener.
    pub admin_listen: SocketAddr,
    /// The internal listener; `None` for that of the host directory.
    pub cluster_listen: Option<SocketAddr>,
    /// The region.
    pub region: String,
    /// Domains of virtual-hosted-style requests.
    pub domains: Vec<String>,
    /// How long garbage is kept.
    pub garbage_delay: Duration,
    /// How long to go on serving after the order to stop.
    pub drain_delay: Duration,
    /// How often the metadata is backed up into the store; `None` for never.
    pub backup_interval: Option<Duration>,
    /// How many of these backups are kept.
    pub backup_keep: usize,
    /// The other S3 endpoint that backups go to; `None` for none.
    pub backup_remote: Option<RemoteSettings>,
    /// The log filter.
    pub log: String,
    /// The log format.
    pub log_format: LogFormat,
    /// What is allowed but unwise; to be logged once there is a log.
    pub warnings: Vec<String>,
}

impl RoleSettings for ServerSettings {
    const ROLE: Role = Role::Server;

    fn decide(effective: &Effective, mistakes: &mut Mistakes) -> Option<Self> {
        let tls = together::tls(effective);
        let backup_remote = remote_backups::decide(effective, mistakes);
        let root = together::root(effective, mistakes);
        Some(Self {
            directories: effective.paths(key::DIRECTORIES)?,
            host_directory: effective.path(key::HOST_DIRECTORY),
            listen: effective.address(key::LISTEN)?,
            admin_listen: effective.address(key::ADMIN_LISTEN)?,
            cluster_listen: effective.address(key::CLUSTER_LISTEN),
            coding: effective.coding(key::CODING),
            region: effective.text(key::REGION)?,
            domains: effective.texts(key::DOMAIN)?,
            garbage_delay: Duration::from_secs(effective.seconds(key::GARBAGE_DELAY_SECONDS)?),
            recoverable: Duration::from_secs(effective.seconds(key::RECOVERABLE_SECONDS)?),
            drain_delay: Duration::from_secs(effective.seconds(key::DRAIN_DELAY_SECONDS)?),
            backup_interval: interval(effective.seconds(key::BACKUP_INTERVAL_SECONDS)?),
            backup_keep: usize::try_from(effective.count(key::BACKUP_KEEP)?).ok()?,
            backup_remote,
            log: effective.text(key::LOG)?,
            log_format: effective.log_format(key::LOG_FORMAT)?,
            warnings: warnings(effective, tls.as_ref()),
            tls,
            root,
        })
    }
}

impl RoleSettings for MetadataSettings {
    const ROLE: Role = Role::Metadata;

    fn decide(effective: &Effective, _mistakes: &mut Mistakes) -> Option<Self> {
        Some(Self {
            host_directory: effective.path(key::HOST_DIRECTORY)?,
            directory: effective.path(key::DIRECTORY)?,
            admin_listen: effective.address(key::ADMIN_LISTEN)?,
            cluster_listen: effective.address(key::CLUSTER_LISTEN),
            log: effective.text(key::LOG)?,
            log_format: effective.log_format(key::LOG_FORMAT)?,
            warnings: warnings(effective, None),
        })
    }
}

impl RoleSettings for StorageNodeSettings {
    const ROLE: Role = Role::StorageNode;

    fn decide(effective: &Effective, _mistakes: &mut Mistakes) -> Option<Self> {
        Some(Self {
            host_directory: effective.path(key::HOST_DIRECTORY)?,
            directories: effective.paths(key::DIRECTORIES)?,
            recoverable: Duration::from_secs(effective.seconds(key::RECOVERABLE_SECONDS)?),
            admin_listen: effective.address(key::ADMIN_LISTEN)?,
            cluster_listen: effective.address(key::CLUSTER_LISTEN),
            log: effective.text(key::LOG)?,
            log_format: effective.log_format(key::LOG_FORMAT)?,
            warnings: warnings(effective, None),
        })
    }
}

impl RoleSettings for GatewaySettings {
    const ROLE: Role = Role::Gateway;

    fn decide(effective: &Effective, mistakes: &mut Mistakes) -> Option<Self> {
        let tls = together::tls(effective);
        let backup_remote = remote_backups::decide(effective, mistakes);
        Some(Self {
            host_directory: effective.path(key::HOST_DIRECTORY)?,
            listen: effective.address(key::LISTEN)?,
            admin_listen: effective.address(key::ADMIN_LISTEN)?,
            cluster_listen: effective.address(key::CLUSTER_LISTEN),
            region: effective.text(key::REGION)?,
            domains: effective.texts(key::DOMAIN)?,
            garbage_delay: Duration::from_secs(effective.seconds(key::GARBAGE_DELAY_SECONDS)?),
            drain_delay: Duration::from_secs(effective.seconds(key::DRAIN_DELAY_SECONDS)?),
            backup_interval: interval(effective.seconds(key::BACKUP_INTERVAL_SECONDS)?),
            backup_keep: usize::try_from(effective.count(key::BACKUP_KEEP)?).ok()?,
            backup_remote,
            log: effective.text(key::LOG)?,
            log_format: effective.log_format(key::LOG_FORMAT)?,
            warnings: warnings(effective, tls.as_ref()),
            tls,
        })
    }
}

/// An interval, of which 0 seconds mean never.
fn interval(seconds: u64) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

fn warnings(effective: &Effective, tls: Option<&TlsFiles>) -> Vec<String> {
    let key = tls.map(|tls| tls.key.as_path());
    let more = [key.and_then(together::readable_by_others), remote_backups::unwise(effective)];
    effective.warnings.iter().cloned().chain(more.into_iter().flatten()).collect()
}
