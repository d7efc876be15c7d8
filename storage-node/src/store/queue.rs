//! The queue in front of a disk's writer: any number of senders, one taker.
//!
//! It is bounded by the permits that jobs carry ([`super::Store`] hands them out), so it needs no
//! bound of its own.

use crate::sync::{Condvar, Mutex};
use std::collections::VecDeque;

use bytes::Bytes;
use model::ids::ExtentId;
use model::shard::{LogPosition, ShardAppend, ShardError};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::index::Location;
use crate::lock::lock;
use crate::segment::RecordHeader;

/// What a shard takes in the queue beside its bytes.
const SHARD_BYTES: u64 = 128;

/// Bytes that are written together at most; what needs a sync doesn't wait behind more.
const BATCH_BYTES: u64 = 8 << 20;

/// What the writer is asked to do.
pub(crate) struct Job {
    pub(crate) kind: JobKind,
    /// Told the log position behind what was done.
    pub(crate) answer: oneshot::Sender<Result<LogPosition, ShardError>>,
    /// The place in the queue; given back when the job is dropped, wherever its sender is by then.
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

pub(crate) enum JobKind {
    Append {
        shards: Vec<ShardAppend>,
        sync: bool,
    },
    Sync,
    Delete {
        extents: Vec<ExtentId>,
    },
    Tick,
    /// Take a checkpoint and answer when it is durable.
    Checkpoint,
    /// Begin a checkpoint as soon as that is possible.
    CheckpointSoon,
    /// Append what compaction carries to the end of the log, as far as it is still wanted.
    Move {
        records: Vec<Move>,
    },
}

/// A record that compaction would carry to the end of the log. Whether it is needed there is
/// decided when its turn comes.
pub(crate) enum Move {
    Shard(ShardMove),
    /// The tombstone of an extent, when it still is the one at this place.
    Tombstone {
        extent: ExtentId,
        segment: u64,
        offset: u32,
    },
}

/// A shard, or what remains of a deleted one, verified as a whole.
pub(crate) struct ShardMove {
    pub(crate) from: Location,
    pub(crate) header: RecordHeader,
    pub(crate) owner: Bytes,
    pub(crate) checksums: Vec<u64>,
    pub(crate) payload: Bytes,
}

impl Move {
    fn bytes(&self) -> u64 {
        match self {
            Self::Shard(shard) => u64::from(shard.from.record_bytes),
            Self::Tombstone { .. } => 0,
        }
    }
}

/// Bytes that a shard holds while it waits: payload, owner, and what stands for the rest.
pub(super) fn held_bytes(shard: &ShardAppend) -> u64 {
    (shard.payload.len() + shard.owner.len() + 8 * shard.checksums.len()) as u64 + SHARD_BYTES
}

impl JobKind {
    fn bytes(&self) -> u64 {
        match self {
            Self::Append { shards, .. } => shards.iter().map(held_bytes).sum(),
            Self::Move { records } => records.iter().map(Move::bytes).sum(),
            Self::Sync
            | Self::Delete { .. }
            | Self::Tick
            | Self::Checkpoint
            | Self::CheckpointSoon => 0,
        }
    }
}

/// What the writer finds.
pub(crate) enum Taken {
    /// Jobs, in order; never none.
    Jobs(Vec<Job>),
    /// Nothing more will come and nothing is left.
    Closed,
    /// Stop at once.
    Aborted,
}

#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    closed: bool,
    aborted: bool,
}

impl Queue {
    /// Appends a job; gives it back when the queue is closed.
    pub(crate) fn push(&self, job: Job) -> Result<(), Job> {
        let mut state = lock(&self.state);
        if state.closed {
            return Err(job);
        }
        state.jobs.push_back(job);
        drop(state);
        self.arrived.notify_one();
        Ok(())
    }

    /// Waits for jobs and takes as many as make one good write.
    pub(crate) fn take(&self) -> Taken {
        let mut state = lock(&self.state);
        while state.jobs.is_empty() {
            if state.aborted {
                return Taken::Aborted;
            }
            if state.closed {
                return Taken::Closed;
            }
            state = self.arrived.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        let mut bytes = 0;
        let mut taken = Vec::new();
        while let Some(job) = state.jobs.front() {
            bytes += job.kind.bytes();
            if !taken.is_empty() && bytes > BATCH_BYTES {
                break;
            }
            taken.extend(state.jobs.pop_front());
        }
        Taken::Jobs(taken)
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.state).jobs.len()
    }

    /// Refuses further jobs; those that are queued are still done.
    pub(crate) fn close(&self) {
        lock(&self.state).closed = true;
        self.arrived.notify_all();
    }

    /// Refuses further jobs and drops those that are queued, as a crash would.
    pub(crate) fn abort(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        state.aborted = true;
        let dropped = std::mem::take(&mut state.jobs);
        drop(state);
        drop(dropped);
        self.arrived.notify_all();
    }
}
