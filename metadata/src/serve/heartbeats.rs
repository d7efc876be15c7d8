//! Heartbeats of the storage nodes, as the leader sees them.
//!
//! In: reports of disks, and silence. Out: `SetDiskState` proposals when a disk's state should
//! change, as [`super::disk_states`] decides. The reports themselves are kept in memory only: they are
//! the present, not the truth.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::cluster_map::{ClusterMap, Disk, DiskState};
use model::command::{Command, CommandEnvelope, CommandId};
use model::ids::{DiskId, NodeId};
use model::placement::pgs_to_add;
use model::query::{Heartbeat, NodeHeard};
use model::shard::{DiskHealth, DiskReport};
use wire::clock::Clock;

use super::disk_states::{DiskHeard, Evidence, Verdict};
use super::proposals::Proposals;
use crate::limits::DISK_CHECK_INTERVAL;
use crate::raft::Raft;
use crate::state::StateMachine;

/// The last reports.
pub struct Heartbeats {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    reports: BTreeMap<DiskId, DiskReport>,
    disks: BTreeMap<DiskId, DiskHeard>,
    /// When each node was last heard.
    nodes: BTreeMap<NodeId, Duration>,
    /// When this replica began to lead: silence counts from here at the earliest.
    leads_since: Option<Duration>,
    /// Disks that are silent, and nodes whose silence is doubted, as last looked at.
    suspects: Vec<DiskId>,
    withheld: Vec<NodeId>,
    /// When more nodes than one would give up were silent at once, last.
    many_silent: Option<Duration>,
}

impl State {
    fn evidence<'a>(&'a self, map: &'a ClusterMap, clock: &dyn Clock) -> Evidence<'a> {
        let now = clock.monotonic();
        Evidence {
            map,
            disks: &self.disks,
            nodes: &self.nodes,
            leads_since: self.leads_since.unwrap_or(now),
            many_silent: self.many_silent,
            now,
            time: clock.now(),
        }
    }

    /// Takes note of what a node said of its disk. A silence for which the disk is down ends its being
    /// well, as a bad report does: what comes and goes mostly says nothing while it is gone.
    fn hear(&mut self, report: DiskReport, now: Duration, down_after: Duration) {
        let is_well = matches!(report.health, DiskHealth::Ok | DiskHealth::Full);
        let last =
            self.disks.get(&report.disk).filter(|last| now.saturating_sub(last.at) < down_after);
        let before = last.and_then(|last| last.well_since);
        let well_since = is_well.then(|| before.unwrap_or(now));
        let heard = DiskHeard { at: now, health: report.health, well_since };
        self.disks.insert(report.disk, heard);
        self.reports.insert(report.disk, report);
    }
}

impl Heartbeats {
    /// No reports yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Mutex::default() }
    }

    /// The last reports of all disks.
    pub fn reports(&self) -> Vec<DiskReport> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.reports.values().cloned().collect()
    }

    /// Disks that are silent and not down yet, and nodes of which so many are silent at once that
    /// their disks aren't given up.
    pub fn doubts(&self) -> (Vec<DiskId>, Vec<NodeId>) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.suspects.clone(), state.withheld.clone())
    }

    /// How long ago each node was last heard.
    pub fn heard(&self) -> Vec<NodeHeard> {
        let now = self.clock.monotonic();
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let silence_ms = |at: Duration| now.saturating_sub(at).as_millis() as u64;
        let heard = state.nodes.iter();
        heard.map(|(node, at)| NodeHeard { node: *node, silence_ms: silence_ms(*at) }).collect()
    }

    /// Takes a report; answers the epoch of the cluster map.
    pub fn take(
        &self,
        heartbeat: Heartbeat,
        machine: &StateMachine,
        proposals: &Arc<Proposals>,
    ) -> u64 {
        let Some(map) = machine.directory().map.clone() else {
            return 0;
        };
        let now = self.clock.monotonic();
        let mut changes = Vec::new();
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let node = heartbeat.node;
            if map.node(node).is_some() || map.disks.iter().any(|disk| disk.node == node) {
                state.nodes.insert(node, now);
            }
            for report in heartbeat.disks {
                // A report of a disk that the map doesn't know, or knows as another or another
                // node's, says nothing.
                let is_own = |disk: &&Disk| disk.uuid == report.uuid && disk.node == node;
                let Some(disk) = map.disk(report.disk).filter(is_own) else {
                    continue;
                };
                state.hear(report, now, map.upkeep.down_after());
                let wanted = state.evidence(&map, &*self.clock).on_report(disk);
                changes.extend(wanted.map(|wanted| (disk.id, wanted)));
            }
        }
        self.change(changes, proposals);
        map.epoch
    }

    /// Looks for silent disks every second, while this replica leads.
    pub async fn watch(&self, raft: &Raft, machine: &StateMachine, proposals: &Arc<Proposals>) {
        loop {
            self.clock.sleep(DISK_CHECK_INTERVAL).await;
            if machine.fence().is_set() {
                return;
            }
            let map = machine.directory().map.clone();
            let changes = match map {
                Some(map) if raft.is_leader() => self.silent(&map),
                Some(_) | None => {
                    self.forget();
                    Vec::new()
                }
            };
            self.change(changes, proposals);
        }
    }

    /// Who doesn't lead knows nothing of the disks.
    fn forget(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State::default();
    }

    /// Disks whose silence, or how long they are down, asks for another state; and, where no PG is
    /// open, a disk whose state is proposed anew, so that PGs are added.
    fn silent(&self, map: &ClusterMap) -> Vec<(DiskId, DiskState)> {
        let now = self.clock.monotonic();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let leads_since = *state.leads_since.get_or_insert(now);
        let verdict = state.evidence(map, &*self.clock).verdict();
        let Verdict { mut changes, suspects, withheld, is_many } = verdict;
        if is_many {
            state.many_silent = Some(now);
        }
        for disk in suspects.iter().filter(|disk| !state.suspects.contains(disk)) {
            let path = map.disk(*disk).map_or("", |disk| &disk.path);
            tracing::warn!(%disk, path, "disk is silent");
        }
        if !withheld.is_empty() && state.withheld != withheld {
            let nodes: Vec<u32> = withheld.iter().map(|node| node.0).collect();
            tracing::error!(
                ?nodes,
                "many nodes are silent at once: their disks are not given up unless an operator says so"
            );
        }
        (state.suspects, state.withheld) = (suspects, withheld);
        let is_settled = now.saturating_sub(leads_since) >= map.upkeep.suspect_after();
        let lacks_pgs = || map.open_pgs(&[]).is_empty() && !pgs_to_add(map).is_empty();
        if changes.is_empty() && is_settled && lacks_pgs() {
            let up = map.disks.iter().find(|disk| disk.state == DiskState::Up);
            changes.extend(up.map(|disk| (disk.id, disk.state)));
        }
        changes
    }

    /// Proposes new states. If that fails, the next report or check proposes them again.
    fn change(&self, changes: Vec<(DiskId, DiskState)>, proposals: &Arc<Proposals>) {
        if changes.is_empty() {
            return;
        }
        let envelope = |(disk, state): (DiskId, DiskState)| {
            tracing::warn!(%disk, state = state.as_str(), "disk changes state");
            CommandEnvelope {
                id: CommandId::default(),
                acknowledged_below: 0,
                proposed: self.clock.now(),
                command: Command::SetDiskState { disk, state },
            }
        };
        let commands = changes.into_iter().map(envelope).collect();
        let proposals = Arc::clone(proposals);
        tokio::spawn(async move {
            if let Err(error) = proposals.propose(commands).await {
                tracing::debug!(%error, "disk states were not proposed");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use model::cluster_map::Standing;
    use model::coding::Coding;
    use model::ids::{ClusterId, DiskUuid, Incarnation};
    use model::shard::{CompactionReport, ScrubReport};
    use wire::clock::SimulatedClock;

    use super::*;

    /// A disk on each of so many nodes.
    fn map(nodes: u32) -> ClusterMap {
        let coding = Coding::parse("2+1").expect("valid");
        let mut map = ClusterMap::new(ClusterId::default(), coding);
        let disk = |id: u32| Disk {
            id: DiskId(id),
            uuid: DiskUuid([id as u8; 16]),
            node: NodeId(id),
            rack: String::new(),
            zone: String::new(),
            weight: 1,
            state: DiskState::Up,
            path: String::new(),
            standing: Standing::default(),
        };
        map.disks = (1..=nodes).map(disk).collect();
        map
    }

    fn well(disk: &Disk) -> DiskReport {
        DiskReport {
            disk: disk.id,
            uuid: disk.uuid,
            cluster: ClusterId::default(),
            health: DiskHealth::Ok,
            reason: None,
            capacity_bytes: 0,
            free_bytes: 0,
            live_bytes: 0,
            garbage_bytes: 0,
            shards: 0,
            incarnation: Incarnation(1),
            reserve_bytes: 0,
            damaged_shards: 0,
            scrub: ScrubReport::default(),
            compaction: CompactionReport::default(),
        }
    }

    /// A leader that hears of some nodes each second.
    struct World {
        clock: Arc<SimulatedClock>,
        heartbeats: Heartbeats,
        map: ClusterMap,
    }

    impl World {
        fn new(nodes: u32) -> Self {
            let clock = Arc::new(SimulatedClock::new());
            let heartbeats = Heartbeats::new(Arc::clone(&clock) as _);
            Self { clock, heartbeats, map: map(nodes) }
        }

        /// What the reports of the nodes' disks ask for.
        fn report(&self, nodes: &[u32]) -> Vec<(DiskId, DiskState)> {
            let now = self.clock.monotonic();
            let mut state = self.heartbeats.state.lock().expect("no panic");
            let mut wanted = Vec::new();
            for node in nodes {
                let disk = self.map.disk(DiskId(*node)).expect("there");
                state.nodes.insert(disk.node, now);
                state.hear(well(disk), now, self.map.upkeep.down_after());
                let state = state.evidence(&self.map, &*self.clock).on_report(disk);
                wanted.extend(state.map(|state| (disk.id, state)));
            }
            wanted
        }

        /// So many seconds with reports of these nodes alone. Changes are made at once.
        fn pass(&mut self, seconds: u32, nodes: &[u32]) -> Vec<(DiskId, DiskState)> {
            let mut changes = Vec::new();
            for _ in 0..seconds {
                self.clock.advance(Duration::from_secs(1));
                let mut now = self.report(nodes);
                now.extend(self.heartbeats.silent(&self.map));
                for (id, state) in &now {
                    let disk = self.map.disk_mut(*id).expect("there");
                    disk.state = *state;
                    disk.standing.since = self.clock.now();
                    disk.standing.flaps += u32::from(*state == DiskState::Down);
                }
                // Where too few groups are open, a state is proposed that is there already.
                changes.extend(now);
            }
            changes
        }

        fn state(&self, disk: u32) -> DiskState {
            self.map.disk(DiskId(disk)).expect("there").state
        }
    }

    #[test]
    fn who_comes_and_goes_silently_waits_to_be_up() {
        let mut world = World::new(4);
        world.pass(20, &[1, 2, 3, 4]);
        let up = (DiskId(4), DiskState::Up);
        // The first time it is up at once.
        assert!(world.pass(12, &[1, 2, 3]).contains(&(DiskId(4), DiskState::Down)));
        assert!(world.pass(1, &[1, 2, 3, 4]).contains(&up));
        world.pass(12, &[1, 2, 3]);
        assert!(!world.pass(10, &[1, 2, 3, 4]).contains(&up), "10 s haven't passed");
        assert!(world.pass(1, &[1, 2, 3, 4]).contains(&up));
        // Gone 12 s of each 20, it isn't up any more.
        for _ in 0..5 {
            world.pass(12, &[1, 2, 3]);
            assert!(!world.pass(8, &[1, 2, 3, 4]).contains(&up));
        }
        // A report that comes late is no silence.
        world.pass(5, &[1, 2, 3]);
        world.pass(8, &[1, 2, 3, 4]);
        assert_eq!(world.state(4), DiskState::Up);
    }

    #[test]
    fn the_last_node_of_a_rack_that_comes_back_is_not_given_up_for_being_alone() {
        let mut world = World::new(4);
        world.pass(20, &[1, 2, 3, 4]);
        // A rack without power for longer than a disk may be down.
        let all = world.pass(700, &[1, 2]);
        assert!(!all.iter().any(|(_, state)| *state == DiskState::Out), "{all:?}");
        assert_eq!(world.heartbeats.doubts().1, [NodeId(3), NodeId(4)]);
        // One host is up a minute before the other.
        world.pass(60, &[1, 2, 3]);
        assert_eq!((world.state(3), world.state(4)), (DiskState::Up, DiskState::Down));
        world.pass(5, &[1, 2, 3, 4]);
        assert_eq!(world.state(4), DiskState::Up);
        // Back, but for one that never comes: it isn't waited for without an end.
        world.pass(700, &[1, 2]);
        world.pass(299, &[1, 2, 3]);
        assert_eq!(world.state(4), DiskState::Down);
        world.pass(2, &[1, 2, 3]);
        assert_eq!(world.state(4), DiskState::Out);
    }
}
