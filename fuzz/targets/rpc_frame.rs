//! The frames between nodes, as they come from a peer that may be anybody.
//!
//! The bytes come in pieces; how large is in the first two. What comes is whole and within its
//! limits, or the connection ends; how the bytes fall makes no difference; nothing panics.

#![no_main]

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use libfuzzer_sys::fuzz_target;
use model::rpc::{ATTACHMENT_BYTES_MAX, ATTACHMENTS_MAX, HEADER_BYTES_MAX};
use tokio::io::{AsyncRead, ReadBuf};
use wire::rpc::{Incoming, Intake, IntakeLimits};

const SMALL: IntakeLimits = IntakeLimits { frame_bytes_max: 4096 };

/// Gives so many bytes at a time, and now and then nothing yet.
struct Pieces<'a> {
    bytes: &'a [u8],
    at_a_time: usize,
    reads: usize,
    pauses: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.reads += 1;
        if self.pauses > 0 && self.reads.is_multiple_of(self.pauses) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let most = self.at_a_time.min(self.bytes.len()).min(into.remaining());
        let (now, later) = self.bytes.split_at(most);
        into.put_slice(now);
        self.bytes = later;
        Poll::Ready(Ok(()))
    }
}

/// Runs what never waits for anything but itself. Every pause drops the call and begins another.
fn read(
    bytes: &[u8],
    at_a_time: usize,
    pauses: usize,
    limits: IntakeLimits,
) -> (Vec<Incoming>, bool) {
    let mut intake = Intake::new(Pieces { bytes, at_a_time, reads: 0, pauses }, limits);
    let mut context = Context::from_waker(Waker::noop());
    let mut came = Vec::new();
    loop {
        let next = pin!(intake.next()).poll(&mut context);
        match next {
            Poll::Pending => {}
            Poll::Ready(Ok(Some(incoming))) => came.push(incoming),
            Poll::Ready(Ok(None)) => return (came, true),
            Poll::Ready(Err(_)) => return (came, false),
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let [at_a_time, pauses, bytes @ ..] = data else { return };
    let (came, ended) = read(bytes, usize::MAX, 0, IntakeLimits::NODE);
    for incoming in &came {
        let (Incoming::Request { frame, .. } | Incoming::Response { frame, .. }) = incoming else {
            continue;
        };
        let attached: usize = frame.attachments.iter().map(|attachment| attachment.len()).sum();
        assert!(frame.header.len() <= HEADER_BYTES_MAX && attached <= ATTACHMENT_BYTES_MAX);
        assert!(frame.attachments.len() <= ATTACHMENTS_MAX);
        assert!(frame.header.len() + attached <= bytes.len());
    }
    // A stream that pauses every time never ends.
    let (at_a_time, pauses) = (usize::from(*at_a_time) + 1, usize::from(*pauses) + 2);
    assert!(read(bytes, at_a_time, pauses, IntakeLimits::NODE) == (came, ended));
    let (few, _) = read(bytes, 100, 3, SMALL);
    for incoming in few {
        if let Incoming::Request { frame, .. } | Incoming::Response { frame, .. } = incoming {
            let attached: usize = frame.attachments.iter().map(|attachment| attachment.len()).sum();
            assert!(frame.header.len() + attached <= SMALL.frame_bytes_max);
        }
    }
});
