//! Writing: a body becomes stripes, stripes become shards, shards become durable.
//!
//! [`body`] takes the chunks; [`run`] sends stripes into extents and goes on elsewhere when a
//! target fails; [`placement`] finds PGs; [`send`] codes and sends one stripe; [`extent`] keeps
//! what is known of an open extent; [`seal`] is the sync barrier at its end; [`rescue`] writes an
//! extent again that lost too many shards before it was sealed.

mod body;
mod extent;
mod placement;
mod rescue;
mod run;
mod seal;
mod send;
mod straggler;

pub use body::{ObjectWriter, WriteTarget, WrittenBody};
pub(crate) use extent::Receipt;
pub(crate) use placement::{WantedCoding, can_place};
pub(crate) use seal::sync;
pub(crate) use send::{append, parity};

/// Why a body was not written. Nothing of it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// Not enough disks take data: try later.
    #[error("not enough disks are available to write")]
    Unavailable,
    /// Not enough disks can be reached from here: try later, or by another gateway.
    #[error("not enough disks can be reached to write")]
    OutOfReach,
    /// The disks that are there have no space: only deletes help.
    #[error("the disks are full")]
    Full,
    /// Too much is being written at once: try later.
    #[error("too many writes are under way")]
    Overloaded,
    /// The names are too long to be kept with the shards.
    #[error("the object's names are too long")]
    NameTooLong,
    /// The writer failed before; only dropping it is left.
    #[error("the writer has failed already")]
    Failed,
}
