//! Heartbeats of the storage nodes, as the leader sees them.
//!
//! In: reports of disks, and silence. Out: `SetDiskState` proposals when a disk's state should
//! change. The reports themselves are kept in memory only: they are the present, not the truth.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::cluster_map::{ClusterMap, Disk, DiskState};
use model::command::{Command, CommandEnvelope, CommandId};
use model::ids::{DiskId, NodeId};
use model::query::{Heartbeat, NodeHeard};
use model::shard::{DiskHealth, DiskReport};
use wire::clock::Clock;

use super::proposals::Proposals;
use crate::limits::{DISK_CHECK_INTERVAL, DISK_DOWN_AFTER, DISK_SUSPECT_AFTER};
use crate::raft::Raft;
use crate::state::StateMachine;

/// The last reports.
pub struct Heartbeats {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    reports: BTreeMap<DiskId, Heard>,
    /// When each node was last heard.
    nodes: BTreeMap<NodeId, Duration>,
    /// When this replica began to lead: silence counts from here at the earliest.
    leads_since: Option<Duration>,
}

struct Heard {
    report: DiskReport,
    at: Duration,
    is_suspect: bool,
}

impl Heartbeats {
    /// No reports yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Mutex::default() }
    }

    /// The last reports of all disks.
    pub fn reports(&self) -> Vec<DiskReport> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.reports.values().map(|heard| heard.report.clone()).collect()
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
                let wanted = state_for(report.health);
                if disk.state != wanted && disk.state != DiskState::Out {
                    changes.push((report.disk, wanted));
                }
                state.reports.insert(report.disk, Heard { report, at: now, is_suspect: false });
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

    /// Disks that should be down for their silence; and, where no PG is open, a disk whose state
    /// is proposed anew, so that PGs are added.
    fn silent(&self, map: &ClusterMap) -> Vec<(DiskId, DiskState)> {
        let now = self.clock.monotonic();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let leads_since = *state.leads_since.get_or_insert(now);
        let mut changes = Vec::new();
        for disk in &map.disks {
            let heard = state.reports.get_mut(&disk.id);
            let last = heard.as_ref().map_or(leads_since, |heard| heard.at.max(leads_since));
            let silence = now.saturating_sub(last);
            if silence >= DISK_DOWN_AFTER {
                if matches!(disk.state, DiskState::Up | DiskState::Full) {
                    changes.push((disk.id, DiskState::Down));
                }
            } else if silence >= DISK_SUSPECT_AFTER
                && let Some(heard) = heard
                && !heard.is_suspect
            {
                heard.is_suspect = true;
                tracing::warn!(disk = %disk.id, path = disk.path, "disk is silent");
            }
        }
        let is_settled = now.saturating_sub(leads_since) >= DISK_SUSPECT_AFTER;
        if changes.is_empty() && is_settled && map.open_pgs(&[]).is_empty() {
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

/// The state that a disk's own report asks for.
fn state_for(health: DiskHealth) -> DiskState {
    match health {
        DiskHealth::Ok => DiskState::Up,
        DiskHealth::Full => DiskState::Full,
        DiskHealth::ReadOnly | DiskHealth::Failed => DiskState::Down,
    }
}
