//! Reading: a plan becomes windows of stripes, windows become verified bytes.
//!
//! [`body`] walks over the plan and fetches ahead; [`gather`] collects the shards of one window,
//! and decides when parity takes the place of data; [`shard`] reads and verifies one range of one
//! shard; [`rebuild`] reconstructs columns.

mod body;
mod gather;
mod rebuild;
mod shard;

use model::command::Refusal;
use model::query::MetadataError;

pub use body::ObjectReader;
pub(crate) use gather::{StripeRead, read_stripe};
pub(crate) use rebuild::rebuild;
pub(crate) use shard::{Piece, read_shard_and_owner};

/// Why an object was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The metadata says no: there is no such bucket or key.
    #[error(transparent)]
    Refused(Refusal),
    /// The metadata can't be asked: try later.
    #[error("the metadata service is not available")]
    Unavailable,
    /// The metadata has too much to do: try later.
    #[error("the metadata service is overloaded")]
    Overloaded,
}

impl From<MetadataError> for OpenError {
    fn from(error: MetadataError) -> Self {
        match error {
            MetadataError::Overloaded => Self::Overloaded,
            MetadataError::NotLeader { .. }
            | MetadataError::Unavailable
            | MetadataError::Unknown
            | MetadataError::Fenced => Self::Unavailable,
        }
    }
}

/// Why bytes of an object that exists could not be read. Never means that it doesn't exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Too many of its disks are out of reach: try later.
    #[error("too many disks are out of reach to read the object")]
    Unavailable,
    /// Too many of its shards are known to be lost or damaged.
    #[error("too many shards of the object are lost or damaged")]
    Damaged,
}
