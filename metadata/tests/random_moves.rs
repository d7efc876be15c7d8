//! Moves of slots in the state machine against what is really on the disks: whatever movers, writers and
//! operators do in whatever order, what the tables call sound is where they say (I-12).

use std::collections::{BTreeMap, BTreeSet};

use metadata::tables::TableId;
use model::cluster_map::{ClusterMap, DiskState};
use model::command::{Command, LackingExtent, Outcome, RepairedExtent, WriteCondition};
use model::extent::SlotSet;
use model::ids::{DiskId, ExtentId, PgId};
use model::moves::{Move, MoveEnd, MoveReason, MoveResult};
use model::time::Timestamp;
use wire::entropy::{Entropy, SeededEntropy};

use crate::harness::{bucket, key};
use crate::model_apply::Bare;
use crate::model_moves::{REFUSED, UNFINISHED, a_move, any_spare, bare, begin, commit, map};

/// What is really on the disks, and movers that are told of moves and forget to stop.
struct Truth {
    bare: Bare,
    entropy: SeededEntropy,
    /// The disks that have a shard, for each extent with an owner and each slot.
    shards: BTreeMap<(ExtentId, u8), BTreeSet<DiskId>>,
    /// Damage that nobody has reported yet.
    unreported: BTreeSet<(ExtentId, u8)>,
    /// Maps that somebody may still go by.
    maps: Vec<ClusterMap>,
    movers: Vec<Mover>,
    /// Repairs that were carried out and not told of, with the map that they went by.
    repairs: Vec<(ExtentId, u8, u64)>,
    next: u32,
    ended: usize,
    cancelled: usize,
}

/// Somebody who copies a slot.
#[derive(Clone)]
struct Mover {
    what: Move,
    since: Timestamp,
    /// What it found in the group, and has not copied.
    todo: Vec<ExtentId>,
    /// What it copied, and has not told.
    done: Vec<ExtentId>,
    lost: Vec<ExtentId>,
}

const GROUPS: usize = 3;

impl Truth {
    fn new(seed: u64) -> Self {
        let bare = bare();
        let maps = vec![map(&bare)];
        Self {
            bare,
            entropy: SeededEntropy::new(seed),
            shards: BTreeMap::new(),
            unreported: BTreeSet::new(),
            maps,
            movers: Vec::new(),
            repairs: Vec::new(),
            next: 0,
            ended: 0,
            cancelled: 0,
        }
    }

    fn below(&self, end: usize) -> usize {
        self.entropy.below(end as u64) as usize
    }

    fn apply(&mut self, command: Command) -> Outcome {
        let outcome = self.bare.apply(command);
        let newest = map(&self.bare);
        if self.maps.last().is_none_or(|last| last.epoch < newest.epoch) {
            self.maps.push(newest);
        }
        outcome
    }

    fn owned(&self, pg: PgId) -> Vec<ExtentId> {
        let ids: BTreeSet<ExtentId> = self.shards.keys().map(|(id, _)| *id).collect();
        ids.into_iter().filter(|id| id.pg == pg).collect()
    }

    fn is_there(&self, map: &ClusterMap, extent: ExtentId, slot: u8) -> bool {
        let disk = map.pg(extent.pg).expect("known").disks[usize::from(slot)];
        self.shards[&(extent, slot)].contains(&disk)
    }

    fn readable(&self, map: &ClusterMap, extent: ExtentId) -> usize {
        (0..6).filter(|slot| self.is_there(map, extent, *slot)).count()
    }

    fn commit(&mut self) {
        let old = self.maps[self.maps.len() - 1 - self.below(self.maps.len().min(6))].clone();
        let pg = PgId(self.below(GROUPS) as u32);
        let missing = if self.below(4) == 0 { 1 << self.below(6) } else { 0 };
        self.next += 1;
        let name = format!("k{}", self.next);
        let (command, id) = commit(&name, self.next, pg, missing, old.epoch);
        let outcome = self.apply(command);
        if outcome == REFUSED {
            return;
        }
        assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
        for slot in 0..6u8 {
            let disk = old.pg(pg).expect("known").disks[usize::from(slot)];
            let has = missing & (1 << slot) == 0;
            let disks = if has { BTreeSet::from([disk]) } else { BTreeSet::new() };
            self.shards.insert((id, slot), disks);
        }
        let now = self.maps.last().expect("some").clone();
        assert!(self.readable(&now, id) >= 4, "what is committed can be read");
    }

    fn begin(&mut self) {
        let now = self.maps.last().expect("some").clone();
        let (pg, slot) = (self.below(GROUPS) as u32, self.below(6) as u8);
        if any_spare(&now, PgId(pg)).is_none() {
            return;
        }
        let mut what = a_move(&now, pg, slot);
        if self.below(3) == 0 {
            // To where it was tried before, with what that left behind.
            if let Some(mover) = self.movers.iter().find(|mover| mover.what.pg == what.pg) {
                what = mover.what;
            }
        }
        let from = now.disk(what.from).expect("known").state;
        let is_lost = from == DiskState::Out;
        what.reason = if is_lost { MoveReason::Lost } else { MoveReason::Balance };
        self.apply(begin(what));
    }

    /// A gateway takes up a move that is under way; others may be at it already.
    fn take_up(&mut self) {
        let now = self.maps.last().expect("some").clone();
        let all: Vec<(Move, Timestamp)> = now
            .pgs
            .iter()
            .flat_map(|pg| pg.moves.iter().map(move |begun| (pg, begun)))
            .map(|(pg, begun)| {
                let from = pg.disks[usize::from(begun.slot)];
                let (pg, slot, to, reason) = (pg.id, begun.slot, begun.to, begun.reason);
                (Move { pg, slot, from, to, reason }, begun.since)
            })
            .collect();
        if all.is_empty() {
            return;
        }
        let (what, since) = all[self.below(all.len())];
        let todo = self.owned(what.pg);
        self.movers.push(Mover { what, since, todo, done: Vec::new(), lost: Vec::new() });
    }

    /// One of the movers goes on, by the map as it is now or as it was.
    fn go_on(&mut self) {
        if self.movers.is_empty() {
            return;
        }
        let at = self.below(self.movers.len());
        let mut mover = self.movers[at].clone();
        let Move { pg, slot, to, .. } = mover.what;
        let now = self.maps.last().expect("some").clone();
        if !mover.todo.is_empty() {
            let extent = mover.todo.remove(0);
            if self.shards.contains_key(&(extent, slot)) {
                let has_old = self.shards[&(extent, slot)].contains(&mover.what.from);
                let has_new = self.shards[&(extent, slot)].contains(&to);
                if has_old || has_new || self.readable(&now, extent) >= 4 {
                    self.shards.get_mut(&(extent, slot)).expect("there").insert(to);
                    mover.done.push(extent);
                } else {
                    mover.lost.push(extent);
                }
            }
        } else if !mover.done.is_empty() {
            let mut slots = SlotSet::default();
            slots.insert(slot);
            let (since, epoch, moving_to) = (mover.since, now.epoch, Some(to));
            let repaired = std::mem::take(&mut mover.done).into_iter();
            let repaired = repaired
                .map(|extent| RepairedExtent { extent, slots, epoch, moving_to, since })
                .collect();
            self.apply(Command::ShardsRepaired { repaired });
        } else {
            let lacking = mover
                .lost
                .iter()
                .map(|extent| LackingExtent { extent: *extent, slots: SlotSet(1 << slot) });
            let lacking = lacking.collect();
            self.apply(Command::QueueRepair { lacking });
            let result = MoveResult::Done { unrecoverable: mover.lost.clone() };
            let finish = MoveEnd { pg, slot, to, result, since: mover.since };
            match self.apply(Command::EndMove(finish)) {
                Outcome::Done => {
                    self.ended += 1;
                    self.movers.remove(at);
                    return;
                }
                outcome if outcome == UNFINISHED => {
                    let lacks = |id: &ExtentId| {
                        self.bare.extents().get(id).is_some_and(|row| row.lacking.contains(slot))
                    };
                    let lost = &mover.lost;
                    let left = self.owned(pg).into_iter().filter(lacks);
                    mover.todo = left.filter(|id| !lost.contains(id)).collect();
                }
                _ => {
                    // Now and then it doesn't notice.
                    if self.below(3) > 0 {
                        self.movers.remove(at);
                        return;
                    }
                }
            }
        }
        self.movers[at] = mover;
    }

    fn cancel(&mut self) {
        let now = self.maps.last().expect("some").clone();
        let begun = now.pgs.iter().find_map(|pg| Some((pg.id, *pg.moves.first()?)));
        let Some((pg, begun)) = begun else { return };
        let (slot, to, since) = (begun.slot, begun.to, begun.since);
        let cancel = MoveEnd { pg, slot, to, result: MoveResult::Cancelled, since };
        assert_eq!(self.apply(Command::EndMove(cancel)), Outcome::Done);
        self.cancelled += 1;
    }

    /// What is left over is deleted where the disk that has the right has it.
    fn clear(&mut self) {
        let now = self.maps.last().expect("some").clone();
        for ((extent, slot), disks) in &mut self.shards {
            let group = now.pg(extent.pg).expect("known");
            let home = group.disks[usize::from(*slot)];
            let has_right = |disk: &DiskId| {
                group.disks.contains(disk) || group.moves.iter().any(|begun| begun.to == *disk)
            };
            if disks.contains(&home) {
                disks.retain(has_right);
            }
        }
    }

    fn damage(&mut self) {
        let now = self.maps.last().expect("some").clone();
        let all: Vec<(ExtentId, u8)> = self.shards.keys().copied().collect();
        if all.is_empty() {
            return;
        }
        let (extent, slot) = all[self.below(all.len())];
        if self.readable(&now, extent) > 5 && self.is_there(&now, extent, slot) {
            let home = now.pg(extent.pg).expect("known").disks[usize::from(slot)];
            self.shards.get_mut(&(extent, slot)).expect("there").remove(&home);
            self.unreported.insert((extent, slot));
        }
    }

    fn report(&mut self) {
        let lacking = std::mem::take(&mut self.unreported).into_iter();
        let lacking = lacking
            .map(|(extent, slot)| LackingExtent { extent, slots: SlotSet(1 << slot) })
            .collect();
        self.apply(Command::QueueRepair { lacking });
    }

    fn repair(&mut self) {
        let now = self.maps.last().expect("some").clone();
        for (extent, (_, lacking)) in self.bare.queue() {
            for slot in lacking.iter() {
                let group = now.pg(extent.pg).expect("known");
                let home = group.disks[usize::from(slot)];
                let is_up = now.disk(home).is_some_and(|disk| disk.state == DiskState::Up);
                let is_sound = self.shards[&(extent, slot)].contains(&home);
                if !is_up || group.move_of(slot).is_some() {
                    continue;
                }
                if is_sound || self.readable(&now, extent) >= 4 {
                    self.shards.get_mut(&(extent, slot)).expect("there").insert(home);
                    self.repairs.push((extent, slot, now.epoch));
                }
            }
        }
    }

    fn tell_repairs(&mut self) {
        let repaired = std::mem::take(&mut self.repairs).into_iter();
        let repaired = repaired
            .map(|(extent, slot, epoch)| RepairedExtent {
                extent,
                slots: SlotSet(1 << slot),
                epoch,
                moving_to: None,
                since: Timestamp::default(),
            })
            .collect();
        self.apply(Command::ShardsRepaired { repaired });
    }

    fn give_up_or_take_back(&mut self) {
        let now = self.maps.last().expect("some").clone();
        let out = now.disks.iter().find(|disk| disk.state == DiskState::Out).map(|disk| disk.id);
        if let Some(disk) = out {
            self.apply(Command::GiveUpDisk { disk, is_out: false });
            self.apply(Command::SetDiskState { disk, state: DiskState::Up });
        } else {
            let disk = now.disks[self.below(now.disks.len())].id;
            self.apply(Command::GiveUpDisk { disk, is_out: true });
        }
    }

    fn delete(&mut self) {
        let ids: BTreeSet<ExtentId> = self.shards.keys().map(|(id, _)| *id).collect();
        if ids.len() < 8 {
            return;
        }
        let id = *ids.iter().nth(self.below(ids.len())).expect("some");
        let (condition, key) = (WriteCondition::Always, key(&format!("k{}", id.sequence)));
        self.apply(Command::DeleteObject { bucket: bucket(), key, condition });
        self.shards.retain(|(extent, _), _| *extent != id);
        self.unreported.retain(|(extent, _)| *extent != id);
    }

    fn step(&mut self) {
        match self.below(32) {
            0..=4 => self.commit(),
            5..=6 => self.begin(),
            7..=9 => self.take_up(),
            10..=22 => self.go_on(),
            23 => self.cancel(),
            24 => self.clear(),
            25 => self.damage(),
            26 => self.report(),
            27 | 28 => self.repair(),
            29 => self.tell_repairs(),
            30 => self.give_up_or_take_back(),
            _ => self.delete(),
        }
    }

    /// What isn't where the map has it is known to be lacking; and nothing that could be read before
    /// can't be now, whatever was decided; but what was on a disk that was given up may go with it.
    fn check(&self, before: &BTreeMap<(ExtentId, u8), DiskId>) {
        let now = self.maps.last().expect("some");
        let records = self.bare.extents();
        for (extent, slot) in self.shards.keys() {
            let is_there = self.is_there(now, *extent, *slot);
            let to = now.pg(extent.pg).and_then(|pg| pg.move_of(*slot)).map(|begun| begun.to);
            let is_ahead = records[extent].ahead.contains(*slot);
            let has_ahead = to.is_some_and(|to| self.shards[&(*extent, *slot)].contains(&to));
            assert!(!is_ahead || has_ahead, "{extent} slot {slot} isn't ahead");
            let is_known = is_ahead
                || records[extent].lacking.contains(*slot)
                || self.unreported.contains(&(*extent, *slot));
            assert!(is_there || is_known, "{extent} slot {slot} is missing and nobody knows");
            let is_out = |disk: &DiskId| now.disk(*disk).expect("known").state == DiskState::Out;
            let was_there = before.get(&(*extent, *slot)).is_some_and(|disk| !is_out(disk));
            let is_damage = self.unreported.contains(&(*extent, *slot));
            assert!(is_there || !was_there || is_damage, "{extent} slot {slot} got worse");
        }
        assert_eq!(self.bare.view().digests().expect("read"), self.bare.digests);
    }

    /// What is where the map has it, and which disk that is.
    fn there(&self) -> BTreeMap<(ExtentId, u8), DiskId> {
        let now = self.maps.last().expect("some");
        let home = |extent: &ExtentId, slot: u8| {
            now.pg(extent.pg).expect("known").disks[usize::from(slot)]
        };
        let all = self.shards.keys().copied();
        let there = all.filter(|(extent, slot)| self.is_there(now, *extent, *slot));
        there.map(|(extent, slot)| ((extent, slot), home(&extent, slot))).collect()
    }
}

#[test]
fn whatever_movers_do_nothing_gets_worse_and_nothing_is_forgotten() {
    let (mut ended, mut cancelled) = (0, 0);
    for seed in 0..10 {
        let mut truth = Truth::new(seed);
        for _ in 0..400 {
            let before = truth.there();
            truth.step();
            truth.check(&before);
        }
        ended += truth.ended;
        cancelled += truth.cancelled;
        let rows = truth.bare.digests.0[TableId::Repair as usize].rows;
        assert_eq!(rows, truth.bare.queue().len() as u64);
    }
    assert!(ended > 25 && cancelled > 25, "{ended} {cancelled}");
}
