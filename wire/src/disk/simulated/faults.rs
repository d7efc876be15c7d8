//! What can go wrong on a simulated disk, and the dice that decide when.

use std::io;

use crate::entropy::{Entropy, SeededEntropy};

/// What goes wrong from now on.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each fault is on or off by itself")]
pub struct DiskFaults {
    /// Changes fail with an I/O error.
    pub writes_fail: bool,
    /// Syncs fail, and what they should have covered is never made durable by a later one.
    pub syncs_fail: bool,
    /// Reads fail with an I/O error.
    pub reads_fail: bool,
    /// The directory is gone.
    pub gone: bool,
    /// The file system takes no changes any more, as after it met an error of its own.
    pub read_only: bool,
    /// Bytes that all files together may have.
    pub capacity_bytes: u64,
    /// What goes wrong now and then.
    pub odds: DiskFaultOdds,
}

impl Default for DiskFaults {
    fn default() -> Self {
        Self {
            writes_fail: false,
            syncs_fail: false,
            reads_fail: false,
            gone: false,
            read_only: false,
            capacity_bytes: 1 << 40,
            odds: DiskFaultOdds::default(),
        }
    }
}

/// Faults that happen at random, each once in so many operations; 0 is never.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskFaultOdds {
    /// Reads that fail with an I/O error.
    pub reads_fail: u32,
    /// Changes that fail with an I/O error.
    pub writes_fail: u32,
    /// Syncs that fail. What they should have covered survives in part, and no later sync makes
    /// more of it durable; it is seen until the crash, or not any more, as the page cache likes.
    pub syncs_fail: u32,
    /// Reads that give fewer bytes than the file has there.
    pub reads_short: u32,
    /// Reads that give bytes of which one bit is wrong; what lies on the disk is right.
    pub reads_flip: u32,
}

impl DiskFaults {
    pub(super) fn check_change(&self, entropy: &SeededEntropy) -> io::Result<()> {
        if self.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        if self.writes_fail || happens(entropy, self.odds.writes_fail) {
            return Err(io::Error::other("injected write failure"));
        }
        Ok(())
    }

    pub(super) fn check_read(&self, entropy: &SeededEntropy) -> io::Result<()> {
        if self.reads_fail || happens(entropy, self.odds.reads_fail) {
            return Err(io::Error::other("injected read failure"));
        }
        Ok(())
    }

    /// What a read of `buffer` gives in place of it: how many bytes, and perhaps a wrong one.
    pub(super) fn spoil(&self, entropy: &SeededEntropy, buffer: &mut [u8]) -> usize {
        if !buffer.is_empty() && happens(entropy, self.odds.reads_flip) {
            let at = entropy.below(buffer.len() as u64) as usize;
            buffer[at] ^= 1 << entropy.below(8);
        }
        if happens(entropy, self.odds.reads_short) {
            return entropy.below(buffer.len() as u64 + 1) as usize;
        }
        buffer.len()
    }
}

/// Whether something that happens once in `one_in` times happens now.
pub(super) fn happens(entropy: &SeededEntropy, one_in: u32) -> bool {
    one_in > 0 && entropy.below(u64::from(one_in)) == 0
}
