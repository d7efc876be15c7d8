//! The Markov chain of one placement group's shards: rates in, mean time to data loss out.
//!
//! Without silent failures and lost nodes it is the birth-death chain over 0..=m lost shards with
//! m+1 absorbing (Angus, "On computing MTBF for a k-out-of-n:G repairable system", IEEE Trans.
//! Reliability 37, 1988; Trivedi, Probability and Statistics with Reliability, Queuing and Computer
//! Science Applications, ch. 8), whose mean time to absorption has the closed form
//! [`Rates::birth_death_hours`]. With them it is two-dimensional, (lost and known, lost and unknown),
//! and solved by state reduction (Grassmann, Taksar, Heyman, Operations Research 33, 1985; Sheskin,
//! Int. J. Math. Educ. 1995), which only adds, multiplies and divides positive numbers: rates that
//! lie ten orders of magnitude apart cost no digit, where elimination with subtractions loses all.

/// Hours of a year, 365.25 days.
pub const HOURS_PER_YEAR: f64 = 8766.0;

/// How many lost shards of one group are rebuilt at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rebuilds {
    /// One: a second lost disk doubles the work of the same disks and network. The cautious choice,
    /// and what the estimate of a cluster uses.
    OneAtATime,
    /// All: `l` lost shards are rebuilt at `l` times the rate.
    SideBySide,
}

/// A loss that takes several shards of a group at once: a node that keeps so many of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Jump {
    /// Shards that go at once.
    pub shards: u8,
    /// How often that happens to the group while all its shards are there, per hour.
    pub per_hour: f64,
}

/// The rates of one group's chain, all per hour.
#[derive(Clone, Debug, PartialEq)]
pub struct Rates {
    /// Shards of a stripe, `k+m`.
    pub width: u8,
    /// Shards that may be lost, `m`.
    pub parity: u8,
    /// A shard is lost with its disk, and that is noticed.
    pub failure: f64,
    /// A shard is lost and nobody knows.
    pub silent: f64,
    /// A silent loss is found: one over the mean wait, which is half a scrub interval.
    pub discovery: f64,
    /// A known loss is rebuilt: one over (detection + rebuild).
    pub repair: f64,
    /// How many are rebuilt at a time.
    pub rebuilds: Rebuilds,
    /// Losses of several shards at once.
    pub jumps: Vec<Jump>,
}

/// Failures per hour of something of which a share of `afr` fails in a year, as a Poisson process:
/// `-ln(1 - afr) / 8766`.
pub fn per_hour(afr: f64) -> f64 {
    -(-afr).ln_1p() / HOURS_PER_YEAR
}

/// The probability that something with this mean time to loss is lost within a year.
pub fn loss_per_year(mean_hours: f64) -> f64 {
    -(-HOURS_PER_YEAR / mean_hours).exp_m1()
}

/// Nines of a probability of loss: its negative decimal logarithm, without end for 0.
pub fn nines(probability: f64) -> f64 {
    -probability.log10()
}

impl Rates {
    /// How many times [`Self::repair`] goes on when `lost` shards are known to be lost.
    pub fn repairs_at_a_time(&self, lost: u8) -> f64 {
        match self.rebuilds {
            Rebuilds::OneAtATime => f64::from(lost.min(1)),
            Rebuilds::SideBySide => f64::from(lost),
        }
    }

    /// Mean hours from all shards present to one lost shard too many, in closed form and without
    /// silent failures and jumps (n = width, L = failure rate, M_l = repair rate with l lost):
    /// `SUM_{i=0..m} SUM_{j=0..i} 1/((n-j)L) * PROD_{l=j+1..i} M_l / ((n-l)L)`.
    pub fn birth_death_hours(&self) -> f64 {
        let births = |lost: u8| f64::from(self.width - lost) * self.failure;
        let mut hours = 0.0;
        for reached in 0..=self.parity {
            for from in 0..=reached {
                let back: f64 = (from + 1..=reached)
                    .map(|lost| self.repairs_at_a_time(lost) * self.repair / births(lost))
                    .product();
                hours += back / births(from);
            }
        }
        hours
    }

    /// Mean hours from all shards present to one lost shard too many.
    pub fn hours_to_loss(&self) -> f64 {
        let states: Vec<State> = (0..=self.parity)
            .flat_map(|unknown| (0..=self.parity - unknown).map(move |known| (known, unknown)))
            .map(|(known, unknown)| State { known, unknown })
            .collect();
        let lost = states.len();
        // One row a state, one column a state, and the last column for loss.
        let mut rates = vec![vec![0.0; lost + 1]; lost];
        for (row, state) in rates.iter_mut().zip(&states) {
            for (target, rate) in self.leave(*state) {
                let column = states.iter().position(|other| *other == target).unwrap_or(lost);
                row[column] += rate;
            }
        }
        reduce(rates)
    }

    /// Where the group goes from `state`, and how fast. States with more than `m` lost are loss.
    fn leave(&self, state: State) -> Vec<(State, f64)> {
        let State { known, unknown } = state;
        let present = f64::from(self.width - known - unknown);
        let mut ways = vec![
            (State { known: known + 1, unknown }, present * self.failure),
            (State { known, unknown: unknown + 1 }, present * self.silent),
        ];
        if unknown > 0 {
            // Found by a scrub, or by the loss of the whole disk.
            let found = f64::from(unknown) * (self.discovery + self.failure);
            ways.push((State { known: known + 1, unknown: unknown - 1 }, found));
        }
        if known > 0 {
            let repaired = self.repairs_at_a_time(known) * self.repair;
            ways.push((State { known: known - 1, unknown }, repaired));
        }
        for jump in &self.jumps {
            let rate = jump.per_hour * present / f64::from(self.width);
            ways.push((State { known: known + jump.shards, unknown }, rate));
        }
        ways
    }
}

/// How many shards of a group are lost, and known to be.
#[derive(Clone, Copy, PartialEq, Eq)]
struct State {
    known: u8,
    unknown: u8,
}

/// The mean time to the last column of an absorbing chain that begins in its first state: states
/// are taken out one by one, each leaving its time and its ways on to those that came by it.
fn reduce(mut rates: Vec<Vec<f64>>) -> f64 {
    let absorbing = rates.len();
    let mut weights = vec![1.0; absorbing];
    while rates.len() > 1 {
        let Some(gone) = rates.pop() else { break };
        let at = rates.len();
        let out: f64 = gone[..at].iter().sum::<f64>() + gone[absorbing];
        for (row, state) in rates.iter_mut().enumerate() {
            let share = state[at] / out;
            weights[row] += share * weights[at];
            for (column, onward) in gone.iter().enumerate() {
                let stays = column == row || (column >= at && column != absorbing);
                if !stays {
                    state[column] += share * onward;
                }
            }
        }
    }
    weights.first().copied().unwrap_or_default()
        / rates.first().and_then(|row| row.last()).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(data: u8, parity: u8, afr: f64, repair_hours: f64) -> Rates {
        Rates {
            width: data + parity,
            parity,
            failure: per_hour(afr),
            silent: 0.0,
            discovery: 0.0,
            repair: 1.0 / repair_hours,
            rebuilds: Rebuilds::OneAtATime,
            jumps: Vec::new(),
        }
    }

    fn check(found: f64, published: f64) {
        assert!((found - published).abs() <= 0.051, "{found:.3} instead of {published}");
    }

    const HOURS: [f64; 5] = [1.0, 6.0, 24.0, 72.0, 168.0];

    #[test]
    fn nines_are_those_of_the_published_table() {
        for (data, parity, expected) in [
            (4, 2, [11.2, 9.7, 8.4, 7.5, 6.8]),
            (6, 3, [15.6, 13.2, 11.4, 10.0, 8.9]),
            (8, 3, [15.1, 12.8, 11.0, 9.6, 8.5]),
            (8, 4, [19.8, 16.7, 14.3, 12.4, 10.9]),
            (10, 4, [19.4, 16.3, 13.9, 12.0, 10.5]),
            (12, 4, [19.1, 15.9, 13.5, 11.6, 10.2]),
        ] {
            for (hours, expected) in HOURS.into_iter().zip(expected) {
                let rates = rates(data, parity, 0.0157, hours);
                check(nines(loss_per_year(rates.hours_to_loss())), expected);
            }
        }
    }

    #[test]
    fn nines_at_four_percent_are_those_of_the_published_table() {
        for (data, parity, expected) in [
            (4, 2, [10.0, 8.4, 7.2]),
            (6, 3, [13.9, 11.6, 9.8]),
            (8, 3, [13.5, 11.2, 9.3]),
            (8, 4, [17.7, 14.6, 12.2]),
            (10, 4, [17.3, 14.2, 11.8]),
        ] {
            for (hours, expected) in HOURS.into_iter().zip(expected) {
                let rates = rates(data, parity, 0.04, hours);
                check(nines(loss_per_year(rates.hours_to_loss())), expected);
            }
        }
    }

    #[test]
    fn silent_failures_cost_what_the_published_table_says() {
        let days = [1.0, 7.0, 14.0, 30.0, 90.0, 365.25, 5.0 * 365.25];
        for (data, parity, expected) in [
            (4, 2, [7.7, 7.1, 6.7, 6.1, 5.2, 4.0, 2.7]),
            (6, 3, [10.8, 9.8, 9.2, 8.4, 7.0, 5.3, 3.2]),
            (8, 4, [13.9, 12.6, 11.7, 10.6, 8.9, 6.5, 3.7]),
        ] {
            for (days, expected) in days.into_iter().zip(expected) {
                let chain = Rates {
                    silent: per_hour(0.014),
                    discovery: 2.0 / (days * 24.0),
                    rebuilds: Rebuilds::SideBySide,
                    ..rates(data, parity, 0.0157, 24.0)
                };
                // That table took one mean time for both kinds of loss and the leading term of P.
                let failure = chain.failure + chain.silent;
                let hours = 24.0 + days * 12.0 * chain.silent / failure;
                let term = (0..=parity).fold(HOURS_PER_YEAR / hours, |term, lost| {
                    let shards = f64::from(data + parity - lost);
                    term * shards * failure * hours / f64::from(lost.max(1))
                });
                check(nines(term), expected);
                // To first order only the mean counts. Where nothing is scrubbed for years, losses
                // are so frequent within it that the mixture, short for one half, is better.
                let found = nines(loss_per_year(chain.hours_to_loss()));
                let better = if days < 1000.0 { 0.11 } else { 0.4 };
                assert!((-0.11..better).contains(&(found - expected)), "{data}+{parity}: {found}");
            }
        }
    }

    #[test]
    fn reduction_gives_the_closed_form() {
        for rebuilds in [Rebuilds::OneAtATime, Rebuilds::SideBySide] {
            for (data, parity) in [(1, 0), (1, 1), (1, 2), (4, 2), (8, 4), (16, 4)] {
                for (afr, hours) in [(1e-6, 0.01), (0.0157, 1.0), (0.04, 168.0), (0.999, 5000.0)] {
                    let chain = Rates { rebuilds, ..rates(data, parity, afr, hours) };
                    let (closed, reduced) = (chain.birth_death_hours(), chain.hours_to_loss());
                    assert!((closed / reduced - 1.0).abs() < 1e-12, "{closed} {reduced}");
                }
            }
        }
    }

    #[test]
    fn a_mirror_lives_as_long_as_textbooks_say() {
        // (3L + M) / 2L^2, the classic mean time to data loss of RAID 1.
        let chain = Rates { failure: 0.5, repair: 4.0, ..rates(1, 1, 0.5, 1.0) };
        assert!((chain.hours_to_loss() - (1.5 + 4.0) / 0.5).abs() < 1e-12);
    }

    #[test]
    fn a_jump_past_the_parity_is_a_loss() {
        let lost_at_once =
            Rates { jumps: vec![Jump { shards: 3, per_hour: 1e-3 }], ..rates(4, 2, 1e-9, 1.0) };
        assert!((lost_at_once.hours_to_loss() / 1000.0 - 1.0).abs() < 1e-6);
        let survived =
            Rates { jumps: vec![Jump { shards: 2, per_hour: 1e-3 }], ..rates(4, 2, 1e-9, 1.0) };
        assert!(survived.hours_to_loss() > 1e5);
    }
}
