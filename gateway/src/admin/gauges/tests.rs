//! Gauges of what is there, and of what isn't any more.

use metrics_exporter_prometheus::PrometheusBuilder;

use super::*;
use crate::admin::status::{DiskStanding, NodeStatus};
use crate::admin::upkeep::tolerance::ReachStatus;

/// A cluster with these nodes and units, and one disk on node 1.
fn status(nodes: &[u32], units: &[&str], disk: DiskStatus) -> ClusterStatus {
    let mut status = ClusterStatus {
        cluster: Some("ab".to_owned()),
        disks: vec![disk],
        ..ClusterStatus::default()
    };
    status.nodes = nodes
        .iter()
        .map(|id| NodeStatus { id: *id, silent_seconds: Some(5000), ..NodeStatus::default() })
        .collect();
    let reach = |unit: &&str| ReachStatus {
        unit: (*unit).to_owned(),
        survives: Some(1),
        limit: String::new(),
    };
    status.tolerance.reading = units.iter().map(reach).collect();
    status
}

fn disk(state: &str, given_up: bool, slots: u64) -> DiskStatus {
    DiskStatus {
        id: 3,
        node: 1,
        state: state.to_owned(),
        capacity_bytes: Some(100),
        free_bytes: Some(10),
        standing: DiskStanding { given_up, slots, ..DiskStanding::default() },
        ..DiskStatus::default()
    }
}

/// What the gauges tell after all of these, one after the other.
fn told(all: &[ClusterStatus]) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        let gauges = Gauges::default();
        for status in all {
            gauges.set(status);
        }
    });
    recorder.handle().render()
}

#[track_caller]
fn check(text: &str, line: &str) {
    assert!(text.lines().any(|found| found == line), "{line} in {text}");
}

#[test]
fn what_is_gone_has_no_number() {
    let before = status(&[1, 4], &["disk", "rack"], disk("up", false, 9));
    let text = told(std::slice::from_ref(&before));
    check(&text, "drystone_node_silence_seconds{node=\"4\"} 5000");
    check(&text, "drystone_tolerance{unit=\"rack\"} 1");
    let after = status(&[1], &["disk"], disk("up", false, 9));
    let text = told(&[before.clone(), after.clone(), after]);
    check(&text, "drystone_node_silence_seconds{node=\"1\"} 5000");
    check(&text, "drystone_node_silence_seconds{node=\"4\"} NaN");
    check(&text, "drystone_tolerance{unit=\"disk\"} 1");
    check(&text, "drystone_tolerance{unit=\"rack\"} NaN");
    let back = told(&[before.clone(), status(&[1], &["disk"], disk("up", false, 9)), before]);
    check(&back, "drystone_node_silence_seconds{node=\"4\"} 5000");
}

#[test]
fn what_is_not_known_keeps_its_number() {
    let before = status(&[1, 4], &["disk", "rack"], disk("up", false, 9));
    let text = told(&[before, ClusterStatus::default()]);
    check(&text, "drystone_node_silence_seconds{node=\"4\"} 5000");
    check(&text, "drystone_tolerance{unit=\"rack\"} 1");
}

#[test]
fn a_disk_that_was_replaced_is_in_no_alarm() {
    let with = |disk| told(&[status(&[1], &["disk"], disk)]);
    let up = "drystone_disk_up{disk=\"3\"}";
    let taken = "drystone_disk_taken_ratio{disk=\"3\"}";
    let text = with(disk("out", false, 9));
    check(&text, &format!("{up} 0"));
    check(&text, &format!("{taken} 0.9"));
    check(&with(disk("out", true, 9)), &format!("{up} 0"));
    check(&with(disk("out", false, 0)), &format!("{up} 0"));
    let text = with(disk("out", true, 0));
    check(&text, &format!("{up} NaN"));
    check(&text, &format!("{taken} NaN"));
    let removed = told(&[status(&[2], &["disk"], disk("out", false, 0))]);
    check(&removed, &format!("{up} NaN"));
}

#[test]
fn a_replica_that_is_gone_is_in_no_state_and_lags_by_nothing() {
    let mut before = status(&[1], &[], disk("up", false, 0));
    before.metadata.replicas = vec![ReplicaStatus {
        replica: 7,
        lag: Some(40),
        state: "follower".to_owned(),
        ..ReplicaStatus::default()
    }];
    let text = told(&[before.clone()]);
    check(&text, "drystone_raft_lag_entries{replica=\"7\"} 40");
    let text = told(&[before, status(&[1], &[], disk("up", false, 0))]);
    check(&text, "drystone_raft_lag_entries{replica=\"7\"} NaN");
    check(&text, "drystone_raft_state{replica=\"7\",state=\"follower\"} 0");
}
