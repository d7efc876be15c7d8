//! Maps in the form that a kernel wants, and which kernels there are.

use super::map::Map;
use super::{CHUNK_BYTES, Chunk, OUTPUTS_MAX, portable};
#[cfg(target_arch = "x86_64")]
use super::{avx2, gfni};

/// Chunks of each shard that are worked on before the next outputs are begun, where there are more
/// than a kernel computes at once: so much of sixteen inputs stays in a core's cache.
const BLOCK_CHUNKS: usize = 256;

/// A way to apply maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Table lookups in plain Rust.
    Portable,
    /// Lookups by shuffles, 32 elements at a time.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Multiplication by bit matrices, 32 elements at a time.
    #[cfg(target_arch = "x86_64")]
    Gfni,
}

impl Kernel {
    /// Every kernel that this processor can run, the fastest first.
    pub fn available() -> Vec<Kernel> {
        let mut kernels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if has_gfni() {
                kernels.push(Kernel::Gfni);
            }
            if is_x86_feature_detected!("avx2") {
                kernels.push(Kernel::Avx2);
            }
        }
        kernels.push(Kernel::Portable);
        kernels
    }

    /// What it is called in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Kernel::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => "AVX2",
            #[cfg(target_arch = "x86_64")]
            Kernel::Gfni => "GFNI with AVX-512",
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn has_gfni() -> bool {
    is_x86_feature_detected!("gfni") && is_x86_feature_detected!("avx512f")
}

/// Outputs as sums of mapped inputs, ready to be computed.
#[derive(Clone, Debug)]
pub struct Program {
    inputs: usize,
    outputs: usize,
    /// For each group of at most [`OUTPUTS_MAX`] outputs the terms of its first input, then those of
    /// the second one, and so on.
    groups: Groups,
}

#[derive(Clone, Debug)]
enum Groups {
    Portable(Vec<Vec<portable::Term>>),
    #[cfg(target_arch = "x86_64")]
    Avx2(Vec<Vec<avx2::Term>>),
    #[cfg(target_arch = "x86_64")]
    Gfni(Vec<Vec<gfni::Term>>),
}

impl Program {
    /// The program of `kernel`, which must be [available], for outputs that are each the sum of
    /// `maps[output][input]` of the inputs.
    ///
    /// [available]: Kernel::available
    ///
    /// # Panics
    ///
    /// If the outputs have different numbers of maps, or the kernel isn't available.
    pub fn new(kernel: Kernel, maps: &[Vec<Map>]) -> Program {
        let inputs = maps.first().map_or(0, Vec::len);
        assert!(maps.iter().all(|row| row.len() == inputs), "every output is of all inputs");
        assert!(Kernel::available().contains(&kernel), "a kernel is only used where it can run");
        let groups = match kernel {
            Kernel::Portable => Groups::Portable(terms(maps, inputs)),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => Groups::Avx2(terms(maps, inputs)),
            #[cfg(target_arch = "x86_64")]
            Kernel::Gfni => Groups::Gfni(terms(maps, inputs)),
        };
        Program { inputs, outputs: maps.len(), groups }
    }

    /// Computes all outputs; whatever was in them is overwritten.
    ///
    /// # Panics
    ///
    /// If inputs or outputs are more or fewer than the program's, or aren't all of one length, a
    /// multiple of [`CHUNK_BYTES`].
    pub fn run(&self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) {
        assert_eq!(outputs.len(), self.outputs, "the program's number of outputs");
        let Some(bytes) = outputs.first().map(|output| output.len()) else { return };
        assert_eq!(inputs.len(), self.inputs, "the program's number of inputs");
        assert_eq!(bytes % CHUNK_BYTES, 0, "whole chunks");
        assert!(
            inputs.iter().all(|input| input.len() == bytes)
                && outputs.iter().all(|output| output.len() == bytes),
            "shards of one length"
        );
        let inputs: Vec<&[Chunk]> = inputs.iter().map(|input| input.as_chunks().0).collect();
        let mut outputs: Vec<&mut [Chunk]> =
            outputs.iter_mut().map(|output| output.as_chunks_mut().0).collect();
        let chunks = bytes / CHUNK_BYTES;
        let block = if self.outputs > OUTPUTS_MAX { BLOCK_CHUNKS } else { chunks.max(1) };
        for start in (0..chunks).step_by(block) {
            let columns = start..(start + block).min(chunks);
            let inputs: Vec<&[Chunk]> =
                inputs.iter().map(|input| &input[columns.clone()]).collect();
            for (group, outputs) in outputs.chunks_mut(OUTPUTS_MAX).enumerate() {
                let mut outputs: Vec<&mut [Chunk]> =
                    outputs.iter_mut().map(|output| &mut output[columns.clone()]).collect();
                self.run_group(group, &inputs, &mut outputs);
            }
        }
    }

    fn run_group(&self, group: usize, inputs: &[&[Chunk]], outputs: &mut [&mut [Chunk]]) {
        match &self.groups {
            Groups::Portable(groups) => portable::run(&groups[group], inputs, outputs),
            #[cfg(target_arch = "x86_64")]
            Groups::Avx2(groups) => {
                assert!(is_x86_feature_detected!("avx2"), "checked when the program was made");
                #[expect(unsafe_code, reason = "a call of code for a detected feature")]
                // SAFETY: the processor has AVX2, as was asked just now.
                unsafe {
                    avx2::run(&groups[group], inputs, outputs);
                }
            }
            #[cfg(target_arch = "x86_64")]
            Groups::Gfni(groups) => {
                assert!(has_gfni(), "checked when the program was made");
                #[expect(unsafe_code, reason = "a call of code for detected features")]
                // SAFETY: the processor has GFNI and AVX-512F, as was asked just now.
                unsafe {
                    gfni::run(&groups[group], inputs, outputs);
                }
            }
        }
    }
}

/// All terms, grouped by outputs; in a group, input by input.
fn terms<T: for<'a> From<&'a Map>>(maps: &[Vec<Map>], inputs: usize) -> Vec<Vec<T>> {
    let of_group = |group: &[Vec<Map>]| {
        let of_input = |input: usize| group.iter().map(move |row| T::from(&row[input]));
        (0..inputs).flat_map(of_input).collect()
    };
    maps.chunks(OUTPUTS_MAX).map(of_group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear::CHUNK_ELEMENTS;

    fn word(seed: usize) -> u16 {
        ((seed as u32).wrapping_mul(2_654_435_761) >> 12) as u16
    }

    fn element(shard: &[u8], at: usize) -> u16 {
        let low = at / CHUNK_ELEMENTS * CHUNK_BYTES + at % CHUNK_ELEMENTS;
        u16::from_le_bytes([shard[low], shard[low + CHUNK_ELEMENTS]])
    }

    fn check(kernel: Kernel, inputs: usize, outputs: usize, chunks: usize) {
        let map = |seed: usize| Map::from_images(std::array::from_fn(|bit| word(seed * 16 + bit)));
        let maps: Vec<Vec<Map>> = (0..outputs)
            .map(|output| (0..inputs).map(|input| map(output * 99 + input)).collect())
            .collect();
        let bytes = chunks * CHUNK_BYTES;
        let data: Vec<Vec<u8>> = (0..inputs)
            .map(|input| (0..bytes).map(|at| word(at + input * 7919) as u8).collect())
            .collect();
        let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        let mut found = vec![vec![0xaa; bytes]; outputs];
        let mut places: Vec<&mut [u8]> = found.iter_mut().map(Vec::as_mut_slice).collect();
        Program::new(kernel, &maps).run(&data, &mut places);
        for (output, (shard, maps)) in found.iter().zip(&maps).enumerate() {
            for at in 0..bytes / 2 {
                let terms = maps.iter().zip(&data);
                let expected = terms.fold(0, |sum, (map, one)| sum ^ map.apply(element(one, at)));
                assert_eq!(element(shard, at), expected, "{kernel:?}: element {at} of {output}");
            }
        }
    }

    #[test]
    fn every_kernel_computes_the_sums() {
        for kernel in Kernel::available() {
            for inputs in [0, 1, 2, 5, 16, 20] {
                for outputs in [0, 1, 2, 3, 4, 5, 9] {
                    for chunks in [0, 1, 3, 4, 7, 9, 300] {
                        check(kernel, inputs, outputs, chunks);
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "whole chunks")]
    fn a_part_of_a_chunk_is_refused() {
        let program = Program::new(Kernel::Portable, &[vec![Map::ZERO]]);
        program.run(&[&[0; 63]], &mut [&mut [0; 63]]);
    }

    #[test]
    #[should_panic(expected = "one length")]
    fn shards_of_different_lengths_are_refused() {
        let program = Program::new(Kernel::Portable, &[vec![Map::ZERO]]);
        program.run(&[&[0; 64]], &mut [&mut [0; 128]]);
    }
}
