//! Locks, atomics, channels and threads: the standard library's. Under the feature `shuttle`, which
//! only the tests of interleavings enable, they are ones whose every order of events a test may try.
//!
//! `Arc` is always the standard one, and so is every lock below redb, which holds locks of its own
//! meanwhile.

#[cfg(feature = "shuttle")]
pub(crate) use shuttle::{
    sync::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic, mpsc},
    thread,
};
#[cfg(not(feature = "shuttle"))]
pub(crate) use std::{
    sync::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic, mpsc},
    thread,
};

use tokio::sync::oneshot::{Receiver, error::RecvError};

/// Waits for an answer, on a thread that may wait.
pub(crate) fn wait<T>(answer: Receiver<T>) -> Result<T, RecvError> {
    #[cfg(feature = "shuttle")]
    return shuttle::future::block_on(answer);
    #[cfg(not(feature = "shuttle"))]
    answer.blocking_recv()
}
