//! Multiplication by bit matrices: `vgf2p8affineqb` multiplies each byte by a matrix of 8 by 8 bits,
//! and a map of 16-bit elements is four of these. A chunk is one vector, with the low bytes in one
//! half and the high bytes in the other; so two multiplications do, one of the chunk and one of the
//! chunk with its halves exchanged.

use std::arch::x86_64::{
    __m512i, _mm512_gf2p8affine_epi64_epi8, _mm512_loadu_si512, _mm512_setzero_si512,
    _mm512_shuffle_i64x2, _mm512_storeu_si512, _mm512_ternarylogic_epi64,
};

use super::map::Map;
use super::{CHUNK_BYTES, Chunk, OUTPUTS_MAX};

/// Chunks that are worked on at once, to use the matrices for more than one after each load.
const UNROLLED: usize = 4;

/// A map as matrices.
#[derive(Clone, Debug)]
pub(super) struct Term {
    /// Low bytes to low bytes, in the lower half; high to high, in the upper one.
    straight: [u64; CHUNK_BYTES / 8],
    /// For the exchanged chunk: high bytes to low bytes, and low to high.
    crossed: [u64; CHUNK_BYTES / 8],
}

impl From<&Map> for Term {
    fn from(map: &Map) -> Self {
        // The instruction takes the row for bit 0 of the result in the highest byte.
        let matrix = |to: usize, from: usize| {
            let row = |bit: usize| (map.row(8 * to + bit) >> (8 * from)) as u8;
            u64::from_be_bytes(std::array::from_fn(row))
        };
        let halves = |low: u64, high: u64| [low, low, low, low, high, high, high, high];
        Self {
            straight: halves(matrix(0, 0), matrix(1, 1)),
            crossed: halves(matrix(0, 1), matrix(1, 0)),
        }
    }
}

/// Computes the outputs; `terms` are those of the first input, then of the second one, and so on.
#[target_feature(enable = "avx512f,gfni")]
pub(super) fn run(terms: &[Term], inputs: &[&[Chunk]], outputs: &mut [&mut [Chunk]]) {
    match outputs.len() {
        0 => {}
        1 => run_outputs::<1>(terms, inputs, outputs),
        2 => run_outputs::<2>(terms, inputs, outputs),
        3 => run_outputs::<3>(terms, inputs, outputs),
        4 => run_outputs::<4>(terms, inputs, outputs),
        more => unreachable!("a group has at most {OUTPUTS_MAX} outputs, not {more}"),
    }
}

#[target_feature(enable = "avx512f,gfni")]
fn run_outputs<const N: usize>(terms: &[Term], inputs: &[&[Chunk]], outputs: &mut [&mut [Chunk]]) {
    let (terms, _) = terms.as_chunks::<N>();
    let chunks = outputs.iter().map(|output| output.len()).min().unwrap_or(0);
    let whole = chunks / UNROLLED * UNROLLED;
    for at in (0..whole).step_by(UNROLLED) {
        run_chunks::<N, UNROLLED>(terms, inputs, outputs, at);
    }
    for at in whole..chunks {
        run_chunks::<N, 1>(terms, inputs, outputs, at);
    }
}

#[target_feature(enable = "avx512f,gfni")]
#[inline]
fn run_chunks<const N: usize, const U: usize>(
    terms: &[[Term; N]],
    inputs: &[&[Chunk]],
    outputs: &mut [&mut [Chunk]],
    at: usize,
) {
    let mut sums = [[_mm512_setzero_si512(); U]; N];
    for (input, terms) in inputs.iter().zip(terms) {
        let chunks = &input[at..at + U];
        let mut straight = [_mm512_setzero_si512(); U];
        let mut crossed = [_mm512_setzero_si512(); U];
        for n in 0..U {
            straight[n] = load(&chunks[n]);
            crossed[n] = _mm512_shuffle_i64x2::<0b01_00_11_10>(straight[n], straight[n]);
        }
        for (sums, term) in sums.iter_mut().zip(terms) {
            let (by, by_crossed) = (load_matrix(&term.straight), load_matrix(&term.crossed));
            for n in 0..U {
                sums[n] = _mm512_ternarylogic_epi64::<0x96>(
                    sums[n],
                    _mm512_gf2p8affine_epi64_epi8::<0>(straight[n], by),
                    _mm512_gf2p8affine_epi64_epi8::<0>(crossed[n], by_crossed),
                );
            }
        }
    }
    for (output, sums) in outputs.iter_mut().zip(sums) {
        for (chunk, sum) in output[at..at + U].iter_mut().zip(sums) {
            store(chunk, sum);
        }
    }
}

#[target_feature(enable = "avx512f")]
#[expect(unsafe_code, reason = "a vector load takes a pointer")]
fn load(chunk: &Chunk) -> __m512i {
    // SAFETY: a chunk has the 64 bytes that are read, and the load needs no alignment.
    unsafe { _mm512_loadu_si512(chunk.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
#[expect(unsafe_code, reason = "a vector load takes a pointer")]
fn load_matrix(matrix: &[u64; CHUNK_BYTES / 8]) -> __m512i {
    // SAFETY: the array has the 64 bytes that are read, and the load needs no alignment.
    unsafe { _mm512_loadu_si512(matrix.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
#[expect(unsafe_code, reason = "a vector store takes a pointer")]
fn store(chunk: &mut Chunk, vector: __m512i) {
    // SAFETY: a chunk has the 64 bytes that are written, and the store needs no alignment.
    unsafe { _mm512_storeu_si512(chunk.as_mut_ptr().cast(), vector) };
}
