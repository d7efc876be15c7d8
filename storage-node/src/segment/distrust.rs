//! Has the device asked again, in place of a page cache that may be wrong.

use wire::disk::DiskFile;

/// The largest page that file systems cache. A hint that covers a page in part leaves it cached.
const CACHED_PAGE_BYTES: u64 = 2 << 20;

/// What was read of this range failed its check: the next read of it comes from the device. It may
/// be right there, as a bit that flips in memory is as likely as one that flips on a disk.
pub fn distrust(file: &dyn DiskFile, offset: u64, bytes: u64) {
    let from = offset / CACHED_PAGE_BYTES * CACHED_PAGE_BYTES;
    let to = offset.saturating_add(bytes).next_multiple_of(CACHED_PAGE_BYTES);
    file.forget_cached(from, to - from);
}
