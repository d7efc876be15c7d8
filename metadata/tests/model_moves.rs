//! Moves of slots in the state machine: what is refused, what is repeated, and what is recorded.

use model::cluster_map::{ClusterMap, DiskState, Mute, UpkeepWish};
use model::coding::Coding;
use model::command::{Command, CommitObject, Outcome, Refusal, RepairedExtent, WriteCondition};
use model::extent::{Extent, SlotSet};
use model::ids::{DiskId, DiskUuid, ExtentId, ManifestId, NodeId, NodeUuid, PgId, SessionId};
use model::moves::{MOVES_MAX, Move, MoveEnd, MoveReason, MoveResult};
use model::node::{NodePlace, NodeRegistration, Roles};
use model::time::Timestamp;
use model::version::{ETag, ObjectHeaders, Part};

use crate::harness::{bucket, key};
use crate::model_apply::Bare;

pub const REFUSED: Outcome = Outcome::Refused(Refusal::MovesOutdated);
pub const UNFINISHED: Outcome = Outcome::Refused(Refusal::MoveUnfinished);

/// Eight disks.
pub fn bare() -> Bare {
    with_eight_disks(Bare::new())
}

fn with_eight_disks(mut bare: Bare) -> Bare {
    for disk in 7..=8 {
        add_disk(&mut bare, disk);
    }
    bare
}

fn add_disk(bare: &mut Bare, disk: u8) {
    let command = Command::RegisterDisk {
        uuid: DiskUuid([disk; 16]),
        node: NodeId(1),
        rack: String::new(),
        zone: String::new(),
        weight: 1,
        path: String::new(),
    };
    assert_eq!(bare.apply(command), Outcome::DiskRegistered(DiskId(u32::from(disk))));
}

pub fn map(bare: &Bare) -> ClusterMap {
    ClusterMap::clone(bare.memory.directory().map.as_ref().expect("made"))
}

/// A commit of an object with one extent in the group, as a writer wrote it who went by this epoch.
pub fn commit(name: &str, number: u32, pg: PgId, missing: u32, epoch: u64) -> (Command, ExtentId) {
    let id = ExtentId { pg, session: SessionId(1), sequence: number };
    let coding = Coding::parse("4+2").expect("valid");
    let extent = Extent { id, coding, length: 77, missing: SlotSet(missing), epoch };
    let part = Part { number: 0, size: 77, md5: [1; 16], checksum: None, extents: vec![extent] };
    let mut manifest = [0; 16];
    manifest[..4].copy_from_slice(&number.to_le_bytes());
    let command = Command::CommitObject(CommitObject {
        bucket: bucket(),
        key: key(name),
        manifest: ManifestId(manifest),
        size: 77,
        etag: ETag { md5: [1; 16], parts: None },
        headers: ObjectHeaders::default(),
        checksum: None,
        parts: vec![part],
        condition: WriteCondition::Always,
        record: None,
    });
    (command, id)
}

pub fn begin(what: Move) -> Command {
    Command::BeginMoves { moves: vec![what] }
}

/// A disk that isn't in the group, and isn't to be.
fn spare(map: &ClusterMap, pg: PgId) -> DiskId {
    any_spare(map, pg).expect("a spare disk")
}

pub fn any_spare(map: &ClusterMap, pg: PgId) -> Option<DiskId> {
    let group = map.pg(pg).expect("known");
    let has = |disk: DiskId| {
        group.disks.contains(&disk) || group.moves.iter().any(|begun| begun.to == disk)
    };
    map.disks.iter().map(|disk| disk.id).find(|disk| !has(*disk))
}

pub fn a_move(map: &ClusterMap, pg: u32, slot: u8) -> Move {
    let pg = PgId(pg);
    let from = map.pg(pg).expect("known").disks[usize::from(slot)];
    Move { pg, slot, from, to: spare(map, pg), reason: MoveReason::Balance }
}

fn end(map: &ClusterMap, what: Move, result: MoveResult) -> Command {
    let since = map.pg(what.pg).and_then(|pg| pg.move_of(what.slot)).map(|begun| begun.since);
    let since = since.unwrap_or_default();
    Command::EndMove(MoveEnd { pg: what.pg, slot: what.slot, to: what.to, result, since })
}

fn done() -> MoveResult {
    MoveResult::Done { unrecoverable: Vec::new() }
}

fn slot_of(bare: &Bare, what: Move) -> DiskId {
    map(bare).pg(what.pg).expect("known").disks[usize::from(what.slot)]
}

fn state(bare: &mut Bare, disk: DiskId, state: DiskState) {
    assert_eq!(bare.apply(Command::SetDiskState { disk, state }), Outcome::Done);
}

#[test]
fn a_slot_is_given_to_the_new_disk_once() {
    let mut bare = bare();
    let before = map(&bare);
    let what = a_move(&before, 0, 2);
    assert_eq!(bare.apply(begin(what)), Outcome::Done);
    let under_way = map(&bare);
    assert!(under_way.epoch > before.epoch);
    let group = under_way.pg(what.pg).expect("known");
    assert!(!under_way.is_open(group) && group.disks == before.pgs[0].disks);
    assert_eq!(bare.apply(begin(what)), Outcome::Done, "again");
    assert_eq!(map(&bare), under_way);
    let finish = end(&under_way, what, done());
    assert_eq!(bare.apply(finish.clone()), Outcome::Done);
    assert_eq!(slot_of(&bare, what), what.to);
    let after = map(&bare);
    let group = after.pg(what.pg).expect("known");
    assert!(group.moves.is_empty() && after.is_open(group));
    assert_eq!(group.settled_at(what.slot), after.epoch);
    assert_eq!(bare.apply(finish), Outcome::Done, "again");
    assert_eq!(bare.apply(end(&under_way, what, MoveResult::Cancelled)), REFUSED, "it is there");
    assert_eq!(map(&bare), after);
    assert_eq!(bare.view().digests().expect("read"), bare.digests);
}

#[test]
fn a_move_that_was_given_up_leaves_everything_as_it_was() {
    let mut bare = bare();
    let before = map(&bare);
    let what = a_move(&before, 0, 2);
    bare.apply(begin(what));
    let under_way = map(&bare);
    let cancel = end(&under_way, what, MoveResult::Cancelled);
    for _ in 0..2 {
        assert_eq!(bare.apply(cancel.clone()), Outcome::Done);
        assert_eq!(map(&bare).pgs, before.pgs);
    }
    assert_eq!(bare.apply(end(&under_way, what, done())), REFUSED, "too late");
}

#[test]
fn moves_that_do_not_fit_the_map_are_refused() {
    let mut bare = bare();
    let first = map(&bare);
    let what = a_move(&first, 0, 2);
    let other = first.pgs[0].disks[3];
    let refused = |bare: &mut Bare, what: Move, why: &str| {
        let before = map(bare);
        assert_eq!(bare.apply(begin(what)), REFUSED, "{why}");
        assert_eq!(map(bare), before, "{why}");
    };
    refused(&mut bare, Move { pg: PgId(9999), ..what }, "no such group");
    refused(&mut bare, Move { slot: 6, ..what }, "no such slot");
    refused(&mut bare, Move { from: other, ..what }, "from another disk");
    refused(&mut bare, Move { to: other, ..what }, "to a disk of the group");
    refused(&mut bare, Move { to: DiskId(77), ..what }, "to no disk");
    refused(&mut bare, Move { reason: MoveReason::Lost, ..what }, "nothing is lost");
    for bad in [DiskState::Down, DiskState::Full, DiskState::Out] {
        state(&mut bare, what.to, bad);
        refused(&mut bare, what, bad.as_str());
        state(&mut bare, what.to, DiskState::Up);
    }
    let drain = |is_draining| Command::DrainDisk { disk: what.to, is_draining };
    bare.apply(drain(true));
    refused(&mut bare, what, "it drains");
    bare.apply(drain(false));
    bare.apply(begin(what));
    let second = a_move(&map(&bare), 0, 4);
    refused(&mut bare, second, "one at a time");
    refused(&mut bare, Move { slot: 4, from: second.from, ..what }, "it gets a slot already");
    refused(&mut bare, Move { to: second.to, ..what }, "it moves elsewhere");
    // Of a group that has lost one, that one may begin beside it; and another if that is lost, too.
    state(&mut bare, second.from, DiskState::Out);
    refused(&mut bare, second, "a lost one is called so");
    assert_eq!(bare.apply(begin(Move { reason: MoveReason::Lost, ..second })), Outcome::Done);
    // Those that fit begin, though others don't.
    let fits = a_move(&map(&bare), 1, 0);
    let fits = if fits.from == second.from { a_move(&map(&bare), 1, 1) } else { fits };
    let moves = vec![Move { pg: PgId(9999), ..what }, fits];
    assert_eq!(bare.apply(Command::BeginMoves { moves }), Outcome::Done);
    assert!(map(&bare).pgs[1].move_of(fits.slot).is_some());
}

#[test]
fn no_more_move_at_once_than_may() {
    let mut bare = bare();
    let all = map(&bare);
    assert!(all.pgs.len() > MOVES_MAX);
    let moves = all.pgs.iter().map(|pg| a_move(&all, pg.id.0, 0)).collect();
    assert_eq!(bare.apply(Command::BeginMoves { moves }), Outcome::Done);
    let begun: usize = map(&bare).pgs.iter().map(|pg| pg.moves.len()).sum();
    assert_eq!(begun, MOVES_MAX);
    assert!(!map(&bare).open_pgs(&[]).is_empty(), "writes go on");
}

#[test]
fn a_move_ends_when_nothing_is_missing() {
    let mut bare = bare();
    let epoch = map(&bare).epoch;
    let what = a_move(&map(&bare), 0, 2);
    let (before, old) = commit("before", 1, what.pg, 0, epoch);
    bare.apply(before);
    bare.apply(begin(what));
    let under_way = map(&bare);
    assert!(bare.queue().is_empty());
    // Whatever map its writer went by: the new disk doesn't have it.
    let (newer, new) = commit("new", 2, what.pg, 0, under_way.epoch);
    bare.apply(newer);
    let slots = SlotSet(1 << 2);
    assert_eq!(bare.queue()[&new].1, slots);
    let finish = |unrecoverable| end(&under_way, what, MoveResult::Done { unrecoverable });
    assert_eq!(bare.apply(finish(vec![])), UNFINISHED);
    assert_eq!(bare.apply(finish(vec![old])), UNFINISHED, "another is missing");
    let repaired = |moving_to, since, epoch| Command::ShardsRepaired {
        repaired: vec![RepairedExtent { extent: new, slots, epoch, moving_to, since }],
    };
    let since = under_way.pgs[0].moves[0].since;
    let later = since.plus_nanos(1);
    let elsewhere = spare(&under_way, what.pg);
    for (moving_to, since) in
        [(None, Timestamp(0)), (Some(what.to), later), (Some(elsewhere), since)]
    {
        bare.apply(repaired(moving_to, since, u64::MAX));
        assert_eq!(bare.queue()[&new].1, slots, "{moving_to:?} {since:?}");
    }
    bare.apply(repaired(Some(what.to), since, under_way.epoch));
    assert!(bare.queue().is_empty());
    assert_eq!(bare.apply(finish(vec![])), Outcome::Done);
    assert!(bare.extents().values().all(|record| record.ahead.is_empty()));
    // A writer with the map of before: its shard is on the old disk.
    let (stale, late) = commit("stale", 3, what.pg, 0, under_way.epoch);
    bare.apply(stale);
    assert_eq!(bare.queue()[&late].1, slots);
    // A repair that went by the map of before put it there, too.
    let repaired = |epoch| Command::ShardsRepaired {
        repaired: vec![RepairedExtent {
            extent: late,
            slots,
            epoch,
            moving_to: None,
            since: Timestamp::default(),
        }],
    };
    bare.apply(repaired(under_way.epoch));
    assert_eq!(bare.queue()[&late].1, slots);
    bare.apply(repaired(map(&bare).epoch));
    assert!(bare.queue().is_empty());
    let (fresh, _) = commit("fresh", 4, what.pg, 0, map(&bare).epoch);
    bare.apply(fresh);
    assert!(bare.queue().is_empty());
    assert_eq!(bare.view().digests().expect("read"), bare.digests);
}

#[test]
fn what_nobody_has_does_not_keep_a_move_from_ending_and_is_not_forgotten() {
    let mut bare = bare();
    let what = a_move(&map(&bare), 0, 2);
    bare.apply(begin(what));
    let under_way = map(&bare);
    let (command, extent) = commit("lost", 1, what.pg, 0b100, under_way.epoch);
    bare.apply(command);
    let finish = |unrecoverable| end(&under_way, what, MoveResult::Done { unrecoverable });
    assert_eq!(bare.apply(finish(vec![])), UNFINISHED);
    assert_eq!(bare.apply(finish(vec![extent])), Outcome::Done);
    assert_eq!(bare.queue()[&extent].1, SlotSet(0b100));
}

#[test]
fn what_only_the_new_disk_has_lacks_again_when_the_move_is_given_up() {
    let mut bare = bare();
    let what = a_move(&map(&bare), 0, 2);
    bare.apply(begin(what));
    let under_way = map(&bare);
    let slots = SlotSet(0b100);
    // Its writer could not reach the old disk; the mover rebuilt it on the new one.
    let (command, extent) = commit("ahead", 1, what.pg, slots.0, under_way.epoch);
    bare.apply(command);
    let since = under_way.pgs[0].moves[0].since;
    let (epoch, moving_to) = (under_way.epoch, Some(what.to));
    let repaired = vec![RepairedExtent { extent, slots, epoch, moving_to, since }];
    bare.apply(Command::ShardsRepaired { repaired: repaired.clone() });
    assert!(bare.queue().is_empty());
    assert_eq!(bare.extents()[&extent].ahead, slots);
    bare.apply(end(&under_way, what, MoveResult::Cancelled));
    assert_eq!(bare.queue()[&extent].1, slots);
    assert!(bare.extents()[&extent].ahead.is_empty());
    // The report comes again, while the slot moves again: that new disk may have nothing.
    bare.apply(begin(what));
    bare.apply(Command::ShardsRepaired { repaired });
    assert_eq!(bare.queue()[&extent].1, slots);
    assert_eq!(bare.apply(end(&under_way, what, done())), REFUSED, "it speaks of the first move");
    let again = map(&bare);
    assert_eq!(bare.apply(end(&again, what, done())), UNFINISHED);
    // What is deleted lacks nothing.
    let delete = Command::DeleteObject {
        bucket: bucket(),
        key: key("ahead"),
        condition: WriteCondition::Always,
    };
    bare.apply(delete);
    assert_eq!(bare.apply(end(&again, what, done())), Outcome::Done);
    assert_eq!(bare.view().digests().expect("read"), bare.digests);
}

#[test]
fn a_mover_of_an_earlier_move_to_the_same_disk_ends_nothing() {
    let mut bare = bare();
    let what = a_move(&map(&bare), 0, 2);
    bare.apply(begin(what));
    let first = map(&bare);
    bare.apply(end(&first, what, MoveResult::Cancelled));
    // On the old disk alone: it lacks nothing now.
    let (command, extent) = commit("between", 1, what.pg, 0, map(&bare).epoch);
    bare.apply(command);
    bare.apply(begin(what));
    assert!(bare.queue().is_empty() && bare.extents()[&extent].lacking.is_empty());
    assert_eq!(bare.apply(end(&first, what, done())), REFUSED);
    assert_eq!(bare.apply(end(&first, what, MoveResult::Cancelled)), REFUSED);
    assert_eq!(slot_of(&bare, what), what.from);
}

#[test]
fn an_extent_of_which_too_much_has_moved_is_not_committed() {
    let mut bare = bare();
    let old = map(&bare).epoch;
    for slot in [0, 3] {
        let what = a_move(&map(&bare), 0, slot);
        bare.apply(begin(what));
        let under_way = map(&bare);
        assert_eq!(bare.apply(end(&under_way, what, done())), Outcome::Done);
    }
    let (whole, id) = commit("whole", 1, PgId(0), 0, old);
    assert!(matches!(bare.apply(whole), Outcome::Committed(_)));
    assert_eq!(bare.queue()[&id], (128, SlotSet(0b1001)));
    let (overlap, _) = commit("overlap", 2, PgId(0), 0b1000, old);
    assert!(matches!(bare.apply(overlap), Outcome::Committed(_)));
    let (short, id) = commit("short", 3, PgId(0), 0b10, old);
    assert_eq!(bare.apply(short), REFUSED);
    assert!(!bare.extents().contains_key(&id));
    let (short, _) = commit("short", 3, PgId(0), 0b10, map(&bare).epoch);
    assert!(matches!(bare.apply(short), Outcome::Committed(_)));
}

#[test]
fn a_lost_slot_is_given_away_whatever_it_lacks() {
    let mut bare = bare();
    let what = Move { reason: MoveReason::Lost, ..a_move(&map(&bare), 0, 2) };
    let give_up = |is_out| Command::GiveUpDisk { disk: what.from, is_out };
    assert_eq!(bare.apply(give_up(true)), Outcome::Done);
    bare.apply(begin(what));
    let under_way = map(&bare);
    let (command, extent) = commit("lost", 1, what.pg, 0b100, under_way.epoch);
    bare.apply(command);
    // It is back: what it has counts again.
    assert_eq!(bare.apply(give_up(false)), Outcome::Done);
    assert_eq!(map(&bare).disk(what.from).expect("known").state, DiskState::Down);
    assert_eq!(bare.apply(end(&under_way, what, done())), UNFINISHED);
    assert_eq!(bare.apply(give_up(true)), Outcome::Done);
    assert_eq!(bare.apply(end(&under_way, what, done())), Outcome::Done);
    assert_eq!(slot_of(&bare, what), what.to);
    assert_eq!(bare.queue()[&extent].1, SlotSet(0b100));
}

#[test]
fn what_operators_wish_is_kept_in_the_map() {
    let mut bare = bare();
    let epoch = map(&bare).epoch;
    let none = Outcome::Refused(Refusal::NoSuchDisk);
    let disk = DiskId(77);
    assert_eq!(bare.apply(Command::DrainDisk { disk, is_draining: true }), none);
    assert_eq!(bare.apply(Command::WeighDisk { disk, weight: Some(1) }), none);
    assert_eq!(bare.apply(Command::GiveUpDisk { disk, is_out: true }), none);
    let nowhere = NodePlace { rack: "r".to_owned(), zone: String::new() };
    let command = Command::PlaceNode { node: NodeId(77), place: nowhere };
    assert_eq!(bare.apply(command), Outcome::Refused(Refusal::NoSuchNode));
    assert_eq!(map(&bare).epoch, epoch, "nothing changed");
    let disk = DiskId(2);
    for _ in 0..2 {
        bare.apply(Command::DrainDisk { disk, is_draining: true });
        assert_eq!(map(&bare).disk(disk).expect("known").share(), 0);
    }
    bare.apply(Command::DrainDisk { disk, is_draining: false });
    bare.apply(Command::WeighDisk { disk, weight: Some(9) });
    assert_eq!(map(&bare).disk(disk).expect("known").share(), 9);
    bare.apply(Command::WeighDisk { disk, weight: None });
    assert_eq!(map(&bare).disk(disk).expect("known").share(), 1);
    let mute = |code: &str, until| {
        Command::MuteHealth(Mute { code: code.to_owned(), until: Timestamp(until) })
    };
    bare.apply(mute("B", u64::MAX));
    bare.apply(mute("A", u64::MAX));
    let codes = |bare: &Bare| -> Vec<String> {
        map(bare).mutes.into_iter().map(|mute| mute.code).collect()
    };
    assert_eq!(codes(&bare), ["A", "B"]);
    bare.apply(mute("A", 0));
    assert_eq!(codes(&bare), ["B"], "until now is no longer");
    let long = "C".repeat(10_000);
    assert_eq!(bare.apply(mute(&long, u64::MAX)), Outcome::Refused(Refusal::InvalidCommand));
}

#[test]
fn nothing_moves_before_every_node_knows_how() {
    let mut bare = with_eight_disks(Bare::of_first_release());
    let old = NodeRegistration {
        uuid: NodeUuid([1; 16]),
        name: "n".to_owned(),
        address: "host:1".to_owned(),
        roles: Roles::ALL,
        rack: String::new(),
        zone: String::new(),
        level: 1,
    };
    bare.apply(Command::RegisterNode(old.clone()));
    let what = a_move(&map(&bare), 0, 2);
    let low = Outcome::Refused(Refusal::LevelTooLow);
    let commands = [
        begin(what),
        end(&map(&bare), what, done()),
        Command::DrainDisk { disk: what.to, is_draining: true },
        Command::WeighDisk { disk: what.to, weight: Some(1) },
        Command::GiveUpDisk { disk: what.to, is_out: true },
        Command::SetUpkeep { known: UpkeepWish::default(), wish: UpkeepWish::default() },
        Command::PlaceNode {
            node: NodeId(1),
            place: NodePlace { rack: String::new(), zone: String::new() },
        },
    ];
    let before = map(&bare);
    for command in commands {
        assert_eq!(bare.apply(command.clone()), low, "{command:?}");
    }
    assert_eq!(map(&bare), before);
    bare.apply(Command::RegisterNode(NodeRegistration { level: 2, ..old }));
    assert_eq!(bare.apply(begin(what)), Outcome::Done);
}

#[test]
fn a_wish_by_what_was_before_undoes_nothing() {
    let mut bare = bare();
    let none = UpkeepWish::default();
    let paused = UpkeepWish { is_paused: true, ..none };
    let slow = UpkeepWish { bytes_per_second: Some(1 << 20), ..none };
    let set = |known, wish| Command::SetUpkeep { known, wish };
    assert_eq!(bare.apply(set(none, paused)), Outcome::Done);
    let outdated = Outcome::Refused(Refusal::UpkeepChanged);
    assert_eq!(bare.apply(set(none, slow)), outdated);
    assert_eq!(map(&bare).upkeep, paused);
    assert_eq!(bare.apply(set(none, paused)), Outcome::Done, "again");
    let both = UpkeepWish { is_paused: true, ..slow };
    assert_eq!(bare.apply(set(paused, both)), Outcome::Done);
    assert_eq!(map(&bare).upkeep, both);
}

#[test]
fn a_late_report_does_not_bring_back_what_an_operator_gave_up() {
    let mut bare = bare();
    let disk = DiskId(3);
    state(&mut bare, disk, DiskState::Down);
    assert_eq!(bare.apply(Command::GiveUpDisk { disk, is_out: true }), Outcome::Done);
    let given_up = map(&bare);
    assert_eq!(given_up.disk(disk).expect("known").state, DiskState::Out);
    // Proposed before that, and applied after it.
    for late in [DiskState::Up, DiskState::Full, DiskState::Down, DiskState::Out] {
        state(&mut bare, disk, late);
        assert_eq!(map(&bare), given_up);
    }
    bare.apply(Command::GiveUpDisk { disk, is_out: false });
    assert_eq!(map(&bare).disk(disk).expect("known").state, DiskState::Down);
    state(&mut bare, disk, DiskState::Up);
    assert_eq!(map(&bare).disk(disk).expect("known").state, DiskState::Up);
}

#[test]
fn no_slot_is_given_to_a_disk_that_went_down_meanwhile() {
    for bad in [DiskState::Down, DiskState::Out] {
        let mut bare = bare();
        let what = a_move(&map(&bare), 0, 2);
        bare.apply(begin(what));
        let under_way = map(&bare);
        state(&mut bare, what.to, bad);
        assert_eq!(bare.apply(end(&under_way, what, done())), UNFINISHED, "{}", bad.as_str());
        assert_eq!(slot_of(&bare, what), what.from);
        // Full, it reads.
        state(&mut bare, what.to, DiskState::Full);
        assert_eq!(bare.apply(end(&under_way, what, done())), Outcome::Done);
        assert_eq!(slot_of(&bare, what), what.to);
    }
    // Nobody has what was lost: there is nothing better to wait for.
    let mut bare = bare();
    let what = Move { reason: MoveReason::Lost, ..a_move(&map(&bare), 0, 2) };
    state(&mut bare, what.from, DiskState::Out);
    bare.apply(begin(what));
    let under_way = map(&bare);
    state(&mut bare, what.to, DiskState::Down);
    assert_eq!(bare.apply(end(&under_way, what, done())), Outcome::Done);
    assert_eq!(slot_of(&bare, what), what.to);
}
