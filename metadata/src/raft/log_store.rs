//! [`RaftLog`] as openraft's log storage.

use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::Arc;

use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};

use super::types::{Entry, LogId, TypeConfig, Vote};
use crate::raft_log::RaftLog;

/// Bytes of entries that replication sends at a time.
const READ_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A handle to the log.
#[derive(Clone)]
pub struct LogStore(pub Arc<RaftLog>);

impl LogStore {
    async fn read(
        &self,
        range: impl RangeBounds<u64> + OptionalSend + 'static,
        start: u64,
        limit_bytes: usize,
    ) -> io::Result<Vec<Entry>> {
        if self.0.is_cached(start) {
            return self.0.read(range, limit_bytes);
        }
        let log = Arc::clone(&self.0);
        let read = tokio::task::spawn_blocking(move || log.read(range, limit_bytes));
        read.await.map_err(io::Error::other)?
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let bounds = (range.start_bound().cloned(), range.end_bound().cloned());
        let start = match bounds.0 {
            std::ops::Bound::Included(start) | std::ops::Bound::Excluded(start) => start,
            std::ops::Bound::Unbounded => 0,
        };
        self.read(bounds, start, usize::MAX).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.0.vote())
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start..end, start, READ_BYTES_MAX).await
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        Ok(LogState { last_purged_log_id: self.0.purged(), last_log_id: self.0.last() })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.0.save_vote(*vote).await
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.0.append(entries, callback)
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        self.0.truncate_after(last_log_id).await
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        self.0.purge(log_id).await
    }
}
