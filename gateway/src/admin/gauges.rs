//! The state of the cluster as gauges, for `/metrics`.
//!
//! In: the status. Out: gauges in the process' recorder, set anew whenever somebody reads them. A
//! number that isn't known keeps its last value; of what is gone, a node that was removed or a disk
//! that was given up and is empty, a number is none (`NaN`), which no alarm compares with anything. A
//! replica that was replaced is in no state.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use metrics::gauge;

use crate::admin::figures::durability::DurabilityStatus;
use crate::admin::health::gauges;
use crate::admin::status::{ClusterStatus, DiskStatus, ReplicaStatus};

/// The states of a replica, so that the gauge of one that it has left goes back to 0.
const REPLICA_STATES: [&str; 6] =
    ["leader", "follower", "candidate", "learner", "fenced", "unreachable"];

/// The gauges, and what they were ever set for.
#[derive(Debug, Default)]
pub struct Gauges {
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    replicas: BTreeSet<u64>,
    nodes: BTreeSet<u32>,
    /// Units of the tolerance.
    units: BTreeSet<String>,
}

impl Gauges {
    /// Sets the gauges.
    pub fn set(&self, status: &ClusterStatus) {
        set_cluster(status);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for replica in &status.metadata.replicas {
            set_replica(replica);
        }
        let ids = status.metadata.replicas.iter().map(|replica| replica.replica);
        for gone in gone(&mut told.replicas, ids) {
            set_replica_state(gone, "");
            let id = gone.to_string();
            gauge!("drystone_raft_lag_entries", "replica" => id).set(f64::NAN);
        }
        // While nobody knows the cluster, nothing of it is known to be gone.
        if status.cluster.is_none() {
            return;
        }
        for gone in gone(&mut told.nodes, status.nodes.iter().map(|node| node.id)) {
            set_silence(gone, f64::NAN);
        }
        let units = status.tolerance.reading.iter().map(|reach| reach.unit.clone());
        for unit in gone(&mut told.units, units) {
            gauge!("drystone_tolerance", "unit" => unit).set(f64::NAN);
        }
    }
}

/// What was told and isn't there any more; from now on what is there is what was told.
fn gone<T: Ord + Clone>(told: &mut BTreeSet<T>, there: impl Iterator<Item = T>) -> Vec<T> {
    let there: BTreeSet<T> = there.collect();
    let gone = told.difference(&there).cloned().collect();
    *told = there;
    gone
}

fn set_cluster(status: &ClusterStatus) {
    let known = |name: &'static str, value: Option<u64>| {
        if let Some(value) = value {
            gauge!(name).set(value as f64);
        }
    };
    known("drystone_repair_queue_extents", status.repair_queue);
    known("drystone_garbage_extents", status.garbage_extents);
    known("drystone_buckets", status.usage.buckets);
    known("drystone_objects", status.usage.objects);
    known("drystone_object_bytes", status.usage.object_bytes);
    known("drystone_raft_term", status.metadata.term);
    let is_held = u64::from(status.held.is_some());
    known("drystone_metadata_held", status.cluster.is_some().then_some(is_held));
    let more = |name: &'static str, value: Option<i64>| {
        if let Some(value) = value {
            gauge!(name).set(value as f64);
        }
    };
    more("drystone_tolerated_disk_losses", status.fault_tolerance.more_disks);
    more("drystone_tolerated_replica_losses", status.fault_tolerance.more_metadata_replicas);
    gauge!("drystone_placement_groups", "state" => "open").set(status.placement_groups.open as f64);
    gauge!("drystone_placement_groups", "state" => "unreadable")
        .set(status.placement_groups.unreadable as f64);
    known("drystone_map_age_seconds", status.process.map_age_seconds);
    known("drystone_metadata_silence_seconds", Some(status.process.metadata_silent_seconds));
    for node in &status.nodes {
        if let Some(silence) = node.silent_seconds {
            set_silence(node.id, silence as f64);
        }
    }
    gauges::set(status.health, &status.reasons);
    status.durability.iter().for_each(set_durability);
    for disk in &status.disks {
        set_standing(disk);
        let is_up = f64::from(u8::from(disk.state == "up"));
        let is_gone = is_gone(status, disk);
        gauge!("drystone_disk_up", "disk" => disk.id.to_string()).set(if is_gone {
            f64::NAN
        } else {
            is_up
        });
        if is_gone {
            gauge!("drystone_disk_taken_ratio", "disk" => disk.id.to_string()).set(f64::NAN);
        } else if let (Some(free), Some(capacity @ 1..)) = (disk.free_bytes, disk.capacity_bytes) {
            let taken = capacity.saturating_sub(free) as f64 / capacity as f64;
            gauge!("drystone_disk_taken_ratio", "disk" => disk.id.to_string()).set(taken);
        }
    }
    for reach in &status.tolerance.reading {
        let survives = reach.survives.map_or(-1.0, f64::from);
        gauge!("drystone_tolerance", "unit" => reach.unit.clone()).set(survives);
    }
    if status.cluster.is_some() {
        gauge!("drystone_nodes_withheld").set(status.withheld_nodes.len() as f64);
        gauge!("drystone_moves_paused").set(f64::from(u8::from(status.moves.is_paused)));
    }
}

/// Whether a disk is away for good: an operator gave it up, or its node was removed, and all that it had
/// is elsewhere. Nobody is to look after it.
fn is_gone(status: &ClusterStatus, disk: &DiskStatus) -> bool {
    let is_empty = disk.state == "out" && disk.standing.slots == 0;
    let has_node = status.nodes.is_empty()
        || status.nodes.binary_search_by_key(&disk.node, |node| node.id).is_ok();
    is_empty && (disk.standing.given_up || !has_node)
}

fn set_silence(node: u32, seconds: f64) {
    gauge!("drystone_node_silence_seconds", "node" => node.to_string()).set(seconds);
}

fn set_durability(durability: &DurabilityStatus) {
    gauge!("drystone_durability_nines").set(durability.nines);
    gauge!("drystone_durability_nines_attainable").set(durability.nines_attainable);
    gauge!("drystone_durability_nines_target").set(durability.nines_target);
    gauge!("drystone_durability_rebuild_hours").set(durability.rebuild_hours);
}

fn set_standing(disk: &DiskStatus) {
    let standing = &disk.standing;
    let states = [
        ("drystone_disk_draining", standing.draining),
        ("drystone_disk_given_up", standing.given_up),
        ("drystone_disk_suspect", standing.suspect),
    ];
    for (name, is_so) in states {
        gauge!(name, "disk" => disk.id.to_string()).set(f64::from(u8::from(is_so)));
    }
    gauge!("drystone_disk_slots", "disk" => disk.id.to_string()).set(standing.slots as f64);
}

fn set_replica(replica: &ReplicaStatus) {
    set_replica_state(replica.replica, &replica.state);
    if let Some(applied) = replica.applied {
        let id = replica.replica.to_string();
        gauge!("drystone_raft_applied_index", "replica" => id).set(applied as f64);
    }
    if let Some(lag) = replica.lag {
        let id = replica.replica.to_string();
        gauge!("drystone_raft_lag_entries", "replica" => id).set(lag as f64);
    }
}

fn set_replica_state(replica: u64, current: &str) {
    for state in REPLICA_STATES {
        let is_so = state == current;
        gauge!("drystone_raft_state", "replica" => replica.to_string(), "state" => state)
            .set(f64::from(u8::from(is_so)));
    }
}

#[cfg(test)]
mod tests;
