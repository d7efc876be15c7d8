//! redb's storage on a [`DiskFile`], with a memory of what each block holds.
//!
//! redb trusts what it reads. This backend remembers a checksum of every 4 KiB block that passed
//! through it, written or read, and refuses a later read that differs. After a check of all pages
//! at open, rot in the index file is therefore an error and never a wrong answer. The memory is
//! 1/512 of the file.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex};

use redb::StorageBackend;
use twox_hash::XxHash3_64;
use wire::disk::DiskFile;

use crate::lock::lock;

const BLOCK_BYTES: u64 = 4096;

/// Adapts a file to redb.
pub(super) struct FileBackend {
    file: Arc<dyn DiskFile>,
    seen: Mutex<HashMap<u64, u64>>,
}

impl FileBackend {
    pub(super) fn new(file: Arc<dyn DiskFile>) -> Self {
        Self { file, seen: Mutex::default() }
    }
}

impl fmt::Debug for FileBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileBackend")
    }
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
        .map(|(block, number)| (number, XxHash3_64::oneshot(block)))
}

impl StorageBackend for FileBackend {
    fn len(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)?;
        let mut seen = lock(&self.seen);
        for (block, checksum) in whole_blocks(offset, out) {
            if *seen.entry(block).or_insert(checksum) != checksum {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("block {block} of the index is not the one that was written"),
                ));
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        lock(&self.seen).retain(|block, _| (block + 1) * BLOCK_BYTES <= len);
        self.file.set_length(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut seen = lock(&self.seen);
        let end = offset + data.len() as u64;
        for edge in [offset, end] {
            if edge % BLOCK_BYTES != 0 {
                seen.remove(&(edge / BLOCK_BYTES));
            }
        }
        self.file.write_at(&[IoSlice::new(data)], offset)?;
        seen.extend(whole_blocks(offset, data));
        Ok(())
    }
}
