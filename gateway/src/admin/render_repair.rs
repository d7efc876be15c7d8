//! Repair, and the shards of an object, as text for a terminal.

use std::fmt::Write as _;
use std::time::Duration;

use crate::admin::inspect::{ExtentDocument, ObjectDocument, SlotDocument};
use crate::admin::render::{bytes, table};
use crate::admin::repair::{
    RepairDocument, SpareDocument, TallyDocument, duration, extents, several,
};

/// Columns of a progress bar.
const BAR_COLUMNS: u64 = 40;

/// Writes how far repair is; with a bar for a terminal.
pub fn repair(found: &RepairDocument, has_bar: bool) -> String {
    let mut out = String::new();
    // Writing to a String can't fail.
    let _infallible = write_repair(&mut out, found, has_bar);
    out
}

fn write_repair(out: &mut String, found: &RepairDocument, has_bar: bool) -> std::fmt::Result {
    if found.is_nothing() {
        writeln!(out, "Outstanding  nothing: every extent has all its shards")?;
        if found.bytes_done > 0 {
            writeln!(out, "Done         {} rebuilt", bytes(Some(found.bytes_done)))?;
        }
    } else {
        let least = if found.exact { "" } else { "at least " };
        let tally = |tally: TallyDocument| {
            format!("{}, {}", extents(tally.extents), bytes(Some(tally.bytes)))
        };
        let all = TallyDocument { extents: found.extents, bytes: found.bytes };
        writeln!(out, "Outstanding  {least}{}", tally(all))?;
        for spare in &found.by_spare {
            writeln!(out, "             {}", spare_line(spare))?;
        }
        for (title, some) in [
            ("Lost       ", found.lost),
            ("Repairable ", found.repairable),
            ("Moving     ", found.moving),
            ("Waiting    ", found.waiting),
        ] {
            if some.extents > 0 {
                writeln!(out, "{title}  {}", tally(some))?;
            }
        }
        writeln!(out, "Rebuilt      {}", progress(found))?;
        if has_bar && found.bytes_total > 0 {
            writeln!(out, "             {}", bar(found.bytes_done, found.bytes_total))?;
        }
    }
    let slots = found.lost_slots;
    if slots.moving + slots.in_line + slots.homeless > 0 {
        writeln!(
            out,
            "Lost slots   {} being rebuilt on other disks, {} in line, {} that no disk takes",
            slots.moving, slots.in_line, slots.homeless
        )?;
    }
    let rows: Vec<[String; 6]> = found
        .rebuilding
        .iter()
        .map(|slot| {
            let total = match slot.extents_total {
                0 => "?".to_owned(),
                total => total.to_string(),
            };
            [
                slot.pg.to_string(),
                slot.slot.to_string(),
                slot.from.to_string(),
                slot.to.to_string(),
                format!("{} of {total}", slot.extents_done),
                bytes(Some(slot.bytes)),
            ]
        })
        .collect();
    if !rows.is_empty() {
        writeln!(out)?;
        table(out, ["GROUP", "SLOT", "FROM", "TO", "EXTENTS", "BYTES"], &rows)?;
    }
    if !found.reasons.is_empty() {
        writeln!(out)?;
    }
    found.reasons.iter().try_for_each(|reason| writeln!(out, "- {}", reason.text))
}

fn spare_line(found: &SpareDocument) -> String {
    let SpareDocument { spare, extents: count, bytes: size } = *found;
    let what = match spare {
        spare if spare < 0 => "can't be read now".to_owned(),
        0 => "with no shard to spare".to_owned(),
        spare => {
            format!("with {} to spare", several(u64::from(spare.unsigned_abs()), "shard", "shards"))
        }
    };
    format!("{} {what}, {}", extents(count), bytes(Some(size)))
}

fn progress(found: &RepairDocument) -> String {
    let (done, total) = (found.bytes_done, found.bytes_total);
    let so_far = match total {
        0 => "nothing that can be rebuilt now".to_owned(),
        _ => format!("{} of {}, {} %", bytes(Some(done)), bytes(Some(total)), percent(done, total)),
    };
    let rate = match found.bytes_per_second {
        Some(rate) => format!(", {} a second", bytes(Some(rate))),
        None if total > done => ", no rate measured in the last minute".to_owned(),
        None => String::new(),
    };
    let left = match found.seconds_left {
        Some(seconds) => format!(", about {} left", duration(Duration::from_secs(seconds))),
        None => String::new(),
    };
    format!("{so_far}{rate}{left}")
}

/// Never 100 before the end.
fn percent(done: u64, total: u64) -> u64 {
    if done >= total {
        return 100;
    }
    ((u128::from(done) * 100 / u128::from(total.max(1))) as u64).min(99)
}

fn bar(done: u64, total: u64) -> String {
    let full = if done >= total {
        BAR_COLUMNS
    } else {
        (u128::from(done) * u128::from(BAR_COLUMNS) / u128::from(total.max(1))) as u64
    };
    let (full, rest) = (full as usize, (BAR_COLUMNS - full) as usize);
    format!("[{}{}] {} %", "#".repeat(full), "-".repeat(rest), percent(done, total))
}

/// Writes where the shards of an object are.
pub fn object(found: &ObjectDocument) -> String {
    let mut out = String::new();
    // Writing to a String can't fail.
    let _infallible = write_object(&mut out, found);
    out
}

fn write_object(out: &mut String, found: &ObjectDocument) -> std::fmt::Result {
    let parts = match found.parts {
        Some(parts) => format!(", {}", several(parts.into(), "part", "parts")),
        None => String::new(),
    };
    writeln!(out, "Object    {}/{}", found.bucket, found.key)?;
    writeln!(out, "Size      {} bytes{parts}", found.size)?;
    writeln!(out, "ETag      {}", found.etag)?;
    writeln!(out, "Modified  {}", found.modified)?;
    let how = if found.verified {
        "every byte was read and verified"
    } else {
        "as the disks' indexes say; --verify has every byte read"
    };
    writeln!(out, "Shards    {how}; cluster map {}", found.map_epoch)?;
    for extent in &found.extents {
        write_extent(out, extent)?;
    }
    writeln!(out)?;
    if let Some(next) = found.next {
        writeln!(out, "There are more extents: go on with --from {next}.")?;
    }
    let strays: usize = found.extents.iter().map(|extent| extent.strays.len()).sum();
    match (found.whole, strays) {
        (true, 0) => writeln!(out, "Every shard is where it belongs."),
        (true, _) => writeln!(
            out,
            "Every shard is where it belongs. What is left over elsewhere is deleted after a while."
        ),
        (false, _) => writeln!(
            out,
            "Not every shard is where it belongs: drystone admin repair why {}/{}",
            found.bucket, found.key
        ),
    }
}

fn write_extent(out: &mut String, extent: &ExtentDocument) -> std::fmt::Result {
    let place = match extent.offset {
        Some(offset) => format!("bytes {offset} to {}", (offset + extent.length).saturating_sub(1)),
        None => format!("recovery record, {} bytes", extent.length),
    };
    let standing = match extent.standing.as_deref() {
        Some(standing) => format!("{standing}, {} to spare", extent.spare),
        None => format!("{} to spare", extent.spare),
    };
    writeln!(
        out,
        "\nExtent {}: {place}, {}, group {}, written at epoch {}, {standing}",
        extent.id, extent.coding, extent.pg, extent.epoch
    )?;
    if !extent.known {
        writeln!(out, "It was deleted or replaced a moment ago.")?;
    }
    let rows: Vec<[String; 8]> = extent.slots.iter().map(slot_row).collect();
    table(out, ["SLOT", "DISK", "NODE", "RACK", "PATH", "SHARDS", "BYTES", "STATE"], &rows)?;
    for stray in &extent.strays {
        let shards = several(stray.shards.into(), "shard", "shards");
        writeln!(out, "Left over: {} has {shards} of slot {}.", stray.disk, stray.slot)?;
    }
    if let Some(failed) = &extent.failed_repair {
        let attempts = several(failed.attempts.into(), "time", "times");
        writeln!(out, "Its repair failed {attempts}: {}.", failed.failure)?;
    }
    Ok(())
}

fn slot_row(slot: &SlotDocument) -> [String; 8] {
    let some = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let mut state = slot.state.clone();
    if let Some(why) = &slot.reason {
        let _infallible = write!(state, " ({why})");
    }
    if slot.disk.state != "up" {
        let _infallible = write!(state, ", disk {}", slot.disk.state);
    }
    if slot.queued {
        state.push_str(", in the repair queue");
    }
    if let Some(moving) = &slot.moving {
        let _infallible = write!(state, ", moves to disk {} ({})", moving.to.id, moving.reason);
    }
    let sound = match slot.damaged {
        0 => format!("{} of {}", slot.present, slot.shards),
        damaged => format!("{} of {}, {damaged} damaged", slot.present, slot.shards),
    };
    [
        slot.slot.to_string(),
        slot.disk.id.to_string(),
        slot.disk.node.to_string(),
        some(&slot.disk.rack),
        some(&slot.disk.path),
        if slot.shards == 0 { "-".to_owned() } else { sound },
        slot.bytes.to_string(),
        state,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::repair::{RebuildDocument, RepairReason};

    fn under_way() -> RepairDocument {
        let some = TallyDocument { extents: 3, bytes: 3 << 20 };
        RepairDocument {
            extents: 4,
            bytes: 4 << 20,
            exact: true,
            by_spare: vec![
                SpareDocument { spare: 0, extents: 1, bytes: 1 << 20 },
                SpareDocument { spare: 1, extents: 3, bytes: 3 << 20 },
            ],
            moving: some,
            waiting: TallyDocument { extents: 1, bytes: 1 << 20 },
            bytes_done: 3 << 20,
            bytes_left: 1 << 20,
            bytes_total: 4 << 20,
            bytes_per_second: Some(1 << 10),
            seconds_left: Some(1024),
            rebuilding: vec![RebuildDocument {
                pg: 7,
                slot: 2,
                from: 3,
                to: 9,
                extents_done: 5,
                extents_total: 8,
                bytes: 2048,
            }],
            reasons: vec![RepairReason { code: "x".to_owned(), text: "Because.".to_owned() }],
            ..RepairDocument::default()
        }
    }

    #[test]
    fn what_is_under_way_is_told_with_numbers() {
        let text = repair(&under_way(), true);
        for line in [
            "Outstanding  4 extents, 4.0 MiB\n",
            "             1 extent with no shard to spare, 1.0 MiB\n",
            "             3 extents with 1 shard to spare, 3.0 MiB\n",
            "Moving       3 extents, 3.0 MiB\n",
            "Waiting      1 extent, 1.0 MiB\n",
            "Rebuilt      3.0 MiB of 4.0 MiB, 75 %, 1.0 KiB a second, about 18 min left\n",
            "             [##############################----------] 75 %\n",
            "5 of 8",
            "- Because.\n",
        ] {
            assert!(text.contains(line), "{line}\nin\n{text}");
        }
        assert!(!repair(&under_way(), false).contains('#'));
        let cut = RepairDocument { exact: false, ..under_way() };
        assert!(repair(&cut, false).contains("at least 4 extents"));
    }

    #[test]
    fn nothing_is_told_as_nothing() {
        let nothing = RepairDocument { exact: true, ..RepairDocument::default() };
        assert_eq!(
            repair(&nothing, true),
            "Outstanding  nothing: every extent has all its shards\n"
        );
    }

    #[test]
    fn bars_are_full_only_at_the_end() {
        assert_eq!(bar(0, 10), format!("[{}] 0 %", "-".repeat(40)));
        assert_eq!(bar(10, 10), format!("[{}] 100 %", "#".repeat(40)));
        assert!(bar(u64::MAX - 1, u64::MAX).ends_with("-] 99 %"));
    }
}
