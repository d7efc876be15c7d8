//! Who a replica is: a small file, written when everything else of it is on the disk.

use std::io::{self, IoSlice};

use minicbor::{Decode, Encode};
use model::ids::{ClusterId, ReplicaId};
use twox_hash::XxHash3_64;
use wire::disk::{Disk, OpenMode};

use crate::state::new_file;

const FILE: &str = "identity";
const TEMPORARY: &str = "identity.tmp";
const MAGIC: [u8; 8] = *b"DRYREPL\x01";

/// A replica's identity.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Identity {
    /// Its cluster.
    #[n(0)]
    pub cluster: ClusterId,
    /// Its id, for ever.
    #[n(1)]
    pub replica: ReplicaId,
    /// The members that it is to begin the cluster with; empty for a replica that joins.
    #[n(2)]
    pub founders: Vec<ReplicaId>,
}

impl Identity {
    /// Reads the identity on `disk`; `None` when there is none. `InvalidData` when it is damaged.
    pub fn read(disk: &dyn Disk) -> io::Result<Option<Self>> {
        let file = match disk.open(FILE, OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = vec![0; file.length()? as usize];
        file.read_exact_at(&mut bytes, 0)?;
        let identity = Self::from_bytes(&bytes);
        identity.map(Some).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "the replica's identity is damaged")
        })
    }

    /// Writes the identity: synced, renamed, and the name synced.
    pub fn write(&self, disk: &dyn Disk) -> io::Result<()> {
        let file = new_file(disk, TEMPORARY)?;
        file.write_at(&[IoSlice::new(&self.to_bytes())], 0)?;
        file.sync_data()?;
        disk.rename(TEMPORARY, FILE)?;
        disk.sync_directory()
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        // Writing to a Vec can't fail.
        let _ = minicbor::encode(self, &mut bytes);
        let sum = XxHash3_64::oneshot(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (content, sum) = bytes.split_last_chunk::<8>()?;
        if XxHash3_64::oneshot(content) != u64::from_le_bytes(*sum) {
            return None;
        }
        minicbor::decode(content.strip_prefix(&MAGIC)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_pinned() {
        let identity = Identity {
            cluster: ClusterId([1; 16]),
            replica: ReplicaId(2),
            founders: vec![ReplicaId(1), ReplicaId(2)],
        };
        let bytes = identity.to_bytes();
        let mut expected = b"DRYREPL\x01\x83\x50".to_vec();
        expected.extend_from_slice(&[1; 16]);
        expected.extend_from_slice(&[2, 0x82, 1, 2]);
        assert_eq!(bytes[..bytes.len() - 8], expected);
        assert_eq!(Identity::from_bytes(&bytes), Some(identity));
    }
}
