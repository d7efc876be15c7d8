//! One flipped bit, and who may suffer from it.
//!
//! Before the flip the segment is scanned, so that the model can tell exactly which shard may be
//! damaged. Everything else must stay as it was.

use std::sync::Arc;

use storage_node::segment::{
    Kind, RecordHeader, SEGMENT_HEADER_BYTES, Scanned, Scanner, Seal, SegmentHeader, segment_number,
};
use wire::disk::{Disk, OpenMode, SimulatedDisk};
use wire::entropy::{Entropy, SeededEntropy};

use super::Checked;
use super::model::{Fate, Model};
use crate::world::identity;

/// Flips a bit somewhere on a closed disk, and tells the model. Gives what was hit, for messages.
pub fn flip(disk: &SimulatedDisk, entropy: &SeededEntropy, model: &mut Model) -> Checked<String> {
    let shards = disk.subdirectory("shards").map_err(|error| error.to_string())?;
    let mut names = shards.list().map_err(|error| error.to_string())?;
    match entropy.below(10) {
        0 => names.retain(|name| name == "index.redb"),
        1 => names.retain(|name| name == "superblock"),
        _ => names.retain(|name| segment_number(name).is_some()),
    }
    if names.is_empty() {
        return Ok("nothing".to_owned());
    }
    let name = &names[entropy.below(names.len() as u64) as usize];
    let file = shards.open(name, OpenMode::Read).map_err(|error| error.to_string())?;
    let length = file.length().map_err(|error| error.to_string())?;
    let at = entropy.below(length.max(1));
    if let Some(number) = segment_number(name) {
        let is_last = names.last() == Some(name);
        suspect(&*shards, name, number, at, is_last, model)?;
    }
    disk.flip_bit(&format!("shards/{name}"), at, entropy.below(8) as u8)
        .map_err(|error| error.to_string())?;
    Ok(format!("{name} at {at} of {length}"))
}

fn suspect(
    shards: &dyn Disk,
    name: &str,
    number: u64,
    at: u64,
    is_last: bool,
    model: &mut Model,
) -> Checked {
    let file = shards.open(name, OpenMode::Read).map_err(|error| error.to_string())?;
    let length = file.length().map_err(|error| error.to_string())?;
    let mut bytes = [0; SEGMENT_HEADER_BYTES as usize];
    let _ = file.read_at(&mut bytes, 0).map_err(|error| error.to_string())?;
    let start = SegmentHeader::decode(&bytes).ok().map(|header| header.start);
    let seal = Seal::new(&identity(), number);
    let mut scanner = Scanner::new(Arc::clone(&file), seal, start, SEGMENT_HEADER_BYTES, length);
    let mut records: Vec<(u64, RecordHeader)> = Vec::new();
    while let Some(item) = scanner.advance().map_err(|error| error.to_string())? {
        if let Scanned::Record { offset, header } = item {
            records.push((offset, header));
        }
    }
    let is_hit =
        |offset: u64, header: &RecordHeader| (offset..offset + header.record_bytes()).contains(&at);
    for (_, header) in records.iter().filter(|(offset, header)| is_hit(*offset, header)) {
        hit(header, model);
    }
    // Behind the durable position that the other records tell, all of the log may be cut.
    let start = start.or(records.first().map(|(offset, header)| header.position - offset));
    let others = records.iter().filter(|(offset, header)| !is_hit(*offset, header));
    let durable = others.map(|(_, header)| header.durable).max().unwrap_or(0);
    let durable = durable.saturating_sub(start.unwrap_or(0));
    let cut_from = at.max(durable);
    if is_last {
        for (_, header) in
            records.iter().filter(|(offset, header)| offset + header.record_bytes() > cut_from)
        {
            exposed(header, model);
        }
    }
    Ok(())
}

fn hit(header: &RecordHeader, model: &mut Model) {
    if header.kind == Kind::Tombstone {
        return haunt(header, model);
    }
    if let Some(entry) = model.shards.get_mut(&header.id)
        && entry.fate == Fate::Kept
    {
        entry.fate = Fate::Damaged;
    }
}

/// It lies at the end of the log, where rot can't be told from a torn write.
fn exposed(header: &RecordHeader, model: &mut Model) {
    if header.kind == Kind::Tombstone {
        return haunt(header, model);
    }
    if let Some(entry) = model.shards.get_mut(&header.id)
        && matches!(entry.fate, Fate::Kept | Fate::Damaged)
    {
        entry.fate = Fate::Open;
    }
}

fn haunt(header: &RecordHeader, model: &mut Model) {
    let extent = header.id.extent;
    for (_, entry) in model.shards.iter_mut().filter(|(id, _)| id.extent == extent) {
        if matches!(entry.fate, Fate::Gone | Fate::Absent) {
            entry.fate = Fate::Haunted;
        }
    }
}
