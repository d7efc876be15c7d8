//! What a write risks that was acknowledged before all its shards were stored (invariant I-1).

use crate::coding::Coding;

/// The probability that an object is lost that was acknowledged with `stored` of its `k+m` shards,
/// before the missing ones are there: of those stored, so many fail within `repair_hours` that
/// fewer than `k` are left. `failure` is per shard and hour.
///
/// The upper tail of a binomial distribution, smallest terms last; 1 when fewer than `k` were
/// stored to begin with.
pub fn loss_of_write(coding: Coding, stored: u8, failure: f64, repair_hours: f64) -> f64 {
    let stored = stored.min(coding.width());
    let Some(spare) = stored.checked_sub(coding.data()) else {
        return 1.0;
    };
    let fails = -(-failure * repair_hours).exp_m1();
    let stays = 1.0 - fails;
    (spare + 1..=stored)
        .map(|lost| {
            choose(u32::from(stored), u32::from(lost))
                * fails.powi(i32::from(lost))
                * stays.powi(i32::from(stored - lost))
        })
        .sum()
}

/// How many ways there are to choose `part` of `whole`.
pub fn choose(whole: u32, part: u32) -> f64 {
    if part > whole {
        return 0.0;
    }
    let part = part.min(whole - part);
    (0..part).map(|at| f64::from(whole - at) / f64::from(at + 1)).product()
}

#[cfg(test)]
mod tests {
    use super::super::chain::{nines, per_hour};
    use super::*;

    #[test]
    fn combinations_are_counted() {
        assert_eq!(choose(6, 3).round() as u32, 20);
        assert_eq!(choose(20, 5).round() as u32, 15_504);
        assert_eq!(choose(5, 0).round() as u32, 1);
        assert_eq!(choose(3, 4).round() as u32, 0);
    }

    #[test]
    fn early_acknowledgements_cost_what_the_published_table_says() {
        // Surplus above k, then the ranges over all codings for 1 minute, 1 hour and 24 hours.
        let rows = [
            (0, [(6.6, 6.9), (4.8, 5.1), (3.5, 3.8)]),
            (1, [(13.5, 14.0), (9.9, 10.5), (7.2, 7.7)]),
            (2, [(20.0, 21.0), (15.2, 15.5), (11.0, 11.3)]),
        ];
        for coding in ["4+2", "6+3", "8+4"].map(|text| Coding::parse(text).expect("valid")) {
            for (surplus, ranges) in rows {
                if surplus >= coding.parity() {
                    continue;
                }
                for (hours, (low, high)) in [1.0 / 60.0, 1.0, 24.0].into_iter().zip(ranges) {
                    let stored = coding.data() + surplus;
                    let found = nines(loss_of_write(coding, stored, per_hour(0.0157), hours));
                    assert!((low - 0.06..high + 0.06).contains(&found), "{coding} {found}");
                }
            }
        }
    }

    #[test]
    fn too_few_shards_are_a_certain_loss() {
        let coding = Coding::parse("4+2").expect("valid");
        assert!((loss_of_write(coding, 3, 1e-6, 1.0) - 1.0).abs() < f64::EPSILON);
        assert!(loss_of_write(coding, 6, 1e-6, 1.0) < 1e-16);
    }
}
