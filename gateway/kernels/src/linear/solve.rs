//! Missing shards of a systematic code as linear maps of the shards that are there.
//!
//! Parity shard `p` is the sum over the data shards `d` of `generator[p][d]` applied to `d`. With `e`
//! data shards missing, `e` of the parity shards that are there give `e` equations, which are 16 e
//! equations of bits, and inverting them gives the missing data shards. A missing parity shard is
//! then the sum that it always was, with what the missing data shards are put in their place.

use super::map::{ELEMENT_BITS, Map};

/// Data shards that may be missing at most: their bits, in one word.
pub const MISSING_MAX: usize = u64::BITS as usize / ELEMENT_BITS;

/// Each of the shards `wanted` as a sum of maps of the shards `known`, in their orders: shards are
/// counted from 0, data before parity. `None` if what is known doesn't determine what is wanted,
/// or more than [`MISSING_MAX`] data shards are missing.
pub fn solve(generator: &[Vec<Map>], known: &[usize], wanted: &[usize]) -> Option<Vec<Vec<Map>>> {
    let data_shards = generator.first()?.len();
    let is_fitting = |shard: &usize| *shard < data_shards + generator.len();
    if generator.iter().any(|row| row.len() != data_shards)
        || !known.iter().chain(wanted).all(is_fitting)
    {
        return None;
    }
    let missing: Vec<usize> = (0..data_shards).filter(|shard| !known.contains(shard)).collect();
    // Which of `known` are the parity shards that the equations are of.
    let equations: Vec<usize> =
        (0..known.len()).filter(|at| known[*at] >= data_shards).take(missing.len()).collect();
    if equations.len() < missing.len() {
        return None;
    }
    let parity_of = |equation: usize| &generator[known[equation] - data_shards];
    let inverse = invert(missing.len(), |equation, unknown| {
        &parity_of(equations[equation])[missing[unknown]]
    })?;
    let missing_of_known: Vec<Vec<Map>> = inverse
        .iter()
        .map(|of_equations| {
            let of = |at: usize| match equations.iter().position(|equation| *equation == at) {
                Some(equation) => of_equations[equation],
                None if known[at] >= data_shards => Map::ZERO,
                None => {
                    let terms = equations.iter().zip(of_equations);
                    terms.fold(Map::ZERO, |sum, (equation, map)| {
                        sum.plus(&map.after(&parity_of(*equation)[known[at]]))
                    })
                }
            };
            (0..known.len()).map(of).collect()
        })
        .collect();
    let of_known = |shard: &usize| -> Vec<Map> {
        if let Some(at) = known.iter().position(|one| one == shard) {
            let identity = |one| if one == at { Map::identity() } else { Map::ZERO };
            return (0..known.len()).map(identity).collect();
        }
        if let Some(at) = missing.iter().position(|one| one == shard) {
            return missing_of_known[at].clone();
        }
        let row = &generator[shard - data_shards];
        let of = |at: usize| {
            let direct = row.get(known[at]).copied().unwrap_or(Map::ZERO);
            let terms = missing.iter().zip(&missing_of_known);
            terms.fold(direct, |sum, (unknown, of_known)| {
                sum.plus(&row[*unknown].after(&of_known[at]))
            })
        };
        (0..known.len()).map(of).collect()
    };
    Some(wanted.iter().map(of_known).collect())
}

/// Inverts a square matrix of maps, by Gauss and Jordan over its bits.
fn invert<'a>(size: usize, at: impl Fn(usize, usize) -> &'a Map) -> Option<Vec<Vec<Map>>> {
    if size > MISSING_MAX {
        return None;
    }
    // Each row: which bits of the unknowns are added up, and of which equations' bits it is made.
    let mut rows: Vec<(u64, u64)> = (0..size * ELEMENT_BITS)
        .map(|row| {
            let (equation, bit) = (row / ELEMENT_BITS, row % ELEMENT_BITS);
            let unknowns = (0..size).fold(0, |all, unknown| {
                all | u64::from(at(equation, unknown).row(bit)) << (unknown * ELEMENT_BITS)
            });
            (unknowns, 1 << row)
        })
        .collect();
    for column in 0..rows.len() {
        let is_set = |row: &(u64, u64)| row.0 >> column & 1 == 1;
        let pivot = (column..rows.len()).find(|row| is_set(&rows[*row]))?;
        rows.swap(column, pivot);
        let (unknowns, made_of) = rows[column];
        for (at, row) in rows.iter_mut().enumerate() {
            if at != column && is_set(row) {
                row.0 ^= unknowns;
                row.1 ^= made_of;
            }
        }
    }
    let map = |unknown: usize, equation: usize| {
        Map::from_images(std::array::from_fn(|from| {
            let bit = |to: usize| {
                rows[unknown * ELEMENT_BITS + to].1 >> (equation * ELEMENT_BITS + from) & 1
            };
            (0..ELEMENT_BITS).fold(0, |image, to| image | (bit(to) as u16) << to)
        }))
    };
    Some(
        (0..size)
            .map(|unknown| (0..size).map(|equation| map(unknown, equation)).collect())
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Multiplication in GF(2^16) by the polynomial x^16 + x^5 + x^3 + x^2 + 1.
    fn times(factor: u16) -> Map {
        Map::from_images(std::array::from_fn(|bit| {
            (0..bit).fold(factor, |value, _| (value << 1) ^ ((value >> 15) * 0x2d))
        }))
    }

    fn parity(generator: &[Vec<Map>], data: &[u16]) -> Vec<u16> {
        let sum =
            |row: &Vec<Map>| row.iter().zip(data).fold(0, |sum, (map, one)| sum ^ map.apply(*one));
        generator.iter().map(sum).collect()
    }

    #[test]
    fn missing_shards_are_what_they_were() {
        // Of a Vandermonde code: 1, x and x^2 for the powers x of 2.
        let generator: Vec<Vec<Map>> =
            (0..3).map(|power| (0..5).map(|shard| times(1 << (power * shard))).collect()).collect();
        let data = [0x1234, 0xffff, 0, 0x8001, 0x0f0f];
        let all = [&data[..], &parity(&generator, &data)].concat();
        for known in [[0, 1, 2, 3, 4], [7, 6, 5, 0, 4], [2, 5, 1, 7, 3], [6, 0, 1, 2, 3]] {
            let wanted: Vec<usize> = (0..8).collect();
            let solved = solve(&generator, &known, &wanted).expect("enough");
            for (shard, maps) in wanted.iter().zip(solved) {
                let terms = maps.iter().zip(known);
                let found = terms.fold(0, |sum, (map, at)| sum ^ map.apply(all[at]));
                assert_eq!(found, all[*shard], "{shard} of {known:?}");
            }
        }
    }

    #[test]
    fn what_is_not_determined_is_not_solved() {
        let twice = vec![vec![times(3), times(5)], vec![times(3), times(5)]];
        assert_eq!(solve(&twice, &[2, 3], &[0]), None, "the same equation twice");
        assert_eq!(solve(&twice, &[2], &[0]), None, "too few");
        assert_eq!(solve(&twice, &[0, 2], &[9]), None, "there is no such shard");
        assert_eq!(solve(&[], &[], &[]), None);
        let wide = vec![vec![times(1); 5]; 5];
        assert_eq!(solve(&wide, &[5, 6, 7, 8, 9], &[0]), None, "more than fits");
    }
}
