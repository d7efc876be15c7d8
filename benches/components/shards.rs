//! One disk: appending shards with a sync each, reading them back and scrubbing them, beside the
//! same bytes written and read without a store.
//!
//! Raw and store take turns, [`ROUNDS`] times; behind the measurements stands the median of each
//! ratio. What reads from the device begins without a page of it in the cache. Checksums that the
//! sender makes are made before the measurement; the store verifies them in it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use model::checksum::block_checksums;
use model::coding::Coding;
use model::ids::{ClusterId, DiskId, DiskUuid, ExtentId, NodeId, PgId, SessionId, ShardId};
use model::shard::{DiskReport, ScrubOrder, ShardAppend, ShardRead, ShardRequest, ShardResponse};
use serde_json::json;
use storage_node::{DiskIdentity, StorageNode, StoreOptions};
use wire::clock::{Clock, SystemClock};
use wire::disk::RealDisk;
use wire::entropy::SystemEntropy;
use wire::network::Service as _;

use crate::meter::{Meter, rounded};
use crate::raw;

const DISK: DiskId = DiskId(1);
const ROUNDS: u64 = 3;
const MIB: u32 = 1 << 20;

/// Bytes of a shard, writers at the same time, shards of each.
const LOADS: [(u32, u32, u32); 4] =
    [(4 << 10, 1, 500), (4 << 10, 64, 200), (MIB, 1, 150), (MIB, 8, 50)];

/// Bytes a second, and bytes a second of CPU, by name, of every round.
type Rates = BTreeMap<String, Vec<(f64, f64)>>;

/// Measures small and large shards, alone and many at a time.
pub async fn measure() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let node = open(&directory.path().join("disk"))?;
    let segments = directory.path().join("disk/shards");
    let file = directory.path().join("raw");
    let mut rates = Rates::new();
    for round in 0..ROUNDS {
        for (session, (bytes, writers, each)) in (round * 10 + 1..).zip(LOADS) {
            let load = Load { session, bytes, writers, each };
            if round % 2 == 0 {
                raw_appends(&load, &file, &mut rates)?;
                load.append(&node, &mut rates).await?;
            } else {
                load.append(&node, &mut rates).await?;
                raw_appends(&load, &file, &mut rates)?;
            }
            if bytes != MIB {
                load.read(&node, &mut rates).await?;
                continue;
            }
            let name = format!("shards/raw read/{MIB}/x{writers}");
            for is_raw in [round % 2 == 0, round % 2 != 0] {
                raw::forget(&segments)?;
                if is_raw {
                    raw_read(&segments, &name, writers, &mut rates)?;
                } else {
                    load.read(&node, &mut rates).await?;
                }
            }
        }
        for is_raw in [round % 2 == 0, round % 2 != 0] {
            raw::forget(&segments)?;
            if is_raw {
                raw_read(&segments, "shards/raw scrub", 1, &mut rates)?;
            } else {
                scrub(&node, &mut rates).await?;
            }
        }
    }
    node.shutdown().await;
    print_ratios(&rates);
    Ok(())
}

/// Appends and reads so many shards of 4 KiB, one after the other, for tools that count
/// instructions: the difference between two runs has no start and no end in it.
pub async fn repeat(appends: u32, reads: u32) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let node = open(&directory.path().join("disk"))?;
    let load = Load { session: 1, bytes: 4 << 10, writers: 1, each: appends };
    for shard in load.shards(0)? {
        append(&node, shard).await?;
    }
    for number in 0..reads {
        read(&node, load.bytes, load.id(0, number % appends.max(1))).await?;
    }
    node.shutdown().await;
    Ok(())
}

fn open(path: &Path) -> Result<Arc<StorageNode>> {
    let identity =
        DiskIdentity { cluster: ClusterId([1; 16]), disk: DISK, uuid: DiskUuid([2; 16]) };
    let disk = Arc::new(RealDisk::create(path)?);
    let (node, errors) = StorageNode::open(
        NodeId(1),
        vec![(disk, identity)],
        StoreOptions::default(),
        Arc::new(SystemClock::new()),
        Arc::new(SystemEntropy::new()),
    );
    errors.into_iter().next().map_or(Ok(node), |error| Err(error.into()))
}

#[derive(Clone, Copy)]
struct Load {
    session: u64,
    bytes: u32,
    writers: u32,
    each: u32,
}

impl Load {
    fn id(&self, writer: u32, number: u32) -> ShardId {
        let (pg, session) = (PgId(1), SessionId(self.session));
        let extent = ExtentId { pg, session, sequence: writer * 100_000 + number };
        ShardId { extent, stripe: 0, slot: 0 }
    }

    fn count(&self) -> u64 {
        u64::from(self.writers) * u64::from(self.each)
    }

    /// Bytes of a shard's record.
    fn record_bytes(&self) -> usize {
        (self.bytes + 88 + 8 * self.bytes.div_ceil(64 << 10)) as usize
    }

    fn shards(&self, writer: u32) -> Result<Vec<ShardAppend>> {
        let payload = Bytes::from(vec![7u8; self.bytes as usize]);
        let coding = Coding::new(1, 0)?;
        let shard = |number| {
            let id = self.id(writer, number);
            ShardAppend {
                id,
                coding,
                stripe_bytes: self.bytes,
                payload: payload.clone(),
                checksums: block_checksums(id, &payload).into(),
                owner: Bytes::new(),
            }
        };
        Ok((0..self.each).map(shard).collect())
    }

    async fn append(&self, node: &Arc<StorageNode>, rates: &mut Rates) -> Result<()> {
        let all: Vec<_> = (0..self.writers).map(|w| self.shards(w)).collect::<Result<_>>()?;
        let meter = Meter::start();
        let tasks = all.into_iter().map(|shards| {
            let node = Arc::clone(node);
            tokio::spawn(async move {
                for shard in shards {
                    append(&node, shard).await?;
                }
                anyhow::Ok(())
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await??;
        }
        let meter = meter.stopped();
        let name = format!("shards/append+sync/{}/x{}", self.bytes, self.writers);
        note(rates, &name, &meter, self.count(), self.count() * u64::from(self.bytes));
        Ok(())
    }

    async fn read(&self, node: &Arc<StorageNode>, rates: &mut Rates) -> Result<()> {
        let meter = Meter::start();
        let load = *self;
        let tasks = (0..self.writers).map(|writer| {
            let node = Arc::clone(node);
            tokio::spawn(async move {
                for number in 0..load.each {
                    read(&node, load.bytes, load.id(writer, number)).await?;
                }
                anyhow::Ok(())
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await??;
        }
        let meter = meter.stopped();
        let name = format!("shards/read/{}/x{}", self.bytes, self.writers);
        note(rates, &name, &meter, self.count(), self.count() * u64::from(self.bytes));
        Ok(())
    }
}

fn raw_read(segments: &Path, name: &str, threads: u32, rates: &mut Rates) -> Result<()> {
    let (meter, bytes) = raw::read(segments, MIB as usize, threads as usize)?;
    note(rates, name, &meter, bytes / u64::from(MIB), bytes);
    Ok(())
}

/// The same records by `pwritev` and `fdatasync`: the writers that wait at the same time make a
/// group. For many writers group commit by threads is measured, too.
fn raw_appends(load: &Load, file: &Path, rates: &mut Rates) -> Result<()> {
    let (record, writers, each) = (load.record_bytes(), load.writers as usize, load.each as usize);
    let bytes = load.count() * u64::from(load.bytes);
    let meter = raw::append(file, record, writers, each)?;
    let name = format!("shards/raw append+sync/{}/x{writers}", load.bytes);
    note(rates, &name, &meter, load.count(), bytes);
    if writers > 1 {
        let meter = raw::commit_in_groups(file, record, writers, each)?;
        let name = format!("shards/raw group commit/{}/x{writers}", load.bytes);
        note(rates, &name, &meter, load.count(), bytes);
    }
    std::fs::remove_file(file)?;
    Ok(())
}

async fn append(node: &StorageNode, shard: ShardAppend) -> Result<()> {
    let request = ShardRequest::Append { disk: DISK, shards: vec![shard], sync: true };
    match node.serve(request).await {
        ShardResponse::Appended { .. } => Ok(()),
        other => bail!("{other:?}"),
    }
}

async fn read(node: &StorageNode, bytes: u32, id: ShardId) -> Result<()> {
    let reads = vec![ShardRead { id, offset: 0, length: bytes }];
    match node.serve(ShardRequest::Read { disk: DISK, reads }).await {
        ShardResponse::Read(answers) if answers.iter().all(Result::is_ok) => Ok(()),
        other => bail!("{other:?}"),
    }
}

/// Has the whole disk verified as fast as it goes.
async fn scrub(node: &StorageNode, rates: &mut Rates) -> Result<()> {
    let clock = SystemClock::new();
    let before = report(node).await?.scrub;
    let meter = Meter::start();
    let order = ScrubOrder::Begin { bytes_per_second: 0 };
    let answer = node.serve(ShardRequest::Scrub { disk: DISK, order }).await;
    ensure!(matches!(answer, ShardResponse::ScrubOrdered), "{answer:?}");
    let deadline = clock.monotonic() + Duration::from_mins(2);
    let mut passed = 0;
    loop {
        let now = report(node).await?.scrub;
        passed = passed.max(now.verified_bytes);
        if now.last_ended > before.last_ended {
            break;
        }
        ensure!(clock.monotonic() < deadline, "the scrub doesn't end: {now:?}");
        clock.sleep(Duration::from_millis(2)).await;
    }
    note(rates, "shards/scrub", &meter.stopped(), passed / u64::from(MIB), passed);
    Ok(())
}

async fn report(node: &StorageNode) -> Result<DiskReport> {
    match node.serve(ShardRequest::Status).await {
        ShardResponse::Status(reports) => reports.into_iter().next().context("no disk"),
        other => bail!("{other:?}"),
    }
}

/// Prints a measurement and keeps its rates.
fn note(rates: &mut Rates, name: &str, meter: &Meter, operations: u64, bytes: u64) {
    meter.print(name, operations, bytes);
    let rate = |time: Duration| bytes as f64 / time.as_secs_f64();
    rates.entry(name.to_owned()).or_default().push((rate(meter.elapsed()), rate(meter.cpu())));
}

/// Prints how the store's rates and CPU time stand to the raw ones.
fn print_ratios(rates: &Rates) {
    let pairs = [
        ("shards/append+sync/4096/x1", "shards/raw append+sync/4096/x1"),
        ("shards/append+sync/4096/x64", "shards/raw group commit/4096/x64"),
        ("shards/append+sync/4096/x64", "shards/raw append+sync/4096/x64"),
        ("shards/append+sync/1048576/x1", "shards/raw append+sync/1048576/x1"),
        ("shards/append+sync/1048576/x8", "shards/raw append+sync/1048576/x8"),
        ("shards/read/1048576/x1", "shards/raw read/1048576/x1"),
        ("shards/read/1048576/x8", "shards/raw read/1048576/x8"),
        ("shards/scrub", "shards/raw scrub"),
    ];
    for (store, raw) in pairs {
        let (Some(ours), Some(theirs)) = (rates.get(store), rates.get(raw)) else { continue };
        let sorted = |ratio: fn((f64, f64), (f64, f64)) -> f64| {
            let pairs = ours.iter().zip(theirs);
            let mut all: Vec<f64> = pairs.map(|(ours, theirs)| ratio(*ours, *theirs)).collect();
            all.sort_unstable_by(f64::total_cmp);
            all.into_iter().map(rounded).collect::<Vec<_>>()
        };
        let rates = sorted(|ours, theirs| ours.0 / theirs.0);
        let costs = sorted(|ours, theirs| theirs.1 / ours.1);
        let line = json!({
            "name": format!("{store} : {raw}"),
            "ratio": rates.get(rates.len() / 2),
            "cpu_ratio": costs.get(costs.len() / 2),
            "rounds": rates,
        });
        println!("{line}");
    }
}
