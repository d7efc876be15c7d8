//! Who the disk is, and its run: two copies of 128 bytes in a file that is replaced as a whole.

use std::io::{self, IoSlice};

use model::ids::{ClusterId, DiskId, DiskUuid, Incarnation};
use model::time::Timestamp;
use twox_hash::XxHash3_64;
use wire::disk::{Disk, OpenMode};

use crate::options::DiskIdentity;

const NAME: &str = "superblock";
const NAME_NEXT: &str = "superblock.tmp";
const MAGIC: &[u8; 8] = b"DRYDISK\n";
const VERSION: u32 = 1;
const BYTES: usize = 128;
const COPIES_AT: [u64; 2] = [0, 4096];

/// A decoded superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Superblock {
    pub(crate) identity: DiskIdentity,
    pub(crate) incarnation: Incarnation,
    pub(crate) written: Timestamp,
}

/// Why there is no superblock to be had.
#[derive(Debug, thiserror::Error)]
pub enum SuperblockError {
    /// The device failed.
    #[error("the superblock can't be read or written: {0}")]
    Io(#[from] io::Error),
    /// Neither copy is sound.
    #[error("both copies of the superblock are damaged")]
    Damaged,
    /// Written by a newer release.
    #[error("superblock version {0} is newer than this release knows")]
    Version(u32),
}

impl Superblock {
    pub(crate) fn encode(&self) -> [u8; BYTES] {
        let mut out = [0u8; BYTES];
        out[..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[12..16].copy_from_slice(&self.identity.disk.0.to_le_bytes());
        out[16..32].copy_from_slice(&self.identity.cluster.0);
        out[32..48].copy_from_slice(&self.identity.uuid.0);
        out[48..56].copy_from_slice(&self.incarnation.0.to_le_bytes());
        out[56..64].copy_from_slice(&self.written.0.to_le_bytes());
        let checksum = XxHash3_64::oneshot(&out[..BYTES - 8]);
        out[BYTES - 8..].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// A sound copy, or the version of a newer one, or neither.
    fn decode(bytes: &[u8; BYTES]) -> Option<Result<Self, u32>> {
        let sound = XxHash3_64::oneshot(&bytes[..BYTES - 8]).to_le_bytes() == bytes[BYTES - 8..];
        let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let long = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        if &bytes[..8] != MAGIC || !sound {
            return None;
        }
        let version = word(8)?;
        if version != VERSION {
            return Some(Err(version));
        }
        let identity = DiskIdentity {
            disk: DiskId(word(12)?),
            cluster: ClusterId(bytes.get(16..32)?.try_into().ok()?),
            uuid: DiskUuid(bytes.get(32..48)?.try_into().ok()?),
        };
        let incarnation = Incarnation(long(48)?);
        Some(Ok(Self { identity, incarnation, written: Timestamp(long(56)?) }))
    }
}

/// Reads the superblock; `None` when there is no such file.
pub(crate) fn load(disk: &dyn Disk) -> Result<Option<Superblock>, SuperblockError> {
    let file = match disk.open(NAME, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut best: Option<Superblock> = None;
    for at in COPIES_AT {
        let mut bytes = [0u8; BYTES];
        let count = file.read_at(&mut bytes, at)?;
        match Superblock::decode(&bytes) {
            Some(Err(version)) if count == BYTES => return Err(SuperblockError::Version(version)),
            Some(Ok(found)) if best.is_none_or(|b| b.incarnation < found.incarnation) => {
                best = Some(found);
            }
            _ => {}
        }
    }
    best.map(Some).ok_or(SuperblockError::Damaged)
}

/// Replaces the superblock, durably: when this returns, the new one is what a crash leaves.
pub(crate) fn save(disk: &dyn Disk, superblock: &Superblock) -> Result<(), SuperblockError> {
    match disk.remove(NAME_NEXT) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let file = disk.open(NAME_NEXT, OpenMode::CreateNew)?;
    let bytes = superblock.encode();
    for at in COPIES_AT {
        file.write_at(&[IoSlice::new(&bytes)], at)?;
    }
    file.sync_data()?;
    disk.rename(NAME_NEXT, NAME)?;
    disk.sync_directory()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use wire::disk::SimulatedDisk;

    use super::*;

    fn example(incarnation: u64) -> Superblock {
        Superblock {
            identity: DiskIdentity {
                cluster: ClusterId([1; 16]),
                disk: DiskId(2),
                uuid: DiskUuid([3; 16]),
            },
            incarnation: Incarnation(incarnation),
            written: Timestamp(5),
        }
    }

    #[test]
    fn the_bytes_of_version_1_never_change() {
        let bytes = example(4).encode();
        let mut expected = Vec::from(*b"DRYDISK\n");
        expected.extend_from_slice(&[1, 0, 0, 0, 2, 0, 0, 0]);
        expected.extend_from_slice(&[1; 16]);
        expected.extend_from_slice(&[3; 16]);
        expected.extend_from_slice(&[4, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend_from_slice(&[0; 56]);
        assert_eq!(bytes[..120], expected[..]);
        assert_eq!(bytes[120..], [235, 115, 79, 147, 253, 49, 157, 7]);
    }

    #[test]
    fn one_damaged_copy_does_no_harm_and_two_are_told() {
        let disk = SimulatedDisk::new(1);
        assert!(matches!(load(&disk), Ok(None)));
        save(&disk, &example(4)).expect("saved");
        save(&disk, &example(5)).expect("saved again");
        assert_eq!(load(&disk).expect("readable"), Some(example(5)));
        disk.flip_bit(NAME, 20, 3).expect("flipped");
        assert_eq!(load(&disk).expect("readable"), Some(example(5)));
        disk.flip_bit(NAME, 4096 + 50, 3).expect("flipped");
        assert!(matches!(load(&disk), Err(SuperblockError::Damaged)));
    }
}
