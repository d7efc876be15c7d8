//! Whether a newer release wrote a replica: looked at before anything of it is opened.
//!
//! A structure of a newer version can't be read, and taking it for a damaged one would have the
//! replica wiped and replaced. So each magic's last byte is its version, in every version, and a
//! header that is sound but for an unknown version says *newer*, not *damaged*. The version of the
//! identity is that of the tables too: `state.redb` has none that could be read without opening it.

use std::io;

use twox_hash::XxHash3_64;
use wire::disk::{Disk, OpenMode};

/// The version of every structure that this release writes.
const VERSION: u8 = 1;

/// Files smaller than this are read whole; of others the head says it all.
const HEAD_BYTES: usize = 2 << 20;

/// A structure of a newer format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newer {
    /// The file.
    pub file: String,
    /// Its version.
    pub version: u8,
}

/// What makes a head sound, whatever its version.
#[derive(Clone, Copy)]
enum Proof {
    /// The checksum of all before it ends the file.
    AtEnd,
    /// The checksum of the 56 bytes before lies at 56.
    At56,
    /// The first chunk behind the 16 bytes of the header verifies.
    FirstChunk,
}

/// Looks at the heads of a replica's files. Nothing is written, and damage is none of its business.
pub fn find_newer(replica: &dyn Disk, log: &dyn Disk) -> io::Result<Option<Newer>> {
    let own = [("identity", b"DRYREPL", Proof::AtEnd), ("snapshot", b"DRYSNAP", Proof::FirstChunk)];
    for (file, magic, proof) in own {
        if let Some(version) = newer_version(replica, file, *magic, proof)? {
            return Ok(Some(Newer { file: file.to_owned(), version }));
        }
    }
    for name in log.list()? {
        let version = match name.as_str() {
            "hard-state" => newer_version(log, &name, *b"DRYVOTE", Proof::AtEnd)?,
            segment if segment.strip_suffix(".log").is_some() => {
                newer_version(log, segment, *b"DRYRLOG", Proof::At56)?
            }
            _ => None,
        };
        if let Some(version) = version {
            return Ok(Some(Newer { file: name, version }));
        }
    }
    Ok(None)
}

fn newer_version(
    disk: &dyn Disk,
    name: &str,
    magic: [u8; 7],
    proof: Proof,
) -> io::Result<Option<u8>> {
    let file = match disk.open(name, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut head = [0u8; 8];
    if file.read_at(&mut head, 0)? < head.len() || head[..7] != magic || head[7] == VERSION {
        return Ok(None);
    }
    let mut bytes = vec![0; file.length()?.min(HEAD_BYTES as u64) as usize];
    let count = file.read_at(&mut bytes, 0)?;
    bytes.truncate(count);
    Ok(is_sound(&bytes, proof).unwrap_or(false).then_some(head[7]))
}

fn is_sound(bytes: &[u8], proof: Proof) -> Option<bool> {
    let (content, sum, seed) = match proof {
        Proof::AtEnd => {
            let (content, sum) = bytes.split_last_chunk::<8>()?;
            (content, *sum, 0)
        }
        Proof::At56 => (bytes.get(..56)?, *bytes.get(56..)?.first_chunk::<8>()?, 0),
        Proof::FirstChunk => {
            let length = u32::from_le_bytes(*bytes.get(16..)?.first_chunk()?) as usize;
            let content = bytes.get(32..)?.get(..length)?;
            (content, *bytes.get(24..)?.first_chunk::<8>()?, 0)
        }
    };
    Some(XxHash3_64::oneshot_with_seed(seed, content) == u64::from_le_bytes(sum))
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use wire::disk::SimulatedDisk;

    use super::*;

    fn sum(bytes: &[u8]) -> [u8; 8] {
        XxHash3_64::oneshot(bytes).to_le_bytes()
    }

    fn at_end(head: &[u8]) -> Vec<u8> {
        [head, b"content", &sum(&[head, b"content"].concat())].concat()
    }

    /// What is found when `name` holds `bytes`, and when a bit of its version has rotted.
    fn check(name: &str, bytes: &[u8], expected: Option<u8>) {
        for rotten in [false, true] {
            let mut bytes = bytes.to_vec();
            if rotten {
                bytes[7] ^= 0x40;
            }
            let disk = SimulatedDisk::new(1);
            let log = disk.subdirectory("raft-log").expect("made");
            let place: &dyn Disk =
                if matches!(name, "identity" | "snapshot") { &disk } else { &*log };
            let file = place.open(name, OpenMode::CreateNew).expect("new");
            file.write_at(&[IoSlice::new(&bytes)], 0).expect("written");
            let found = find_newer(&disk, &*log).expect("readable");
            let expected = expected.filter(|_| !rotten || name == "snapshot");
            assert_eq!(
                found.map(|newer| newer.version),
                expected.map(|version| if rotten { version ^ 0x40 } else { version }),
                "{name}, rotten: {rotten}"
            );
        }
    }

    #[test]
    fn a_newer_version_is_told_from_rot() {
        check("identity", &at_end(b"DRYREPL\x02"), Some(2));
        check("hard-state", &at_end(b"DRYVOTE\x03"), Some(3));
        let mut segment = [&b"DRYRLOG\x02"[..], &[7; 48]].concat();
        segment.extend_from_slice(&sum(&segment.clone()));
        segment.resize(4096, 0);
        check("0000000000000001.log", &segment, Some(2));
    }

    #[test]
    fn a_snapshot_of_a_newer_version_has_a_sound_first_chunk() {
        let mut bytes = b"DRYSNAP\x02\0\0\0\0\0\0\0\0".to_vec();
        bytes.extend_from_slice(&[4, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(&sum(b"rows"));
        bytes.extend_from_slice(b"rows");
        check("snapshot", &bytes, Some(2));
        let disk = SimulatedDisk::new(1);
        bytes[33] ^= 1;
        let file = disk.open("snapshot", OpenMode::CreateNew).expect("new");
        file.write_at(&[IoSlice::new(&bytes)], 0).expect("written");
        assert_eq!(find_newer(&disk, &SimulatedDisk::new(2)).expect("readable"), None);
    }

    #[test]
    fn what_this_release_writes_is_not_newer() {
        let identity = at_end(b"DRYREPL\x01");
        let disk = SimulatedDisk::new(1);
        let file = disk.open("identity", OpenMode::CreateNew).expect("new");
        file.write_at(&[IoSlice::new(&identity)], 0).expect("written");
        assert_eq!(find_newer(&disk, &SimulatedDisk::new(2)).expect("readable"), None);
    }
}
