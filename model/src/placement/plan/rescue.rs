//! Moves that have to be: off disks that were given up or are drained, and out of domains that have
//! too many slots of a group.

use std::cmp::Reverse;

use super::board::{Board, Future, NOWHERE};
use crate::moves::MoveReason;
use crate::placement::topology::Level;

/// Disks that the rules allow, of which the emptiest is taken: in the lot, and in all.
const CANDIDATES: usize = 8;

/// Slots for which no disk was found by looking at all, until no more are looked at: then there is
/// no room, and looking costs the time of all others.
const FAILURES_MAX: usize = 1000;

impl Board<'_> {
    /// Slots of disks that were given up, or that nobody knows; of the groups with the least
    /// redundancy first.
    pub(super) fn move_lost(&mut self) {
        let mut lost: Vec<(usize, usize, usize)> = Vec::new();
        for pg in 0..self.groups() {
            let seats = self.seats(pg);
            if seats.iter().all(|seat| self.is_held(*seat)) {
                continue;
            }
            let readable =
                seats.iter().filter(|seat| self.is_held(**seat) && self.gives(**seat)).count();
            // Below 0 nothing can be rebuilt before a disk comes back: those wait at the end.
            let left = readable.checked_sub(self.data(pg)).unwrap_or(usize::MAX);
            let gone = (0..seats.len())
                .filter(|slot| !self.is_held(seats[*slot]) && !self.is_under_way(pg, *slot));
            lost.extend(gone.map(|slot| (left, pg, slot)));
        }
        lost.sort_unstable();
        let mut failures = 0;
        for (_, pg, slot) in lost {
            if self.is_full() || failures > FAILURES_MAX {
                return;
            }
            let fitting = self.emptiest(pg, slot, |_| true);
            match fitting.or_else(|| self.least_breach(pg, slot)) {
                Some(to) => self.plan(pg, slot, to, MoveReason::Lost),
                None => failures += 1,
            }
        }
    }

    /// Slots of disks that are drained.
    pub(super) fn move_drained(&mut self) {
        let mut failures = 0;
        for pg in 0..self.groups() {
            let drains = |seat: &u32| {
                *seat != NOWHERE && self.abilities[*seat as usize].future == Future::Leaves
            };
            let Some(slot) = self.seats(pg).iter().position(drains) else { continue };
            if self.is_full() || failures > FAILURES_MAX {
                return;
            }
            if !self.is_whole(pg) {
                continue;
            }
            match self.emptiest(pg, slot, |_| true) {
                Some(to) => self.plan(pg, slot, to, MoveReason::Drain),
                None => failures += 1,
            }
        }
    }

    /// Slots that more of their group are in a domain than the rules allow.
    pub(super) fn move_crowded(&mut self) {
        let mut failures = 0;
        for pg in 0..self.groups() {
            let mut crowded = self.crowded(pg);
            if crowded.is_empty() {
                continue;
            }
            if self.is_full() || failures > FAILURES_MAX {
                return;
            }
            if !self.is_whole(pg) {
                continue;
            }
            let lot = self.lot_of[pg];
            crowded.sort_by_key(|(slot, _)| Reverse(self.surplus(lot, self.seats(pg)[*slot])));
            let found = crowded.into_iter().find_map(|(slot, level)| {
                let here = self.domain(self.seats(pg)[slot], level);
                let to = self.emptiest(pg, slot, |disk| self.domain(disk, level) != here)?;
                Some((slot, to))
            });
            match found {
                Some((slot, to)) => self.plan(pg, slot, to, MoveReason::Spread),
                None => failures += 1,
            }
        }
    }

    /// The slots of a group that are in a domain with too many, and the level of it.
    fn crowded(&self, pg: usize) -> Vec<(usize, Level)> {
        let seats = self.seats(pg);
        let rules = self.rules(pg);
        let mut crowded = Vec::new();
        for level in Level::ALL {
            // A level of which one domain may have all can't be crowded.
            if usize::from(rules.most(level)) >= seats.len() {
                continue;
            }
            for (slot, seat) in seats.iter().enumerate().filter(|(_, seat)| self.is_held(**seat)) {
                let here = self.domain(*seat, level);
                let is_here =
                    |other: &&u32| self.is_held(**other) && self.domain(**other, level) == here;
                if seats.iter().filter(is_here).count() > usize::from(rules.most(level)) {
                    crowded.push((slot, level));
                }
            }
        }
        crowded
    }

    /// The disk furthest below its share that the rules and `suits` allow.
    fn emptiest(&self, pg: usize, slot: usize, suits: impl Fn(u32) -> bool) -> Option<u32> {
        let lot = self.lot_of[pg];
        let fits = |(_, disk): &&(i64, u32)| {
            self.abilities[*disk as usize].takes && suits(*disk) && self.fits(pg, slot, *disk)
        };
        let in_lot = self.lots[lot as usize].balance.order.iter().filter(fits).take(CANDIDATES);
        let in_all = self.total.order.iter().filter(fits).take(CANDIDATES);
        let found = in_lot.chain(in_all).map(|(_, disk)| *disk);
        found.min_by_key(|disk| (self.surplus(lot, *disk), *disk))
    }

    /// The disk that breaks the rules the least, where all do.
    fn least_breach(&self, pg: usize, slot: usize) -> Option<u32> {
        let lot = self.lot_of[pg];
        let takes = (0..self.disks() as u32).filter(|disk| self.abilities[*disk as usize].takes);
        let ranked = takes.filter_map(|disk| {
            let breach = self.breach(pg, slot, disk)?;
            Some((breach, self.surplus(lot, disk), disk))
        });
        ranked.min().map(|(_, _, disk)| disk)
    }

    fn gives(&self, seat: u32) -> bool {
        self.abilities[seat as usize].gives
    }
}
