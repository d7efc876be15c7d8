//! The model's check: disks that fail at random over groups that the real placement made, event by
//! event, at rates so high that data really is lost.
//!
//! Every disk fails on its own clock and takes its shard of each group with it; each group rebuilds
//! what it knows to be lost, and learns by and by of what was lost silently. A rebuilt shard is
//! back on a disk of the same place. A group that lost one shard too many is counted and begins
//! whole again, so that losses per group and hour are one over the chain's mean time to data loss
//! (renewal theorem). The method is Gillespie's (J. Phys. Chem. 81, 1977): the time to the next
//! event is exponential in the sum of all rates, and which one it is falls to their shares.
//!
//! The same seed gives the same answer. What holds is only as good as the assumptions it shares
//! with the model: independence and exponential times. What it adds is that groups share disks as
//! placement has them do, and that nodes take what really lies on them.

use crate::cluster_map::ClusterMap;
use crate::coding::Coding;

use super::chain::Rates;
use super::spread::groups_of;

/// Groups that are followed at most: those that share disks are lost together, so that more of them
/// say little more and cost as much each.
const GROUPS_MAX: usize = 32;

/// How many mean repair times an accelerated group lives on average: rare enough for losses to be
/// apart, frequent enough to see thousands.
const ACCELERATED_LIFETIME: f64 = 300.0;

/// A cluster whose disks fail.
#[derive(Clone, Debug)]
pub struct Simulation {
    rates: Rates,
    node_failures_per_hour: f64,
    /// The disks of each node that has any in a group.
    nodes: Vec<Vec<usize>>,
    /// Where each disk's shards are: group and slot.
    shards: Vec<Vec<(usize, usize)>>,
    groups: usize,
}

/// How long to watch: so many stretches of so many hours, one after the other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Watch {
    /// Stretches; their differences tell the error.
    pub stretches: u32,
    /// Hours of each.
    pub hours: f64,
}

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observed {
    /// Groups that were watched.
    pub groups: usize,
    /// Data losses.
    pub losses: u64,
    /// Losses per group and hour.
    pub losses_per_hour: f64,
    /// Standard error of that, from the differences between the stretches.
    pub standard_error: f64,
    /// The share of stretches in which any group was lost.
    pub any_loss_share: f64,
}

impl Observed {
    /// How many standard errors the model's losses per group and hour are from what was seen.
    pub fn deviation(&self, expected_per_hour: f64) -> f64 {
        (self.losses_per_hour - expected_per_hour) / self.standard_error
    }
}

/// Rates of failure raised by one factor, until a group is lost after 300 mean repair times; and
/// that factor. Repair and discovery go on as before.
pub fn accelerate(rates: &Rates) -> (f64, Rates) {
    let wanted = ACCELERATED_LIFETIME / rates.repair;
    let (mut low, mut high) = (1e-9, 1e12);
    for _ in 0..100 {
        let middle: f64 = f64::sqrt(low * high);
        if raised(rates, middle).hours_to_loss() > wanted {
            low = middle;
        } else {
            high = middle;
        }
    }
    (low, raised(rates, low))
}

fn raised(rates: &Rates, factor: f64) -> Rates {
    let mut raised = rates.clone();
    raised.failure *= factor;
    raised.silent *= factor;
    for jump in &mut raised.jumps {
        jump.per_hour *= factor;
    }
    raised
}

impl Simulation {
    /// The groups of `coding` in this map, failing at these rates; and nodes with all their disks
    /// at theirs, which must be what `rates.jumps` was made from.
    pub fn new(
        map: &ClusterMap,
        coding: Coding,
        rates: &Rates,
        node_failures_per_hour: f64,
    ) -> Self {
        let groups = groups_of(map, coding);
        let step = groups.len().div_ceil(GROUPS_MAX).max(1);
        let groups: Vec<Vec<usize>> = groups.into_iter().step_by(step).collect();
        let mut shards = vec![Vec::new(); map.disks.len()];
        for (group, disks) in groups.iter().enumerate() {
            for (slot, disk) in disks.iter().enumerate() {
                if let Some(shards) = shards.get_mut(*disk) {
                    shards.push((group, slot));
                }
            }
        }
        // Disks without a shard of these groups may fail unseen.
        let used: Vec<usize> = (0..shards.len()).filter(|disk| !shards[*disk].is_empty()).collect();
        let mut names: Vec<_> = used.iter().map(|disk| map.disks[*disk].node).collect();
        names.sort_unstable();
        names.dedup();
        let nodes = names
            .iter()
            .map(|node| (0..used.len()).filter(|at| map.disks[used[*at]].node == *node).collect())
            .collect();
        let shards = used.into_iter().map(|disk| std::mem::take(&mut shards[disk])).collect();
        Self { rates: rates.clone(), node_failures_per_hour, nodes, shards, groups: groups.len() }
    }

    /// How long to watch to see about so many losses a stretch, if the model is right.
    pub fn watch(&self, stretches: u32, losses_per_stretch: f64) -> Watch {
        let hours = self.rates.hours_to_loss() * losses_per_stretch / self.groups.max(1) as f64;
        Watch { stretches, hours }
    }

    /// Lets time pass.
    pub fn run(&self, watch: Watch, seed: u64) -> Observed {
        let mut world = World::new(self, seed);
        let counts: Vec<u64> =
            (0..watch.stretches).map(|_| world.losses_within(watch.hours)).collect();
        let stretches = f64::from(watch.stretches);
        let losses: u64 = counts.iter().sum();
        let mean = losses as f64 / stretches;
        let squares: f64 = counts.iter().map(|count| (*count as f64 - mean).powi(2)).sum();
        let deviation = (squares / (stretches - 1.0) / stretches).sqrt();
        let group_hours = self.groups as f64 * watch.hours;
        let lossy = counts.iter().filter(|count| **count > 0).count();
        Observed {
            groups: self.groups,
            losses,
            losses_per_hour: mean / group_hours,
            standard_error: deviation / group_hours,
            any_loss_share: lossy as f64 / stretches,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shard {
    Present,
    /// Lost, and nobody knows.
    Silent,
    Lost,
}

/// One group: its shards, and how many are lost.
#[derive(Clone)]
struct Group {
    shards: Vec<Shard>,
    known: u8,
    unknown: u8,
}

impl Group {
    fn whole(width: u8) -> Self {
        Self { shards: vec![Shard::Present; usize::from(width)], known: 0, unknown: 0 }
    }

    fn set(&mut self, slot: usize, shard: Shard) {
        let Some(place) = self.shards.get_mut(slot) else { return };
        let before = std::mem::replace(place, shard);
        for (state, by) in [(before, -1), (shard, 1)] {
            match state {
                Shard::Present => {}
                Shard::Silent => self.unknown = self.unknown.saturating_add_signed(by),
                Shard::Lost => self.known = self.known.saturating_add_signed(by),
            }
        }
    }

    fn first(&self, state: Shard) -> Option<usize> {
        self.shards.iter().position(|shard| *shard == state)
    }
}

struct World<'a> {
    simulation: &'a Simulation,
    random: Random,
    groups: Vec<Group>,
    /// Groups that lack a shard, known or not.
    wounded: Vec<usize>,
    losses: u64,
}

impl<'a> World<'a> {
    fn new(simulation: &'a Simulation, seed: u64) -> Self {
        let groups = vec![Group::whole(simulation.rates.width); simulation.groups];
        Self { simulation, random: Random::new(seed), groups, wounded: Vec::new(), losses: 0 }
    }

    /// Lets `hours` pass and counts the losses in them. What time is left over at the end may be
    /// dropped: exponential times have no memory.
    fn losses_within(&mut self, hours: f64) -> u64 {
        let before = self.losses;
        let mut passed = 0.0;
        loop {
            let total =
                self.outer_rate() + self.wounded.iter().map(|at| self.inner_rate(*at)).sum::<f64>();
            passed += self.random.exponential(total);
            if passed >= hours {
                return self.losses - before;
            }
            let chosen = self.random.unit() * total;
            self.step(chosen);
        }
    }

    /// Failures of disks, noticed and silent, and of nodes.
    fn outer_rate(&self) -> f64 {
        let Simulation { rates, nodes, shards, .. } = self.simulation;
        shards.len() as f64 * (rates.failure + rates.silent)
            + nodes.len() as f64 * self.simulation.node_failures_per_hour
    }

    /// Repair and discovery in one group.
    fn inner_rate(&self, group: usize) -> f64 {
        let rates = &self.simulation.rates;
        let group = &self.groups[group];
        rates.repairs_at_a_time(group.known) * rates.repair
            + f64::from(group.unknown) * rates.discovery
    }

    /// The event at `chosen` on the line on which all rates lie end to end.
    fn step(&mut self, mut chosen: f64) {
        let simulation = self.simulation;
        let rates = &simulation.rates;
        let disks = simulation.shards.len();
        for (rate, state) in [(rates.failure, Shard::Lost), (rates.silent, Shard::Silent)] {
            if chosen < rate * disks as f64 {
                let disk = ((chosen / rate) as usize).min(disks - 1);
                return self.fail(&[disk], state);
            }
            chosen -= rate * disks as f64;
        }
        let (nodes, rate) = (&simulation.nodes, simulation.node_failures_per_hour);
        if chosen < rate * nodes.len() as f64 {
            let node = ((chosen / rate) as usize).min(nodes.len() - 1);
            return self.fail(&nodes[node], Shard::Lost);
        }
        chosen -= rate * nodes.len() as f64;
        for at in 0..self.wounded.len() {
            let rate = self.inner_rate(self.wounded[at]);
            if chosen < rate {
                return self.mend(at, chosen);
            }
            chosen -= rate;
        }
    }

    /// Disks fail at the same instant: their shards are lost, or silently so where nobody knew of
    /// a loss before.
    fn fail(&mut self, disks: &[usize], state: Shard) {
        let simulation = self.simulation;
        for (group, slot) in disks.iter().flat_map(|disk| &simulation.shards[*disk]) {
            let changed = &mut self.groups[*group];
            if state == Shard::Silent && changed.shards[*slot] != Shard::Present {
                continue;
            }
            if changed.known + changed.unknown == 0 {
                self.wounded.push(*group);
            }
            changed.set(*slot, state);
        }
        let (parity, width) = (simulation.rates.parity, simulation.rates.width);
        let Self { groups, wounded, losses, .. } = self;
        wounded.retain(|at| {
            let group = &mut groups[*at];
            let lost = group.known + group.unknown > parity;
            if lost {
                *losses += 1;
                *group = Group::whole(width);
            }
            !lost
        });
    }

    /// Something good happens to a wounded group: a rebuild ends, or a silent loss is found.
    fn mend(&mut self, at: usize, chosen: f64) {
        let rates = &self.simulation.rates;
        let number = self.wounded[at];
        let group = &mut self.groups[number];
        if chosen < rates.repairs_at_a_time(group.known) * rates.repair {
            if let Some(slot) = group.first(Shard::Lost) {
                group.set(slot, Shard::Present);
            }
        } else if let Some(slot) = group.first(Shard::Silent) {
            group.set(slot, Shard::Lost);
        }
        if group.known + group.unknown == 0 {
            self.wounded.swap_remove(at);
        }
    }
}

/// xoshiro256++ (Blackman and Vigna, ACM Trans. Math. Softw. 47, 2021), its state filled by
/// splitmix64.
struct Random([u64; 4]);

impl Random {
    fn new(seed: u64) -> Self {
        let mut state = seed;
        Self(std::array::from_fn(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = state;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        }))
    }

    fn next(&mut self) -> u64 {
        let [first, second, third, fourth] = &mut self.0;
        let drawn = first.wrapping_add(*fourth).rotate_left(23).wrapping_add(*first);
        let shifted = *second << 17;
        *third ^= *first;
        *fourth ^= *second;
        *second ^= *third;
        *first ^= *fourth;
        *third ^= shifted;
        *fourth = fourth.rotate_left(45);
        drawn
    }

    /// Uniform in [0, 1).
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// The time to the next event of a Poisson process; without end at rate 0.
    fn exponential(&mut self, rate: f64) -> f64 {
        -(-self.unit()).ln_1p() / rate
    }
}

#[cfg(test)]
mod tests;
