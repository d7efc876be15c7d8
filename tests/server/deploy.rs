//! What `scripts/deploy` gives an operator: sample settings, systemd units, containers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::harness::drystone;

const ROLES: [&str; 4] = ["server", "metadata", "storage-node", "gateway"];

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/deploy")
}

fn sample(role: &str) -> PathBuf {
    deploy().join("settings").join(format!("{role}.toml"))
}

fn check(role: &str, path: &Path) {
    let line = ["config", "check", role, "--elsewhere", "--config"];
    let output = drystone(&line).arg(path).output().expect("the binary starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", path.display());
    assert_eq!(said, "", "{}", path.display());
}

/// Whether the line is a setting that is commented out: `#key = value`.
fn commented(line: &str) -> Option<&str> {
    let setting = line.strip_prefix('#')?;
    setting.starts_with(|first: char| first.is_ascii_lowercase()).then_some(setting)
}

#[test]
fn sample_settings_are_valid_with_and_without_what_is_commented_out() {
    let root = tempfile::tempdir().expect("temporary directory");
    for role in ROLES {
        check(role, &sample(role));
        let text = fs::read_to_string(sample(role)).expect("there");
        let lines: Vec<_> = text.lines().map(|line| commented(line).unwrap_or(line)).collect();
        let all = root.path().join(role);
        fs::write(&all, lines.join("\n")).expect("written");
        check(role, &all);
    }
}

#[test]
fn sample_settings_tell_every_setting_of_their_role() {
    for role in ROLES {
        let text = fs::read_to_string(sample(role)).expect("there");
        let output = drystone(&["config", "show", role]).output().expect("the binary starts");
        let shown = String::from_utf8(output.stdout).expect("text");
        for line in shown.lines() {
            let key = line.trim_start_matches("# ").split(' ').next().expect("a word");
            let told =
                text.lines().any(|line| line.trim_start_matches(['#', ' ']).starts_with(key));
            assert!(told, "{role}: {key}");
        }
    }
}

#[test]
fn units_are_valid_and_run_commands_that_there_are() {
    let root = tempfile::tempdir().expect("temporary directory");
    let mut units = Vec::new();
    for role in ROLES {
        let name = format!("drystone-{role}.service");
        let text = fs::read_to_string(deploy().join("systemd").join(&name)).expect("there");
        let command =
            format!("ExecStart=/usr/bin/drystone {role} --config /etc/drystone/{role}.toml");
        assert!(text.lines().any(|line| line == command), "{name}");
        let here = root.path().join(&name);
        let text = text.replace("/usr/bin/drystone", env!("CARGO_BIN_EXE_drystone"));
        fs::write(&here, text).expect("written");
        units.push(here);
    }
    let mut verify = Command::new("systemd-analyze");
    match verify.args(["verify", "--man=no"]).args(&units).output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && said.is_empty(), "{said}");
        }
        Err(error) => eprintln!("not verified, as systemd-analyze doesn't run here: {error}"),
    }
}

#[test]
fn a_unit_waits_longer_for_the_end_than_a_drain_may_take() {
    let grace = gateway::http::listener::ListenerOptions::default().shutdown_grace.as_secs();
    for role in ROLES {
        let name = format!("drystone-{role}.service");
        let text = fs::read_to_string(deploy().join("systemd").join(&name)).expect("there");
        let timeout = text.lines().find_map(|line| line.strip_prefix("TimeoutStopSec="));
        let timeout: u64 = timeout.expect("there").parse().expect("seconds");
        assert!(timeout >= grace + 20, "{name}");
    }
    let compose = fs::read_to_string(deploy().join("container/compose.yaml")).expect("there");
    let period = compose.lines().find_map(|line| line.trim().strip_prefix("stop_grace_period: "));
    let period = period.and_then(|period| period.strip_suffix('s')).expect("there");
    assert!(period.parse::<u64>().expect("seconds") >= grace + 20);
}
