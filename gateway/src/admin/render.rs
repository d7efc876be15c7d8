//! The state of the cluster as text for a terminal: what `drystone admin status` prints.

use std::fmt::Write as _;

pub use crate::admin::render_cluster::{check, held, metadata, nodes, tokens};

use crate::admin::status::{ClusterStatus, DiskStatus, ScrubStatus};
use crate::admin::upkeep::render::moves_line;
use crate::admin::{render_cluster, render_health};

/// Writes the status as a few tables.
pub fn text(status: &ClusterStatus) -> String {
    let mut out = String::new();
    // Writing to a String can't fail.
    let _infallible = write_all(&mut out, status);
    out
}

fn write_all(out: &mut String, status: &ClusterStatus) -> std::fmt::Result {
    writeln!(out, "Cluster    {}", known(status.cluster.as_ref()))?;
    writeln!(out, "Coding     {}", known(status.coding.as_ref()))?;
    writeln!(out, "Health     {}", render_health::health_line(status.health, &status.margin))?;
    writeln!(out, "Tolerance  {}", tolerance(status))?;
    if let Some(durability) = &status.durability {
        writeln!(out, "Durability {}", render_health::durability(durability))?;
    }
    let usage = &status.usage;
    writeln!(
        out,
        "Usage      {} objects in {} buckets, {}",
        known(usage.objects),
        known(usage.buckets),
        bytes(usage.object_bytes)
    )?;
    writeln!(out, "Repair     {}", repair(status))?;
    writeln!(out, "Moves      {}", moves_line(&status.moves))?;
    writeln!(out, "Garbage    {} extents waiting", known(status.garbage_extents))?;
    let groups = status.placement_groups;
    writeln!(
        out,
        "Groups     {}, {} open, {} unreadable",
        groups.total, groups.open, groups.unreadable
    )?;
    if !status.withheld_nodes.is_empty() {
        let nodes: Vec<String> = status.withheld_nodes.iter().map(u32::to_string).collect();
        writeln!(
            out,
            "Withheld   nodes {}: so many are silent at once that their disks are given up by operators only",
            nodes.join(", ")
        )?;
    }
    if let Some(held) = &status.held {
        writeln!(out, "Held       {}", render_cluster::held(held))?;
    }
    if let Some(process) = render_cluster::process(status) {
        writeln!(out, "Asked      {process}")?;
    }
    writeln!(out)?;
    let disks: Vec<_> = status.disks.iter().map(disk_row).collect();
    table(out, DISK_TITLES, &disks)?;
    if !status.disks.is_empty() {
        writeln!(out)?;
    }
    for disk in &status.disks {
        writeln!(out, "Scrub of disk {}: {}", disk.id, coverage(disk.scrub.as_ref()))?;
    }
    write!(out, "\n{}", metadata(&status.metadata))?;
    if !status.nodes.is_empty() {
        write!(out, "\n{}", nodes(&status.nodes))?;
    }
    if !status.reasons.is_empty() {
        writeln!(out)?;
    }
    write!(out, "{}", render_health::reasons(&status.reasons))
}

fn tolerance(status: &ClusterStatus) -> &str {
    match status.tolerance.sentence.as_str() {
        "" => "unknown",
        sentence => sentence,
    }
}

fn repair(status: &ClusterStatus) -> String {
    let repair = status.repair;
    let mut text = format!("{} extents waiting", known(status.repair_queue));
    if repair.waiting > 0 {
        let _infallible = write!(text, ", {} of them can't be repaired for now", repair.waiting);
    }
    if repair.lost > 0 {
        let _infallible =
            write!(text, "; {} have lost more than their parity makes up for", repair.lost);
    }
    if repair.extents > 0 {
        let _infallible = write!(
            text,
            "; {} repaired with {} shards ({}) in this run",
            repair.extents,
            repair.shards,
            bytes(Some(repair.bytes))
        );
    }
    text
}

/// What of a disk was verified, and when.
fn coverage(scrub: Option<&ScrubStatus>) -> String {
    let Some(scrub) = scrub else { return "unknown".to_owned() };
    let whole = match (&scrub.last_began, &scrub.last_ended) {
        (Some(began), Some(ended)) => format!("100 % verified between {began} and {ended}"),
        _ => "no whole pass yet".to_owned(),
    };
    let Some(percent) = scrub.percent() else { return whole };
    let asked_for = if scrub.on_demand { ", as was asked for" } else { "" };
    let began = scrub.began.as_deref().unwrap_or_default();
    format!("{whole}; {percent} % of the pass that began {began}{asked_for}")
}

const DISK_TITLES: [&str; 12] = [
    "DISK", "NODE", "STATE", "HEALTH", "CAPACITY", "FREE", "RESERVE", "LIVE", "GARBAGE", "SHARDS",
    "DAMAGED", "PATH",
];

fn disk_row(disk: &DiskStatus) -> [String; 12] {
    let path = match &disk.reason {
        Some(reason) => format!("{} ({reason})", disk.path),
        None => disk.path.clone(),
    };
    [
        disk.id.to_string(),
        disk.node.to_string(),
        disk.state_words(),
        known(disk.health.as_ref()),
        bytes(disk.capacity_bytes),
        bytes(disk.free_bytes),
        bytes(disk.reserve_bytes),
        bytes(disk.live_bytes),
        bytes(disk.garbage_bytes),
        known(disk.shards),
        known(disk.damaged_shards),
        path,
    ]
}

/// Columns as wide as their widest cell.
pub(super) fn table<const N: usize>(
    out: &mut String,
    titles: [&str; N],
    rows: &[[String; N]],
) -> std::fmt::Result {
    let titles = titles.map(str::to_owned);
    let widths: [usize; N] = std::array::from_fn(|column| {
        let cells = std::iter::once(&titles).chain(rows);
        cells.map(|row| row[column].chars().count()).max().unwrap_or(0)
    });
    for row in std::iter::once(&titles).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            write!(line, "{cell:<width$}  ")?;
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

pub(super) fn known(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "unknown".to_owned(), |value| value.to_string())
}

/// Bytes in the largest binary unit that leaves a whole number before the point.
pub(super) fn bytes(count: Option<u64>) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let Some(count) = count else { return "unknown".to_owned() };
    let mut scaled = count as f64;
    let mut unit = 0;
    while scaled >= 1024.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{scaled:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::figures::durability::DurabilityStatus;
    use crate::admin::health::{Colour, Margin, Reason};
    use crate::admin::status::{
        DiskStanding, FaultTolerance, HeldStatus, MetadataSummary, MovesUnderWay, NodeStatus,
        PlacementGroups, ProcessStatus, RepairStatus, ReplicaStatus, Usage,
    };
    use crate::admin::upkeep::tolerance::ToleranceStatus;

    #[test]
    fn sizes() {
        assert_eq!(bytes(Some(0)), "0 B");
        assert_eq!(bytes(Some(1023)), "1023 B");
        assert_eq!(bytes(Some(1536)), "1.5 KiB");
        assert_eq!(bytes(Some(u64::MAX)), "16384.0 PiB");
        assert_eq!(bytes(None), "unknown");
    }

    #[test]
    fn coverage_says_no_more_than_is_known() {
        let mut scrub = ScrubStatus {
            began: None,
            verified_bytes: 0,
            total_bytes: 0,
            on_demand: false,
            last_began: None,
            last_ended: None,
            last_ended_seconds: None,
        };
        assert_eq!(coverage(None), "unknown");
        assert_eq!(coverage(Some(&scrub)), "no whole pass yet");
        scrub.began = Some("then".to_owned());
        assert_eq!(coverage(Some(&scrub)), "no whole pass yet; 0 % of the pass that began then");
        (scrub.verified_bytes, scrub.total_bytes) = (1000, 1000);
        assert!(coverage(Some(&scrub)).contains("99 %"), "it isn't done");
    }

    #[test]
    fn a_small_cluster() {
        let status = ClusterStatus {
            cluster: Some("ab".to_owned()),
            coding: Some("1+1".to_owned()),
            map_epoch: Some(3),
            disks: vec![DiskStatus {
                id: 0,
                path: "/d0".to_owned(),
                node: 1,
                state: "up".to_owned(),
                health: Some("ok".to_owned()),
                reason: None,
                capacity_bytes: Some(1 << 30),
                free_bytes: Some(1 << 29),
                live_bytes: Some(0),
                garbage_bytes: Some(0),
                shards: Some(2),
                reserve_bytes: Some(64 << 20),
                damaged_shards: Some(1),
                scrub: Some(ScrubStatus {
                    began: Some("2026-11-21T10:00:00.000Z".to_owned()),
                    verified_bytes: 355,
                    total_bytes: 1000,
                    on_demand: true,
                    last_began: Some("2026-11-14T10:00:00.000Z".to_owned()),
                    last_ended: Some("2026-11-20T10:00:00.000Z".to_owned()),
                    last_ended_seconds: Some(1_795_000_000),
                }),
                compaction: None,
                standing: DiskStanding { draining: true, slots: 1, ..DiskStanding::default() },
            }],
            placement_groups: PlacementGroups { total: 1, open: 1, unreadable: 0 },
            fault_tolerance: FaultTolerance {
                more_disks: Some(1),
                more_metadata_replicas: Some(0),
            },
            usage: Usage { buckets: Some(1), objects: Some(2), object_bytes: Some(2048) },
            repair_queue: Some(2),
            repair: RepairStatus {
                extents: 3,
                shards: 4,
                bytes: 2048,
                failures: 9,
                lost: 0,
                waiting: 1,
            },
            garbage_extents: None,
            metadata: MetadataSummary {
                leader: Some(1),
                leader_disk: Some("/d0".to_owned()),
                term: Some(4),
                replicas: vec![ReplicaStatus {
                    replica: 1,
                    disk: Some("/d0".to_owned()),
                    node: Some(1),
                    votes: Some(true),
                    lag: Some(2),
                    state: "leader".to_owned(),
                    applied: Some(9),
                    digests_match: Some(true),
                }],
                backups: Vec::new(),
                level: Some(1),
                level_to_come: Some(2),
                nodes_behind: vec![1],
            },
            held: Some(HeldStatus {
                from_shards: false,
                since: Some("2026-11-20T10:00:00.000Z".to_owned()),
                index: Some(7),
                groups_adopted: true,
                until: 9,
            }),
            nodes: vec![NodeStatus {
                id: 1,
                name: "one".to_owned(),
                roles: "gateway".to_owned(),
                address: "one:9002".to_owned(),
                disks: 1,
                replicas: vec![1],
                ..NodeStatus::default()
            }],
            process: ProcessStatus {
                roles: "gateway".to_owned(),
                node: Some(1),
                jobs: vec!["collect".to_owned()],
                ..ProcessStatus::default()
            },
            tolerance: ToleranceStatus {
                sentence: "survives any 1 disk; not 2 disks: why; the metadata survives no loss"
                    .to_owned(),
                ..ToleranceStatus::default()
            },
            moves: MovesUnderWay { drain: 2, lost: 1, is_paused: true, ..Default::default() },
            withheld_nodes: vec![4, 5],
            durability: Some(DurabilityStatus {
                class: "STANDARD".to_owned(),
                coding: "1+1".to_owned(),
                nines: 11.24,
                nines_attainable: 12.0,
                nines_target: 11.0,
                rebuild_hours: 3.5,
                rebuild_bytes_per_second: Some(1),
            }),
            health: Colour::Red,
            margin: Margin { text: "1 more disk may fail".to_owned(), ..Margin::default() },
            reasons: vec![Reason::no_disks()],
        };
        let expected = "\
Cluster    ab
Coding     1+1
Health     red; 1 more disk may fail
Tolerance  survives any 1 disk; not 2 disks: why; the metadata survives no loss
Durability 11.2 nines a year by the model for an object of class STANDARD (1+1); a lost disk is rebuilt in 3.5 h at the rate that is set
Usage      2 objects in 1 buckets, 2.0 KiB
Repair     2 extents waiting, 1 of them can't be repaired for now; 3 repaired with 4 shards (2.0 KiB) in this run
Moves      3 under way (lost 1, drain 2); paused by an operator
Garbage    unknown extents waiting
Groups     1, 1 open, 0 unreadable
Withheld   nodes 4, 5: so many are silent at once that their disks are given up by operators only
Held       what was written after 2026-11-20T10:00:00.000Z, of which the backup (log index 7) knows nothing; placement groups adopted
Asked      gateway on node 1; does for the cluster: collect

DISK  NODE  STATE         HEALTH  CAPACITY  FREE       RESERVE   LIVE  GARBAGE  SHARDS  DAMAGED  PATH
0     1     up, draining  ok      1.0 GiB   512.0 MiB  64.0 MiB  0 B   0 B      2       1        /d0

Scrub of disk 0: 100 % verified between 2026-11-14T10:00:00.000Z and 2026-11-20T10:00:00.000Z; 35 % of the pass that began 2026-11-21T10:00:00.000Z, as was asked for

Metadata leader: replica 1 on /d0, term 4
Feature level: 1; 2 once node 1 is upgraded
REPLICA  NODE  STATE   APPLIED  LAG  DIGESTS  PATH
1        1     leader  9        2    match    /d0

NODE  NAME  ROLES    ADDRESS   RACK  ZONE  LEVEL  HEARD    KEEPS
1     one   gateway  one:9002  -     -     0      unknown  1 disks; replica 1

ERROR: The cluster has no disks yet. (NO_DISKS)
";
        assert_eq!(text(&status), expected);
        let json = serde_json::to_string(&status).expect("json");
        assert_eq!(serde_json::from_str::<ClusterStatus>(&json).expect("read back"), status);
    }
}
