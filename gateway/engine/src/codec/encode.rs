//! Parity from data.

use model::coding::StripeGeometry;
use reed_solomon_simd::ReedSolomonEncoder;

use super::{Codec, CodecError, give_back, take};

/// Columns that are encoded at a time: `k+m` of these stay in the nearest caches, which doubles
/// the rate against whole shards. A multiple of 64, so that the bytes are the same.
const SLICE_BYTES: usize = 16 * 1024;

impl Codec {
    /// Computes the parity shards of `stripe`, one behind the other, into `parity`, which has
    /// `m * shard_bytes` bytes; all of them are overwritten.
    pub fn encode(
        &self,
        geometry: &StripeGeometry,
        stripe: &[u8],
        parity: &mut [u8],
    ) -> Result<(), CodecError> {
        let (data_shards, parity_shards) =
            (usize::from(geometry.data_shards()), usize::from(geometry.parity_shards()));
        let shard_bytes = geometry.shard_bytes() as usize;
        if stripe.len() != geometry.bytes() as usize || parity.len() != parity_shards * shard_bytes
        {
            return Err(CodecError::Length);
        }
        if parity_shards == 0 {
            return Ok(());
        }
        if data_shards == 1 {
            // The parity of a single data shard is its copy; the coder would do the same.
            for copy in parity.chunks_exact_mut(shard_bytes) {
                copy[..stripe.len()].copy_from_slice(stripe);
                copy[stripe.len()..].fill(0);
            }
            return Ok(());
        }
        let first_slice = shard_bytes.min(SLICE_BYTES);
        let mut encoder = match take(&self.encoders) {
            Some(mut encoder) => {
                encoder.reset(data_shards, parity_shards, first_slice)?;
                encoder
            }
            None => ReedSolomonEncoder::new(data_shards, parity_shards, first_slice)?,
        };
        let mut slice_bytes = first_slice;
        let mut padded = [0u8; SLICE_BYTES];
        for start in (0..shard_bytes).step_by(SLICE_BYTES) {
            let end = (start + SLICE_BYTES).min(shard_bytes);
            if end - start != slice_bytes {
                slice_bytes = end - start;
                encoder.reset(data_shards, parity_shards, slice_bytes)?;
            }
            for shard in 0..data_shards {
                let from = (shard * shard_bytes + start).min(stripe.len());
                let to = (shard * shard_bytes + end).min(stripe.len());
                let column = &stripe[from..to];
                if column.len() == slice_bytes {
                    encoder.add_original_shard(column)?;
                } else {
                    padded[..column.len()].copy_from_slice(column);
                    padded[column.len()..slice_bytes].fill(0);
                    encoder.add_original_shard(&padded[..slice_bytes])?;
                }
            }
            let coded = encoder.encode()?;
            for (column, shard) in coded.recovery_iter().zip(parity.chunks_exact_mut(shard_bytes)) {
                shard[start..end].copy_from_slice(column);
            }
        }
        give_back(&self.encoders, encoder);
        Ok(())
    }
}
