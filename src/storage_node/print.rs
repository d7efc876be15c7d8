//! How facts of a disk are written down: for people, and as JSON.

use std::io::{self, Write};

use jiff::Timestamp as Instant;
use model::time::Timestamp;
use serde_json::{Value, json};
use storage_node::offline::{
    Difference, Finding, FindingKind, IndexReport, IndexState, ShardsDirectory, SuperblockState,
};

/// A point in time, as RFC 3339.
pub(super) fn time(at: Timestamp) -> String {
    Instant::from_nanosecond(i128::from(at.as_nanos()))
        .map_or_else(|_| at.as_nanos().to_string(), |instant| instant.to_string())
}

/// A size in the unit that suits it.
pub(super) fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

/// Who the disk is, in two lines.
pub(super) fn identity(out: &mut dyn Write, directory: &ShardsDirectory) -> io::Result<()> {
    let identity = directory.identity();
    writeln!(out, "Disk {} ({}) of cluster {}", identity.disk, identity.uuid, identity.cluster)?;
    match directory.superblock() {
        SuperblockState::Sound { incarnation, written } => {
            writeln!(out, "Superblock: sound, run {incarnation}, begun {}", time(written))
        }
        SuperblockState::Damaged => writeln!(out, "Superblock: DAMAGED, both copies"),
        SuperblockState::Missing => writeln!(out, "Superblock: MISSING"),
    }
}

/// The same as JSON.
pub(super) fn identity_json(directory: &ShardsDirectory) -> Value {
    let identity = directory.identity();
    let superblock = match directory.superblock() {
        SuperblockState::Sound { incarnation, written } => {
            json!({ "state": "sound", "incarnation": incarnation.0, "written": time(written) })
        }
        SuperblockState::Damaged => json!({ "state": "damaged" }),
        SuperblockState::Missing => json!({ "state": "missing" }),
    };
    json!({
        "disk": identity.disk.0,
        "uuid": identity.uuid.to_string(),
        "cluster": identity.cluster.to_string(),
        "superblock": superblock,
    })
}

fn what(kind: FindingKind) -> String {
    match kind {
        FindingKind::Header => "the segment's header is damaged".to_owned(),
        FindingKind::Region => "no sound record lies here".to_owned(),
        FindingKind::Record { id, live: true } => {
            format!("the record of live shard {id} is damaged")
        }
        FindingKind::Record { id, live: false } => {
            format!("a record of {id}, which is live no more here, is damaged")
        }
        FindingKind::Cut => "the file ends too early".to_owned(),
        FindingKind::Unreadable => "can't be read from the device".to_owned(),
        FindingKind::TornTail => "torn by a crash, to be cut off at the next start".to_owned(),
        FindingKind::Unborn => "no header yet: left by a crash".to_owned(),
    }
}

/// One finding, in a line.
pub(super) fn finding(out: &mut dyn Write, finding: &Finding) -> io::Result<()> {
    let label = if finding.is_damage() { "DAMAGE" } else { "note" };
    writeln!(
        out,
        "{label}: segment {:x} at {}, {} bytes: {}",
        finding.segment,
        finding.offset,
        finding.bytes,
        what(finding.kind)
    )
}

/// The same as JSON.
pub(super) fn finding_json(finding: &Finding) -> Value {
    let (kind, shard, live) = match finding.kind {
        FindingKind::Header => ("header", None, None),
        FindingKind::Region => ("region", None, None),
        FindingKind::Record { id, live } => ("record", Some(id.to_string()), Some(live)),
        FindingKind::Cut => ("cut", None, None),
        FindingKind::Unreadable => ("unreadable", None, None),
        FindingKind::TornTail => ("torn-tail", None, None),
        FindingKind::Unborn => ("unborn", None, None),
    };
    json!({
        "segment": finding.segment,
        "offset": finding.offset,
        "bytes": finding.bytes,
        "kind": kind,
        "shard": shard,
        "live": live,
        "damage": finding.is_damage(),
    })
}

/// What the index is worth, and where it differs.
pub(super) fn index(out: &mut dyn Write, report: &IndexReport) -> io::Result<()> {
    match &report.state {
        IndexState::Absent => writeln!(out, "Index: none; the next start makes it")?,
        IndexState::Unusable(why) => {
            writeln!(out, "Index: not usable ({why}); the next start makes it anew")?;
        }
        IndexState::Usable(checkpoint) => writeln!(
            out,
            "Index: usable, covers the log up to {} (segment {:x} at {})",
            checkpoint.position, checkpoint.segment, checkpoint.offset
        )?,
    }
    if let Some(why) = &report.refusal {
        writeln!(out, "DAMAGE: the disk would not open: {why}")?;
    }
    for missing in &report.missing {
        writeln!(
            out,
            "DAMAGE: segment {:x} with {} live shards is missing",
            missing.segment, missing.shards
        )?;
    }
    if report.difference_count > 0 {
        writeln!(
            out,
            "DAMAGE: index and segments differ in {} shards; `rebuild-index` makes it anew",
            report.difference_count
        )?;
    }
    let (counted, indexed) = report.counted;
    if counted != indexed {
        writeln!(
            out,
            "DAMAGE: the index counts {counted} live shards and has {indexed}; `rebuild-index` makes it anew"
        )?;
    }
    for Difference { id, found, indexed } in &report.differences {
        let found = found.map(|place| (place.segment, place.offset));
        let indexed = indexed.map(|place| (place.segment, u64::from(place.offset)));
        let say = |place: Option<(u64, u64)>| {
            place.map_or("nowhere".to_owned(), |(segment, at)| format!("{segment:x} at {at}"))
        };
        writeln!(out, "  shard {id}: segments {}, index {}", say(found), say(indexed))?;
    }
    Ok(())
}

/// The same as JSON.
pub(super) fn index_json(report: &IndexReport) -> Value {
    let state = match &report.state {
        IndexState::Absent => json!({ "state": "absent" }),
        IndexState::Unusable(why) => json!({ "state": "unusable", "reason": why }),
        IndexState::Usable(checkpoint) => json!({
            "state": "usable",
            "covers": checkpoint.position,
            "segment": checkpoint.segment,
            "offset": checkpoint.offset,
        }),
    };
    let differences: Vec<Value> = report
        .differences
        .iter()
        .map(|difference| {
            let found =
                difference.found.map(|p| json!({ "segment": p.segment, "offset": p.offset }));
            let indexed =
                difference.indexed.map(|p| json!({ "segment": p.segment, "offset": p.offset }));
            json!({ "shard": difference.id.to_string(), "segments": found, "index": indexed })
        })
        .collect();
    let missing: Vec<Value> = report
        .missing
        .iter()
        .map(|gone| json!({ "segment": gone.segment, "live_shards": gone.shards }))
        .collect();
    json!({
        "found": state,
        "agrees": report.agrees(),
        "refusal": report.refusal,
        "missing_segments": missing,
        "shards_counted": report.counted.0,
        "shards_indexed": report.counted.1,
        "difference_count": report.difference_count,
        "differences": differences,
    })
}
