//! Works off the repair queue, the most endangered extents first.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use model::cluster_map::{ClusterMap, Pg};
use model::command::{Command, Outcome, RepairedExtent};
use model::node::{Node, Roles};
use model::query::{Answer, MetadataError, Query};
use model::time::Timestamp;
use model::upkeep::RepairItem;
use tokio::sync::watch;

use super::backoff::Backoff;
use super::extent::{Repaired, repair_extent};
use super::plan::RepairPlan;
use super::{RepairDesk, RepairFailure};
use crate::options::EngineOptions;
use crate::shared::Shared;

/// Extents of the queue that are asked for at a time.
const PAGE: u32 = 512;

/// Extents under repair at once: small ones wait for disks, not for bandwidth. Large ones are held
/// back by the budget.
const EXTENTS_AT_ONCE: usize = 8;

/// Repaired extents in one command.
const EXTENTS_PER_COMMAND: usize = 256;

/// A repaired extent waits no longer than this for others to share a command with.
const COMMAND_DELAY: Duration = Duration::from_secs(1);

/// After this long the queue is read from its head again, as something more urgent may have come.
const PASS_MAX: Duration = Duration::from_secs(30);

/// Repairs until told to stop, or until it is dropped: what was under way is found in the queue by
/// whoever repairs next.
pub(crate) async fn run(
    shared: Arc<Shared>,
    interval: Duration,
    mut stopping: watch::Receiver<bool>,
) {
    let backoff = &shared.repair.backoff;
    // What failed before this gateway had the lease says nothing now.
    backoff.forget_all();
    let mut pause = interval;
    loop {
        let passed = tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            passed = pass(&shared, backoff) => passed,
        };
        match passed {
            Ok(Pass::CutShort) => continue,
            Ok(Pass::Whole) => pause = interval,
            Ok(Pass::Idle) => pause = (pause * 2).min(interval * IDLE_INTERVALS_MAX),
            // What was rebuilt meanwhile is found sound next time.
            Err(error) => {
                pause = interval;
                tracing::debug!(%error, "no repair this time");
            }
        }
        backoff.prune(shared.clock.monotonic());
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            () = shared.clock.sleep(pause) => {}
            () = shared.repair.wake.notified() => {}
        }
    }
}

/// While nothing can be done the queue is read less often, up to this many intervals apart: it may
/// be long, and wait for a disk that is away for days.
const IDLE_INTERVALS_MAX: u32 = 12;

/// While no client reads or writes, repair and moves may take this many times their rate: where no
/// operator set it, and where all clients come here, as only of those this gateway knows.
const IDLE_FACTOR: u64 = 4;

/// With one shard left to spare somewhere, they may take this many times their rate; with none, there
/// is no limit for what is in danger.
const HASTE_FACTOR: u64 = 4;

/// By how much the rate is raised for what disks that are away cost of redundancy.
fn haste(map: &ClusterMap) -> u64 {
    let is_short = |pg: &Pg| {
        let slack = pg.slack(|disk| !map.is_away(disk));
        slack <= 1 && slack < i64::from(pg.coding.parity())
    };
    if map.pgs.iter().any(is_short) { HASTE_FACTOR } else { 1 }
}

/// The rate by a map, for a gateway with clients of its own or without; 0 for no limit.
fn rate(map: &ClusterMap, default: u64, has_clients: bool) -> u64 {
    let is_gateway = |node: &&Node| node.registration.roles.contains(Roles::GATEWAY);
    let is_only_gateway = map.nodes.iter().filter(is_gateway).count() <= 1;
    let is_set = map.upkeep.bytes_per_second.is_some();
    let may_idle = is_only_gateway && !is_set && !has_clients;
    let idle = if may_idle { IDLE_FACTOR } else { 1 };
    let base = map.upkeep.bytes_per_second.unwrap_or(default);
    base.saturating_mul(idle.max(haste(map)))
}

/// The rate once a disk is lost and clients read or write; 0 for no limit.
pub(crate) fn rate_after_a_loss(map: &ClusterMap, options: &EngineOptions) -> u64 {
    let base = map.upkeep.bytes_per_second.unwrap_or(options.repair_bytes_per_second);
    base.saturating_mul(if map.coding.parity() <= 2 { HASTE_FACTOR } else { 1 })
}

/// How a pass over the queue ended.
enum Pass {
    /// At the end of the queue.
    Whole,
    /// At the end of the queue, and nothing could be done.
    Idle,
    /// Before it, to look at the head again.
    CutShort,
}

async fn pass(shared: &Arc<Shared>, backoff: &Backoff) -> Result<Pass, MetadataError> {
    let started = shared.clock.monotonic();
    let (mut after, mut waiting, mut did_repair) = (None, 0, false);
    loop {
        let answer = shared.metadata.query(Query::Repairs { after, limit: PAGE }).await?;
        let Answer::Repairs(page) = answer else { return Err(MetadataError::Unavailable) };
        after = page.next;
        // As new as what is asked of it: a pass takes a while.
        let map = shared.map.refresh().await?;
        shared.repair.set_rate(shared, &map);
        let page = Page::new(&map, backoff, &page.items, shared.clock.monotonic());
        waiting += page.waiting;
        did_repair |= !page.plans.is_empty();
        let until = started + PASS_MAX;
        let done = repair_all(shared, &map, backoff, page.plans, until).await?;
        waiting += done.waiting;
        if done.is_cut_short {
            return Ok(Pass::CutShort);
        }
        if after.is_none() {
            shared.repair.waiting.store(waiting, Ordering::Relaxed);
            metrics::gauge!("drystone_repair_waiting_extents").set(waiting as f64);
            // An empty queue is quickly looked at: others than this gateway put extents into it.
            return Ok(if did_repair || waiting == 0 { Pass::Whole } else { Pass::Idle });
        }
        if did_repair && shared.clock.monotonic() > until {
            return Ok(Pass::CutShort);
        }
    }
}

/// How many extents wait for repair that could be repaired now, of which `enough` need be counted: not
/// those of disks that are away, nor what more was lost of than parity makes up for.
pub(crate) async fn work_left(
    shared: &Shared,
    map: &ClusterMap,
    enough: usize,
) -> Result<usize, MetadataError> {
    let (mut count, mut after) = (0, None);
    loop {
        let answer = shared.metadata.query(Query::Repairs { after, limit: PAGE }).await?;
        let Answer::Repairs(page) = answer else { return Err(MetadataError::Unavailable) };
        let is_work = |item: &RepairItem| item.spare >= 0 && RepairPlan::new(map, item).is_some();
        count += page.items.iter().filter(|item| is_work(item)).count();
        after = page.next;
        if after.is_none() || count >= enough {
            return Ok(count);
        }
    }
}

/// What there is to do on a page of the queue.
struct Page {
    plans: Vec<RepairPlan>,
    /// Extents for which nothing can be done now.
    waiting: u64,
}

impl Page {
    fn new(map: &ClusterMap, backoff: &Backoff, items: &[RepairItem], now: Duration) -> Self {
        let ready = |item: &&RepairItem| !backoff.rests(item.extent.id, now);
        let plans: Vec<RepairPlan> =
            items.iter().filter(ready).filter_map(|item| RepairPlan::new(map, item)).collect();
        let waiting = (items.len() - plans.len()) as u64;
        Self { plans, waiting }
    }
}

/// What became of the plans of a page.
#[derive(Default)]
struct Done {
    /// Extents that still lack something that could have been repaired.
    waiting: u64,
    /// Whether time was up before all plans were begun.
    is_cut_short: bool,
}

/// Carries out the plans, of those that aren't urgent only what can be begun before `until`.
async fn repair_all(
    shared: &Arc<Shared>,
    map: &ClusterMap,
    backoff: &Backoff,
    plans: Vec<RepairPlan>,
    until: Duration,
) -> Result<Done, MetadataError> {
    let mut all = Done::default();
    let mut done: Vec<RepairedExtent> = Vec::new();
    let mut told = shared.clock.monotonic();
    let repairs: Vec<_> = plans
        .into_iter()
        .map(|plan| async move {
            if !plan.is_urgent && shared.clock.monotonic() > until {
                return (plan, None);
            }
            let repaired = repair_extent(shared, map, &plan).await;
            (plan, Some(repaired))
        })
        .collect();
    let mut repairs = stream::iter(repairs).buffer_unordered(EXTENTS_AT_ONCE);
    while let Some((plan, repaired)) = repairs.next().await {
        let extent = plan.extent.id;
        let Some(repaired) = repaired else {
            all.is_cut_short = true;
            continue;
        };
        shared.repair.count(&repaired);
        if !repaired.slots.is_empty() {
            let (slots, epoch) = (repaired.slots, map.epoch);
            let since = Timestamp::default();
            done.push(RepairedExtent { extent, slots, epoch, moving_to: None, since });
        }
        let now = shared.clock.monotonic();
        match repaired.failure {
            None => backoff.succeeded(extent),
            Some(failure) => {
                all.waiting += 1;
                let is_news = backoff.failed(extent, failure, now);
                report(&shared.repair, &plan, failure, is_news);
            }
        }
        if done.len() >= EXTENTS_PER_COMMAND || now.saturating_sub(told) > COMMAND_DELAY {
            tell(shared, std::mem::take(&mut done)).await?;
            told = shared.clock.monotonic();
        }
    }
    tell(shared, done).await?;
    Ok(all)
}

/// Takes repaired slots out of the queue.
async fn tell(shared: &Shared, repaired: Vec<RepairedExtent>) -> Result<(), MetadataError> {
    if repaired.is_empty() {
        return Ok(());
    }
    let command = Command::ShardsRepaired { repaired: repaired.clone() };
    if let Outcome::Refused(refusal) = shared.metadata.propose(command).await? {
        tracing::warn!(%refusal, "the metadata refused what was repaired");
        return Err(MetadataError::Unavailable);
    }
    // If they get lost again, that is news.
    shared.reports.forget(&repaired);
    let count = repaired.len() as u64;
    shared.repair.extents.fetch_add(count, Ordering::Relaxed);
    metrics::counter!("drystone_repair_extents_total").increment(count);
    Ok(())
}

impl RepairDesk {
    /// Sets the bandwidth that repair and moves share: while certainly no client reads or writes, and
    /// the less redundancy is left somewhere, the more.
    pub(crate) fn set_rate(&self, shared: &Shared, map: &ClusterMap) {
        let has_clients = shared.write_budget.is_in_use() || shared.read_budget.is_in_use();
        self.pace.set_rate(rate(map, shared.options.repair_bytes_per_second, has_clients));
    }

    fn count(&self, repaired: &Repaired) {
        self.shards.fetch_add(repaired.shards, Ordering::Relaxed);
        self.bytes.fetch_add(repaired.bytes, Ordering::Relaxed);
        metrics::counter!("drystone_repair_shards_total").increment(repaired.shards);
        metrics::counter!("drystone_repair_bytes_total").increment(repaired.bytes);
        if let Some(failure) = repaired.failure {
            self.failures.fetch_add(1, Ordering::Relaxed);
            metrics::counter!("drystone_repair_failures_total", "kind" => failure.as_str())
                .increment(1);
        }
    }
}

/// Says once why an extent stays in the queue.
fn report(desk: &RepairDesk, plan: &RepairPlan, failure: RepairFailure, is_news: bool) {
    let extent = plan.extent.id;
    match failure {
        RepairFailure::Lost | RepairFailure::Contradiction if is_news => {
            desk.lost.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%extent, %failure, "an extent can't be repaired");
        }
        _ if is_news => tracing::warn!(%extent, %failure, "an extent is not repaired yet"),
        _ => tracing::debug!(%extent, %failure, "an extent is not repaired yet"),
    }
}

#[cfg(test)]
mod tests {
    use model::cluster_map::DiskState::{self, Down, Up};
    use model::ids::{NodeId, NodeUuid};
    use model::node::{FEATURE_LEVEL, NodeRegistration};

    use super::*;

    /// Three disks, the last one in this state, and gateways on so many of three nodes.
    fn map(gateways: u32, state: DiskState) -> ClusterMap {
        let mut map = crate::three_disks::in_order([Up, Up, state]);
        for id in 1..=3 {
            let is_gateway = id <= gateways;
            let registration = NodeRegistration {
                uuid: NodeUuid([id as u8; 16]),
                name: format!("host{id}"),
                address: String::new(),
                roles: if is_gateway { Roles::ALL } else { Roles::STORAGE_NODE },
                rack: String::new(),
                zone: String::new(),
                level: FEATURE_LEVEL,
            };
            map.nodes.push(Node::new(NodeId(id), registration));
        }
        map
    }

    #[test]
    fn only_where_nobody_else_has_clients_is_idleness_known() {
        assert_eq!(rate(&map(1, Up), 100, false), 400);
        assert_eq!(rate(&map(1, Up), 100, true), 100);
        assert_eq!(rate(&map(2, Up), 100, false), 100, "the other one may have clients");
        assert_eq!(rate(&map(2, Down), 100, true), 400, "nothing may be lost any more");
    }

    #[test]
    fn what_an_operator_sets_is_not_raised_for_idleness() {
        let mut map = map(1, Up);
        map.upkeep.bytes_per_second = Some(10);
        assert_eq!(rate(&map, 100, false), 10);
        map.upkeep.bytes_per_second = Some(0);
        assert_eq!(rate(&map, 100, false), 0, "no limit");
    }
}
