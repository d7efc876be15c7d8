//! What each disk should hold: shares by weight, within what the rules allow.
//!
//! In: the tree and a coding. Out: the most slots of one group that a zone, a rack and a node may
//! have ([`Rules`]), the share of every place in the tree ([`Shares`]), and whole numbers of slots
//! for so many groups ([`Shares::quotas`]). Integers only: every replica gets the same.
//!
//! A disk can't have more than one slot of a group, nor a node more than the rules say, whatever
//! they weigh. So shares are filled like water: all rise by weight, what is full stops, and the
//! others share the rest. What always holds: the shares of the children sum up to the parent's, and
//! no share is above what the rules allow; a quota is its share, rounded down or up.

use super::topology::{Kind, Level, Tree};
use crate::coding::Coding;

/// One slot of every group, as shares are counted.
pub(super) const ONE: u64 = 1 << 32;

/// How many slots of one group the domains may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// Of a zone, a rack, a node.
    most: [u8; 3],
    width: u8,
}

impl Rules {
    /// At most `m` for each level where the topology allows it, so that the loss of one loses
    /// nothing, else the least that it allows. Nodes first: they fail more often than racks, and a
    /// node with more than `m` makes a rack with more than `m`, never the other way round.
    pub(super) fn new(tree: &Tree, coding: Coding) -> Self {
        let width = coding.width();
        let mut rules = Self { most: [width; 3], width };
        let wanted = u64::from(rules.slots(tree));
        for level in [Level::Node, Level::Rack, Level::Zone] {
            for most in coding.parity().max(1)..=width {
                rules.most[level as usize] = most;
                if rules.room(tree)[Tree::ROOT] >= wanted {
                    break;
                }
            }
        }
        rules
    }

    /// The most slots of one group in a domain of this level.
    pub(super) fn most(self, level: Level) -> u8 {
        self.most[level as usize]
    }

    /// The slots of a group that can be placed at all: a disk has at most one.
    pub(super) fn slots(self, tree: &Tree) -> u8 {
        self.width.min(u8::try_from(tree.disks()).unwrap_or(u8::MAX))
    }

    /// The most slots of one group that fit below each place of the tree.
    fn room(self, tree: &Tree) -> Vec<u64> {
        let mut room = vec![0; tree.len()];
        for at in (0..tree.len()).rev() {
            let most = match tree.kind(at) {
                Kind::Bundle => room[at],
                Kind::Domain(level) => u64::from(self.most(level)).min(room[at]),
                Kind::Disk(_) => 1,
            };
            room[at] = most;
            if at != Tree::ROOT {
                room[tree.parent(at)] += most;
            }
        }
        room
    }
}

/// The shares of the places of a tree for one coding.
pub(super) struct Shares {
    /// Slots of a group that are to be below each place, on average, in parts of [`ONE`].
    shares: Vec<u64>,
    /// The most slots of one group that fit below each place.
    room: Vec<u64>,
    slots: u64,
}

impl Shares {
    /// Fills the tree.
    pub(super) fn new(tree: &Tree, rules: Rules) -> Self {
        let mut shares = Self { shares: vec![0; tree.len()], room: rules.room(tree), slots: 0 };
        shares.slots = u64::from(rules.slots(tree));
        shares.fill(tree, Tree::ROOT, shares.slots * ONE);
        shares
    }

    /// The share of a place.
    pub(super) fn at(&self, at: usize) -> u64 {
        self.shares[at]
    }

    /// All shares, by place.
    pub(super) fn all(&self) -> &[u64] {
        &self.shares
    }

    /// The most slots of one group that fit below a place.
    pub(super) fn room(&self, at: usize) -> u64 {
        self.room[at]
    }

    /// Slots of each group.
    pub(super) fn slots(&self) -> u64 {
        self.slots
    }

    /// Shares `amount` out below a place: the highest water level that doesn't spill.
    fn fill(&mut self, tree: &Tree, at: usize, amount: u64) {
        let (mut low, mut high) = (0, u64::MAX);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            let sum: u64 = tree.children(at).map(|child| self.taken(tree, child, middle)).sum();
            if sum <= amount {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        self.settle(tree, at, low);
    }

    /// What a place takes at a water level.
    fn taken(&self, tree: &Tree, at: usize, level: u64) -> u64 {
        match tree.kind(at) {
            Kind::Disk(_) => {
                let taken = (u128::from(level) * u128::from(tree.weight(at))) >> 32;
                taken.min(u128::from(ONE)) as u64
            }
            Kind::Bundle | Kind::Domain(_) => {
                let below: u64 =
                    tree.children(at).map(|child| self.taken(tree, child, level)).sum();
                below.min(self.room[at] * ONE)
            }
        }
    }

    /// Writes down what the places below `at` take at a water level. What is full has a level of
    /// its own below.
    fn settle(&mut self, tree: &Tree, at: usize, level: u64) {
        for child in tree.children(at) {
            if matches!(tree.kind(child), Kind::Disk(_)) {
                self.shares[child] = self.taken(tree, child, level);
                continue;
            }
            let below: u64 = tree.children(child).map(|next| self.taken(tree, next, level)).sum();
            let most = self.room[child] * ONE;
            if below > most {
                self.fill(tree, child, most);
            } else {
                self.settle(tree, child, level);
            }
        }
        self.shares[at] = tree.children(at).map(|child| self.shares[child]).sum();
    }

    /// Whole slots for each place, for so many groups.
    ///
    /// What rounding leaves goes to those with the most left over, counting `owed`: what earlier
    /// calls left them, in parts of [`ONE`]. So the sum of several calls is as even as each.
    pub(super) fn quotas(&self, tree: &Tree, groups: u32, owed: &mut [i64]) -> Vec<u64> {
        let groups = u64::from(groups);
        let mut quotas = vec![0; tree.len()];
        quotas[Tree::ROOT] = self.slots * groups;
        for at in 0..tree.len() {
            let mut left = quotas[at];
            let mut by_need: Vec<usize> = tree.children(at).collect();
            for child in tree.children(at) {
                let whole = self.shares[child] * groups / ONE;
                quotas[child] = whole;
                left = left.saturating_sub(whole);
                let part = self.shares[child] * groups % ONE;
                owed[child] = owed[child].saturating_add_unsigned(part);
            }
            by_need.sort_by_key(|child| std::cmp::Reverse(owed[*child]));
            for child in by_need {
                if left > 0 && quotas[child] < self.room[child] * groups {
                    quotas[child] += 1;
                    owed[child] = owed[child].saturating_sub_unsigned(ONE);
                    left -= 1;
                }
            }
        }
        quotas
    }
}
