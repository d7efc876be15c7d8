//! Carries moves out: puts slots on the disks of the nodes whose lease this gateway has.
//!
//! In: the moves under way, by the cluster map. Out: their slots' shards on the new disks, and the
//! commands that end them. Every gateway has one of these. The moves to the disks of a node are one
//! gateway's at a time: the one that is in the node's own process, where there is such a one, so that
//! rebuilt shards don't cross the network; else whoever has the fewest nodes takes the next, the one
//! that plans the moves first. What always holds: of another gateway's moves nothing is begun; two that
//! believe to have the lease do some of it twice, and no harm.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use model::cluster_map::ClusterMap;
use model::command::Command;
use model::ids::NodeId;
use model::level::MOVING;
use model::moves::{Move, MoveEnd, MoveFault, MoveReason, MoveResult};
use model::node::{Job, Node, Roles};
use model::query::MetadataError;
use model::time::Timestamp;
use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use super::MoveFailure;
use super::plan::{Begun, Slot, is_obsolete, rank, under_way};
use super::slot::SlotTask;
use super::steer::is_held;
use crate::lease::JobLease;
use crate::shared::Shared;

/// Slots that a gateway copies at once, each by several stripes: more would be felt by its clients.
const SLOTS_AT_ONCE: usize = 2;

/// After a failure a move rests: first this long, then twice that, and so on.
const REST_FIRST: Duration = Duration::from_secs(5);

/// The longest rest.
const REST_MAX: Duration = Duration::from_mins(5);

/// Failures in a row after which a move is marked as failing: it keeps its group closed, and others
/// waiting.
const FAILURES_MAX: u32 = 3;

/// For how many intervals a node's lease is kept while nothing moves to it.
const IDLE_INTERVALS: u32 = 5;

/// Intervals that a gateway waits with each node's lease that it has already, up to so many.
const TURNS_PER_NODE: u32 = 2;
const TURNS_MAX: u32 = 6;

/// Intervals that others wait for the gateway in the node's own process.
const TURNS_FOR_OWN: u32 = 3;

/// Carries moves out, until told to stop.
pub(crate) async fn run(
    shared: Arc<Shared>,
    interval: Duration,
    mut stopping: watch::Receiver<bool>,
) {
    let mut carrier = Carrier {
        shared: Arc::clone(&shared),
        interval,
        working: JoinSet::new(),
        busy: BTreeMap::new(),
        seen: BTreeMap::new(),
        over: BTreeMap::new(),
        resting: BTreeMap::new(),
        waiting: BTreeMap::new(),
        posts: BTreeMap::new(),
    };
    tokio::select! {
        _ = stopping.wait_for(|stop| *stop) => {}
        () = carrier.work() => {}
    }
    shared.rebalance.forget();
}

struct Carrier {
    shared: Arc<Shared>,
    interval: Duration,
    /// The moves that are worked on, which end with this.
    working: JoinSet<Result<(), MoveFailure>>,
    busy: BTreeMap<Slot, (AbortHandle, Begun)>,
    /// When moves were first seen here.
    seen: BTreeMap<Slot, (Timestamp, Duration)>,
    /// Moves that have ended, which this gateway's map may still show.
    over: BTreeMap<Slot, Timestamp>,
    /// Moves that failed.
    resting: BTreeMap<Slot, Rest>,
    /// Since when there is something to do for nodes whose lease isn't asked for yet.
    waiting: BTreeMap<NodeId, Duration>,
    /// The nodes whose lease is asked for.
    posts: BTreeMap<NodeId, Post>,
}

struct Post {
    lease: JobLease,
    /// Since when nothing moves to the node.
    idle_since: Option<Duration>,
}

#[derive(Clone, Copy)]
struct Rest {
    since: Timestamp,
    until: Duration,
    failures: u32,
}

impl Carrier {
    async fn work(&mut self) {
        let shared = Arc::clone(&self.shared);
        let mut leases = shared.leases.changes();
        loop {
            if let Err(error) = self.look().await {
                tracing::debug!(%error, "no moves are taken up this time");
            }
            tokio::select! {
                Some(ended) = self.working.join_next_with_id() => self.ended(ended).await,
                () = shared.clock.sleep(self.interval) => {}
                () = shared.rebalance.carry.notified() => {}
                _ = leases.changed() => {}
            }
        }
    }

    /// Takes up what is to be done here, and leaves what isn't any more.
    async fn look(&mut self) -> Result<(), MetadataError> {
        let map = self.shared.map.get().await?;
        let now = self.shared.clock.monotonic();
        let is_known = map.level_in_use() >= MOVING;
        let mut all = if is_known { under_way(&map) } else { Vec::new() };
        // What is to be given up is for who plans.
        all.retain(|begun| begun.fault.is_none() && !is_obsolete(&map, &begun.what));
        let is_there =
            |slot: &Slot, since: Timestamp| all.iter().any(|begun| begun.is(*slot, since));
        self.resting.retain(|slot, rest| is_there(slot, rest.since));
        self.seen.retain(|slot, (since, _)| is_there(slot, *since));
        self.over.retain(|slot, since| is_there(slot, *since));
        all.retain(|begun| self.over.get(&begun.slot()) != Some(&begun.since));
        for begun in &all {
            self.seen.entry(begun.slot()).or_insert((begun.since, now));
        }
        self.ask_for_leases(&map, &all, now);
        if !all.is_empty() {
            // For those that wait by the old one, too.
            self.shared.repair.set_rate(&self.shared, &map);
        }
        // What is lost waits for nothing else.
        let is_any_lost = all.iter().any(|begun| begun.what.reason == MoveReason::Lost);
        let is_due = |begun: &Begun| begun.what.reason == MoveReason::Lost || !is_any_lost;
        let posts = &self.posts;
        let is_ours = |begun: &Begun| {
            let node = map.disk(begun.what.to).map(|disk| disk.node);
            let post = node.and_then(|node| posts.get(&node));
            post.is_some_and(|post| post.lease.is_held())
        };
        let desk = &self.shared.rebalance;
        self.busy.retain(|_, (handle, begun)| {
            let stays = is_due(begun) && is_ours(begun);
            if !stays {
                // What it copied is found by whoever goes on.
                handle.abort();
                desk.end(begun.what);
            }
            stays
        });
        let rests = |slot: &Slot| self.resting.get(slot).is_some_and(|rest| rest.until > now);
        let mut next: Vec<Begun> =
            all.iter().filter(|one| is_due(one) && is_ours(one)).copied().collect();
        next.retain(|one| !self.busy.contains_key(&one.slot()) && !rests(&one.slot()));
        // Of what is lost the groups with the least to spare are first, and push aside those with more.
        let level = |begun: &Begun| (begun.what.reason, rank(&map, begun.what.pg));
        next.sort_by_key(level);
        let urgent = next.iter().filter(|one| one.what.reason == MoveReason::Lost).copied();
        for (begun, one) in urgent.take(SLOTS_AT_ONCE).enumerate() {
            let last = self.busy.values().map(|(_, busy)| *busy).max_by_key(level);
            let is_full = self.busy.len() + begun >= SLOTS_AT_ONCE;
            let Some(last) = last.filter(|last| is_full && level(&one) < level(last)) else {
                continue;
            };
            if let Some((handle, begun)) = self.busy.remove(&last.slot()) {
                handle.abort();
                desk.end(begun.what);
            }
        }
        next.truncate(SLOTS_AT_ONCE.saturating_sub(self.busy.len()));
        if next.is_empty() || is_held(&self.shared).await? {
            return Ok(());
        }
        for begun in next {
            self.shared.rebalance.begin(begun.what);
            let seen = self.seen.get(&begun.slot()).map_or(now, |(_, seen)| *seen);
            let task = SlotTask { shared: Arc::clone(&self.shared), begun, seen };
            let handle = self.working.spawn(async move { task.run().await });
            self.busy.insert(begun.slot(), (handle, begun));
        }
        Ok(())
    }

    /// Asks for the leases of nodes to which something moves, and gives back those of others.
    fn ask_for_leases(&mut self, map: &ClusterMap, all: &[Begun], now: Duration) {
        let node_of = |begun: &Begun| map.disk(begun.what.to).map(|disk| disk.node);
        let nodes: BTreeSet<NodeId> = all.iter().filter_map(node_of).collect();
        let idle_max = self.interval * IDLE_INTERVALS;
        self.posts.retain(|node, post| {
            post.idle_since = (!nodes.contains(node)).then(|| post.idle_since.unwrap_or(now));
            post.idle_since.is_none_or(|since| now.saturating_sub(since) < idle_max)
        });
        self.waiting.retain(|node, _| nodes.contains(node));
        for node in nodes {
            if self.posts.contains_key(&node) {
                continue;
            }
            let since = *self.waiting.entry(node).or_insert(now);
            let plans = self.shared.leases.held_jobs().contains(&Job::Move);
            let turns = turns(map, node, self.shared.options.node, plans, self.posts.len());
            if now.saturating_sub(since) >= self.interval * turns {
                self.waiting.remove(&node);
                let lease = self.shared.leases.want_for(Job::Fill, node);
                self.posts.insert(node, Post { lease, idle_since: None });
            }
        }
    }

    /// Takes note of how a move went.
    async fn ended(&mut self, ended: Result<(Id, Result<(), MoveFailure>), JoinError>) {
        let (id, result) = match ended {
            Ok((id, result)) => (id, result),
            Err(error) => {
                if !error.is_cancelled() {
                    tracing::error!(%error, "a move ended in disorder");
                }
                (error.id(), Err(MoveFailure::Unavailable))
            }
        };
        let found = self.busy.iter().find(|(_, (handle, _))| handle.id() == id);
        // What was left isn't here any more.
        let Some((slot, begun)) = found.map(|(slot, (_, begun))| (*slot, *begun)) else { return };
        self.busy.remove(&slot);
        let (what, desk) = (begun.what, &self.shared.rebalance);
        desk.end(what);
        let Err(failure) = result else {
            self.over.insert(slot, begun.since);
            self.resting.remove(&slot);
            desk.slots.fetch_add(1, Ordering::Relaxed);
            let reason = what.reason.as_str();
            metrics::counter!("drystone_moves_total", "result" => "done", "reason" => reason)
                .increment(1);
            if what.reason == MoveReason::Lost {
                // What could not be rebuilt waits for repair on the new disk.
                self.shared.repair.wake();
            }
            desk.wake();
            return;
        };
        if failure == MoveFailure::Gone {
            self.resting.remove(&slot);
            return;
        }
        desk.failures.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("drystone_move_failures_total", "kind" => failure.as_str()).increment(1);
        let failures = self.resting.get(&slot).map_or(0, |rest| rest.failures) + 1;
        if failures == 1 {
            let Move { pg, slot, to, .. } = what;
            tracing::warn!(pg = pg.0, slot, %to, %failure, "a slot does not move yet");
        }
        if failures >= FAILURES_MAX {
            self.mark(&begun, failure).await;
        }
        // Where the map is looked at more often, less is waited for.
        let first = REST_FIRST.min(self.interval * 10);
        let length = (first * 2u32.saturating_pow(failures.min(16) - 1)).min(REST_MAX);
        let until = self.shared.clock.monotonic() + length;
        self.resting.insert(slot, Rest { since: begun.since, until, failures });
    }

    /// Marks a move that keeps failing, so that it is given up, and not begun again at once. Without an
    /// answer it is tried once more.
    async fn mark(&self, begun: &Begun, failure: MoveFailure) {
        let fault = match failure {
            MoveFailure::TargetFailed => MoveFault::Target,
            MoveFailure::SourcesOutOfReach => MoveFault::Sources,
            MoveFailure::Gone | MoveFailure::Unavailable => return,
        };
        let Begun { what: Move { pg, slot, to, .. }, since, .. } = *begun;
        let end = MoveEnd { pg, slot, to, result: MoveResult::Failing(fault), since };
        match self.shared.metadata.propose(Command::EndMove(end)).await {
            Ok(_) => self.shared.rebalance.wake(),
            Err(error) => tracing::debug!(%error, "a failing move is marked later"),
        }
    }
}

/// How many intervals a gateway leaves a node's lease to others: `own` is its own node, `plans` whether
/// it plans the moves, `posts` how many nodes it has.
fn turns(map: &ClusterMap, node: NodeId, own: Option<NodeId>, plans: bool, posts: usize) -> u32 {
    let is_gateway = |node: &Node| node.registration.roles.contains(Roles::GATEWAY);
    let gateways = map.nodes.iter().filter(|node| is_gateway(node)).count();
    if gateways <= 1 || own == Some(node) {
        return 0;
    }
    let for_own = if map.node(node).is_some_and(is_gateway) { TURNS_FOR_OWN } else { 0 };
    let posts = u32::try_from(posts).unwrap_or(u32::MAX);
    posts.saturating_mul(TURNS_PER_NODE).min(TURNS_MAX) + u32::from(!plans) + for_own
}

#[cfg(test)]
mod tests {
    use model::cluster_map::DiskState;
    use model::ids::NodeUuid;
    use model::node::NodeRegistration;

    use super::*;
    use crate::three_disks::in_order;

    #[test]
    fn a_node_is_left_to_its_own_gateway_and_to_those_with_less_to_do() {
        let mut map = in_order([DiskState::Up; 3]);
        let node = NodeId(1);
        assert_eq!(turns(&map, node, None, false, 9), 0, "there is nobody else");
        for (id, roles) in [(1, Roles::STORAGE_NODE), (2, Roles::GATEWAY), (3, Roles::GATEWAY)] {
            let registration = NodeRegistration {
                uuid: NodeUuid([id; 16]),
                name: String::new(),
                address: String::new(),
                roles,
                rack: String::new(),
                zone: String::new(),
                level: MOVING,
            };
            map.nodes.push(Node::new(NodeId(u32::from(id)), registration));
        }
        let wait =
            |map: &ClusterMap, own, plans, posts| turns(map, node, Some(NodeId(own)), plans, posts);
        // The one that plans takes the first, the other the next, and so on by turns.
        assert_eq!((wait(&map, 2, true, 0), wait(&map, 3, false, 0)), (0, 1));
        assert_eq!((wait(&map, 2, true, 1), wait(&map, 3, false, 1)), (2, 3));
        assert_eq!(wait(&map, 3, false, 1000), TURNS_MAX + 1, "nobody waits for ever");
        map.nodes[0].registration.roles = Roles::ALL;
        assert_eq!(wait(&map, 1, false, 1000), 0, "its disks are here");
        assert_eq!(wait(&map, 2, true, 0), TURNS_FOR_OWN);
    }
}
