//! Reads chunks from a stream and puts frames together.
//!
//! In go bytes of a peer that may be anybody; out come whole frames, each attachment in one
//! allocation of its exact size, or an error that ends the connection. Nothing is allocated for
//! lengths over the limits, and an attachment's memory only when its first byte has come.

use std::collections::HashMap;
use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use model::rpc::{ATTACHMENT_BYTES_MAX, Frame, HEADER_BYTES_MAX};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::frame::{
    CHUNK_HEAD_BYTES, ChunkHead, FrameError, FrameHead, Kind, REQUEST_HEAD_BYTES,
    RESPONSE_HEAD_BYTES,
};
use super::limits::INTERLEAVED_FRAMES;

/// Bytes that are read at a time when it isn't known what comes.
const SCRATCH_BYTES: usize = 16 << 10;

/// From here on bytes are read to where they belong, rather than by way of the scratch.
const DIRECT_BYTES: usize = 8 << 10;

/// Chunks after which others of the same task get a turn.
const CHUNKS_BEFORE_YIELD: u32 = 4;

/// What a peer may send.
#[derive(Clone, Copy, Debug)]
pub struct IntakeLimits {
    /// Bytes of a frame's header and attachments.
    pub frame_bytes_max: usize,
}

impl IntakeLimits {
    /// What a node of the cluster may send.
    pub const NODE: Self = Self { frame_bytes_max: HEADER_BYTES_MAX + ATTACHMENT_BYTES_MAX };
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A request.
    Request {
        /// The number under which it is answered.
        id: u64,
        /// The service's number.
        service: u8,
        /// Which of that service's.
        target: u64,
        /// How long the caller waits.
        deadline_ms: u32,
        /// What is asked.
        frame: Frame,
    },
    /// A response.
    Response {
        /// The number of the request.
        id: u64,
        /// 0, or the number of a [`super::Refusal`].
        outcome: u8,
        /// The answer.
        frame: Frame,
    },
    /// The request isn't wanted any more; or the rest of the response won't come.
    Cancel(u64),
    /// The peer takes no more requests.
    GoingAway,
}

/// A stream's incoming side.
pub struct Intake<R> {
    stream: R,
    limits: IntakeLimits,
    scratch: BytesMut,
    state: State,
    partials: HashMap<u64, Partial>,
    received: Arc<AtomicU64>,
    chunks: u32,
}

/// Where in the stream it is.
#[derive(Clone, Copy)]
enum State {
    /// Before a chunk's head.
    Between,
    /// In a chunk that begins a frame, before the frame's head.
    Opening(ChunkHead),
    /// In the bytes of a frame, of whose chunk so many are left; unknown frames are skipped.
    Within { id: u64, left: usize },
}

/// A frame of which bytes are missing yet.
struct Partial {
    head: FrameHead,
    header_bytes: usize,
    /// Lengths of the attachments, the last first.
    lengths: Vec<u32>,
    header: Option<Bytes>,
    attachments: Vec<Bytes>,
    /// The part that is being read, and its length.
    current: BytesMut,
    current_bytes: usize,
    left: usize,
}

impl<R: AsyncRead + Unpin> Intake<R> {
    /// Reads from `stream`.
    pub fn new(stream: R, limits: IntakeLimits) -> Self {
        Self {
            stream,
            limits,
            scratch: BytesMut::new(),
            state: State::Between,
            partials: HashMap::new(),
            received: Arc::default(),
            chunks: 0,
        }
    }

    /// The number of bytes that came so far, as it grows: a peer that sends a large frame slowly, or
    /// only that it is there, is alive.
    pub fn received(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.received)
    }

    /// The next thing that came; none when the stream has ended. An error ends the connection:
    /// [`FrameError`] is inside of those that are the peer's fault. May be dropped and called
    /// again; nothing is lost.
    pub async fn next(&mut self) -> io::Result<Option<Incoming>> {
        loop {
            match self.state {
                State::Between => {
                    if !self.fill(CHUNK_HEAD_BYTES).await? {
                        return Ok(None);
                    }
                    self.chunks += 1;
                    if self.chunks.is_multiple_of(CHUNKS_BEFORE_YIELD) {
                        tokio::task::yield_now().await;
                    }
                    if let Some(incoming) = self.chunk()? {
                        return Ok(Some(incoming));
                    }
                }
                State::Opening(chunk) => {
                    if let Some(incoming) = self.open(chunk).await? {
                        return Ok(Some(incoming));
                    }
                }
                State::Within { id, left } => {
                    if let Some(incoming) = self.data(id, left).await? {
                        return Ok(Some(incoming));
                    }
                }
            }
        }
    }

    /// Reads a chunk's head, which is in the scratch.
    fn chunk(&mut self) -> io::Result<Option<Incoming>> {
        let Some((head, _)) = self.scratch.split_first_chunk::<CHUNK_HEAD_BYTES>() else {
            return Err(wrong(FrameError::Length));
        };
        let chunk = ChunkHead::decode(head).map_err(wrong)?;
        self.scratch.advance(CHUNK_HEAD_BYTES);
        match chunk.kind {
            Kind::Request | Kind::Response => self.state = State::Opening(chunk),
            Kind::Data => self.state = State::Within { id: chunk.id, left: chunk.length },
            Kind::Cancel => {
                self.partials.remove(&chunk.id);
                return Ok(Some(Incoming::Cancel(chunk.id)));
            }
            Kind::Alive => {}
            Kind::GoingAway => return Ok(Some(Incoming::GoingAway)),
        }
        Ok(None)
    }

    /// Reads a frame's head.
    async fn open(&mut self, chunk: ChunkHead) -> io::Result<Option<Incoming>> {
        let head_bytes = match chunk.kind {
            Kind::Request => REQUEST_HEAD_BYTES,
            _ => RESPONSE_HEAD_BYTES,
        };
        self.need(head_bytes).await?;
        let (head, count, header_bytes) = self.frame_head(chunk.kind).map_err(wrong)?;
        let all_bytes = head_bytes + 4 * count;
        if chunk.length < all_bytes {
            return Err(wrong(FrameError::Length));
        }
        self.need(all_bytes).await?;
        let table = self.scratch.get(head_bytes..all_bytes).unwrap_or_default();
        let lengths: Vec<u32> =
            table.as_chunks::<4>().0.iter().rev().map(|bytes| u32::from_le_bytes(*bytes)).collect();
        let attachments: u64 = lengths.iter().map(|length| u64::from(*length)).sum();
        if attachments > ATTACHMENT_BYTES_MAX as u64 {
            return Err(wrong(FrameError::Length));
        }
        let left = header_bytes + attachments as usize;
        let here = chunk.length - all_bytes;
        if here > left {
            return Err(wrong(FrameError::Length));
        }
        if left > self.limits.frame_bytes_max {
            return Err(wrong(FrameError::TooLarge));
        }
        if self.partials.contains_key(&chunk.id) {
            return Err(wrong(FrameError::Duplicate));
        }
        if here < left && self.partials.len() >= INTERLEAVED_FRAMES {
            return Err(wrong(FrameError::TooMany));
        }
        self.scratch.advance(all_bytes);
        self.state = State::Within { id: chunk.id, left: here };
        let partial = Partial {
            head,
            header_bytes,
            attachments: Vec::with_capacity(lengths.len()),
            lengths,
            header: None,
            current: BytesMut::new(),
            current_bytes: header_bytes,
            left,
        };
        self.partials.insert(chunk.id, partial);
        if left == 0 {
            self.state = State::Between;
            return Ok(self.finish(chunk.id));
        }
        Ok(None)
    }

    fn frame_head(&self, kind: Kind) -> Result<(FrameHead, usize, usize), FrameError> {
        if kind == Kind::Request {
            let head = self.scratch.first_chunk().ok_or(FrameError::Length)?;
            return FrameHead::decode_request(head);
        }
        FrameHead::decode_response(*self.scratch.first_chunk().ok_or(FrameError::Length)?)
    }

    /// Takes bytes of a frame, as many as there are.
    async fn data(&mut self, id: u64, left: usize) -> io::Result<Option<Incoming>> {
        if left == 0 {
            self.state = State::Between;
            return Ok(None);
        }
        let Some(partial) = self.partials.get_mut(&id) else {
            // It was cancelled.
            self.need(1).await?;
            let taken = left.min(self.scratch.len());
            self.scratch.advance(taken);
            self.state = State::Within { id, left: left - taken };
            return Ok(None);
        };
        if left > partial.left {
            return Err(wrong(FrameError::Length));
        }
        let room = partial.room();
        let taken = if self.scratch.is_empty() && room.min(left) >= DIRECT_BYTES {
            let mut place = (&mut partial.current).limit(room.min(left));
            let taken = self.stream.read_buf(&mut place).await?;
            if taken == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.received.fetch_add(taken as u64, Ordering::Relaxed);
            taken
        } else {
            if self.scratch.is_empty() {
                self.need(1).await?;
            }
            let Some(partial) = self.partials.get_mut(&id) else { return Ok(None) };
            let taken = room.min(left).min(self.scratch.len());
            partial.current.put_slice(self.scratch.get(..taken).unwrap_or_default());
            self.scratch.advance(taken);
            taken
        };
        let left = left - taken;
        self.state = if left == 0 { State::Between } else { State::Within { id, left } };
        let Some(partial) = self.partials.get_mut(&id) else { return Ok(None) };
        partial.left -= taken;
        if partial.left > 0 {
            return Ok(None);
        }
        if left > 0 {
            return Err(wrong(FrameError::Length));
        }
        Ok(self.finish(id))
    }

    /// Gives out a frame that is whole.
    fn finish(&mut self, id: u64) -> Option<Incoming> {
        let (head, frame) = self.partials.remove(&id)?.into_frame();
        Some(match head {
            FrameHead::Request { service, target, deadline_ms } => {
                Incoming::Request { id, service, target, deadline_ms, frame }
            }
            FrameHead::Response { outcome } => Incoming::Response { id, outcome, frame },
        })
    }

    /// Sees to it that the scratch has so many bytes; false when the stream ended before the first
    /// of them.
    async fn fill(&mut self, bytes: usize) -> io::Result<bool> {
        while self.scratch.len() < bytes {
            let held = self.scratch.len();
            // An empty scratch is moved back to its beginning, which costs nothing.
            if held == 0 || self.scratch.capacity() < bytes.max(held + 1) {
                self.scratch.reserve(SCRATCH_BYTES.max(bytes) - held.min(SCRATCH_BYTES));
            }
            let taken = self.stream.read_buf(&mut self.scratch).await?;
            if taken == 0 {
                if self.scratch.is_empty() {
                    return Ok(false);
                }
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.received.fetch_add(taken as u64, Ordering::Relaxed);
        }
        Ok(true)
    }

    /// The same in the middle of something, where the stream may not end.
    async fn need(&mut self, bytes: usize) -> io::Result<()> {
        if self.fill(bytes).await? {
            return Ok(());
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

impl Partial {
    /// How many bytes of the part that is being read are missing. Ends parts that are complete and
    /// makes room for the next; more than 0 as long as bytes of the frame are.
    fn room(&mut self) -> usize {
        while self.current.len() == self.current_bytes && self.left > 0 {
            self.end_part();
            self.current_bytes = self.lengths.pop().unwrap_or(0) as usize;
        }
        if self.current.capacity() == 0 {
            self.current = BytesMut::with_capacity(self.current_bytes);
        }
        self.current_bytes - self.current.len()
    }

    fn end_part(&mut self) {
        let part = mem::take(&mut self.current).freeze();
        if self.header.is_none() {
            debug_assert_eq!(part.len(), self.header_bytes, "the header is the first part");
            self.header = Some(part);
        } else {
            self.attachments.push(part);
        }
    }

    fn into_frame(mut self) -> (FrameHead, Frame) {
        self.end_part();
        // What is left has no bytes.
        self.attachments.extend(self.lengths.drain(..).map(|_| Bytes::new()));
        (
            self.head,
            Frame { header: self.header.unwrap_or_default(), attachments: self.attachments },
        )
    }
}

fn wrong(error: FrameError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
