//! Moves for balance: from disks that have more than their share to disks that have less.
//!
//! The disk that is furthest beyond its tolerance comes first, and takes from the disk that has the
//! most above its share, or gives to the one that has the least, where the rules allow it. A move is
//! made when it lowers the sum of squares, so a disk in between may pass on what the rules don't let
//! go directly.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::board::{Balance, Board, Future, SLOT};
use crate::moves::MoveReason;

/// Disks that are tried as the other end of a move.
const TRIES_MAX: usize = 256;

/// How often what had no way out is looked at again after others have moved.
const ROUNDS_MAX: usize = 4;

/// Below this part of its share (or a slot) a surplus is left alone: half of what the balance of a
/// cluster is to keep, so that small changes move nothing.
const TOLERATED_PART: i64 = 40;

/// The same within a lot, or two slots: all lots are to be balanced, but what one leaves another
/// makes up for.
const TOLERATED_PART_OF_LOT: i64 = 20;

/// Stands for all lots.
const ALL_LOTS: u32 = u32::MAX;

/// What a disk has beyond what is tolerated, in a lot or in all.
type Excess = (Reverse<i64>, u32, u32);

/// A slot of a group.
type Seat = (u32, u8);

impl Board<'_> {
    /// Plans them.
    pub(super) fn balance(&mut self) {
        let mut excesses: BTreeSet<Excess> = self.excesses();
        if excesses.is_empty() || self.is_full() {
            return;
        }
        let seats_of = self.seats_of();
        for _ in 0..ROUNDS_MAX {
            let mut is_any = false;
            while let Some((_, scope, disk)) = excesses.pop_first() {
                if self.is_full() {
                    return;
                }
                let Some((other, (pg, slot), to)) = self.exchange(scope, disk, &seats_of) else {
                    continue;
                };
                is_any = true;
                let lot = self.lot_of[pg as usize];
                for disk in [disk, other] {
                    for scope in [lot, ALL_LOTS] {
                        excesses.remove(&(Reverse(self.excess(scope, disk)), scope, disk));
                    }
                }
                self.plan(pg as usize, usize::from(slot), to, MoveReason::Balance);
                for disk in [disk, other] {
                    for scope in [lot, ALL_LOTS, scope] {
                        let excess = self.excess(scope, disk);
                        if excess > 0 {
                            excesses.insert((Reverse(excess), scope, disk));
                        }
                    }
                }
            }
            if !is_any {
                return;
            }
            excesses = self.excesses();
        }
    }

    /// What all disks have beyond what is tolerated.
    fn excesses(&self) -> BTreeSet<Excess> {
        let scopes = (0..self.lots.len() as u32).chain([ALL_LOTS]);
        let disks = self.disks() as u32;
        scopes
            .flat_map(|scope| (0..disks).map(move |disk| (scope, disk)))
            .map(|(scope, disk)| (Reverse(self.excess(scope, disk)), scope, disk))
            .filter(|(excess, _, _)| excess.0 > 0)
            .collect()
    }

    /// What a disk has beyond what is tolerated, either way; 0 where nothing can be done about it.
    fn excess(&self, scope: u32, disk: u32) -> i64 {
        let at = disk as usize;
        let balance = self.balance_in(scope);
        let ability = self.abilities[at];
        let surplus = balance.surplus[at];
        let can_change = if surplus > 0 { ability.gives } else { ability.takes };
        if !can_change || ability.future != Future::Stays {
            return 0;
        }
        (surplus.abs() - tolerance(scope, balance.shares[at])).max(0)
    }

    fn balance_in(&self, scope: u32) -> &Balance {
        self.lots.get(scope as usize).map_or(&self.total, |lot| &lot.balance)
    }

    /// The slots of each disk that may move: their groups are whole.
    fn seats_of(&self) -> Vec<Vec<Seat>> {
        let mut seats_of = vec![Vec::new(); self.disks()];
        for pg in (0..self.groups()).filter(|pg| self.is_whole(*pg)) {
            for (slot, seat) in (0u8..).zip(self.seats(pg)) {
                seats_of[*seat as usize].push((pg as u32, slot));
            }
        }
        seats_of
    }

    /// Finds what a disk should give or take: the other disk, the slot, and where it goes.
    fn exchange(&self, scope: u32, disk: u32, seats_of: &[Vec<Seat>]) -> Option<(u32, Seat, u32)> {
        let balance = self.balance_in(scope);
        let others = balance.order.iter().map(|(_, other)| *other).filter(|other| *other != disk);
        let best = |from: u32, to: u32| {
            let gain = |lot: u32| {
                let balance = self.balance_in(lot);
                let [given, taken] = [from, to].map(|disk| disk as usize);
                // The sum over all lots isn't balanced by unbalancing one.
                let is_even = balance.surplus[given] - SLOT
                    >= -tolerance(lot, balance.shares[given])
                    && balance.surplus[taken] + SLOT <= tolerance(lot, balance.shares[taken]);
                let gain = self.surplus(lot, from) - self.surplus(lot, to) - 2 * SLOT;
                if is_even { gain } else { 0 }
            };
            let gains: Vec<i64> = (0..self.lots.len() as u32).map(gain).collect();
            self.best_seat(scope, to, &gains, &seats_of[from as usize])
        };
        if balance.surplus[disk as usize] > 0 {
            let takers = others.filter(|other| self.abilities[*other as usize].takes);
            takers.take(TRIES_MAX).find_map(|other| Some((other, best(disk, other)?, other)))
        } else {
            let givers = others.rev().filter(|other| self.abilities[*other as usize].gives);
            givers.take(TRIES_MAX).find_map(|other| Some((other, best(other, disk)?, disk)))
        }
    }

    /// The slot whose move from one disk to the other lowers the sum of squares the most.
    fn best_seat(&self, scope: u32, to: u32, gains: &[i64], seats: &[Seat]) -> Option<Seat> {
        let mut best: Option<(i64, Seat)> = None;
        // Always the first of equals would make tables in which disks share the same groups, and
        // the next change had to move more than it should.
        let start = self.turn() % seats.len().max(1);
        for (pg, slot) in seats[start..].iter().chain(&seats[..start]) {
            let lot = self.lot_of[*pg as usize];
            let gain = gains[lot as usize];
            let is_better = gain > best.map_or(0, |(most, _)| most);
            let is_meant = scope == ALL_LOTS || scope == lot;
            if is_better
                && is_meant
                && !self.is_moving[*pg as usize]
                && self.fits(*pg as usize, usize::from(*slot), to)
            {
                best = Some((gain, (*pg, *slot)));
            }
        }
        best.map(|(_, seat)| seat)
    }
}

/// What a disk with this share may have more or less, in a lot or in all.
fn tolerance(scope: u32, share: i64) -> i64 {
    match (share, scope) {
        (0, _) => 0,
        // A new table may be a slot and a bit off; 1.5 slots are within 5 % of a share of 30.
        (_, ALL_LOTS) => SLOT
            .max(share / TOLERATED_PART)
            .max((SLOT + SLOT / 2).min(share / TOLERATED_PART_OF_LOT)),
        (_, _) => (2 * SLOT).max(share / TOLERATED_PART_OF_LOT),
    }
}
