//! The heads of chunks and frames, as bytes. See FORMAT.md.

use bytes::{BufMut, BytesMut};
use model::rpc::{ATTACHMENT_BYTES_MAX, ATTACHMENTS_MAX, Frame, HEADER_BYTES_MAX};

use super::limits::CHUNK_BYTES_MAX;

/// Bytes of a chunk's head.
pub(super) const CHUNK_HEAD_BYTES: usize = 16;
/// Bytes of a request's head, before the lengths of its attachments.
pub(super) const REQUEST_HEAD_BYTES: usize = 24;
/// Bytes of a response's head, before the lengths of its attachments.
pub(super) const RESPONSE_HEAD_BYTES: usize = 8;

/// What a peer sent that it may not send. The connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// It isn't a chunk.
    #[error("a chunk of an unknown kind")]
    Kind,
    /// Bytes that must be zero aren't.
    #[error("reserved bytes are set")]
    Reserved,
    /// A length is over its limit, or doesn't fit the others.
    #[error("a length is out of bounds")]
    Length,
    /// A frame is larger than this peer may send.
    #[error("the frame is larger than allowed")]
    TooLarge,
    /// More large frames at once than allowed.
    #[error("too many frames have been begun")]
    TooMany,
    /// A frame was begun under a number that is in use.
    #[error("the number of a frame is in use")]
    Duplicate,
}

/// What a chunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Begins a request.
    Request = 1,
    /// Begins a response.
    Response = 2,
    /// Goes on with either.
    Data = 3,
    /// The rest won't come, and no answer is wanted.
    Cancel = 4,
    /// The sender is there.
    Alive = 5,
    /// The sender takes no more requests.
    GoingAway = 6,
}

impl Kind {
    fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Data,
            4 => Self::Cancel,
            5 => Self::Alive,
            6 => Self::GoingAway,
            _ => return None,
        })
    }
}

/// The head of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChunkHead {
    pub kind: Kind,
    /// Bytes that follow.
    pub length: usize,
    /// The request that it belongs to.
    pub id: u64,
}

impl ChunkHead {
    pub fn encode(self, into: &mut BytesMut) {
        into.put_u8(self.kind as u8);
        into.put_bytes(0, 3);
        into.put_u32_le(self.length as u32);
        into.put_u64_le(self.id);
    }

    pub fn decode(bytes: &[u8; CHUNK_HEAD_BYTES]) -> Result<Self, FrameError> {
        let [kind, r1, r2, r3, l0, l1, l2, l3, id @ ..] = *bytes;
        let kind = Kind::from_number(kind).ok_or(FrameError::Kind)?;
        if [r1, r2, r3] != [0; 3] {
            return Err(FrameError::Reserved);
        }
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let least = match kind {
            Kind::Request => REQUEST_HEAD_BYTES,
            Kind::Response => RESPONSE_HEAD_BYTES,
            Kind::Data => 1,
            Kind::Cancel | Kind::Alive | Kind::GoingAway => 0,
        };
        let most = if least == 0 { 0 } else { CHUNK_BYTES_MAX };
        if !(least..=most).contains(&length) {
            return Err(FrameError::Length);
        }
        Ok(Self { kind, length, id: u64::from_le_bytes(id) })
    }
}

/// What is said of a frame before its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameHead {
    /// It asks.
    Request { service: u8, target: u64, deadline_ms: u32 },
    /// It answers; 0 is an answer, everything else a refusal.
    Response { outcome: u8 },
}

impl FrameHead {
    /// The head of a frame with these lengths, as bytes.
    pub fn encode(self, frame: &Frame) -> BytesMut {
        let table = 4 * frame.attachments.len();
        let mut bytes = BytesMut::with_capacity(REQUEST_HEAD_BYTES + table);
        let (count, header) = (frame.attachments.len() as u16, frame.header.len() as u32);
        match self {
            Self::Request { service, target, deadline_ms } => {
                bytes.put_u8(service);
                bytes.put_u8(0);
                bytes.put_u16_le(count);
                bytes.put_u32_le(header);
                bytes.put_u64_le(target);
                bytes.put_u32_le(deadline_ms);
                bytes.put_u32_le(0);
            }
            Self::Response { outcome } => {
                bytes.put_u8(outcome);
                bytes.put_u8(0);
                bytes.put_u16_le(count);
                bytes.put_u32_le(header);
            }
        }
        for attachment in &frame.attachments {
            bytes.put_u32_le(attachment.len() as u32);
        }
        bytes
    }

    /// The head in the first bytes of a request, the number of attachments, and the header's length.
    pub fn decode_request(
        bytes: &[u8; REQUEST_HEAD_BYTES],
    ) -> Result<(Self, usize, usize), FrameError> {
        let [service, r0, c0, c1, h0, h1, h2, h3, rest @ ..] = *bytes;
        let [t0, t1, t2, t3, t4, t5, t6, t7, d0, d1, d2, d3, r1, r2, r3, r4] = rest;
        if [r0, r1, r2, r3, r4] != [0; 5] {
            return Err(FrameError::Reserved);
        }
        let target = u64::from_le_bytes([t0, t1, t2, t3, t4, t5, t6, t7]);
        let deadline_ms = u32::from_le_bytes([d0, d1, d2, d3]);
        let (count, header) = counts([c0, c1], [h0, h1, h2, h3])?;
        Ok((Self::Request { service, target, deadline_ms }, count, header))
    }

    /// The same of a response.
    pub fn decode_response(
        bytes: [u8; RESPONSE_HEAD_BYTES],
    ) -> Result<(Self, usize, usize), FrameError> {
        let [outcome, r0, c0, c1, h0, h1, h2, h3] = bytes;
        if r0 != 0 {
            return Err(FrameError::Reserved);
        }
        let (count, header) = counts([c0, c1], [h0, h1, h2, h3])?;
        Ok((Self::Response { outcome }, count, header))
    }
}

fn counts(count: [u8; 2], header: [u8; 4]) -> Result<(usize, usize), FrameError> {
    let count = usize::from(u16::from_le_bytes(count));
    let header = u32::from_le_bytes(header) as usize;
    if count > ATTACHMENTS_MAX || header > HEADER_BYTES_MAX {
        return Err(FrameError::Length);
    }
    Ok((count, header))
}

/// Bytes of a frame's header and attachments.
pub(super) fn frame_bytes(frame: &Frame) -> usize {
    frame.attachments.iter().map(bytes::Bytes::len).sum::<usize>() + frame.header.len()
}

/// Whether a frame may be sent.
pub(super) fn is_sendable(frame: &Frame) -> bool {
    frame.header.len() <= HEADER_BYTES_MAX
        && frame.attachments.len() <= ATTACHMENTS_MAX
        && frame_bytes(frame) - frame.header.len() <= ATTACHMENT_BYTES_MAX
}
