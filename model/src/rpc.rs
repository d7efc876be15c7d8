//! How messages travel between processes: as frames, to a service of a node.
//!
//! A frame is a header (CBOR) and attachments: bulk bytes that are neither copied nor encoded. What
//! a message looks like is told by its type's [`Message`]; who may send it, by [`Request`].

use bytes::Bytes;

use crate::node::Roles;

/// A message, ready to be sent, or as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// CBOR.
    pub header: Bytes,
    /// Bulk bytes that the header speaks of, in order.
    pub attachments: Vec<Bytes>,
}

/// Why a frame is no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The header isn't CBOR of the expected shape, or says what can't be.
    #[error("a message can't be read: {0}")]
    Malformed(String),
    /// The header speaks of attachments that aren't there, or there are others.
    #[error("a message's attachments are not those that it speaks of")]
    Attachments,
}

/// Bytes of a frame's header, at most.
pub const HEADER_BYTES_MAX: usize = 16 << 20;

/// Bytes of all attachments of a frame, at most: a batch of shards with room to spare.
pub const ATTACHMENT_BYTES_MAX: usize = 64 << 20;

/// Attachments of a frame, at most.
pub const ATTACHMENTS_MAX: usize = 4096;

/// What can be sent.
pub trait Message: Sized + Send + 'static {
    /// The frame that says it.
    fn encode(&self) -> Frame;

    /// What a frame says. Never panics, and takes no more memory than the frame has bytes, times a
    /// small constant.
    fn decode(frame: Frame) -> Result<Self, MessageError>;
}

/// A message that asks for something.
pub trait Request: Message {
    /// Who answers.
    const SERVICE: Service;

    /// Whether a node with these roles may send it; [`Roles::NONE`] is a peer without a certificate.
    fn is_allowed(&self, sender: Roles) -> bool;

    /// What it asks, for metrics and logs.
    fn name(&self) -> &'static str;
}

/// The services of a node. The number is on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// [`crate::shard`]; its targets are nodes.
    Shards = 1,
    /// [`crate::query`]; its targets are replicas.
    Metadata = 2,
    /// Raft's messages; its targets are replicas.
    Raft = 3,
    /// [`crate::membership`]; its target is 0, whichever node is asked.
    Membership = 4,
}

impl Service {
    /// The service with this number.
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Shards,
            2 => Self::Metadata,
            3 => Self::Raft,
            4 => Self::Membership,
            _ => return None,
        })
    }

    /// The word used in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shards => "shards",
            Self::Metadata => "metadata",
            Self::Raft => "raft",
            Self::Membership => "membership",
        }
    }
}
