//! The ways to run blocks of several streams, and which is the best for how many.

use super::{Strand, portable};
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512, scalar};

/// A way to run blocks through the compression function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// One stream after the other, in plain Rust.
    Portable,
    /// Two streams at a time in general registers.
    #[cfg(target_arch = "x86_64")]
    Pairs,
    /// Eight streams at a time.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Sixteen streams at a time.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Kernel {
    /// Every kernel that this processor can run.
    pub fn available() -> Vec<Kernel> {
        let mut kernels = vec![Kernel::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            kernels.push(Kernel::Pairs);
            if is_x86_feature_detected!("avx2") {
                kernels.push(Kernel::Avx2);
            }
            if is_x86_feature_detected!("avx512f") {
                kernels.push(Kernel::Avx512);
            }
        }
        kernels
    }

    /// The fastest for so many streams. Where vectors begin to win was measured: a pair in general
    /// registers runs at half the rate of eight lanes of AVX2 and a sixth of sixteen of AVX-512.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn best_for(streams: usize) -> Kernel {
        match streams {
            5.. if is_x86_feature_detected!("avx512f") => Kernel::Avx512,
            5.. if is_x86_feature_detected!("avx2") => Kernel::Avx2,
            _ => Kernel::Pairs,
        }
    }

    /// The fastest for so many streams: there is only one.
    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn best_for(_streams: usize) -> Kernel {
        Kernel::Portable
    }

    /// Runs the first `count` blocks of every strand, all of which have so many.
    pub(super) fn compress(self, strands: &mut [Strand<'_>], count: usize) {
        match self {
            Kernel::Portable => {
                for strand in strands {
                    portable::compress(strand.state, &strand.blocks[..count]);
                }
            }
            #[cfg(target_arch = "x86_64")]
            Kernel::Pairs => {
                for pair in strands.chunks_mut(2) {
                    match pair {
                        [one, other] => scalar::compress_pair(
                            (one.state, &one.blocks[..count]),
                            (other.state, &other.blocks[..count]),
                        ),
                        alone => {
                            for strand in alone {
                                scalar::compress(strand.state, &strand.blocks[..count]);
                            }
                        }
                    }
                }
            }
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => {
                assert!(is_x86_feature_detected!("avx2"), "a kernel is only used where it can run");
                for lanes in strands.chunks_mut(avx2::LANES) {
                    #[expect(unsafe_code, reason = "a call of code for a detected feature")]
                    // SAFETY: the processor has AVX2, as was asked just now.
                    unsafe {
                        avx2::compress(lanes, count);
                    }
                }
            }
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => {
                assert!(
                    is_x86_feature_detected!("avx512f"),
                    "a kernel is only used where it can run"
                );
                for lanes in strands.chunks_mut(avx512::LANES) {
                    #[expect(unsafe_code, reason = "a call of code for a detected feature")]
                    // SAFETY: the processor has AVX-512F, as was asked just now.
                    unsafe {
                        avx512::compress(lanes, count);
                    }
                }
            }
        }
    }
}
