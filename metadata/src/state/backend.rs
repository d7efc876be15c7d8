//! redb's file, checked: what is read must be what was written.
//!
//! redb verifies no page on read. So a checksum of every 4 KiB block is kept in memory, taken when
//! the block is written or read for the first time (the integrity check at the start reads
//! everything), and verified on every later read. A mismatch is an I/O error, which fences the
//! replica. Costs 8 bytes of memory per block.
//!
//! What nobody reads is read by [`Blocks::check`], past the page cache: the inspection of a running
//! replica goes through the whole file with it.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use redb::StorageBackend;
use twox_hash::XxHash3_64;

use super::file::StateFile;

/// Bytes of a block; redb's page size, so that a page is whole blocks.
const BLOCK: u64 = 4096;

/// Stands for a block that was neither written nor read yet.
const UNKNOWN: u64 = 0;

/// A storage backend that checks what it reads.
pub struct CheckingBackend<B> {
    inner: B,
    /// The checksum of each block. Redb never reads and writes one page at the same time, so it
    /// can't see a block and its checksum apart.
    sums: RwLock<Vec<AtomicU64>>,
    /// Shared by those who change blocks, so that whoever has it alone sees all of them together
    /// with their checksums.
    changing: RwLock<()>,
}

/// The blocks of a replica's state: redb's storage, of which the inspection has a handle too.
#[derive(Clone)]
pub struct Blocks(Arc<CheckingBackend<StateFile>>);

impl Blocks {
    /// The blocks of a file.
    pub fn new(file: StateFile) -> io::Result<Self> {
        Ok(Self(Arc::new(CheckingBackend::new(file)?)))
    }

    /// Bytes of the file.
    pub fn length(&self) -> io::Result<u64> {
        self.0.len()
    }

    /// Reads the blocks of a range from the disk itself, and compares them with what was written. A
    /// range beyond the end, where the file may have been cut, is empty. Errors: `InvalidData`.
    pub fn check(&self, offset: u64, length: u64) -> io::Result<()> {
        self.0.inner.0.forget_cached(offset, length);
        self.0.check(offset / BLOCK, length.div_ceil(BLOCK))
    }
}

impl<B: StorageBackend> CheckingBackend<B> {
    /// Checks what `inner` stores.
    pub fn new(inner: B) -> io::Result<Self> {
        let blocks = inner.len()?.div_ceil(BLOCK) as usize;
        let sums = (0..blocks).map(|_| AtomicU64::new(UNKNOWN)).collect();
        Ok(Self { inner, sums: RwLock::new(sums), changing: RwLock::default() })
    }

    /// Reads blocks while the database is at work, and verifies them.
    fn check(&self, first: u64, count: u64) -> io::Result<()> {
        let length = self.inner.len()?;
        let end = ((first + count) * BLOCK).min(length);
        let mut found = vec![0; end.saturating_sub(first * BLOCK) as usize];
        if found.is_empty() || self.read_blocks(first, &mut found).is_ok() {
            return Ok(());
        }
        // It may have been written meanwhile: once more, while nobody writes.
        let _alone = self.changing.write().unwrap_or_else(PoisonError::into_inner);
        let end = end.min(self.inner.len()?);
        found.truncate(end.saturating_sub(first * BLOCK) as usize);
        self.read_blocks(first, &mut found)
    }

    /// Reads the blocks from `first` on into `out`, which is whole blocks (or ends with the file),
    /// and verifies them.
    fn read_blocks(&self, first: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(first * BLOCK, out)?;
        let sums = self.sums.read().unwrap_or_else(PoisonError::into_inner);
        for (block, number) in out.chunks(BLOCK as usize).zip(first..) {
            let sum = checksum(number, block);
            let known = sums.get(number as usize).ok_or(io::ErrorKind::UnexpectedEof)?;
            if let Err(known) =
                known.compare_exchange(UNKNOWN, sum, Ordering::Relaxed, Ordering::Relaxed)
                && known != sum
            {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("block {number} of the state isn't what was written"),
                ));
            }
        }
        Ok(())
    }

    /// The blocks that hold a range, read and verified; also where the first begins.
    fn read_around(&self, offset: u64, length: usize) -> io::Result<(u64, Vec<u8>)> {
        let first = offset / BLOCK;
        let end = (offset + length as u64).next_multiple_of(BLOCK).min(self.inner.len()?);
        if end < offset + length as u64 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut around = vec![0; (end - first * BLOCK) as usize];
        self.read_blocks(first, &mut around)?;
        Ok((first * BLOCK, around))
    }

    fn note(&self, first: u64, data: &[u8]) {
        let sums = self.sums.read().unwrap_or_else(PoisonError::into_inner);
        for (block, number) in data.chunks(BLOCK as usize).zip(first..) {
            if let Some(known) = sums.get(number as usize) {
                known.store(checksum(number, block), Ordering::Relaxed);
            }
        }
    }
}

/// The number is part of it, so that a block in the wrong place fails too.
fn checksum(number: u64, block: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(number, block).max(UNKNOWN + 1)
}

impl<B: StorageBackend> StorageBackend for CheckingBackend<B> {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if offset.is_multiple_of(BLOCK) && (out.len() as u64).is_multiple_of(BLOCK) {
            return self.read_blocks(offset / BLOCK, out);
        }
        let (start, around) = self.read_around(offset, out.len())?;
        let from = (offset - start) as usize;
        let wanted = around.get(from..from + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(wanted);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let _changing = self.changing.read().unwrap_or_else(PoisonError::into_inner);
        self.inner.set_len(len)?;
        let mut sums = self.sums.write().unwrap_or_else(PoisonError::into_inner);
        // The last block that was there may be cut or filled up with zeros.
        let kept = (len / BLOCK).min(sums.len().saturating_sub(1) as u64) as usize;
        sums.truncate(kept);
        sums.resize_with(len.div_ceil(BLOCK) as usize, || AtomicU64::new(UNKNOWN));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let _changing = self.changing.read().unwrap_or_else(PoisonError::into_inner);
        if offset.is_multiple_of(BLOCK) && (data.len() as u64).is_multiple_of(BLOCK) {
            self.inner.write(offset, data)?;
            self.note(offset / BLOCK, data);
            return Ok(());
        }
        let (start, mut around) = self.read_around(offset, data.len())?;
        let from = (offset - start) as usize;
        around
            .get_mut(from..from + data.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?
            .copy_from_slice(data);
        self.inner.write(offset, data)?;
        self.note(start / BLOCK, &around);
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }
}

impl StorageBackend for Blocks {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }
}

impl fmt::Debug for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<B: fmt::Debug> fmt::Debug for CheckingBackend<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckingBackend").field("inner", &self.inner).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;

    #[test]
    fn partial_writes_keep_the_rest_checked() {
        let backend = CheckingBackend::new(InMemoryBackend::new()).expect("made");
        backend.set_len(3 * BLOCK + 100).expect("extended");
        backend.write(10, b"hello").expect("written");
        backend.write(BLOCK - 2, b"abcd").expect("written");
        backend.write(3 * BLOCK + 95, b"tail!").expect("written");
        let mut out = [0; 5];
        backend.read(10, &mut out).expect("read");
        assert_eq!(&out, b"hello");
        backend.read(3 * BLOCK + 95, &mut out).expect("read");
        assert_eq!(&out, b"tail!");
        assert!(backend.read(3 * BLOCK + 96, &mut out).is_err());
    }

    #[test]
    fn a_check_finds_what_nobody_reads_and_blames_no_write() {
        let backend = CheckingBackend::new(InMemoryBackend::new()).expect("made");
        backend.set_len(64 * BLOCK).expect("extended");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..50u8 {
                    for block in 0..64 {
                        backend.write(block * BLOCK, &[round; BLOCK as usize]).expect("written");
                    }
                }
            });
            for _ in 0..100 {
                backend.check(0, 64).expect("whole");
            }
        });
        // Behind the end there is nothing.
        backend.check(60, 100).expect("whole");
        backend.check(100, 10).expect("whole");
        backend.inner.write(40 * BLOCK + 7, &[255]).expect("spoilt");
        backend.check(0, 40).expect("whole");
        backend.check(0, 64).expect_err("spoilt");
    }

    #[test]
    fn a_changed_byte_is_an_error() {
        let backend = CheckingBackend::new(InMemoryBackend::new()).expect("made");
        backend.set_len(2 * BLOCK).expect("extended");
        backend.write(0, &[7; 2 * BLOCK as usize]).expect("written");
        backend.inner.write(BLOCK + 5, &[8]).expect("spoilt");
        let mut block = [0; BLOCK as usize];
        backend.read(0, &mut block).expect("whole");
        let error = backend.read(BLOCK, &mut block).expect_err("spoilt");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        // Writing into the spoilt block must not make it good.
        assert!(backend.write(BLOCK + 100, b"x").is_err());
    }
}
