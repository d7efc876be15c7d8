//! What the coder does to each bit: the matrix of a coding, learnt by encoding unit vectors.
//!
//! In: a coding. Out: for each parity shard and data shard the linear map by which the data goes into
//! the parity. One chunk of 64 bytes has 32 elements: the first 16 columns of one encoding are the
//! sixteen unit vectors of one data shard.

use kernels::linear::{CHUNK_BYTES, ELEMENT_BITS, Map};
use reed_solomon_simd::ReedSolomonEncoder;

use super::CodecError;

/// Where the high bytes of a chunk's elements begin.
const HIGH_BYTES: usize = CHUNK_BYTES / 2;

/// The maps `[parity shard][data shard]` of a coding, both at least 1.
pub(super) fn generator(
    data_shards: usize,
    parity_shards: usize,
) -> Result<Vec<Vec<Map>>, CodecError> {
    let mut generator = vec![Vec::with_capacity(data_shards); parity_shards];
    let mut encoder = ReedSolomonEncoder::new(data_shards, parity_shards, CHUNK_BYTES)?;
    let mut units = [0u8; CHUNK_BYTES];
    for bit in 0..8 {
        units[bit] = 1 << bit;
        units[HIGH_BYTES + 8 + bit] = 1 << bit;
    }
    for shard in 0..data_shards {
        for other in 0..data_shards {
            let column = if other == shard { units } else { [0; CHUNK_BYTES] };
            encoder.add_original_shard(column)?;
        }
        let encoded = encoder.encode()?;
        for (row, parity) in generator.iter_mut().zip(encoded.recovery_iter()) {
            let parity: &[u8; CHUNK_BYTES] = parity.try_into().map_err(|_| CodecError::Length)?;
            row.push(Map::from_images(std::array::from_fn::<u16, ELEMENT_BITS, _>(|bit| {
                u16::from_le_bytes([parity[bit], parity[HIGH_BYTES + bit]])
            })));
        }
    }
    Ok(generator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_map_of_a_single_shard_is_the_identity() {
        // What the encoder's shortcut for k' = 1 rests upon, too.
        for parity_shards in 1..=4 {
            let generator = generator(1, parity_shards).expect("a coding");
            assert_eq!(generator, vec![vec![Map::identity()]; parity_shards]);
        }
    }

    #[test]
    fn maps_of_a_coding_commute() {
        // They are multiplications in one field; no map learnt wrongly would be.
        let maps = generator(16, 4).expect("a coding").concat();
        for (one, other) in maps.iter().zip(maps.iter().skip(1)) {
            assert_eq!(one.after(other), other.after(one));
        }
    }
}
