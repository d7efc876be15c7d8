//! What is to be written to a connection, and in which order.
//!
//! Small frames go first, in the order in which they came; behind each batch of them goes one piece
//! of a large frame, and large frames take turns. So a small frame waits for a piece, not for a
//! frame. A frame is marked as sent before the write that has its last byte: one that isn't marked
//! when the connection has ended can't have been understood by anybody.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes, BytesMut};
use model::rpc::Frame;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

use super::frame::{CHUNK_HEAD_BYTES, ChunkHead, FrameHead, Kind, frame_bytes};
use super::limits::{
    BATCH_BYTES, CHUNK_BYTES, COPIED_BYTES, INTERLEAVED_FRAMES, SMALL_FRAME_BYTES,
};

/// Pieces of large frames after which others of the same task get a turn.
const PIECES_BEFORE_YIELD: u32 = 4;

/// The queue in front of a connection's outgoing side.
#[derive(Default)]
pub(super) struct Outbox {
    queue: Mutex<Queue>,
    filled: Notify,
    written: AtomicU64,
}

#[derive(Default)]
struct Queue {
    closed: bool,
    controls: VecDeque<ChunkHead>,
    small: VecDeque<Outgoing>,
    /// Large frames of which pieces are being sent, in turn.
    begun: VecDeque<Outgoing>,
    /// Large frames that wait to be begun.
    large: VecDeque<Outgoing>,
}

/// A frame on its way out.
pub(super) struct Outgoing {
    kind: Kind,
    id: u64,
    /// The frame's head, until it is written.
    head: BytesMut,
    parts: VecDeque<Bytes>,
    left: usize,
    sent: Option<Arc<AtomicBool>>,
    /// Dropped when the frame was written or given up.
    _held: Option<Box<dyn Send>>,
}

impl Outgoing {
    /// A request; `sent` becomes true just before its last byte is given away.
    pub fn request(id: u64, head: FrameHead, frame: Frame, sent: Arc<AtomicBool>) -> Self {
        Self::new(Kind::Request, id, head, frame, Some(sent), None)
    }

    /// A response; `held` is dropped once it is written.
    pub fn response(id: u64, outcome: u8, frame: Frame, held: Option<Box<dyn Send>>) -> Self {
        Self::new(Kind::Response, id, FrameHead::Response { outcome }, frame, None, held)
    }

    fn new(
        kind: Kind,
        id: u64,
        head: FrameHead,
        frame: Frame,
        sent: Option<Arc<AtomicBool>>,
        held: Option<Box<dyn Send>>,
    ) -> Self {
        let (head, left) = (head.encode(&frame), frame_bytes(&frame));
        let parts = std::iter::once(frame.header).chain(frame.attachments);
        let parts = parts.filter(|part| !part.is_empty()).collect();
        Self { kind, id, head, parts, left, sent, _held: held }
    }

    fn is_begun(&self) -> bool {
        self.head.is_empty()
    }

    /// Writes at most a chunk of it; true when that was the last.
    fn write_chunk(&mut self, batch: &mut Batch) -> bool {
        let payload = self.left.min(CHUNK_BYTES);
        let kind = if self.is_begun() { Kind::Data } else { self.kind };
        let head = mem::take(&mut self.head);
        batch.chunk(ChunkHead { kind, length: head.len() + payload, id: self.id });
        batch.copied.extend_from_slice(&head);
        let mut wanted = payload;
        while wanted > 0 {
            let Some(part) = self.parts.front_mut() else { break };
            let taken = part.split_to(wanted.min(part.len()));
            wanted -= taken.len();
            if part.is_empty() {
                self.parts.pop_front();
            }
            batch.bytes(taken);
        }
        self.left -= payload;
        if self.left == 0
            && let Some(sent) = &self.sent
        {
            sent.store(true, Ordering::Release);
        }
        self.left == 0
    }
}

impl Outbox {
    /// Takes a frame to be sent; false, and the frame is dropped, when the connection has ended.
    pub fn push(&self, outgoing: Outgoing) -> bool {
        let mut queue = self.queue();
        if queue.closed {
            return false;
        }
        if outgoing.left <= SMALL_FRAME_BYTES {
            queue.small.push_back(outgoing);
        } else {
            queue.large.push_back(outgoing);
        }
        drop(queue);
        self.filled.notify_one();
        true
    }

    /// Gives up the frame with this id where it is still here. What a receiver has of it, it is
    /// told to forget; with `told`, the receiver is told even if it has all of it.
    pub fn cancel(&self, id: u64, told: bool) {
        let mut queue = self.queue();
        if queue.closed {
            return;
        }
        let unbegun = queue.small.len() + queue.large.len();
        queue.small.retain(|outgoing| outgoing.id != id);
        queue.large.retain(|outgoing| outgoing.id != id);
        if unbegun > queue.small.len() + queue.large.len() {
            return;
        }
        let begun = queue.begun.len();
        queue.begun.retain(|outgoing| outgoing.id != id);
        if told || begun > queue.begun.len() {
            queue.controls.push_back(ChunkHead { kind: Kind::Cancel, length: 0, id });
            drop(queue);
            self.filled.notify_one();
        }
    }

    /// Tells the peer that this side is there.
    pub fn alive(&self) {
        self.control(Kind::Alive);
    }

    /// Tells the peer that this side takes no more requests.
    pub fn going_away(&self) {
        self.control(Kind::GoingAway);
    }

    fn control(&self, kind: Kind) {
        let mut queue = self.queue();
        // Nothing is gained by saying it twice, and a peer that doesn't read must not fill memory.
        if !queue.closed && queue.controls.iter().all(|chunk| chunk.kind != kind) {
            queue.controls.push_back(ChunkHead { kind, length: 0, id: 0 });
            drop(queue);
            self.filled.notify_one();
        }
    }

    /// Takes nothing more, and drops what wasn't sent.
    pub fn close(&self) {
        let dropped = {
            let mut queue = self.queue();
            mem::replace(&mut *queue, Queue { closed: true, ..Queue::default() })
        };
        drop(dropped);
    }

    /// Bytes that were written.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Writes what is put in, until an error or for ever.
    pub async fn write_to(&self, mut stream: impl AsyncWrite + Unpin) -> io::Result<()> {
        let mut batch = Batch::default();
        let mut pieces = 0u32;
        loop {
            let is_large = self.take(&mut batch);
            if batch.is_empty() {
                self.filled.notified().await;
                continue;
            }
            let bytes = batch.finish();
            while batch.has_remaining() {
                stream.write_all_buf(&mut batch).await?;
            }
            stream.flush().await?;
            batch.done.clear();
            self.written.fetch_add(bytes as u64, Ordering::Relaxed);
            if is_large {
                pieces += 1;
                if pieces.is_multiple_of(PIECES_BEFORE_YIELD) {
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    /// Takes what is written next; true when a piece of a large frame is in it.
    fn take(&self, batch: &mut Batch) -> bool {
        let mut queue = self.queue();
        while let Some(control) = queue.controls.pop_front() {
            batch.chunk(control);
        }
        while batch.length < BATCH_BYTES {
            let Some(mut outgoing) = queue.small.pop_front() else { break };
            outgoing.write_chunk(batch);
            batch.done.push(outgoing);
        }
        if queue.begun.len() < INTERLEAVED_FRAMES
            && let Some(outgoing) = queue.large.pop_front()
        {
            queue.begun.push_back(outgoing);
        }
        let Some(mut outgoing) = queue.begun.pop_front() else { return false };
        if outgoing.write_chunk(batch) {
            batch.done.push(outgoing);
        } else {
            queue.begun.push_back(outgoing);
        }
        true
    }

    /// Whether all that was put in was taken out.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        let queue = self.queue();
        let waiting = queue.small.len() + queue.begun.len() + queue.large.len();
        queue.controls.is_empty() && waiting == 0
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is written at once: short parts copied together, long ones as they are.
#[derive(Default)]
struct Batch {
    copied: BytesMut,
    pieces: VecDeque<Bytes>,
    length: usize,
    /// Frames whose last byte is in it.
    done: Vec<Outgoing>,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn chunk(&mut self, head: ChunkHead) {
        head.encode(&mut self.copied);
        self.length += CHUNK_HEAD_BYTES + head.length;
    }

    fn bytes(&mut self, bytes: Bytes) {
        if bytes.len() <= COPIED_BYTES {
            self.copied.extend_from_slice(&bytes);
            return;
        }
        self.end_copied();
        self.pieces.push_back(bytes);
    }

    fn end_copied(&mut self) {
        if !self.copied.is_empty() {
            self.pieces.push_back(self.copied.split().freeze());
        }
    }

    /// Makes it ready to be written; gives its length.
    fn finish(&mut self) -> usize {
        self.end_copied();
        mem::take(&mut self.length)
    }
}

impl Buf for Batch {
    fn remaining(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| piece)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(piece);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, mut written: usize) {
        while written > 0 {
            let Some(piece) = self.pieces.front_mut() else { return };
            if written < piece.len() {
                piece.advance(written);
                return;
            }
            written -= piece.len();
            self.pieces.pop_front();
        }
    }
}
