//! Metadata with a million versions: three processes of the program, this one as their gateway.
//!
//! Only measured when it is named: `cargo bench --bench components -- metadata_scale`, or
//! `metadata_scale=VERSIONS` for another number; it takes some minutes and some GB of the temporary
//! directory. What is told: commits with one and three replicas and commands per sync of the log;
//! what a million versions take of memory and disk; reads; and how long a replica that was lost
//! takes to come back, by how many bytes, while a writer and a reader go on: first from the leader's
//! log, then, when that begins behind a snapshot, from the snapshot.

mod cluster;
mod load;
mod node;
mod relay;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::sync::watch;
use wire::clock::{Clock, SystemClock};

use crate::meter::{Meter, rounded};

use cluster::Cluster;
use load::{Latencies, Load};

/// The argument that measures with so many versions.
pub const SIZED: &str = "metadata_scale=";

/// Versions, where no number is given.
pub const VERSIONS: u64 = 1_000_000;

/// Writers, and what they commit to be measured; readers, and what they read.
const LEVELS: [(u64, u64); 3] = [(1, 2_000), (16, 20_000), (256, 60_000)];
/// The writers that fill the tables: as many as the gateways of a busy cluster.
const FILLERS: u64 = 256;
const STEPS: u64 = 4;
/// How long a writer and a reader are measured while nothing happens.
const QUIET: Duration = Duration::from_secs(10);
/// Longer than the interval of checkpoints, so that files and memory are what they stay.
const SETTLED: Duration = Duration::from_secs(12);
const POLL: Duration = Duration::from_millis(100);
const RETURN_WITHIN: Duration = Duration::from_mins(10);
const SNAPSHOT_WITHIN: Duration = Duration::from_mins(10);
const SNAPSHOT_WRITERS: u64 = 16;
/// Commits between two looks whether there is a snapshot.
const SNAPSHOT_LOOK: u64 = 4_000;

const LOG_SYNCS: &str = "drystone_metadata_log_syncs_total";

/// Measures everything.
pub async fn measure(versions: u64) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let mut cluster = Cluster::found(directory.path()).await?;
    let done = measure_in(&mut cluster, versions).await;
    if done.is_err() {
        for node in &cluster.nodes {
            eprintln!("{} said at last:\n{}", node.name, node.said());
        }
    }
    done
}

async fn measure_in(cluster: &mut Cluster, versions: u64) -> Result<()> {
    let load = Load::open(cluster).await?;
    measure_commits(cluster, &load, 1).await?;
    cluster.join().await?;
    cluster.join().await?;
    cluster.until_even(3).await?;
    measure_commits(cluster, &load, 3).await?;
    fill(cluster, &load, versions).await?;
    measure_reads(cluster, &load).await?;
    let (quiet, ()) = probe(&load, async {
        SystemClock::new().sleep(QUIET).await;
        Ok(())
    })
    .await?;
    println!("{}", json!({ "name": "metadata_scale/quiet", "clients": quiet }));
    measure_return(cluster, &load, "log").await?;
    measure_snapshot(cluster, &load).await?;
    measure_return(cluster, &load, "snapshot").await
}

async fn measure_commits(cluster: &Cluster, load: &Load, replicas: usize) -> Result<()> {
    for (writers, count) in LEVELS {
        let name = format!("metadata_scale/put/{replicas} replicas/x{writers}");
        put(cluster, load, &name, count, writers).await?;
    }
    Ok(())
}

/// Commits, and prints what that took of all processes.
async fn put(cluster: &Cluster, load: &Load, name: &str, count: u64, writers: u64) -> Result<()> {
    let leading = cluster.leading().await?;
    let leader = cluster.nodes.get(leading).context("the leader")?;
    let syncs = leader.count(LOG_SYNCS).await?;
    let cpu = cpu_of(cluster)?;
    let meter = Meter::start();
    load.put_many(count, writers).await?;
    let meter = meter.stopped();
    let syncs = leader.count(LOG_SYNCS).await? - syncs;
    let each = |spent: Duration| rounded(spent.as_secs_f64() * 1e6 / count as f64);
    let spent: Vec<Duration> =
        cpu_of(cluster)?.iter().zip(cpu).map(|(now, before)| now.saturating_sub(before)).collect();
    let followers = spent.iter().enumerate().filter(|(at, _)| *at != leading);
    let further = json!({
        "per_s": per_second(count, &meter),
        "commands_per_sync": rounded(count as f64 / syncs.max(1.0)),
        "leader_cpu_us": spent.get(leading).map(|spent| each(*spent)),
        "followers_cpu_us": followers.map(|(_, spent)| each(*spent)).collect::<Vec<_>>(),
    });
    meter.print_with(name, count, 0, &further);
    Ok(())
}

/// Commits until there are so many versions, and prints what they take on the way.
async fn fill(cluster: &Cluster, load: &Load, versions: u64) -> Result<()> {
    settle().await;
    let (first, before) = (load.versions(), sizes(cluster)?);
    println!("{}", json!({ "name": "metadata_scale/sizes", "versions": first, "nodes": before }));
    for step in 1..=STEPS {
        let wanted = first + versions * step / STEPS;
        let name = format!("metadata_scale/fill/{wanted} versions");
        let sent = relayed(cluster);
        let count = wanted - load.versions();
        put(cluster, load, &name, count, FILLERS).await?;
        cluster.until_even(3).await?;
        let sent = relayed(cluster).saturating_sub(sent) as f64 / count as f64;
        settle().await;
        let nodes = sizes(cluster)?;
        let line = json!({
            "name": "metadata_scale/sizes",
            "versions": load.versions(),
            "bytes_to_a_follower_per_version": rounded(sent),
            "nodes": nodes,
        });
        println!("{line}");
    }
    Ok(())
}

async fn measure_reads(cluster: &Cluster, load: &Load) -> Result<()> {
    for (readers, count) in LEVELS {
        let leading = cluster.leading().await?;
        let cpu = cpu_of(cluster)?;
        let meter = Meter::start();
        load.get_many(count, readers).await?;
        let meter = meter.stopped();
        let spent = cpu_of(cluster)?.into_iter().zip(cpu).nth(leading);
        let spent = spent.map(|(now, before)| now.saturating_sub(before)).unwrap_or_default();
        let further = json!({
            "per_s": per_second(count, &meter),
            "leader_cpu_us": rounded(spent.as_secs_f64() * 1e6 / count as f64),
        });
        meter.print_with(&format!("metadata_scale/get/x{readers}"), count, 0, &further);
    }
    Ok(())
}

/// Commits until the leader has made a snapshot, with which the log's beginning goes. Few writers:
/// what counts is entries, and many writers share one.
async fn measure_snapshot(cluster: &Cluster, load: &Load) -> Result<()> {
    let before = cluster.leader().await?.snapshot_index;
    let meter = Meter::start();
    let (clients, count) = probe(load, async {
        let mut count = 0;
        while cluster.leader().await?.snapshot_index == before {
            ensure!(meter.elapsed() < SNAPSHOT_WITHIN, "no snapshot is made");
            load.put_many(SNAPSHOT_LOOK, SNAPSHOT_WRITERS).await?;
            count += SNAPSHOT_LOOK;
        }
        Ok(count)
    })
    .await?;
    let further = json!({
        "per_s": per_second(count, &meter),
        "versions": load.versions(),
        "clients": clients,
        "nodes": sizes(cluster)?,
    });
    meter.print_with("metadata_scale/put until a snapshot", count, 0, &further);
    cluster.until_even(3).await
}

/// Loses the disk of the last node, and waits until the replica that takes its place votes.
async fn measure_return(cluster: &mut Cluster, load: &Load, by: &str) -> Result<()> {
    let lost = cluster.nodes.len() - 1;
    let clock = SystemClock::new();
    while cluster.leading().await? == lost {
        ensure!(clock.monotonic() < RETURN_WITHIN, "the lead can't be given away");
        // Whoever refuses it is asked again.
        let _refused = cluster.client.transfer(None).await;
        clock.sleep(POLL).await;
    }
    let versions = load.versions();
    let node = cluster.nodes.get_mut(lost).context("the last node")?;
    node.kill()?;
    node.lose_data()?;
    let (busy, returned) = probe(load, come_back(cluster, lost)).await?;
    let (to, from) = returned.bytes;
    let line = json!({
        "name": format!("metadata_scale/return by {by}"),
        "versions": versions,
        "seconds_until_it_has_tables": rounded(returned.has_tables.as_secs_f64()),
        "seconds_until_it_votes": rounded(returned.votes.as_secs_f64()),
        "mib_to_it": to >> 20,
        "mib_from_it": from >> 20,
        "bytes_per_version": rounded(to as f64 / versions as f64),
        "clients": busy,
        "nodes": sizes(cluster)?,
    });
    println!("{line}");
    settle().await;
    let name = format!("metadata_scale/after the return by {by}");
    println!("{}", json!({ "name": name, "nodes": sizes(cluster)? }));
    Ok(())
}

/// How a replica came back.
struct Returned {
    has_tables: Duration,
    votes: Duration,
    bytes: (u64, u64),
}

async fn come_back(cluster: &mut Cluster, lost: usize) -> Result<Returned> {
    let clock = SystemClock::new();
    let node = cluster.nodes.get_mut(lost).context("the node")?;
    let number = node.number;
    let relayed = |node: &node::Node| node.relay.as_ref().map_or((0, 0), relay::Relay::bytes);
    let before = relayed(node);
    let old = cluster.map().await?.replicas;
    let node = cluster.nodes.get_mut(lost).context("the node")?;
    node.start().await?;
    let mut has_tables = None;
    loop {
        ensure!(clock.monotonic() < RETURN_WITHIN, "the replica doesn't come back");
        clock.sleep(POLL).await;
        let map = cluster.map().await?;
        let new = map.replicas.iter().find(|place| place.node.0 == number && !old.contains(place));
        let Some(new) = new.map(|place| place.replica) else { continue };
        let leader = cluster.leader().await?;
        let Ok(status) = cluster.client.status(new).await else { continue };
        if status.objects > 0 && status.last_applied_index >= leader.last_applied_index / 10 * 9 {
            has_tables.get_or_insert(clock.monotonic());
        }
        if leader.voters.contains(&new) && status.last_applied_index >= leader.last_log_index {
            let votes = clock.monotonic();
            let node = cluster.nodes.get(lost).context("the node")?;
            let now = relayed(node);
            let bytes = (now.0 - before.0, now.1 - before.1);
            return Ok(Returned { has_tables: has_tables.unwrap_or(votes), votes, bytes });
        }
    }
}

/// Runs a writer and a reader beside `work`; tells how long they waited.
async fn probe<T>(load: &Load, work: impl Future<Output = Result<T>>) -> Result<(Value, T)> {
    let (stop, stopped) = watch::channel(false);
    let writing = tokio::spawn(load.clone().write_until(stopped.clone()));
    let reading = tokio::spawn(load.clone().read_until(stopped));
    let done = work.await;
    stop.send_replace(true);
    let (written, read): (Latencies, Latencies) = (writing.await??, reading.await??);
    Ok((json!({ "writer": written.told(), "reader": read.told() }), done?))
}

/// The replica that is written to by others only through a relay: what came to it so far.
fn relayed(cluster: &Cluster) -> u64 {
    let relay = cluster.nodes.last().and_then(|node| node.relay.as_ref());
    relay.map_or(0, |relay| relay.bytes().0)
}

fn sizes(cluster: &Cluster) -> Result<Vec<Value>> {
    cluster.nodes.iter().map(node::Node::sizes).collect()
}

fn cpu_of(cluster: &Cluster) -> Result<Vec<Duration>> {
    cluster.nodes.iter().map(|node| Ok(node.usage()?.cpu)).collect()
}

fn per_second(count: u64, meter: &Meter) -> f64 {
    (count as f64 / meter.elapsed().as_secs_f64()).round()
}

async fn settle() {
    SystemClock::new().sleep(SETTLED).await;
}
