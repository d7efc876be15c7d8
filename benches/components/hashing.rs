//! MD5 of one stream and of several at once, beside the crate that hashes one stream after another.

use std::time::Duration;

use kernels::md5::{Kernel, Lane, Md5, update_lanes, update_lanes_with};
use md5::Digest;

use crate::meter::Meter;

const LONG_ENOUGH: Duration = Duration::from_millis(300);

/// Bytes of each stream in a round: what the gateway hashes in one go.
const SLICE_BYTES: usize = 64 << 10;

/// Measures numbers of streams; bytes are those of all streams together.
pub fn measure() {
    let streams: Vec<Vec<u8>> = (0..16u32)
        .map(|stream| {
            let byte = |at: u32| ((at ^ stream).wrapping_mul(2_654_435_761) >> 13) as u8;
            (0..SLICE_BYTES as u32).map(byte).collect()
        })
        .collect();
    let mut reference = md5::Md5::new();
    run("hashing/md-5 crate/1", 1, || reference.update(&streams[0]));
    for count in [1, 2, 4, 8, 16] {
        run_lanes("best", count, &streams, update_lanes);
    }
    for kernel in Kernel::available() {
        for count in [1, 2, 4, 8, 16] {
            let name = format!("{kernel:?}").to_lowercase();
            run_lanes(&name, count, &streams, |lanes| update_lanes_with(kernel, lanes));
        }
    }
}

fn run_lanes(
    name: &str,
    count: usize,
    streams: &[Vec<u8>],
    update: impl Fn(&mut [Lane<'_, Vec<u8>>]),
) {
    let mut hashers = vec![Md5::new(); count];
    run(&format!("hashing/{name}/{count}"), count as u64, || {
        let pieces = streams.chunks(1);
        let mut lanes: Vec<Lane<'_, Vec<u8>>> =
            hashers.iter_mut().zip(pieces).map(|(md5, pieces)| Lane { md5, pieces }).collect();
        update(&mut lanes);
    });
}

fn run(name: &str, streams: u64, mut round: impl FnMut()) {
    let (meter, mut rounds) = (Meter::start(), 0);
    while meter.elapsed() < LONG_ENOUGH {
        round();
        rounds += 1;
    }
    meter.print(name, rounds * streams, rounds * streams * SLICE_BYTES as u64);
}
