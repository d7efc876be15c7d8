//! Up to sixteen streams side by side in AVX-512: lane `n` of each vector belongs to stream `n`.
//!
//! Each mix of MD5 is one `vpternlogd`, each rotation one `vprold`. Message words get into their
//! lanes by transposing sixteen blocks that are loaded whole, so that memory is read in order. A
//! missing stream repeats the first one; what comes of its lane is dropped. Narrower vectors aren't
//! faster, since it is the chain of steps that takes the time, whatever the width.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_loadu_si512, _mm512_rol_epi32, _mm512_set1_epi32,
    _mm512_shuffle_i32x4, _mm512_storeu_si512, _mm512_ternarylogic_epi32, _mm512_unpackhi_epi32,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

use super::steps::{SIGNED_SINES, rounds};
use super::{Block, Strand};

/// Streams of a call.
pub(super) const LANES: usize = 16;

#[derive(Clone, Copy)]
struct Vectors {
    a: __m512i,
    b: __m512i,
    c: __m512i,
    d: __m512i,
}

/// Runs `count` blocks of each strand, of which there are one to sixteen, all at least that long.
#[target_feature(enable = "avx512f")]
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
    for at in 0..count {
        let words = transpose(&std::array::from_fn(|lane| load_block(&blocks[lane][at])));
        let mut v = sum;
        macro_rules! step {
            ($table:literal; $a:ident $b:ident $c:ident $d:ident; $w:expr, $r:expr, $n:expr) => {
                let known = _mm512_add_epi32(words[$w], _mm512_set1_epi32(SIGNED_SINES[$n]));
                let mixed = _mm512_ternarylogic_epi32::<$table>(v.$b, v.$c, v.$d);
                let turned = _mm512_add_epi32(_mm512_add_epi32(v.$a, known), mixed);
                v.$a = _mm512_add_epi32(_mm512_rol_epi32::<$r>(turned), v.$b);
            };
        }
        // The truth tables of the four mixes: bit `4b + 2c + d` is their value.
        macro_rules! f { ($($step:tt)*) => { step!(0xca; $($step)*) } }
        macro_rules! g { ($($step:tt)*) => { step!(0xe4; $($step)*) } }
        macro_rules! h { ($($step:tt)*) => { step!(0x96; $($step)*) } }
        macro_rules! i { ($($step:tt)*) => { step!(0x39; $($step)*) } }
        rounds!(f, g, h, i);
        sum = Vectors {
            a: _mm512_add_epi32(sum.a, v.a),
            b: _mm512_add_epi32(sum.b, v.b),
            c: _mm512_add_epi32(sum.c, v.c),
            d: _mm512_add_epi32(sum.d, v.d),
        };
    }
    let columns = [sum.a, sum.b, sum.c, sum.d].map(|vector| words_of(vector));
    for (lane, strand) in strands.iter_mut().enumerate() {
        *strand.state = columns.map(|column| column[lane]);
    }
}

/// Turns vectors of the words of each block into vectors of one word of all blocks.
#[target_feature(enable = "avx512f")]
fn transpose(rows: &[__m512i; LANES]) -> [__m512i; LANES] {
    let mut pairs = *rows;
    for at in (0..LANES).step_by(2) {
        pairs[at] = _mm512_unpacklo_epi32(rows[at], rows[at + 1]);
        pairs[at + 1] = _mm512_unpackhi_epi32(rows[at], rows[at + 1]);
    }
    // Quad `4g + w` has, in each quarter q, word `4q + w` of the blocks 4g to 4g + 3.
    let mut quads = pairs;
    for at in (0..LANES).step_by(4) {
        quads[at] = _mm512_unpacklo_epi64(pairs[at], pairs[at + 2]);
        quads[at + 1] = _mm512_unpackhi_epi64(pairs[at], pairs[at + 2]);
        quads[at + 2] = _mm512_unpacklo_epi64(pairs[at + 1], pairs[at + 3]);
        quads[at + 3] = _mm512_unpackhi_epi64(pairs[at + 1], pairs[at + 3]);
    }
    let mut words = quads;
    for word in 0..4 {
        let [g0, g1, g2, g3] = [quads[word], quads[4 + word], quads[8 + word], quads[12 + word]];
        // Quarters 0 and 2, then 1 and 3, of the first eight blocks and of the last eight.
        let (even, odd) =
            (_mm512_shuffle_i32x4::<0x88>(g0, g1), _mm512_shuffle_i32x4::<0xdd>(g0, g1));
        let (even1, odd1) =
            (_mm512_shuffle_i32x4::<0x88>(g2, g3), _mm512_shuffle_i32x4::<0xdd>(g2, g3));
        words[word] = _mm512_shuffle_i32x4::<0x88>(even, even1);
        words[8 + word] = _mm512_shuffle_i32x4::<0xdd>(even, even1);
        words[4 + word] = _mm512_shuffle_i32x4::<0x88>(odd, odd1);
        words[12 + word] = _mm512_shuffle_i32x4::<0xdd>(odd, odd1);
    }
    words
}

#[target_feature(enable = "avx512f")]
#[expect(unsafe_code, reason = "a vector load takes a pointer")]
fn load_block(block: &Block) -> __m512i {
    // SAFETY: the block has the 64 bytes that are read, and the load needs no alignment.
    unsafe { _mm512_loadu_si512(block.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
#[expect(unsafe_code, reason = "a vector load takes a pointer")]
fn load_words(words: &[u32; LANES]) -> __m512i {
    // SAFETY: the array has the 64 bytes that are read, and the load needs no alignment.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
#[expect(unsafe_code, reason = "a vector store takes a pointer")]
fn words_of(vector: __m512i) -> [u32; LANES] {
    let mut words = [0; LANES];
    // SAFETY: the array has the 64 bytes that are written, and the store needs no alignment.
    unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), vector) };
    words
}
