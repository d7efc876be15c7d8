//! A file that goes on where the device fails: what can't be read is zero, and remembered.
//!
//! Zeros verify as nothing, so a page that can't be read becomes damage of what lies there, and the
//! rest of the file is still told of. Who takes zeros for space that was never written, or for the
//! end of something, has to ask [`Patient::is_unreadable`] first.

use std::collections::BTreeSet;
use std::io::{self, IoSlice};
use std::sync::Arc;

use crate::sync::Mutex;

use wire::disk::DiskFile;

use crate::lock::lock;

/// What is given up at once: the least that devices and page cache read.
const PAGE_BYTES: u64 = 4096;
/// Pages of one file that a server gives up (4 MiB): more is no bad spot but a bad device, whose
/// reads may take seconds each before they fail.
const GIVEN_UP_MAX: usize = 1024;

/// A file that is read only, and goes on where reads fail.
pub struct Patient {
    inner: Arc<dyn DiskFile>,
    length: u64,
    /// Which errors say that a page is lost.
    gives_up: fn(&io::Error) -> bool,
    given_up_max: usize,
    unreadable: Mutex<BTreeSet<u64>>,
}

/// Whether an error says that the medium doesn't give what lies there, and not that the file, the
/// process or the machine has some other trouble, which may be over the next time.
pub fn is_medium_error(error: &io::Error) -> bool {
    /// `EIO`, `ENODATA`, `EILSEQ`, `EBADMSG`, `EUCLEAN`, `EREMOTEIO`: what block devices and file
    /// systems make of bad sectors and failed checksums.
    const MEDIUM: [i32; 6] = [5, 61, 84, 74, 117, 121];
    error.raw_os_error().is_some_and(|code| MEDIUM.contains(&code))
}

impl Patient {
    /// Over a file of this length, for a server: only what [`is_medium_error`] is given up, and
    /// only so much of it. Every other error is passed on.
    pub fn new(inner: Arc<dyn DiskFile>, length: u64) -> Self {
        let (gives_up, given_up_max) = (is_medium_error as fn(&io::Error) -> bool, GIVEN_UP_MAX);
        Self { inner, length, gives_up, given_up_max, unreadable: Mutex::default() }
    }

    /// Over a file of this length, for who wants to see what is left: whatever fails is given up.
    pub fn tireless(inner: Arc<dyn DiskFile>, length: u64) -> Self {
        let given_up_max = usize::MAX;
        Self { inner, length, gives_up: |_| true, given_up_max, unreadable: Mutex::default() }
    }

    /// Bytes that can't be read, as far as that was tried.
    pub fn unreadable_bytes(&self) -> u64 {
        lock(&self.unreadable).len() as u64 * PAGE_BYTES
    }

    /// Whether some of these bytes lie in a page that couldn't be read.
    pub fn is_unreadable(&self, offset: u64, bytes: u64) -> bool {
        self.unreadable_from(offset).is_some_and(|at| at < offset.saturating_add(bytes))
    }

    /// The first byte at or behind `offset`, and before the file's end, of a page that couldn't be
    /// read.
    pub fn unreadable_from(&self, offset: u64) -> Option<u64> {
        let pages = lock(&self.unreadable);
        let page = *pages.range(offset / PAGE_BYTES * PAGE_BYTES..).next()?;
        Some(page.max(offset)).filter(|at| *at < self.length)
    }

    /// Reads page by page, and gives up those that fail: for the second time, since the read of
    /// all together has failed before, or is known to.
    fn read_pages(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let end = self.length.min(offset.saturating_add(buffer.len() as u64));
        let mut at = offset;
        while at < end {
            let page = at / PAGE_BYTES * PAGE_BYTES;
            let until = end.min(page + PAGE_BYTES);
            let part = &mut buffer[(at - offset) as usize..(until - offset) as usize];
            if self.is_unreadable(at, 1) {
                part.fill(0);
                at = until;
                continue;
            }
            match self.inner.read_at(part, at) {
                Ok(count) if count < part.len() => return Ok((at - offset) as usize + count),
                Ok(_) => {}
                Err(error) if (self.gives_up)(&error) => {
                    part.fill(0);
                    let mut pages = lock(&self.unreadable);
                    if pages.len() >= self.given_up_max {
                        return Err(error);
                    }
                    pages.insert(page);
                }
                Err(error) => return Err(error),
            }
            at = until;
        }
        Ok(end.saturating_sub(offset) as usize)
    }
}

fn read_only<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl DiskFile for Patient {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if !self.is_unreadable(offset, buffer.len() as u64) {
            match self.inner.read_at(buffer, offset) {
                Err(error) if (self.gives_up)(&error) => {}
                other => return other,
            }
        }
        self.read_pages(buffer, offset)
    }

    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.read_at(buffer, offset).map(Some)
    }

    fn write_at(&self, _: &[IoSlice<'_>], _: u64) -> io::Result<()> {
        read_only()
    }

    fn sync_data(&self) -> io::Result<()> {
        read_only()
    }

    fn forget_cached(&self, offset: u64, length: u64) {
        self.inner.forget_cached(offset, length);
    }

    fn will_read(&self, offset: u64, length: u64) {
        self.inner.will_read(offset, length);
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.length)
    }

    fn set_length(&self, _: u64) -> io::Result<()> {
        read_only()
    }

    fn allocate(&self, _: u64, _: u64) -> io::Result<()> {
        read_only()
    }
}

#[cfg(test)]
mod tests {
    use wire::disk::{Disk, OpenMode, SimulatedDisk};

    use super::*;

    fn file_of(disk: &SimulatedDisk, bytes: usize) -> Arc<dyn DiskFile> {
        let file = disk.open("file", OpenMode::CreateNew).expect("made");
        file.write_at(&[IoSlice::new(&vec![7; bytes])], 0).expect("written");
        file
    }

    #[test]
    fn a_bad_page_is_zero_and_remembered_and_the_rest_is_read() {
        let disk = SimulatedDisk::new(1);
        let patient = Patient::new(file_of(&disk, 10_000), 10_000);
        disk.break_sectors("file", 8200..8201).expect("there");
        let mut bytes = vec![1; 12_000];
        assert_eq!(patient.read_at(&mut bytes, 0).expect("read"), 10_000);
        assert!(bytes[..8192].iter().all(|byte| *byte == 7));
        assert!(bytes[8192..10_000].iter().all(|byte| *byte == 0));
        assert!(patient.is_unreadable(0, 8193) && !patient.is_unreadable(0, 8192));
        assert_eq!(patient.unreadable_from(0), Some(8192));
        assert_eq!(patient.unreadable_from(9000), Some(9000));
        assert_eq!(patient.unreadable_from(10_000), None, "the file ends there");
    }

    #[test]
    fn a_device_that_gives_nothing_is_not_read_to_its_end() {
        let disk = SimulatedDisk::new(1);
        let length = (GIVEN_UP_MAX as u64 + 1) * PAGE_BYTES;
        let file = file_of(&disk, length as usize);
        disk.break_sectors("file", 0..length).expect("there");
        let mut bytes = vec![0; length as usize];
        let error = Patient::new(Arc::clone(&file), length).read_at(&mut bytes, 0);
        assert!(is_medium_error(&error.expect_err("too much")));
        let tireless = Patient::tireless(file, length);
        assert_eq!(tireless.read_at(&mut bytes, 0).expect("read") as u64, length);
        assert_eq!(tireless.unreadable_bytes(), length);
    }

    #[test]
    fn want_of_memory_or_files_is_nothing_of_the_medium() {
        for shortage in [12, 23, 24] {
            assert!(!is_medium_error(&io::Error::from_raw_os_error(shortage)));
        }
        assert!(!is_medium_error(&io::ErrorKind::NotFound.into()));
        assert!(is_medium_error(&io::Error::from_raw_os_error(5)));
    }
}
