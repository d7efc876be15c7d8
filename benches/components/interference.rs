//! What clients of one disk notice of compaction and scrub at their default limits.
//!
//! Eight clients append 4 KiB with a sync each and read 64 KiB of random shards that aren't in the
//! page cache at first, for some seconds alone, then while the disk is scrubbed at the highest
//! default rate, then while it is compacted at the default rate; [`ROUNDS`] times. Behind that
//! stands the median of each ratio of the 99th percentiles to those of the same round alone.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use model::checksum::block_checksums;
use model::coding::Coding;
use model::ids::{ClusterId, DiskId, DiskUuid, ExtentId, PgId, SessionId, ShardId};
use model::shard::{ScrubOrder, ShardAppend, ShardRead};
use serde_json::json;
use storage_node::{DiskIdentity, Store, StoreOptions};
use tokio::sync::Notify;
use wire::clock::{Clock, SystemClock};
use wire::disk::RealDisk;

use crate::meter::{Meter, rounded};
use crate::raw;

const ROUNDS: u64 = 3;
const CLIENTS: u32 = 8;
const SMALL_BYTES: u32 = 4 << 10;
const READ_BYTES: u32 = 64 << 10;
/// Shards that are read, of which every other one is deleted before compaction: 768 MiB a round.
const FILLED: u32 = 12_288;
const PHASE: Duration = Duration::from_secs(4);

/// Ratios by phase and operation, of every round.
type Ratios = BTreeMap<String, Vec<f64>>;

/// Measures all phases on one disk.
pub async fn measure() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let segments = directory.path().join("disk/shards");
    let store = Arc::new(open(&directory.path().join("disk"))?);
    let mut ratios = Ratios::new();
    for round in 0..ROUNDS {
        let filled = round * 10 + 1;
        fill(&store, filled).await?;
        raw::forget(&segments)?;
        let alone = clients(&store, filled, filled + 1, "alone").await?;

        raw::forget(&segments)?;
        let bytes_per_second = StoreOptions::default().scrub_bytes_per_second_max;
        let before = store.report().scrub.verified_bytes;
        store.scrub(ScrubOrder::Begin { bytes_per_second })?;
        let scrubbed = clients(&store, filled, filled + 2, "scrub").await?;
        let now = store.report().scrub;
        ensure!(now.verified_bytes > before || now.last_ended.0 > 0, "nothing was scrubbed");
        store.scrub(ScrubOrder::End)?;
        compare(&mut ratios, "scrub", &alone, &scrubbed);

        let before = store.report().compaction.moved_bytes;
        let odd = (1..FILLED).step_by(2).map(|number| id(filled, number).extent);
        for extents in odd.collect::<Vec<_>>().chunks(1024) {
            store.delete(extents.to_vec()).await?;
        }
        raw::forget(&segments)?;
        let compacted = clients(&store, filled, filled + 3, "compaction").await?;
        let moved = store.report().compaction.moved_bytes - before;
        ensure!(moved > 0, "nothing was compacted");
        println!("{}", json!({"name": "interference/compaction", "moved_mib": moved >> 20}));
        compare(&mut ratios, "compaction", &alone, &compacted);
    }
    tokio::task::spawn_blocking(move || store.close()).await?;
    for (name, mut all) in ratios {
        all.sort_unstable_by(f64::total_cmp);
        let median = all.get(all.len() / 2).copied();
        println!("{}", json!({"name": name, "p99_ratio": median, "rounds": all}));
    }
    Ok(())
}

fn open(path: &Path) -> Result<Store> {
    let identity =
        DiskIdentity { cluster: ClusterId([1; 16]), disk: DiskId(1), uuid: DiskUuid([2; 16]) };
    // What is deleted may go at once: waiting ten minutes for it would measure nothing else.
    let options = StoreOptions { grace: Duration::ZERO, ..StoreOptions::default() };
    let disk = Arc::new(RealDisk::create(path)?);
    let clock = Arc::new(SystemClock::new());
    let soon = Duration::from_mins(1);
    Ok(Store::open(disk, identity, options, clock, soon, Arc::new(Notify::new()))?)
}

fn id(session: u64, number: u32) -> ShardId {
    let extent = ExtentId { pg: PgId(1), session: SessionId(session), sequence: number };
    ShardId { extent, stripe: 0, slot: 0 }
}

fn shard(id: ShardId, payload: &Bytes) -> Result<ShardAppend> {
    Ok(ShardAppend {
        id,
        coding: Coding::new(1, 0)?,
        stripe_bytes: payload.len() as u32,
        payload: payload.clone(),
        checksums: block_checksums(id, payload).into(),
        owner: Bytes::new(),
    })
}

async fn fill(store: &Store, session: u64) -> Result<()> {
    let payload = Bytes::from(vec![7u8; READ_BYTES as usize]);
    for first in (0..FILLED).step_by(64) {
        let shards = (first..first + 64).map(|number| shard(id(session, number), &payload));
        store.append(shards.collect::<Result<_>>()?, true).await?;
    }
    Ok(())
}

/// The sorted times of appends and of reads.
struct Times {
    appends: Vec<Duration>,
    reads: Vec<Duration>,
}

/// Lets the clients work for a phase, with the disk looked after every second as a node does.
async fn clients(store: &Arc<Store>, filled: u64, session: u64, phase: &str) -> Result<Times> {
    let meter = Meter::start();
    let ended = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (store, ended) = (Arc::clone(store), Arc::clone(&ended));
            tokio::spawn(async move { work(&store, filled, session, client, &ended).await })
        })
        .collect();
    let clock = SystemClock::new();
    while meter.elapsed() < PHASE {
        let looking = Arc::clone(store);
        tokio::task::spawn_blocking(move || looking.look_after()).await?;
        clock.sleep(Duration::from_secs(1)).await;
    }
    ended.store(true, Ordering::Relaxed);
    let mut times = Times { appends: Vec::new(), reads: Vec::new() };
    for task in tasks {
        let (appends, reads) = task.await??;
        times.appends.extend(appends);
        times.reads.extend(reads);
    }
    times.appends.sort_unstable();
    times.reads.sort_unstable();
    let further = json!({
        "append_p50_us": percentile(&times.appends, 50),
        "append_p99_us": percentile(&times.appends, 99),
        "read_p50_us": percentile(&times.reads, 50),
        "read_p99_us": percentile(&times.reads, 99),
    });
    let name = format!("interference/{phase}");
    meter.stopped().print_with(&name, times.appends.len() as u64, 0, &further);
    Ok(times)
}

async fn work(
    store: &Store,
    filled: u64,
    session: u64,
    client: u32,
    ended: &AtomicBool,
) -> Result<(Vec<Duration>, Vec<Duration>)> {
    let payload = Bytes::from(vec![5u8; SMALL_BYTES as usize]);
    let clock = SystemClock::new();
    let (mut appends, mut reads) = (Vec::new(), Vec::new());
    let mut number = 0u32;
    while !ended.load(Ordering::Relaxed) {
        let small = shard(id(session, client * 1_000_000 + number), &payload)?;
        let began = clock.monotonic();
        store.append(vec![small], true).await?;
        appends.push(clock.monotonic().saturating_sub(began));
        // Even ones are never deleted.
        let at = (number.wrapping_mul(2_654_435_761).rotate_left(client) % FILLED) & !1;
        let read = ShardRead { id: id(filled, at), offset: 0, length: READ_BYTES };
        let began = clock.monotonic();
        store.read(vec![read]).await?.pop().context("no answer")??;
        reads.push(clock.monotonic().saturating_sub(began));
        number += 1;
    }
    Ok((appends, reads))
}

fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let at = sorted.get(sorted.len() * percent / 100).copied().unwrap_or_default();
    rounded(at.as_secs_f64() * 1e6)
}

fn compare(ratios: &mut Ratios, phase: &str, alone: &Times, beside: &Times) {
    let pairs =
        [("append", &alone.appends, &beside.appends), ("read", &alone.reads, &beside.reads)];
    for (operation, alone, beside) in pairs {
        let ratio = percentile(beside, 99) / percentile(alone, 99).max(1.0);
        let name = format!("interference/{phase}/{operation}");
        ratios.entry(name).or_default().push(rounded(ratio));
    }
}
