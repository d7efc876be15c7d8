//! One stream in plain Rust, for processors without a kernel of their own.

use super::steps::{SINES, rounds};
use super::{Block, State};

#[derive(Clone, Copy)]
struct Words {
    a: u32,
    b: u32,
    c: u32,
    d: u32,
}

impl From<State> for Words {
    fn from([a, b, c, d]: State) -> Self {
        Self { a, b, c, d }
    }
}

/// Runs the blocks through the compression function.
pub(super) fn compress(state: &mut State, blocks: &[Block]) {
    for block in blocks {
        let (words, _) = block.as_chunks::<4>();
        let word = |at: usize| u32::from_le_bytes(words[at]);
        let mut v = Words::from(*state);
        macro_rules! step {
            ($a:ident $b:ident; $mixed:expr, $word:expr, $rotation:expr, $n:expr) => {
                v.$a =
                    v.$a.wrapping_add(word($word))
                        .wrapping_add(SINES[$n])
                        .wrapping_add($mixed)
                        .rotate_left($rotation)
                        .wrapping_add(v.$b)
            };
        }
        macro_rules! f { ($a:ident $b:ident $c:ident $d:ident; $w:expr, $r:expr, $n:expr) => {
            step!($a $b; ((v.$c ^ v.$d) & v.$b) ^ v.$d, $w, $r, $n)
        } }
        macro_rules! g { ($a:ident $b:ident $c:ident $d:ident; $w:expr, $r:expr, $n:expr) => {
            step!($a $b; (v.$b & v.$d) | (v.$c & !v.$d), $w, $r, $n)
        } }
        macro_rules! h { ($a:ident $b:ident $c:ident $d:ident; $w:expr, $r:expr, $n:expr) => {
            step!($a $b; (v.$c ^ v.$d) ^ v.$b, $w, $r, $n)
        } }
        macro_rules! i { ($a:ident $b:ident $c:ident $d:ident; $w:expr, $r:expr, $n:expr) => {
            step!($a $b; v.$c ^ (v.$b | !v.$d), $w, $r, $n)
        } }
        rounds!(f, g, h, i);
        for (sum, word) in state.iter_mut().zip([v.a, v.b, v.c, v.d]) {
            *sum = sum.wrapping_add(word);
        }
    }
}
