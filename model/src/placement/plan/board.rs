//! The present table, with the moves under way as if they were done, and what each disk has above or
//! below its share.
//!
//! In: the cluster map, and moves as they are planned. What always holds: the sums and orders follow
//! from the seats; disks are numbered by [`rank`], so that of equals neighbours in a rack aren't
//! chosen one after the other.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster_map::{ClusterMap, Disk, DiskState};
use crate::coding::Coding;
use crate::ids::DiskId;
use crate::moves::{Move, MoveReason};
use crate::placement::groups::Lot;
use crate::placement::targets::{ONE, Rules, Shares};
use crate::placement::topology::{Kind, Level, Places, Tree, rank};

/// A slot, as shares are counted.
pub(super) const SLOT: i64 = ONE.cast_signed();

/// Stands for a disk that the map doesn't know.
pub(super) const NOWHERE: u32 = u32::MAX;

/// What can be done with a disk.
#[derive(Clone, Copy)]
pub(super) struct Ability {
    /// Its slots can be read from it.
    pub(super) gives: bool,
    /// It can get more.
    pub(super) takes: bool,
    /// What becomes of what it has.
    pub(super) future: Future,
}

/// What becomes of the slots of a disk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Future {
    /// They stay, up to its share.
    Stays,
    /// All of them are to go.
    Leaves,
    /// The disk was given up: they are lost.
    Lost,
}

impl Ability {
    fn of(disk: &Disk) -> Self {
        let drained = if disk.standing.is_draining { Future::Leaves } else { Future::Stays };
        let (gives, takes, future) = match disk.state {
            DiskState::Up => (true, disk.share() > 0, drained),
            DiskState::Full => (true, false, drained),
            DiskState::Down => (false, false, drained),
            DiskState::Out => (false, false, Future::Lost),
        };
        Self { gives, takes, future }
    }
}

/// What disks have above their shares (or below: negative), in parts of [`SLOT`].
pub(super) struct Balance {
    pub(super) shares: Vec<i64>,
    pub(super) surplus: Vec<i64>,
    /// Those that hold data or should, by surplus.
    pub(super) order: BTreeSet<(i64, u32)>,
}

impl Balance {
    fn shift(&mut self, disk: u32, by: i64) {
        let surplus = &mut self.surplus[disk as usize];
        if self.order.remove(&(*surplus, disk)) {
            self.order.insert((*surplus + by, disk));
        }
        *surplus += by;
    }
}

/// Groups that are balanced together.
pub(super) struct LotBoard {
    pub(super) rules: Rules,
    pub(super) balance: Balance,
}

/// The table.
pub(super) struct Board<'a> {
    map: &'a ClusterMap,
    disks: Vec<&'a Disk>,
    pub(super) abilities: Vec<Ability>,
    domains: Vec<[u32; 3]>,
    /// Where the slots of each group begin in `seats`.
    starts: Vec<usize>,
    seats: Vec<u32>,
    /// The lot of each group.
    pub(super) lot_of: Vec<u32>,
    /// Groups of which a slot is under way or planned to be.
    pub(super) is_moving: Vec<bool>,
    pub(super) lots: Vec<LotBoard>,
    /// Over all lots.
    pub(super) total: Balance,
    moves: Vec<Move>,
    moves_max: usize,
}

impl<'a> Board<'a> {
    /// `None` when no disk is to hold data.
    pub(super) fn new(map: &'a ClusterMap, moves_max: usize) -> Option<Self> {
        let places = Places::new(&map.disks);
        let tree = Tree::new(&map.disks, &places, Disk::share);
        if tree.disks() == 0 {
            return None;
        }
        let mut order: Vec<usize> = (0..map.disks.len()).collect();
        order.sort_by_cached_key(|at| rank(&map.disks[*at]));
        let mut numbers = vec![NOWHERE; order.len()];
        (0..).zip(&order).for_each(|(number, at)| numbers[*at] = number);

        let mut lots: BTreeMap<Lot, u32> = BTreeMap::new();
        for pg in &map.pgs {
            *lots.entry(Lot::of(pg)).or_default() += 1;
        }
        let disks: Vec<&Disk> = order.iter().map(|at| &map.disks[*at]).collect();
        let mut board = Self {
            map,
            abilities: disks.iter().map(|disk| Ability::of(disk)).collect(),
            domains: order.iter().map(|at| places.of(*at)).collect(),
            starts: Vec::with_capacity(map.pgs.len() + 1),
            seats: Vec::new(),
            lot_of: Vec::with_capacity(map.pgs.len()),
            is_moving: map.pgs.iter().map(|pg| !pg.moves.is_empty()).collect(),
            lots: Vec::new(),
            total: Balance {
                shares: vec![0; disks.len()],
                surplus: vec![0; disks.len()],
                order: BTreeSet::new(),
            },
            moves: Vec::new(),
            moves_max,
            disks,
        };
        board.share_out(&tree, &numbers, &lots);
        let lot_numbers: BTreeMap<Lot, u32> = lots.into_keys().zip(0..).collect();
        board.seat(&numbers, &lot_numbers);
        board.put_in_order();
        Some(board)
    }

    /// Shares of all disks in all lots.
    fn share_out(&mut self, tree: &Tree, numbers: &[u32], lots: &BTreeMap<Lot, u32>) {
        let mut by_coding: BTreeMap<Coding, (Rules, Vec<u64>)> = BTreeMap::new();
        for (lot, groups) in lots {
            let (rules, each) = by_coding.entry(lot.coding).or_insert_with(|| {
                let rules = Rules::new(tree, lot.coding);
                let filled = Shares::new(tree, rules);
                let mut each = vec![0; numbers.len()];
                for at in 0..tree.len() {
                    if let Kind::Disk(disk) = tree.kind(at) {
                        each[numbers[disk as usize] as usize] = filled.at(at);
                    }
                }
                (rules, each)
            });
            let shares: Vec<i64> =
                each.iter().map(|share| (share * u64::from(*groups)).cast_signed()).collect();
            for (total, share) in self.total.shares.iter_mut().zip(&shares) {
                *total += share;
            }
            let surplus = shares.iter().map(|share| -share).collect();
            let balance = Balance { shares, surplus, order: BTreeSet::new() };
            self.lots.push(LotBoard { rules: *rules, balance });
        }
        self.total.surplus = self.total.shares.iter().map(|share| -share).collect();
    }

    /// Puts the slots where they are, or will be when what is under way is done.
    fn seat(&mut self, numbers: &[u32], lots: &BTreeMap<Lot, u32>) {
        let lowest = self.map.disks.first().map_or(0, |disk| disk.id.0);
        let disks = &self.map.disks;
        let number = |id: DiskId| {
            // Ids have few gaps, so this is where it usually is.
            let guess = id.0.wrapping_sub(lowest) as usize;
            let at = match disks.get(guess) {
                Some(disk) if disk.id == id => Some(guess),
                _ => disks.binary_search_by_key(&id, |disk| disk.id).ok(),
            };
            at.map_or(NOWHERE, |at| numbers[at])
        };
        for pg in &self.map.pgs {
            let lot = lots.get(&Lot::of(pg)).copied().unwrap_or_default();
            self.lot_of.push(lot);
            self.starts.push(self.seats.len());
            for (slot, id) in (0u8..).zip(&pg.disks) {
                let seat = number(pg.move_of(slot).map_or(*id, |under_way| under_way.to));
                self.seats.push(seat);
                if seat != NOWHERE {
                    self.lots[lot as usize].balance.surplus[seat as usize] += SLOT;
                    self.total.surplus[seat as usize] += SLOT;
                }
            }
        }
        self.starts.push(self.seats.len());
    }

    fn put_in_order(&mut self) {
        let counts = |disk: &u32| self.abilities[*disk as usize].future == Future::Stays;
        let counted: Vec<u32> = (0..self.disks.len() as u32).filter(counts).collect();
        let balances = self.lots.iter_mut().map(|lot| &mut lot.balance);
        for balance in balances.chain([&mut self.total]) {
            balance.order =
                counted.iter().map(|disk| (balance.surplus[*disk as usize], *disk)).collect();
        }
    }

    /// How many groups there are.
    pub(super) fn groups(&self) -> usize {
        self.map.pgs.len()
    }

    /// How many disks there are.
    pub(super) fn disks(&self) -> usize {
        self.disks.len()
    }

    /// The disks of a group's slots.
    pub(super) fn seats(&self, pg: usize) -> &[u32] {
        &self.seats[self.starts[pg]..self.starts[pg + 1]]
    }

    /// The domain of a level that a disk is in.
    pub(super) fn domain(&self, disk: u32, level: Level) -> u32 {
        self.domains[disk as usize][level as usize]
    }

    /// What the rules allow a group.
    pub(super) fn rules(&self, pg: usize) -> Rules {
        self.lots[self.lot_of[pg] as usize].rules
    }

    /// The data shards of a group's coding.
    pub(super) fn data(&self, pg: usize) -> usize {
        usize::from(self.map.pgs[pg].coding.data())
    }

    /// Whether a seat is of a disk that has its shards.
    pub(super) fn is_held(&self, seat: u32) -> bool {
        seat != NOWHERE && self.abilities[seat as usize].future != Future::Lost
    }

    /// Whether all of a group can be read, and nothing of it moves.
    pub(super) fn is_whole(&self, pg: usize) -> bool {
        let gives = |seat: &u32| *seat != NOWHERE && self.abilities[*seat as usize].gives;
        !self.is_moving[pg] && self.seats(pg).iter().all(gives)
    }

    /// Whether a slot of a group is under way already.
    pub(super) fn is_under_way(&self, pg: usize, slot: usize) -> bool {
        let id = self.map.pgs[pg].disks.get(slot);
        let seat = self.seats(pg)[slot];
        self.map.pgs[pg].moves.iter().any(|one| usize::from(one.slot) == slot)
            || (seat != NOWHERE && id != Some(&self.disks[seat as usize].id))
    }

    /// Whether a group has a disk, or had it until what is under way is done.
    fn has(&self, pg: usize, disk: u32) -> bool {
        let id = self.disks[disk as usize].id;
        self.seats(pg).contains(&disk)
            || (self.is_moving[pg] && self.map.pgs[pg].disks.contains(&id))
    }

    /// By how much the rules would be broken by a slot's move, in slots; `None` when the disk has
    /// another slot of the group.
    pub(super) fn breach(&self, pg: usize, slot: usize, to: u32) -> Option<u32> {
        if self.has(pg, to) {
            return None;
        }
        let from = self.seats(pg)[slot];
        let rules = self.rules(pg);
        let mut breach = 0;
        for level in Level::ALL {
            let domain = self.domain(to, level);
            if self.is_held(from) && self.domain(from, level) == domain {
                continue;
            }
            let is_there =
                |seat: &&u32| self.is_held(**seat) && self.domain(**seat, level) == domain;
            let count = self.seats(pg).iter().filter(is_there).count();
            breach += (count as u32 + 1).saturating_sub(u32::from(rules.most(level)));
        }
        Some(breach)
    }

    /// Whether a slot may move there by the rules.
    pub(super) fn fits(&self, pg: usize, slot: usize, to: u32) -> bool {
        self.breach(pg, slot, to) == Some(0)
    }

    /// What a disk has above its share, in a group's lot and in all.
    pub(super) fn surplus(&self, lot: u32, disk: u32) -> i64 {
        let lot = &self.lots[lot as usize].balance;
        lot.surplus[disk as usize] + self.total.surplus[disk as usize]
    }

    /// A number that is another one for every move, and the same for every replica.
    pub(super) fn turn(&self) -> usize {
        let moves = self.map.epoch.wrapping_add(self.moves.len() as u64);
        (moves.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize
    }

    /// Whether no more may be planned.
    pub(super) fn is_full(&self) -> bool {
        self.moves.len() >= self.moves_max
    }

    /// Plans a move.
    pub(super) fn plan(&mut self, pg: usize, slot: usize, to: u32, reason: MoveReason) {
        let start = self.starts[pg];
        let from = std::mem::replace(&mut self.seats[start + slot], to);
        let lot = self.lot_of[pg] as usize;
        for (disk, by) in [(from, -SLOT), (to, SLOT)] {
            if disk != NOWHERE {
                self.lots[lot].balance.shift(disk, by);
                self.total.shift(disk, by);
            }
        }
        self.is_moving[pg] = true;
        let group = &self.map.pgs[pg];
        self.moves.push(Move {
            pg: group.id,
            slot: slot as u8,
            from: group.disks[slot],
            to: self.disks[to as usize].id,
            reason,
        });
    }

    /// What was planned.
    pub(super) fn into_moves(self) -> Vec<Move> {
        self.moves
    }
}
