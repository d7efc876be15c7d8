//! A connection's socket, watched for clients that don't take their answer.
//!
//! In: hyper's reads and writes. Out: the same, and since when the kernel's send buffer has been
//! full without a byte leaving. Reading isn't watched here: hyper watches the head, and the body
//! watches itself.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use wire::clock::Clock;

use crate::http::stream::Stream;

/// What a connection and its requests know of each other.
#[derive(Debug, Default)]
pub struct ConnectionState {
    /// When the write that waits began to wait, in nanoseconds of the monotonic clock, plus one;
    /// 0 when none waits.
    stalled_since: AtomicU64,
    /// Set when an answer was given before its request's body had been read.
    unread_body: AtomicBool,
}

impl ConnectionState {
    /// How long the client has not taken a byte of what waits for it.
    pub fn stalled_for(&self, now: Duration) -> Duration {
        match self.stalled_since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => now.saturating_sub(Duration::from_nanos(since - 1)),
        }
    }

    /// Remembers that a request's body was left unread, so that the end of the connection waits
    /// for the client to see its answer.
    pub fn leave_body_unread(&self) {
        self.unread_body.store(true, Ordering::Relaxed);
    }

    /// Whether a request's body was left unread.
    pub fn has_unread_body(&self) -> bool {
        self.unread_body.load(Ordering::Relaxed)
    }
}

/// A connection's stream for hyper that reports into a [`ConnectionState`].
pub struct WatchedSocket {
    inner: TokioIo<Stream>,
    state: Arc<ConnectionState>,
    clock: Arc<dyn Clock>,
}

impl WatchedSocket {
    /// Watches `stream`.
    pub fn new(stream: Stream, state: Arc<ConnectionState>, clock: Arc<dyn Clock>) -> Self {
        Self { inner: TokioIo::new(stream), state, clock }
    }

    /// The stream itself.
    pub fn into_stream(self) -> Stream {
        self.inner.into_inner()
    }

    fn observe<T>(&self, written: Poll<T>) -> Poll<T> {
        if written.is_ready() {
            self.state.stalled_since.store(0, Ordering::Relaxed);
        } else if self.state.stalled_since.load(Ordering::Relaxed) == 0 {
            let now = u64::try_from(self.clock.monotonic().as_nanos()).unwrap_or(u64::MAX - 1);
            self.state.stalled_since.store(now.saturating_add(1), Ordering::Relaxed);
        }
        written
    }
}

impl Read for WatchedSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl Write for WatchedSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.observe(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, parts);
        self.observe(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        // TLS may hold bytes that it called written.
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        self.observe(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
