//! What moves next, and what is given up. Pure.
//!
//! In: the cluster map, and what failed lately. Out: the moves to begin, those to cancel, and why
//! nothing is begun where something would be.

use std::collections::BTreeSet;

use model::cluster_map::{ClusterMap, Disk, DiskState, Pg};
use model::ids::{DiskId, PgId};
use model::moves::{MOVES_MAX, Move, MoveFault, MoveReason, SlotMove};
use model::placement::{Limits, plan_moves};
use model::time::Timestamp;

/// Moves of lost slots that are under way at once, but for those of groups with less to spare than they
/// have: their groups are closed anyway.
pub(super) const LOST_AT_ONCE: usize = 16;

/// Other moves that are under way at once: each closes a group that could take writes.
pub(super) const OTHERS_AT_ONCE: usize = 8;

/// Why nothing is begun but the rebuilding of what is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseReason {
    /// An operator said so.
    Operator,
    /// Slots of disks that were given up are not rebuilt yet.
    SlotsLost,
    /// Extents wait for repair.
    RepairsWaiting,
    /// A disk is down, and may come back.
    DiskDown,
    /// Not every node is of a release that knows moves.
    OldRelease,
    /// The metadata was put back from a backup, or begun anew, and holds what it doesn't know.
    MetadataHeld,
}

impl PauseReason {
    /// The word used in metrics and `/status`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::SlotsLost => "slots-lost",
            Self::RepairsWaiting => "repairs-waiting",
            Self::DiskDown => "disk-down",
            Self::OldRelease => "old-release",
            Self::MetadataHeld => "metadata-held",
        }
    }

    /// One sentence for people.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Operator => "An operator has paused all moves but those of lost slots.",
            Self::SlotsLost => "Slots of disks that were given up are rebuilt first.",
            Self::RepairsWaiting => "Extents that lack shards are repaired first.",
            Self::DiskDown => "A disk is down: moves wait until it is back, or out.",
            Self::OldRelease => "Moves wait until every node is of a release that knows them.",
            Self::MetadataHeld => {
                "Moves wait until what the restored metadata doesn't know is recovered and released."
            }
        }
    }
}

/// A slot of a group.
pub(super) type Slot = (PgId, u8);

/// A move under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Begun {
    pub(super) what: Move,
    /// When it was begun: its name, as no two moves begin at the same time.
    pub(super) since: Timestamp,
    /// What it keeps failing by.
    pub(super) fault: Option<MoveFault>,
}

impl Begun {
    /// What moves.
    pub(super) const fn slot(&self) -> Slot {
        (self.what.pg, self.what.slot)
    }

    /// Whether it is the move of a slot that was begun then.
    pub(super) fn is(&self, slot: Slot, since: Timestamp) -> bool {
        (self.slot(), self.since) == (slot, since)
    }
}

/// What is not begun for a while, though the planner would.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shunned {
    /// Disks that didn't take what was moved to them.
    pub(super) targets: BTreeSet<DiskId>,
    /// Slots of which something could neither be read nor rebuilt.
    pub(super) slots: BTreeSet<Slot>,
    /// Disks with left-over shards of a group that are to be deleted soon. If another slot of the group
    /// moved there, they never could be; where there is no hurry it is waited for.
    pub(super) strays: BTreeSet<(DiskId, PgId)>,
}

/// What is to be done with the map as it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Steps {
    /// Moves of lost slots to begin.
    pub(super) lost: Vec<Move>,
    /// Other moves to begin.
    pub(super) others: Vec<Move>,
    /// Moves to give up.
    pub(super) cancel: Vec<Begun>,
    /// Why other moves than those of lost slots aren't begun, if there are any.
    pub(super) paused: Option<PauseReason>,
}

/// The moves that are under way, the most urgent ones first.
pub(super) fn under_way(map: &ClusterMap) -> Vec<Begun> {
    let of = |pg: &Pg, begun: &SlotMove| {
        let from = pg.disks.get(usize::from(begun.slot))?;
        let SlotMove { slot, to, reason, since, fault } = *begun;
        Some(Begun { what: Move { pg: pg.id, slot, from: *from, to, reason }, since, fault })
    };
    let mut all: Vec<Begun> = map
        .pgs
        .iter()
        .flat_map(|pg| pg.moves.iter().filter_map(move |begun| of(pg, begun)))
        .collect();
    all.sort_by_key(|begun| (begun.what.reason, begun.since));
    all
}

/// Decides.
pub(super) fn steps(map: &ClusterMap, shunned: &Shunned) -> Steps {
    let mut steps = Steps::default();
    let begun = under_way(map);
    let ends = |begun: &&Begun| begun.fault.is_some() || is_obsolete(map, &begun.what);
    steps.cancel = begun.iter().filter(ends).copied().collect();
    let stays = |begun: &&Begun| !steps.cancel.contains(begun);
    let count = |lost: bool| {
        let is_kind = |begun: &&Begun| (begun.what.reason == MoveReason::Lost) == lost;
        begun.iter().filter(stays).filter(is_kind).count()
    };
    let (lost, others) = (count(true), count(false));
    let others_room = OTHERS_AT_ONCE.saturating_sub(others);
    // What is shunned must not hide what is behind it.
    let limits = Limits { moves: LOST_AT_ONCE + MOVES_MAX, ..Limits::NONE };
    let wanted = if shunned.targets.is_empty() {
        plan_moves(map, &limits)
    } else {
        plan_moves(&without(map, &shunned.targets), &limits)
    };
    let may_begin = |wanted: &Move| match wanted.reason {
        MoveReason::Lost => true,
        MoveReason::Drain => !shunned.slots.contains(&(wanted.pg, wanted.slot)),
        MoveReason::Spread | MoveReason::Balance => {
            !shunned.slots.contains(&(wanted.pg, wanted.slot))
                && !shunned.strays.contains(&(wanted.to, wanted.pg))
        }
    };
    let (wanted_lost, mut wanted_others): (Vec<Move>, Vec<Move>) =
        wanted.into_iter().filter(may_begin).partition(|wanted| wanted.reason == MoveReason::Lost);
    if !wanted_others.is_empty() {
        let is_rebuilding = lost > 0 || !wanted_lost.is_empty();
        steps.paused = pause(map, is_rebuilding);
    }
    if steps.paused.is_none() {
        wanted_others.truncate(others_room);
        steps.others = wanted_others;
    }
    // What has less to spare doesn't wait for what has more.
    let is_lost = |begun: &&Begun| begun.what.reason == MoveReason::Lost;
    let mut levels: Vec<i64> =
        begun.iter().filter(stays).filter(is_lost).map(|begun| rank(map, begun.what.pg)).collect();
    for wanted in wanted_lost {
        let level = rank(map, wanted.pg);
        if levels.iter().filter(|other| **other <= level).count() < LOST_AT_ONCE {
            levels.push(level);
            steps.lost.push(wanted);
        }
    }
    steps.lost.truncate(MOVES_MAX.saturating_sub(lost + others));
    steps
}

/// How many more of a group's disks may go.
pub(super) fn spare(map: &ClusterMap, pg: PgId) -> i64 {
    map.pg(pg).map_or(0, |pg| pg.slack(|disk| !map.is_away(disk)))
}

/// In which order groups get back what they lost: those with the least to spare first, and last those of
/// which too much is gone, as most of that can't be rebuilt before something comes back.
pub(super) fn rank(map: &ClusterMap, pg: PgId) -> i64 {
    match spare(map, pg) {
        spare @ 0.. => spare,
        _ => i64::MAX,
    }
}

/// The map with these disks taking nothing.
fn without(map: &ClusterMap, targets: &BTreeSet<DiskId>) -> ClusterMap {
    let mut map = map.clone();
    let is_up = |disk: &&mut Disk| disk.state == DiskState::Up && targets.contains(&disk.id);
    map.disks.iter_mut().filter(is_up).for_each(|disk| disk.state = DiskState::Full);
    map
}

fn pause(map: &ClusterMap, is_rebuilding: bool) -> Option<PauseReason> {
    let used: BTreeSet<DiskId> = map.pgs.iter().flat_map(|pg| pg.disks.iter().copied()).collect();
    let is_down =
        map.disks.iter().any(|disk| disk.state == DiskState::Down && used.contains(&disk.id));
    if map.upkeep.is_paused {
        Some(PauseReason::Operator)
    } else if is_rebuilding {
        Some(PauseReason::SlotsLost)
    } else if is_down {
        Some(PauseReason::DiskDown)
    } else {
        None
    }
}

/// Whether a move has lost its reason, or its new disk. What was copied is found again if the same
/// move is begun once more, and is deleted otherwise.
pub(super) fn is_obsolete(map: &ClusterMap, begun: &Move) -> bool {
    let from = map.disk(begun.from);
    let is_out = from.is_none_or(|disk| disk.state == DiskState::Out);
    let takes = map
        .disk(begun.to)
        .is_some_and(|disk| disk.state == DiskState::Up && !disk.standing.is_draining);
    let has_reason = match begun.reason {
        // It came back: its shards count at once.
        MoveReason::Lost => is_out,
        MoveReason::Drain => {
            !map.upkeep.is_paused && from.is_some_and(|disk| disk.standing.is_draining)
        }
        MoveReason::Spread | MoveReason::Balance => !map.upkeep.is_paused,
    };
    let is_of_another_kind = begun.reason != MoveReason::Lost && is_out;
    !takes || !has_reason || is_of_another_kind
}

#[cfg(test)]
mod tests {
    use model::coding::Coding;

    use super::*;
    use crate::three_disks::in_order;

    fn map_with(reason: MoveReason) -> ClusterMap {
        let mut map = in_order([DiskState::Up; 3]);
        let mut fourth = map.disks[2].clone();
        (fourth.id, fourth.uuid.0[0]) = (DiskId(3), 9);
        map.disks.push(fourth);
        let begun = SlotMove { slot: 1, to: DiskId(3), reason, since: Timestamp(7), fault: None };
        map.pgs[0].moves.push(begun);
        map
    }

    #[test]
    fn moves_are_given_up_with_their_reason_or_their_disk() {
        let obsolete = |map: &ClusterMap| steps(map, &Shunned::default()).cancel.len();
        let state = |map: &mut ClusterMap, disk: usize, state| map.disks[disk].state = state;
        for reason in [MoveReason::Balance, MoveReason::Spread] {
            let mut map = map_with(reason);
            assert_eq!(obsolete(&map), 0);
            map.upkeep.is_paused = true;
            assert_eq!(obsolete(&map), 1);
        }
        let mut map = map_with(MoveReason::Lost);
        state(&mut map, 1, DiskState::Out);
        assert_eq!(obsolete(&map), 0);
        map.pgs[0].moves[0].fault = Some(MoveFault::Target);
        assert_eq!(obsolete(&map), 1, "it keeps failing");
        let mut map = map_with(MoveReason::Drain);
        assert_eq!(obsolete(&map), 1, "nobody wants it empty");
        map.disks[1].standing.is_draining = true;
        assert_eq!(obsolete(&map), 0);
        state(&mut map, 1, DiskState::Down);
        assert_eq!(obsolete(&map), 0, "it is rebuilt from the others");
        state(&mut map, 1, DiskState::Out);
        assert_eq!(obsolete(&map), 1, "as a lost one it is more urgent");
        let mut map = map_with(MoveReason::Lost);
        state(&mut map, 1, DiskState::Out);
        map.upkeep.is_paused = true;
        assert_eq!(obsolete(&map), 0, "what is lost is rebuilt all the same");
        for back in [DiskState::Down, DiskState::Up, DiskState::Full] {
            state(&mut map, 1, back);
            assert_eq!(obsolete(&map), 1, "{back:?}");
        }
        state(&mut map, 1, DiskState::Out);
        for gone in [DiskState::Full, DiskState::Down, DiskState::Out] {
            state(&mut map, 3, gone);
            assert_eq!(obsolete(&map), 1, "{gone:?}");
        }
    }

    #[test]
    fn a_disk_that_is_shunned_gets_nothing() {
        let mut map = map_with(MoveReason::Balance);
        map.pgs[0].moves.clear();
        map.disks[1].state = DiskState::Out;
        let lost = steps(&map, &Shunned::default()).lost;
        assert_eq!(lost.iter().map(|lost| lost.to).collect::<Vec<_>>(), [DiskId(3)]);
        let shunned = Shunned { targets: [DiskId(3)].into(), ..Shunned::default() };
        assert_eq!(steps(&map, &shunned).lost, []);
    }

    #[test]
    fn what_has_the_least_to_spare_is_first_and_what_can_not_be_rebuilt_last() {
        let groups = [(PgId(0), "2+1"), (PgId(1), "1+2")];
        let mut map = map_with(MoveReason::Balance);
        map.pgs[0].moves.clear();
        let disks = map.pgs[0].disks.clone();
        let group =
            |(id, coding)| Pg::new(id, Coding::parse(coding).expect("valid"), disks.clone());
        map.pgs = groups.map(group).to_vec();
        let ranks = |map: &ClusterMap| groups.map(|(id, _)| rank(map, id));
        assert_eq!(ranks(&map), [1, 2]);
        map.disks[0].state = DiskState::Down;
        assert_eq!(ranks(&map), [0, 1]);
        map.disks[1].state = DiskState::Out;
        assert_eq!(ranks(&map), [i64::MAX, 0]);
    }

    #[test]
    fn nothing_else_moves_while_something_is_lost_or_away() {
        let mut map = map_with(MoveReason::Balance);
        map.pgs[0].moves.clear();
        map.disks[1].standing.is_draining = true;
        let found = steps(&map, &Shunned::default());
        assert_eq!((found.others.len(), found.paused), (1, None));
        let slots = [(PgId(0), 1)].into();
        let shunned = Shunned { slots, ..Shunned::default() };
        assert_eq!(steps(&map, &shunned).others, []);
        map.upkeep.is_paused = true;
        let found = steps(&map, &Shunned::default());
        assert_eq!((found.others.len(), found.paused), (0, Some(PauseReason::Operator)));
    }
}
