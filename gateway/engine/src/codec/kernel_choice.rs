//! Which kernel rebuilds shards: the fastest that does on this very processor what it should.
//!
//! Each is tried at start-up against reed-solomon-simd, the coder of record: parity from data, and
//! data back from parity, on a length that uses all of the kernel's paths. A kernel that fails is
//! never used, and is reported: the processor, or the code, is broken.

use kernels::linear::{Kernel, Program, solve};

use super::CodecError;
use super::generator::generator;

/// The widest coding: every path for many shards.
const DATA_SHARDS: usize = 16;
const PARITY_SHARDS: usize = 4;

/// Nine chunks: two rounds of four in a row, and one that is left over.
const SHARD_BYTES: usize = 9 * 64;

/// The first of `kernels` that gives the coder's bytes.
pub(super) fn choose(kernels: impl IntoIterator<Item = Kernel>) -> Option<Kernel> {
    kernels.into_iter().find(|kernel| {
        let found = check(|maps| Program::new(*kernel, maps));
        if let Err(failure) = &found {
            let kernel = kernel.name();
            tracing::error!(kernel, %failure, "a coding kernel fails its check and is not used");
        }
        found.is_ok()
    })
}

/// How a kernel failed.
#[derive(Debug, PartialEq, thiserror::Error)]
enum CheckFailure {
    #[error("its parity differs from the coder's")]
    Parity,
    #[error("the data that it rebuilds isn't what was encoded")]
    Data,
    #[error(transparent)]
    Coder(#[from] CodecError),
}

fn check(program: impl Fn(&[Vec<kernels::linear::Map>]) -> Program) -> Result<(), CheckFailure> {
    let data: Vec<Vec<u8>> = (0..DATA_SHARDS as u32)
        .map(|shard| {
            let at = |at: u32| ((at ^ shard << 20).wrapping_mul(2_654_435_761) >> 15) as u8;
            (0..SHARD_BYTES as u32).map(at).collect()
        })
        .collect();
    let parity =
        reed_solomon_simd::encode(DATA_SHARDS, PARITY_SHARDS, &data).map_err(CodecError::from)?;
    let generator = generator(DATA_SHARDS, PARITY_SHARDS)?;
    let shards: Vec<&[u8]> = data.iter().chain(&parity).map(Vec::as_slice).collect();
    if run(&program(&generator), &shards[..DATA_SHARDS], PARITY_SHARDS) != parity {
        return Err(CheckFailure::Parity);
    }
    let known: Vec<usize> = (PARITY_SHARDS..DATA_SHARDS + PARITY_SHARDS).collect();
    let wanted: Vec<usize> = (0..PARITY_SHARDS).collect();
    let maps = solve(&generator, &known, &wanted).ok_or(CodecError::TooFew)?;
    if run(&program(&maps), &shards[PARITY_SHARDS..], PARITY_SHARDS) != data[..PARITY_SHARDS] {
        return Err(CheckFailure::Data);
    }
    Ok(())
}

fn run(program: &Program, inputs: &[&[u8]], outputs: usize) -> Vec<Vec<u8>> {
    let mut found = vec![vec![0; SHARD_BYTES]; outputs];
    let mut places: Vec<&mut [u8]> = found.iter_mut().map(Vec::as_mut_slice).collect();
    program.run(inputs, &mut places);
    found
}

#[cfg(test)]
mod tests {
    use kernels::linear::Map;

    use super::*;

    #[test]
    fn every_kernel_of_this_processor_passes() {
        for kernel in Kernel::available() {
            assert_eq!(check(|maps| Program::new(kernel, maps)), Ok(()), "{kernel:?}");
        }
        assert_eq!(choose(Kernel::available()), Kernel::available().first().copied());
        assert_eq!(choose([]), None);
    }

    #[test]
    fn a_kernel_that_computes_something_else_fails() {
        let kernel = Kernel::Portable;
        let spoil = |maps: &[Vec<Map>], is_spoilt: bool| {
            let mut maps = maps.to_vec();
            if is_spoilt {
                maps[3][15] = maps[3][15].plus(&Map::identity());
            }
            Program::new(kernel, &maps)
        };
        assert_eq!(check(|maps| spoil(maps, true)), Err(CheckFailure::Parity));
        let parity = generator(DATA_SHARDS, PARITY_SHARDS).expect("a coding");
        assert_eq!(check(|maps| spoil(maps, maps != parity)), Err(CheckFailure::Data));
    }
}
