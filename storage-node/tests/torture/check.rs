//! What must hold of an open disk: compared with the model, and with its own accounts and files.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::ids::{PgId, ShardId};
use model::shard::{ShardBlocks, ShardError, ShardRead};
use storage_node::Store;
use storage_node::segment::{
    Kind, SEGMENT_HEADER_BYTES, Scanned, Scanner, Seal, SegmentHeader, segment_number,
};
use wire::disk::{Disk, OpenMode, SimulatedDisk};

use super::model::{Entry, Fate, Model, PGS};
use super::{Checked, ensure};
use crate::world::{OWNER_BYTES, identity, payload, wait};

/// Ranges that are read in one request.
const READ_BATCH: usize = 300;

/// What may excuse what would be a violation otherwise.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is true or not by itself")]
pub struct Excuse {
    /// Bits were flipped on this disk at some time.
    pub rotten: bool,
    /// Reads have failed or lied in this run.
    pub misread: bool,
    /// Syncs have failed in this run: what wasn't durable may be gone, even from what is seen. The
    /// copies of compaction are of that kind: what they were made of is found after a restart.
    pub unsynced_lost: bool,
    /// They did so in this run or an earlier one: damage was told of that may be none.
    pub misread_before: bool,
}

/// Bytes of the record of a shard.
fn record_bytes(length: u32) -> u64 {
    let owner = u64::from(OWNER_BYTES).next_multiple_of(8);
    88 + owner + 8 * u64::from(length.div_ceil(65_536)) + u64::from(length).next_multiple_of(8)
}

/// Judges one answer, and tells whether the store holds a record of the shard.
pub fn judge(
    id: ShardId,
    entry: &mut Entry,
    answer: &Result<ShardBlocks, ShardError>,
    settles: bool,
    tells_damage: bool,
    excuse: Excuse,
) -> Checked<bool> {
    let fate = entry.fate;
    match answer {
        Ok(blocks) => {
            let right = payload(id, entry.length as usize);
            let from = blocks.first_block as usize * 65_536;
            let part = right.get(from..from + blocks.payload.len());
            ensure!(part == Some(&blocks.payload), "wrong bytes of shard {id}, which is {fate:?}");
            ensure!(fate != Fate::Gone, "the deleted shard {id} is back");
            ensure!(fate != Fate::Absent, "shard {id} was absent after a restart and is back");
            let is_whole = blocks.payload.len() == entry.length as usize;
            if settles && is_whole {
                entry.fate = Fate::Kept;
            }
            Ok(true)
        }
        Err(ShardError::NotFound(..)) => {
            match fate {
                Fate::Kept => return Err(format!("shard {id} was acknowledged and is lost")),
                Fate::Answered => return Err(format!("shard {id} vanished without a crash")),
                Fate::Damaged => ensure!(tells_damage, "the damage of shard {id} is forgotten"),
                Fate::Open if settles => entry.fate = Fate::Absent,
                Fate::Open | Fate::Haunted | Fate::Absent | Fate::Gone => {}
            }
            Ok(false)
        }
        Err(error @ ShardError::Corrupt(..)) => {
            let excused = fate == Fate::Damaged
                || excuse.misread
                || (excuse.unsynced_lost && !matches!(fate, Fate::Absent | Fate::Gone))
                || (excuse.rotten && matches!(fate, Fate::Open | Fate::Haunted));
            ensure!(excused, "{error}, which is {fate:?}");
            Ok(true)
        }
        Err(error) => {
            ensure!(excuse.misread, "reading shard {id}, which is {fate:?}: {error}");
            Ok(false)
        }
    }
}

/// Everything that must hold after a restart; settles what was open, since what is there after
/// recovery is durable.
pub fn whole_disk(
    store: &Store,
    disk: &SimulatedDisk,
    model: &mut Model,
    excuse: Excuse,
) -> Checked {
    let told = tells_damage(store, disk);
    let damage = store.damaged_regions();
    let excused = excuse.rotten || excuse.misread_before;
    ensure!(damage.is_empty() || excused, "damage without rot: {damage:?}");
    let mut held = BTreeMap::new();
    let ids: Vec<(ShardId, u32)> = model.shards.iter().map(|(id, e)| (*id, e.length)).collect();
    for batch in ids.chunks(READ_BATCH) {
        let reads =
            batch.iter().map(|(id, length)| ShardRead { id: *id, offset: 0, length: *length });
        let answers = wait(store.read(reads.collect())).map_err(|error| error.to_string())?;
        for ((id, length), answer) in batch.iter().zip(&answers) {
            if let Some(entry) = model.shards.get_mut(id)
                && judge(*id, entry, answer, true, told, excuse)?
            {
                held.insert(*id, *length);
            }
        }
    }
    let listed = inventory(store)?;
    ensure!(
        listed.iter().eq(&held),
        "the inventory is not what can be read: {:?}",
        listed
            .keys()
            .collect::<BTreeSet<_>>()
            .symmetric_difference(&held.keys().collect())
            .collect::<Vec<_>>()
    );
    accounts(store, &held)
}

/// Whether damage is told of: by the store, or by what compaction has put aside.
pub fn tells_damage(store: &Store, disk: &SimulatedDisk) -> bool {
    let aside = disk.subdirectory("shards").and_then(|shards| shards.subdirectory("quarantine"));
    let aside = aside.and_then(|aside| aside.list());
    !store.damaged_regions().is_empty() || aside.is_ok_and(|names| !names.is_empty())
}

/// The inventory of all PGs, by pages.
fn inventory(store: &Store) -> Checked<BTreeMap<ShardId, u32>> {
    const PAGE: u32 = 50;
    let mut listed = BTreeMap::new();
    for pg in 0..PGS {
        let mut after = None;
        loop {
            let page = wait(store.inventory(PgId(pg), after, PAGE)).map_err(|e| e.to_string())?;
            ensure!(page.is_sorted(), "an inventory is not in order");
            after = page.last().map(|(id, _)| *id);
            let count = page.len();
            listed.extend(page);
            if count < PAGE as usize {
                break;
            }
        }
    }
    Ok(listed)
}

/// Whether the accounts are exact.
fn accounts(store: &Store, held: &BTreeMap<ShardId, u32>) -> Checked {
    let report = store.report();
    let live: u64 = held.values().map(|length| record_bytes(*length)).sum();
    ensure!(
        (report.shards, report.live_bytes) == (held.len() as u64, live),
        "the accounts say {} shards in {} bytes, and there are {} in {live}",
        report.shards,
        report.live_bytes,
        held.len()
    );
    Ok(())
}

/// After a restart and before anything is written, every segment is sound records to its last
/// byte: what was torn is cut, and nothing was left half-done. What was deleted lately is in them.
pub fn files(disk: &SimulatedDisk, within_grace: &[ShardId]) -> Checked {
    let mut found = BTreeSet::new();
    let shards = disk.subdirectory("shards").map_err(|error| error.to_string())?;
    for name in shards.list().map_err(|error| error.to_string())? {
        let Some(number) = segment_number(&name) else { continue };
        let file = shards.open(&name, OpenMode::Read).map_err(|error| error.to_string())?;
        let length = file.length().map_err(|error| error.to_string())?;
        let mut bytes = [0; SEGMENT_HEADER_BYTES as usize];
        file.read_exact_at(&mut bytes, 0).map_err(|error| format!("{name}: {error}"))?;
        let header = SegmentHeader::decode(&bytes).map_err(|error| format!("{name}: {error}"))?;
        let seal = Seal::new(&identity(), number);
        let begin = SEGMENT_HEADER_BYTES;
        let mut scanner = Scanner::new(Arc::clone(&file), seal, Some(header.start), begin, length);
        while let Some(item) = scanner.advance().map_err(|error| error.to_string())? {
            let Scanned::Record { header, .. } = item else {
                let all = shards.list().unwrap_or_default().join(" ");
                return Err(format!("{name}: {item:?} of {length} bytes, beside {all}"));
            };
            if matches!(header.kind, Kind::Shard | Kind::Remains) {
                found.insert(header.id);
            }
        }
    }
    for id in within_grace {
        ensure!(found.contains(id), "shard {id} was deleted lately and can't be recovered");
    }
    Ok(())
}
