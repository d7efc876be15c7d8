//! Bit by bit, in plain Rust that compilers turn into whatever vectors there are: each bit of the
//! elements becomes a mask of bytes, which lets the bytes of its image through to the sum.

use super::map::{ELEMENT_BITS, Map};
use super::{CHUNK_BYTES, CHUNK_ELEMENTS, Chunk};

/// A map: for each bit of an element the low and the high byte of its image.
#[derive(Clone, Debug)]
pub(super) struct Term([[u8; 2]; ELEMENT_BITS]);

impl From<&Map> for Term {
    fn from(map: &Map) -> Self {
        Self(std::array::from_fn(|bit| map.apply(1 << bit).to_le_bytes()))
    }
}

/// Computes the outputs; `terms` are those of the first input, then of the second one, and so on.
pub(super) fn run(terms: &[Term], inputs: &[&[Chunk]], outputs: &mut [&mut [Chunk]]) {
    let count = outputs.len();
    for output in &mut *outputs {
        output.fill([0; CHUNK_BYTES]);
    }
    for (input, terms) in inputs.iter().zip(terms.chunks_exact(count)) {
        for (at, chunk) in input.iter().enumerate() {
            for (output, Term(images)) in outputs.iter_mut().zip(terms) {
                add(chunk, images, &mut output[at]);
            }
        }
    }
}

fn add(chunk: &Chunk, images: &[[u8; 2]; ELEMENT_BITS], sum: &mut Chunk) {
    let (mut low, mut high) = ([0u8; CHUNK_ELEMENTS], [0u8; CHUNK_ELEMENTS]);
    let halves = chunk.as_chunks::<CHUNK_ELEMENTS>().0;
    for (half, images) in halves.iter().zip(images.as_chunks::<8>().0) {
        for (bit, [low_image, high_image]) in images.iter().enumerate() {
            for n in 0..CHUNK_ELEMENTS {
                let mask = if half[n] & (1 << bit) == 0 { 0 } else { 0xff };
                low[n] ^= mask & low_image;
                high[n] ^= mask & high_image;
            }
        }
    }
    let (low_sum, high_sum) = sum.split_at_mut(CHUNK_ELEMENTS);
    for n in 0..CHUNK_ELEMENTS {
        low_sum[n] ^= low[n];
        high_sum[n] ^= high[n];
    }
}
