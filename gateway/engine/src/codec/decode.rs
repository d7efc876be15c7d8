//! Missing data from what is left.
//!
//! Every decode costs some 0.2 ms before the first byte, so a call takes all columns that are
//! wanted at once, and rebuilds only the shards that are missing.

use reed_solomon_simd::ReedSolomonDecoder;

use super::{Codec, CodecError, give_back, take};

impl Codec {
    /// Rebuilds columns of data shards. `known` holds the same columns of at least `data_shards`
    /// shards, each with its number (data shards from 0, parity shards from `data_shards`), of
    /// equal length, a multiple of 64; data is padded with zeros to the length of a full shard.
    /// `wanted` are numbers of data shards that are not among them; the answer has one column for
    /// each, in order.
    pub fn reconstruct(
        &self,
        data_shards: usize,
        parity_shards: usize,
        known: &[(usize, &[u8])],
        wanted: &[usize],
    ) -> Result<Vec<Vec<u8>>, CodecError> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        if known.len() < data_shards {
            return Err(CodecError::TooFew);
        }
        let known = &known[..data_shards];
        let (_, first) = known.first().ok_or(CodecError::TooFew)?;
        if data_shards == 1 {
            // Parity is a copy of the single data shard.
            return Ok(wanted.iter().map(|_| first.to_vec()).collect());
        }
        let mut decoder = match take(&self.decoders) {
            Some(mut decoder) => {
                decoder.reset(data_shards, parity_shards, first.len())?;
                decoder
            }
            None => ReedSolomonDecoder::new(data_shards, parity_shards, first.len())?,
        };
        for (number, column) in known {
            match number.checked_sub(data_shards) {
                None => decoder.add_original_shard(*number, column)?,
                Some(parity) => decoder.add_recovery_shard(parity, column)?,
            }
        }
        let decoded = decoder.decode()?;
        let rebuilt = wanted
            .iter()
            .map(|number| decoded.restored_original(*number).map(<[u8]>::to_vec))
            .collect::<Option<Vec<_>>>()
            .ok_or(CodecError::Length)?;
        drop(decoded);
        give_back(&self.decoders, decoder);
        Ok(rebuilt)
    }
}
