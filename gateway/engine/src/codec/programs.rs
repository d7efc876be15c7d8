//! Programs that rebuild shards, made when they are first wanted and kept, with a bound.
//!
//! In: a coding, which shards there are, and which are wanted. Out: the program. Making one takes
//! some tens of microseconds; running it, hardly longer than reading the shards.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kernels::linear::{Kernel, Map, Program, solve};

use super::CodecError;
use super::generator::generator;

/// Programs that are kept: all patterns that a cluster with a few disks down comes to. Each takes at
/// most 8 KiB. When there are more, the one that was used least recently goes.
const PROGRAMS_MAX: usize = 256;

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pattern {
    pub(super) data_shards: u8,
    pub(super) parity_shards: u8,
    /// A bit for each shard that is there, data before parity.
    pub(super) known: u32,
    /// A bit for each shard that is to be rebuilt.
    pub(super) wanted: u32,
}

/// Programs for one kernel.
pub(super) struct Programs {
    kernel: Kernel,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// There are no more than there are codings.
    generators: HashMap<(u8, u8), Arc<Vec<Vec<Map>>>>,
    programs: HashMap<Pattern, Used>,
    uses: u64,
}

struct Used {
    program: Arc<Program>,
    last: u64,
}

impl Programs {
    pub(super) fn new(kernel: Kernel) -> Self {
        Self { kernel, kept: Mutex::default() }
    }

    pub(super) fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// The program whose inputs are the known shards and whose outputs the wanted ones, both in the
    /// order of their numbers.
    pub(super) fn get(&self, pattern: Pattern) -> Result<Arc<Program>, CodecError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.uses += 1;
        let uses = kept.uses;
        if let Some(used) = kept.programs.get_mut(&pattern) {
            used.last = uses;
            return Ok(Arc::clone(&used.program));
        }
        let coding = (pattern.data_shards, pattern.parity_shards);
        let known_generator = kept.generators.get(&coding).cloned();
        // Others go on while this one is made; should two make the same, one of them is kept.
        drop(kept);
        let generator = match known_generator {
            Some(generator) => generator,
            None => Arc::new(generator(usize::from(coding.0), usize::from(coding.1))?),
        };
        let (known, wanted) = (numbers(pattern.known), numbers(pattern.wanted));
        let maps = solve(&generator, &known, &wanted).ok_or(CodecError::TooFew)?;
        let program = Arc::new(Program::new(self.kernel, &maps));
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.generators.insert(coding, generator);
        kept.make_room();
        kept.programs.insert(pattern, Used { program: Arc::clone(&program), last: uses });
        Ok(program)
    }
}

impl Kept {
    fn make_room(&mut self) {
        while self.programs.len() >= PROGRAMS_MAX {
            let oldest = self.programs.iter().min_by_key(|(_, used)| used.last);
            let Some(pattern) = oldest.map(|(pattern, _)| *pattern) else { return };
            self.programs.remove(&pattern);
        }
    }
}

/// The numbers of the bits that are set.
fn numbers(bits: u32) -> Vec<usize> {
    (0..u32::BITS as usize).filter(|bit| bits >> bit & 1 == 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_kept_up_to_a_bound() {
        let programs = Programs::new(Kernel::Portable);
        let full = (1u32 << 16) - 1;
        let pattern = |lost: u32| Pattern {
            data_shards: 12,
            parity_shards: 4,
            known: full & !lost,
            wanted: lost,
        };
        let lost: Vec<u32> = (1..=full).filter(|lost| lost.count_ones() == 3).collect();
        assert!(lost.len() > 2 * PROGRAMS_MAX);
        let often = pattern(lost[0]);
        let first = programs.get(often).expect("enough");
        for lost in &lost {
            programs.get(pattern(*lost)).expect("enough");
            assert!(Arc::ptr_eq(&first, &programs.get(often).expect("enough")), "still kept");
            assert!(programs.kept.lock().expect("whole").programs.len() <= PROGRAMS_MAX);
        }
    }

    #[test]
    fn too_few_shards_make_no_program() {
        let programs = Programs::new(Kernel::Portable);
        let pattern = Pattern { data_shards: 4, parity_shards: 2, known: 0b111, wanted: 0b1000 };
        assert_eq!(programs.get(pattern).err(), Some(CodecError::TooFew));
    }
}
