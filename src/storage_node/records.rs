//! The dump of records of `inspect --records`: a line for each.

use std::io::{self, Write};

use serde_json::{Value, json};
use storage_node::offline::{
    DumpedRecord, OfflineError, RecordState, ShardsDirectory, Survey, dump,
};
use storage_node::segment::Kind;

use super::print::time;

/// Which records are printed, and how.
pub(super) struct Wanted {
    /// Only those of this segment.
    pub(super) segment: Option<u64>,
    /// With their checksums.
    pub(super) checksums: bool,
    /// As JSON.
    pub(super) json: bool,
}

/// Why printing ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum PrintError {
    /// The disk.
    #[error(transparent)]
    Read(#[from] OfflineError),
    /// Standard output.
    #[error("standard output can't be written")]
    Write(#[from] io::Error),
}

/// Prints them.
pub(super) fn print(
    directory: &ShardsDirectory,
    survey: &Survey,
    wanted: &Wanted,
    out: &mut dyn Write,
) -> Result<(), PrintError> {
    dump(directory, survey, wanted.segment, wanted.checksums, &mut |record| {
        if wanted.json {
            writeln!(out, "{}", record_json(&record))?;
        } else {
            line(&record, out)?;
        }
        Ok(())
    })
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Shard => "shard",
        Kind::Tombstone => "tombstone",
        Kind::Mark => "mark",
        Kind::Remains => "remains",
    }
}

fn state(state: RecordState) -> &'static str {
    match state {
        RecordState::Live => "live",
        RecordState::Dead => "dead",
        RecordState::Control => "-",
    }
}

fn line(record: &DumpedRecord, out: &mut dyn Write) -> io::Result<()> {
    let header = &record.header;
    write!(
        out,
        "{:x} {:>10} {:<9} {:<4}",
        record.segment,
        record.offset,
        kind(header.kind),
        state(record.state)
    )?;
    match header.kind {
        Kind::Shard | Kind::Remains => {
            let coding = header.coding.map(|coding| coding.to_string()).unwrap_or_default();
            let (id, shard, stripe) = (header.id, header.payload_bytes, header.stripe_bytes);
            write!(out, " {id} {coding} {shard} of {stripe} bytes, owner {}", header.owner_bytes)?;
        }
        Kind::Tombstone => {
            write!(out, " {} before {}", header.id.extent, header.deletes_before())?;
        }
        Kind::Mark => {}
    }
    write!(
        out,
        " position {} durable {} run {} {}",
        header.position,
        header.durable,
        header.incarnation,
        time(header.appended)
    )?;
    if let Some(checked) = &record.checked {
        let sums = checked.checksums.as_ref().map(|sums| hex_sums(sums).join(","));
        let sums = sums.as_deref().unwrap_or("unreadable");
        let verdict = if checked.is_sound { "sound" } else { "DAMAGED" };
        write!(out, " {verdict} body {:016x} blocks {sums}", header.body_checksum)?;
    }
    writeln!(out)
}

fn record_json(record: &DumpedRecord) -> Value {
    let header = &record.header;
    let mut value = json!({
        "segment": record.segment,
        "offset": record.offset,
        "kind": kind(header.kind),
        "record_bytes": header.record_bytes(),
        "position": header.position,
        "durable": header.durable,
        "incarnation": header.incarnation.0,
        "appended": time(header.appended),
    });
    match header.kind {
        Kind::Shard | Kind::Remains => {
            value["shard"] = json!(header.id.to_string());
            value["live"] = json!(record.state == RecordState::Live);
            value["coding"] = json!(header.coding.map(|coding| coding.to_string()));
            value["payload_bytes"] = json!(header.payload_bytes);
            value["stripe_bytes"] = json!(header.stripe_bytes);
            value["owner_bytes"] = json!(header.owner_bytes);
        }
        Kind::Tombstone => {
            value["extent"] = json!(header.id.extent.to_string());
            value["before"] = json!(header.deletes_before());
        }
        Kind::Mark => {}
    }
    if let Some(checked) = &record.checked {
        value["sound"] = json!(checked.is_sound);
        value["body_checksum"] = json!(format!("{:016x}", header.body_checksum));
        value["block_checksums"] = json!(checked.checksums.as_ref().map(|sums| hex_sums(sums)));
    }
    value
}

fn hex_sums(sums: &[u64]) -> Vec<String> {
    sums.iter().map(|sum| format!("{sum:016x}")).collect()
}
