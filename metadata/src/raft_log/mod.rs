//! The Raft log of one replica: checksummed records in segments of our own.
//!
//! In: entries, truncations, purges, votes. Out: entries to Raft, and a call back when they are
//! durable. What always holds: what was appended can be read at once; what was called back is on
//! stable storage; there are no holes; a log whose durable part is damaged isn't opened (R8).

use std::collections::VecDeque;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use model::ids::{ClusterId, ReplicaId};
use openraft::storage::IOFlushed;
use tokio::sync::oneshot;
use twox_hash::XxHash3_64;
use wire::clock::Clock;
use wire::disk::Disk;

mod inspect;
pub(crate) mod record;
mod recovery;
mod segment;
mod writer;

pub use inspect::{SegmentCheck, check_hard_state};
use record::{
    HardState, RecordHeader, RecordKind, SEGMENT_HEADER_BYTES, SegmentHeader, record_bytes,
};
use recovery::{Position, file_of, read_payload};
use segment::{Segment, SegmentFile, create_segment, write_hard_state};
use writer::{Done, PlacedRecord, Work, Writer};

use crate::limits::{LOG_CACHE_BYTES, LOG_CACHE_ENTRIES, LOG_PAYLOAD_BYTES_MAX, LOG_SEGMENT_BYTES};
use crate::raft::types::{Entry, LogId, StoredLogId, TypeConfig, Vote, decode_entry, encode_entry};
use crate::state::Fence;

/// Why a log can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The replica must not come back: rebuild it under a new id.
    #[error("the log is damaged: {0}")]
    Damaged(String),
    /// It can't be read or written.
    #[error("the log can't be read or written: {0}")]
    Io(#[from] io::Error),
}

impl From<LogError> for io::Error {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Io(error) => error,
            damaged @ LogError::Damaged(_) => Self::new(io::ErrorKind::InvalidData, damaged),
        }
    }
}

/// A log, and the thread that writes it.
pub struct RaftLog {
    cluster: ClusterId,
    replica: ReplicaId,
    fence: Arc<Fence>,
    index: Mutex<Index>,
    work: Sender<Work>,
    /// Records below this sequence number are durable.
    durable_below: Arc<AtomicU64>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What is where.
struct Index {
    hard_state: HardState,
    /// Behind the purged position, without gaps.
    entries: VecDeque<Slot>,
    /// Entries before this place in `entries` aren't in memory.
    cached_from: usize,
    cached_bytes: usize,
    /// Bytes of all entries.
    entry_bytes: u64,
    segments: Vec<Segment>,
    offset: u64,
    sequence: u64,
}

struct Slot {
    id: LogId,
    at: Position,
    sequence: u64,
    entry: Option<Entry>,
}

impl RaftLog {
    /// Makes an empty log on an empty `disk`.
    pub fn create(
        disk: Arc<dyn Disk>,
        cluster: ClusterId,
        replica: ReplicaId,
        clock: Arc<dyn Clock>,
        fence: Arc<Fence>,
    ) -> Result<Arc<Self>, LogError> {
        let header = SegmentHeader { cluster, replica, number: 1, first_sequence: 1 };
        create_segment(&*disk, header)?;
        write_hard_state(&*disk, &HardState { durable_below: 1, ..HardState::default() })?;
        Self::open(disk, cluster, replica, clock, fence)
    }

    /// Opens the log on `disk`.
    pub fn open(
        disk: Arc<dyn Disk>,
        cluster: ClusterId,
        replica: ReplicaId,
        clock: Arc<dyn Clock>,
        fence: Arc<Fence>,
    ) -> Result<Arc<Self>, LogError> {
        let recovered = recovery::recover(&*disk, cluster, replica)?;
        // What can be read now was cut or was synced before; sync once more, so that all of it is
        // durable before Raft builds on it.
        if let Some(last) = recovered.segments.last() {
            last.file.open(&*disk)?.sync_data()?;
        }
        let entries: VecDeque<Slot> = recovered
            .entries
            .into_iter()
            .map(|(id, at)| Slot { id, at, sequence: 0, entry: None })
            .collect();
        let entry_bytes = entries.iter().map(|slot| u64::from(slot.at.payload_bytes)).sum();
        let durable_below = Arc::new(AtomicU64::new(recovered.sequence));
        let index = Index {
            hard_state: recovered.hard_state,
            cached_from: entries.len(),
            entries,
            cached_bytes: 0,
            entry_bytes,
            segments: recovered.segments,
            offset: recovered.offset,
            sequence: recovered.sequence,
        };
        let (work, inbox) = channel();
        let writer = Writer {
            disk,
            clock,
            fence: Arc::clone(&fence),
            durable_below: Arc::clone(&durable_below),
        };
        let thread = std::thread::Builder::new()
            .name(format!("raft-log-{replica}"))
            .spawn(move || writer.run(&inbox))?;
        Ok(Arc::new(Self {
            cluster,
            replica,
            fence,
            index: Mutex::new(index),
            work,
            durable_below,
            thread: Mutex::new(Some(thread)),
        }))
    }

    /// The vote.
    pub fn vote(&self) -> Option<Vote> {
        self.lock().hard_state.vote.map(Vote::from)
    }

    /// The last purged entry.
    pub fn purged(&self) -> Option<LogId> {
        self.lock().hard_state.purged.map(LogId::from)
    }

    /// The last entry, or the last purged one.
    pub fn last(&self) -> Option<LogId> {
        let index = self.lock();
        index.entries.back().map(|slot| slot.id).or(index.hard_state.purged.map(LogId::from))
    }

    /// Makes a vote durable.
    pub async fn save_vote(&self, vote: Vote) -> io::Result<()> {
        let done = {
            let mut index = self.lock();
            index.hard_state.vote = Some(vote.into());
            self.send_hard_state(&index, Vec::new())
        };
        wait(done).await
    }

    /// Appends entries. They can be read when this returns; `callback` tells when they are
    /// durable.
    pub fn append(
        &self,
        entries: impl IntoIterator<Item = Entry>,
        callback: IOFlushed<TypeConfig>,
    ) -> io::Result<()> {
        let mut index = self.lock();
        let mut records = Vec::new();
        for entry in entries {
            let (kind, payload, payload_checksum) = encode_entry(&entry);
            let id = entry.log_id;
            let (record, at) = self.place(
                &mut index,
                RecordKind::Entry(kind),
                id.into(),
                payload,
                payload_checksum,
            )?;
            if let Some(segment) = index.segments.last_mut() {
                segment.last_index = segment.last_index.max(Some(id.index));
            }
            let at = Position {
                segment: at,
                offset: record.offset,
                payload_bytes: record.header.payload_bytes,
                kind,
            };
            index.cached_bytes += record.payload.len();
            index.entry_bytes += u64::from(record.header.payload_bytes);
            let sequence = record.header.sequence;
            index.entries.push_back(Slot { id, at, sequence, entry: Some(entry) });
            records.push(record);
        }
        index.shrink_cache(self.durable_below.load(Ordering::Acquire));
        self.send(Work::Records(records, Done::Flushed(callback)));
        Ok(())
    }

    /// Whether the entries behind the one at `index` have more than so many bytes.
    pub fn has_more_bytes_after(&self, index: u64, bytes: u64) -> bool {
        let log = self.lock();
        // Mostly that says it all.
        if log.entry_bytes <= bytes {
            return false;
        }
        let after = log.entries.iter().rev().take_while(|slot| slot.id.index > index);
        after.map(|slot| u64::from(slot.at.payload_bytes)).sum::<u64>() > bytes
    }

    /// Takes back all entries behind `last` (all there are, for `None`).
    pub async fn truncate_after(&self, last: Option<LogId>) -> io::Result<()> {
        let done = {
            let mut index = self.lock();
            let next = last.map_or(0, |id| id.index + 1);
            while index.entries.back().is_some_and(|slot| slot.id.index >= next) {
                index.pop_back();
            }
            let id = last.map_or(StoredLogId { term: 0, node: 0, index: 0 }, StoredLogId::from);
            let checksum = XxHash3_64::oneshot(&[]);
            let (record, _) =
                self.place(&mut index, RecordKind::Truncate, id, Bytes::new(), checksum)?;
            let (done, wait) = oneshot::channel();
            self.send(Work::Records(vec![record], Done::Waiter(done)));
            wait
        };
        wait(done).await
    }

    /// Forgets all entries up to `last`, itself included, whether they are there or not.
    pub async fn purge(&self, last: LogId) -> io::Result<()> {
        let done = {
            let mut index = self.lock();
            if index.hard_state.purged.is_some_and(|purged| purged.index >= last.index) {
                return Ok(());
            }
            index.hard_state.purged = Some(last.into());
            while index.entries.front().is_some_and(|slot| slot.id.index <= last.index) {
                index.pop_front();
            }
            let is_done =
                |segment: &Segment| segment.last_index.is_none_or(|index| index <= last.index);
            let count = index.segments.len();
            let removable = index
                .segments
                .iter()
                .take(count.saturating_sub(1))
                .take_while(|segment| is_done(segment))
                .count();
            let removed: Vec<u64> =
                index.segments.drain(..removable).map(|segment| segment.number).collect();
            self.send_hard_state(&index, removed)
        };
        wait(done).await
    }

    /// The entries in `range`, as many as there are, at most `limit_bytes` of them (but one).
    pub fn read(&self, range: impl RangeBounds<u64>, limit_bytes: usize) -> io::Result<Vec<Entry>> {
        let mut wanted = Vec::new();
        {
            let index = self.lock();
            let Some(first) = index.entries.front().map(|slot| slot.id.index) else {
                return Ok(Vec::new());
            };
            let start = match range.start_bound() {
                Bound::Included(start) => *start,
                Bound::Excluded(start) => start.saturating_add(1),
                Bound::Unbounded => 0,
            };
            let end = match range.end_bound() {
                Bound::Included(end) => end.saturating_add(1),
                Bound::Excluded(end) => *end,
                Bound::Unbounded => u64::MAX,
            };
            let mut bytes = 0;
            let skip = start.saturating_sub(first) as usize;
            for slot in index.entries.iter().skip(skip) {
                if slot.id.index >= end || (bytes > 0 && bytes >= limit_bytes) {
                    break;
                }
                bytes += slot.at.payload_bytes as usize + 1;
                let file = if slot.entry.is_none() {
                    file_of(&index.segments, slot.at.segment)
                } else {
                    None
                };
                wanted.push((slot.id, slot.at, slot.entry.clone(), file));
            }
        }
        wanted
            .into_iter()
            .map(|(id, at, entry, file)| match (entry, file) {
                (Some(entry), _) => Ok(entry),
                (None, Some(file)) => read_payload(&*file, id, at)
                    .map_err(io::Error::from)
                    .and_then(|payload| decode_entry(id, at.kind, payload))
                    .inspect_err(|error| self.fence.set(&error.to_string())),
                (None, None) => {
                    self.fence.set("a log segment is missing");
                    Err(io::ErrorKind::NotFound.into())
                }
            })
            .collect()
    }

    /// Whether all entries in `start..end` are in memory.
    pub fn is_cached(&self, start: u64) -> bool {
        let index = self.lock();
        index
            .entries
            .get(index.cached_from)
            .map_or(index.entries.is_empty(), |slot| slot.id.index <= start)
    }

    /// Makes everything durable, writes the durable mark and ends the writer.
    pub async fn stop(&self) -> io::Result<()> {
        let waiting = {
            let index = self.lock();
            let (done, waiting) = oneshot::channel();
            self.send(Work::Stop { state: index.hard_state, done: Done::Waiter(done) });
            waiting
        };
        let result = wait(waiting).await;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // The thread has answered and ends; a panic in it would be told by `wait`.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, work: Work) {
        // A writer that is gone has dropped its inbox; whoever waits hears of it by the drop.
        let _ = self.work.send(work);
    }

    fn send_hard_state(
        &self,
        index: &Index,
        remove: Vec<u64>,
    ) -> oneshot::Receiver<io::Result<()>> {
        let (done, waiting) = oneshot::channel();
        self.send(Work::HardState { state: index.hard_state, remove, done: Done::Waiter(done) });
        waiting
    }

    /// Gives a record its place; in a new segment, when it doesn't fit.
    fn place(
        &self,
        index: &mut Index,
        kind: RecordKind,
        log_id: StoredLogId,
        payload: Bytes,
        payload_checksum: u64,
    ) -> io::Result<(PlacedRecord, u64)> {
        if payload.len() > LOG_PAYLOAD_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the log entry is too large"));
        }
        let bytes = record_bytes(payload.len());
        if index.offset + bytes > LOG_SEGMENT_BYTES {
            self.begin_segment(index);
        }
        let segment =
            index.segments.last().ok_or_else(|| io::Error::other("the log has no segment"))?;
        let header = RecordHeader {
            kind,
            payload_bytes: payload.len() as u32,
            sequence: index.sequence,
            durable_below: 0,
            log_id,
            payload_checksum,
        };
        let file = Arc::clone(&segment.file);
        let number = segment.number;
        let record = PlacedRecord { header, payload, file, offset: index.offset };
        index.offset += bytes;
        index.sequence += 1;
        Ok((record, number))
    }

    /// The next record goes to a new segment, which the writer makes when it gets there.
    fn begin_segment(&self, index: &mut Index) {
        let number = index.segments.last().map_or(1, |segment| segment.number + 1);
        let header = SegmentHeader {
            cluster: self.cluster,
            replica: self.replica,
            number,
            first_sequence: index.sequence,
        };
        let file = Arc::new(SegmentFile::to_be_made(header));
        index.segments.push(Segment { number, file, last_index: None });
        index.offset = SEGMENT_HEADER_BYTES;
    }
}

impl Index {
    fn pop_back(&mut self) {
        if let Some(slot) = self.entries.pop_back() {
            self.entry_bytes -= u64::from(slot.at.payload_bytes);
            if slot.entry.is_some() {
                self.cached_bytes -= slot.at.payload_bytes as usize;
            }
            self.cached_from = self.cached_from.min(self.entries.len());
        }
    }

    fn pop_front(&mut self) {
        if let Some(slot) = self.entries.pop_front() {
            self.entry_bytes -= u64::from(slot.at.payload_bytes);
            if slot.entry.is_some() {
                self.cached_bytes -= slot.at.payload_bytes as usize;
            }
            self.cached_from = self.cached_from.saturating_sub(1);
        }
    }

    /// Lets go of the oldest entries in memory; only durable ones can be read from the disk.
    fn shrink_cache(&mut self, durable_below: u64) {
        while self.entries.len() - self.cached_from > LOG_CACHE_ENTRIES
            || self.cached_bytes > LOG_CACHE_BYTES
        {
            match self.entries.get_mut(self.cached_from) {
                Some(slot) if slot.sequence < durable_below => {
                    if slot.entry.take().is_some() {
                        self.cached_bytes -= slot.at.payload_bytes as usize;
                    }
                    self.cached_from += 1;
                }
                Some(_) | None => return,
            }
        }
    }
}

async fn wait(done: oneshot::Receiver<io::Result<()>>) -> io::Result<()> {
    done.await.unwrap_or_else(|_| Err(io::Error::other("the log's writer has ended")))
}
