//! What this crate's own tests switch: deliberate bugs, which the tests must find, and a writer
//! that does one thing at a time, so that a seed replays.
//!
//! Without the cargo feature `switches`, which nothing but these tests enables, every question is
//! answered by a constant `false` and the compiler leaves out what hangs on it.

use crate::options::StoreOptions;

/// A mistake that a storage engine could make, made on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A sync is answered without asking the device.
    SyncSkipped,
    /// The durable position moves when bytes are written, not when they are synced.
    DurableBeforeSync,
    /// A checkpoint covers log that isn't synced yet.
    IndexBeforeData,
    /// The directory isn't synced when a segment is made.
    DirectoryNotSynced,
    /// A read doesn't verify the checksums of its blocks.
    ChecksumNotVerified,
    /// Recovery takes a record behind the durable position by its header alone.
    TornTailAccepted,
    /// Recovery leaves what it found to be torn.
    TailNotCut,
    /// Recovery serves what it found without making it durable.
    TailNotSynced,
    /// Recovery forgets the damage that an earlier run has found.
    DamageForgotten,
    /// A shard is taken although its id holds other bytes.
    IdReused,
    /// A sync is answered for a run that has ended.
    OldRunAccepted,
    /// Compaction removes a segment before its copies and the index that points to them are durable.
    SegmentRemovedEarly,
    /// Compaction drops every tombstone that it meets.
    TombstoneDropped,
    /// Compaction copies a shard without asking whether it still lives.
    DeadShardMoved,
}

#[cfg(feature = "switches")]
impl Bug {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::SyncSkipped,
        Self::DurableBeforeSync,
        Self::IndexBeforeData,
        Self::DirectoryNotSynced,
        Self::ChecksumNotVerified,
        Self::TornTailAccepted,
        Self::TailNotCut,
        Self::TailNotSynced,
        Self::DamageForgotten,
        Self::IdReused,
        Self::OldRunAccepted,
        Self::SegmentRemovedEarly,
        Self::TombstoneDropped,
        Self::DeadShardMoved,
    ];
}

/// What a test has switched.
#[cfg(feature = "switches")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switches {
    /// The mistake to make.
    pub bug: Option<Bug>,
    /// Whether a checkpoint that is due is waited for before the batch that made it due is
    /// answered, so that what reaches the disk has one order.
    pub in_step: bool,
}

impl StoreOptions {
    /// Whether this mistake is to be made.
    #[cfg(feature = "switches")]
    pub(crate) fn breaks(&self, bug: Bug) -> bool {
        self.switches.bug == Some(bug)
    }

    /// Never.
    #[cfg(not(feature = "switches"))]
    #[expect(clippy::unused_self, reason = "the same question as with the feature")]
    pub(crate) const fn breaks(&self, _: Bug) -> bool {
        false
    }

    /// Whether checkpoints are waited for.
    #[cfg(feature = "switches")]
    pub(crate) fn in_step(&self) -> bool {
        self.switches.in_step
    }

    /// Never.
    #[cfg(not(feature = "switches"))]
    #[expect(clippy::unused_self, reason = "the same question as with the feature")]
    pub(crate) const fn in_step(&self) -> bool {
        false
    }
}
