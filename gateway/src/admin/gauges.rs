//! The state of the cluster as gauges, for `/metrics`.
//!
//! In: the status. Out: gauges in the process' recorder, set anew whenever somebody reads them. A
//! number that isn't known keeps its last value; a replica that was replaced is in no state.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use metrics::gauge;

use crate::admin::figures::DurabilityStatus;
use crate::admin::health::gauges;
use crate::admin::status::{ClusterStatus, DiskStatus, ReplicaStatus};

/// The states of a replica, so that the gauge of one that it has left goes back to 0.
const REPLICA_STATES: [&str; 6] =
    ["leader", "follower", "candidate", "learner", "fenced", "unreachable"];

/// The gauges, and the replicas that they were ever set for.
#[derive(Debug, Default)]
pub struct Gauges {
    replicas: Mutex<BTreeSet<u64>>,
}

impl Gauges {
    /// Sets the gauges.
    pub fn set(&self, status: &ClusterStatus) {
        set_cluster(status);
        let mut gone = self.replicas.lock().unwrap_or_else(PoisonError::into_inner);
        for replica in &status.metadata.replicas {
            set_replica(replica);
            gone.remove(&replica.replica);
        }
        for replica in gone.iter() {
            set_replica_state(*replica, "");
        }
        gone.extend(status.metadata.replicas.iter().map(|replica| replica.replica));
    }
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
            gauge!("drystone_node_silence_seconds", "node" => node.id.to_string())
                .set(silence as f64);
        }
    }
    gauges::set(status.health, &status.reasons);
    status.durability.iter().for_each(set_durability);
    for disk in &status.disks {
        let is_up = disk.state == "up";
        gauge!("drystone_disk_up", "disk" => disk.id.to_string()).set(f64::from(u8::from(is_up)));
        set_standing(disk);
        if let (Some(free), Some(capacity @ 1..)) = (disk.free_bytes, disk.capacity_bytes) {
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
