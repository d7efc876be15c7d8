//! Files and command lines of every role; what the environment does is tested on the binary.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Command, FromArgMatches as _};

use super::origin::Origin;
use super::*;

/// Looks like nothing else, so that it is found wherever it leaks.
const CANARY: &str = "canary-Qz7-secret";

/// A directory with settings files.
struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("temporary directory") }
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("private");
        path.into_os_string().into_string().expect("UTF-8")
    }
}

fn parse<S: RoleSettings>(line: &[&str]) -> Arguments<S> {
    let command = <Arguments<S> as clap::Args>::augment_args(Command::new("role"));
    let matches = command.try_get_matches_from(["role"].iter().chain(line)).expect("parsed");
    Arguments::from_arg_matches(&matches).expect("taken")
}

fn resolve<S: RoleSettings>(line: &[&str]) -> Result<S, Mistakes> {
    parse::<S>(line).resolve()
}

/// Every mistake of a file of the role.
fn mistakes<S: RoleSettings>(text: &str) -> Vec<String> {
    let files = Files::new();
    let path = files.write("f.toml", text);
    let mistakes = resolve::<S>(&["--config", &path]).err().expect("refused");
    let place = format!("file {path}:");
    mistakes.lines().map(|line| line.replace(&place, "")).collect()
}

fn check_mistakes<S: RoleSettings>(text: &str, expected: &[&str]) {
    let found = mistakes::<S>(text);
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.contains(expected), "{found} instead of {expected}");
    }
}

#[test]
fn a_server_needs_nothing() {
    let settings: ServerSettings = resolve(&[]).expect("valid");
    assert_eq!(settings.directories.len(), 6);
    assert_eq!(settings.listen.to_string(), "127.0.0.1:9000");
    assert_eq!(settings.admin_listen.to_string(), "127.0.0.1:9001");
    assert_eq!(settings.region, "us-east-1");
    assert_eq!(settings.domains, ["localhost"]);
    assert_eq!(settings.garbage_delay, Duration::from_mins(10));
    assert_eq!(settings.backup_interval, Some(Duration::from_hours(1)));
    assert_eq!(settings.backup_keep, 24);
    assert_eq!(settings.log, "info,openraft=error");
    assert_eq!(settings.log_format, LogFormat::Text);
    assert!(settings.coding.is_none() && settings.host_directory.is_none());
    assert!(settings.cluster_listen.is_none() && settings.tls.is_none());
    assert!(settings.root.is_none() && settings.warnings.is_empty());
}

#[test]
fn backups_are_a_setting_of_those_who_speak_s3() {
    let line = ["--backup-interval-seconds", "0", "--backup-keep", "1"];
    let settings: ServerSettings = resolve(&line).expect("valid");
    assert_eq!((settings.backup_interval, settings.backup_keep), (None, 1));
    let line = ["--host-directory", "/h", "--backup-interval-seconds", "60"];
    let settings: GatewaySettings = resolve(&line).expect("valid");
    assert_eq!(settings.backup_interval, Some(Duration::from_mins(1)));
    assert_eq!(settings.backup_keep, 24);
    check_mistakes::<ServerSettings>(
        "backup_interval_seconds = -1\nbackup_keep = 0\n",
        &[
            "1: backup_interval_seconds = ",
            "2: backup_keep = \"0\": expected a whole number from 1 to 500",
        ],
    );
    check_mistakes::<MetadataSettings>(
        "host_directory = \"/h\"\nbackup_keep = 2\n",
        &["2: backup_keep is a setting of drystone server, gateway"],
    );
}

#[test]
fn backups_go_to_another_endpoint_when_all_of_it_is_told() {
    let files = Files::new();
    let secret = files.write("secret", "of-the-endpoint\n");
    let path = files.write(
        "f.toml",
        &format!(
            "backup_endpoint = \"https://s3.example.com:9000\"\nbackup_bucket = \"backups\"\n\
             backup_access_key = \"backup\"\nbackup_secret_key_file = {secret:?}\n\
             backup_prefix = \"drystone/\"\nbackup_ca = \"/ca.pem\"\n"
        ),
    );
    let settings: ServerSettings = resolve(&["--config", &path]).expect("valid");
    let remote = settings.backup_remote.expect("given");
    assert_eq!(remote.endpoint.to_string(), "https://s3.example.com:9000");
    assert_eq!(
        (&*remote.bucket, &*remote.prefix, &*remote.region),
        ("backups", "drystone/", "us-east-1")
    );
    assert_eq!((&*remote.access_key, remote.secret_key.expose()), ("backup", "of-the-endpoint"));
    assert_eq!(remote.authority.as_deref(), Some(Path::new("/ca.pem")));
    assert!(settings.warnings.is_empty(), "{:?}", settings.warnings);
    let line = ["--config", &path, "--backup-secret-key", "on-the-line", "--backup-region", "xy"];
    let remote = resolve::<ServerSettings>(&line).expect("valid").backup_remote.expect("given");
    assert_eq!((remote.secret_key.expose(), &*remote.region), ("on-the-line", "xy"));

    let line = [
        "--host-directory",
        "/h",
        "--backup-endpoint",
        "http://10.0.0.1:9000",
        "--backup-bucket",
        "backups",
        "--backup-access-key",
        "backup",
        "--backup-secret-key",
        "12345678",
    ];
    let settings: GatewaySettings = resolve(&line).expect("valid");
    assert!(settings.backup_remote.is_some());
    assert!(settings.warnings[0].contains("in the clear"), "{:?}", settings.warnings);
    assert!(resolve::<ServerSettings>(&[]).expect("valid").backup_remote.is_none());
}

#[test]
fn half_an_endpoint_for_backups_is_a_mistake_that_says_what_to_do() {
    check_mistakes::<ServerSettings>(
        "backup_endpoint = \"https://s3.example.com\"\n",
        &[
            "1: backup_endpoint needs backup_bucket, too",
            "1: backup_endpoint needs backup_access_key, too",
            "1: backup_endpoint needs backup_secret_key or backup_secret_key_file, too",
        ],
    );
    check_mistakes::<ServerSettings>(
        "backup_bucket = \"backups\"\nbackup_ca = \"/ca\"\n",
        &[
            "1: backup_bucket does nothing without backup_endpoint",
            "2: backup_ca does nothing without backup_endpoint",
        ],
    );
    let whole = "backup_endpoint = \"http://127.0.0.1:1\"\nbackup_bucket = \"backups\"\n\
                 backup_access_key = \"backup\"\nbackup_secret_key = \"12345678\"\n";
    let check = |more: &str, expected: &str| {
        check_mistakes::<ServerSettings>(&format!("{whole}{more}"), &[expected]);
    };
    check("backup_ca = \"/ca\"\n", "5: backup_ca does nothing with an endpoint of http://");
    check("backup_interval_seconds = 0\n", "1: backup_endpoint does nothing with backup_interval");
    check("backup_secret_key_file = \"/s\"\n", "5: backup_secret_key and backup_secret_key_file");
    check_mistakes::<ServerSettings>(
        "backup_endpoint = \"s3.example.com\"\n",
        &[
            "1: backup_endpoint = \"s3.example.com\": expected http:// or https://",
            "needs backup_bucket",
            "needs backup_access_key",
            "needs backup_secret_key",
        ],
    );
}

#[test]
fn each_role_has_its_own_ports_and_needs_a_host_directory() {
    let metadata: MetadataSettings = resolve(&["--host-directory", "/h"]).expect("valid");
    assert_eq!(metadata.admin_listen.to_string(), "127.0.0.1:9003");
    assert_eq!(metadata.directory, Path::new("/h/metadata"));
    let metadata: MetadataSettings = resolve(&["--host-directory", "/h", "/m"]).expect("valid");
    assert_eq!(metadata.directory, Path::new("/m"));

    let line = ["--host-directory", "/h", "--cluster-listen", "[::]:9002", "/a", "/b"];
    let node: StorageNodeSettings = resolve(&line).expect("valid");
    assert_eq!(node.admin_listen.to_string(), "127.0.0.1:9004");
    assert_eq!(node.cluster_listen.map(|address| address.port()), Some(9002));
    assert_eq!(node.directories, [PathBuf::from("/a"), PathBuf::from("/b")]);

    let gateway: GatewaySettings = resolve(&["--host-directory", "/h"]).expect("valid");
    assert_eq!(gateway.listen.to_string(), "127.0.0.1:9000");
    assert_eq!(gateway.host_directory, Path::new("/h"));

    let refused = resolve::<MetadataSettings>(&[]).err().expect("refused").to_string();
    assert!(refused.contains("host_directory is not given"), "{refused}");
    let refused = resolve::<StorageNodeSettings>(&[]).err().expect("refused").to_string();
    assert!(refused.contains("host_directory is not given"), "{refused}");
    assert!(refused.contains("directories is not given"), "{refused}");
}

#[test]
fn every_setting_of_a_file_arrives() {
    let files = Files::new();
    let secret = files.write("secret", "chosen-by-hand\n");
    let text = format!(
        "directories = [\"/a\", \"/b\"]\nhost_directory = \"/h\"\nlisten = \"[::]:1\"\n\
         tls_certificate = \"/c\"\ntls_key = \"/k\"\nadmin_listen = \"127.0.0.1:2\"\n\
         cluster_listen = \"127.0.0.1:3\"\ncoding = \"1+1\"\nregion = \"xy\"\n\
         domain = [\"a.example\", \"b.example\"]\ngarbage_delay_seconds = 0x10\nlog = \"warn\"\n\
         log_format = \"json\"\nroot_access_key = \"operator\"\nroot_secret_key_file = {secret:?}\n"
    );
    let path = files.write("server.toml", &text);
    let settings: ServerSettings = resolve(&["--config", &path]).expect("valid");
    assert_eq!(settings.directories, [PathBuf::from("/a"), PathBuf::from("/b")]);
    assert_eq!(settings.host_directory.as_deref(), Some(Path::new("/h")));
    assert_eq!(settings.listen.to_string(), "[::]:1");
    let tls = TlsFiles { certificate: "/c".into(), key: "/k".into() };
    assert_eq!(settings.tls, Some(tls));
    assert_eq!(settings.admin_listen.port(), 2);
    assert_eq!(settings.cluster_listen.map(|address| address.port()), Some(3));
    assert_eq!(settings.coding.map(|coding| coding.to_string()).as_deref(), Some("1+1"));
    assert_eq!(settings.region, "xy");
    assert_eq!(settings.domains, ["a.example", "b.example"]);
    assert_eq!(settings.garbage_delay, Duration::from_secs(16));
    assert_eq!(settings.log, "warn");
    assert_eq!(settings.log_format, LogFormat::Json);
    let root = settings.root.expect("given");
    assert_eq!(
        (root.access_key.as_str(), root.secret_key.as_str()),
        ("operator", "chosen-by-hand")
    );
}

#[test]
fn a_flag_beats_the_file_and_both_are_checked() {
    let files = Files::new();
    let path = files.write("f.toml", "coding = \"2+1\"\nregion = \"eu-west-1\"\n");
    let (effective, mistakes) =
        parse::<ServerSettings>(&["--config", &path, "--region", "xy"]).effective();
    assert!(mistakes.is_empty());
    assert_eq!(effective.text(key::REGION).as_deref(), Some("xy"));
    assert_eq!(effective.origin(key::REGION), Origin::Flag("--region".to_owned()));
    let line = Origin::File { path: path.into(), line: 1 };
    assert_eq!(effective.origin(key::CODING), line);
    assert_eq!(effective.origin(key::LISTEN), Origin::Default);

    let path = files.write("f.toml", "region = \"eu/west\"\n");
    let refused = resolve::<ServerSettings>(&["--config", &path, "--region", "xy"]);
    assert!(refused.err().expect("refused").to_string().contains("f.toml:1: region = \"eu/west\""));
}

#[test]
fn all_mistakes_of_a_file_are_told_at_once() {
    check_mistakes::<GatewaySettings>(
        "lisden = \"127.0.0.1:1\"\n\
         listen = \"nowhere\"\n\
         \n\
         coding = \"4+2\" # of the server\n\
         garbage_delay_seconds = \"600\"\n\
         domain = \"localhost\"\n\
         frobnicate = true\n\
         [gateway]\n\
         listen = \"127.0.0.1:1\"\n",
        &[
            "1: unknown key \"lisden\"; did you mean \"listen\"?",
            "4: coding is a setting of drystone server, not of drystone gateway",
            "5: garbage_delay_seconds: expected a whole number without quotes",
            "6: domain: expected a list of texts",
            "7: unknown key \"frobnicate\"; `drystone config show gateway` lists",
            "8: unknown key \"gateway\"; settings stand at the top of the file, in no table",
            "2: listen = \"nowhere\": expected an IP address and a port, such as 127.0.0.1:9000",
            "host_directory is not given, and drystone gateway needs it: expected a path",
        ],
    );
}

#[test]
fn what_was_meant_is_guessed_from_what_the_role_has() {
    let check = |text: &str, expected: &str| check_mistakes::<ServerSettings>(text, &[expected]);
    check(
        "directory = \"/a\"\n",
        "of drystone metadata, not of drystone server; did you mean \"directories\"?",
    );
    check("admin-listen = \"x\"\n", "did you mean \"admin_listen\"?");
    check("domains = []\n", "did you mean \"domain\"?");
    check("Region = \"x\"\n", "did you mean \"region\"?");
    check("x = 1\n", "lists those there are");
}

#[test]
fn what_is_no_toml_is_told_by_line_and_what_is_one_is_checked_all_the_same() {
    check_mistakes::<ServerSettings>(
        "region = us-east-1\nlisden = \"x\"\nlog = \"info\"\nlog = \"warn\"\n",
        &["1: not valid TOML: ", "4: not valid TOML: duplicate key", "2: unknown key"],
    );
    let found = mistakes::<ServerSettings>("region = \"us-east-1\n");
    assert!(found[0].starts_with("1: not valid TOML: "), "{found:?}");
}

#[test]
fn what_does_not_fit_together_is_a_mistake() {
    let check = |text: &str, expected: &str| check_mistakes::<ServerSettings>(text, &[expected]);
    check("root_access_key = \"operator\"\n", "1: root_access_key and root_secret_key");
    check("tls_key = \"/k\"\n", "1: tls_certificate and tls_key belong together");
    check("cluster_listen = \"127.0.0.1:1\"\n", "1: cluster_listen does nothing without host");
    check("admin_listen = \"0.0.0.0:9000\"\n", "is taken by listen = \"127.0.0.1:9000\"");
    check("directories = [\"/a\", \"/a\"]\n", "/a is given twice");
    check(
        "root_access_key = \"operator\"\nroot_secret_key = \"12345678\"\nroot_secret_key_file = \"/s\"\n",
        "3: root_secret_key and root_secret_key_file are two ways",
    );
    let line = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    assert!(resolve::<ServerSettings>(&line).is_ok());
}

#[test]
fn a_secret_in_a_file_that_others_may_read_is_warned_of() {
    let files = Files::new();
    let path =
        files.write("f.toml", "root_access_key = \"operator\"\nroot_secret_key = \"12345678\"\n");
    let settings: ServerSettings = resolve(&["--config", &path]).expect("valid");
    assert!(settings.warnings.is_empty());
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).expect("changed");
    let settings: ServerSettings = resolve(&["--config", &path]).expect("valid");
    assert!(settings.warnings[0].contains("mode 0644"), "{:?}", settings.warnings);
    assert_eq!(settings.warnings.len(), 1);
}

#[test]
fn the_higher_of_two_ways_to_give_the_secret_key_wins() {
    let files = Files::new();
    let secret = files.write("secret", "in-the-secret-file\r\n");
    let path = files.write(
        "f.toml",
        &format!("root_access_key = \"operator\"\nroot_secret_key_file = {secret:?}\n"),
    );
    let key = |line: &[&str]| {
        let settings: ServerSettings = resolve(line).expect("valid");
        settings.root.expect("given").secret_key
    };
    assert_eq!(key(&["--config", &path]), "in-the-secret-file");
    assert_eq!(key(&["--config", &path, "--root-secret-key", "on-the-line"]), "on-the-line");
    for bad in ["short\n", "two lines\nof text\n", ""] {
        files.write("secret", bad);
        let refused = resolve::<ServerSettings>(&["--config", &path]).err().expect("refused");
        assert!(refused.to_string().contains("root_secret_key_file: what it holds"), "{refused}");
    }
}

#[test]
fn no_secret_is_ever_told() {
    let files = Files::new();
    let tell = |text: &str, more: &[&str]| {
        let path = files.write("f.toml", text);
        let line = [&["--config", &path], more].concat();
        let arguments = parse::<ServerSettings>(&line);
        let mut told = format!("{arguments:?}");
        if let Err(mistakes) = arguments.resolve() {
            told.push_str(&mistakes.to_string());
            write!(told, "{mistakes:?}").expect("a String takes all");
        }
        assert!(!told.contains("canary"), "{text}: {told}");
        told
    };
    tell(&format!("root_secret_key = \"{CANARY}\"\n"), &[]);
    tell(&format!("root_secret_key = \"{CANARY}\n"), &[]);
    tell(&format!("root_secret_key = {CANARY}\n"), &[]);
    tell(&format!("root_secret_key = '{CANARY}' x\n"), &[]);
    tell(&format!("root_secret_key = [\"{CANARY}\"]\n"), &[]);
    tell(&format!("root_secretkey = \"{CANARY}\"\n"), &[]);
    tell(&format!("root_secret_key_file = \"{CANARY}\"\nroot_access_key = \"abc\"\n"), &[]);
    tell(&format!("[root]\nsecret_key = \"{CANARY}\"\n"), &[]);
    let swapped = tell(&format!("root_access_key = \"{CANARY}/=\"\n"), &["--root-secret-key", "x"]);
    assert!(swapped.contains("root_access_key = ***: expected 3 to 128"), "{swapped}");
    assert!(swapped.contains("root_secret_key = ***: expected at least 8"), "{swapped}");
    tell("", &["--root-secret-key", CANARY]);
    tell(&format!("backup_secret_key = \"{CANARY}\"\n"), &[]);
    tell(&format!("backup_access_key = \"{CANARY}/=\"\n"), &["--backup-secret-key", "x"]);
    let whole = "backup_endpoint = \"http://127.0.0.1:1\"\nbackup_bucket = \"backups\"\n\
                 backup_access_key = \"backup\"\n";
    tell(&format!("{whole}backup_secret_key_file = \"{CANARY}\"\n"), &[]);
    tell("", &["--backup-secret-key", CANARY]);
}

#[test]
fn a_file_that_is_not_there_or_no_text() {
    let refused = resolve::<ServerSettings>(&["--config", "/none.toml"]).err().expect("refused");
    assert!(refused.to_string().contains("the file /none.toml can't be read"), "{refused}");
    let files = Files::new();
    let path = files.write("long.toml", &"#".repeat((1 << 20) + 1));
    let refused = resolve::<ServerSettings>(&["--config", &path]).err().expect("refused");
    assert!(refused.to_string().contains("longer than 1 MiB"), "{refused}");
}
