//! A directory of segments: whose it is, and what lies in it.
//!
//! Everything about it that can be refused is refused here: no shards at all, a newer format,
//! another disk's segments.

use std::io;
use std::sync::Arc;

use model::ids::Incarnation;
use model::time::Timestamp;
use wire::disk::{Disk, OpenMode};

use crate::index::INDEX_NAME;
use crate::options::DiskIdentity;
use crate::segment::{
    HeaderError, Patient, SEGMENT_HEADER_BYTES, SegmentHeader, segment_name, segment_number,
};
use crate::store::{SuperblockError, load_superblock};

/// Why nothing can be told of a directory.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// There is neither a superblock nor a segment.
    #[error("{0} is no directory of shards: it has neither a superblock nor segments")]
    NotShards(String),
    /// The device failed in a way that leaves nothing to go on with.
    #[error("{0} can't be read: {1}")]
    Io(String, io::Error),
    /// A newer release wrote the superblock.
    #[error("superblock version {0} is newer than this release knows; use a newer Drystone")]
    SuperblockVersion(u32),
    /// A newer release wrote a segment.
    #[error(
        "segment file {0}: format version {1} is newer than this release knows; use a newer Drystone"
    )]
    SegmentVersion(String, u32),
    /// A newer release wrote records.
    #[error("segment file {0}: {1}; use a newer Drystone")]
    RecordVersion(String, io::Error),
    /// Neither the superblock nor any segment says whose the directory is.
    #[error(
        "neither the superblock nor the head of any segment is sound: nothing tells whose it is"
    )]
    Nameless,
    /// A segment is of another disk, or was renamed.
    #[error(
        "segment file {name} is of disk {} ({}) of cluster {}, number {number}, and doesn't belong here: this is disk {} ({}) of cluster {}",
        found.disk, found.uuid, found.cluster, expected.disk, expected.uuid, expected.cluster
    )]
    Foreign {
        /// The file.
        name: String,
        /// The number in its header.
        number: u64,
        /// Whose it is.
        found: DiskIdentity,
        /// Whose the directory is.
        expected: DiskIdentity,
    },
}

/// What became of the superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuperblockState {
    /// It is sound.
    Sound {
        /// The disk's last run.
        incarnation: Incarnation,
        /// When that began.
        written: Timestamp,
    },
    /// Both copies are damaged; the identity is that of the segments.
    Damaged,
    /// It isn't there; the identity is that of the segments.
    Missing,
}

/// A segment's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentFile {
    /// Its number.
    pub number: u64,
    /// Its length.
    pub bytes: u64,
    /// Its header; `None` when that is damaged.
    pub header: Option<SegmentHeader>,
}

/// A directory of shards, looked at.
pub struct ShardsDirectory {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) identity: DiskIdentity,
    superblock: SuperblockState,
    segments: Vec<SegmentFile>,
    has_index: bool,
}

impl ShardsDirectory {
    /// Looks at the directory that `disk` is.
    pub fn open(disk: Arc<dyn Disk>) -> Result<Self, OfflineError> {
        let place = disk.path().display().to_string();
        let names = disk.list().map_err(|error| OfflineError::Io(place.clone(), error))?;
        let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment_number(name)).collect();
        numbers.sort_unstable();
        let (superblock, named) = match load_superblock(&*disk) {
            Ok(Some(found)) => {
                let (incarnation, written) = (found.incarnation, found.written);
                (SuperblockState::Sound { incarnation, written }, Some(found.identity))
            }
            Ok(None) if numbers.is_empty() => return Err(OfflineError::NotShards(place)),
            Ok(None) => (SuperblockState::Missing, None),
            Err(SuperblockError::Version(version)) => {
                return Err(OfflineError::SuperblockVersion(version));
            }
            Err(SuperblockError::Damaged | SuperblockError::Io(_)) => {
                (SuperblockState::Damaged, None)
            }
        };
        let mut segments = Vec::with_capacity(numbers.len());
        for number in numbers {
            segments.push(look_at(&*disk, number)?);
        }
        let of_segments = || segments.iter().find_map(|s| s.header).map(|head| head.identity);
        let identity = named.or_else(of_segments).ok_or(OfflineError::Nameless)?;
        for (segment, header) in segments.iter().filter_map(|s| Some((s, s.header?))) {
            if header.identity != identity || header.segment != segment.number {
                return Err(OfflineError::Foreign {
                    name: segment_name(segment.number),
                    number: header.segment,
                    found: header.identity,
                    expected: identity,
                });
            }
        }
        let has_index = names.iter().any(|name| name == INDEX_NAME);
        Ok(Self { disk, identity, superblock, segments, has_index })
    }

    /// Whose it is.
    pub fn identity(&self) -> DiskIdentity {
        self.identity
    }

    /// What became of the superblock.
    pub fn superblock(&self) -> SuperblockState {
        self.superblock
    }

    /// Its segments, in the order of the log.
    pub fn segments(&self) -> &[SegmentFile] {
        &self.segments
    }

    /// Whether there is an index.
    pub fn has_index(&self) -> bool {
        self.has_index
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// A segment's content; what can't be read is zero there, and told of.
    pub(super) fn content(&self, segment: &SegmentFile) -> Result<Arc<Patient>, OfflineError> {
        let name = segment_name(segment.number);
        let file = self.disk.open(&name, OpenMode::Read);
        let file = file.map_err(|error| OfflineError::Io(name, error))?;
        Ok(Arc::new(Patient::tireless(file, segment.bytes)))
    }
}

fn look_at(disk: &dyn Disk, number: u64) -> Result<SegmentFile, OfflineError> {
    let name = segment_name(number);
    let failed = |error| OfflineError::Io(segment_name(number), error);
    let file = disk.open(&name, OpenMode::Read).map_err(failed)?;
    let bytes = file.length().map_err(failed)?;
    let mut head = [0u8; SEGMENT_HEADER_BYTES as usize];
    // A head that can't be read is a damaged one.
    let count = file.read_at(&mut head, 0).unwrap_or(0);
    let header = match SegmentHeader::decode(&head[..count]) {
        Ok(header) => Some(header),
        Err(HeaderError::Damaged) => None,
        Err(HeaderError::Version(version)) => {
            return Err(OfflineError::SegmentVersion(name, version));
        }
    };
    Ok(SegmentFile { number, bytes, header })
}
