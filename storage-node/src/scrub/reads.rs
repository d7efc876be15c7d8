//! What the reads of one window say of the device.
//!
//! In goes how each of them went, out comes whether to go on. A window that can't be read is read
//! again in smaller and smaller pieces: however many of those fail, it is one failure of the
//! device, and a piece that can be read shows that the device still gives something. A read that
//! fails for want of memory or open files says nothing of the device.

use std::cell::Cell;
use std::io;

use crate::store::{Health, is_shortage};

/// The reads of one window.
pub(super) struct Reads<'a> {
    health: &'a Health,
    segment: u64,
    /// Where the window begins.
    at: u64,
    has_failed: Cell<bool>,
    is_short: Cell<bool>,
}

impl<'a> Reads<'a> {
    pub(super) fn new(health: &'a Health, segment: u64, at: u64) -> Self {
        Self { health, segment, at, has_failed: Cell::new(false), is_short: Cell::new(false) }
    }

    /// Takes note of one read; tells whether to go on.
    pub(super) fn heard(&self, outcome: Result<(), &io::Error>) -> bool {
        match outcome {
            Ok(()) => {
                self.health.read_succeeded();
                true
            }
            Err(error) if is_shortage(error) => {
                self.is_short.set(true);
                false
            }
            Err(error) if !self.has_failed.replace(true) => {
                self.health.read_failed(self.segment, self.at, error)
            }
            Err(_) => self.health.check_read().is_ok(),
        }
    }

    /// Whether the device has failed one.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed.get()
    }

    /// Whether one was given up for want of memory or open files: what wasn't read is unknown.
    pub(super) fn is_short(&self) -> bool {
        self.is_short.get()
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::sync::Arc;

    use model::ids::DiskId;
    use model::shard::DiskHealth;
    use wire::disk::DiskFile;

    use super::super::walk::read_pieces;
    use super::*;

    const WINDOW_BYTES: u64 = 1 << 20;
    const PAGE_BYTES: usize = 4096;

    /// A file of ones that fails reads of some bytes.
    struct Spotted {
        bad: std::ops::Range<u64>,
        code: i32,
    }

    impl DiskFile for Spotted {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            if offset < self.bad.end && self.bad.start < offset + buffer.len() as u64 {
                return Err(io::Error::from_raw_os_error(self.code));
            }
            buffer.fill(1);
            Ok(buffer.len())
        }

        fn read_cached_at(&self, _: &mut [u8], _: u64) -> io::Result<Option<usize>> {
            Ok(None)
        }

        fn write_at(&self, _: &[IoSlice<'_>], _: u64) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn sync_data(&self) -> io::Result<()> {
            Ok(())
        }

        fn forget_cached(&self, _: u64, _: u64) {}

        fn length(&self) -> io::Result<u64> {
            Ok(u64::MAX)
        }

        fn set_length(&self, _: u64) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn allocate(&self, _: u64, _: u64) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    /// Reads a window; gives how many pages of it were not read, and what is known then.
    fn read<'a>(health: &'a Health, file: &Spotted, at: u64) -> (u64, Reads<'a>) {
        let reads = Reads::new(health, 1, at);
        let mut buffer = vec![9; WINDOW_BYTES as usize];
        read_pieces(file, &mut buffer, at, &mut |read| reads.heard(read.as_ref().map(drop)));
        let unread = buffer.chunks(PAGE_BYTES).filter(|page| page.iter().all(|byte| *byte == 0));
        (unread.count() as u64, reads)
    }

    #[test]
    fn a_small_bad_spot_over_several_windows_is_no_failed_disk() {
        let health = Health::new(DiskId(1), Arc::default());
        let file = Spotted { bad: WINDOW_BYTES / 2..5 * WINDOW_BYTES / 2, code: 5 };
        for at in (0..4).map(|window| window * WINDOW_BYTES) {
            for _ in 0..2 {
                let (unread, reads) = read(&health, &file, at);
                let bad =
                    file.bad.end.min(at + WINDOW_BYTES).saturating_sub(file.bad.start.max(at));
                assert_eq!((unread * PAGE_BYTES as u64, reads.has_failed()), (bad, bad > 0));
                assert!(!reads.is_short());
            }
        }
        assert_eq!(health.get(), DiskHealth::Ok);
    }

    #[test]
    fn a_device_that_gives_nothing_has_failed() {
        let health = Health::new(DiskId(1), Arc::default());
        let file = Spotted { bad: 0..u64::MAX, code: 5 };
        let mut windows = 0;
        while health.check_read().is_ok() {
            assert!(windows < 100, "it is never noticed");
            read(&health, &file, windows % 4 * WINDOW_BYTES);
            windows += 1;
        }
        assert_eq!(windows, 16);
    }

    #[test]
    fn want_of_memory_is_no_failure_and_ends_the_window() {
        let health = Health::new(DiskId(1), Arc::default());
        let file = Spotted { bad: 0..u64::MAX, code: 12 };
        for window in 0..100 {
            let (_, reads) = read(&health, &file, window * WINDOW_BYTES);
            assert!(reads.is_short() && !reads.has_failed());
        }
        assert_eq!(health.get(), DiskHealth::Ok);
    }
}
