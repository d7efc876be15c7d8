//! Erasure coding: the adaptor of reed-solomon-simd, which is the encoder of record.
//!
//! In: the bytes of a stripe and its geometry, or the same columns of `k'` shards. Out: parity, or
//! the columns of missing data shards. Columns are independent, so a range of a shard can be
//! rebuilt alone. Coders hold tables and work space and are used again.

mod decode;
mod encode;

use std::sync::{Mutex, PoisonError};

use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};

/// Idle coders of each kind that are kept; more work at once makes new ones.
const IDLE_CODERS_MAX: usize = 8;

/// Why coding failed. All of these are mistakes of the caller: shards that don't fit together.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum CodecError {
    /// Lengths or numbers don't belong to the geometry.
    #[error("the shards do not fit the coding: {0}")]
    Shape(#[from] reed_solomon_simd::Error),
    /// A buffer has another length than the geometry says.
    #[error("a buffer does not fit the stripe")]
    Length,
    /// Fewer than `k'` shards.
    #[error("too few shards to reconstruct")]
    TooFew,
}

/// Coders, shared by all writers and readers.
#[derive(Default)]
pub struct Codec {
    encoders: Mutex<Vec<ReedSolomonEncoder>>,
    decoders: Mutex<Vec<ReedSolomonDecoder>>,
}

impl Codec {
    /// A codec without coders yet.
    pub fn new() -> Self {
        Self::default()
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

    use super::*;

    fn stripe(bytes: u32) -> Vec<u8> {
        (0..bytes).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
    }

    /// Every loss of up to `m` shards of a stripe is rebuilt.
    fn check(coding: &str, bytes: u32) {
        let coding = Coding::parse(coding).expect("valid");
        let geometry = StripeGeometry::new(coding, bytes).expect("valid");
        let stripe = stripe(bytes);
        let codec = Codec::new();
        let (k, m) = (usize::from(geometry.data_shards()), usize::from(coding.parity()));
        let width = geometry.shard_bytes() as usize;
        let mut parity = vec![0xaa; m * width];
        codec.encode(&geometry, &stripe, &mut parity).expect("fits");
        let mut padded = stripe.clone();
        padded.resize(k * width, 0);
        let column = |at: usize| match at.checked_sub(k) {
            None => &padded[at * width..(at + 1) * width],
            Some(at) => &parity[at * width..(at + 1) * width],
        };
        for lost in 0u32..1 << (k + m) {
            if lost.count_ones() as usize != m {
                continue;
            }
            let is_lost = |at: usize| lost & (1 << at) != 0;
            let known: Vec<_> =
                (0..k + m).filter(|at| !is_lost(*at)).map(|at| (at, column(at))).collect();
            let wanted: Vec<usize> = (0..k).filter(|at| is_lost(*at)).collect();
            let rebuilt = codec.reconstruct(k, m, &known, &wanted).expect("enough");
            for (at, bytes) in wanted.iter().zip(rebuilt) {
                assert_eq!(bytes, column(*at), "{coding} {bytes:?} lost {lost:b}");
            }
        }
    }

    #[test]
    fn every_loss_of_m_shards_is_rebuilt() {
        for coding in ["1+0", "1+1", "1+2", "1+4", "2+1", "2+2", "3+2", "4+2", "6+3", "8+4"] {
            for bytes in [1, 64, 65, 4096, 16_385, 49_153, 300_001] {
                check(coding, bytes);
            }
        }
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
        let data = [0u8; 64];
        assert_eq!(codec.reconstruct(2, 1, &[(0, &data)], &[1]), Err(CodecError::TooFew));
        let coding = Coding::parse("4+2").expect("valid");
        let geometry = StripeGeometry::new(coding, 100).expect("valid");
        assert_eq!(codec.encode(&geometry, &[0; 100], &mut [0; 3]), Err(CodecError::Length));
    }
}
