//! A body on its way out: windows are fetched ahead and handed on in order.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use model::limits::STRIPE_BYTES_MAX;
use model::query::{ObjectFound, PlannedExtent};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;

use super::ReadError;
use super::gather::{StripeRead, read_stripe};
use crate::shared::Shared;
use crate::stripe::{Window, Windows};

/// A window that a reader may always hold, whatever the budget says: so every reader gets on,
/// however many slow ones there are.
const WINDOW_BYTES_MIN: u32 = 256 * 1024;

/// Reads one body, or a range of it.
pub struct ObjectReader {
    shared: Arc<Shared>,
    extents: Arc<[PlannedExtent]>,
    windows: Windows,
    /// Windows under way, in order.
    ahead: VecDeque<Fetch>,
    /// Verified bytes to be handed on.
    ready: VecDeque<Bytes>,
    /// The budget's share of `ready`.
    permit: Option<OwnedSemaphorePermit>,
    failed: bool,
}

/// A window under way. Dropped, it is given up.
struct Fetch {
    task: JoinHandle<Result<Vec<Bytes>, ReadError>>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ObjectReader {
    pub(crate) fn new(shared: Arc<Shared>, found: &ObjectFound) -> Self {
        let extents: Arc<[PlannedExtent]> = found.extents.clone().into();
        let range = found.range.clone().unwrap_or(0..0);
        let windows = Windows::new(Arc::clone(&extents), range);
        let (ahead, ready) = (VecDeque::new(), VecDeque::new());
        Self { shared, extents, windows, ahead, ready, permit: None, failed: false }
    }

    /// The next bytes, in order, none of them unverified (I-6); `None` at the end. After an error
    /// there are no more, and the response must be cut off (I-7). May be dropped half-way and
    /// called again.
    pub async fn next(&mut self) -> Option<Result<Bytes, ReadError>> {
        loop {
            if self.failed {
                return None;
            }
            if let Some(bytes) = self.ready.pop_front() {
                return Some(Ok(bytes));
            }
            self.permit = None;
            match self.next_window().await {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    self.failed = true;
                    self.ahead.clear();
                    return Some(Err(error));
                }
            }
        }
    }

    /// Makes the next window ready; `false` at the end.
    async fn next_window(&mut self) -> Result<bool, ReadError> {
        if self.ahead.is_empty() {
            let Some(window) = self.first_window()? else { return Ok(false) };
            if self.windows.ends_with(&window) {
                // The only one, or the last: nothing is gained by a task of its own.
                let bytes = self.fetch_here(&window).await?;
                self.windows.advance(&window);
                self.ready.extend(bytes);
                return Ok(true);
            }
            self.windows.advance(&window);
            let permit = self.permit.take();
            self.fetch(window, permit);
        }
        self.fetch_ahead()?;
        let Some(first) = self.ahead.front_mut() else { return Ok(false) };
        let result = (&mut first.task).await;
        self.permit = first.permit.take();
        self.ahead.pop_front();
        self.ready.extend(result.map_err(|_| ReadError::Unavailable)??);
        Ok(true)
    }

    /// The next window, with its share of the budget in `permit`; a small one when there is none.
    fn first_window(&mut self) -> Result<Option<Window>, ReadError> {
        let Some(window) = self.peek(STRIPE_BYTES_MAX)? else { return Ok(None) };
        if window.bytes() <= WINDOW_BYTES_MIN {
            return Ok(Some(window));
        }
        self.permit = self.shared.read_budget.try_acquire(u64::from(window.bytes()));
        if self.permit.is_some() { Ok(Some(window)) } else { self.peek(WINDOW_BYTES_MIN) }
    }

    /// Begins to fetch more windows, as far as the budget has room.
    fn fetch_ahead(&mut self) -> Result<(), ReadError> {
        while self.ahead.len() <= self.shared.options.stripes_ahead {
            let Some(window) = self.peek(STRIPE_BYTES_MAX)? else { break };
            let permit = self.shared.read_budget.try_acquire(u64::from(window.bytes()));
            if permit.is_none() {
                break;
            }
            self.windows.advance(&window);
            self.fetch(window, permit);
        }
        Ok(())
    }

    fn peek(&mut self, bytes_max: u32) -> Result<Option<Window>, ReadError> {
        self.windows.peek(bytes_max).map_err(|_| {
            tracing::error!("the plan of an object has a hole");
            ReadError::Damaged
        })
    }

    async fn fetch_here(&self, window: &Window) -> Result<Vec<Bytes>, ReadError> {
        let planned = self.extents.get(window.extent).ok_or(ReadError::Damaged)?;
        let (stripe, range) = (window.stripe, window.range.clone());
        read_stripe(&self.shared, StripeRead { extent: &planned.extent, stripe, range }).await
    }

    fn fetch(&mut self, window: Window, permit: Option<OwnedSemaphorePermit>) {
        let (shared, extents) = (Arc::clone(&self.shared), Arc::clone(&self.extents));
        let task = tokio::spawn(async move {
            let planned = extents.get(window.extent).ok_or(ReadError::Damaged)?;
            let (stripe, range) = (window.stripe, window.range);
            read_stripe(&shared, StripeRead { extent: &planned.extent, stripe, range }).await
        });
        self.ahead.push_back(Fetch { task, permit });
    }
}
