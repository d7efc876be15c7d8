//! redb's storage on a [`DiskFile`], with a memory of what each block holds.
//!
//! redb trusts what it reads. This backend remembers a checksum of every 4 KiB block that passed
//! through it, written or read, and refuses a later read that differs. After a check of the whole
//! file at open, rot in the index file is therefore an error and never a wrong answer. The memory
//! is 8 bytes a block, 1/512 of the file.

use std::fmt;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;
use twox_hash::XxHash3_64;
use wire::disk::DiskFile;

const BLOCK_BYTES: u64 = 4096;
/// Read at once when the whole file is compared.
const CHECK_BYTES: usize = 1 << 20;

/// The blocks of an index file, as they are known to be.
pub(super) struct Blocks {
    file: Arc<dyn DiskFile>,
    /// By block number; 0 where nothing is known.
    sums: Mutex<Vec<u64>>,
}

impl Blocks {
    pub(super) fn new(file: Arc<dyn DiskFile>) -> Self {
        Self { file, sums: Mutex::default() }
    }

    /// Bytes of the file.
    pub(super) fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    /// Reads the whole file in order; `true` when every block is as `sums` say, which are then
    /// what later reads must be like.
    pub(super) fn adopt(&self, sums: Vec<u64>) -> io::Result<bool> {
        let length = self.file.length()?;
        let mut buffer = vec![0u8; CHECK_BYTES];
        let mut at = 0;
        while at < length {
            let count = (length - at).min(CHECK_BYTES as u64) as usize;
            let blocks = sums.iter().skip((at / BLOCK_BYTES) as usize);
            // redb grows its file by halves: a good part of it was never written.
            if blocks.take(CHECK_BYTES / BLOCK_BYTES as usize).any(|known| *known != 0) {
                let part = buffer.get_mut(..count).unwrap_or_default();
                // This one and the next: while they are compared, the device goes on.
                self.file.will_read(at, 2 * CHECK_BYTES as u64);
                self.file.read_exact_at(part, at)?;
                for (block, found) in whole_blocks(at, part) {
                    let known = sums.get(block as usize).copied().unwrap_or(0);
                    if known != 0 && known != found {
                        return Ok(false);
                    }
                }
            }
            at += count as u64;
        }
        *held(&self.sums) = sums;
        Ok(true)
    }

    /// The checksums as they are known. The first block, which redb writes in parts, is read
    /// back: a start shall find it as it is now.
    pub(super) fn known(&self) -> io::Result<Vec<u64>> {
        let mut first = [0u8; BLOCK_BYTES as usize];
        self.file.read_exact_at(&mut first, 0)?;
        let mut sums = held(&self.sums).clone();
        if let Some(sum) = sums.first_mut() {
            *sum = sum_of(&first);
        }
        Ok(sums)
    }
}

/// Adapts a file to redb.
pub(super) struct FileBackend {
    blocks: Arc<Blocks>,
}

impl FileBackend {
    pub(super) fn new(blocks: Arc<Blocks>) -> Self {
        Self { blocks }
    }
}

impl fmt::Debug for FileBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileBackend")
    }
}

/// The checksum of a block; 0 stands for an unknown one.
fn sum_of(block: &[u8]) -> u64 {
    XxHash3_64::oneshot(block).max(1)
}

/// The blocks that lie wholly within `bytes` at `offset`, with their checksums.
fn whole_blocks(offset: u64, bytes: &[u8]) -> impl Iterator<Item = (u64, u64)> {
    let first = offset.div_ceil(BLOCK_BYTES);
    let skipped = (first * BLOCK_BYTES - offset) as usize;
    bytes
        .get(skipped..)
        .unwrap_or_default()
        .chunks_exact(BLOCK_BYTES as usize)
        .zip(first..)
        .map(|(block, number)| (number, sum_of(block)))
}

/// The place of a block's checksum; the list grows as the file does.
fn place(sums: &mut Vec<u64>, block: u64) -> Option<&mut u64> {
    let at = block as usize;
    if sums.len() <= at {
        sums.resize(at + 1, 0);
    }
    sums.get_mut(at)
}

/// A lock of the standard library whatever the others are: redb's own locks are held around it.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl StorageBackend for FileBackend {
    fn len(&self) -> io::Result<u64> {
        self.blocks.file.length()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.blocks.file.read_exact_at(out, offset)?;
        let mut sums = held(&self.blocks.sums);
        for (block, found) in whole_blocks(offset, out) {
            let Some(known) = place(&mut sums, block) else { continue };
            if *known == 0 {
                *known = found;
            } else if *known != found {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("block {block} of the index is not the one that was written"),
                ));
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        held(&self.blocks.sums).truncate((len / BLOCK_BYTES) as usize);
        self.blocks.file.set_length(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.blocks.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut sums = held(&self.blocks.sums);
        let end = offset + data.len() as u64;
        // What is written in part is unknown until it is read.
        for edge in [offset, end] {
            if edge % BLOCK_BYTES != 0
                && let Some(known) = sums.get_mut((edge / BLOCK_BYTES) as usize)
            {
                *known = 0;
            }
        }
        self.blocks.file.write_at(&[IoSlice::new(data)], offset)?;
        for (block, sum) in whole_blocks(offset, data) {
            if let Some(known) = place(&mut sums, block) {
                *known = sum;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use wire::disk::{Disk, OpenMode, SimulatedDisk};

    use super::*;

    #[test]
    fn a_changed_block_is_refused_and_a_part_is_unknown() {
        let disk = SimulatedDisk::new(1);
        let file = disk.open("f", OpenMode::CreateNew).expect("new");
        let blocks = Arc::new(Blocks::new(file));
        let backend = FileBackend::new(Arc::clone(&blocks));
        backend.write(0, &[7; 3 * 4096]).expect("written");
        let mut out = [0; 4096];
        backend.read(4096, &mut out).expect("as written");
        disk.flip_bit("f", 5000, 1).expect("flipped");
        assert!(backend.read(4096, &mut out).is_err());
        backend.write(4100, &[1; 4]).expect("a part");
        backend.read(4096, &mut out).expect("unknown, so taken as it is");
        disk.flip_bit("f", 5000, 1).expect("flipped");
        assert!(backend.read(4096, &mut out).is_err(), "known again");
        backend.set_len(4096).expect("cut");
        assert_eq!(blocks.known().expect("known").len(), 1);
    }

    #[test]
    fn only_the_file_that_was_left_is_adopted() {
        let disk = SimulatedDisk::new(1);
        let file = disk.open("f", OpenMode::CreateNew).expect("new");
        let backend = FileBackend::new(Arc::new(Blocks::new(Arc::clone(&file))));
        backend.write(0, &[7; 3 * 4096]).expect("written");
        let sums = backend.blocks.known().expect("known");
        let fresh = Blocks::new(file);
        assert!(fresh.adopt(sums.clone()).expect("read"));
        for byte in (0..3 * 4096).step_by(511) {
            disk.flip_bit("f", byte, 3).expect("flipped");
            assert!(!fresh.adopt(sums.clone()).expect("read"), "byte {byte}");
            disk.flip_bit("f", byte, 3).expect("flipped back");
        }
    }
}
