//! MD5 of one stream, or of several at once.
//!
//! In: the bytes of streams, in pieces of any length. Out: their digests. MD5 is one long chain of
//! steps that wait for each other, so a single stream can't be made fast; but several can run side
//! by side: [`update_lanes`] takes what there is of any number of streams and runs as many as the
//! processor has lanes together. No stream waits for another: when one has no more bytes, the rest go
//! on without it.
//!
//! Measured in one run on an EPYC of the Zen 5 generation, on a busy machine, in processor time per
//! GiB of all streams together (`cargo bench --bench components -- hashing`):
//!
//! | streams | by | s/GiB | GB/s |
//! | --- | --- | --- | --- |
//! | 1 | the `md-5` crate | 1.63 | 0.66 |
//! | 1 | general registers | 1.30 | 0.82 |
//! | 2, 4 | general registers, in pairs | 0.68 | 1.6 |
//! | 8 | AVX-512 | 0.36 | 3.0 |
//! | 16 | AVX-512 | 0.18 | 6.0 |
//!
//! With AVX2 eight streams run at 2.5 GB/s together. Vectors of four or eight lanes of AVX-512 are no
//! faster for one to four streams: their instructions take longer than those of general registers.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod kernel;
mod portable;
#[cfg(target_arch = "x86_64")]
mod scalar;
mod steps;

use crate::stream::{Block, Stream, update_together};

pub use kernel::Kernel;

/// Streams that run side by side at most; more are taken in turns.
pub const LANES_MAX: usize = 16;

type State = [u32; 4];
type Strand<'a> = crate::stream::Strand<'a, State>;

/// The MD5 of a stream.
#[derive(Clone)]
pub struct Md5(Stream<State>);

impl Default for Md5 {
    fn default() -> Self {
        Self::new()
    }
}

impl Md5 {
    /// Of a stream of which there is nothing yet.
    pub const fn new() -> Self {
        Self(Stream::new(steps::START))
    }

    /// The digest of `bytes`.
    pub fn digest(bytes: &[u8]) -> [u8; 16] {
        let mut md5 = Self::new();
        md5.update(bytes);
        md5.finish()
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes, compress);
    }

    /// The digest of all that was taken.
    pub fn finish(self) -> [u8; 16] {
        let state = self.0.finish(u64::to_le_bytes, compress);
        let mut digest = [0; 16];
        for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        digest
    }
}

/// A stream and its next bytes.
pub struct Lane<'a, B> {
    /// The stream's hasher.
    pub md5: &'a mut Md5,
    /// Its next bytes, in order.
    pub pieces: &'a [B],
}

/// Takes the next bytes of every stream.
pub fn update_lanes<B: AsRef<[u8]>>(lanes: &mut [Lane<'_, B>]) {
    run(lanes, Kernel::best_for);
}

/// As [`update_lanes`], by a kernel of the caller's choice; it must be [available].
///
/// [available]: Kernel::available
pub fn update_lanes_with<B: AsRef<[u8]>>(kernel: Kernel, lanes: &mut [Lane<'_, B>]) {
    run(lanes, |_| kernel);
}

fn run<B: AsRef<[u8]>>(lanes: &mut [Lane<'_, B>], kernel_for: impl Fn(usize) -> Kernel) {
    for group in lanes.chunks_mut(LANES_MAX) {
        let streams = group.iter_mut().map(|lane| (&mut lane.md5.0, lane.pieces));
        update_together(streams, |strands, count| {
            kernel_for(strands.len()).compress(strands, count);
        });
    }
}

/// Runs blocks of a single stream.
fn compress(state: &mut State, blocks: &[Block]) {
    #[cfg(target_arch = "x86_64")]
    scalar::compress(state, blocks);
    #[cfg(not(target_arch = "x86_64"))]
    portable::compress(state, blocks);
}

#[cfg(test)]
mod tests;
