//! The 64 steps of MD5's compression function (RFC 1321), written once for all kernels.

/// The states' start: A, B, C, D.
pub(super) const START: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

/// What each step adds: the integer part of `2^32 * abs(sin(step + 1))`.
pub(super) const SINES: [u32; 64] = [
    0xd76a_a478,
    0xe8c7_b756,
    0x2420_70db,
    0xc1bd_ceee,
    0xf57c_0faf,
    0x4787_c62a,
    0xa830_4613,
    0xfd46_9501,
    0x6980_98d8,
    0x8b44_f7af,
    0xffff_5bb1,
    0x895c_d7be,
    0x6b90_1122,
    0xfd98_7193,
    0xa679_438e,
    0x49b4_0821,
    0xf61e_2562,
    0xc040_b340,
    0x265e_5a51,
    0xe9b6_c7aa,
    0xd62f_105d,
    0x0244_1453,
    0xd8a1_e681,
    0xe7d3_fbc8,
    0x21e1_cde6,
    0xc337_07d6,
    0xf4d5_0d87,
    0x455a_14ed,
    0xa9e3_e905,
    0xfcef_a3f8,
    0x676f_02d9,
    0x8d2a_4c8a,
    0xfffa_3942,
    0x8771_f681,
    0x6d9d_6122,
    0xfde5_380c,
    0xa4be_ea44,
    0x4bde_cfa9,
    0xf6bb_4b60,
    0xbebf_bc70,
    0x289b_7ec6,
    0xeaa1_27fa,
    0xd4ef_3085,
    0x0488_1d05,
    0xd9d4_d039,
    0xe6db_99e5,
    0x1fa2_7cf8,
    0xc4ac_5665,
    0xf429_2244,
    0x432a_ff97,
    0xab94_23a7,
    0xfc93_a039,
    0x655b_59c3,
    0x8f0c_cc92,
    0xffef_f47d,
    0x8584_5dd1,
    0x6fa8_7e4f,
    0xfe2c_e6e0,
    0xa301_4314,
    0x4e08_11a1,
    0xf753_7e82,
    0xbd3a_f235,
    0x2ad7_d2bb,
    0xeb86_d391,
];

/// The same, as instructions take them.
pub(super) const SIGNED_SINES: [i32; 64] = {
    let (mut signed, mut step) = ([0; 64], 0);
    while step < 64 {
        signed[step] = SINES[step].cast_signed();
        step += 1;
    }
    signed
};

/// Calls a macro for each step, in order, as `step!(a b c d; word, rotation, number)`: the step
/// writes the state's field `a`. There is one macro for each of the four rounds.
macro_rules! rounds {
    ($f:ident, $g:ident, $h:ident, $i:ident) => {
        rounds!(@four $f, 0, [0 1 2 3], [7 12 17 22]);
        rounds!(@four $f, 4, [4 5 6 7], [7 12 17 22]);
        rounds!(@four $f, 8, [8 9 10 11], [7 12 17 22]);
        rounds!(@four $f, 12, [12 13 14 15], [7 12 17 22]);
        rounds!(@four $g, 16, [1 6 11 0], [5 9 14 20]);
        rounds!(@four $g, 20, [5 10 15 4], [5 9 14 20]);
        rounds!(@four $g, 24, [9 14 3 8], [5 9 14 20]);
        rounds!(@four $g, 28, [13 2 7 12], [5 9 14 20]);
        rounds!(@four $h, 32, [5 8 11 14], [4 11 16 23]);
        rounds!(@four $h, 36, [1 4 7 10], [4 11 16 23]);
        rounds!(@four $h, 40, [13 0 3 6], [4 11 16 23]);
        rounds!(@four $h, 44, [9 12 15 2], [4 11 16 23]);
        rounds!(@four $i, 48, [0 7 14 5], [6 10 15 21]);
        rounds!(@four $i, 52, [12 3 10 1], [6 10 15 21]);
        rounds!(@four $i, 56, [8 15 6 13], [6 10 15 21]);
        rounds!(@four $i, 60, [4 11 2 9], [6 10 15 21]);
    };
    (@four $step:ident, $n:literal, [$w0:literal $w1:literal $w2:literal $w3:literal],
     [$r0:literal $r1:literal $r2:literal $r3:literal]) => {
        $step!(a b c d; $w0, $r0, $n);
        $step!(d a b c; $w1, $r1, $n + 1);
        $step!(c d a b; $w2, $r2, $n + 2);
        $step!(b c d a; $w3, $r3, $n + 3);
    };
}

pub(super) use rounds;

#[cfg(test)]
mod tests {
    #[test]
    fn the_sines_are_those_of_the_definition() {
        for (step, sine) in super::SINES.iter().enumerate() {
            let exact = (step as f64 + 1.0).sin().abs() * f64::from(1 << 16) * f64::from(1 << 16);
            assert_eq!(*sine, exact as u32, "step {step}");
        }
    }
}
