//! The settings of `drystone server`: flag over environment over file over default.
//!
//! In come the parsed command line (clap has read flags and environment) and the TOML file that
//! it may name; out goes [`ServerSettings`], in which everything is decided and valid. Nothing
//! else of the program reads the environment.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use model::coding::Coding;
use serde::Deserialize;

/// Directories of a server that was given none.
const DEFAULT_DIRECTORIES: usize = 6;

/// What is logged by default: our own news, and the consensus library's only when it worries.
const LOG_FILTER: &str = "info,openraft=warn";

/// How long the shards of a deleted object are kept, so that reads under way can end.
const GARBAGE_DELAY: Duration = Duration::from_mins(10);

/// Flags of `drystone server`, each with its environment variable.
#[derive(Args, Debug)]
pub struct ServerArguments {
    /// Data directories, one per disk [default: six below ./drystone-data].
    #[arg(value_name = "DIR", env = "DRYSTONE_DIRECTORIES", value_delimiter = ',')]
    directories: Vec<PathBuf>,

    /// Address and port of the S3 listener [default: 127.0.0.1:9000].
    #[arg(long, value_name = "ADDRESS", env = "DRYSTONE_LISTEN")]
    listen: Option<SocketAddr>,

    /// Address and port of the admin listener: metrics, health, status [default: 127.0.0.1:9001].
    #[arg(long, value_name = "ADDRESS", env = "DRYSTONE_ADMIN_LISTEN")]
    admin_listen: Option<SocketAddr>,

    /// Data and parity shards of each stripe [default: 4+2, or the best that fewer directories
    /// allow]. Decided when the store is made.
    #[arg(long, value_name = "K+M", env = "DRYSTONE_CODING", value_parser = parse_coding)]
    coding: Option<Coding>,

    /// A TOML file with the same settings, named as the flags, with _ for -.
    #[arg(long, value_name = "FILE", env = "DRYSTONE_CONFIG")]
    config: Option<PathBuf>,

    /// The region that requests are signed for [default: us-east-1].
    #[arg(long, value_name = "REGION", env = "DRYSTONE_REGION")]
    region: Option<String>,

    /// Serve buckets as BUCKET.DOMAIN too (virtual-hosted style); may be repeated
    /// [default: localhost].
    #[arg(long, value_name = "DOMAIN", env = "DRYSTONE_DOMAIN", value_delimiter = ',')]
    domain: Vec<String>,

    /// Seconds that the shards of deleted and overwritten objects are kept [default: 600].
    #[arg(long, value_name = "SECONDS", env = "DRYSTONE_GARBAGE_DELAY_SECONDS")]
    garbage_delay_seconds: Option<u64>,

    /// What to log, as a tracing filter such as `info` or `warn,engine=debug` [default:
    /// info,openraft=warn].
    #[arg(long, value_name = "FILTER", env = "DRYSTONE_LOG")]
    log: Option<String>,

    /// How to log [default: text].
    #[arg(long, value_name = "FORMAT", env = "DRYSTONE_LOG_FORMAT")]
    log_format: Option<LogFormat>,

    /// Access key of the root identity [default: made at the first start].
    #[arg(long, value_name = "KEY", env = "DRYSTONE_ROOT_ACCESS_KEY", hide_env_values = true)]
    root_access_key: Option<String>,

    /// Secret key of the root identity; best given by the environment, where other users of the
    /// machine can't see it [default: made at the first start].
    #[arg(long, value_name = "KEY", env = "DRYSTONE_ROOT_SECRET_KEY", hide_env_values = true)]
    root_secret_key: Option<String>,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The settings file. A key that isn't here is an error.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SettingsFile {
    directories: Option<Vec<PathBuf>>,
    listen: Option<SocketAddr>,
    admin_listen: Option<SocketAddr>,
    coding: Option<String>,
    region: Option<String>,
    domain: Option<Vec<String>>,
    garbage_delay_seconds: Option<u64>,
    log: Option<String>,
    log_format: Option<LogFormat>,
    root_access_key: Option<String>,
    root_secret_key: Option<String>,
}

/// What the operator says the root identity is.
#[derive(Clone)]
pub struct RootCredentials {
    /// The access key.
    pub access_key: String,
    /// The secret key.
    pub secret_key: String,
}

/// Settings of `drystone server`, decided and valid.
pub struct ServerSettings {
    /// Data directories.
    pub directories: Vec<PathBuf>,
    /// The S3 listener.
    pub listen: SocketAddr,
    /// The admin listener.
    pub admin_listen: SocketAddr,
    /// The coding, if the operator chose one.
    pub coding: Option<Coding>,
    /// The region.
    pub region: String,
    /// Domains of virtual-hosted-style requests.
    pub domains: Vec<String>,
    /// How long garbage is kept.
    pub garbage_delay: Duration,
    /// The log filter.
    pub log: String,
    /// The log format.
    pub log_format: LogFormat,
    /// The root identity, if the operator chose one.
    pub root: Option<RootCredentials>,
}

impl ServerArguments {
    /// Decides every setting.
    pub fn resolve(&self) -> Result<ServerSettings> {
        let file = self.config.as_deref().map(read_file).transpose()?.unwrap_or_default();
        let coding = match (self.coding, &file.coding) {
            (Some(coding), _) => Some(coding),
            (None, Some(text)) => Some(Coding::parse(text)?),
            (None, None) => None,
        };
        let directories = if self.directories.is_empty() {
            file.directories.unwrap_or_else(default_directories)
        } else {
            self.directories.clone()
        };
        ensure!(!directories.is_empty(), "at least one data directory is needed");
        let domains = if self.domain.is_empty() {
            file.domain.unwrap_or_else(|| vec!["localhost".to_owned()])
        } else {
            self.domain.clone()
        };
        let delay = self.garbage_delay_seconds.or(file.garbage_delay_seconds);
        Ok(ServerSettings {
            directories,
            listen: self.listen.or(file.listen).unwrap_or(SocketAddr::from(([127, 0, 0, 1], 9000))),
            admin_listen: self
                .admin_listen
                .or(file.admin_listen)
                .unwrap_or(SocketAddr::from(([127, 0, 0, 1], 9001))),
            coding,
            region: pick(self.region.as_ref(), file.region, "us-east-1"),
            domains,
            garbage_delay: delay.map_or(GARBAGE_DELAY, Duration::from_secs),
            log: pick(self.log.as_ref(), file.log, LOG_FILTER),
            log_format: self.log_format.or(file.log_format).unwrap_or_default(),
            root: root_credentials(
                self.root_access_key.clone().or(file.root_access_key),
                self.root_secret_key.clone().or(file.root_secret_key),
            )?,
        })
    }
}

fn pick(argument: Option<&String>, file: Option<String>, default: &str) -> String {
    argument.cloned().or(file).unwrap_or_else(|| default.to_owned())
}

fn parse_coding(text: &str) -> Result<Coding, model::coding::CodingError> {
    Coding::parse(text)
}

fn default_directories() -> Vec<PathBuf> {
    (1..=DEFAULT_DIRECTORIES).map(|n| Path::new("drystone-data").join(format!("disk{n}"))).collect()
}

fn read_file(path: &Path) -> Result<SettingsFile> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("the configuration file {} can't be read", path.display()))?;
    toml::from_str(&text)
        .with_context(|| format!("the configuration file {} is not valid", path.display()))
}

fn root_credentials(
    access_key: Option<String>,
    secret_key: Option<String>,
) -> Result<Option<RootCredentials>> {
    let (access_key, secret_key) = match (access_key, secret_key) {
        (Some(access_key), Some(secret_key)) => (access_key, secret_key),
        (None, None) => return Ok(None),
        _ => bail!(
            "DRYSTONE_ROOT_ACCESS_KEY and DRYSTONE_ROOT_SECRET_KEY belong together: set both or none"
        ),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+=@".contains(&byte);
    ensure!(
        (3..=128).contains(&access_key.len()) && access_key.bytes().all(plain),
        "the root access key must have 3 to 128 letters, digits or any of - _ . + = @"
    );
    ensure!(secret_key.len() >= 8, "the root secret key must have at least 8 characters");
    Ok(Some(RootCredentials { access_key, secret_key }))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        server: ServerArguments,
    }

    fn resolve(arguments: &[&str]) -> Result<ServerSettings> {
        let line = ["drystone"].iter().chain(arguments);
        Line::try_parse_from(line)?.server.resolve()
    }

    #[test]
    fn defaults() {
        let settings = resolve(&[]).expect("valid");
        assert_eq!(settings.directories.len(), 6);
        assert_eq!(settings.listen.to_string(), "127.0.0.1:9000");
        assert_eq!(settings.region, "us-east-1");
    }

    #[test]
    fn a_flag_beats_the_file_and_the_file_the_default() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("drystone.toml");
        std::fs::write(&path, "coding = \"2+1\"\nregion = \"eu-west-1\"\n").expect("written");
        let path = path.to_str().expect("UTF-8");
        let settings = resolve(&["--config", path, "--region", "xy"]).expect("valid");
        assert_eq!(settings.region, "xy");
        assert_eq!(settings.coding.map(|c| c.to_string()).as_deref(), Some("2+1"));
    }

    #[test]
    fn mistakes_are_named() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("drystone.toml");
        std::fs::write(&path, "lisden = \"127.0.0.1:1\"\n").expect("written");
        let error = resolve(&["--config", path.to_str().expect("UTF-8")]).err().expect("refused");
        assert!(format!("{error:#}").contains("lisden"), "{error:#}");
        assert!(resolve(&["--coding", "9"]).is_err());
        assert!(resolve(&["--root-access-key", "abc"]).is_err());
        assert!(resolve(&["--listen", "nowhere"]).is_err());
    }
}
