//! Erasure coding: reed-solomon-simd encodes, and what it does is the format of record. Decoding
//! multiplies by matrices that are learnt from it.
//!
//! In: the bytes of a stripe and its geometry, or the same columns of `k'` shards. Out: parity, or
//! the columns of missing shards. Columns are independent, so a range of a shard can be rebuilt alone.
//!
//! reed-solomon-simd's own decoder takes 0.2 ms before the first byte. But all that it does is linear
//! over GF(2): so its matrix is learnt by encoding unit vectors (`generator`), inverted for the shards
//! that are missing (`kernels::linear::solve`), kept as a program (`programs`), and applied by vector
//! instructions at the speed of memory. The coder stays the judge: at start-up every kernel is tried
//! against it (`kernel_choice`), and tests compare every loss of every coding.
//!
//! With 64 KiB a shard that takes 4.4 µs for two lost shards of 4+2 and 15 µs for four of 8+4, where
//! reed-solomon-simd takes 203 and 298: figures for every kernel are in `kernels::linear`.

mod decode;
mod encode;
mod generator;
mod kernel_choice;
mod programs;

use std::sync::{Mutex, PoisonError};

use kernels::linear::Kernel;
use reed_solomon_simd::ReedSolomonEncoder;

use self::programs::Programs;

/// Idle encoders that are kept; more work at once makes new ones.
const IDLE_CODERS_MAX: usize = 8;

/// Why coding failed. All but the last are mistakes of the caller: shards that don't fit together.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum CodecError {
    /// Lengths or numbers don't belong to the geometry.
    #[error("the shards do not fit the coding: {0}")]
    Shape(#[from] reed_solomon_simd::Error),
    /// A buffer has another length than the geometry says.
    #[error("a buffer does not fit the stripe")]
    Length,
    /// There is no such coding, or no such shard, or a shard was given or wanted twice.
    #[error("the numbers of the shards do not fit the coding")]
    Numbers,
    /// Fewer than `k'` shards.
    #[error("too few shards to reconstruct")]
    TooFew,
    /// Every kernel failed its check at start-up: the machine is broken.
    #[error("no coding kernel of this machine gives right results")]
    NoKernel,
}

/// Coders, shared by all writers and readers.
pub struct Codec {
    encoders: Mutex<Vec<ReedSolomonEncoder>>,
    programs: Option<Programs>,
}

impl Default for Codec {
    fn default() -> Self {
        Self::new()
    }
}

impl Codec {
    /// A codec for this machine: tries its kernels, the fastest first.
    pub fn new() -> Self {
        Self::with_kernels(Kernel::available())
    }

    /// A codec that uses the first of `kernels` that works; all must be available.
    pub fn with_kernels(kernels: impl IntoIterator<Item = Kernel>) -> Self {
        let kernel = kernel_choice::choose(kernels);
        Self { encoders: Mutex::default(), programs: kernel.map(Programs::new) }
    }

    /// What missing shards are rebuilt with.
    pub fn kernel(&self) -> Option<Kernel> {
        self.programs.as_ref().map(Programs::kernel)
    }
}

fn take<T>(idle: &Mutex<Vec<T>>) -> Option<T> {
    idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
}

fn give_back<T>(idle: &Mutex<Vec<T>>, coder: T) {
    let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
    if idle.len() < IDLE_CODERS_MAX {
        idle.push(coder);
    }
}

#[cfg(test)]
mod tests {
    use model::coding::{Coding, StripeGeometry};
    use model::limits::{DATA_SHARDS_MAX, PARITY_SHARDS_MAX};

    use super::*;

    fn stripe(bytes: u32) -> Vec<u8> {
        (0..bytes).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
    }

    /// Any `k` shards of a stripe give all the others, by every kernel.
    fn check(coding: &str, bytes: u32) {
        let coding = Coding::parse(coding).expect("valid");
        let geometry = StripeGeometry::new(coding, bytes).expect("valid");
        let codec = Codec::new();
        let (k, m) = (usize::from(geometry.data_shards()), usize::from(coding.parity()));
        let width = geometry.shard_bytes() as usize;
        let mut data = stripe(bytes);
        let mut parity = vec![0xaa; m * width];
        codec.encode(&geometry, &data, &mut parity).expect("fits");
        data.resize(k * width, 0);
        let shards: Vec<&[u8]> = data.chunks(width).chain(parity.chunks(width)).collect();
        for kernel in Kernel::available() {
            check_all_losses(&Codec::with_kernels([kernel]), k, &shards);
        }
    }

    fn check_all_losses(codec: &Codec, k: usize, shards: &[&[u8]]) {
        let m = shards.len() - k;
        for lost in (0u32..1 << shards.len()).filter(|lost| lost.count_ones() as usize == m) {
            let (wanted, known): (Vec<usize>, Vec<usize>) =
                (0..shards.len()).partition(|at| lost >> at & 1 == 1);
            let known: Vec<_> = known.into_iter().map(|at| (at, shards[at])).collect();
            let rebuilt = codec.reconstruct(k, m, &known, &wanted).expect("enough");
            for (at, bytes) in wanted.iter().zip(rebuilt) {
                assert!(bytes == shards[*at], "{k}+{m} lost {lost:b}, {:?}", codec.kernel());
            }
        }
    }

    #[test]
    fn every_loss_of_m_shards_of_a_stripe_of_any_length_is_rebuilt() {
        for coding in ["1+1", "1+2", "1+4", "2+1", "2+2", "3+2", "4+2", "6+3", "8+4"] {
            for bytes in [1, 64, 65, 4096, 16_385, 49_153, 100_001] {
                check(coding, bytes);
            }
        }
    }

    #[test]
    fn every_loss_of_every_coding_is_rebuilt() {
        for m in 1..=usize::from(PARITY_SHARDS_MAX) {
            for k in 1..=usize::from(DATA_SHARDS_MAX) {
                // Five chunks, of which a kernel takes four at once; all bytes differ.
                let data: Vec<Vec<u8>> =
                    stripe(k as u32 * 320).chunks(320).map(<[u8]>::to_vec).collect();
                let parity = reed_solomon_simd::encode(k, m, &data).expect("fits");
                let shards: Vec<&[u8]> = data.iter().chain(&parity).map(Vec::as_slice).collect();
                // The widest codings have most losses: those only by the kernel that is used.
                let kernels = Kernel::available();
                let count = if k > 8 { 1 } else { kernels.len() };
                for kernel in &kernels[..count] {
                    check_all_losses(&Codec::with_kernels([*kernel]), k, &shards);
                }
            }
        }
    }

    #[test]
    fn shards_may_come_in_any_order_and_more_than_are_needed() {
        let data = stripe(5 * 64);
        let parity = reed_solomon_simd::encode(5, 3, data.chunks(64)).expect("fits").concat();
        let shards: Vec<&[u8]> = data.chunks(64).chain(parity.chunks(64)).collect();
        let known = [7, 3, 5, 0, 2, 4].map(|at| (at, shards[at]));
        let rebuilt = Codec::new().reconstruct(5, 3, &known, &[6, 1, 4]).expect("enough");
        assert_eq!(rebuilt, [shards[6], shards[1], shards[4]]);
    }

    #[test]
    fn slices_are_byte_identical_to_the_coder_fed_at_once() {
        let coding = Coding::parse("4+2").expect("valid");
        let geometry = StripeGeometry::new(coding, 1_000_003).expect("valid");
        let stripe = stripe(1_000_003);
        let width = geometry.shard_bytes() as usize;
        let mut parity = vec![0; 2 * width];
        Codec::new().encode(&geometry, &stripe, &mut parity).expect("fits");
        let mut padded = stripe;
        padded.resize(4 * width, 0);
        let whole = reed_solomon_simd::encode(4, 2, padded.chunks(width)).expect("fits");
        assert_eq!(whole.concat(), parity);
    }

    #[test]
    fn the_parity_of_one_data_shard_is_its_copy() {
        // What the shortcuts for k' = 1 rest upon.
        for m in 1..=4 {
            let data = stripe(4096);
            for parity in reed_solomon_simd::encode(1, m, [&data]).expect("fits") {
                assert_eq!(parity, data);
            }
        }
    }

    #[test]
    fn shards_that_do_not_fit_are_refused() {
        let codec = Codec::new();
        let (data, short, odd) = ([0u8; 128], [0u8; 64], [0u8; 66]);
        let check = |k, m, known: &[(usize, &[u8])], wanted: &[usize], expected| {
            assert_eq!(
                codec.reconstruct(k, m, known, wanted),
                Err(expected),
                "{known:?} {wanted:?}"
            );
        };
        check(2, 1, &[(0, &data)], &[1], CodecError::TooFew);
        check(2, 1, &[(0, &data), (2, &short)], &[1], CodecError::Length);
        check(2, 1, &[(0, &odd), (2, &odd)], &[1], CodecError::Length);
        check(2, 1, &[(0, &data), (3, &data)], &[1], CodecError::Numbers);
        check(2, 1, &[(0, &data), (2, &data)], &[3], CodecError::Numbers);
        check(2, 1, &[(0, &data), (0, &data)], &[1], CodecError::Numbers);
        check(2, 1, &[(0, &data), (2, &data)], &[2], CodecError::Numbers);
        check(2, 1, &[(0, &data), (2, &data)], &[1, 1], CodecError::Numbers);
        check(0, 1, &[], &[0], CodecError::Numbers);
        check(1, 0, &[(0, &data)], &[1], CodecError::Numbers);
        check(17, 1, &[(0, &data[..]); 17], &[1], CodecError::Numbers);
        check(1, 1, &[(usize::MAX, &data)], &[0], CodecError::Numbers);
        let broken = Codec::with_kernels([]);
        let known: [(usize, &[u8]); 2] = [(0, &data), (2, &data)];
        assert_eq!(broken.reconstruct(2, 1, &known, &[1]), Err(CodecError::NoKernel));
        let coding = Coding::parse("4+2").expect("valid");
        let geometry = StripeGeometry::new(coding, 100).expect("valid");
        assert_eq!(codec.encode(&geometry, &[0; 100], &mut [0; 3]), Err(CodecError::Length));
    }
}
