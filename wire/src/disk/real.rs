//! Directories and files of the operating system.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut};
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate, fstatvfs};
use rustix::io::{Errno, ReadWriteFlags};

use super::{Disk, DiskFile, DiskSpace, OpenMode};

/// The kernel takes at most this many parts in one vectored write (IOV_MAX).
const PARTS_MAX: usize = 1024;

/// A directory of the operating system.
#[derive(Debug)]
pub struct RealDisk {
    path: PathBuf,
    directory: File,
}

impl RealDisk {
    /// Opens an existing directory.
    pub fn open(path: &Path) -> io::Result<Self> {
        let directory = File::open(path)?;
        if !directory.metadata()?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self { path: path.to_owned(), directory })
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
        Ok(Arc::new(RealFile { file: options.open(self.path.join(name))? }))
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
        fs::remove_file(self.path.join(name))
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

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()?;
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

    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        match fallocate(&self.file, FallocateFlags::empty(), offset, length) {
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
        assert!(disk.open("f", OpenMode::CreateNew).is_err());
        assert_eq!(disk.list().expect("list"), ["f"]);
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
