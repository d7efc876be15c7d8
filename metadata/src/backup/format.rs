//! The form of a backup: a header that says what it is, and a snapshot behind it. See FORMAT.md.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use minicbor::{Decode, Encode};
use model::ids::{ClusterId, ReplicaId};
use model::node::FEATURE_LEVEL;
use model::time::Timestamp;
use twox_hash::XxHash3_64;
use wire::disk::{Disk, DiskFile, OpenMode, RealDisk};

use crate::state::{StateError, snapshot};
use crate::tables::{Digests, TableId};

const NAME: [u8; 7] = *b"DRYBACK";
const VERSION: u8 = 1;

/// Bytes of the header's CBOR: a version that needs more is a newer one, or damage.
const HEADER_BYTES_MAX: u32 = 64 * 1024;

/// Bytes before the header's CBOR: name, version, length.
const PREFIX_BYTES: usize = 12;

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct BackupHeader {
    /// Whose metadata it is.
    #[n(0)]
    pub cluster: ClusterId,
    /// The log index of the last entry that it covers.
    #[n(1)]
    pub index: u64,
    /// When it was begun.
    #[n(2)]
    pub time: Timestamp,
    /// The release that took it.
    #[n(3)]
    pub release: String,
    /// That release's feature level.
    #[n(4)]
    pub level: u32,
    /// The replica that took it.
    #[n(5)]
    pub replica: ReplicaId,
}

/// Why a file can't be used as a backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It is something else.
    #[error("the file is not a backup of Drystone's metadata")]
    NotABackup,
    /// A newer release took it.
    #[error(
        "the backup has format version {version} (feature level {level}), which is newer than this release knows; use a newer Drystone"
    )]
    Newer {
        /// The version of its format.
        version: u8,
        /// The feature level of the release that took it; 0 when that can't be told.
        level: u32,
    },
    /// It isn't what was written, or not all of it.
    #[error("the backup is damaged: {0}")]
    Damaged(String),
    /// It can't be read.
    #[error("the backup can't be read: {0}")]
    Io(#[source] io::Error),
}

impl From<StateError> for BackupError {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Io(error) => error.into(),
            StateError::Damaged(reason) => Self::Damaged(reason),
            other @ (StateError::Database(_) | StateError::Fenced) => {
                Self::Damaged(other.to_string())
            }
        }
    }
}

impl From<io::Error> for BackupError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            Self::Damaged("it ends too early".to_owned())
        } else {
            Self::Io(error)
        }
    }
}

/// What a verified backup holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupContents {
    /// What it says of itself.
    pub header: BackupHeader,
    /// Bytes of the file.
    pub length: u64,
    /// Rows and digest of each table.
    pub digests: Digests,
}

impl BackupContents {
    /// The tables' names with their rows.
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, u64)> {
        TableId::ALL.into_iter().map(|table| (table.name(), self.digests.0[table as usize].rows))
    }
}

/// A backup, open for reading.
pub struct BackupFile {
    file: Arc<dyn DiskFile>,
    header: BackupHeader,
    /// Where the snapshot begins.
    base: u64,
}

impl BackupFile {
    /// Opens the backup at `path`.
    pub fn open_path(path: &Path) -> Result<Self, BackupError> {
        let absolute = std::path::absolute(path)?;
        let not_found = || BackupError::Io(io::ErrorKind::NotFound.into());
        let directory = absolute.parent().ok_or_else(not_found)?;
        let name = absolute.file_name().and_then(|name| name.to_str()).ok_or_else(not_found)?;
        Self::open(RealDisk::open(directory)?.open(name, OpenMode::Read)?)
    }

    /// Opens the backup in `file`: reads and verifies its header.
    pub fn open(file: Arc<dyn DiskFile>) -> Result<Self, BackupError> {
        let mut prefix = [0; PREFIX_BYTES];
        let is_named = file.read_at(&mut prefix, 0)? == PREFIX_BYTES && prefix[..7] == NAME;
        if !is_named {
            return Err(BackupError::NotABackup);
        }
        let version = prefix[7];
        let length = u32::from_le_bytes([prefix[8], prefix[9], prefix[10], prefix[11]]);
        if length > HEADER_BYTES_MAX {
            return Err(BackupError::Damaged("its header is too long".to_owned()));
        }
        let mut bytes = vec![0; PREFIX_BYTES + length as usize + 8];
        file.read_exact_at(&mut bytes, 0)?;
        let base = bytes.len() as u64;
        let damaged = || BackupError::Damaged("its header fails its checksum".to_owned());
        let (content, sum) = bytes.split_last_chunk::<8>().ok_or_else(damaged)?;
        if XxHash3_64::oneshot(content) != u64::from_le_bytes(*sum) {
            return Err(damaged());
        }
        // Version and checksum stay where they are in every version: this one is sound, and newer.
        if version != VERSION {
            return Err(BackupError::Newer { version, level: 0 });
        }
        let header = content.get(PREFIX_BYTES..).unwrap_or_default();
        let header: BackupHeader = minicbor::decode(header)
            .map_err(|_| BackupError::Damaged("its header can't be read".to_owned()))?;
        if header.level > FEATURE_LEVEL {
            return Err(BackupError::Newer { version, level: header.level });
        }
        Ok(Self { file, header, base })
    }

    /// What it says of itself.
    pub fn header(&self) -> &BackupHeader {
        &self.header
    }

    /// Bytes of the file.
    pub fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    /// Reads and verifies all of it: every byte, every row, and that nothing lies behind the end.
    /// `progress` is told the bytes that were read.
    pub fn check(&self, progress: &dyn Fn(u64)) -> Result<BackupContents, BackupError> {
        let contents = snapshot::check(&*self.file, self.base, progress)?;
        let length = self.file.length()?;
        if length != contents.end {
            return Err(BackupError::Damaged("something lies behind its end".to_owned()));
        }
        if contents.applied.last.map_or(0, |last| last.index) != self.header.index {
            return Err(BackupError::Damaged("it covers another index than it says".to_owned()));
        }
        Ok(BackupContents { header: self.header.clone(), length, digests: contents.digests })
    }

    /// Makes a durable database in the file `name` with the rows of the backup.
    pub(super) fn restore_rows(
        &self,
        disk: &dyn Disk,
        name: &str,
    ) -> Result<redb::Database, StateError> {
        snapshot::restore(&*self.file, self.base, disk, name).map(|attached| attached.database)
    }
}

/// Writes the header at the beginning of `file`; gives its end.
pub(crate) fn write_header(file: &dyn DiskFile, header: &BackupHeader) -> io::Result<u64> {
    let mut encoded = Vec::new();
    // Writing to a Vec can't fail.
    let _ = minicbor::encode(header, &mut encoded);
    let mut bytes = NAME.to_vec();
    bytes.push(VERSION);
    bytes.extend_from_slice(&(encoded.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&encoded);
    let sum = XxHash3_64::oneshot(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    file.write_at(&[IoSlice::new(&bytes)], 0)?;
    Ok(bytes.len() as u64)
}

#[cfg(test)]
mod tests {
    use wire::disk::{Disk, SimulatedDisk};

    use super::*;

    #[test]
    fn the_form_of_the_header_is_pinned() {
        let disk = SimulatedDisk::new(1);
        let file = disk.open("backup", OpenMode::CreateNew).expect("made");
        let header = BackupHeader {
            cluster: ClusterId([1; 16]),
            index: 2,
            time: Timestamp(3),
            release: "0.1".to_owned(),
            level: 1,
            replica: ReplicaId(5),
        };
        let end = write_header(&*file, &header).expect("written");
        let bytes = file.read_new_at(1000, 0).expect("read");
        assert_eq!(bytes.len() as u64, end);
        let mut expected = b"DRYBACK\x01\x1a\0\0\0\x86\x50".to_vec();
        expected.extend_from_slice(&[1; 16]);
        expected.extend_from_slice(b"\x02\x03\x630.1\x01\x05");
        assert_eq!(bytes[..bytes.len() - 8], expected);
        assert_eq!(*BackupFile::open(Arc::clone(&file)).expect("sound").header(), header);
        // A newer one that is sound is told by its version; one that isn't is damaged.
        let mut newer = expected;
        newer[7] = 2;
        let flipped = newer.clone();
        newer.extend_from_slice(&XxHash3_64::oneshot(&newer).to_le_bytes());
        file.write_at(&[IoSlice::new(&newer)], 0).expect("written");
        let found = BackupFile::open(Arc::clone(&file)).map(drop);
        assert!(matches!(found, Err(BackupError::Newer { version: 2, level: 0 })), "{found:?}");
        file.write_at(&[IoSlice::new(&flipped), IoSlice::new(&bytes[bytes.len() - 8..])], 0)
            .expect("written");
        let found = BackupFile::open(Arc::clone(&file)).map(drop);
        assert!(matches!(found, Err(BackupError::Damaged(_))), "{found:?}");
        let ahead = BackupHeader { level: FEATURE_LEVEL + 1, ..header };
        write_header(&*file, &ahead).expect("written");
        let found = BackupFile::open(file).map(drop);
        assert!(matches!(found, Err(BackupError::Newer { version: 1, level }) if level > 1));
    }
}
