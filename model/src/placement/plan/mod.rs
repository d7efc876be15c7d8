//! Which slots are to go to another disk, and where.
//!
//! In: the cluster map, with the moves under way. Out: moves in order of urgency. First what was on
//! disks that were given up, the groups with the least redundancy first; then what is on disks that
//! are drained; then slots that more of a group are in one node, rack or zone than need be; then what
//! a disk has beyond its share.
//!
//! Pure, and what always holds:
//! - A plan depends on the map alone: after some of it was carried out, a new one gives the rest. What
//!   is under way counts as done, and is never planned again.
//! - No move makes more slots of a group share a domain than the rules of its coding allow, except
//!   that a lost slot rather goes where it breaks a rule than nowhere.
//! - Of a group that has all its disks only one slot moves at a time, and none while one of its
//!   disks can't be read, unless it is lost.
//! - Moves for balance lower the sum of the squares of what disks have above or below their shares, so
//!   they come to an end; a disk that is within half of what balance is to keep to starts none.

mod balance;
mod board;
mod rescue;

use self::board::Board;
use crate::cluster_map::ClusterMap;
use crate::moves::{Move, MoveReason};

/// Plans that are carried out one after the other, at most: each moves a slot of every group.
const ROUNDS_MAX: usize = 64;

/// How much to plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// So many moves, the most urgent ones.
    pub moves: usize,
    /// None for a lesser reason than this one.
    pub least: MoveReason,
}

impl Limits {
    /// All that can begin now.
    pub const NONE: Self = Self { moves: usize::MAX, least: MoveReason::Balance };
}

/// The moves that should begin now, beside those under way.
pub fn plan_moves(map: &ClusterMap, limits: &Limits) -> Vec<Move> {
    let reasons = [MoveReason::Lost, MoveReason::Drain, MoveReason::Spread, MoveReason::Balance];
    let Some(mut board) = Board::new(map, limits.moves) else { return Vec::new() };
    for reason in reasons.into_iter().filter(|reason| *reason <= limits.least) {
        match reason {
            MoveReason::Lost => board.move_lost(),
            MoveReason::Drain => board.move_drained(),
            MoveReason::Spread => board.move_crowded(),
            MoveReason::Balance => board.balance(),
        }
    }
    board.into_moves()
}

/// All moves until nothing is left to do, if nothing else happens, and the map after them.
pub fn whole_plan(map: &ClusterMap) -> (Vec<Move>, ClusterMap) {
    let mut after = map.clone();
    for pg in &mut after.pgs {
        for under_way in std::mem::take(&mut pg.moves) {
            if let Some(disk) = pg.disks.get_mut(usize::from(under_way.slot)) {
                *disk = under_way.to;
            }
        }
    }
    let mut all = Vec::new();
    for _ in 0..ROUNDS_MAX {
        let moves = plan_moves(&after, &Limits::NONE);
        if moves.is_empty() {
            break;
        }
        for one in &moves {
            let pg = after.pgs.get_mut(one.pg.0 as usize);
            if let Some(disk) = pg.and_then(|pg| pg.disks.get_mut(usize::from(one.slot))) {
                *disk = one.to;
            }
        }
        all.extend(moves);
    }
    (all, after)
}
