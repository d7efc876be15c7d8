//! Sums of GF(2)-linear maps of shards: what coding and decoding come down to.
//!
//! In: for each output a [`Map`] for each input, and inputs of equal length. Out: the outputs. Bytes
//! are laid out as reed-solomon-simd does: in each chunk of 64 bytes, element `n` of 32 has its low
//! byte at `n` and its high byte at `32 + n`. A [`Program`] is the maps in the form that a kernel
//! wants; [`solve`] finds the maps for shards that are missing.
//!
//! Measured in one run on an EPYC of the Zen 5 generation, on a busy machine, in processor time: two
//! of 4+2 shards and four of 8+4 rebuilt, with 64 KiB a shard; GB/s of user data
//! (`cargo bench --bench components -- coding`):
//!
//! | by | 4+2 | | 8+4 | |
//! | --- | --- | --- | --- | --- |
//! | reed-solomon-simd's decoder | 203 µs | 1.3 GB/s | 298 µs | 1.8 GB/s |
//! | portable | 213 µs | 1.2 GB/s | 813 µs | 0.6 GB/s |
//! | AVX2 | 14 µs | 18 GB/s | 52 µs | 10 GB/s |
//! | GFNI with AVX-512 | 4.4 µs | 60 GB/s | 15 µs | 35 GB/s |

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod gfni;
mod map;
mod portable;
mod program;
mod solve;

pub use map::{ELEMENT_BITS, Map};
pub use program::{Kernel, Program};
pub use solve::{MISSING_MAX, solve};

/// Bytes of a chunk: the low bytes of 32 elements, then their high bytes.
pub const CHUNK_BYTES: usize = 64;

/// Elements of a chunk.
const CHUNK_ELEMENTS: usize = CHUNK_BYTES / 2;

/// Outputs that a kernel computes at once, in registers, while it reads the inputs once.
const OUTPUTS_MAX: usize = 4;

type Chunk = [u8; CHUNK_BYTES];
