//! A file of a disk as redb's storage: the database reaches the world by the same door as all else,
//! so that crashes of it can be simulated.

use std::fmt;
use std::io::{self, IoSlice};
use std::sync::Arc;

use redb::StorageBackend;
use wire::disk::DiskFile;

/// A file that redb lives in.
pub struct StateFile(pub Arc<dyn DiskFile>);

impl StorageBackend for StateFile {
    fn len(&self) -> io::Result<u64> {
        self.0.length()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_length(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(&[IoSlice::new(data)], offset)
    }
}

impl fmt::Debug for StateFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateFile").finish_non_exhaustive()
    }
}
