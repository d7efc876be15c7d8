//! The door to files: the only place that asks the operating system to keep bytes.
//!
//! A [`Disk`] is one directory, a [`DiskFile`] an open file in it. What is durable is told by two
//! calls alone: [`DiskFile::sync_data`] for a file's content and length, and
//! [`Disk::sync_directory`] for creations, removals and renames. Everything else may be lost, in
//! whole or in part and in any order, by a crash.
//!
//! # Which way to stable storage
//!
//! Measured with `cargo bench --bench components -- durability` (two cores of a virtual machine,
//! ext4 on virtio, Linux 6.18; medians of three): groups of records written and made durable one
//! after the other into space that `fallocate` reserved. Each cell is the CPU time of the process
//! and the median latency of a group, in µs.
//!
//! | way | 1 × 4 KiB | 16 × 4 KiB | 64 × 4 KiB | 1 × 1 MiB | 8 × 1 MiB |
//! | --- | --- | --- | --- | --- | --- |
//! | page cache, `fdatasync` | 60 / 165 | 87 / 224 | 107 / 266 | 203 / 557 (1) | 1145 / 5047 (1) |
//! | the same, let go of at once | 73 / 193 | 78 / 234 | 104 / 283 | 224 / 589 | 1343 / 4981 |
//! | page cache, `O_DSYNC` | 60 / 163 | 71 / 203 | 106 / 268 | 272 / 614 (1) | 12362 / 20349 (1) |
//! | `O_DIRECT`, last block again | 61 / 154 | 53 / 174 | 68 / 227 | 128 / 489 | 528 / 4365 |
//! | `O_DIRECT`, `O_DSYNC` | 63 / 156 | 58 / 182 | 72 / 226 | 118 / 485 | 533 / 4448 |
//! | **whole blocks `O_DIRECT`, ends cached** | 65 / 168 | 81 / 246 | 95 / 278 | **146 / 556** | **547 / 3933** |
//! | **cached, 256 KiB of zeros ahead** | **42 / 99** | **64 / 110** | 121 / 319 | | |
//! | page cache, file of zeros, cached | 34 / 89 | 38 / 106 | 70 / 174 | 134 / 319 | 791 / 2096 |
//! | `O_DIRECT`, file of zeros | 28 / 80 | 29 / 95 | 43 / 141 | 94 / 298 | 495 / 2032 |
//! | `O_DIRECT`, recycled file | 30 / 86 | 29 / 94 | 41 / 135 | 98 / 304 | 526 / 2229 |
//!
//! (1) With pages that were in use before. Into pages that the virtual machine had never touched, 1 MiB
//! cost 2000 to 2900 µs of CPU (2 to 2.9 s a GiB), in the same run; past the cache it never did.
//!
//! What was taken from that:
//!
//! - Large groups go past the page cache ([`DiskFile::write_uncached_at`]): 0.07 to 0.15 CPU-seconds a
//!   GiB, whatever the memory has seen. The ends that aren't whole blocks stay in the cache, which
//!   costs one or two small writes, and saves writing a block twice and telling a reader or a crash
//!   anything new: what is written is what was asked for, byte by byte.
//! - Small groups stay in the page cache, where they are read back from for 2 µs each. What makes
//!   their sync dear isn't the copy but the commit of the journal for blocks that were reserved
//!   and never written; a log that writes zeros ahead pays for it once in 60 groups, not every time.
//! - Whole files of zeros cost every byte twice, and recycled segments would hold old records behind
//!   the end of the log; both gain nothing for large groups that ahead-writing doesn't for small ones.
//! - `O_DSYNC` saves a call, and gains nothing: the flush is what costs.
//! - `io_uring` (by `fio`, files written before, `fdatasync` each): 4 KiB 23 against 33 µs of CPU at the
//!   same 36 to 40 µs + 36 to 45 µs of latency; 1 MiB 0.07 against 0.09 CPU-seconds a GiB at the same 2.5 GiB/s. It would
//!   need unsafe code: not worth it. `sync_file_range` before `fdatasync` took 36 against 42 µs at
//!   4 KiB, and 0.2 CPU-seconds a GiB at 1 MiB, more than `O_DIRECT`.
//! - Direct writes of 8 MiB instead of 1 MiB at once: 2.9 against 3.1 GiB/s, so 1 MiB it is.
//! - Large reads stay with the page cache and its reading ahead: in order 3.0 GiB/s, by `O_DIRECT` 1.1 GiB/s
//!   (0.06 and 0.08 CPU-seconds a GiB; into never-touched pages 1.6). Who reads much once (scrub, compaction) lets go of it
//!   ([`DiskFile::forget_cached`]), which keeps to pages that were in use: 2.9 GiB/s, never more than 0.09.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

mod real;
mod simulated;
mod uncached;

pub use real::RealDisk;
pub use simulated::{DiskFaultOdds, DiskFaults, SimulatedDisk};

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, to be read.
    Read,
    /// An existing file, to be read and written.
    Write,
    /// A new file; fails with `AlreadyExists` when there is one.
    CreateNew,
}

/// The space of the file system below a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskSpace {
    /// Bytes altogether.
    pub capacity_bytes: u64,
    /// Bytes that may still be written.
    pub free_bytes: u64,
}

/// One directory.
pub trait Disk: Send + Sync + 'static {
    /// Opens or creates a file.
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;

    /// The names of its files, sorted; sub-directories are left out.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Renames a file, in place of one that has the new name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Makes creations, removals and renames durable.
    fn sync_directory(&self) -> io::Result<()>;

    /// Opens a sub-directory; makes it, durably, if it isn't there.
    fn subdirectory(&self, name: &str) -> io::Result<Arc<dyn Disk>>;

    /// The space left.
    fn space(&self) -> io::Result<DiskSpace>;

    /// Whether the directory that was opened is still the one at its path. It isn't after it was
    /// deleted, replaced or unmounted, though open files go on working unseen.
    fn is_present(&self) -> bool;

    /// Where it is, for messages.
    fn path(&self) -> &Path;
}

/// An open file. Reads and writes name their place; there is no cursor.
pub trait DiskFile: Send + Sync + 'static {
    /// Reads at most `buffer.len()` bytes; fewer only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Reads exactly `buffer.len()` bytes; `UnexpectedEof` when the file is shorter.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if self.read_at(buffer, offset)? == buffer.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    /// Reads at most `count` bytes into a buffer of its own; fewer only at the end of the file.
    fn read_new_at(&self, count: usize, offset: u64) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; count];
        let filled = self.read_at(&mut buffer, offset)?;
        buffer.truncate(filled);
        Ok(buffer)
    }

    /// Reads without waiting for the device; `None` when it would have to wait.
    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>>;

    /// Writes all of `parts`, one after the other.
    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()>;

    /// Writes all of `parts` likewise, past the page cache where that saves something: for much that
    /// nobody is likely to read soon. What it means, before and after a sync, is the same.
    fn write_uncached_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.write_at(parts, offset)
    }

    /// Makes content and length durable (fdatasync). Fails with `NotFound` when the file has been
    /// unlinked: what is durable in a file that nobody can open again is lost all the same.
    fn sync_data(&self) -> io::Result<()>;

    /// Says that nobody is likely to read this range soon: what of it isn't written yet begins to
    /// be, and what is needs no memory any more. A hint, which changes nothing but cost.
    fn forget_cached(&self, offset: u64, length: u64);

    /// Says that this range is about to be read: the device may begin. A hint, likewise.
    fn will_read(&self, offset: u64, length: u64) {
        let _ = (offset, length);
    }

    /// The length in bytes.
    fn length(&self) -> io::Result<u64>;

    /// Cuts or extends (with zeros) the file.
    fn set_length(&self, length: u64) -> io::Result<()>;

    /// Reserves space, so that writing there can't fail for want of it; extends the length, with
    /// zeros.
    fn allocate(&self, offset: u64, length: u64) -> io::Result<()>;
}
