//! Reading a range of a shard: find it, fetch header, checksums and blocks, verify all of it.
//!
//! In goes a [`ShardRead`], out come whole verified 64 KiB blocks. What can't be verified is
//! `Corrupt`, never bytes. A record that fails is read a second time, from the device and not
//! from the page cache, before it is called damaged: a flip in memory or on the way looks the
//! same as rot, and is none.

use std::io;

use bytes::Bytes;
use model::checksum::blocks_verify;
use model::ids::ShardId;
use model::limits::BLOCK_BYTES;
use model::shard::{ShardBlocks, ShardError, ShardRead};
use wire::disk::DiskFile;

use super::health::is_shortage;
use super::shared::Shared;
use crate::index::Location;
use crate::lock::lock;
use crate::segment::{Kind, RECORD_HEADER_BYTES, RecordHeader, Seal, distrust};
use crate::switches::Bug;

/// Reads of so much are announced: asked for as a whole, the kernel takes them in fewer and larger
/// pieces than its reading ahead does (0.2 against 0.8 CPU-seconds a GiB when a scrub did so).
const LARGE_READ_BYTES: usize = 256 << 10;

/// Whether a read may wait for the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Only what the page cache holds: for async threads.
    Cached,
    /// Whatever it takes.
    Device,
}

/// Why a record gave no blocks.
pub(super) enum Fault {
    /// It would have had to wait.
    Waits,
    /// The device failed.
    Io(io::Error),
    /// What lies there isn't the record, or isn't sound.
    Damaged,
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // A file that is short, or not there at all, has lost what it held.
            io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound => Self::Damaged,
            _ => Self::Io(error),
        }
    }
}

/// A range in whole blocks.
struct Span {
    first_block: u32,
    start: usize,
    end: usize,
}

impl Shared {
    /// Reads and verifies; `None` when the access is [`Access::Cached`] and the bytes aren't.
    pub(crate) fn read_shard(
        &self,
        read: &ShardRead,
        access: Access,
    ) -> Result<Option<ShardBlocks>, ShardError> {
        self.health.check_read()?;
        let mut location = self.locate(read)?;
        let mut is_second = false;
        loop {
            let span = span_of(read, location.payload_bytes)?;
            match self.read_record(read, &location, &span, access) {
                Ok(blocks) => {
                    if access == Access::Device {
                        self.health.read_succeeded();
                    }
                    if is_second {
                        self.was_a_flip(read.id, &location);
                    }
                    self.meter.reads.increment(1);
                    self.meter.read_bytes.increment(blocks.payload.len() as u64);
                    return Ok(Some(blocks));
                }
                Err(Fault::Waits) => return Ok(None),
                // Whatever is wrong, it is found out where a read may wait.
                Err(_) if access == Access::Cached => return Ok(None),
                Err(fault) => {
                    // The record may have moved while it was read; then its old place proves nothing.
                    let now = self.locate(read)?;
                    if now == location && is_second {
                        return Err(self.unreadable(read.id, &location, &fault));
                    }
                    if now == location {
                        self.distrust_record(&location);
                    }
                    is_second = now == location;
                    location = now;
                }
            }
        }
    }

    fn locate(&self, read: &ShardRead) -> Result<Location, ShardError> {
        match self.index.get(read.id) {
            Ok(Some(location)) => Ok(location),
            Ok(None) => Err(ShardError::NotFound(self.identity.disk, read.id)),
            Err(error) => Err(self.index_failed(&error)),
        }
    }

    /// Has the record read from the device the next time.
    pub(super) fn forget_record(&self, location: &Location) {
        if let Ok(file) = self.files.get(location.segment) {
            file.forget_cached(u64::from(location.offset), u64::from(location.record_bytes));
        }
    }

    /// Has the next read of a record that failed ask the device.
    pub(super) fn distrust_record(&self, location: &Location) {
        if let Ok(file) = self.files.get(location.segment) {
            distrust(&*file, u64::from(location.offset), u64::from(location.record_bytes));
        }
    }

    /// A record failed, and was sound when it was read again.
    pub(crate) fn was_a_flip(&self, id: ShardId, location: &Location) {
        self.meter.failure("flip");
        tracing::warn!(
            disk = %self.identity.disk, shard = %id, segment = location.segment,
            offset = location.offset, "what was read was damaged, and read again it was not"
        );
    }

    /// Books what was found twice, of a shard that still lives there, and gives the answer.
    pub(super) fn unreadable(&self, id: ShardId, location: &Location, fault: &Fault) -> ShardError {
        let disk = self.identity.disk;
        match fault {
            Fault::Io(error) if is_shortage(error) => {
                tracing::warn!(%disk, shard = %id, %error, "a read failed");
                return ShardError::Overloaded(disk);
            }
            Fault::Io(error) => {
                self.meter.failure("read");
                tracing::warn!(%disk, shard = %id, %error, "a read failed");
                let offset = u64::from(location.offset);
                if !self.health.read_failed(location.segment, offset, error) {
                    return ShardError::Failed(disk);
                }
                // The device may recover, and a repair finds out: but it is told of.
                self.live_damaged(id, location);
            }
            Fault::Damaged | Fault::Waits => self.live_damaged(id, location),
        }
        ShardError::Corrupt(disk, id)
    }

    fn read_record(
        &self,
        read: &ShardRead,
        location: &Location,
        span: &Span,
        access: Access,
    ) -> Result<ShardBlocks, Fault> {
        let file = self.files.get(location.segment)?;
        let seal = Seal::new(&self.identity, location.segment);
        let offset = u64::from(location.offset);
        let stored = location.payload_bytes.next_multiple_of(8);
        let prefix_bytes =
            location.record_bytes.checked_sub(stored).ok_or(Fault::Damaged)? as usize;
        if prefix_bytes < RECORD_HEADER_BYTES {
            return Err(Fault::Damaged);
        }
        // From the first block on, one read takes the prefix with the payload.
        let (prefix, payload) = if span.first_block == 0 {
            let mut whole = Bytes::from(fetch(&*file, prefix_bytes + span.end, offset, access)?);
            let prefix = whole.split_to(prefix_bytes);
            (prefix, whole)
        } else {
            let prefix = Bytes::from(fetch(&*file, prefix_bytes, offset, access)?);
            let at = offset + (prefix_bytes + span.start) as u64;
            (prefix, Bytes::from(fetch(&*file, span.end - span.start, at, access)?))
        };
        let header = RecordHeader::decode(seal, &prefix).ok_or(Fault::Damaged)?;
        let is_it = header.kind == Kind::Shard
            && header.id == read.id
            && header.payload_bytes == location.payload_bytes
            && header.payload_at() == prefix_bytes;
        if !is_it {
            return Err(Fault::Damaged);
        }
        let all = header.checksums(seal, &prefix[RECORD_HEADER_BYTES..]).ok_or(Fault::Damaged)?;
        let first = span.first_block as usize;
        let blocks = payload.len().div_ceil(BLOCK_BYTES as usize);
        let checksums = all.get(first..first + blocks).ok_or(Fault::Damaged)?.to_vec();
        if !self.options.breaks(Bug::ChecksumNotVerified)
            && !blocks_verify(read.id, span.first_block, &payload, &checksums)
        {
            return Err(Fault::Damaged);
        }
        let shard_bytes = header.payload_bytes;
        // Within the prefix, whose layout the checksums' decoding has verified.
        let owner_end = RECORD_HEADER_BYTES + usize::from(header.owner_bytes);
        let owner = prefix.slice(RECORD_HEADER_BYTES..owner_end.min(prefix.len()));
        let (first_block, stripe_bytes) = (span.first_block, header.stripe_bytes);
        let coding = header.coding.ok_or(Fault::Damaged)?;
        Ok(ShardBlocks {
            first_block,
            payload,
            checksums,
            shard_bytes,
            owner,
            coding,
            stripe_bytes,
        })
    }

    /// The whole record at `location`, verified: its header and block checksums. `None` when it
    /// isn't sound or can't be read, also the second time.
    pub(crate) fn sound_record(&self, location: &Location) -> Option<(RecordHeader, Vec<u64>)> {
        let some_are_damaged = lock(&self.ledger).damaged_shard_count() > 0;
        if some_are_damaged {
            self.forget_record(location);
        }
        let mut sound = self.whole_record(location).ok();
        if sound.is_none() {
            self.distrust_record(location);
            sound = self.whole_record(location).ok();
            if let Some((header, _)) = &sound {
                self.was_a_flip(header.id, location);
            }
        }
        let (header, checksums) = sound?;
        if some_are_damaged {
            // The device gave it after all: it needs no repair any more.
            lock(&self.ledger).shard_sound(header.id, location);
        }
        Some((header, checksums))
    }

    /// The same, read once.
    pub(super) fn whole_record(
        &self,
        location: &Location,
    ) -> Result<(RecordHeader, Vec<u64>), Fault> {
        let file = self.files.get(location.segment)?;
        let seal = Seal::new(&self.identity, location.segment);
        let (bytes, at) = (location.record_bytes as usize, u64::from(location.offset));
        let bytes = fetch(&*file, bytes, at, Access::Device)?;
        self.health.read_succeeded();
        verified(seal, location, &bytes).ok_or(Fault::Damaged)
    }
}

/// Header and block checksums out of a whole record, when all of it is sound.
fn verified(seal: Seal, location: &Location, bytes: &[u8]) -> Option<(RecordHeader, Vec<u64>)> {
    let header = RecordHeader::decode(seal, bytes)?;
    if header.record_bytes() != u64::from(location.record_bytes) {
        return None;
    }
    let body = bytes.get(RECORD_HEADER_BYTES..header.payload_at())?;
    let checksums = header.checksums(seal, body)?;
    let end = header.payload_at() + header.payload_bytes as usize;
    let payload = bytes.get(header.payload_at()..end)?;
    blocks_verify(header.id, 0, payload, &checksums).then_some((header, checksums))
}

/// The whole blocks that hold the range.
fn span_of(read: &ShardRead, shard_bytes: u32) -> Result<Span, ShardError> {
    let end = u64::from(read.offset) + u64::from(read.length);
    if read.length == 0 || end > u64::from(shard_bytes) {
        return Err(ShardError::Invalid("the range does not lie within the shard".into()));
    }
    let first_block = read.offset / BLOCK_BYTES;
    Ok(Span {
        first_block,
        start: first_block as usize * BLOCK_BYTES as usize,
        end: end.next_multiple_of(u64::from(BLOCK_BYTES)).min(u64::from(shard_bytes)) as usize,
    })
}

fn fetch(file: &dyn DiskFile, bytes: usize, at: u64, access: Access) -> Result<Vec<u8>, Fault> {
    match access {
        Access::Device => {
            if bytes >= LARGE_READ_BYTES {
                file.will_read(at, bytes as u64);
            }
            let buffer = file.read_new_at(bytes, at)?;
            if buffer.len() < bytes { Err(Fault::Damaged) } else { Ok(buffer) }
        }
        Access::Cached => {
            let mut buffer = vec![0u8; bytes];
            match file.read_cached_at(&mut buffer, at)? {
                None => Err(Fault::Waits),
                Some(count) if count < bytes => Err(Fault::Damaged),
                Some(_) => Ok(buffer),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_rounded_to_blocks() {
        let check = |offset, length, shard_bytes, expected: Option<(u32, usize, usize)>| {
            let read = ShardRead { id: ShardId::default(), offset, length };
            let span = span_of(&read, shard_bytes).ok();
            assert_eq!(span.map(|s| (s.first_block, s.start, s.end)), expected);
        };
        check(0, 1, 10, Some((0, 0, 10)));
        check(0, 1, 200_000, Some((0, 0, 65_536)));
        check(65_535, 2, 200_000, Some((0, 0, 131_072)));
        check(131_072, 1, 200_000, Some((2, 131_072, 196_608)));
        check(199_999, 1, 200_000, Some((3, 196_608, 200_000)));
        check(0, 0, 10, None);
        check(5, 6, 10, None);
        check(u32::MAX, u32::MAX, 10, None);
    }
}
