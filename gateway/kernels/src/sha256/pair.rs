//! Two streams side by side by the processor's instructions for SHA-256.
//!
//! These take the state as two vectors: words A, B, E, F and C, D, G, H, each from the highest element
//! down. Two rounds are one instruction, whose result becomes the other vector of the state.

use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_loadu_si128, _mm_set_epi32, _mm_set_epi64x,
    _mm_setzero_si128, _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32,
    _mm_shuffle_epi8, _mm_shuffle_epi32, _mm_storeu_si128,
};

use super::State;
use super::constants::ROUND_CONSTANTS;
use crate::stream::{Block, Strand};

/// Streams of a call.
const STREAMS: usize = 2;

/// Message words of one vector.
const WORDS: usize = 4;

/// Whether the processor can do it.
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("sha") && is_x86_feature_detected!("ssse3")
}

/// Runs `count` blocks of both strands, which must be at least that long. Only where it
/// [`is_available`].
pub(super) fn compress(strands: [&mut Strand<'_, State>; STREAMS], count: usize) {
    assert!(is_available(), "a kernel is only used where it can run");
    #[expect(unsafe_code, reason = "a call of code for detected features")]
    // SAFETY: the processor has these features, as was asked just now.
    unsafe {
        run(strands, count);
    }
}

#[target_feature(enable = "sha,ssse3")]
fn run(strands: [&mut Strand<'_, State>; STREAMS], count: usize) {
    let mut abef = [_mm_setzero_si128(); STREAMS];
    let mut cdgh = abef;
    for n in 0..STREAMS {
        let state = strands[n].state.map(u32::cast_signed);
        abef[n] = _mm_set_epi32(state[0], state[1], state[4], state[5]);
        cdgh[n] = _mm_set_epi32(state[2], state[3], state[6], state[7]);
    }
    let blocks: [&[Block]; STREAMS] = std::array::from_fn(|n| &strands[n].blocks[..count]);
    for (block, block1) in blocks[0].iter().zip(blocks[1]) {
        let before = (abef, cdgh);
        let mut words = [load(block), load(block1)];
        for (four, constants) in ROUND_CONSTANTS.as_chunks::<WORDS>().0.iter().enumerate() {
            let [k0, k1, k2, k3] = constants.map(u32::cast_signed);
            let constants = _mm_set_epi32(k3, k2, k1, k0);
            let mut sums = [constants; STREAMS];
            for n in 0..STREAMS {
                if four >= WORDS {
                    words[n][four % WORDS] = next_words(&words[n], four);
                }
                sums[n] = _mm_add_epi32(words[n][four % WORDS], constants);
            }
            for n in 0..STREAMS {
                cdgh[n] = _mm_sha256rnds2_epu32(cdgh[n], abef[n], sums[n]);
            }
            for n in 0..STREAMS {
                let upper = _mm_shuffle_epi32::<0x0e>(sums[n]);
                abef[n] = _mm_sha256rnds2_epu32(abef[n], cdgh[n], upper);
            }
        }
        for n in 0..STREAMS {
            abef[n] = _mm_add_epi32(abef[n], before.0[n]);
            cdgh[n] = _mm_add_epi32(cdgh[n], before.1[n]);
        }
    }
    for (n, strand) in strands.into_iter().enumerate() {
        let (abef, cdgh) = (words_of(abef[n]), words_of(cdgh[n]));
        *strand.state = [abef[3], abef[2], cdgh[3], cdgh[2], abef[1], abef[0], cdgh[1], cdgh[0]];
    }
}

/// The message words of rounds `4 * four` on, made of the sixteen before them.
#[target_feature(enable = "sha,ssse3")]
#[inline]
fn next_words(words: &[__m128i; WORDS], four: usize) -> __m128i {
    let back = |vectors: usize| words[(four + WORDS - vectors) % WORDS];
    let seven_back = _mm_alignr_epi8::<4>(back(1), back(2));
    _mm_sha256msg2_epu32(_mm_add_epi32(_mm_sha256msg1_epu32(back(4), back(3)), seven_back), back(1))
}

/// A block as big-endian words.
#[target_feature(enable = "ssse3")]
#[expect(unsafe_code, reason = "a vector load takes a pointer")]
fn load(block: &Block) -> [__m128i; WORDS] {
    let swapped = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
    let (quarters, _) = block.as_chunks::<16>();
    std::array::from_fn(|at| {
        // SAFETY: a quarter has the 16 bytes that are read, and the load needs no alignment.
        let words = unsafe { _mm_loadu_si128(quarters[at].as_ptr().cast()) };
        _mm_shuffle_epi8(words, swapped)
    })
}

#[target_feature(enable = "sse2")]
#[expect(unsafe_code, reason = "a vector store takes a pointer")]
fn words_of(vector: __m128i) -> [u32; WORDS] {
    let mut words = [0; WORDS];
    // SAFETY: the array has the 16 bytes that are written, and the store needs no alignment.
    unsafe { _mm_storeu_si128(words.as_mut_ptr().cast(), vector) };
    words
}
