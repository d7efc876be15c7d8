//! A point in time as the cluster records it.

use minicbor::{Decode, Encode};

/// Nanoseconds since the Unix epoch, UTC. Chosen by the proposer of a command, never by the state
/// machine that applies it (I-10).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// From whole seconds since the epoch.
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since the epoch.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the epoch.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Whole seconds since the epoch; the precision of HTTP dates.
    pub const fn as_seconds(self) -> u64 {
        self.0 / 1_000_000_000
    }

    /// This time and `nanos` more.
    pub const fn plus_nanos(self, nanos: u64) -> Self {
        Self(self.0.saturating_add(nanos))
    }
}
