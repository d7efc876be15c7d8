//! The fence: once a replica's data can't be trusted, it neither answers nor votes (I-13).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// Set once, for ever.
#[derive(Debug, Default)]
pub struct Fence {
    is_set: AtomicBool,
    reason: Mutex<String>,
    raised: Notify,
}

impl Fence {
    /// Whether the replica is fenced.
    pub fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Acquire)
    }

    /// Why; empty when it isn't.
    pub fn reason(&self) -> String {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Fences the replica. The first reason stays.
    pub fn set(&self, reason: &str) {
        {
            let mut first = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
            if first.is_empty() {
                reason.clone_into(&mut first);
            }
        }
        if !self.is_set.swap(true, Ordering::AcqRel) {
            metrics::counter!("drystone_metadata_fences_total").increment(1);
            tracing::error!(reason, "metadata replica fenced");
        }
        self.raised.notify_waiters();
    }

    /// Ends when the replica is fenced.
    pub async fn wait(&self) {
        loop {
            let raised = self.raised.notified();
            tokio::pin!(raised);
            raised.as_mut().enable();
            if self.is_set() {
                return;
            }
            raised.await;
        }
    }
}
