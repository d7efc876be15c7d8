//! Missing shards from what is left.

use kernels::linear::CHUNK_BYTES;
use model::limits::{DATA_SHARDS_MAX, PARITY_SHARDS_MAX};

use super::programs::Pattern;
use super::{Codec, CodecError};

impl Codec {
    /// Rebuilds columns of shards. `known` holds the same columns of at least `data_shards` shards,
    /// each with its number (data shards from 0, parity shards from `data_shards`), of equal length,
    /// a multiple of 64; data is padded with zeros to the length of a full shard. `wanted` are
    /// numbers of shards, of data or of parity, that are not among them; the answer has one column
    /// for each, in order.
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
        let mut known = known[..data_shards].to_vec();
        known.sort_unstable_by_key(|(number, _)| *number);
        let pattern = pattern(data_shards, parity_shards, &known, wanted)?;
        let bytes = known.first().map_or(0, |(_, column)| column.len());
        if !bytes.is_multiple_of(CHUNK_BYTES)
            || known.iter().any(|(_, column)| column.len() != bytes)
        {
            return Err(CodecError::Length);
        }
        let program = self.programs.as_ref().ok_or(CodecError::NoKernel)?.get(pattern)?;
        let mut rebuilt = vec![vec![0; bytes]; wanted.len()];
        // The program's outputs are in the order of their numbers.
        let mut places: Vec<(usize, &mut [u8])> =
            wanted.iter().copied().zip(rebuilt.iter_mut().map(Vec::as_mut_slice)).collect();
        places.sort_unstable_by_key(|(number, _)| *number);
        let mut places: Vec<&mut [u8]> = places.into_iter().map(|(_, place)| place).collect();
        let inputs: Vec<&[u8]> = known.iter().map(|(_, column)| *column).collect();
        program.run(&inputs, &mut places);
        Ok(rebuilt)
    }
}

fn pattern(
    data_shards: usize,
    parity_shards: usize,
    known: &[(usize, &[u8])],
    wanted: &[usize],
) -> Result<Pattern, CodecError> {
    let data = u8::try_from(data_shards).ok().filter(|data| (1..=DATA_SHARDS_MAX).contains(data));
    let parity =
        u8::try_from(parity_shards).ok().filter(|parity| (1..=PARITY_SHARDS_MAX).contains(parity));
    let (Some(data), Some(parity)) = (data, parity) else { return Err(CodecError::Numbers) };
    let mut seen = 0;
    let mut bits = |numbers: &mut dyn Iterator<Item = usize>| {
        let mut bits = 0u32;
        for number in numbers {
            let bit = 1 << number.min(31);
            if number >= data_shards + parity_shards || seen & bit != 0 {
                return Err(CodecError::Numbers);
            }
            seen |= bit;
            bits |= bit;
        }
        Ok(bits)
    };
    Ok(Pattern {
        data_shards: data,
        parity_shards: parity,
        known: bits(&mut known.iter().map(|(number, _)| *number))?,
        wanted: bits(&mut wanted.iter().copied())?,
    })
}
