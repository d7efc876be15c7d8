use ::md5::Digest as _;
use proptest::prelude::*;

use super::*;

fn bytes(count: usize, seed: u32) -> Vec<u8> {
    (0..count as u32)
        .map(|at| (at.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}

fn expected(bytes: &[u8]) -> [u8; 16] {
    ::md5::Md5::digest(bytes).into()
}

fn hex(digest: [u8; 16]) -> String {
    use std::fmt::Write as _;
    digest.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}

#[test]
fn digests_of_the_definition() {
    let check = |text: &str, digest: &str| assert_eq!(hex(Md5::digest(text.as_bytes())), digest);
    check("", "d41d8cd98f00b204e9800998ecf8427e");
    check("a", "0cc175b9c0f1b6a831c399e269772661");
    check("abc", "900150983cd24fb0d6963f7d28e17f72");
    check("message digest", "f96b697d7cb7938d525a2f31aaf161d0");
    check("abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b");
    check(
        "12345678901234567890123456789012345678901234567890123456789012345678901234567890",
        "57edf4a22be3c955ac49da2e2107b67a",
    );
}

#[test]
fn every_short_length() {
    let all = bytes(520, 1);
    for length in 0..all.len() {
        assert_eq!(Md5::digest(&all[..length]), expected(&all[..length]), "{length}");
    }
}

#[test]
fn every_kernel_with_every_number_of_lanes() {
    for kernel in Kernel::available() {
        for lanes in 1..=LANES_MAX + 3 {
            // Each stream is some blocks and a bit longer than the one before.
            let streams: Vec<Vec<u8>> =
                (0..lanes).map(|lane| bytes(1000 + lane * 77, lane as u32)).collect();
            let mut hashers = vec![Md5::new(); lanes];
            let pieces: Vec<[&[u8]; 2]> =
                streams.iter().map(|all| all.split_at(333).into()).collect();
            let mut together: Vec<Lane<'_, &[u8]>> =
                hashers.iter_mut().zip(&pieces).map(|(md5, pieces)| Lane { md5, pieces }).collect();
            update_lanes_with(kernel, &mut together);
            for (lane, (md5, all)) in hashers.into_iter().zip(&streams).enumerate() {
                assert_eq!(md5.finish(), expected(all), "{kernel:?}, {lane} of {lanes}");
            }
        }
    }
}

#[test]
fn a_long_stream_gives_what_it_gives_alone() {
    let all = bytes(3_000_001, 5);
    let mut md5 = Md5::new();
    for piece in all.chunks(65_537) {
        md5.update(piece);
    }
    assert_eq!(md5.finish(), expected(&all));
}

/// Streams, each in rounds of pieces: some rounds of some streams have none.
fn streams() -> impl Strategy<Value = Vec<Vec<Vec<Vec<u8>>>>> {
    let piece = (0usize..400, any::<u32>()).prop_map(|(count, seed)| bytes(count, seed));
    let round = prop::collection::vec(piece, 0..4);
    prop::collection::vec(prop::collection::vec(round, 3), 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_mix_of_pieces_gives_the_digests_of_the_whole(streams in streams()) {
        for kernel in Kernel::available().into_iter().map(Some).chain([None]) {
            let mut hashers = vec![Md5::new(); streams.len()];
            for round in 0..3 {
                let mut lanes: Vec<Lane<'_, Vec<u8>>> = hashers
                    .iter_mut()
                    .zip(&streams)
                    .map(|(md5, rounds)| Lane { md5, pieces: &rounds[round] })
                    .collect();
                match kernel {
                    Some(kernel) => update_lanes_with(kernel, &mut lanes),
                    None => update_lanes(&mut lanes),
                }
            }
            for (md5, rounds) in hashers.into_iter().zip(&streams) {
                prop_assert_eq!(md5.finish(), expected(&rounds.concat().concat()), "{:?}", kernel);
            }
        }
    }
}
