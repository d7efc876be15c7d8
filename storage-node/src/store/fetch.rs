//! Answering reads: from the page cache on the caller's thread where nothing can wait, else on
//! other threads, several at a time, within the disk's limit.
//!
//! A disk that stalls holds at most its own readers, and one thread of the caller's runtime.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use model::limits::BLOCK_BYTES;
use model::shard::{ShardBlocks, ShardError, ShardRead};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::read::Access;
use super::shared::Shared;
use super::verify::Abandoned;
use super::{BATCH_MAX, Store};

/// Bytes of the ranges of one read.
const READ_BYTES_MAX: u64 = 64 << 20;
/// Reads up to this many bytes are tried on the caller's thread, if they are cached.
const INLINE_READ_BYTES_MAX: u64 = 256 << 10;
/// Threads that one request reads with at most: enough for a device that likes a deep queue, and
/// some of the disk's readers are left for others.
const LANES_MAX: usize = 8;
/// What a lane should have to do, so that it is worth a thread.
const LANE_READS_MIN: usize = 8;
/// The same in bytes: large ranges are worth one sooner.
const LANE_BYTES_MIN: u64 = 1 << 20;

type Answer = Result<ShardBlocks, ShardError>;

/// What the answer to a read may hold: the whole blocks around its range.
fn answered_bytes(read: &ShardRead) -> u64 {
    let block = u64::from(BLOCK_BYTES);
    let end = u64::from(read.offset) + u64::from(read.length);
    end.next_multiple_of(block) - u64::from(read.offset) / block * block
}

/// The reads of one request, from which each lane takes the next.
struct Batch {
    reads: Vec<ShardRead>,
    next: AtomicUsize,
    abandoned: Arc<AtomicBool>,
}

impl Store {
    /// Reads ranges; each answer stands by itself, in order.
    pub async fn read(&self, reads: Vec<ShardRead>) -> Result<Vec<Answer>, ShardError> {
        self.shared.health.check_read()?;
        let bytes: u64 = reads.iter().map(answered_bytes).sum();
        if reads.len() > BATCH_MAX || bytes > READ_BYTES_MAX {
            return Err(ShardError::Invalid("a read has at most 4096 ranges and 64 MiB".into()));
        }
        let mut answers: Vec<Option<Answer>> = vec![None; reads.len()];
        if bytes <= INLINE_READ_BYTES_MAX {
            self.read_cached(&reads, &mut answers).await;
        }
        if answers.iter().all(Option::is_some) {
            self.shared.meter.reads_inline.increment(reads.len() as u64);
            return Ok(answers.into_iter().flatten().collect());
        }
        self.unless_stalled(self.read_device(reads, answers)).await?
    }

    /// Reads what needs no device. Looking a shard up may need it all the same, for a page of the
    /// index: so only one caller at a time does this, and none while the disk is silent.
    async fn read_cached(&self, reads: &[ShardRead], answers: &mut [Option<Answer>]) {
        let Some(_permit) = self.inline().await else {
            return;
        };
        for (answer, read) in answers.iter_mut().zip(reads) {
            *answer = self.shared.read_shard(read, Access::Cached).transpose();
            if answer.is_none() {
                // The rest waits for the device with this one.
                return;
            }
        }
    }

    async fn inline(&self) -> Option<OwnedSemaphorePermit> {
        if self.waits.stalled_for().is_some() {
            return None;
        }
        let free = |inline: &Arc<Semaphore>| Arc::clone(inline).try_acquire_owned().ok();
        if let Some(permit) = free(&self.inline) {
            return Some(permit);
        }
        // Another thread is at it, and done in microseconds.
        tokio::task::yield_now().await;
        free(&self.inline)
    }

    async fn read_device(
        &self,
        reads: Vec<ShardRead>,
        mut answers: Vec<Option<Answer>>,
    ) -> Result<Vec<Answer>, ShardError> {
        let missing: Vec<usize> =
            answers.iter().enumerate().filter(|(_, a)| a.is_none()).map(|(at, _)| at).collect();
        let left: Vec<ShardRead> =
            missing.iter().filter_map(|at| reads.get(*at).copied()).collect();
        let abandoned = Abandoned::default();
        let batch =
            Arc::new(Batch { next: AtomicUsize::new(0), abandoned: abandoned.flag(), reads: left });
        // One lane is waited for; more are taken as far as they are free.
        let mut permits = vec![self.reader().await?];
        while permits.len() < batch.lanes() {
            match Arc::clone(&self.readers).try_acquire_owned() {
                Ok(permit) => permits.push(permit),
                Err(_) => break,
            }
        }
        let mut lanes = Vec::with_capacity(permits.len());
        for permit in permits {
            let (shared, batch) = (Arc::clone(&self.shared), Arc::clone(&batch));
            lanes.push(tokio::task::spawn_blocking(move || {
                let found = batch.run(&shared);
                drop(permit);
                found
            }));
        }
        for lane in lanes {
            // It fails only when the runtime ends or the work panics; the answer is unknown then.
            let found = lane.await.map_err(|_| ShardError::Failed(self.disk_id()))?;
            for (at, answer) in found {
                if let Some(slot) = missing.get(at).and_then(|at| answers.get_mut(*at)) {
                    *slot = Some(answer);
                }
            }
        }
        drop(abandoned);
        let disk = self.disk_id();
        Ok(answers.into_iter().map(|a| a.unwrap_or(Err(ShardError::Overloaded(disk)))).collect())
    }
}

impl Batch {
    /// How many threads this is worth.
    fn lanes(&self) -> usize {
        let bytes: u64 = self.reads.iter().map(|read| u64::from(read.length)).sum();
        let by_count = self.reads.len().div_ceil(LANE_READS_MIN);
        let by_bytes = bytes.div_ceil(LANE_BYTES_MIN) as usize;
        by_count.max(by_bytes).min(self.reads.len()).clamp(1, LANES_MAX)
    }

    /// Takes reads until none is left.
    fn run(&self, shared: &Shared) -> Vec<(usize, Answer)> {
        let mut found = Vec::new();
        while !self.abandoned.load(Ordering::Acquire) {
            let at = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(read) = self.reads.get(at) else {
                break;
            };
            let answer = shared.read_shard(read, Access::Device).transpose();
            let disk = shared.identity.disk;
            found.push((at, answer.unwrap_or(Err(ShardError::Corrupt(disk, read.id)))));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use model::ids::ShardId;

    use super::*;

    #[test]
    fn large_batches_are_read_by_several_threads() {
        let check = |count: usize, length: u32, expected: usize| {
            let read = ShardRead { id: ShardId::default(), offset: 0, length };
            let batch = Batch {
                reads: vec![read; count],
                next: AtomicUsize::new(0),
                abandoned: Arc::default(),
            };
            assert_eq!(batch.lanes(), expected, "{count} of {length}");
        };
        check(1, 4096, 1);
        check(8, 4096, 1);
        check(9, 4096, 2);
        check(4096, 4096, LANES_MAX);
        check(1, 4 << 20, 1);
        check(3, 1 << 20, 3);
        check(16, 4 << 20, LANES_MAX);
    }
}
