//! `drystone storage-node …` on directories that a server has left: what it tells, refuses, and
//! never touches.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use engine::OwnerSeal;
use model::checksum::block_checksums;
use model::coding::Coding;
use model::ids::{ExtentId, ManifestId, PgId, SessionId, ShardId};
use model::owner::Owner;
use model::shard::ShardAppend;
use model::time::Timestamp;
use serde_json::Value;
use storage_node::offline::ShardsDirectory;
use storage_node::{Store, StoreOptions};
use wire::clock::SystemClock;
use wire::disk::RealDisk;
use wire::entropy::SystemEntropy;

use super::harness::{Server, run, tree};

/// Shards that are put into the example; every third is deleted again.
const SHARDS: u32 = 12;

fn tool(root: &Path, arguments: &[&str]) -> Output {
    run(root, &[&["storage-node"], arguments].concat())
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

/// Runs a tool that must end with this status, and gives what it printed as JSON.
fn json(root: &Path, arguments: &[&str], status: i32) -> Value {
    let output = tool(root, arguments);
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {}", stderr(&output));
    serde_json::from_str(&stdout(&output)).expect("JSON")
}

/// Everything below `root`, with content and time of change.
fn state(root: &Path) -> BTreeMap<PathBuf, (Option<SystemTime>, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for path in tree(root) {
        let changed = std::fs::metadata(&path).and_then(|data| data.modified()).ok();
        let content = if path.is_dir() { Vec::new() } else { std::fs::read(&path).expect("read") };
        found.insert(path, (changed, content));
    }
    found
}

fn extent(sequence: u32) -> ExtentId {
    ExtentId { pg: PgId(1), session: SessionId(7), sequence }
}

/// A directory that a server has made and left, with shards whose owners are sealed with its key.
fn example(root: &Path) -> PathBuf {
    assert!(Server::start(root, &["disk"]).terminate().success());
    let disk = root.join("disk");
    let secrets = std::fs::read_to_string(disk.join("secrets.toml")).expect("secrets");
    let key = secrets.lines().find_map(|line| line.strip_prefix("cluster_key = "));
    let key = hex::decode(key.expect("a key").trim_matches('"')).expect("hex");
    let seal = OwnerSeal::new(&key.try_into().expect("32 bytes"), Arc::new(SystemEntropy::new()));
    let shards = RealDisk::open(&disk.join("shards")).expect("opened");
    let identity = ShardsDirectory::open(Arc::new(shards)).expect("looked at").identity();
    let real = Arc::new(RealDisk::open(&disk).expect("opened"));
    let (clock, never) = (Arc::new(SystemClock::new()), Duration::from_hours(1));
    let options = StoreOptions { segment_bytes: 64 << 10, ..StoreOptions::default() };
    let store = Store::open(real, identity, options, clock, never, Arc::default());
    let store = store.expect("opened");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    for sequence in 1..=SHARDS {
        let id = ShardId { extent: extent(sequence), stripe: 0, slot: 0 };
        let payload = Bytes::from(vec![sequence as u8; 10_000]);
        let owner = Owner {
            bucket: "photos".to_owned(),
            bucket_id: None,
            key: format!("holiday/{sequence}"),
            manifest: ManifestId([sequence as u8; 16]),
            upload: None,
            part: 0,
            offset: 0,
            started: Timestamp::from_seconds(1_000_000_000),
            ..Owner::default()
        };
        let shard = ShardAppend {
            id,
            coding: Coding::new(1, 0).expect("valid"),
            stripe_bytes: payload.len() as u32,
            checksums: block_checksums(id, &payload).into(),
            payload,
            owner: seal.seal(id.extent, &owner).expect("sealed"),
        };
        runtime.block_on(store.append(vec![shard], true)).expect("appended");
    }
    let deleted = (1..=SHARDS / 3).map(|n| extent(3 * n)).collect();
    runtime.block_on(store.delete(deleted)).expect("deleted");
    store.close();
    disk
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("readable") {
        let entry = entry.expect("entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}

#[test]
fn the_reading_tools_tell_what_is_there_and_leave_no_trace() {
    let root = tempfile::tempdir().expect("temporary directory");
    let disk = example(root.path());
    let before = state(&disk);
    for given in ["disk", "disk/shards"] {
        let found = json(root.path(), &["inspect", given, "--json"], 0);
        assert_eq!(found["live_shards"], 8, "{found}");
        assert_eq!(found["index"]["agrees"], true, "{found}");
        assert_eq!(found["index"]["found"]["state"], "usable", "{found}");
        assert_eq!(found["findings"].as_array().map(Vec::len), Some(0), "{found}");
        let found = json(root.path(), &["verify", given, "--json"], 0);
        assert_eq!((&found["sound"], &found["damage"]), (&true.into(), &0.into()), "{found}");
    }
    let text = tool(root.path(), &["inspect", "disk"]);
    assert!(stdout(&text).contains("Live: 8 shards"), "{}", stdout(&text));
    let text = tool(root.path(), &["verify", "disk"]);
    assert!(stdout(&text).contains("Sound: 8 live shards"), "{}", stdout(&text));
    assert_eq!(stderr(&text), "", "no progress bar without a terminal");

    let records = tool(root.path(), &["inspect", "disk", "--records", "--checksums", "--json"]);
    let records: Vec<Value> = stdout(&records)
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect();
    let count = |what: &dyn Fn(&Value) -> bool| records.iter().filter(|r| what(r)).count();
    assert_eq!(count(&|r| r["live"] == true), 8);
    assert_eq!(count(&|r| r["live"] == false), 4);
    assert_eq!(count(&|r| r["kind"] == "tombstone"), 4);
    assert_eq!(count(&|r| r["sound"] == true), records.len());
    assert!(state(&disk) == before, "a tool that reads has changed something");
}

#[test]
fn owners_are_opened_with_the_key_and_exported_sealed_without() {
    let root = tempfile::tempdir().expect("temporary directory");
    let disk = example(root.path());
    let lines = |output: &Output| -> Vec<Value> {
        let text = stdout(output);
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    };
    let opened = tool(root.path(), &["export-owners", "disk"]);
    assert!(opened.status.success(), "{}", stderr(&opened));
    let extents = lines(&opened);
    assert_eq!(extents.len(), 8);
    for line in &extents {
        let sequence = line["sequence"].as_u64().expect("a number");
        assert_ne!(sequence % 3, 0, "{line}");
        assert_eq!(line["owner"]["key"], format!("holiday/{sequence}"));
        assert_eq!(line["owner"]["bucket"], "photos");
        assert_eq!(line["owner"]["started"], "2001-09-09T01:46:40Z");
        assert_eq!(line["owner"]["kind"], "body");
        assert_eq!(line["coding"], "1+0");
        assert_eq!(line["stripes"][0]["shards"][0]["bytes"], 10_000);
    }
    // A copy of the shards alone has no key beside it.
    copy(&disk.join("shards"), &root.path().join("copy"));
    let sealed = tool(root.path(), &["export-owners", "copy"]);
    assert!(sealed.status.success(), "{}", stderr(&sealed));
    assert!(stderr(&sealed).contains("exported sealed"), "{}", stderr(&sealed));
    assert!(lines(&sealed).iter().all(|line| {
        line["owner"].is_null() && line["sealed_owner"].as_str().is_some_and(|s| s.len() > 58)
    }));
    let with_key = tool(root.path(), &["export-owners", "copy", "--key-file", "disk/secrets.toml"]);
    assert_eq!(lines(&with_key), extents);
    // Another cluster's key opens nothing, and that is no success.
    std::fs::write(root.path().join("key"), "ab".repeat(32)).expect("written");
    let wrong = tool(root.path(), &["export-owners", "copy", "--key-file", "key"]);
    assert_eq!(wrong.status.code(), Some(3), "{}", stderr(&wrong));
    assert!(lines(&wrong).iter().all(|line| line["owner"].is_null()));
    std::fs::write(root.path().join("key"), "no key").expect("written");
    let refused = tool(root.path(), &["export-owners", "copy", "--key-file", "key"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("64 hexadecimal digits"), "{}", stderr(&refused));
}

#[test]
fn damage_is_told_by_status_and_the_index_is_made_anew() {
    let root = tempfile::tempdir().expect("temporary directory");
    let disk = example(root.path());
    // The index is lost: no damage, and made anew by the only tool that writes.
    std::fs::remove_file(disk.join("shards/index.redb")).expect("removed");
    let found = json(root.path(), &["verify", "disk", "--json"], 0);
    assert_eq!(found["index"]["found"]["state"], "absent", "{found}");
    let rebuilt = tool(root.path(), &["rebuild-index", "disk"]);
    assert!(rebuilt.status.success(), "{}", stderr(&rebuilt));
    assert!(stdout(&rebuilt).contains("8 live shards"), "{}", stdout(&rebuilt));
    let found = json(root.path(), &["verify", "disk", "--json"], 0);
    assert_eq!(found["index"]["found"]["state"], "usable", "{found}");

    // A byte of a live shard.
    let records = tool(root.path(), &["inspect", "disk", "--records", "--json"]);
    let records = stdout(&records);
    let live = records.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let live = live.into_iter().find(|record| record["live"] == true).expect("a live shard");
    let number = live["segment"].as_u64().expect("a number");
    let path = disk.join(format!("shards/seg-{number:016x}.dss"));
    let mut bytes = std::fs::read(&path).expect("read");
    let at = live["offset"].as_u64().expect("a number") + 5000;
    bytes[at as usize] ^= 1;
    std::fs::write(&path, bytes).expect("written");
    let found = json(root.path(), &["verify", "disk", "--json"], 3);
    assert_eq!(found["damaged_live_shards"], 1, "{found}");
    assert_eq!(found["findings"][0]["shard"], live["shard"], "{found}");
    let text = tool(root.path(), &["verify", "disk"]);
    assert!(stdout(&text).contains("NOT SOUND"), "{}", stdout(&text));
    // Headers alone don't show it, and the server would serve all that is sound.
    let found = json(root.path(), &["inspect", "disk", "--json"], 0);
    assert_eq!((&found["live_shards"], &found["index"]["agrees"]), (&8.into(), &true.into()));
}

#[test]
fn wrong_and_busy_directories_are_refused_untouched() {
    let root = tempfile::tempdir().expect("temporary directory");
    std::fs::create_dir_all(root.path().join("empty")).expect("made");
    std::fs::write(root.path().join("file"), "text").expect("written");
    let check = |arguments: &[&str], because: &str| {
        let before = state(root.path());
        let output = tool(root.path(), arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(stderr(&output).contains(because), "{arguments:?}: {}", stderr(&output));
        assert!(state(root.path()) == before, "{arguments:?}");
    };
    for name in ["inspect", "verify", "rebuild-index", "export-owners"] {
        check(&[name, "none"], "doesn't exist");
        check(&[name, "file"], "not a directory");
        check(&[name, "empty"], "no directory of shards");
    }
    let server = Server::start(root.path(), &["disk"]);
    for name in ["inspect", "verify", "rebuild-index", "export-owners"] {
        for given in ["disk", "disk/shards"] {
            let output = tool(root.path(), &[name, given]);
            assert_eq!(output.status.code(), Some(1), "{name} {given}");
            assert!(stderr(&output).contains("in use"), "{}", stderr(&output));
        }
    }
    assert!(server.terminate().success());
    assert!(Server::start(root.path(), &["other"]).terminate().success());
    check(&["inspect", "disk", "--segment", "ff"], "there is no segment ff");
    // Shards of one disk in the directory of another.
    let (disk, other) = (root.path().join("disk/shards"), root.path().join("other/shards"));
    std::fs::remove_dir_all(&other).expect("removed");
    std::fs::rename(disk, other).expect("renamed");
    for name in ["inspect", "verify", "rebuild-index", "export-owners"] {
        check(&[name, "other"], "mixed up");
        check(&[name, "disk"], "never opened");
    }
}

#[test]
fn a_replica_of_a_newer_release_is_left_alone() {
    let root = tempfile::tempdir().expect("temporary directory");
    assert!(Server::start(root.path(), &["disk"]).terminate().success());
    let path = root.path().join("disk/metadata/identity");
    let mut bytes = std::fs::read(&path).expect("read");
    bytes[7] = 2;
    let content = bytes.len() - 8;
    let sum = twox_hash::XxHash3_64::oneshot(&bytes[..content]);
    bytes[content..].copy_from_slice(&sum.to_le_bytes());
    std::fs::write(&path, &bytes).expect("written");
    let metadata = root.path().join("disk/metadata");
    let before = state(&metadata);
    let output = run(root.path(), &["server", "disk", "--listen", "127.0.0.1:0"]);
    assert!(!output.status.success());
    let said = stdout(&output) + &stderr(&output);
    assert!(said.contains("format version 2, which is newer"), "{said}");
    assert!(state(&metadata) == before, "a replica that can't be read was changed");
}
