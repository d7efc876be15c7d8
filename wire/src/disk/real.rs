//! Directories and files of the operating system.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::buffer::spare_capacity;
use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate, fstatvfs};
use rustix::io::{Errno, ReadWriteFlags};

use super::uncached::{self, Uncached};
use super::{Disk, DiskFile, DiskSpace, OpenMode};

/// The kernel takes at most this many parts in one vectored write (IOV_MAX).
const PARTS_MAX: usize = 1024;

/// A directory of the operating system.
#[derive(Debug)]
pub struct RealDisk {
    path: PathBuf,
    directory: File,
    uncached: Arc<Uncached>,
}

impl RealDisk {
    /// Opens an existing directory.
    pub fn open(path: &Path) -> io::Result<Self> {
        let directory = File::open(path)?;
        if !directory.metadata()?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self { path: path.to_owned(), directory, uncached: Arc::default() })
    }

    /// Makes the directory and those above it, durably, where they aren't there, and opens it.
    pub fn create(path: &Path) -> io::Result<Self> {
        let missing: Vec<&Path> =
            path.ancestors().take_while(|at| !at.as_os_str().is_empty() && !at.exists()).collect();
        fs::create_dir_all(path)?;
        for made in missing {
            let parent = made.parent().filter(|at| !at.as_os_str().is_empty());
            File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
        }
        Self::open(path)
    }
}

impl Disk for RealDisk {
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).mode(0o600);
        match mode {
            OpenMode::Read => {}
            OpenMode::Write => {
                options.write(true);
            }
            OpenMode::CreateNew => {
                options.write(true).create_new(true);
            }
        }
        let path = self.path.join(name);
        let file = options.open(&path)?;
        Ok(Arc::new(RealFile {
            file,
            path,
            uncached: Arc::clone(&self.uncached),
            unneeded: Mutex::default(),
        }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            // A name that isn't UTF-8 is none of ours.
            if entry.file_type()?.is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))?;
        // A handle of ours would keep its space.
        self.uncached.let_go();
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.directory.sync_all()
    }

    fn subdirectory(&self, name: &str) -> io::Result<Arc<dyn Disk>> {
        let path = self.path.join(name);
        match fs::create_dir(&path) {
            Ok(()) => self.sync_directory()?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        Ok(Arc::new(Self::open(&path)?))
    }

    fn space(&self) -> io::Result<DiskSpace> {
        let space = fstatvfs(&self.directory)?;
        Ok(DiskSpace {
            capacity_bytes: space.f_blocks.saturating_mul(space.f_frsize),
            free_bytes: space.f_bavail.saturating_mul(space.f_frsize),
        })
    }

    fn is_present(&self) -> bool {
        match (self.directory.metadata(), fs::metadata(&self.path)) {
            (Ok(opened), Ok(found)) => {
                (opened.dev(), opened.ino()) == (found.dev(), found.ino()) && opened.nlink() > 0
            }
            _ => false,
        }
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

/// An open file of the operating system.
#[derive(Debug)]
struct RealFile {
    file: File,
    /// Where it was when it was opened.
    path: PathBuf,
    uncached: Arc<Uncached>,
    /// What was to be written past the page cache and went through it, since the last sync.
    unneeded: Mutex<Option<Range<u64>>>,
}

impl RealFile {
    /// The next best: through the page cache, which is told to let go of it, now and, once it is
    /// on the disk, again.
    fn write_and_forget(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.write_at(parts, offset)?;
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        let end = offset + bytes as u64;
        self.forget_cached(offset, end - offset);
        let mut unneeded = self.unneeded.lock().unwrap_or_else(PoisonError::into_inner);
        *unneeded = Some(match unneeded.take() {
            Some(range) => range.start.min(offset)..range.end.max(end),
            None => offset..end,
        });
        Ok(())
    }
}

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// Into memory that isn't filled with zeros first.
    fn read_new_at(&self, count: usize, offset: u64) -> io::Result<Vec<u8>> {
        let mut buffer = Vec::with_capacity(count);
        while buffer.len() < count {
            let at = offset + buffer.len() as u64;
            match rustix::io::pread(&self.file, spare_capacity(&mut buffer), at) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // The allocator may have given more than was asked for.
        buffer.truncate(count);
        Ok(buffer)
    }

    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        let wanted = buffer.len();
        let parts = &mut [IoSliceMut::new(buffer)];
        match rustix::io::preadv2(&self.file, parts, offset, ReadWriteFlags::NOWAIT) {
            Ok(count) if count == wanted => Ok(Some(count)),
            // A short read may mean that the rest isn't cached: let the caller read it again.
            // File systems that can't tell answer `EOPNOTSUPP`.
            Ok(_) | Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let mut at = offset;
        for group in parts.chunks(PARTS_MAX) {
            let mut group = group.to_vec();
            let mut rest = group.as_mut_slice();
            IoSlice::advance_slices(&mut rest, 0);
            while !rest.is_empty() {
                match rustix::io::pwritev(&self.file, rest, at) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(count) => {
                        at += count as u64;
                        IoSlice::advance_slices(&mut rest, count);
                    }
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    fn write_uncached_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let bytes = parts.iter().map(|part| part.len()).sum();
        if !uncached::is_worth_it(bytes, offset) {
            return self.write_at(parts, offset);
        }
        if self.uncached.write(&self.file, &self.path, parts, offset)? {
            Ok(())
        } else {
            self.write_and_forget(parts, offset)
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()?;
        let unneeded = self.unneeded.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(range) = unneeded {
            self.forget_cached(range.start, range.end - range.start);
        }
        if self.file.metadata()?.nlink() == 0 {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the file has been deleted"));
        }
        Ok(())
    }

    fn forget_cached(&self, offset: u64, length: u64) {
        if let Some(length) = NonZeroU64::new(length) {
            // A file system that knows no such hint loses nothing.
            let _ = fadvise(&self.file, offset, Some(length), Advice::DontNeed);
        }
    }

    fn will_read(&self, offset: u64, length: u64) {
        let _ = fadvise(&self.file, offset, NonZeroU64::new(length), Advice::WillNeed);
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        let reserved = loop {
            match fallocate(&self.file, FallocateFlags::empty(), offset, length) {
                Err(Errno::INTR) => {}
                outcome => break outcome,
            }
        };
        match reserved {
            Ok(()) => Ok(()),
            // A file system without reservation: give the length, and let writes find the space.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                let end = offset + length;
                if self.length()? < end { self.set_length(end) } else { Ok(()) }
            }
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_in_many_parts_and_reads_back() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let disk = RealDisk::create(&directory.path().join("a/b")).expect("created");
        let file = disk.open("f", OpenMode::CreateNew).expect("new");
        let bytes: Vec<u8> = (0..5000u32).map(|number| number as u8).collect();
        let parts: Vec<IoSlice<'_>> = bytes.chunks(2).map(IoSlice::new).collect();
        file.write_at(&parts, 3).expect("written");
        let mut back = vec![0; bytes.len()];
        file.read_exact_at(&mut back, 3).expect("read");
        assert_eq!(back, bytes);
        assert_eq!(file.read_at(&mut back, 5000).expect("read"), 3);
        assert_eq!(file.read_new_at(5000, 3).expect("read"), bytes);
        assert_eq!(file.read_new_at(100, 5000).expect("read"), bytes[4997..]);
        assert_eq!(file.read_new_at(100, 6000).expect("read"), []);
        file.will_read(0, 5003);
        assert!(disk.open("f", OpenMode::CreateNew).is_err());
        assert_eq!(disk.list().expect("list"), ["f"]);
    }

    /// Writes of many lengths at many places, both ways in turn, against bytes in memory.
    fn check_uncached(refuse: bool) {
        let directory = tempfile::tempdir().expect("temporary directory");
        let disk = RealDisk::create(&directory.path().join("disk")).expect("created");
        if refuse {
            disk.uncached.refuse(disk.path());
        }
        let file = disk.open("f", OpenMode::CreateNew).expect("new");
        file.allocate(0, 16 << 20).expect("reserved");
        let mut expected = vec![0u8; 16 << 20];
        let mut state = 88_172_645_463_325_252_u64;
        let mut random = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        for round in 0..120u64 {
            let lengths = [1, 4096, 65_536, 65_537, 300_000, 1 << 20, (3 << 20) + 17];
            let length = lengths[random(7) as usize] + random(5000) as usize;
            let mut offset = random((16 << 20) - length as u64);
            if round % 4 == 0 {
                offset -= offset % 4096;
            }
            let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8 ^ round as u8).collect();
            let cut = random(length as u64) as usize;
            let parts = [
                IoSlice::new(&bytes[..cut]),
                IoSlice::new(&[]),
                IoSlice::new(&bytes[cut..]),
                IoSlice::new(&[]),
            ];
            if round % 3 == 0 {
                file.write_at(&parts, offset).expect("written");
            } else {
                file.write_uncached_at(&parts, offset).expect("written");
            }
            expected[offset as usize..][..length].copy_from_slice(&bytes);
            let mut back = vec![0; length + 100];
            let from = offset.saturating_sub(50);
            let count = file.read_at(&mut back, from).expect("read");
            assert!(back[..count] == expected[from as usize..][..count], "round {round}");
            if round % 7 == 0 {
                file.sync_data().expect("synced");
            }
        }
        file.sync_data().expect("synced");
        let again = disk.open("f", OpenMode::Read).expect("there");
        let mut back = vec![0; expected.len()];
        again.read_exact_at(&mut back, 0).expect("read");
        assert!(back == expected);
        assert_eq!(again.length().expect("length"), 16 << 20);
        assert_eq!(disk.uncached.is_refused(), refuse);
    }

    #[test]
    fn what_goes_past_the_page_cache_reads_back() {
        check_uncached(false);
    }

    #[test]
    fn a_file_system_without_direct_writes_does_too() {
        check_uncached(true);
    }

    #[test]
    fn a_direct_write_goes_to_the_file_that_was_opened() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let disk = RealDisk::create(directory.path()).expect("created");
        let file = disk.open("f", OpenMode::CreateNew).expect("new");
        disk.rename("f", "g").expect("renamed");
        let other = disk.open("f", OpenMode::CreateNew).expect("another of that name");
        let bytes = vec![7; 200_000];
        file.write_uncached_at(&[IoSlice::new(&bytes)], 0).expect("written");
        disk.remove("g").expect("removed");
        file.write_uncached_at(&[IoSlice::new(&bytes)], 0).expect("still open");
        assert_eq!((file.length().ok(), other.length().ok()), (Some(200_000), Some(0)));
    }

    #[test]
    fn a_deleted_file_does_not_sync() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("disk");
        let disk = RealDisk::create(&path).expect("created");
        let file = disk.open("f", OpenMode::CreateNew).expect("new");
        file.sync_data().expect("synced");
        assert!(disk.is_present());
        fs::remove_dir_all(&path).expect("removed");
        assert_eq!(file.sync_data().expect_err("unlinked").kind(), io::ErrorKind::NotFound);
        assert!(!disk.is_present());
        fs::create_dir(&path).expect("another directory of that name");
        assert!(!disk.is_present());
    }
}
