//! Settings as an operator meets them: who wins, what is shown, what is refused, and that no secret
//! is ever told.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

use super::harness::{drystone, tree};

/// Looks like nothing else, so that it is found wherever it leaks.
const CANARY: &str = "canary-Qz7-secret";

struct World {
    root: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self { root: tempfile::tempdir().expect("temporary directory") }
    }

    fn root(&self) -> &Path {
        self.root.path()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.root().join(name), text).expect("written");
    }

    /// Runs a command line, its words separated by spaces, under these variables.
    fn run(&self, line: &str, environment: &[(&str, &str)]) -> Output {
        let words: Vec<_> = line.split(' ').collect();
        let mut command = drystone(&words);
        command.current_dir(self.root()).envs(environment.iter().copied());
        command.output().expect("the binary starts")
    }

    /// The line of a setting, as `config show --origin` tells it.
    fn shown(&self, key: &str, line: &str, environment: &[(&str, &str)]) -> String {
        let output = self.run(&format!("config show {line} --origin"), environment);
        let text = String::from_utf8(output.stdout).expect("text");
        let found = text.lines().find(|line| line.trim_start_matches("# ").starts_with(key));
        found.unwrap_or_else(|| panic!("no {key} in {text}")).to_owned()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
    let world = World::new();
    world.write("f.toml", "log = \"warn\"\nregion = \"in-file\"\n");
    let check = |line: &str, environment: &[(&str, &str)], expected: &str| {
        assert_eq!(world.shown("region", line, environment), expected);
    };
    let environment = [("DRYSTONE_REGION", "in-environment")];
    check("server", &[], "region = \"us-east-1\" # from default");
    check("server --config f.toml", &[], "region = \"in-file\" # from file f.toml:2");
    let config = [("DRYSTONE_CONFIG", "f.toml")];
    check("server", &config, "region = \"in-file\" # from file f.toml:2");
    let expected = "region = \"in-environment\" # from environment DRYSTONE_REGION";
    check("server --config f.toml", &environment, expected);
    let expected = "region = \"on-line\" # from flag --region";
    check("server --config f.toml --region on-line", &environment, expected);
}

#[test]
fn every_role_shows_its_own_settings_as_toml_that_it_takes() {
    let world = World::new();
    let needed = "--host-directory h";
    let cases = [
        ("server", "a b", "coding"),
        ("metadata", needed, "directory = \"h/metadata\""),
        ("storage-node", "--host-directory h a", "directories = [\"a\"]"),
        ("gateway", needed, "listen = \"127.0.0.1:9000\""),
    ];
    for (role, arguments, expected) in cases {
        let output = world.run(&format!("config show {role} {arguments}"), &[]);
        assert!(output.status.success(), "{}", said(&output));
        let shown = String::from_utf8(output.stdout).expect("text");
        assert!(shown.contains(expected), "{shown}");
        world.write("shown.toml", &shown);
        let again = world.run(&format!("config show {role} --config shown.toml"), &[]);
        assert_eq!(String::from_utf8(again.stdout).expect("text"), shown);
    }
}

#[test]
fn lists_have_commas_in_the_environment_and_what_another_role_wants_is_passed_over() {
    let world = World::new();
    let environment = [
        ("DRYSTONE_DIRECTORIES", "/a,/b"),
        ("DRYSTONE_HOST_DIRECTORY", "/h"),
        ("DRYSTONE_CODING", "nonsense"),
    ];
    let shown = world.shown("directories", "storage-node", &environment);
    assert_eq!(shown, "directories = [\"/a\", \"/b\"] # from environment DRYSTONE_DIRECTORIES");
    let shown = world.shown("directories", "storage-node /c", &environment);
    assert_eq!(shown, "directories = [\"/c\"] # from argument DIR");
    let refused = world.run("config check server", &environment);
    assert!(said(&refused).contains("environment DRYSTONE_CODING: coding = \"nonsense\""));
}

#[test]
fn a_misspelt_variable_is_warned_of_without_its_value() {
    let world = World::new();
    let environment = [("DRYSTONE_ROOT_SECRET_KEYS", CANARY), ("DRYSTONE_JOIN_TOKEN", CANARY)];
    let output = world.run("config check server a", &environment);
    assert!(output.status.success());
    let expected = "drystone: warning: the environment variable DRYSTONE_ROOT_SECRET_KEYS is no \
                    setting; did you mean DRYSTONE_ROOT_SECRET_KEY?\n";
    assert_eq!(said(&output), expected);
}

#[test]
fn what_is_missing_is_told_and_shown_as_such() {
    let world = World::new();
    let shown = world.shown("host_directory", "gateway", &[]);
    assert_eq!(shown, "# host_directory is not set: required");
    let output = world.run("config show gateway", &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("drystone gateway needs it"), "{}", said(&output));
}

#[test]
fn check_lists_every_mistake_or_says_ok() {
    let world = World::new();
    world.write("bad.toml", "lisden = 1\nlisten = \"nowhere\"\ndirectories = []\n");
    let output = world.run("config check server --config bad.toml", &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    for expected in [
        "file bad.toml:1: unknown key \"lisden\"; did you mean \"listen\"?",
        "file bad.toml:2: listen = \"nowhere\": expected an IP address and a port",
        "file bad.toml:3: directories = []: expected paths, at least one",
    ] {
        assert!(said(&output).contains(expected), "{}", said(&output));
    }
    world.write("good.toml", "directories = [\"a\", \"b\"]\n");
    let output = world.run("config check server --config good.toml", &[]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(output.stdout, b"ok\n");
}

#[test]
fn check_looks_at_this_host_and_changes_nothing() {
    let world = World::new();
    world.write("file", "");
    world.write(
        "f.toml",
        "host_directory = \"h\"\ndirectories = [\"file\", \"new/disk\"]\ntls_certificate = \"none.crt\"\n\
         tls_key = \"file\"\nroot_access_key = \"operator\"\nroot_secret_key_file = \"none\"\n",
    );
    let before = tree(world.root());
    let output = world.run("config check server --config f.toml", &[]);
    assert_eq!(tree(world.root()), before);
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    for expected in [
        "f.toml:1: host_directory: h: it has no host.toml",
        "f.toml:2: directories: file: it is no directory",
        "f.toml:3: tls_certificate: none.crt: No such file",
        "f.toml:6: root_secret_key_file: No such file",
    ] {
        assert!(said.contains(expected), "{said}");
    }
    assert!(!said.contains("new/disk"), "it can be made: {said}");
    world
        .write("f.toml", "directories = [\"a\"]\ntls_certificate = \"file\"\ntls_key = \"file\"\n");
    let output = world.run("config check server --config f.toml", &[]);
    assert!(self::said(&output).contains("f.toml:2: tls_certificate"), "{output:?}");
    assert!(self::said(&output).contains("file holds no certificate"), "{output:?}");
    world.write(
        "f.toml",
        "host_directory = \"h\"\ndirectories = [\"file\", \"new/disk\"]\ntls_certificate = \"none.crt\"\n\
         tls_key = \"file\"\n",
    );
    let output = world.run("config check server --elsewhere --config f.toml", &[]);
    assert!(output.status.success());
}

#[test]
fn no_secret_is_shown() {
    let world = World::new();
    world.write("secret", &format!("{CANARY}\n"));
    let pair = format!("root_access_key = \"operator\"\nroot_secret_key = \"{CANARY}\"\n");
    world.write("f.toml", &pair);
    world.write("cut.toml", &format!("root_secret_key = \"{CANARY}"));
    world.write("typo.toml", &format!("root_secretkey = \"{CANARY}\"\n"));
    world.write("role.toml", &pair);
    let flags = format!("--root-access-key operator --root-secret-key {CANARY}");
    let environment =
        [("DRYSTONE_ROOT_ACCESS_KEY", "operator"), ("DRYSTONE_ROOT_SECRET_KEY", CANARY)];
    let swapped = [("DRYSTONE_ROOT_ACCESS_KEY", CANARY), ("DRYSTONE_ROOT_SECRET_KEY", "x")];
    let lines = [
        "config show server --origin --config f.toml",
        "config check server --config f.toml",
        "config show server --config cut.toml",
        "config check server --config typo.toml",
        "config check gateway --config role.toml",
        "config show server --root-access-key operator --root-secret-key-file secret",
        "server --config f.toml --listen nowhere",
        "server --help",
        "config show server --help",
        "config show gateway",
    ];
    let flagged = [
        format!("config show server --origin {flags}"),
        format!("config check server {flags} --listen nowhere"),
        format!("config show gateway {flags}"),
    ];
    for line in lines.into_iter().chain(flagged.iter().map(String::as_str)) {
        for environment in [&environment[..], &swapped[..], &[]] {
            let output = world.run(line, environment);
            let told = String::from_utf8_lossy(&output.stdout).into_owned() + &said(&output);
            assert!(!told.is_empty(), "{line}");
            assert!(!told.contains(CANARY), "{line}: {told}");
        }
    }
    let shown = world.shown("root_secret_key =", "server --config f.toml", &[]);
    assert_eq!(shown, "root_secret_key = \"***\" # from file f.toml:2");
}

#[test]
fn a_secret_that_others_may_read_is_warned_of() {
    let world = World::new();
    world.write("f.toml", "root_access_key = \"operator\"\nroot_secret_key = \"12345678\"\n");
    let chmod = |mode| {
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(world.root().join("f.toml"), permissions).expect("changed");
    };
    chmod(0o640);
    let output = world.run("config check server a --config f.toml", &[]);
    assert!(output.status.success());
    assert!(said(&output).contains("warning: the file f.toml holds a secret"), "{}", said(&output));
    chmod(0o600);
    let output = world.run("config check server a --config f.toml", &[]);
    assert_eq!(said(&output), "");
}
