//! How much of one connection is being worked on, and whether there is room for more.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// A connection's requests and bytes in flight.
pub(super) struct Budget {
    requests_max: usize,
    bytes_max: usize,
    used: Mutex<Used>,
    freed: Notify,
}

#[derive(Default)]
struct Used {
    requests: usize,
    bytes: usize,
}

impl Budget {
    pub fn new(requests_max: usize, bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { requests_max, bytes_max, used: Mutex::default(), freed: Notify::new() })
    }

    /// Takes in one request of so many bytes, which is here already, and then waits until there is
    /// room for another one: only then may more be read.
    pub fn take(self: &Arc<Self>, bytes: usize) -> InFlight {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.requests += 1;
        used.bytes += bytes;
        InFlight { budget: Arc::clone(self), bytes }
    }

    /// Waits until there is room for another request.
    pub async fn room(&self) {
        loop {
            {
                let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
                if used.requests < self.requests_max && used.bytes < self.bytes_max {
                    return;
                }
            }
            self.freed.notified().await;
        }
    }

    /// Requests in flight.
    pub fn requests(&self) -> usize {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).requests
    }
}

/// A request in flight, from when it came until its answer is written.
pub(super) struct InFlight {
    budget: Arc<Budget>,
    bytes: usize,
}

impl InFlight {
    /// Its answer takes the place of the request.
    pub fn answered(&mut self, bytes: usize) {
        let mut used = self.budget.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.bytes = (used.bytes + bytes).saturating_sub(self.bytes);
        self.bytes = bytes;
        drop(used);
        self.budget.freed.notify_one();
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut used = self.budget.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.requests -= 1;
        used.bytes = used.bytes.saturating_sub(self.bytes);
        drop(used);
        self.budget.freed.notify_one();
    }
}
