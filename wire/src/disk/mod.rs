//! The door to files: the only place that asks the operating system to keep bytes.
//!
//! A [`Disk`] is one directory, a [`DiskFile`] an open file in it. What is durable is told by two
//! calls alone: [`DiskFile::sync_data`] for a file's content and length, and
//! [`Disk::sync_directory`] for creations, removals and renames. Everything else may be lost, in
//! whole or in part and in any order, by a crash.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

mod real;
mod simulated;

pub use real::RealDisk;
pub use simulated::{DiskFaults, SimulatedDisk};

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

    /// Reads without waiting for the device; `None` when it would have to wait.
    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>>;

    /// Writes all of `parts`, one after the other.
    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()>;

    /// Makes content and length durable (fdatasync). Fails with `NotFound` when the file has been
    /// unlinked: what is durable in a file that nobody can open again is lost all the same.
    fn sync_data(&self) -> io::Result<()>;

    /// Says that nobody is likely to read this range soon: what of it isn't written yet begins to
    /// be, and what is needs no memory any more. A hint, which changes nothing but cost.
    fn forget_cached(&self, offset: u64, length: u64);

    /// The length in bytes.
    fn length(&self) -> io::Result<u64>;

    /// Cuts or extends (with zeros) the file.
    fn set_length(&self, length: u64) -> io::Result<()>;

    /// Reserves space, so that writing there can't fail for want of it; extends the length, with
    /// zeros.
    fn allocate(&self, offset: u64, length: u64) -> io::Result<()>;
}
