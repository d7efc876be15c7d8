//! The ways to bring a log to stable storage, on bare files: what the shard store's write path
//! was chosen by.
//!
//! Records of 4 KiB and 1 MiB (with their headers) are appended in groups, and each group is made
//! durable before the next one. What was measured, and what was taken from it, stands in
//! [`wire::disk`]. The order of the ways changes from round to round, so that none always finds the
//! machine as the one before left it; each cell is measured [`ROUNDS`] times.

use std::fs::{File, OpenOptions};
use std::io::{IoSlice, IoSliceMut};
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::fs::{Advice, FallocateFlags, OFlags, fadvise, fallocate};
use rustix::io::{preadv, pwritev};
use serde_json::json;

use crate::meter::{Meter, rounded};

const ROUNDS: usize = 3;
const BLOCK_BYTES: usize = 4096;
/// Header, and one checksum.
const SMALL_RECORD_BYTES: usize = 96 + (4 << 10);
/// Header, and one checksum for each 64 KiB.
const LARGE_RECORD_BYTES: usize = 88 + 16 * 8 + (1 << 20);
/// Bytes of record, records in a group, groups.
const LOADS: [(usize, usize, usize); 5] = [
    (SMALL_RECORD_BYTES, 1, 400),
    (SMALL_RECORD_BYTES, 16, 200),
    (SMALL_RECORD_BYTES, 64, 200),
    (LARGE_RECORD_BYTES, 1, 96),
    (LARGE_RECORD_BYTES, 8, 24),
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// The page cache, and `fdatasync`.
    Buffered,
    /// The same, and the page cache is told to let go before and after the sync.
    Forget,
    /// `O_DSYNC`.
    BufferedDsync,
    /// `O_DIRECT` and `fdatasync`; the last block is written again with the next group.
    Direct,
    /// `O_DIRECT` and `O_DSYNC`.
    DirectDsync,
    /// Whole blocks by `O_DIRECT`, the ends through the page cache: the store's large groups.
    Split,
    /// The page cache, with zeros behind the group where none are yet: the store's small groups.
    Ahead,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Before {
    /// Empty.
    Growing,
    /// Reserved and never written.
    Fallocated,
    /// Full of zeros.
    Zeroed,
    /// Full of zeros that are in the page cache.
    ZeroedCached,
    /// Full of something else.
    Recycled,
}

const WAYS: [Way; 7] = [
    Way::Buffered,
    Way::Forget,
    Way::BufferedDsync,
    Way::Direct,
    Way::DirectDsync,
    Way::Split,
    Way::Ahead,
];
const BEFORE: [Before; 5] =
    [Before::Growing, Before::Fallocated, Before::Zeroed, Before::ZeroedCached, Before::Recycled];

impl Way {
    fn open(self, path: &Path) -> Result<File> {
        let flags = match self {
            Self::Buffered | Self::Forget | Self::Split | Self::Ahead => OFlags::empty(),
            Self::BufferedDsync => OFlags::DSYNC,
            Self::Direct => OFlags::DIRECT,
            Self::DirectDsync => OFlags::DIRECT | OFlags::DSYNC,
        };
        let flags = flags.bits().cast_signed();
        Ok(OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?)
    }

    fn is_direct(self) -> bool {
        matches!(self, Self::Direct | Self::DirectDsync)
    }

    fn syncs(self) -> bool {
        !matches!(self, Self::BufferedDsync | Self::DirectDsync)
    }
}

impl Before {
    /// Makes a file of `bytes` in that state, none of it in the page cache.
    fn make(self, path: &Path, bytes: u64) -> Result<()> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        let fill = match self {
            Self::Growing => None,
            Self::Fallocated => {
                fallocate(&file, FallocateFlags::empty(), 0, bytes)?;
                None
            }
            Self::Zeroed | Self::ZeroedCached => Some(0u8),
            Self::Recycled => Some(0xa5),
        };
        if let Some(fill) = fill {
            let chunk = vec![fill; 1 << 20];
            for at in (0..bytes).step_by(chunk.len()) {
                let length = chunk.len().min((bytes - at) as usize);
                file.write_all_at(&chunk[..length], at)?;
            }
        }
        file.sync_all()?;
        if self != Self::ZeroedCached {
            fadvise(&file, 0, None, Advice::DontNeed)?;
        }
        Ok(())
    }
}

/// Appends by `O_DIRECT`: whole blocks from a buffer that begins at a block's boundary. The last
/// block that isn't full is kept, and written again in front of the next group.
struct DirectTail {
    buffer: Vec<u8>,
    begin: usize,
    kept: usize,
    at: u64,
}

impl DirectTail {
    fn new(bytes_max: usize) -> Self {
        let buffer = vec![0u8; bytes_max + 3 * BLOCK_BYTES];
        let begin = buffer.as_ptr().align_offset(BLOCK_BYTES);
        Self { buffer, begin, kept: 0, at: 0 }
    }

    fn append(&mut self, file: &File, parts: &[IoSlice<'_>]) -> Result<()> {
        let mut end = self.begin + self.kept;
        for part in parts {
            self.buffer[end..end + part.len()].copy_from_slice(part);
            end += part.len();
        }
        let filled = end - self.begin;
        let whole = filled.next_multiple_of(BLOCK_BYTES);
        self.buffer[end..self.begin + whole].fill(0);
        file.write_all_at(&self.buffer[self.begin..self.begin + whole], self.at)?;
        self.kept = filled % BLOCK_BYTES;
        let tail = self.begin + filled - self.kept;
        self.buffer.copy_within(tail..tail + self.kept, self.begin);
        self.at += (filled - self.kept) as u64;
        Ok(())
    }
}

/// Appends whole blocks by `O_DIRECT`, and what lies before the first and behind the last of them
/// through the page cache.
struct Split {
    direct: File,
    buffer: Vec<u8>,
    begin: usize,
    chunk: usize,
}

impl Split {
    fn new(path: &Path, chunk: usize) -> Result<Self> {
        let mut buffer = vec![0u8; chunk + BLOCK_BYTES];
        buffer.fill(3);
        let begin = buffer.as_ptr().align_offset(BLOCK_BYTES);
        Ok(Self { direct: Way::Direct.open(path)?, buffer, begin, chunk })
    }

    fn append(&mut self, file: &File, parts: &[IoSlice<'_>], mut at: u64) -> Result<()> {
        let mut filled = 0;
        let mut skew = (BLOCK_BYTES as u64 - at % BLOCK_BYTES as u64) as usize % BLOCK_BYTES;
        for part in parts {
            let mut rest: &[u8] = part;
            while !rest.is_empty() {
                let limit = if skew > 0 { skew } else { self.chunk };
                let count = rest.len().min(limit - filled);
                let to = self.begin + filled;
                self.buffer[to..to + count].copy_from_slice(&rest[..count]);
                filled += count;
                rest = &rest[count..];
                if filled == limit {
                    let into = if skew > 0 { file } else { &self.direct };
                    into.write_all_at(&self.buffer[self.begin..self.begin + filled], at)?;
                    at += filled as u64;
                    (filled, skew) = (0, 0);
                }
            }
        }
        let whole = filled / BLOCK_BYTES * BLOCK_BYTES;
        if whole > 0 {
            self.direct.write_all_at(&self.buffer[self.begin..self.begin + whole], at)?;
        }
        if filled > whole {
            let tail = self.begin + whole..self.begin + filled;
            file.write_all_at(&self.buffer[tail], at + whole as u64)?;
        }
        Ok(())
    }
}

/// Measures writing every way, and then reading a large file back in pieces of 1 MiB.
pub fn measure() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("log");
    for (record, records, groups) in LOADS {
        for before in BEFORE {
            for round in 0..ROUNDS {
                for step in 0..WAYS.len() {
                    let way = WAYS[(step + round) % WAYS.len()];
                    write(&path, way, before, (record, records, groups))?;
                }
            }
        }
    }
    for round in 0..ROUNDS {
        read(&path, round)?;
    }
    Ok(())
}

fn write(path: &Path, way: Way, before: Before, load: (usize, usize, usize)) -> Result<()> {
    let (record, records, groups) = load;
    let bytes = (record * records * groups) as u64;
    before.make(path, bytes.next_multiple_of(BLOCK_BYTES as u64))?;
    let file = way.open(path)?;
    // Headers and payloads are parts of their own, as in the store.
    let header = vec![1u8; record % BLOCK_BYTES];
    let payload = vec![2u8; record - header.len()];
    let parts: Vec<IoSlice<'_>> =
        (0..records).flat_map(|_| [IoSlice::new(&header), IoSlice::new(&payload)]).collect();
    let mut direct = DirectTail::new(record * records);
    // The buffer's own pages are no part of what is measured: the store has it from the start.
    direct.buffer.fill(3);
    let mut split = Split::new(path, 1 << 20)?;
    let zeros = vec![0u8; 256 << 10];
    let mut ahead = parts.clone();
    ahead.push(IoSlice::new(&zeros));
    let mut zeroed = 0;
    let mut took = Vec::with_capacity(groups);
    let group_bytes = (record * records) as u64;
    let meter = Meter::start();
    for group in 0..groups as u64 {
        let began = meter.elapsed();
        if way.is_direct() {
            direct.append(&file, &parts)?;
        } else if way == Way::Split {
            split.append(&file, &parts, group * group_bytes)?;
        } else if way == Way::Ahead && (group + 1) * group_bytes > zeroed {
            pwritev(&file, &ahead, group * group_bytes)?;
            zeroed = (group + 1) * group_bytes + zeros.len() as u64;
        } else {
            let written = pwritev(&file, &parts, group * group_bytes)?;
            ensure!(written as u64 == group_bytes, "a short write");
        }
        if way == Way::Forget {
            fadvise(&file, group * group_bytes, None, Advice::DontNeed)?;
        }
        if way.syncs() {
            file.sync_data()?;
        }
        if way == Way::Forget {
            fadvise(&file, group * group_bytes, None, Advice::DontNeed)?;
        }
        took.push(meter.elapsed().saturating_sub(began));
    }
    took.sort_unstable();
    let further = json!({
        "p50_us": micros(took[groups / 2]),
        "p99_us": micros(took[groups * 99 / 100]),
        "fdatasyncs": if way.syncs() { groups } else { 0 },
    });
    let name = format!("durability/{way:?}/{before:?}/{record}x{records}");
    meter.print_with(&name, groups as u64, bytes, &further);
    Ok(())
}

/// Reads 256 MiB that aren't cached, in pieces of 1 MiB, into buffers that are new, that are used
/// again, and past the page cache.
fn read(path: &Path, round: usize) -> Result<()> {
    const PIECES: u64 = 256;
    const PIECE: usize = 1 << 20;
    let ways = ["cached-file/new-buffer", "new-buffer", "same-buffer", "forget", "direct"];
    for step in 0..ways.len() {
        let way = ways[(step + round) % ways.len()];
        Before::Recycled.make(path, PIECES * PIECE as u64)?;
        let flags = if way == "direct" { OFlags::DIRECT } else { OFlags::empty() };
        let flags = flags.bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let mut buffer = vec![0u8; PIECE + BLOCK_BYTES];
        buffer.fill(1);
        let begin = buffer.as_ptr().align_offset(BLOCK_BYTES);
        if way.starts_with("cached-file") {
            for piece in 0..PIECES {
                file.read_exact_at(&mut buffer[begin..begin + PIECE], piece * PIECE as u64)?;
            }
        }
        let meter = Meter::start();
        for piece in 0..PIECES {
            let at = piece * PIECE as u64;
            if way.ends_with("new-buffer") {
                let mut fresh = vec![0u8; PIECE];
                let count = preadv(&file, &mut [IoSliceMut::new(&mut fresh)], at)?;
                ensure!(count == PIECE && fresh[7] == 0xa5, "a short read");
            } else {
                file.read_exact_at(&mut buffer[begin..begin + PIECE], at)?;
                ensure!(buffer[begin + 7] == 0xa5, "other bytes");
            }
            if way == "forget" {
                let length = NonZeroU64::new(PIECE as u64);
                fadvise(&file, at, length, Advice::DontNeed)?;
            }
        }
        meter.print(&format!("durability/read/{way}"), PIECES, PIECES * PIECE as u64);
    }
    Ok(())
}

fn micros(time: Duration) -> f64 {
    rounded(time.as_secs_f64() * 1e6)
}
