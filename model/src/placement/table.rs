//! New groups: which disk has which slot.
//!
//! In: the disks that are to hold data, a coding, and the numbers of the groups. Out: a disk for
//! each slot. Descends from zone to rack to node to disk: each place has a quota over all groups,
//! and gets of every group its average, rounded down or up; which ones are rounded up is drawn by a
//! hash of the group's number, with the chances that their quotas give them.
//!
//! What always holds: a group has no disk twice; the rules hold for every group, as no average is
//! above what they allow; after the last group every disk has exactly its quota.

use std::collections::BTreeMap;
use std::ops::Range;

use twox_hash::XxHash3_64;

use super::groups::Generation;
use super::targets::{ONE, Rules, Shares};
use super::topology::{FANOUT_MAX, Kind, Places, Tree};
use crate::cluster_map::{Disk, Pg};
use crate::coding::Coding;
use crate::ids::{DiskId, PgId};

/// Places groups of one coding on the disks of one topology.
pub struct Placer<'a> {
    disks: &'a [Disk],
    coding: Coding,
    tree: Tree,
    shares: Shares,
}

impl<'a> Placer<'a> {
    /// For those of `disks` that `share` gives a share other than 0; `None` when they are fewer
    /// than the coding has shards.
    pub fn new(disks: &'a [Disk], coding: Coding, share: impl Fn(&Disk) -> u32) -> Option<Self> {
        let tree = Tree::new(disks, &Places::new(disks), share);
        let shares = Shares::new(&tree, Rules::new(&tree, coding));
        let is_enough = tree.disks() >= usize::from(coding.width());
        is_enough.then_some(Self { disks, coding, tree, shares })
    }

    /// The groups of these numbers, balanced among themselves in each generation and in all.
    pub fn table(&self, numbers: Range<u32>) -> Vec<Pg> {
        let mut sizes: BTreeMap<Generation, u32> = BTreeMap::new();
        for number in numbers.clone() {
            *sizes.entry(Generation::of(PgId(number))).or_default() += 1;
        }
        let mut owed = vec![0; self.tree.len()];
        let mut pgs = Vec::with_capacity(numbers.len());
        let mut next = numbers.start;
        // Generations ascend with the numbers.
        for size in sizes.into_values() {
            let mut left = self.shares.quotas(&self.tree, size, &mut owed);
            for groups in (1..=size).rev() {
                let id = PgId(next);
                next += 1;
                let chosen = self.choose(id, &left, u64::from(groups));
                for at in &chosen {
                    self.book(*at, &mut left);
                }
                pgs.push(Pg::new(id, self.coding, self.ids(&chosen)));
            }
        }
        pgs
    }

    /// One group by itself: as likely on a disk as its share says.
    pub fn place(&self, pg: PgId) -> Vec<DiskId> {
        self.ids(&self.choose(pg, self.shares.all(), ONE))
    }

    /// Disks for one of `groups` groups that have `left` slots to take from each place.
    fn choose(&self, pg: PgId, left: &[u64], groups: u64) -> Vec<usize> {
        let mut draws = Draws::new(pg);
        let mut chosen = Vec::with_capacity(usize::from(self.coding.width()));
        self.descend(Tree::ROOT, self.shares.slots(), left, groups, &mut draws, &mut chosen);
        draws.shuffle(&mut chosen);
        chosen
    }

    fn descend(
        &self,
        at: usize,
        slots: u64,
        left: &[u64],
        groups: u64,
        draws: &mut Draws,
        chosen: &mut Vec<usize>,
    ) {
        if matches!(self.tree.kind(at), Kind::Disk(_)) {
            chosen.push(at);
            return;
        }
        let children = self.tree.children(at);
        let first = children.start;
        let mut counts = [0u64; FANOUT_MAX];
        let mut chances = [0u64; FANOUT_MAX];
        let mut rest = slots;
        for child in children.clone() {
            let (whole, part) = match left[child] {
                few if few < groups => (0, few),
                many => (many / groups, many % groups),
            };
            counts[child - first] = whole;
            chances[child - first] = part;
            rest = rest.saturating_sub(whole);
        }
        let mut sum: u64 = chances.iter().sum();
        while rest > 0 && sum > 0 {
            let drawn = draws.weighted(&chances, sum);
            sum -= chances[drawn];
            chances[drawn] = 0;
            counts[drawn] += 1;
            rest -= 1;
        }
        for child in children {
            // Shares are rounded down by less than anything counts; should it ever have counted,
            // whoever has room takes the slot.
            let room = self.shares.room(child).saturating_sub(counts[child - first]).min(rest);
            rest -= room;
            let count = counts[child - first] + room;
            if count > 0 {
                self.descend(child, count, left, groups, draws, chosen);
            }
        }
    }

    /// A slot of this disk is taken.
    fn book(&self, at: usize, left: &mut [u64]) {
        let mut at = at;
        loop {
            left[at] = left[at].saturating_sub(1);
            if at == Tree::ROOT {
                return;
            }
            at = self.tree.parent(at);
        }
    }

    fn ids(&self, chosen: &[usize]) -> Vec<DiskId> {
        let disk = |at: &usize| match self.tree.kind(*at) {
            Kind::Disk(disk) => Some(self.disks.get(disk as usize)?.id),
            Kind::Bundle | Kind::Domain(_) => None,
        };
        chosen.iter().filter_map(disk).collect()
    }
}

/// Numbers that look drawn and follow from the group alone (splitmix64: Steele, Lea, Flood, Fast
/// splittable pseudorandom number generators, OOPSLA 2014).
struct Draws(u64);

impl Draws {
    fn new(pg: PgId) -> Self {
        Self(XxHash3_64::oneshot(&pg.0.to_le_bytes()))
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        ((u128::from(mixed) * u128::from(end)) >> 64) as u64
    }

    /// One of these, as likely as its chance; `sum` is the sum of the chances and above 0.
    fn weighted(&mut self, chances: &[u64], sum: u64) -> usize {
        let mut at = self.below(sum);
        for (which, chance) in chances.iter().enumerate() {
            if at < *chance {
                return which;
            }
            at -= *chance;
        }
        0
    }

    fn shuffle(&mut self, chosen: &mut [usize]) {
        for last in (1..chosen.len()).rev() {
            chosen.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}
