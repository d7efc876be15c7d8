//! What would come of a change, or comes of one, as text for a terminal.

use std::fmt::Write as _;

use crate::admin::render::{bytes, table};
use crate::admin::upkeep::orders::Changed;
use crate::admin::upkeep::plan::{ChangePlan, DiskPlan, MoveSum, MoveSums};

/// What a change that was ordered comes to.
pub fn changed(changed: &Changed) -> String {
    let mut out = String::new();
    // Writing to a String can't fail.
    let _infallible = write_changed(&mut out, changed);
    out
}

fn write_changed(out: &mut String, changed: &Changed) -> std::fmt::Result {
    writeln!(out, "{}", changed.sentence)?;
    if !changed.changed {
        return writeln!(out, "It was so before; nothing was changed.");
    }
    let all = changed.plan.moves.all;
    if all.slots > 0 {
        let moves = if all.slots == 1 { "moves" } else { "move" };
        writeln!(out, "{} {moves}; drystone admin moves status tells how far it is.", sum(all))?;
    }
    warnings(out, &changed.plan)
}

/// What would come of a change.
pub fn plan(changed: &Changed) -> String {
    let mut out = String::new();
    let _infallible = write_plan(&mut out, changed);
    out
}

fn write_plan(out: &mut String, changed: &Changed) -> std::fmt::Result {
    let plan = &changed.plan;
    writeln!(out, "{}\n", changed.sentence)?;
    writeln!(out, "Would move  {}", moves(&plan.moves))?;
    writeln!(out, "Anyway      {}", moves(&plan.anyway))?;
    if plan.new_groups > 0 {
        let groups = plan.new_groups;
        writeln!(out, "New groups  {groups}, for what is written to the other disks from then on")?;
    }
    let before = &plan.tolerance_before.sentence;
    writeln!(out, "Now         {before}")?;
    for (title, then) in
        [("At once    ", &plan.tolerance_at_once), ("Afterwards ", &plan.tolerance_after)]
    {
        let same = then.sentence == *before;
        writeln!(out, "{title} {}", if same { "the same" } else { &*then.sentence })?;
    }
    writeln!(out)?;
    let rows: Vec<[String; 5]> = plan.disks.iter().map(disk_row).collect();
    table(out, ["DISK", "NODE", "SLOTS", "USED", "CAPACITY"], &rows)?;
    writeln!(out, "\nBytes are estimates, by what disks hold for each of their slots.")?;
    warnings(out, plan)?;
    if let Some(refusal) = &plan.refusal {
        writeln!(out, "REFUSED unless forced: {refusal}")?;
    }
    writeln!(out, "This is a plan; nothing was changed.")
}

fn warnings(out: &mut String, plan: &ChangePlan) -> std::fmt::Result {
    plan.warnings.iter().try_for_each(|warning| writeln!(out, "warning: {warning}"))
}

/// Some moves in words.
pub(super) fn sum(sum: MoveSum) -> String {
    let slots = if sum.slots == 1 { "slot" } else { "slots" };
    match sum.bytes {
        Some(about) => format!("{} {slots}, about {}", sum.slots, bytes(Some(about))),
        None => format!("{} {slots}", sum.slots),
    }
}

/// Moves in words, with their reasons.
pub(super) fn moves(sums: &MoveSums) -> String {
    if sums.all.slots == 0 {
        return "nothing".to_owned();
    }
    let each = [
        ("lost", sums.lost),
        ("drain", sums.drain),
        ("spread", sums.spread),
        ("balance", sums.balance),
    ];
    let named: Vec<String> = each
        .iter()
        .filter(|(_, of)| of.slots > 0)
        .map(|(reason, of)| format!("{reason} {}", of.slots))
        .collect();
    format!("{} ({})", sum(sums.all), named.join(", "))
}

fn disk_row(disk: &DiskPlan) -> [String; 5] {
    let arrow = |before: String, after: String| {
        if before == after { before } else { format!("{before} -> {after}") }
    };
    let used = |used: Option<u64>| match used.zip(disk.capacity_bytes) {
        Some((used, capacity)) => {
            format!("{:.1} %", used as f64 * 100.0 / capacity.max(1) as f64)
        }
        None => "unknown".to_owned(),
    };
    [
        disk.id.to_string(),
        disk.node.to_string(),
        arrow(disk.slots_before.to_string(), disk.slots_after.to_string()),
        arrow(used(disk.used_before), used(disk.used_after)),
        bytes(disk.capacity_bytes),
    ]
}
