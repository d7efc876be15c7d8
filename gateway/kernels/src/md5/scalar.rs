//! One stream, or two at once, in the general registers of any x86-64.
//!
//! A step of MD5 waits for the step before, so one stream leaves most of a core idle; two streams
//! side by side take hardly longer than one. The steps are assembly because compilers put the sum
//! `a + word + sine + mixed` together in an order that lengthens the chain through `b`: here all that
//! doesn't depend on `b` is added before, and in the second round `(b & d) | (c & !d)`, whose halves
//! share no bit, is added in two sums, of which only one waits for `b`.

use std::arch::asm;

use super::steps::{SIGNED_SINES, rounds};
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

impl Words {
    fn add_to(self, state: &mut State) {
        for (sum, word) in state.iter_mut().zip([self.a, self.b, self.c, self.d]) {
            *sum = sum.wrapping_add(word);
        }
    }
}

/// One step of one stream: the instructions, with the state's words named by field.
macro_rules! one {
    ($v:ident, $from:ident, [$($code:literal)*]; $a:ident $b:ident $c:ident $d:ident;
     $w:expr, $r:expr, $n:expr) => {
        #[expect(unsafe_code, reason = "assembly that reads a word of the block and registers only")]
        // SAFETY: `from` points to a block of 64 bytes, and the word lies within; nothing is
        // written but the named registers and the flags.
        unsafe {
            asm!(
                $($code,)*
                a = inout(reg) $v.$a, b = in(reg) $v.$b, c = in(reg) $v.$c, d = in(reg) $v.$d,
                from = in(reg) $from, t = out(reg) _,
                w = const $w * 4, k = const SIGNED_SINES[$n], r = const $r,
                options(pure, readonly, nostack),
            );
        }
    };
}

/// One step of two streams: instructions for the first, then the same for the second, in turns.
macro_rules! two {
    ($v:ident, $v1:ident, $from:ident, $from1:ident, [$($code:literal)*];
     $a:ident $b:ident $c:ident $d:ident; $w:expr, $r:expr, $n:expr) => {
        #[expect(unsafe_code, reason = "assembly that reads words of two blocks and registers only")]
        // SAFETY: both pointers point to blocks of 64 bytes, and the word lies within; nothing is
        // written but the named registers and the flags.
        unsafe {
            asm!(
                $($code,)*
                a = inout(reg) $v.$a, b = in(reg) $v.$b, c = in(reg) $v.$c, d = in(reg) $v.$d,
                a1 = inout(reg) $v1.$a, b1 = in(reg) $v1.$b, c1 = in(reg) $v1.$c, d1 = in(reg) $v1.$d,
                from = in(reg) $from, from1 = in(reg) $from1, t = out(reg) _, t1 = out(reg) _,
                w = const $w * 4, k = const SIGNED_SINES[$n], r = const $r,
                options(pure, readonly, nostack),
            );
        }
    };
}

/// Runs the blocks of one stream through the compression function.
pub(super) fn compress(state: &mut State, blocks: &[Block]) {
    for block in blocks {
        let from = block.as_ptr();
        let mut v = Words::from(*state);
        macro_rules! f { ($($step:tt)*) => { one!(v, from, [
            "mov {t:e}, {c:e}"
            "add {a:e}, dword ptr [{from} + {w}]"
            "xor {t:e}, {d:e}"
            "add {a:e}, {k}"
            "and {t:e}, {b:e}"
            "xor {t:e}, {d:e}"
            "add {a:e}, {t:e}"
            "rol {a:e}, {r}"
            "add {a:e}, {b:e}"
        ]; $($step)*) } }
        macro_rules! g { ($($step:tt)*) => { one!(v, from, [
            "mov {t:e}, {d:e}"
            "not {t:e}"
            "add {a:e}, dword ptr [{from} + {w}]"
            "and {t:e}, {c:e}"
            "add {a:e}, {k}"
            "add {a:e}, {t:e}"
            "mov {t:e}, {d:e}"
            "and {t:e}, {b:e}"
            "add {a:e}, {t:e}"
            "rol {a:e}, {r}"
            "add {a:e}, {b:e}"
        ]; $($step)*) } }
        macro_rules! h { ($($step:tt)*) => { one!(v, from, [
            "mov {t:e}, {c:e}"
            "add {a:e}, dword ptr [{from} + {w}]"
            "xor {t:e}, {d:e}"
            "add {a:e}, {k}"
            "xor {t:e}, {b:e}"
            "add {a:e}, {t:e}"
            "rol {a:e}, {r}"
            "add {a:e}, {b:e}"
        ]; $($step)*) } }
        macro_rules! i { ($($step:tt)*) => { one!(v, from, [
            "mov {t:e}, {d:e}"
            "not {t:e}"
            "add {a:e}, dword ptr [{from} + {w}]"
            "add {a:e}, {k}"
            "or {t:e}, {b:e}"
            "xor {t:e}, {c:e}"
            "add {a:e}, {t:e}"
            "rol {a:e}, {r}"
            "add {a:e}, {b:e}"
        ]; $($step)*) } }
        rounds!(f, g, h, i);
        v.add_to(state);
    }
}

/// Runs equally many blocks of two streams through the compression function.
pub(super) fn compress_pair(
    (state, blocks): (&mut State, &[Block]),
    (state1, blocks1): (&mut State, &[Block]),
) {
    for (block, block1) in blocks.iter().zip(blocks1) {
        let (from, from1) = (block.as_ptr(), block1.as_ptr());
        let (mut v, mut v1) = (Words::from(*state), Words::from(*state1));
        macro_rules! f { ($($step:tt)*) => { two!(v, v1, from, from1, [
            "mov {t:e}, {c:e}" "mov {t1:e}, {c1:e}"
            "add {a:e}, dword ptr [{from} + {w}]" "add {a1:e}, dword ptr [{from1} + {w}]"
            "xor {t:e}, {d:e}" "xor {t1:e}, {d1:e}"
            "add {a:e}, {k}" "add {a1:e}, {k}"
            "and {t:e}, {b:e}" "and {t1:e}, {b1:e}"
            "xor {t:e}, {d:e}" "xor {t1:e}, {d1:e}"
            "add {a:e}, {t:e}" "add {a1:e}, {t1:e}"
            "rol {a:e}, {r}" "rol {a1:e}, {r}"
            "add {a:e}, {b:e}" "add {a1:e}, {b1:e}"
        ]; $($step)*) } }
        macro_rules! g { ($($step:tt)*) => { two!(v, v1, from, from1, [
            "mov {t:e}, {d:e}" "mov {t1:e}, {d1:e}"
            "not {t:e}" "not {t1:e}"
            "add {a:e}, dword ptr [{from} + {w}]" "add {a1:e}, dword ptr [{from1} + {w}]"
            "and {t:e}, {c:e}" "and {t1:e}, {c1:e}"
            "add {a:e}, {k}" "add {a1:e}, {k}"
            "add {a:e}, {t:e}" "add {a1:e}, {t1:e}"
            "mov {t:e}, {d:e}" "mov {t1:e}, {d1:e}"
            "and {t:e}, {b:e}" "and {t1:e}, {b1:e}"
            "add {a:e}, {t:e}" "add {a1:e}, {t1:e}"
            "rol {a:e}, {r}" "rol {a1:e}, {r}"
            "add {a:e}, {b:e}" "add {a1:e}, {b1:e}"
        ]; $($step)*) } }
        macro_rules! h { ($($step:tt)*) => { two!(v, v1, from, from1, [
            "mov {t:e}, {c:e}" "mov {t1:e}, {c1:e}"
            "add {a:e}, dword ptr [{from} + {w}]" "add {a1:e}, dword ptr [{from1} + {w}]"
            "xor {t:e}, {d:e}" "xor {t1:e}, {d1:e}"
            "add {a:e}, {k}" "add {a1:e}, {k}"
            "xor {t:e}, {b:e}" "xor {t1:e}, {b1:e}"
            "add {a:e}, {t:e}" "add {a1:e}, {t1:e}"
            "rol {a:e}, {r}" "rol {a1:e}, {r}"
            "add {a:e}, {b:e}" "add {a1:e}, {b1:e}"
        ]; $($step)*) } }
        macro_rules! i { ($($step:tt)*) => { two!(v, v1, from, from1, [
            "mov {t:e}, {d:e}" "mov {t1:e}, {d1:e}"
            "not {t:e}" "not {t1:e}"
            "add {a:e}, dword ptr [{from} + {w}]" "add {a1:e}, dword ptr [{from1} + {w}]"
            "add {a:e}, {k}" "add {a1:e}, {k}"
            "or {t:e}, {b:e}" "or {t1:e}, {b1:e}"
            "xor {t:e}, {c:e}" "xor {t1:e}, {c1:e}"
            "add {a:e}, {t:e}" "add {a1:e}, {t1:e}"
            "rol {a:e}, {r}" "rol {a1:e}, {r}"
            "add {a:e}, {b:e}" "add {a1:e}, {b1:e}"
        ]; $($step)*) } }
        rounds!(f, g, h, i);
        v.add_to(state);
        v1.add_to(state1);
    }
}
