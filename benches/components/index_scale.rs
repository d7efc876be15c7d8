//! The index of a disk with ten million shards: memory for each, and how long starts take.
//!
//! Only measured when it is named: `cargo bench --bench components -- index_scale`; it takes some
//! minutes and 3 GB of the temporary directory. Every phase runs in a process of its own, so that
//! the memory told is that phase's. What lies on the disk isn't in the page cache when a phase
//! begins.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use model::checksum::block_checksums;
use model::coding::Coding;
use model::ids::{ClusterId, DiskId, DiskUuid, ExtentId, PgId, SessionId, ShardId};
use model::shard::{ShardAppend, ShardRead};
use rustix::fs::{Advice, fadvise};
use serde_json::json;
use storage_node::{DiskIdentity, Store, StoreOptions};
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use wire::clock::SystemClock;
use wire::disk::RealDisk;

use crate::meter::{Meter, rounded};

const SHARDS: u32 = 10_000_000;
/// Of a disk that is one of many: about as many as have a slot on it.
const PGS: u32 = 100;
const BATCH: u32 = 4096;
/// Of the shards that only fill the index.
const TINY_BYTES: u32 = 8;
/// What a crash leaves behind the checkpoint.
const REPLAYED_BYTES: u32 = 1 << 30;
const LOOKUPS: u32 = 20_000;

/// The argument that makes this program run one phase only.
pub const PHASE: &str = "index_scale_phase=";

/// Runs all phases, each in a process of its own, over a temporary directory.
pub fn measure() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let phases = [
        "build",
        "restart",
        "crash-4096",
        "replay",
        "crash-1048576",
        "replay",
        "unindex",
        "rebuild",
        "restart",
    ];
    for phase in phases {
        forget(directory.path())?;
        let status = Command::new(std::env::current_exe()?)
            .arg(format!("{PHASE}{phase}"))
            .arg(directory.path())
            .stdin(Stdio::null())
            .status()?;
        ensure!(status.success(), "{phase}: {status}");
    }
    Ok(())
}

/// Runs one phase over the disk in `directory`.
pub fn run_phase(phase: &str, directory: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match phase.split_once('-').unwrap_or((phase, "0")) {
        ("build", _) => build(directory, &runtime),
        ("restart" | "replay" | "rebuild", _) => start(directory, &runtime, phase),
        ("crash", bytes) => crash(directory, &runtime, bytes.parse()?),
        ("unindex", _) => Ok(std::fs::remove_file(directory.join("shards/index.redb"))?),
        _ => bail!("there is no phase {phase}"),
    }
}

fn open(directory: &Path, options: StoreOptions) -> Result<Store> {
    let identity =
        DiskIdentity { cluster: ClusterId([1; 16]), disk: DiskId(1), uuid: DiskUuid([2; 16]) };
    let disk = Arc::new(RealDisk::create(directory)?);
    let clock = Arc::new(SystemClock::new());
    let soon = Duration::from_mins(1);
    Ok(Store::open(disk, identity, options, clock, soon, Arc::new(Notify::new()))?)
}

fn id(session: u64, number: u32) -> ShardId {
    let extent =
        ExtentId { pg: PgId(number % PGS), session: SessionId(session), sequence: number / PGS };
    ShardId { extent, stripe: 0, slot: 0 }
}

/// Appends `count` shards of `bytes` in batches.
fn append(store: &Store, runtime: &Runtime, session: u64, count: u32, bytes: u32) -> Result<()> {
    let payload = Bytes::from(vec![7u8; bytes as usize]);
    let batch = (16 << 20) / bytes.max(BATCH);
    let coding = Coding::new(1, 0)?;
    for first in (0..count).step_by(batch as usize) {
        let shards = (first..(first + batch).min(count)).map(|number| {
            let id = id(session, number);
            ShardAppend {
                id,
                coding,
                stripe_bytes: bytes,
                payload: payload.clone(),
                checksums: block_checksums(id, &payload).into(),
                owner: Bytes::new(),
            }
        });
        runtime.block_on(store.append(shards.collect(), true))?;
    }
    Ok(())
}

fn build(directory: &Path, runtime: &Runtime) -> Result<()> {
    let before = resident();
    let options = StoreOptions::default();
    let store = open(directory, options)?;
    let meter = Meter::start();
    append(&store, runtime, 1, SHARDS, TINY_BYTES)?;
    let memory = memory(before, &options);
    meter.print_with("index_scale/build", SHARDS.into(), 0, &memory);
    let meter = Meter::start();
    store.close();
    meter.print("index_scale/close", 1, 0);
    Ok(())
}

/// Opens the disk, looks some shards up, and closes it.
fn start(directory: &Path, runtime: &Runtime, phase: &str) -> Result<()> {
    let before = resident();
    let options = StoreOptions::default();
    let meter = Meter::start();
    let store = open(directory, options)?;
    meter.print_with(&format!("index_scale/{phase}"), 1, 0, &memory(before, &options));
    ensure!(store.report().shards >= u64::from(SHARDS), "shards are missing");
    let meter = Meter::start();
    for step in 0..LOOKUPS {
        let read = ShardRead {
            id: id(1, step.wrapping_mul(2_654_435_761) % SHARDS),
            offset: 0,
            length: TINY_BYTES,
        };
        for answer in runtime.block_on(store.read(vec![read]))? {
            answer?;
        }
    }
    let name = format!("index_scale/{phase}/random reads");
    meter.print_with(&name, LOOKUPS.into(), 0, &memory(before, &options));
    store.close();
    Ok(())
}

/// Appends what no checkpoint covers, and ends as a crash does.
fn crash(directory: &Path, runtime: &Runtime, bytes: u32) -> Result<()> {
    let options = StoreOptions {
        checkpoint_log_bytes: u64::MAX,
        checkpoint_changes: usize::MAX,
        checkpoint_age: Duration::from_hours(24),
        ..StoreOptions::default()
    };
    let store = open(directory, options)?;
    let meter = Meter::start();
    let count = REPLAYED_BYTES / bytes;
    append(&store, runtime, 2 + store.incarnation().0, count, bytes)?;
    meter.print(&format!("index_scale/crash/{bytes}"), count.into(), REPLAYED_BYTES.into());
    store.abort();
    Ok(())
}

/// What the process holds beyond what it did before and the index's cache.
fn memory(before: u64, options: &StoreOptions) -> serde_json::Value {
    let beyond = resident().saturating_sub(before);
    let beyond = beyond.saturating_sub(options.index_cache_bytes as u64);
    json!({
        "resident_mib_beyond_cache": beyond >> 20,
        "resident_bytes_per_shard": rounded(beyond as f64 / f64::from(SHARDS)),
    })
}

/// Bytes of memory that this process holds; 0 where the kernel doesn't tell.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

/// Lets the page cache go of all files of the disk.
fn forget(directory: &Path) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(directory.join("shards")) else {
        return Ok(());
    };
    for entry in entries {
        let file = File::open(entry?.path()).context("a file of the disk")?;
        file.sync_all()?;
        fadvise(&file, 0, None, Advice::DontNeed)?;
    }
    Ok(())
}
