//! Backups: all tables at one applied index, in one file; and replicas made from such a file.
//!
//! In: a running replica. Out: a file that [`BackupFile`] verifies, byte by byte, and [`restore`]
//! makes a founding replica of. What always holds: taking a backup stalls no commit (it reads a view
//! and writes beside it); what is restored gives out no number that was given out before; what was
//! written after the backup is held, and never collected before it is released (I-9).
//!
//! [`found_for_recovery`] is a restore of nothing: for when only the disks are left.

mod client;
mod format;
mod progress;
mod restore;
pub mod schedule;

pub use client::{BackupFailure, BackupSink, TakenBackup};
pub(crate) use format::write_header;
pub use format::{BackupContents, BackupError, BackupFile, BackupHeader};
pub use progress::{BackupFigures, BackupProgress};
pub use restore::{RestoreError, RestoreSettings, RestoredReplica, found_for_recovery, restore};

/// Ids of sessions, buckets and replicas, and epochs, are raised to the seconds since 1970 times two
/// to this power: above all that was given out before, as none is given out a million times a second,
/// and also above what an earlier restore of the same backup began with.
const SECOND_SHIFT: u32 = 20;

/// Where the clock is behind, they are raised by this much.
const GAP: u64 = 1 << SECOND_SHIFT;

/// Node numbers are raised by this much.
const NODE_GAP: u32 = 1024;

/// Disk numbers up to so many above the last are kept for disks that are younger than the backup.
const DISK_GAP: u32 = 10_000;
