//! SHA-256 of one stream, or of several at once.
//!
//! In: the bytes of streams, in pieces of any length. Out: their digests. A single stream is the
//! `sha2` crate's; where the processor has instructions for SHA-256, which wait for each other, two
//! streams are run side by side. Measured in one run on an EPYC of the Zen 5 generation, in processor
//! time per GiB: one stream 0.57 s, two 0.38 s, and four no less.

#[cfg(target_arch = "x86_64")]
mod constants;
#[cfg(target_arch = "x86_64")]
mod pair;

use sha2::block_api::compress256 as compress;

use crate::stream::{Strand, Stream, update_together};

/// Streams that run side by side at most; more are taken in turns.
const LANES_MAX: usize = 2;

/// The states' start (FIPS 180-4, 5.3.3).
const START: State = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

type State = [u32; 8];

/// The SHA-256 of a stream.
#[derive(Clone)]
pub struct Sha256(Stream<State>);

impl Default for Sha256 {
    fn default() -> Self {
        Self::new()
    }
}

impl Sha256 {
    /// Of a stream of which there is nothing yet.
    pub const fn new() -> Self {
        Self(Stream::new(START))
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes, compress);
    }

    /// The digest of all that was taken.
    pub fn finish(self) -> [u8; 32] {
        let state = self.0.finish(u64::to_be_bytes, compress);
        let mut digest = [0; 32];
        for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        digest
    }
}

/// A stream and its next bytes.
pub struct Lane<'a, B> {
    /// The stream's hasher.
    pub sha256: &'a mut Sha256,
    /// Its next bytes, in order.
    pub pieces: &'a [B],
}

/// Takes the next bytes of every stream.
pub fn update_lanes<B: AsRef<[u8]>>(lanes: &mut [Lane<'_, B>]) {
    for group in lanes.chunks_mut(LANES_MAX) {
        let streams = group.iter_mut().map(|lane| (&mut lane.sha256.0, lane.pieces));
        update_together(streams, run);
    }
}

fn run(strands: &mut [Strand<'_, State>], count: usize) {
    #[cfg(target_arch = "x86_64")]
    if let [one, other] = strands
        && pair::is_available()
    {
        pair::compress([&mut *one, other], count);
        return;
    }
    for strand in strands {
        compress(strand.state, &strand.blocks[..count]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sha2::Digest as _;

    use super::*;

    fn bytes(count: usize, seed: u32) -> Vec<u8> {
        (0..count as u32)
            .map(|at| (at.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect()
    }

    fn expected(bytes: &[u8]) -> [u8; 32] {
        sha2::Sha256::digest(bytes).into()
    }

    #[test]
    fn every_short_length() {
        let all = bytes(300, 1);
        for length in 0..all.len() {
            let mut sha256 = Sha256::new();
            sha256.update(&all[..length]);
            assert_eq!(sha256.finish(), expected(&all[..length]), "{length}");
        }
    }

    fn streams() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
        let piece = (0usize..700, any::<u32>()).prop_map(|(count, seed)| bytes(count, seed));
        prop::collection::vec(prop::collection::vec(piece, 0..5), 1..6)
    }

    proptest! {
        #[test]
        fn any_mix_of_pieces_gives_the_digests_of_the_whole(streams in streams()) {
            let mut hashers = vec![Sha256::new(); streams.len()];
            for _ in 0..2 {
                let mut lanes: Vec<Lane<'_, Vec<u8>>> = hashers
                    .iter_mut()
                    .zip(&streams)
                    .map(|(sha256, pieces)| Lane { sha256, pieces })
                    .collect();
                update_lanes(&mut lanes);
            }
            for (sha256, pieces) in hashers.into_iter().zip(&streams) {
                let twice = [pieces.concat(), pieces.concat()].concat();
                prop_assert_eq!(sha256.finish(), expected(&twice));
            }
        }
    }
}
