//! The texts for terminals.

use super::*;
use crate::admin::status::{DiskStanding, MovesUnderWay};
use crate::admin::upkeep::orders::Changed;
use crate::admin::upkeep::plan::{ChangePlan, DiskPlan, MoveSum, MoveSums};
use crate::admin::upkeep::progress::{MovesDone, Paused};
use crate::admin::upkeep::tolerance::ToleranceStatus;

fn drained() -> Changed {
    let sum = MoveSum { slots: 100, bytes: Some(3 << 30) };
    let disk = |id, slots_after, used_after| DiskPlan {
        id,
        node: 1,
        slots_before: 100,
        slots_after,
        used_before: Some(50 << 20),
        used_after: Some(used_after),
        capacity_bytes: Some(100 << 20),
    };
    let tolerance = |sentence: &str| ToleranceStatus {
        sentence: sentence.to_owned(),
        ..ToleranceStatus::default()
    };
    Changed {
        changed: false,
        sentence: "Disk 3 would be drained.".to_owned(),
        plan: ChangePlan {
            moves: MoveSums { all: sum, drain: sum, ..MoveSums::default() },
            new_groups: 16,
            disks: vec![disk(3, 0, 20 << 20), disk(4, 100, 50 << 20)],
            tolerance_before: tolerance("survives any 2 disks"),
            tolerance_at_once: tolerance("survives any 2 disks"),
            tolerance_after: tolerance("survives any 1 disk"),
            warnings: vec!["Less may be lost afterwards than now.".to_owned()],
            ..ChangePlan::default()
        },
    }
}

#[test]
fn a_plan_says_that_it_is_one() {
    let expected = "\
Disk 3 would be drained.

Would move  100 slots, about 3.0 GiB (drain 100)
Anyway      nothing
New groups  16, for what is written to the other disks from then on
Now         survives any 2 disks
At once     the same
Afterwards  survives any 1 disk

DISK  NODE  SLOTS     USED              CAPACITY
3     1     100 -> 0  50.0 % -> 20.0 %  100.0 MiB
4     1     100       50.0 %            100.0 MiB

Bytes are estimates, by what disks hold for each of their slots.
warning: Less may be lost afterwards than now.
This is a plan; nothing was changed.
";
    assert_eq!(plan(&drained()), expected);
    let done = Changed { changed: true, sentence: "Disk 3 is drained.".to_owned(), ..drained() };
    let expected = "\
Disk 3 is drained.
100 slots, about 3.0 GiB move; drystone admin moves status tells how far it is.
warning: Less may be lost afterwards than now.
";
    assert_eq!(changed(&done), expected);
    let again = Changed { changed: false, ..done };
    assert_eq!(changed(&again), "Disk 3 is drained.\nIt was so before; nothing was changed.\n");
}

#[test]
fn moves_are_told_with_what_is_known() {
    let one = MoveSum { slots: 1, bytes: Some(2048) };
    let status = MovesStatus {
        under_way: vec![MoveStatus {
            pg: 7,
            slot: 2,
            from: 3,
            to: 5,
            reason: "drain".to_owned(),
            since: "then".to_owned(),
            extents_total: Some(8),
            extents_done: Some(2),
            bytes: Some(512),
        }],
        under_way_sums: MoveSums { all: one, drain: one, ..MoveSums::default() },
        wanted: MoveSums::default(),
        stuck: vec!["9 slots can't leave.".to_owned()],
        done: Some(MovesDone { slots: 4, bytes: 8192, failures: 1, ..MovesDone::default() }),
        bytes_per_second: Some(1024),
        eta_seconds: Some(7300),
        paused: Some(Paused {
            reason: "disk-down".to_owned(),
            sentence: "A disk is down.".to_owned(),
        }),
        is_here: true,
        node: Some(2),
        rate: Some(1 << 20),
    };
    let expected = "\
Under way  1 slot, about 2.0 KiB (drain 1)
To come    nothing
Done       4 slots, 8.0 KiB; 1 attempts failed, by this gateway since it began
Speed      1.0 KiB/s by this gateway, which alone would take about 2 h
Rate       at most 1.0 MiB/s
Paused     A disk is down. (disk-down)
Planned by the gateway of node 2, which was asked
warning: 9 slots can't leave.

GROUP  SLOT  FROM  TO  WHY    SINCE  EXTENTS  BYTES
7      2     3     5   drain  then   2 of 8   512 B
";
    assert_eq!(moves(&status), expected);
    let wanted = MoveSums { all: one, balance: one, ..MoveSums::default() };
    let waiting = moves(&MovesStatus { is_here: true, wanted, ..MovesStatus::default() });
    assert!(waiting.contains("\nWaiting    what was just planned begins"), "{waiting}");
    let idle = moves(&MovesStatus::default());
    assert!(
        idle.ends_with("Planned by a gateway; ask the admin listener of one for more\n"),
        "{idle}"
    );
}

#[test]
fn spans_are_told_as_people_do() {
    for (seconds, expected) in [
        (0, "0 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7199, "120 min"),
        (7200, "2 h"),
        (90_000, "25 h"),
    ] {
        assert_eq!(span(seconds), expected);
    }
}

#[test]
fn disks_are_a_table() {
    let disk = DiskStatus {
        id: 3,
        path: "/d3".to_owned(),
        node: 1,
        state: "up".to_owned(),
        health: None,
        reason: None,
        capacity_bytes: None,
        free_bytes: Some(1024),
        live_bytes: Some(0),
        garbage_bytes: None,
        shards: None,
        reserve_bytes: None,
        damaged_shards: None,
        scrub: None,
        compaction: None,
        standing: DiskStanding {
            draining: true,
            weight: 100,
            weight_set: Some(50),
            slots: 9,
            moving_out: 2,
            ..DiskStanding::default()
        },
    };
    let expected = "\
DISK  NODE  STATE         SINCE  WEIGHT         SLOTS  MOVING       LIVE  FREE     PATH
3     1     up, draining  -      50 (size 100)  9      0 in, 2 out  0 B   1.0 KiB  /d3
";
    assert_eq!(disks(&[disk]), expected);
}

#[test]
fn verdicts_and_wishes_are_sentences() {
    let found = StopAnswer {
        node: 4,
        ok: false,
        reasons: vec!["Because.".to_owned()],
        notes: vec!["Mind.".to_owned()],
    };
    assert_eq!(stop(&found), "Node 4 must NOT be stopped.\nBecause.\nnote: Mind.\n");
    let wish = model::cluster_map::UpkeepWish {
        out_after_seconds: Some(900),
        ..model::cluster_map::UpkeepWish::default()
    };
    let text = upkeep(&UpkeepStatus::new(&wish));
    assert!(text.contains("Down after     10 s (default)\nOut after      900 s\n"), "{text}");
    assert_eq!(moves_line(&MovesUnderWay::default()), "none under way");
}
