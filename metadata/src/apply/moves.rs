//! BeginMoves, EndMove, DrainDisk, WeighDisk, PlaceNode, SetUpkeep, MuteHealth, GiveUpDisk: what
//! changes where shards are, and what operators want of it.
//!
//! What always holds: a slot is given to another disk only when that disk has the slot's shards of
//! every extent of the group that had them before, or when its old disk was given up (I-12). What is
//! committed while a slot moves is in the repair table for it, so that the end of the move has to
//! wait for it. What left the repair table because the new disk has it enters it again when the move
//! is given up.

use std::collections::BTreeSet;

use model::cluster_map::{ClusterMap, Disk, DiskState, Mute, Pg, UpkeepWish};
use model::command::{Outcome, Refusal};
use model::ids::{DiskId, ExtentId, NodeId};
use model::moves::{
    MOVES_MAX, Move, MoveEnd, MoveReason, MoveResult, SlotMove, SlotMoved, UNRECOVERABLE_MAX,
};
use model::node::NodePlace;

use super::{Step, Stop};
use crate::limits::{MUTES_MAX, NODE_TEXT_BYTES_MAX};
use crate::state::StateError;
use crate::tables::extents::ExtentRecord;
use crate::tables::{TableId, decode};

/// Rows that are read at a time.
const ROWS: usize = 1024;

/// Extents of a group that a move of a slot concerns.
#[derive(Default)]
struct MovingRows {
    /// They lack the slot.
    lacking: Vec<ExtentId>,
    /// The disk that the slot moves to has it, and the other isn't known to.
    ahead: Vec<ExtentId>,
}

impl Step<'_, '_> {
    /// Nothing moves while something is held: what is adopted may be where it was, by the tables.
    pub(super) fn begin_moves(&mut self, moves: &[Move]) -> Result<Outcome, Stop> {
        let known = self.map()?;
        if self.held()?.is_some() {
            return Err(Refusal::MovesOutdated.into());
        }
        let mut map = ClusterMap::clone(&known);
        let mut under_way: usize = map.pgs.iter().map(|pg| pg.moves.len()).sum();
        let mut is_any = false;
        for wanted in moves {
            let Move { slot, to, reason, .. } = *wanted;
            let pg = map.pg(wanted.pg);
            if pg.and_then(|pg| pg.move_of(slot)).is_some_and(|other| other.to == to) {
                is_any = true;
                continue;
            }
            if under_way >= MOVES_MAX || !pg.is_some_and(|pg| may_begin(&map, pg, wanted)) {
                continue;
            }
            let begun = SlotMove { slot, to, reason, since: self.now, fault: None };
            if let Some(pg) = map.pgs.get_mut(wanted.pg.0 as usize) {
                pg.moves.push(begun);
                under_way += 1;
                is_any = true;
            }
        }
        if !is_any {
            return Err(Refusal::MovesOutdated.into());
        }
        // Their groups are closed: others may be needed to write to.
        self.add_pgs(&mut map)?;
        self.change_map(&known, map);
        Ok(Outcome::Done)
    }

    pub(super) fn end_move(&mut self, end: &MoveEnd) -> Result<Outcome, Stop> {
        let known = self.map()?;
        let pg = known.pg(end.pg).ok_or(Refusal::MovesOutdated)?;
        let is_it = |begun: &&SlotMove| begun.to == end.to && begun.since == end.since;
        let Some(under_way) = pg.move_of(end.slot).filter(is_it) else {
            // Another move of the slot, if there is one, is another's to end.
            if pg.move_of(end.slot).is_some() {
                return Err(Refusal::MovesOutdated.into());
            }
            let is_there = pg.disks.get(usize::from(end.slot)) == Some(&end.to);
            let is_wanted = matches!(end.result, MoveResult::Done { .. });
            // Ended before, one way or the other.
            return if is_there == is_wanted {
                Ok(Outcome::Done)
            } else {
                Err(Refusal::MovesOutdated.into())
            };
        };
        let (slot, to) = (under_way.slot, under_way.to);
        if let MoveResult::Failing(fault) = end.result {
            let mut map = ClusterMap::clone(&known);
            let moves = map.pgs.get_mut(end.pg.0 as usize).map(|pg| &mut pg.moves);
            let mut marked = moves.into_iter().flatten().filter(|begun| begun.slot == slot);
            marked.next().into_iter().for_each(|begun| begun.fault = Some(fault));
            if map != *known {
                self.change_map(&known, map);
            }
            return Ok(Outcome::Done);
        }
        let rows = self.rows(pg, slot)?;
        let is_done = matches!(end.result, MoveResult::Done { .. });
        if let MoveResult::Done { unrecoverable } = &end.result {
            // What is adopted may be where it was, by the tables.
            if self.held()?.is_some() {
                return Err(Refusal::MovesOutdated.into());
            }
            let from = pg.disks.get(usize::from(slot)).and_then(|id| known.disk(*id));
            let has_source = from.is_some_and(|disk| disk.state != DiskState::Out);
            if unrecoverable.len() > UNRECOVERABLE_MAX {
                return Err(Refusal::InvalidCommand.into());
            }
            let named: BTreeSet<&ExtentId> = unrecoverable.iter().collect();
            let to = known.disk(to).map(|disk| disk.state);
            let reads = matches!(to, Some(DiskState::Up | DiskState::Full));
            let is_whole = rows.lacking.iter().all(|extent| named.contains(extent));
            // What can be read where it is isn't given to a disk that went down meanwhile.
            if has_source && !(reads && is_whole) {
                return Err(Refusal::MoveUnfinished.into());
            }
        }
        self.settle_ahead(&rows.ahead, slot, is_done)?;
        let mut map = ClusterMap::clone(&known);
        let epoch = map.epoch + 1;
        if let Some(pg) = map.pgs.get_mut(end.pg.0 as usize) {
            pg.moves.retain(|begun| begun.slot != slot);
            if let (true, Some(disk)) = (is_done, pg.disks.get_mut(usize::from(slot))) {
                *disk = to;
                pg.moved.retain(|moved| moved.slot != slot);
                pg.moved.push(SlotMoved { slot, epoch });
            }
        }
        self.change_map(&known, map);
        Ok(Outcome::Done)
    }

    /// The owned extents of a group that lack this slot, and those that have it ahead.
    fn rows(&mut self, pg: &Pg, slot: u8) -> Result<MovingRows, Stop> {
        let mut found = MovingRows::default();
        let prefix = pg.id.0.to_be_bytes();
        let mut start = prefix.to_vec();
        loop {
            let rows = self.tables.scan_from(TableId::Extents, &start, ROWS)?;
            let is_last = rows.len() < ROWS;
            for (key, value) in rows {
                if !key.starts_with(&prefix) {
                    return Ok(found);
                }
                let record: ExtentRecord = decode(&value)?;
                let id = ExtentId::from_key(&key)
                    .ok_or_else(|| StateError::Damaged("an extent has a bad key".to_owned()))?;
                if record.references > 0 && record.lacking.contains(slot) {
                    found.lacking.push(id);
                }
                if record.ahead.contains(slot) {
                    found.ahead.push(id);
                }
                start = key;
            }
            if is_last {
                return Ok(found);
            }
            start.push(0);
        }
    }

    pub(super) fn drain_disk(&mut self, disk: DiskId, is_draining: bool) -> Result<Outcome, Stop> {
        self.change_disk(disk, |disk| disk.standing.is_draining = is_draining)
    }

    pub(super) fn weigh_disk(
        &mut self,
        disk: DiskId,
        weight: Option<u32>,
    ) -> Result<Outcome, Stop> {
        self.change_disk(disk, |disk| disk.standing.weight = weight)
    }

    /// A disk that is taken back is down until its node says that it is well.
    pub(super) fn give_up_disk(&mut self, disk: DiskId, is_out: bool) -> Result<Outcome, Stop> {
        let state = self.map()?.disk(disk).ok_or(Refusal::NoSuchDisk)?.state;
        self.change_disk(disk, |disk| disk.standing.is_given_up = is_out)?;
        match (state, is_out) {
            (_, true) => self.set_disk_state(disk, DiskState::Out),
            (DiskState::Out, false) => self.set_disk_state(disk, DiskState::Down),
            (DiskState::Up | DiskState::Full | DiskState::Down, false) => Ok(Outcome::Done),
        }
    }

    pub(super) fn place_node(&mut self, node: NodeId, place: &NodePlace) -> Result<Outcome, Stop> {
        let is_text = |text: &str| text.len() <= NODE_TEXT_BYTES_MAX;
        if !is_text(&place.rack) || !is_text(&place.zone) {
            return Err(Refusal::InvalidCommand.into());
        }
        let known = self.map()?;
        let mut map = ClusterMap::clone(&known);
        let found = map.nodes.iter_mut().find(|known| known.id == node);
        found.ok_or(Refusal::NoSuchNode)?.place = Some(place.clone());
        for disk in map.disks.iter_mut().filter(|disk| disk.node == node) {
            disk.rack.clone_from(&place.rack);
            disk.zone.clone_from(&place.zone);
        }
        self.change_map(&known, map);
        Ok(Outcome::Done)
    }

    /// Two who each change a part of it must not undo each other's.
    pub(super) fn set_upkeep(
        &mut self,
        read: &UpkeepWish,
        wish: UpkeepWish,
    ) -> Result<Outcome, Stop> {
        let known = self.map()?;
        if known.upkeep != *read && known.upkeep != wish {
            return Err(Refusal::UpkeepChanged.into());
        }
        let map = ClusterMap { upkeep: wish, ..ClusterMap::clone(&known) };
        self.change_map(&known, map);
        Ok(Outcome::Done)
    }

    pub(super) fn mute_health(&mut self, mute: &Mute) -> Result<Outcome, Stop> {
        let known = self.map()?;
        let mut map = ClusterMap::clone(&known);
        map.mutes.retain(|known| known.code != mute.code && known.until > self.now);
        if mute.until > self.now {
            if mute.code.len() > NODE_TEXT_BYTES_MAX || map.mutes.len() >= MUTES_MAX {
                return Err(Refusal::InvalidCommand.into());
            }
            map.mutes.push(mute.clone());
            map.mutes.sort_by(|one, other| one.code.cmp(&other.code));
        }
        self.change_map(&known, map);
        Ok(Outcome::Done)
    }

    fn change_disk(
        &mut self,
        disk: DiskId,
        change: impl FnOnce(&mut Disk),
    ) -> Result<Outcome, Stop> {
        let known = self.map()?;
        let mut map = ClusterMap::clone(&known);
        change(map.disk_mut(disk).ok_or(Refusal::NoSuchDisk)?);
        self.add_pgs(&mut map)?;
        self.change_map(&known, map);
        Ok(Outcome::Done)
    }
}

/// Whether a move fits the map: its slot is where it says, and the new disk is up, wanted, and has no
/// other slot of the group, nor gets one. Of a group that still has all of its disks, one slot moves at
/// a time.
fn may_begin(map: &ClusterMap, pg: &Pg, wanted: &Move) -> bool {
    let is_there = pg.disks.get(usize::from(wanted.slot)) == Some(&wanted.from);
    let is_taken =
        pg.disks.contains(&wanted.to) || pg.moves.iter().any(|other| other.to == wanted.to);
    let takes_more = map
        .disk(wanted.to)
        .is_some_and(|disk| disk.state == DiskState::Up && !disk.standing.is_draining);
    let is_alone = pg.moves.is_empty()
        || (wanted.reason == MoveReason::Lost && pg.move_of(wanted.slot).is_none());
    let is_lost = map.disk(wanted.from).is_none_or(|disk| disk.state == DiskState::Out);
    let is_honest = (wanted.reason == MoveReason::Lost) == is_lost;
    is_there && !is_taken && takes_more && is_alone && is_honest
}
