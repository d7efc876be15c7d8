//! Up to eight streams side by side in AVX2: lane `n` of each vector belongs to stream `n`.
//!
//! As with AVX-512, but a rotation is two shifts and a mix two or three operations.

use std::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_and_si256, _mm256_andnot_si256, _mm256_loadu_si256,
    _mm256_or_si256, _mm256_permute2x128_si256, _mm256_set1_epi32, _mm256_slli_epi32,
    _mm256_srli_epi32, _mm256_storeu_si256, _mm256_unpackhi_epi32, _mm256_unpackhi_epi64,
    _mm256_unpacklo_epi32, _mm256_unpacklo_epi64, _mm256_xor_si256,
};

use super::steps::{SIGNED_SINES, rounds};
use super::{Block, Strand};

/// Streams of a call.
pub(super) const LANES: usize = 8;

#[derive(Clone, Copy)]
struct Vectors {
    a: __m256i,
    b: __m256i,
    c: __m256i,
    d: __m256i,
}

/// Runs `count` blocks of each strand, of which there are one to eight, all at least that long.
#[target_feature(enable = "avx2")]
#[expect(clippy::needless_range_loop, reason = "the index runs over all lanes' blocks at once")]
pub(super) fn compress(strands: &mut [Strand<'_>], count: usize) {
    let blocks: [&[Block]; LANES] =
        std::array::from_fn(|lane| &strands.get(lane).unwrap_or(&strands[0]).blocks[..count]);
    let column = |word: usize| -> [u32; LANES] {
        std::array::from_fn(|lane| strands.get(lane).map_or(0, |strand| strand.state[word]))
    };
    let mut sum = Vectors {
        a: load_words(&column(0)),
        b: load_words(&column(1)),
        c: load_words(&column(2)),
        d: load_words(&column(3)),
    };
    let ones = _mm256_set1_epi32(-1);
    for at in 0..count {
        let half = |from: usize| {
            transpose(&std::array::from_fn(|lane| load_half(&blocks[lane][at], from)))
        };
        let (low, high) = (half(0), half(32));
        let word = |at: usize| if at < LANES { low[at] } else { high[at - LANES] };
        let mut v = sum;
        macro_rules! step {
            ($mixed:expr; $a:ident $b:ident; $w:expr, $r:expr, $n:expr) => {
                let known = _mm256_add_epi32(word($w), _mm256_set1_epi32(SIGNED_SINES[$n]));
                let turned = _mm256_add_epi32(_mm256_add_epi32(v.$a, known), $mixed);
                let turned = _mm256_or_si256(
                    _mm256_slli_epi32::<$r>(turned),
                    _mm256_srli_epi32::<{ 32 - $r }>(turned),
                );
                v.$a = _mm256_add_epi32(turned, v.$b);
            };
        }
        macro_rules! f { ($a:ident $b:ident $c:ident $d:ident; $($step:tt)*) => { step!(
            _mm256_xor_si256(_mm256_and_si256(_mm256_xor_si256(v.$c, v.$d), v.$b), v.$d);
            $a $b; $($step)*
        ) } }
        macro_rules! g { ($a:ident $b:ident $c:ident $d:ident; $($step:tt)*) => { step!(
            _mm256_or_si256(_mm256_and_si256(v.$b, v.$d), _mm256_andnot_si256(v.$d, v.$c));
            $a $b; $($step)*
        ) } }
        macro_rules! h { ($a:ident $b:ident $c:ident $d:ident; $($step:tt)*) => { step!(
            _mm256_xor_si256(_mm256_xor_si256(v.$c, v.$d), v.$b);
            $a $b; $($step)*
        ) } }
        macro_rules! i { ($a:ident $b:ident $c:ident $d:ident; $($step:tt)*) => { step!(
            _mm256_xor_si256(v.$c, _mm256_or_si256(v.$b, _mm256_xor_si256(v.$d, ones)));
            $a $b; $($step)*
        ) } }
        rounds!(f, g, h, i);
        sum = Vectors {
            a: _mm256_add_epi32(sum.a, v.a),
            b: _mm256_add_epi32(sum.b, v.b),
            c: _mm256_add_epi32(sum.c, v.c),
            d: _mm256_add_epi32(sum.d, v.d),
        };
    }
    let columns = [sum.a, sum.b, sum.c, sum.d].map(|vector| words_of(vector));
    for (lane, strand) in strands.iter_mut().enumerate() {
        *strand.state = columns.map(|column| column[lane]);
    }
}

/// Turns vectors of eight words of each block into vectors of one word of all blocks.
#[target_feature(enable = "avx2")]
fn transpose(rows: &[__m256i; LANES]) -> [__m256i; LANES] {
    let mut pairs = *rows;
    for at in (0..LANES).step_by(2) {
        pairs[at] = _mm256_unpacklo_epi32(rows[at], rows[at + 1]);
        pairs[at + 1] = _mm256_unpackhi_epi32(rows[at], rows[at + 1]);
    }
    // Quad `4g + w` has word `w` and word `4 + w` of the blocks 4g to 4g + 3.
    let mut quads = pairs;
    for at in (0..LANES).step_by(4) {
        quads[at] = _mm256_unpacklo_epi64(pairs[at], pairs[at + 2]);
        quads[at + 1] = _mm256_unpackhi_epi64(pairs[at], pairs[at + 2]);
        quads[at + 2] = _mm256_unpacklo_epi64(pairs[at + 1], pairs[at + 3]);
        quads[at + 3] = _mm256_unpackhi_epi64(pairs[at + 1], pairs[at + 3]);
    }
    let mut words = quads;
    for word in 0..4 {
        words[word] = _mm256_permute2x128_si256::<0x20>(quads[word], quads[4 + word]);
        words[4 + word] = _mm256_permute2x128_si256::<0x31>(quads[word], quads[4 + word]);
    }
    words
}

#[target_feature(enable = "avx2")]
#[expect(unsafe_code, reason = "a vector load takes a pointer")]
fn load_half(block: &Block, from: usize) -> __m256i {
    let half = &block[from..from + 32];
    // SAFETY: the half has the 32 bytes that are read, and the load needs no alignment.
    unsafe { _mm256_loadu_si256(half.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[expect(unsafe_code, reason = "a vector load takes a pointer")]
fn load_words(words: &[u32; LANES]) -> __m256i {
    // SAFETY: the array has the 32 bytes that are read, and the load needs no alignment.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[expect(unsafe_code, reason = "a vector store takes a pointer")]
fn words_of(vector: __m256i) -> [u32; LANES] {
    let mut words = [0; LANES];
    // SAFETY: the array has the 32 bytes that are written, and the store needs no alignment.
    unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), vector) };
    words
}
