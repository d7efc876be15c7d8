//! Writes past the page cache: the whole blocks of a range by `O_DIRECT`, from a buffer that lies
//! where the kernel wants it; what lies before the first whole block and behind the last one
//! through the page cache.
//!
//! Exactly the bytes that were given are written, at exactly their place: nothing is padded and no
//! block is written twice, so a crash leaves what it leaves of any other unsynced write. The two
//! ends share their blocks with earlier and later writes; since those bytes only ever pass through
//! the page cache, a block whose first bytes were acknowledged long ago is rewritten by the kernel
//! with the same bytes in it, as it would be without `O_DIRECT`.
//!
//! Mixing both ways on one file is safe here: the kernel writes back and drops the cached pages of
//! a range before a direct write to it, and drops what a reader cached meanwhile after it. No file
//! is mapped into memory, and nobody reads a range before its write has returned.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::OFlags;
use rustix::io::Errno;

/// Offsets, lengths and memory of direct writes are multiples of this: enough for devices with
/// blocks of 512 and of 4096 bytes.
const BLOCK_BYTES: usize = 4096;
/// Bytes of one direct write, and of the buffer that every disk keeps. More was no faster (see
/// [`super`]).
const CHUNK_BYTES: usize = 1 << 20;
/// Below this many bytes in whole blocks, a direct write costs more than it saves.
const DIRECT_BYTES_MIN: usize = 64 << 10;

/// What the files of one disk share for such writes.
#[derive(Debug, Default)]
pub(super) struct Uncached {
    staging: Mutex<Staging>,
    refused: AtomicBool,
}

/// A buffer that is aligned from `begin` on, made at the first use; and the file that was written
/// to last. A disk appends to one file at a time, so one more handle is enough for all of them.
#[derive(Debug, Default)]
struct Staging {
    buffer: Vec<u8>,
    begin: usize,
    target: Option<Target>,
}

#[derive(Debug)]
struct Target {
    /// Device and inode. The handle keeps the number from becoming another file's.
    id: (u64, u64),
    /// Opened with `O_DIRECT`; `None` where that failed.
    direct: Option<File>,
}

impl Staging {
    fn space(&mut self) -> (&mut [u8], Option<&File>) {
        if self.buffer.is_empty() {
            self.buffer = vec![0; CHUNK_BYTES + BLOCK_BYTES];
            self.begin = self.buffer.as_ptr().align_offset(BLOCK_BYTES);
        }
        // `align_offset` may give up; then the kernel refuses, and the page cache takes over.
        let begin = self.begin.min(BLOCK_BYTES);
        let direct = self.target.as_ref().and_then(|target| target.direct.as_ref());
        (&mut self.buffer[begin..begin + CHUNK_BYTES], direct)
    }
}

impl Uncached {
    pub(super) fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// Books that the file system takes no direct writes, and says so once.
    pub(super) fn refuse(&self, path: &Path) {
        if !self.refused.swap(true, Ordering::Relaxed) {
            let path = path.display();
            tracing::info!(%path, "the file system takes no direct writes: the page cache is used");
        }
    }

    /// Closes the file that was written to last.
    pub(super) fn let_go(&self) {
        self.staging.lock().unwrap_or_else(PoisonError::into_inner).target = None;
    }

    /// Makes `file`, which was opened at `path`, the target of direct writes.
    fn aim(&self, staging: &mut Staging, file: &File, path: &Path) -> io::Result<()> {
        let found = file.metadata()?;
        let id = (found.dev(), found.ino());
        if staging.target.as_ref().is_none_or(|target| target.id != id) {
            staging.target = Some(Target { id, direct: self.open(path, id) });
        }
        Ok(())
    }

    fn open(&self, path: &Path, id: (u64, u64)) -> Option<File> {
        let flags = OFlags::DIRECT.bits().cast_signed();
        match OpenOptions::new().write(true).custom_flags(flags).open(path) {
            Ok(direct) => {
                // The name may have become another file's, and that one isn't ours to write.
                let found = direct.metadata().ok()?;
                ((found.dev(), found.ino()) == id).then_some(direct)
            }
            Err(error) => {
                if is_refusal(&error) {
                    self.refuse(path);
                }
                None
            }
        }
    }

    /// Writes all of `parts` to `file`, which was opened at `path`; or answers `false`, having
    /// written nothing, when there are no direct writes to it.
    pub(super) fn write(
        &self,
        file: &File,
        path: &Path,
        parts: &[IoSlice<'_>],
        offset: u64,
    ) -> io::Result<bool> {
        if self.is_refused() {
            return Ok(false);
        }
        let mut staging = self.staging.lock().unwrap_or_else(PoisonError::into_inner);
        self.aim(&mut staging, file, path)?;
        let (space, Some(direct)) = staging.space() else {
            return Ok(false);
        };
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let head = (BLOCK_BYTES - (offset % BLOCK_BYTES as u64) as usize) % BLOCK_BYTES;
        let mut copy = parts.to_vec();
        let mut rest = copy.as_mut_slice();
        let mut at = offset;
        let mut left = total;
        while left > 0 {
            let is_head = at == offset && head > 0;
            let whole = left.min(CHUNK_BYTES) / BLOCK_BYTES * BLOCK_BYTES;
            let count = if is_head { head.min(left) } else { whole.max(left.min(BLOCK_BYTES)) };
            let chunk = &mut space[..count];
            rest = take(rest, chunk);
            if is_head || count % BLOCK_BYTES != 0 || self.is_refused() {
                file.write_all_at(chunk, at)?;
            } else {
                self.write_direct((file, direct, path), chunk, at)?;
            }
            at += count as u64;
            left -= count;
        }
        Ok(true)
    }

    fn write_direct(
        &self,
        (file, direct, path): (&File, &File, &Path),
        chunk: &[u8],
        at: u64,
    ) -> io::Result<()> {
        let mut written = 0;
        while written < chunk.len() {
            let (rest, at) = (&chunk[written..], at + written as u64);
            if written % BLOCK_BYTES != 0 {
                // The kernel stopped within a block: from there on only the page cache will do.
                return file.write_all_at(rest, at);
            }
            match direct.write_at(rest, at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_refusal(&error) => {
                    self.refuse(path);
                    return file.write_all_at(rest, at);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Whether writing so many bytes there past the page cache is worth it.
pub(super) fn is_worth_it(bytes: usize, offset: u64) -> bool {
    let head = (BLOCK_BYTES - (offset % BLOCK_BYTES as u64) as usize) % BLOCK_BYTES;
    bytes.saturating_sub(head) / BLOCK_BYTES * BLOCK_BYTES >= DIRECT_BYTES_MIN
}

/// Whether the error says that the file system, or its alignment, doesn't allow direct writes.
fn is_refusal(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::INVAL | Errno::OPNOTSUPP))
}

/// Fills `into` with the first bytes of `rest`, which must hold as many, and gives what is left.
fn take<'a, 'b>(mut rest: &'a mut [IoSlice<'b>], into: &mut [u8]) -> &'a mut [IoSlice<'b>] {
    let mut filled = 0;
    while filled < into.len() {
        // Passes over parts of no bytes.
        IoSlice::advance_slices(&mut rest, 0);
        let Some(part) = rest.first() else { return rest };
        let count = part.len().min(into.len() - filled);
        into[filled..filled + count].copy_from_slice(&part[..count]);
        filled += count;
        IoSlice::advance_slices(&mut rest, count);
    }
    rest
}
