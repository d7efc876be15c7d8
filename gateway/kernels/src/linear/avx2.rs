//! Lookups by `vpshufb`: a table of sixteen bytes for each nibble of an element and each byte of its
//! image, looked up for 32 elements at a time.

use std::arch::x86_64::{
    __m256i, _mm_loadu_si128, _mm256_and_si256, _mm256_broadcastsi128_si256, _mm256_loadu_si256,
    _mm256_set1_epi8, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_srli_epi16,
    _mm256_storeu_si256, _mm256_xor_si256,
};

use super::map::Map;
use super::{CHUNK_ELEMENTS, Chunk, OUTPUTS_MAX};

type Half = [u8; CHUNK_ELEMENTS];

/// A map as tables: for each nibble, lowest first, the low and the high bytes of the images.
#[derive(Clone, Debug)]
pub(super) struct Term([[[u8; 16]; 2]; 4]);

impl From<&Map> for Term {
    fn from(map: &Map) -> Self {
        let image = |nibble: usize, value: usize| map.apply((value as u16) << (4 * nibble));
        Self(std::array::from_fn(|nibble| {
            std::array::from_fn(|byte| {
                std::array::from_fn(|value| image(nibble, value).to_le_bytes()[byte])
            })
        }))
    }
}

/// Computes the outputs; `terms` are those of the first input, then of the second one, and so on.
#[target_feature(enable = "avx2")]
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

#[target_feature(enable = "avx2")]
fn run_outputs<const N: usize>(terms: &[Term], inputs: &[&[Chunk]], outputs: &mut [&mut [Chunk]]) {
    let (terms, _) = terms.as_chunks::<N>();
    let nibble = _mm256_set1_epi8(15);
    let chunks = outputs.iter().map(|output| output.len()).min().unwrap_or(0);
    for at in 0..chunks {
        let mut sums = [[_mm256_setzero_si256(); 2]; N];
        for (input, terms) in inputs.iter().zip(terms) {
            let [low, high] = load(&input[at]);
            let nibbles = [
                _mm256_and_si256(low, nibble),
                _mm256_and_si256(_mm256_srli_epi16::<4>(low), nibble),
                _mm256_and_si256(high, nibble),
                _mm256_and_si256(_mm256_srli_epi16::<4>(high), nibble),
            ];
            for (sums, Term(tables)) in sums.iter_mut().zip(terms) {
                for (values, tables) in nibbles.iter().zip(tables) {
                    for (sum, table) in sums.iter_mut().zip(tables) {
                        *sum =
                            _mm256_xor_si256(*sum, _mm256_shuffle_epi8(load_table(table), *values));
                    }
                }
            }
        }
        for (output, sums) in outputs.iter_mut().zip(sums) {
            store(&mut output[at], sums);
        }
    }
}

#[target_feature(enable = "avx2")]
#[expect(unsafe_code, reason = "a vector load takes a pointer")]
fn load(chunk: &Chunk) -> [__m256i; 2] {
    let (halves, _) = chunk.as_chunks::<CHUNK_ELEMENTS>();
    // SAFETY: a half has the 32 bytes that are read, and the load needs no alignment.
    let load = |half: &Half| unsafe { _mm256_loadu_si256(half.as_ptr().cast()) };
    [load(&halves[0]), load(&halves[1])]
}

#[target_feature(enable = "avx2")]
#[expect(unsafe_code, reason = "a vector load takes a pointer")]
fn load_table(table: &[u8; 16]) -> __m256i {
    // SAFETY: the table has the 16 bytes that are read, and the load needs no alignment.
    _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(table.as_ptr().cast()) })
}

#[target_feature(enable = "avx2")]
#[expect(unsafe_code, reason = "a vector store takes a pointer")]
fn store(chunk: &mut Chunk, halves: [__m256i; 2]) {
    let (places, _) = chunk.as_chunks_mut::<CHUNK_ELEMENTS>();
    for (place, half) in places.iter_mut().zip(halves) {
        // SAFETY: a half has the 32 bytes that are written, and the store needs no alignment.
        unsafe { _mm256_storeu_si256(place.as_mut_ptr().cast(), half) };
    }
}
