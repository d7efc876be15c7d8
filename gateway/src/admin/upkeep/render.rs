//! Disks, moves and upkeep as text for a terminal.

use std::fmt::Write as _;

use crate::admin::render::{bytes, known, table};
use crate::admin::status::DiskStatus;
use crate::admin::upkeep::orders::{Span, UpkeepStatus};
use crate::admin::upkeep::progress::{MoveStatus, MovesStatus};
use crate::admin::upkeep::render_plan::moves as sums;
pub use crate::admin::upkeep::render_plan::{changed, plan};
use crate::admin::upkeep::stop::StopAnswer;

/// Moves that are shown one by one.
const MOVES_SHOWN: usize = 64;

/// Why nothing may be under way though something is to come, and nothing is paused.
const WAITING: &str = "what was just planned begins within seconds; a slot doesn't go to a disk that has left-over shards of its group, which are deleted after ten minutes, nor to one that failed to take it in the last five";

const DISK_TITLES: [&str; 10] =
    ["DISK", "NODE", "STATE", "SINCE", "WEIGHT", "SLOTS", "MOVING", "LIVE", "FREE", "PATH"];

/// The table of disks.
pub fn disks(disks: &[DiskStatus]) -> String {
    let row = |disk: &DiskStatus| {
        let standing = &disk.standing;
        let weight = match standing.weight_set {
            Some(set) => format!("{set} (size {})", standing.weight),
            None => standing.weight.to_string(),
        };
        let moving = match (standing.moving_in, standing.moving_out) {
            (0, 0) => "-".to_owned(),
            (coming, going) => format!("{coming} in, {going} out"),
        };
        [
            disk.id.to_string(),
            disk.node.to_string(),
            disk.state_words(),
            standing.since.clone().unwrap_or_else(|| "-".to_owned()),
            weight,
            standing.slots.to_string(),
            moving,
            bytes(disk.live_bytes),
            bytes(disk.free_bytes),
            disk.path.clone(),
        ]
    };
    let rows: Vec<[String; 10]> = disks.iter().map(row).collect();
    let mut out = String::new();
    let _infallible = table(&mut out, DISK_TITLES, &rows);
    out
}

/// How far moves are.
pub fn moves(status: &MovesStatus) -> String {
    let mut out = String::new();
    let _infallible = write_moves(&mut out, status);
    out
}

fn write_moves(out: &mut String, status: &MovesStatus) -> std::fmt::Result {
    writeln!(out, "Under way  {}", sums(&status.under_way_sums))?;
    writeln!(out, "To come    {}", sums(&status.wanted))?;
    if let Some(done) = &status.done {
        let mut text = format!("{} slots, {}", done.slots, bytes(Some(done.bytes)));
        if done.cancelled > 0 {
            write!(text, "; {} given up", done.cancelled)?;
        }
        if done.failures > 0 {
            write!(text, "; {} attempts failed", done.failures)?;
        }
        writeln!(out, "Done       {text}, by this gateway since it began")?;
    }
    if let Some(speed) = status.bytes_per_second {
        let eta =
            status.eta_seconds.map(|eta| format!(", which alone would take about {}", span(eta)));
        let eta = eta.unwrap_or_default();
        writeln!(out, "Speed      {}/s by this gateway{eta}", bytes(Some(speed)))?;
    }
    if let Some(rate) = status.rate {
        writeln!(out, "Rate       at most {}/s", bytes(Some(rate)))?;
    }
    if let Some(paused) = &status.paused {
        writeln!(out, "Paused     {} ({})", paused.sentence, paused.reason)?;
    }
    let is_idle = status.under_way.is_empty() && status.paused.is_none();
    if status.is_here && is_idle && status.wanted.all.slots > 0 {
        writeln!(out, "Waiting    {WAITING}")?;
    }
    writeln!(out, "Planned by {}", planner(status))?;
    for stuck in &status.stuck {
        writeln!(out, "warning: {stuck}")?;
    }
    if status.under_way.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let rows: Vec<[String; 8]> = status.under_way.iter().take(MOVES_SHOWN).map(move_row).collect();
    table(out, ["GROUP", "SLOT", "FROM", "TO", "WHY", "SINCE", "EXTENTS", "BYTES"], &rows)?;
    let more = status.under_way.len().saturating_sub(MOVES_SHOWN);
    if more > 0 {
        writeln!(out, "and {more} more")?;
    }
    Ok(())
}

fn planner(status: &MovesStatus) -> String {
    match (status.is_here, status.node, &status.done) {
        (true, Some(node), _) => format!("the gateway of node {node}, which was asked"),
        (true, None, _) => "the process that was asked".to_owned(),
        (false, _, Some(_)) => {
            "another gateway, which knows why nothing is begun; each carries out a part".to_owned()
        }
        (false, _, None) => "a gateway; ask the admin listener of one for more".to_owned(),
    }
}

fn move_row(one: &MoveStatus) -> [String; 8] {
    let extents = one
        .extents_done
        .zip(one.extents_total)
        .map_or_else(|| "-".to_owned(), |(done, total)| format!("{done} of {total}"));
    [
        one.pg.to_string(),
        one.slot.to_string(),
        one.from.to_string(),
        one.to.to_string(),
        one.reason.clone(),
        one.since.clone(),
        extents,
        one.bytes.map_or_else(|| "-".to_owned(), |count| bytes(Some(count))),
    ]
}

/// Seconds in the words of people.
fn span(seconds: u64) -> String {
    let (minutes, hours) = (seconds.div_ceil(60), seconds / 3600);
    match (seconds, hours) {
        (0..120, _) => format!("{seconds} s"),
        (_, 0..2) => format!("{minutes} min"),
        (_, hours) => format!("{hours} h"),
    }
}

/// How the cluster keeps itself whole.
pub fn upkeep(status: &UpkeepStatus) -> String {
    let set = |span: Span| {
        format!("{} s{}", span.seconds, if span.is_default { " (default)" } else { "" })
    };
    let rate = match status.bytes_per_second {
        Some(rate) => format!("{}/s", bytes(Some(rate))),
        None => "as each gateway's own setting says (default)".to_owned(),
    };
    let moves = if status.is_paused {
        "paused, but for those of lost slots"
    } else {
        "under way as needed"
    };
    format!(
        "\
Moves          {moves}
Rate           {rate}
Suspect after  {}
Down after     {}
Out after      {}
Nearly full at {} %
",
        set(status.suspect_after),
        set(status.down_after),
        set(status.out_after),
        status.nearfull_percent,
    )
}

/// Whether a node may be stopped.
pub fn stop(found: &StopAnswer) -> String {
    let verdict = if found.ok { "may be stopped" } else { "must NOT be stopped" };
    let mut out = format!("Node {} {verdict}.\n", found.node);
    for reason in &found.reasons {
        let _infallible = writeln!(out, "{reason}");
    }
    for note in &found.notes {
        let _infallible = writeln!(out, "note: {note}");
    }
    out
}

/// The moves under way, in a line of `drystone admin status`.
pub fn moves_line(moves: &crate::admin::status::MovesUnderWay) -> String {
    let each = [
        ("lost", moves.lost),
        ("drain", moves.drain),
        ("spread", moves.spread),
        ("balance", moves.balance),
    ];
    let named: Vec<String> = each
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(reason, count)| format!("{reason} {count}"))
        .collect();
    let paused = if moves.is_paused { "; paused by an operator" } else { "" };
    match named.as_slice() {
        [] => format!("none under way{paused}"),
        named => {
            let total = moves.lost + moves.drain + moves.spread + moves.balance;
            format!("{} under way ({}){paused}", known(Some(total)), named.join(", "))
        }
    }
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
