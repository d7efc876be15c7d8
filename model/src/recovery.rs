//! What metadata that was put back from a backup, or rebuilt from the disks, doesn't know.
//!
//! Tables that are older than the disks know neither the extents that were written after them nor
//! whether those have owners. Their writer sessions are *held*: nothing of theirs counts as
//! ownerless, and so nothing is collected (I-9), until an operator releases them. Meanwhile objects
//! are adopted: made again from the owner records in the shards.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::checksum::StoredChecksum;
use crate::extent::Extent;
use crate::ids::{DiskId, ManifestId, ReplicaId, SessionId};
use crate::names::{BucketName, ObjectKey};
use crate::time::Timestamp;
use crate::version::{ETag, ObjectHeaders, Part};

/// What is held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Held {
    /// Sessions that were open when the backup was taken, ascending. They have ended since.
    #[n(0)]
    pub sessions: Vec<SessionId>,
    /// Sessions between what tables knew and what these begin with, ascending; the last range is
    /// that of the last restore.
    #[n(1)]
    pub ranges: Vec<SessionRange>,
    /// The time of the last command that the tables knew; 0 when they knew nothing.
    #[n(2)]
    pub since: Timestamp,
    /// The log index that the backup was taken at; 0 when there was none.
    #[n(3)]
    pub index: u64,
    /// Whether there was no backup: everything comes from the disks.
    #[n(4)]
    pub from_shards: bool,
    /// Whether `AdoptPgs` was carried out. Until then no placement group is added, unless writes
    /// could not go on.
    #[n(5)]
    pub has_pgs: bool,
    /// Disks with numbers up to this one may come back (`AdoptDisk`): a new disk gets a greater
    /// number.
    #[n(6)]
    pub disks: DiskId,
}

/// Sessions above one and up to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct SessionRange {
    /// The last session before the range.
    #[n(0)]
    pub above: SessionId,
    /// The last session of the range.
    #[n(1)]
    pub until: SessionId,
}

impl Held {
    /// Whether extents of this session are held.
    pub fn covers(&self, session: SessionId) -> bool {
        self.ranges.iter().any(|range| session > range.above && session <= range.until)
            || self.sessions.binary_search(&session).is_ok()
    }

    /// The last session that is held: names what is held.
    pub fn until(&self) -> SessionId {
        self.ranges.last().map(|range| range.until).unwrap_or_default()
    }
}

/// An object that the tables don't know, from the owner records of its shards.
///
/// Carried out only when each of its extents is unknown to the tables and of a held session (or, with
/// a recovery record, known to them and owned); its PG
/// is in the map with its coding; and the key has no version that is newer than `modified`, else
/// it is refused with `Superseded`. A version that is older is replaced. The bucket is made if it
/// isn't there. Proposing it again has the effect of once: it is known by its manifest. From feature
/// level 2 on, a key that has this very body in other extents, from before the tables were put back,
/// gets these: it was recoded since.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AdoptObject {
    /// The bucket.
    #[n(0)]
    pub bucket: BucketName,
    /// Whose the bucket is to be, if it isn't there.
    #[n(1)]
    pub owner: String,
    /// The key.
    #[n(2)]
    pub key: ObjectKey,
    /// The body's name, from the owner records: all extents of one body have the same.
    #[n(3)]
    pub manifest: ManifestId,
    /// Bytes; more than 0 where there is no record, as a body without bytes has no shards.
    #[n(4)]
    pub size: u64,
    /// Entity tag.
    #[n(5)]
    pub etag: ETag,
    /// Headers.
    #[n(6)]
    pub headers: ObjectHeaders,
    /// Checksum, if it is known.
    #[n(7)]
    pub checksum: Option<StoredChecksum>,
    /// The parts: one with number 0, or those of an upload, ascending by number from 1. Slots of
    /// which a shard is lost are `missing` in their extents and enter the repair queue; an extent
    /// that lacks more than its parity can't be adopted.
    #[n(8)]
    pub parts: Vec<Part>,
    /// What the version's time is to be: when the write began, as far as is known. A time in the
    /// future is taken for now.
    #[n(9)]
    pub modified: Timestamp,
    /// The extent of the recovery record that all this was read from. With one, an object may have no
    /// bytes, and its extents may be known already: then it shares them.
    #[n(10)]
    pub record: Option<Extent>,
}

/// A backup that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct BackupBegun {
    /// Where its pieces are to be read.
    #[n(0)]
    pub replica: ReplicaId,
    /// Its number at that replica.
    #[n(1)]
    pub id: u64,
    /// The log index that it covers.
    #[n(2)]
    pub index: u64,
}

/// A piece of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct BackupPiece {
    /// The bytes from the asked offset on; none when so much isn't written yet, or at the end.
    #[n(0)]
    pub bytes: ByteVec,
    /// Bytes of the whole backup, once that is known.
    #[n(1)]
    pub length: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(above: u64, until: u64) -> SessionRange {
        SessionRange { above: SessionId(above), until: SessionId(until) }
    }

    #[test]
    fn sessions_of_the_backup_and_of_the_gaps_are_held() {
        let held = Held {
            sessions: vec![SessionId(3), SessionId(7)],
            ranges: vec![range(9, 20), range(50, 100)],
            ..Held::default()
        };
        let asked = [0, 1, 3, 4, 7, 8, 9, 10, 20, 21, 50, 51, 100, 101, u64::MAX];
        let covered: Vec<u64> =
            asked.into_iter().filter(|id| held.covers(SessionId(*id))).collect();
        assert_eq!(covered, [3, 7, 10, 20, 51, 100]);
        assert_eq!(held.until(), SessionId(100));
    }

    #[test]
    fn the_form_of_what_is_held_is_pinned() {
        let held = Held {
            sessions: vec![SessionId(3)],
            ranges: vec![range(4, 5)],
            since: Timestamp(6),
            index: 7,
            from_shards: true,
            has_pgs: false,
            disks: DiskId(8),
        };
        let bytes = minicbor::to_vec(&held).expect("encoded");
        assert_eq!(bytes, [0x87, 0x81, 3, 0x81, 0x82, 4, 5, 6, 7, 0xf5, 0xf4, 8]);
        assert_eq!(minicbor::decode::<Held>(&bytes).expect("decoded"), held);
    }
}
