//! The table of all settings: which there are, of what kind, of which roles, and what holds when
//! nobody says anything.
//!
//! One rule gives a setting its names. The TOML key `a_b` is the flag `--a-b` and the environment
//! variable `DRYSTONE_A_B`. Settings that are arguments rather than flags ([`Form::Argument`])
//! follow the rule in the file and the environment. Everything else (the command line and its
//! help, the file, `drystone config`) is derived from this table.

use super::value::Kind;

/// What a process is: the name of its subcommand, and which settings it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `drystone server`: all roles in one process.
    Server,
    /// `drystone metadata`.
    Metadata,
    /// `drystone storage-node`.
    StorageNode,
    /// `drystone gateway`.
    Gateway,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Server, Self::Metadata, Self::StorageNode, Self::Gateway];

    /// The name of the subcommand.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Metadata => "metadata",
            Self::StorageNode => "storage-node",
            Self::Gateway => "gateway",
        }
    }
}

/// How a setting stands on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As `--name VALUE`.
    Flag,
    /// As an argument without a name.
    Argument,
}

/// What holds when a setting is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// These values, as if they had been given.
    Values(&'static [&'static str]),
    /// This name in the host directory.
    InHostDirectory(&'static str),
    /// The setting stays unset, which means this.
    Unset(&'static str),
    /// Nothing: it must be given.
    Required,
}

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// Its TOML key, of which the other names are made.
    pub key: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// The roles that have it.
    pub roles: &'static [Role],
    /// How it stands on the command line.
    pub form: Form,
    /// Whether its value is never to be shown.
    pub is_secret: bool,
    /// What the help calls its value.
    pub value_name: &'static str,
    /// What it is, for the help: a sentence without its full stop.
    pub help: &'static str,
    /// What holds without it, in a role that has it.
    pub fallback: fn(Role) -> Fallback,
}

impl Setting {
    /// The flag, with its dashes.
    pub fn flag(&self) -> String {
        format!("--{}", self.long())
    }

    /// The flag without the dashes in front.
    pub fn long(&self) -> String {
        self.key.replace('_', "-")
    }

    /// The environment variable.
    pub fn environment(&self) -> String {
        format!("DRYSTONE_{}", self.key.to_ascii_uppercase())
    }

    /// Whether processes of `role` have this setting.
    pub fn is_of(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }
}

/// The settings of `role`, in the order in which help and files tell them.
pub fn settings_of(role: Role) -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(move |setting| setting.is_of(role))
}

/// The setting with this TOML key, of whatever role.
pub fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

/// The TOML keys, for those who ask for values.
pub mod key {
    pub const DIRECTORIES: &str = "directories";
    pub const DIRECTORY: &str = "directory";
    pub const HOST_DIRECTORY: &str = "host_directory";
    pub const LISTEN: &str = "listen";
    pub const TLS_CERTIFICATE: &str = "tls_certificate";
    pub const TLS_KEY: &str = "tls_key";
    pub const ADMIN_LISTEN: &str = "admin_listen";
    pub const CLUSTER_LISTEN: &str = "cluster_listen";
    pub const CODING: &str = "coding";
    pub const REGION: &str = "region";
    pub const DOMAIN: &str = "domain";
    pub const GARBAGE_DELAY_SECONDS: &str = "garbage_delay_seconds";
    pub const RECOVERABLE_SECONDS: &str = "recoverable_seconds";
    pub const DRAIN_DELAY_SECONDS: &str = "drain_delay_seconds";
    pub const BACKUP_INTERVAL_SECONDS: &str = "backup_interval_seconds";
    pub const BACKUP_KEEP: &str = "backup_keep";
    pub const BACKUP_ENDPOINT: &str = "backup_endpoint";
    pub const BACKUP_BUCKET: &str = "backup_bucket";
    pub const BACKUP_PREFIX: &str = "backup_prefix";
    pub const BACKUP_REGION: &str = "backup_region";
    pub const BACKUP_ACCESS_KEY: &str = "backup_access_key";
    pub const BACKUP_SECRET_KEY: &str = "backup_secret_key";
    pub const BACKUP_SECRET_KEY_FILE: &str = "backup_secret_key_file";
    pub const BACKUP_CA: &str = "backup_ca";
    pub const LOG: &str = "log";
    pub const LOG_FORMAT: &str = "log_format";
    pub const ROOT_ACCESS_KEY: &str = "root_access_key";
    pub const ROOT_SECRET_KEY: &str = "root_secret_key";
    pub const ROOT_SECRET_KEY_FILE: &str = "root_secret_key_file";
}

const ALL: &[Role] = &Role::ALL;
const SPEAKS_S3: &[Role] = &[Role::Server, Role::Gateway];

/// The directories of a server that was given none.
const SERVER_DIRECTORIES: &[&str] = &[
    "drystone-data/disk1",
    "drystone-data/disk2",
    "drystone-data/disk3",
    "drystone-data/disk4",
    "drystone-data/disk5",
    "drystone-data/disk6",
];

/// All settings.
pub static SETTINGS: [Setting; 29] = [
    Setting {
        key: key::DIRECTORIES,
        kind: Kind::Paths,
        roles: &[Role::Server, Role::StorageNode],
        form: Form::Argument,
        is_secret: false,
        value_name: "DIR",
        help: "Data directories, one per disk",
        fallback: |role| match role {
            Role::Server => Fallback::Values(SERVER_DIRECTORIES),
            _ => Fallback::Required,
        },
    },
    Setting {
        key: key::DIRECTORY,
        kind: Kind::Path,
        roles: &[Role::Metadata],
        form: Form::Argument,
        is_secret: false,
        value_name: "DIR",
        help: "The directory of this process's metadata replica; best on a fast disk of its own",
        fallback: |_| Fallback::InHostDirectory("metadata"),
    },
    Setting {
        key: key::HOST_DIRECTORY,
        kind: Kind::Path,
        roles: ALL,
        form: Form::Flag,
        is_secret: false,
        value_name: "DIR",
        help: "What this process knows about itself and its cluster, as `drystone cluster init` \
               or `join` made it",
        fallback: |role| match role {
            Role::Server => Fallback::Unset("a server that stands alone"),
            _ => Fallback::Required,
        },
    },
    Setting {
        key: key::LISTEN,
        kind: Kind::Address,
        roles: SPEAKS_S3,
        form: Form::Flag,
        is_secret: false,
        value_name: "ADDRESS",
        help: "Address and port of the S3 listener",
        fallback: |_| Fallback::Values(&["127.0.0.1:9000"]),
    },
    Setting {
        key: key::TLS_CERTIFICATE,
        kind: Kind::Path,
        roles: SPEAKS_S3,
        form: Form::Flag,
        is_secret: false,
        value_name: "FILE",
        help: "The certificate chain of the S3 listener, PEM; read again when it changes",
        fallback: |_| Fallback::Unset("S3 over plain HTTP"),
    },
    Setting {
        key: key::TLS_KEY,
        kind: Kind::Path,
        roles: SPEAKS_S3,
        form: Form::Flag,
        is_secret: false,
        value_name: "FILE",
        help: "The private key of that certificate, PEM",
        fallback: |_| Fallback::Unset("S3 over plain HTTP"),
    },
    Setting {
        key: key::ADMIN_LISTEN,
        kind: Kind::Address,
        roles: ALL,
        form: Form::Flag,
        is_secret: false,
        value_name: "ADDRESS",
        help: "Address and port of the admin listener: metrics, health, status",
        // Apart from one another, so that one host can run every role.
        fallback: |role| match role {
            Role::Server | Role::Gateway => Fallback::Values(&["127.0.0.1:9001"]),
            Role::Metadata => Fallback::Values(&["127.0.0.1:9003"]),
            Role::StorageNode => Fallback::Values(&["127.0.0.1:9004"]),
        },
    },
    Setting {
        key: key::CLUSTER_LISTEN,
        kind: Kind::Address,
        roles: ALL,
        form: Form::Flag,
        is_secret: false,
        value_name: "ADDRESS",
        help: "Address and port of the internal listener, for the other processes of the cluster",
        fallback: |_| Fallback::Unset("all interfaces, the port under which the process joined"),
    },
    Setting {
        key: key::CODING,
        kind: Kind::Coding,
        roles: &[Role::Server],
        form: Form::Flag,
        is_secret: false,
        value_name: "K+M",
        help: "Data and parity shards of each stripe; decided when the store is made",
        fallback: |_| Fallback::Unset("4+2, or the best that fewer directories allow"),
    },
    Setting {
        key: key::REGION,
        kind: Kind::Region,
        roles: SPEAKS_S3,
        form: Form::Flag,
        is_secret: false,
        value_name: "REGION",
        help: "The region that requests are signed for",
        fallback: |_| Fallback::Values(&["us-east-1"]),
    },
    Setting {
        key: key::DOMAIN,
        kind: Kind::Domains,
        roles: SPEAKS_S3,
        form: Form::Flag,
        is_secret: false,
        value_name: "DOMAIN",
        help: "Serve buckets as BUCKET.DOMAIN too (virtual-hosted style); may be repeated",
        fallback: |_| Fallback::Values(&["localhost"]),
    },
    Setting {
        key: key::GARBAGE_DELAY_SECONDS,
        kind: Kind::Seconds,
        roles: SPEAKS_S3,
        form: Form::Flag,
        is_secret: false,
        value_name: "SECONDS",
        help: "How long the shards of deleted and overwritten objects are kept",
        // So that reads under way can end.
        fallback: |_| Fallback::Values(&["600"]),
    },
    Setting {
        key: key::RECOVERABLE_SECONDS,
        kind: Kind::Seconds,
        roles: &[Role::Server, Role::StorageNode],
        form: Form::Flag,
        is_secret: false,
        value_name: "SECONDS",
        help: "How long a shard that was deleted stays on its disk, and recoverable",
        fallback: |_| Fallback::Values(&["600"]),
    },
    Setting {
        key: key::DRAIN_DELAY_SECONDS,
        kind: Kind::Seconds,
        roles: SPEAKS_S3,
        form: Form::Flag,
        is_secret: false,
        value_name: "SECONDS",
        help: "How long to go on serving after SIGTERM while /health/ready says 503, so that \
               balancers send no more",
        fallback: |_| Fallback::Values(&["0"]),
    },
    Setting {
        key: key::BACKUP_INTERVAL_SECONDS,
        kind: Kind::Seconds,
        roles: SPEAKS_S3,
        form: Form::Flag,
        is_secret: false,
        value_name: "SECONDS",
        help: "How often the metadata is backed up into the store itself, in the bucket \
               drystone-metadata-backups; 0 for never",
        fallback: |_| Fallback::Values(&["3600"]),
    },
    Setting {
        key: key::BACKUP_KEEP,
        kind: Kind::Count,
        roles: SPEAKS_S3,
        form: Form::Flag,
        is_secret: false,
        value_name: "N",
        help: "How many of these backups are kept",
        fallback: |_| Fallback::Values(&["24"]),
    },
    Setting {
        key: key::BACKUP_ENDPOINT,
        kind: Kind::Endpoint,
        roles: SPEAKS_S3,
        form: Form::Flag,
        is_secret: false,
        value_name: "URL",
        help: "Another S3 endpoint that the metadata is backed up to as well, as http://HOST:PORT or https://HOST",
        fallback: |_| Fallback::Unset("backups into the store itself only"),
    },
    Setting {
        key: key::BACKUP_BUCKET,
        kind: Kind::Bucket,
        roles: SPEAKS_S3,
        form: Form::Flag,
        is_secret: false,
        value_name: "BUCKET",
        help: "The bucket there; it must exist",
        fallback: |_| Fallback::Unset("none"),
    },
    Setting {
        key: key::BACKUP_PREFIX,
        kind: Kind::KeyPrefix,
        roles: SPEAKS_S3,
        form: Form::Flag,
        is_secret: false,
        value_name: "PREFIX",
        help: "What the keys there begin with, before the id of the cluster",
        fallback: |_| Fallback::Unset("nothing"),
    },
    Setting {
        key: key::BACKUP_REGION,
        kind: Kind::Region,
        roles: SPEAKS_S3,
        form: Form::Flag,
        is_secret: false,
        value_name: "REGION",
        help: "The region there",
        fallback: |_| Fallback::Unset("us-east-1"),
    },
    Setting {
        key: key::BACKUP_ACCESS_KEY,
        kind: Kind::AccessKey,
        roles: SPEAKS_S3,
        form: Form::Flag,
        // As with the root identity's.
        is_secret: true,
        value_name: "KEY",
        help: "Access key for that bucket: to list it, and to put, read and delete objects in it",
        fallback: |_| Fallback::Unset("none"),
    },
    Setting {
        key: key::BACKUP_SECRET_KEY,
        kind: Kind::SecretKey,
        roles: SPEAKS_S3,
        form: Form::Flag,
        is_secret: true,
        value_name: "KEY",
        help: "Secret key for that bucket; best given by a file or the environment",
        fallback: |_| Fallback::Unset("none"),
    },
    Setting {
        key: key::BACKUP_SECRET_KEY_FILE,
        kind: Kind::Path,
        roles: SPEAKS_S3,
        form: Form::Flag,
        is_secret: false,
        value_name: "FILE",
        help: "A file that holds that secret key and nothing else",
        fallback: |_| Fallback::Unset("none"),
    },
    Setting {
        key: key::BACKUP_CA,
        kind: Kind::Path,
        roles: SPEAKS_S3,
        form: Form::Flag,
        is_secret: false,
        value_name: "FILE",
        help: "A certificate authority to trust for that endpoint besides those of this host, PEM",
        fallback: |_| Fallback::Unset("none"),
    },
    Setting {
        key: key::LOG,
        kind: Kind::LogFilter,
        roles: ALL,
        form: Form::Flag,
        is_secret: false,
        value_name: "FILTER",
        help: "What to log, as a tracing filter such as `info` or `warn,engine=debug`",
        // Our own news, and the consensus library's only when it worries.
        fallback: |_| Fallback::Values(&["info,openraft=error"]),
    },
    Setting {
        key: key::LOG_FORMAT,
        kind: Kind::LogFormat,
        roles: ALL,
        form: Form::Flag,
        is_secret: false,
        value_name: "text|json",
        help: "How to log: lines for people, or one JSON object a line",
        fallback: |_| Fallback::Values(&["text"]),
    },
    Setting {
        key: key::ROOT_ACCESS_KEY,
        kind: Kind::AccessKey,
        roles: &[Role::Server],
        form: Form::Flag,
        // No secret by itself, but a swapped pair is a common slip.
        is_secret: true,
        value_name: "KEY",
        help: "Access key of the root identity",
        fallback: |_| Fallback::Unset("made at the first start"),
    },
    Setting {
        key: key::ROOT_SECRET_KEY,
        kind: Kind::SecretKey,
        roles: &[Role::Server],
        form: Form::Flag,
        is_secret: true,
        value_name: "KEY",
        help: "Secret key of the root identity; best given by a file or the environment, where \
               other users of the machine can't see it",
        fallback: |_| Fallback::Unset("made at the first start"),
    },
    Setting {
        key: key::ROOT_SECRET_KEY_FILE,
        kind: Kind::Path,
        roles: &[Role::Server],
        form: Form::Flag,
        is_secret: false,
        value_name: "FILE",
        help: "A file that holds the secret key of the root identity and nothing else, as \
               container secrets are given",
        fallback: |_| Fallback::Unset("none"),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_rule_names_every_setting() {
        let setting = find("garbage_delay_seconds").expect("in the table");
        assert_eq!(setting.flag(), "--garbage-delay-seconds");
        assert_eq!(setting.environment(), "DRYSTONE_GARBAGE_DELAY_SECONDS");
        for (at, setting) in SETTINGS.iter().enumerate() {
            let plain = |letter: char| letter.is_ascii_lowercase() || letter == '_';
            assert!(setting.key.chars().all(plain), "{}", setting.key);
            assert!(!setting.help.ends_with('.'), "{}", setting.key);
            assert!(SETTINGS[..at].iter().all(|other| other.key != setting.key));
        }
    }

    #[test]
    fn every_default_is_a_value_that_its_setting_takes() {
        for setting in &SETTINGS {
            for role in setting.roles {
                if let Fallback::Values(values) = (setting.fallback)(*role) {
                    let raw: Vec<_> = values.iter().map(Into::into).collect();
                    assert!(setting.kind.parse(&raw).is_ok(), "{}", setting.key);
                }
            }
        }
    }

    #[test]
    fn every_setting_is_told_in_the_readme() {
        let readme = include_str!("../../README.md");
        for setting in &SETTINGS {
            assert!(readme.contains(&setting.environment()), "{}", setting.key);
            let told = setting.form == Form::Argument || readme.contains(&setting.flag());
            assert!(told, "{}", setting.key);
        }
    }
}
