//! The checksums of the index file's blocks, kept beside it so that a start needn't walk the tree.
//!
//! Written over after every checkpoint. A start reads the whole index file in order and compares:
//! when every block is the one that was written, the file is the one that the last checkpoint
//! left, and redb's own walk over all pages (many times slower) would find nothing. Whatever
//! differs, here or there, only makes that walk necessary. So nothing depends on this file: it may
//! be stale, torn or gone.

use std::io::{self, IoSlice};
use std::sync::Arc;

use model::ids::DiskUuid;
use twox_hash::XxHash3_64;
use wire::disk::{Disk, DiskFile, OpenMode};

use crate::segment::fields::{array, get_u64};

/// The file name, beside the index.
pub const SUMS_NAME: &str = "index.sums";

const MAGIC: [u8; 8] = *b"DRYSUMS\n";
const VERSION: u64 = 1;
/// Magic, version, disk uuid, bytes of the index file.
const HEAD_BYTES: usize = 40;
/// 512 GiB of index: more is none.
const BLOCKS_MAX: u64 = 1 << 27;

/// Opens the file, and makes it where it isn't there.
pub(super) fn open(disk: &dyn Disk) -> io::Result<Arc<dyn DiskFile>> {
    match disk.open(SUMS_NAME, OpenMode::Write) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let file = disk.open(SUMS_NAME, OpenMode::CreateNew)?;
            disk.sync_directory()?;
            Ok(file)
        }
        other => other,
    }
}

/// Writes the checksums of an index file of `index_bytes`.
pub(super) fn save(
    file: &dyn DiskFile,
    uuid: DiskUuid,
    index_bytes: u64,
    sums: &[u64],
) -> io::Result<()> {
    let mut out = Vec::with_capacity(HEAD_BYTES + 8 * sums.len() + 8);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&uuid.0);
    out.extend_from_slice(&index_bytes.to_le_bytes());
    for sum in sums {
        out.extend_from_slice(&sum.to_le_bytes());
    }
    out.extend_from_slice(&XxHash3_64::oneshot(&out).to_le_bytes());
    if file.length()? > out.len() as u64 {
        file.set_length(out.len() as u64)?;
    }
    file.write_at(&[IoSlice::new(&out)], 0)?;
    file.sync_data()
}

/// The checksums of an index file of `index_bytes`, when sound ones are there.
pub(super) fn load(file: &dyn DiskFile, uuid: DiskUuid, index_bytes: u64) -> Option<Vec<u64>> {
    let bytes = file.length().ok()?;
    if bytes > 8 * BLOCKS_MAX || bytes < HEAD_BYTES as u64 + 8 {
        return None;
    }
    let mut all = vec![0u8; bytes as usize];
    file.read_exact_at(&mut all, 0).ok()?;
    let (covered, checksum) = all.split_at(all.len() - 8);
    let sound = array(covered, 0) == Some(MAGIC)
        && get_u64(covered, 8) == Some(VERSION)
        && array(covered, 16) == Some(uuid.0)
        && get_u64(covered, 32) == Some(index_bytes)
        && get_u64(checksum, 0) == Some(XxHash3_64::oneshot(covered));
    let sums = covered.get(HEAD_BYTES..)?;
    sound.then(|| sums.chunks_exact(8).filter_map(|sum| get_u64(sum, 0)).collect())
}
