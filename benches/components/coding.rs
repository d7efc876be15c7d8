//! Erasure coding: parity of a stripe, and the loss of `m` data shards, rebuilt by every kernel of the
//! processor and, to compare, by reed-solomon-simd's own decoder.

use std::time::Duration;

use anyhow::{Context, Result};
use engine::Codec;
use kernels::linear::Kernel;
use model::coding::{Coding, StripeGeometry};
use reed_solomon_simd::ReedSolomonDecoder;

use crate::meter::Meter;

const LONG_ENOUGH: Duration = Duration::from_millis(500);

/// Measures codings and shard lengths; bytes are those of user data.
pub fn measure() -> Result<()> {
    for coding in ["4+2", "8+4"] {
        for shard_bytes in [4 << 10, 64 << 10, 256 << 10] {
            encode_and_decode(coding, shard_bytes)?;
        }
    }
    Ok(())
}

fn encode_and_decode(coding: &str, shard_bytes: u32) -> Result<()> {
    let coding = Coding::parse(coding)?;
    let (k, m) = (u32::from(coding.data()), u32::from(coding.parity()));
    // Below 16 KiB a shard, a stripe would use fewer of them: pad the stripe to that.
    let bytes = k * shard_bytes.max(model::limits::SHORT_SHARD_BYTES);
    let geometry = StripeGeometry::new(coding, bytes).context("a stripe")?;
    let width = geometry.shard_bytes() as usize;
    let stripe: Vec<u8> =
        (0..bytes).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut parity = vec![0; m as usize * width];
    let codec = Codec::new();
    let name = |what: &str| format!("coding/{what}/{coding}/{width}");

    let (meter, mut rounds) = (Meter::start(), 0);
    while meter.elapsed() < LONG_ENOUGH {
        codec.encode(&geometry, &stripe, &mut parity)?;
        rounds += 1;
    }
    meter.print(&name("encode"), rounds, rounds * u64::from(bytes));

    let lost = m.min(k) as usize;
    let data = stripe.chunks(width).enumerate().skip(lost);
    let known: Vec<(usize, &[u8])> = data
        .chain(parity.chunks(width).zip(k as usize..).map(|(shard, at)| (at, shard)))
        .take(k as usize)
        .collect();
    let wanted: Vec<usize> = (0..lost).collect();
    for kernel in Kernel::available() {
        let codec = Codec::with_kernels([kernel]);
        let (meter, mut rounds) = (Meter::start(), 0);
        while meter.elapsed() < LONG_ENOUGH {
            codec.reconstruct(k as usize, m as usize, &known, &wanted)?;
            rounds += 1;
        }
        let what = format!("reconstruct by {}", kernel.name());
        meter.print(&name(&what), rounds, rounds * u64::from(bytes));
    }

    let mut decoder = ReedSolomonDecoder::new(k as usize, m as usize, width)?;
    let (meter, mut rounds) = (Meter::start(), 0);
    while meter.elapsed() < LONG_ENOUGH {
        for (at, shard) in &known {
            match at.checked_sub(k as usize) {
                None => decoder.add_original_shard(*at, shard)?,
                Some(parity) => decoder.add_recovery_shard(parity, shard)?,
            }
        }
        let decoded = decoder.decode()?;
        let rebuilt: Vec<Vec<u8>> =
            decoded.restored_original_iter().map(|(_, shard)| shard.to_vec()).collect();
        anyhow::ensure!(rebuilt.len() == lost, "the decoder gives what was lost");
        rounds += 1;
    }
    meter.print(&name("reconstruct by reed-solomon-simd"), rounds, rounds * u64::from(bytes));
    Ok(())
}
