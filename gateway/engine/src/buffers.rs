//! Memory: the budget that bounds it, and large buffers that are used again.
//!
//! A fresh 4 MiB buffer costs a thousand page faults, more than coding what is put in it; so large
//! buffers go back to a pool when the last reference to their bytes is gone.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wire::clock::{Clock, timeout};

/// Smaller buffers are the allocator's business.
const POOLED_BYTES_MIN: usize = 256 * 1024;

/// Bytes of idle buffers that are kept.
const IDLE_BYTES_MAX: usize = 64 << 20;

/// Idle buffers.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    idle: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

impl BufferPool {
    /// An empty buffer with room for `capacity` bytes.
    pub(crate) fn take(self: &Arc<Self>, capacity: usize) -> PooledBuffer {
        let mut buffer = self.take_any(capacity);
        buffer.data.clear();
        buffer
    }

    /// A buffer of `length` bytes with any content; the caller overwrites all of it.
    pub(crate) fn take_filled(self: &Arc<Self>, length: usize) -> PooledBuffer {
        let mut buffer = self.take_any(length);
        buffer.data.resize(length, 0);
        buffer
    }

    fn take_any(self: &Arc<Self>, capacity: usize) -> PooledBuffer {
        let data = self.reuse(capacity).unwrap_or_else(|| Vec::with_capacity(capacity));
        PooledBuffer { data, pool: Arc::clone(self) }
    }

    fn reuse(&self, capacity: usize) -> Option<Vec<u8>> {
        if capacity < POOLED_BYTES_MIN {
            return None;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |buffer: &Vec<u8>| (capacity..=capacity * 2).contains(&buffer.capacity());
        let at = idle.buffers.iter().rposition(fits)?;
        let buffer = idle.buffers.swap_remove(at);
        idle.bytes -= buffer.capacity();
        Some(buffer)
    }

    fn put(&self, buffer: Vec<u8>) {
        if buffer.capacity() < POOLED_BYTES_MIN {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.bytes + buffer.capacity() <= IDLE_BYTES_MAX {
            idle.bytes += buffer.capacity();
            idle.buffers.push(buffer);
        }
    }
}

/// A buffer that goes back to its pool when it is dropped.
#[derive(Debug)]
pub(crate) struct PooledBuffer {
    pub(crate) data: Vec<u8>,
    pool: Arc<BufferPool>,
}

impl PooledBuffer {
    /// Shares the content; the buffer goes back when the last share is gone.
    pub(crate) fn freeze(mut self) -> Bytes {
        if self.data.capacity() < POOLED_BYTES_MIN {
            return Bytes::from(std::mem::take(&mut self.data));
        }
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for PooledBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        self.pool.put(std::mem::take(&mut self.data));
    }
}

/// Bytes that may be held at once, counted in KiB.
#[derive(Debug)]
pub(crate) struct Budget {
    kibibytes: Arc<Semaphore>,
    total: u32,
}

impl Budget {
    pub(crate) fn new(bytes: u64) -> Self {
        let total = u32::try_from(bytes >> 10).unwrap_or(u32::MAX).clamp(1, u32::MAX >> 3);
        Self { kibibytes: Arc::new(Semaphore::new(total as usize)), total }
    }

    /// A share, as soon as there is one; `None` when it took longer than `patience`. What is more
    /// than all there is counts as all there is.
    pub(crate) async fn acquire(
        &self,
        bytes: u64,
        clock: &dyn Clock,
        patience: Duration,
    ) -> Option<OwnedSemaphorePermit> {
        if let Some(permit) = self.try_acquire(bytes) {
            return Some(permit);
        }
        let wanted = self.kibibytes_of(bytes);
        let acquire = Arc::clone(&self.kibibytes).acquire_many_owned(wanted);
        timeout(clock, patience, acquire).await.ok()?.ok()
    }

    /// A share, if there is one now.
    pub(crate) fn try_acquire(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.kibibytes).try_acquire_many_owned(self.kibibytes_of(bytes)).ok()
    }

    /// Whether somebody holds a share.
    pub(crate) fn is_in_use(&self) -> bool {
        self.kibibytes.available_permits() < self.total as usize
    }

    fn kibibytes_of(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).min(self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_buffers_come_back() {
        let pool = Arc::new(BufferPool::default());
        let mut buffer = pool.take(1 << 20);
        buffer.data.extend_from_slice(&[7; 100]);
        let bytes = buffer.freeze();
        let part = bytes.slice(10..20);
        drop(bytes);
        assert!(pool.idle.lock().expect("no panic").buffers.is_empty());
        drop(part);
        assert_eq!(pool.idle.lock().expect("no panic").buffers.len(), 1);
        assert!(pool.take(1 << 20).data.is_empty());
        assert_eq!(pool.take_filled(1 << 20).data.len(), 1 << 20);
        drop(pool.take(16));
        assert_eq!(pool.idle.lock().expect("no panic").buffers.len(), 1);
    }

    #[test]
    fn a_budget_gives_no_more_than_it_has() {
        let budget = Budget::new(4096);
        let first = budget.try_acquire(3000).expect("room");
        assert!(budget.try_acquire(2048).is_none());
        drop(first);
        assert!(budget.try_acquire(1 << 40).is_some());
    }
}
