//! The body of a request as it comes in, under limits of time.
//!
//! In: hyper's body. Out: its bytes as they were received, not copied. Asking for the first of them
//! is what makes hyper send `100 Continue`, so whoever can refuse a request does so before. What
//! always holds: a body that stands still, or trickles, ends with [`BodyError::TooSlow`].

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http::{HeaderMap, header};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use wire::clock::{Clock, timeout};

use crate::limits::{
    BODY_IDLE_TIMEOUT, BODY_RATE_BYTES_MIN, BODY_RATE_WINDOW, DRAIN_BYTES_MAX, DRAIN_TIMEOUT,
};

/// Why there are no more bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The client stopped sending, or sends too slowly.
    #[error("the request body came too slowly")]
    TooSlow,
    /// The connection ended within the body, or the chunked framing is broken.
    #[error("the request body ended before its end")]
    Broken,
    /// The body is longer than the caller allows.
    #[error("the request body is too long")]
    TooLong,
}

/// A request's body.
pub struct RequestBody {
    incoming: Incoming,
    clock: Arc<dyn Clock>,
    received: u64,
    asked: bool,
    expects_continue: bool,
    ended: bool,
    /// Time spent waiting and bytes received in the present rate window.
    waited: Duration,
    waited_bytes: u64,
}

impl RequestBody {
    /// Wraps the body of a request with these headers.
    pub fn new(incoming: Incoming, headers: &HeaderMap, clock: Arc<dyn Clock>) -> Self {
        let ended = incoming.is_end_stream();
        Self {
            incoming,
            clock,
            received: 0,
            asked: false,
            expects_continue: headers.contains_key(header::EXPECT),
            ended,
            waited: Duration::ZERO,
            waited_bytes: 0,
        }
    }

    /// Bytes received so far, framing of the transfer coding excluded.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// How long it will be; `None` when the transfer coding is chunked.
    pub fn length(&self) -> Option<u64> {
        self.incoming.size_hint().exact().map(|left| left + self.received)
    }

    /// Whether all of it was read.
    pub fn is_finished(&self) -> bool {
        self.ended
    }

    /// The next bytes; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        while !self.ended {
            self.asked = true;
            // Most of the time the bytes are there already: then no clock is read.
            let frame = match self.incoming.frame().now_or_never() {
                Some(frame) => frame,
                None => self.wait().await?,
            };
            match frame {
                None => self.ended = true,
                Some(Err(_broken)) => {
                    // Nothing more will come; there is nothing left to drain either.
                    self.ended = true;
                    return Err(BodyError::Broken);
                }
                Some(Ok(frame)) => {
                    // HTTP trailers are ignored: S3's trailers are within the body.
                    let Ok(bytes) = frame.into_data() else { continue };
                    self.received += bytes.len() as u64;
                    self.waited_bytes += bytes.len() as u64;
                    // Known at once where the length is: nobody needs to ask again.
                    self.ended = self.incoming.is_end_stream();
                    if !bytes.is_empty() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
        Ok(None)
    }

    async fn wait(
        &mut self,
    ) -> Result<Option<Result<hyper::body::Frame<Bytes>, hyper::Error>>, BodyError> {
        let began = self.clock.monotonic();
        let frame = timeout(self.clock.as_ref(), BODY_IDLE_TIMEOUT, self.incoming.frame())
            .await
            .map_err(|_| BodyError::TooSlow)?;
        self.waited += self.clock.monotonic().saturating_sub(began);
        if self.waited >= BODY_RATE_WINDOW {
            if self.waited_bytes < BODY_RATE_BYTES_MIN {
                return Err(BodyError::TooSlow);
            }
            self.waited = Duration::ZERO;
            self.waited_bytes = 0;
        }
        Ok(frame)
    }

    /// Whether the client waits for `100 Continue` and gets its answer instead. botocore takes such an
    /// answer's status for that of the connection's next request, unless the connection ends.
    pub fn is_refused_continue(&self) -> bool {
        self.expects_continue && !self.asked
    }

    /// All of it, at most `bytes_max` bytes.
    pub async fn collect(&mut self, bytes_max: usize) -> Result<Bytes, BodyError> {
        let Some(first) = self.next().await? else { return Ok(Bytes::new()) };
        let within = |length: usize| {
            if length <= bytes_max { Ok(()) } else { Err(BodyError::TooLong) }
        };
        within(first.len())?;
        let Some(second) = self.next().await? else { return Ok(first) };
        within(first.len() + second.len())?;
        let mut all = BytesMut::with_capacity((first.len() + second.len()) * 2);
        all.extend_from_slice(&first);
        all.extend_from_slice(&second);
        while let Some(bytes) = self.next().await? {
            within(all.len() + bytes.len())?;
            all.extend_from_slice(&bytes);
        }
        Ok(all.freeze())
    }

    /// After an answer was found without all of the body: reads the rest, if that is little, and
    /// says whether the connection can be used again.
    pub async fn drain(&mut self) -> bool {
        if self.ended {
            return true;
        }
        // Asking for the body of a client that waits for `100 Continue` would make it send it all.
        let is_long = self.incoming.size_hint().exact().is_some_and(|rest| rest > DRAIN_BYTES_MAX);
        if self.is_refused_continue() || is_long {
            return false;
        }
        let end = self.received + DRAIN_BYTES_MAX;
        let clock = Arc::clone(&self.clock);
        let drained = timeout(clock.as_ref(), DRAIN_TIMEOUT, async {
            while self.received <= end {
                match self.next().await {
                    Ok(Some(_)) => {}
                    Ok(None) => return true,
                    Err(_) => return false,
                }
            }
            false
        });
        drained.await.unwrap_or(false)
    }
}
