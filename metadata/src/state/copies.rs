//! The check of a snapshot that lies on the disk, and another in its place.
//!
//! In: the current snapshot of a running replica, read again. Out: whether it is whole. A damaged one
//! harms nobody as long as it isn't sent: the state that it was made of is here, so it is made anew.

use std::io;
use std::sync::Arc;

use wire::disk::{DiskFile, OpenMode};

use super::snapshot::{Reader, SNAPSHOT, SnapshotFile};
use super::{StateError, StateMachine};

/// A snapshot that is being read again, chunk by chunk.
pub struct SnapshotScan {
    file: Arc<dyn DiskFile>,
    length: u64,
    offset: u64,
    chunks: u32,
    total: u64,
}

impl SnapshotScan {
    /// Begins with the current snapshot of `machine`; `None` when there is none.
    pub fn begin(machine: &StateMachine) -> Result<Option<Self>, StateError> {
        let file = match machine.disk().open(SNAPSHOT, OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let length = file.length()?;
        // What is asked for is what lies on the disk.
        file.forget_cached(0, length);
        let offset = Reader::new(&*file, 0)?.offset;
        Ok(Some(Self { file, length, offset, chunks: 0, total: 0 }))
    }

    /// Verifies the next chunk; says whether there are more.
    pub fn step(&mut self) -> Result<bool, StateError> {
        let mut reader = Reader {
            file: &*self.file,
            length: self.length,
            offset: self.offset,
            chunks: self.chunks,
            total: self.total,
        };
        let has_more = reader.next()?.is_some();
        (self.offset, self.chunks, self.total) = (reader.offset, reader.chunks, reader.total);
        Ok(has_more)
    }
}

impl SnapshotFile {
    /// Reads and verifies all of it.
    pub fn check(&self) -> Result<(), StateError> {
        super::machine::guarded(|| {
            let file = self.file()?;
            let mut reader = Reader::new(&**file, 0)?;
            reader.head()?;
            while reader.next()?.is_some() {}
            Ok(())
        })
    }
}

impl StateMachine {
    /// Makes a snapshot in place of one that is damaged or can't be read. Whatever `why` is, the
    /// state is as it was.
    pub fn remake_snapshot(&self, why: &StateError) -> Result<SnapshotFile, StateError> {
        tracing::error!(%why, "the metadata's snapshot is worth nothing; another is made");
        metrics::counter!("drystone_metadata_snapshots_remade_total").increment(1);
        let made = match self.has_space_for_snapshot() {
            Ok(true) => self.build_snapshot(),
            Ok(false) => Err(StateError::Io(io::ErrorKind::StorageFull.into())),
            Err(error) => Err(error.into()),
        };
        made.inspect_err(|error| {
            tracing::error!(%error, "no snapshot of the metadata could be made");
        })
    }
}
