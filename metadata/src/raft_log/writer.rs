//! The log's writer: one thread that makes records durable, many with one fdatasync.
//!
//! In: records with the places that they were given, hard states, removals, in order. Out: a call
//! back for each when it is durable. What always holds: a segment is synced before the next one is
//! made; after the first failure nothing is written any more, and the replica is fenced.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;

use bytes::Bytes;
use openraft::storage::IOFlushed;
use tokio::sync::oneshot;
use wire::clock::Clock;
use wire::disk::Disk;

use super::record::{HardState, RECORD_HEADER_BYTES, RecordHeader, record_bytes};
use super::segment::{SegmentFile, segment_name, write_hard_state};
use crate::limits::LOG_GROUP_MAX;
use crate::raft::types::TypeConfig;
use crate::state::Fence;

/// A record with its place.
pub struct PlacedRecord {
    /// Its header; the writer fills `durable_below`.
    pub header: RecordHeader,
    /// Its payload.
    pub payload: Bytes,
    /// Its segment's file.
    pub file: Arc<SegmentFile>,
    /// Where it goes.
    pub offset: u64,
}

/// Who is told when something is durable.
pub enum Done {
    /// Raft.
    Flushed(IOFlushed<TypeConfig>),
    /// A caller that waits.
    Waiter(oneshot::Sender<io::Result<()>>),
}

impl Done {
    fn tell(self, result: io::Result<()>) {
        match self {
            Self::Flushed(callback) => callback.io_completed(result),
            // Whoever waited may be gone.
            Self::Waiter(waiter) => drop(waiter.send(result)),
        }
    }
}

/// Work for the writer.
pub enum Work {
    /// Write records.
    Records(Vec<PlacedRecord>, Done),
    /// Replace the hard state, then remove segments.
    HardState {
        /// The new hard state, but for its durable mark.
        state: HardState,
        /// Segments that hold nothing behind its purged position.
        remove: Vec<u64>,
        /// Who waits.
        done: Done,
    },
    /// Write the durable mark and end.
    Stop {
        /// The hard state, but for its durable mark.
        state: HardState,
        /// Who waits.
        done: Done,
    },
}

/// The thread's state.
pub struct Writer {
    /// The log's directory.
    pub disk: Arc<dyn Disk>,
    /// For latencies.
    pub clock: Arc<dyn Clock>,
    /// Set at the first failure.
    pub fence: Arc<Fence>,
    /// Records below this sequence number are durable.
    pub durable_below: Arc<AtomicU64>,
}

#[derive(Default)]
struct Group {
    records: Vec<PlacedRecord>,
    waiting: Vec<Done>,
}

impl Writer {
    /// Works until it is told to stop, or the log is gone.
    pub fn run(self, work: &Receiver<Work>) {
        while let Ok(first) = work.recv() {
            let mut group = Group::default();
            let mut next = Some(first);
            let mut taken = 0;
            while let Some(item) = next {
                match item {
                    Work::Records(records, done) => {
                        group.records.extend(records);
                        group.waiting.push(done);
                    }
                    Work::HardState { state, remove, done } => {
                        self.write(&mut group);
                        done.tell(self.replace_hard_state(state, &remove));
                    }
                    Work::Stop { state, done } => {
                        self.write(&mut group);
                        done.tell(self.replace_hard_state(state, &[]));
                        return;
                    }
                }
                taken += 1;
                next = if taken < LOG_GROUP_MAX { work.try_recv().ok() } else { None };
            }
            self.write(&mut group);
        }
    }

    /// Writes and syncs a group, and tells everyone in it.
    fn write(&self, group: &mut Group) {
        if group.waiting.is_empty() {
            return;
        }
        let result = self.guard(|| self.write_records(&mut group.records));
        group.records.clear();
        for done in group.waiting.drain(..) {
            done.tell(match &result {
                Ok(()) => Ok(()),
                Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
            });
        }
    }

    fn write_records(&self, records: &mut [PlacedRecord]) -> io::Result<()> {
        let durable_below = self.durable_below.load(Ordering::Acquire);
        for record in records.iter_mut() {
            record.header.durable_below = durable_below;
        }
        for run in records.chunk_by(|one, two| {
            // One behind the other in the same file.
            Arc::ptr_eq(&one.file, &two.file)
                && one.offset + one.header.record_bytes() == two.offset
        }) {
            self.write_run(run)?;
        }
        if let Some(last) = records.last() {
            self.durable_below.store(last.header.sequence + 1, Ordering::Release);
        }
        Ok(())
    }

    fn write_run(&self, run: &[PlacedRecord]) -> io::Result<()> {
        let Some(first) = run.first() else {
            return Ok(());
        };
        let headers: Vec<[u8; RECORD_HEADER_BYTES]> =
            run.iter().map(|record| record.header.to_bytes()).collect();
        let padding = [0u8; 8];
        let mut slices = Vec::with_capacity(run.len() * 3);
        for (record, header) in run.iter().zip(&headers) {
            slices.push(IoSlice::new(header));
            slices.push(IoSlice::new(&record.payload));
            let whole = record_bytes(record.payload.len()) as usize;
            let rest = whole - RECORD_HEADER_BYTES - record.payload.len();
            slices.push(IoSlice::new(padding.get(..rest).unwrap_or_default()));
        }
        // The runs before this one are synced: only then may the next segment be made.
        let file = first.file.open(&*self.disk)?;
        file.write_at(&slices, first.offset)?;
        let started = self.clock.monotonic();
        file.sync_data()?;
        let spent = self.clock.monotonic().saturating_sub(started);
        metrics::counter!("drystone_metadata_log_syncs_total").increment(1);
        metrics::histogram!("drystone_metadata_log_sync_seconds").record(spent.as_secs_f64());
        Ok(())
    }

    fn replace_hard_state(&self, mut state: HardState, remove: &[u64]) -> io::Result<()> {
        self.guard(|| {
            state.durable_below = self.durable_below.load(Ordering::Acquire);
            write_hard_state(&*self.disk, &state)?;
            for number in remove {
                self.disk.remove(&segment_name(*number))?;
            }
            if !remove.is_empty() {
                self.disk.sync_directory()?;
            }
            Ok(())
        })
    }

    /// Runs disk work, unless the replica is fenced; a failure fences it.
    fn guard(&self, work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        if self.fence.is_set() {
            return Err(io::Error::other("the replica is fenced"));
        }
        work().inspect_err(|error| self.fence.set(&format!("the log can't be written: {error}")))
    }
}
