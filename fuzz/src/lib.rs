//! What the targets share: bytes as files and directories, and right checksums for wrong bytes.
//!
//! Arbitrary bytes fail their checksum and get no further. So every target tries its input twice:
//! as it is, and with the checksums put right, which leads to the code behind them.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use model::ids::{ClusterId, DiskId, DiskUuid};
use storage_node::DiskIdentity;
use twox_hash::XxHash3_64;
use wire::disk::{Disk, DiskFile, DiskSpace, OpenMode};

/// The disk that all inputs pretend to be of.
pub const IDENTITY: DiskIdentity =
    DiskIdentity { cluster: ClusterId([1; 16]), disk: DiskId(2), uuid: DiskUuid([3; 16]) };

/// The seed of a segment's record checksums, as FORMAT.md has it.
pub fn seal_seed(segment: u64) -> u64 {
    let mut bytes = [0; 40];
    bytes[..16].copy_from_slice(&IDENTITY.cluster.0);
    bytes[16..32].copy_from_slice(&IDENTITY.uuid.0);
    bytes[32..].copy_from_slice(&segment.to_le_bytes());
    XxHash3_64::oneshot(&bytes)
}

/// Puts the checksum of `bytes[..at]` at `at`, where there is room for it.
pub fn set_checksum(bytes: &mut [u8], at: usize, seed: u64) {
    if bytes.len() >= at + 8 {
        let checksum = XxHash3_64::oneshot_with_seed(seed, &bytes[..at]);
        bytes[at..at + 8].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// Bytes as a file that can only be read.
pub struct Bytes(pub Vec<u8>);

impl DiskFile for Bytes {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|from| self.0.get(from..));
        let rest = rest.unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.read_at(buffer, offset).map(Some)
    }

    fn write_at(&self, _: &[IoSlice<'_>], _: u64) -> io::Result<()> {
        panic!("a reader writes")
    }

    fn sync_data(&self) -> io::Result<()> {
        panic!("a reader syncs")
    }

    fn forget_cached(&self, _: u64, _: u64) {}

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn set_length(&self, _: u64) -> io::Result<()> {
        panic!("a reader changes a length")
    }

    fn allocate(&self, _: u64, _: u64) -> io::Result<()> {
        panic!("a reader allocates")
    }
}

/// Files as a directory that can only be read.
pub struct Files(pub Vec<(String, Arc<Bytes>)>);

impl Files {
    /// One with these files.
    pub fn new(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let mut files: Vec<(String, Arc<Bytes>)> =
            files.into_iter().map(|(name, bytes)| (name, Arc::new(Bytes(bytes)))).collect();
        files.sort_by(|a, b| a.0.cmp(&b.0));
        Self(files)
    }
}

impl Disk for Files {
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        assert_eq!(mode, OpenMode::Read, "a reader opens a file for writing");
        let found = self.0.iter().find(|(known, _)| known == name);
        let (_, file) = found.ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::clone(file) as _)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.iter().map(|(name, _)| name.clone()).collect())
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        panic!("a reader removes")
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        panic!("a reader renames")
    }

    fn sync_directory(&self) -> io::Result<()> {
        panic!("a reader syncs")
    }

    fn subdirectory(&self, _: &str) -> io::Result<Arc<dyn Disk>> {
        panic!("a reader may make a directory")
    }

    fn space(&self) -> io::Result<DiskSpace> {
        Ok(DiskSpace::default())
    }

    fn is_present(&self) -> bool {
        true
    }

    fn path(&self) -> &Path {
        Path::new("fuzz")
    }
}
