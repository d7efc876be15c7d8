//! Hashes large bodies, those that are there at the same time together.
//!
//! In: the bytes of bodies in order, as they are received. Out: each body's digests. The MD5s of
//! bodies that have bytes at the same time are computed side by side (`kernels::md5`): two take about
//! as long as one, sixteen little more than twice as long. So work goes in rounds: a worker, on a thread
//! for blocking work, takes a slice of every body that has bytes, hashes them together, and looks
//! again, so that whoever came meanwhile takes part in the next round.
//!
//! When a round begins: a body that is alone is hashed as its bytes come. With company, hashing waits
//! until all have something to hash or one has gathered [`GATHERED_BYTES`]; the end of a body never
//! waits. So nobody is held up: what waits is less than a sender may be ahead of the hashing
//! ([`BACKLOG_BYTES_MAX`]) anyway, and that bounds the memory.
//!
//! One worker hashes faster than a core can do the rest of an upload; only when a sender has to wait
//! is the work shared with another one. A body that is dropped leaves at once, or, if it is in a
//! round, at its end. Should hashing panic, the bodies of that round fail, and no others.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use kernels::md5::LANES_MAX;
use s3::checksum::{BodyDigests, Digests, NextBytes};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::limits::{BACKLOG_BYTES_MAX, DIGEST_BATCH_BYTES, DIGEST_SLICE_BYTES, GATHERED_BYTES};

/// Hashes bodies. Clones share the work.
#[derive(Clone)]
pub struct LaneHasher {
    shared: Arc<Shared>,
}

struct Shared {
    bodies: Mutex<Bodies>,
    workers_max: usize,
}

/// All bodies that are being received or hashed.
#[derive(Default)]
struct Bodies {
    by_number: BTreeMap<u64, Body>,
    next_number: u64,
    /// Where the next round begins to look, so that all come in turn.
    next_in_turn: u64,
    workers: usize,
}

struct Body {
    /// Away while a worker has them.
    digests: Option<Box<BodyDigests>>,
    waiting: VecDeque<Bytes>,
    waiting_bytes: usize,
    phase: Phase,
    /// Wakes the one task that this body is of.
    changed: Arc<Notify>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// More bytes will come.
    Receiving,
    /// All bytes are there.
    Ended,
    /// Its digests were lost: hashing panicked, or the runtime is shutting down.
    Lost,
}

/// A body that is in the hasher until this is dropped.
pub struct HashedBody {
    shared: Arc<Shared>,
    number: u64,
    changed: Arc<Notify>,
}

/// Hashing was given up: it panicked, or the process is ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body could not be hashed")]
pub struct HashingLost;

impl Default for LaneHasher {
    fn default() -> Self {
        Self::new()
    }
}

impl LaneHasher {
    /// Uses at most half of the processor's threads: what else an upload needs takes the other half.
    pub fn new() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self::with_workers((threads / 2).max(1))
    }

    fn with_workers(workers_max: usize) -> Self {
        Self { shared: Arc::new(Shared { bodies: Mutex::default(), workers_max }) }
    }

    /// Begins a body.
    pub fn begin(&self, digests: BodyDigests) -> HashedBody {
        let changed = Arc::new(Notify::new());
        let body = Body {
            digests: Some(Box::new(digests)),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            phase: Phase::Receiving,
            changed: Arc::clone(&changed),
        };
        let mut bodies = self.shared.lock();
        let number = bodies.next_number;
        bodies.next_number += 1;
        bodies.by_number.insert(number, body);
        drop(bodies);
        HashedBody { shared: Arc::clone(&self.shared), number, changed }
    }
}

impl HashedBody {
    /// Takes the next bytes. Waits when hashing is too far behind.
    pub async fn update(&mut self, bytes: &Bytes) -> Result<(), HashingLost> {
        if bytes.is_empty() {
            return Ok(());
        }
        {
            let mut bodies = self.shared.lock();
            let body = bodies.by_number.get_mut(&self.number).ok_or(HashingLost)?;
            body.waiting_bytes += bytes.len();
            body.waiting.push_back(bytes.clone());
            self.shared.start_worker_if_wanted(bodies);
        }
        self.wait_until(|body| body.waiting_bytes < BACKLOG_BYTES_MAX).await
    }

    /// The digests of everything.
    pub async fn finish(self) -> Result<Digests, HashingLost> {
        {
            let mut bodies = self.shared.lock();
            let body = bodies.by_number.get_mut(&self.number).ok_or(HashingLost)?;
            if body.phase == Phase::Receiving {
                body.phase = Phase::Ended;
            }
            self.shared.start_worker_if_wanted(bodies);
        }
        self.wait_until(|body| body.waiting.is_empty() && body.digests.is_some()).await?;
        let body = self.shared.lock().by_number.remove(&self.number);
        body.and_then(|body| body.digests).map(|digests| digests.finish()).ok_or(HashingLost)
    }

    async fn wait_until(&self, is_so: impl Fn(&Body) -> bool) -> Result<(), HashingLost> {
        loop {
            {
                let bodies = self.shared.lock();
                let body = bodies.by_number.get(&self.number).ok_or(HashingLost)?;
                if body.phase == Phase::Lost {
                    return Err(HashingLost);
                }
                if is_so(body) {
                    return Ok(());
                }
            }
            // What happened since we looked has left a permit: nothing is missed.
            self.changed.notified().await;
        }
    }
}

impl Drop for HashedBody {
    fn drop(&mut self) {
        let mut bodies = self.shared.lock();
        bodies.by_number.remove(&self.number);
        // Others may have waited for this one's company.
        self.shared.start_worker_if_wanted(bodies);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Bodies> {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the first worker when a round is due, and another when a sender must wait.
    fn start_worker_if_wanted(self: &Arc<Self>, mut bodies: MutexGuard<'_, Bodies>) {
        let wanted = match bodies.workers {
            0 => bodies.is_round_due(),
            workers => workers < self.workers_max && bodies.is_sender_waiting(),
        };
        // Without a runtime nobody waits any more: bodies are being dropped at its end.
        let (true, Ok(runtime)) = (wanted, Handle::try_current()) else { return };
        bodies.workers += 1;
        drop(bodies);
        let mut worker = Worker { shared: Arc::clone(self), has_ended: false };
        // The worker's owner is itself: it ends when there is nothing to hash, and if the runtime
        // refuses to run it, its drop tells those who wait.
        drop(runtime.spawn_blocking(move || worker.run()));
    }
}

impl Bodies {
    fn hashable(&self) -> impl Iterator<Item = &Body> {
        self.by_number.values().filter(|body| body.digests.is_some() && !body.waiting.is_empty())
    }

    fn is_sender_waiting(&self) -> bool {
        self.hashable().any(|body| body.waiting_bytes >= BACKLOG_BYTES_MAX)
    }

    /// Whether somebody can't wait, or all that could come along are there.
    fn is_round_due(&self) -> bool {
        let company = self.by_number.len().min(LANES_MAX);
        let mut ready = 0;
        for body in self.hashable() {
            if body.phase != Phase::Receiving || body.waiting_bytes >= GATHERED_BYTES {
                return true;
            }
            ready += usize::from(body.waiting_bytes >= DIGEST_BATCH_BYTES);
        }
        ready > 0 && ready >= company
    }

    /// Whether a worker that is at it should go on: a round is due or almost, or two bodies, or the
    /// only one, fill a slice. Less would have workers started all the time.
    fn is_round_worth_it(&self) -> bool {
        let (mut full, mut is_gathered) = (0, false);
        for body in self.hashable() {
            full += usize::from(body.waiting_bytes >= DIGEST_SLICE_BYTES);
            is_gathered |= body.waiting_bytes >= GATHERED_BYTES / 2;
        }
        (full > 0 && (is_gathered || full >= self.by_number.len().min(2))) || self.is_round_due()
    }

    /// Takes a slice of bodies that have bytes, those that can't wait first, and at most `lanes_max`.
    fn take_round(&mut self, lanes_max: usize) -> Vec<Turn> {
        let mut chosen: Vec<(bool, u64)> = Vec::new();
        let in_turn = self.by_number.range(self.next_in_turn..);
        for (number, body) in in_turn.chain(self.by_number.range(..self.next_in_turn)) {
            if body.digests.is_some() && !body.waiting.is_empty() {
                let can_wait =
                    body.phase == Phase::Receiving && body.waiting_bytes < GATHERED_BYTES;
                chosen.push((can_wait, *number));
            }
        }
        chosen.sort_by_key(|(can_wait, _)| *can_wait);
        chosen.truncate(lanes_max);
        self.next_in_turn = chosen.last().map_or(0, |(_, number)| number + 1);
        let turns = chosen.into_iter().filter_map(|(_, number)| {
            let body = self.by_number.get_mut(&number)?;
            Some(Turn { number, digests: body.digests.take()?, pieces: body.take_slice() })
        });
        turns.collect()
    }
}

impl Body {
    fn take_slice(&mut self) -> Vec<Bytes> {
        let mut left = DIGEST_SLICE_BYTES.min(self.waiting_bytes);
        self.waiting_bytes -= left;
        let mut pieces = Vec::new();
        while left > 0 {
            let Some(mut piece) = self.waiting.pop_front() else { break };
            if piece.len() > left {
                self.waiting.push_front(piece.split_off(left));
            }
            left -= piece.len();
            pieces.push(piece);
        }
        pieces
    }
}

/// A body's part in a round.
struct Turn {
    number: u64,
    digests: Box<BodyDigests>,
    pieces: Vec<Bytes>,
}

/// Hashes, round after round, until nothing is to be done.
struct Worker {
    shared: Arc<Shared>,
    has_ended: bool,
}

impl Worker {
    fn run(&mut self) {
        while let Some(mut turns) = self.next_round() {
            let hashed = catch_unwind(AssertUnwindSafe(|| {
                let mut bodies: Vec<NextBytes<'_, Bytes>> = turns
                    .iter_mut()
                    .map(|turn| NextBytes { digests: &mut turn.digests, pieces: &turn.pieces })
                    .collect();
                BodyDigests::update_together(&mut bodies);
            }));
            // What was half hashed when a panic came is never looked at again.
            self.give_back(turns, hashed.is_ok());
        }
    }

    /// What to hash next; `None` when this worker isn't needed any more.
    fn next_round(&mut self) -> Option<Vec<Turn>> {
        let mut bodies = self.shared.lock();
        if !bodies.is_round_worth_it() {
            bodies.workers -= 1;
            self.has_ended = true;
            return None;
        }
        let mut lanes_max = LANES_MAX;
        if bodies.is_sender_waiting() && bodies.workers < self.shared.workers_max {
            // Leave some for the worker that is started below.
            lanes_max = bodies.hashable().count().div_ceil(2).clamp(2, LANES_MAX);
        }
        let turns = bodies.take_round(lanes_max);
        self.shared.start_worker_if_wanted(bodies);
        Some(turns)
    }

    fn give_back(&self, turns: Vec<Turn>, is_hashed: bool) {
        let mut bodies = self.shared.lock();
        for Turn { number, digests, pieces } in turns {
            // A body whose request was given up meanwhile is gone.
            let Some(body) = bodies.by_number.get_mut(&number) else { continue };
            drop(pieces);
            if is_hashed {
                body.digests = Some(digests);
            } else {
                body.phase = Phase::Lost;
                body.waiting.clear();
            }
            body.changed.notify_one();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        // It was never run: the runtime is shutting down, and nobody else will be run either.
        let mut bodies = self.shared.lock();
        bodies.workers -= 1;
        for body in bodies.by_number.values_mut() {
            body.phase = Phase::Lost;
            body.changed.notify_one();
        }
    }
}

#[cfg(test)]
#[path = "lane_hasher_tests.rs"]
mod tests;
