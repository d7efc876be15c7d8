//! Keeps aside the damaged regions of a segment that is given back.
//!
//! No live shard lies in them by the index, so nothing of them is ever served; but what they were
//! can't be proved, and what can't be proved is not thrown away. People may look at the files, and
//! remove them.

use std::io::{self, IoSlice};

use wire::disk::{Disk, DiskFile, OpenMode};

use super::Shared;
use crate::index::DamagedRegion;

/// Where the files lie, beside the segments.
const DIRECTORY: &str = "quarantine";
/// Bytes that all files together may have; segments whose damage doesn't fit are kept.
const BYTES_MAX: u64 = 256 << 20;
const PIECE_BYTES: usize = 1 << 20;
/// What a device that can't read gives up on at least.
const SECTOR_BYTES: usize = 4096;

/// Copies the regions into files of their own, durably.
pub(super) fn save(
    shared: &Shared,
    file: &dyn DiskFile,
    regions: &[DamagedRegion],
) -> io::Result<()> {
    if regions.is_empty() {
        return Ok(());
    }
    let directory = shared.disk.subdirectory(DIRECTORY)?;
    let mut used = 0;
    for name in directory.list()? {
        used += directory.open(&name, OpenMode::Read)?.length()?;
    }
    for region in regions {
        used += region.bytes;
        if used > BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "the quarantine is full"));
        }
        save_region(&*directory, file, region)?;
    }
    directory.sync_directory()
}

fn save_region(
    directory: &dyn Disk,
    file: &dyn DiskFile,
    region: &DamagedRegion,
) -> io::Result<()> {
    let name = format!("seg-{:016x}-{:010x}.bad", region.segment, region.offset);
    match directory.remove(&name) {
        // From a run that came this far and was cut short.
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let kept = directory.open(&name, OpenMode::CreateNew)?;
    let mut done = 0;
    while done < region.bytes {
        let count = (region.bytes - done).min(PIECE_BYTES as u64) as usize;
        let piece = read_what_can_be(file, region.offset + done, count);
        kept.write_at(&[IoSlice::new(&piece)], done)?;
        done += count as u64;
    }
    kept.sync_data()
}

/// The bytes there, with zeros for those that the device doesn't give.
fn read_what_can_be(file: &dyn DiskFile, offset: u64, count: usize) -> Vec<u8> {
    let mut piece = vec![0u8; count];
    if file.read_at(&mut piece, offset).is_ok() {
        return piece;
    }
    for (number, sector) in piece.chunks_mut(SECTOR_BYTES).enumerate() {
        let at = offset + (number * SECTOR_BYTES) as u64;
        if file.read_at(sector, at).is_err() {
            sector.fill(0);
        }
    }
    piece
}
