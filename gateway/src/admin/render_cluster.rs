//! The nodes and metadata replicas of a cluster as text for a terminal, and what came of orders.

use std::fmt::Write as _;

use crate::admin::backup_targets;
use crate::admin::orders::{CheckReport, Token};
use crate::admin::render::{known, table};
use crate::admin::status::{ClusterStatus, HeldStatus, MetadataSummary, NodeStatus, ReplicaStatus};

const NODE_TITLES: [&str; 9] =
    ["NODE", "NAME", "ROLES", "ADDRESS", "RACK", "ZONE", "LEVEL", "HEARD", "KEEPS"];

fn node_row(node: &NodeStatus) -> [String; 9] {
    let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    [
        node.id.to_string(),
        dash(&node.name),
        dash(&node.roles),
        dash(&node.address),
        dash(&node.rack),
        dash(&node.zone),
        node.level.to_string(),
        match node.silent_seconds {
            None => "unknown".to_owned(),
            Some(0 | 1) => "now".to_owned(),
            Some(seconds) => format!("{seconds} s ago"),
        },
        keeps(node),
    ]
}

/// What a node has that keeps it from being removed.
fn keeps(node: &NodeStatus) -> String {
    let mut kept = Vec::new();
    if node.disks > 0 {
        kept.push(format!("{} disks", node.disks));
    }
    if !node.replicas.is_empty() {
        let ids: Vec<String> = node.replicas.iter().map(u64::to_string).collect();
        let word = if ids.len() == 1 { "replica" } else { "replicas" };
        kept.push(format!("{word} {}", ids.join(", ")));
    }
    if kept.is_empty() { "-".to_owned() } else { kept.join("; ") }
}

/// The table of nodes.
pub fn nodes(nodes: &[NodeStatus]) -> String {
    let mut out = String::new();
    let rows: Vec<_> = nodes.iter().map(node_row).collect();
    let _infallible = table(&mut out, NODE_TITLES, &rows);
    out
}

const REPLICA_TITLES: [&str; 7] = ["REPLICA", "NODE", "STATE", "APPLIED", "LAG", "DIGESTS", "PATH"];

fn replica_row(replica: &ReplicaStatus) -> [String; 7] {
    let digests = match replica.digests_match {
        Some(true) => "match",
        Some(false) => "DIFFER",
        None => "-",
    };
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    [
        replica.replica.to_string(),
        or_dash(replica.node.map(|node| node.to_string())),
        replica.state.clone(),
        known(replica.applied),
        or_dash(replica.lag.map(|lag| lag.to_string())),
        digests.to_owned(),
        or_dash(replica.disk.clone()),
    ]
}

/// What the feature level waits for.
fn waits(metadata: &MetadataSummary) -> String {
    let Some(to_come) = metadata.level_to_come.filter(|_| !metadata.nodes_behind.is_empty()) else {
        return String::new();
    };
    let ids: Vec<String> = metadata.nodes_behind.iter().map(u32::to_string).collect();
    let (word, verb) = if ids.len() == 1 { ("node", "is") } else { ("nodes", "are") };
    format!("; {to_come} once {word} {} {verb} upgraded", ids.join(", "))
}

/// The leader, the feature level, and the table of replicas.
pub fn metadata(metadata: &MetadataSummary) -> String {
    let of_leader = |replica: &&ReplicaStatus| Some(replica.replica) == metadata.leader;
    let node = metadata.replicas.iter().find(of_leader).and_then(|replica| replica.node);
    let leader = match (metadata.leader, &metadata.leader_disk, node) {
        (Some(leader), Some(disk), _) => format!("replica {leader} on {disk}"),
        (Some(leader), None, Some(node)) => format!("replica {leader} on node {node}"),
        (Some(leader), None, None) => format!("replica {leader}"),
        (None, ..) => "none".to_owned(),
    };
    let mut out = String::new();
    let rows: Vec<_> = metadata.replicas.iter().map(replica_row).collect();
    // Writing to a String can't fail.
    let _infallible = writeln!(out, "Metadata leader: {leader}, term {}", known(metadata.term));
    if let Some(level) = metadata.level {
        let _infallible = writeln!(out, "Feature level: {level}{}", waits(metadata));
    }
    let _infallible = table(&mut out, REPLICA_TITLES, &rows);
    if !metadata.backups.is_empty() {
        let _infallible = write!(out, "\n{}", backup_targets::render(&metadata.backups));
    }
    out
}

/// What is held.
pub fn held(held: &HeldStatus) -> String {
    let what = match (&held.since, held.index) {
        (Some(since), Some(index)) => format!(
            "what was written after {since}, of which the backup (log index {index}) knows nothing"
        ),
        _ => "all that the disks have and the metadata, begun anew, doesn't know".to_owned(),
    };
    let groups = if held.groups_adopted { "adopted" } else { "not looked for yet" };
    format!("{what}; placement groups {groups}")
}

/// The process that was asked.
pub fn process(status: &ClusterStatus) -> Option<String> {
    let process = &status.process;
    let node = process.node.map(|node| format!(" on node {node}")).unwrap_or_default();
    if process.roles.is_empty() {
        return None;
    }
    let jobs = if process.jobs.is_empty() {
        String::new()
    } else {
        format!("; does for the cluster: {}", process.jobs.join(", "))
    };
    let stopping = if process.stopping { "; is stopping" } else { "" };
    Some(format!("{}{node}{jobs}{stopping}", process.roles))
}

const CHECK_TITLES: [&str; 4] = ["REPLICA", "NODE", "ROWS", "RESULT"];

/// What a check found.
pub fn check(report: &CheckReport) -> String {
    let rows: Vec<[String; 4]> = report
        .replicas
        .iter()
        .map(|replica| {
            let mut result: Vec<String> = replica.problems.clone();
            match replica.identical {
                Some(true) if result.is_empty() => result.push("whole and identical".to_owned()),
                Some(true) => {}
                Some(false) => result.insert(0, "DIFFERS".to_owned()),
                None => result.insert(0, "not compared".to_owned()),
            }
            let node = replica.node.map_or_else(|| "-".to_owned(), |node| node.to_string());
            [replica.replica.to_string(), node, known(replica.rows), result.join("; ")]
        })
        .collect();
    let mut out = String::new();
    let _infallible = table(&mut out, CHECK_TITLES, &rows);
    let verdict =
        if report.ok { "All replicas are whole and identical" } else { "NOT ALL IS WELL" };
    let _infallible = writeln!(out, "{verdict} at index {}.", report.index);
    out
}

const TOKEN_TITLES: [&str; 4] = ["TOKEN", "ROLES", "USES LEFT", "EXPIRES"];

/// The table of join tokens.
pub fn tokens(tokens: &[Token]) -> String {
    let rows: Vec<[String; 4]> = tokens
        .iter()
        .map(|token| {
            let uses = match token.uses_left {
                0 => "used up".to_owned(),
                left => left.to_string(),
            };
            [token.id.clone(), token.roles.clone(), uses, token.expires.clone()]
        })
        .collect();
    let mut out = String::new();
    let _infallible = table(&mut out, TOKEN_TITLES, &rows);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::orders::CheckedReplica;

    #[test]
    fn nodes_are_a_table() {
        let storage = NodeStatus {
            id: 2,
            name: "shelf".to_owned(),
            roles: "storage-node".to_owned(),
            address: "10.0.0.2:9002".to_owned(),
            rack: "r1".to_owned(),
            level: 1,
            silent_seconds: Some(7),
            disks: 4,
            ..NodeStatus::default()
        };
        let server = NodeStatus {
            id: 10,
            roles: "metadata,storage-node,gateway".to_owned(),
            silent_seconds: Some(0),
            disks: 2,
            replicas: vec![1, 3],
            ..NodeStatus::default()
        };
        let expected = "\
NODE  NAME   ROLES                          ADDRESS        RACK  ZONE  LEVEL  HEARD    KEEPS
2     shelf  storage-node                   10.0.0.2:9002  r1    -     1      7 s ago  4 disks
10    -      metadata,storage-node,gateway  -              -     -     0      now      2 disks; replicas 1, 3
";
        assert_eq!(nodes(&[storage, server]), expected);
    }

    #[test]
    fn what_is_held_says_where_it_is_from() {
        let nothing = HeldStatus {
            from_shards: true,
            since: None,
            index: None,
            groups_adopted: false,
            until: 3,
        };
        let text = held(&nothing);
        assert!(text.starts_with("all that the disks have"), "{text}");
        assert!(text.ends_with("placement groups not looked for yet"), "{text}");
    }

    #[test]
    fn a_check_says_what_is_wrong() {
        let replica = |replica, identical, problems: &[&str]| CheckedReplica {
            replica,
            node: Some(1),
            identical,
            rows: identical.map(|_| 9),
            problems: problems.iter().map(|&problem| problem.to_owned()).collect(),
        };
        let mut report = CheckReport {
            ok: true,
            index: 42,
            replicas: vec![replica(1, Some(true), &[]), replica(2, Some(true), &[])],
        };
        let text = check(&report);
        assert!(text.ends_with("All replicas are whole and identical at index 42.\n"), "{text}");
        report.ok = false;
        report.replicas = vec![
            replica(1, Some(false), &["table garbage has 3 rows, not 4"]),
            replica(2, None, &["it does not answer"]),
        ];
        let text = check(&report);
        assert!(text.contains("DIFFERS; table garbage has 3 rows, not 4\n"), "{text}");
        assert!(text.contains("unknown  not compared; it does not answer\n"), "{text}");
        assert!(text.ends_with("NOT ALL IS WELL at index 42.\n"), "{text}");
    }
}
