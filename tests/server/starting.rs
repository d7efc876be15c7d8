//! Starting, being asked how it is, stopping, starting again.

use std::os::unix::fs::PermissionsExt as _;

use super::harness::{Server, drystone, get};

#[test]
fn the_default_store_starts_tells_and_stops() {
    let root = tempfile::tempdir().expect("temporary directory");
    let server = Server::start(root.path(), &[]);
    assert!(server.greeting.contains("aws --endpoint-url"), "{}", server.greeting);
    assert!(server.greeting.contains("AWS_SECRET_ACCESS_KEY"), "{}", server.greeting);
    for number in 1..=6 {
        let secrets = root.path().join(format!("drystone-data/disk{number}/secrets.toml"));
        let mode = std::fs::metadata(secrets).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    assert_eq!(get(&server.admin, "/health/live").0, 200);
    assert_eq!(get(&server.admin, "/health/ready").0, 200);
    let (status, metrics) = get(&server.admin, "/metrics");
    assert_eq!(status, 200);
    assert!(metrics.contains("# TYPE"), "{metrics}");
    let (status, error) = get(&server.s3, "/");
    assert_eq!(status, 403);
    assert!(error.contains("<Code>AccessDenied</Code>"), "{error}");

    let endpoint = format!("http://{}", server.admin);
    let ask = |more: &[&str]| {
        let mut command = drystone(&["admin", "status", "--endpoint", &endpoint]);
        let output = command.args(more).output().expect("runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    assert!(ask(&[]).contains("4+2"));
    let json: serde_json::Value = serde_json::from_str(&ask(&["--json"])).expect("JSON");
    assert_eq!(json["disks"].as_array().map(Vec::len), Some(6), "{json}");
    assert!(server.terminate().success());
}

#[test]
fn credentials_are_generated_once_and_the_environment_beats_them() {
    let root = tempfile::tempdir().expect("temporary directory");
    let key = |server: &Server| {
        let line = server.greeting.lines().find(|line| line.contains("AWS_ACCESS_KEY_ID="));
        line.expect("says its access key").to_owned()
    };
    let first = Server::start(root.path(), &["one"]);
    let generated = key(&first);
    assert!(first.terminate().success());
    let again = Server::start(root.path(), &["one"]);
    assert_eq!(key(&again), generated);
    assert!(again.terminate().success());
    let own = ["one", "--root-access-key", "operator", "--root-secret-key", "chosen-by-hand"];
    let server = Server::start(root.path(), &own);
    assert!(!server.greeting.contains(&generated), "{}", server.greeting);
    assert!(!server.greeting.contains("chosen-by-hand"), "{}", server.greeting);
    assert!(server.terminate().success());
}
