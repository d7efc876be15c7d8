//! What an extent lacks, why it isn't made good yet, and the sums over many of them. Pure.
//!
//! In: the cluster map, and extents with the slots that lack shards by the metadata's tables. Out:
//! how each stands, and counts. What always holds: an extent is counted once in each of the sums but
//! in those by disk, which it may wait for several of.

use std::collections::{BTreeMap, BTreeSet};

use model::cluster_map::{ClusterMap, DiskState};
use model::extent::{Extent, SlotSet};
use model::ids::{DiskId, PgId};

/// Extents, and the bytes of clients in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Extents.
    pub extents: u64,
    /// Their stored bytes, without parity.
    pub bytes: u64,
}

impl Tally {
    fn count(&mut self, extent: &Extent) {
        self.extents += 1;
        self.bytes = self.bytes.saturating_add(extent.length);
    }
}

/// How an extent that lacks shards stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExtentStanding {
    /// More shards are lost than parity makes up for.
    Lost,
    /// Its shards can be rebuilt, or put back, where they belong.
    Repairable,
    /// Slots of it were lost with their disks, and are or will be rebuilt on other disks.
    Moving,
    /// It waits for a disk that is down or takes nothing, or for one to move to.
    Waiting,
}

impl ExtentStanding {
    /// The word used in documents and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Repairable => "repairable",
            Self::Moving => "moving",
            Self::Waiting => "waiting",
        }
    }
}

/// What becomes of a slot that lacks its shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotProspect {
    /// Its disk takes them.
    Here,
    /// They are put on another disk.
    Moves,
    /// They will be put on another disk.
    InLine,
    /// Its disk was given up, and no disk takes the slot.
    Homeless,
    /// Its disk is down, and may come back.
    Down,
    /// Its disk has no room.
    Full,
}

/// Slots of disks that were given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LostSlots {
    /// Those on their way to another disk.
    pub moving: u64,
    /// Those that have yet to begin.
    pub in_line: u64,
    /// Those that no disk takes.
    pub homeless: u64,
}

/// The map, seen for what lacks shards.
pub(crate) struct Outlook<'a> {
    map: &'a ClusterMap,
    /// Lost slots that no disk takes.
    homeless: BTreeSet<(PgId, u8)>,
    pub(crate) lost_slots: LostSlots,
}

/// What an extent lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Assessment {
    /// Slots whose shards are lost: by the tables, or with their disks.
    pub(crate) lacking: SlotSet,
    /// Slots whose shards are on a disk that is down.
    pub(crate) away: SlotSet,
    /// Shards to spare, of those that can be read now.
    pub(crate) spare: i16,
    /// How it stands; `None` when it lacks nothing.
    pub(crate) standing: Option<ExtentStanding>,
}

impl<'a> Outlook<'a> {
    /// The map as it is; `planned` are the slots that would begin to move now.
    pub(crate) fn new(map: &'a ClusterMap, planned: &BTreeSet<(PgId, u8)>) -> Self {
        let mut outlook = Self { map, homeless: BTreeSet::new(), lost_slots: LostSlots::default() };
        for (pg, slot) in lost_slots(map) {
            let group = map.pg(pg);
            if group.is_some_and(|group| group.move_of(slot).is_some()) {
                outlook.lost_slots.moving += 1;
            } else if planned.contains(&(pg, slot))
                || group.is_some_and(|group| !group.moves.is_empty())
            {
                // A group whose other slots move gets its turn behind them.
                outlook.lost_slots.in_line += 1;
            } else {
                outlook.lost_slots.homeless += 1;
                outlook.homeless.insert((pg, slot));
            }
        }
        outlook
    }

    /// What becomes of a slot that lacks its shards.
    pub(crate) fn prospect(&self, pg: PgId, slot: u8) -> SlotProspect {
        let Some(group) = self.map.pg(pg) else { return SlotProspect::Homeless };
        if group.move_of(slot).is_some() {
            return SlotProspect::Moves;
        }
        let disk = group.disks.get(usize::from(slot)).and_then(|id| self.map.disk(*id));
        match disk.map(|disk| disk.state) {
            Some(DiskState::Up) => SlotProspect::Here,
            Some(DiskState::Full) => SlotProspect::Full,
            Some(DiskState::Down) => SlotProspect::Down,
            Some(DiskState::Out) | None if self.homeless.contains(&(pg, slot)) => {
                SlotProspect::Homeless
            }
            Some(DiskState::Out) | None => SlotProspect::InLine,
        }
    }

    /// What an extent lacks; its `missing` are the slots that the tables tell of.
    pub(crate) fn assess(&self, extent: &Extent) -> Assessment {
        let pg = extent.id.pg;
        // No stripe is longer than the first.
        let uses =
            |slot: u8| extent.stripe_geometry(0).is_some_and(|geometry| geometry.uses_slot(slot));
        let (mut lacking, mut away) = (extent.missing, SlotSet::default());
        for (slot, id) in (0u8..).zip(self.map.pg(pg).iter().flat_map(|group| &group.disks)) {
            match self.map.disk(*id).map(|disk| disk.state) {
                Some(DiskState::Down) if uses(slot) && !lacking.contains(slot) => away.insert(slot),
                Some(DiskState::Out) | None if uses(slot) => lacking.insert(slot),
                Some(DiskState::Up | DiskState::Full | DiskState::Down | DiskState::Out) | None => {
                }
            }
        }
        let spare = |without: SlotSet| i16::from(extent.coding.parity()) - without.len() as i16;
        let prospects = || lacking.iter().map(|slot| self.prospect(pg, slot));
        let standing = if lacking.is_empty() && away.is_empty() {
            None
        } else if spare(lacking) < 0 {
            Some(ExtentStanding::Lost)
        } else if spare(lacking.union(away)) < 0 {
            // Too few shards can be read now.
            Some(ExtentStanding::Waiting)
        } else if prospects().any(|prospect| prospect == SlotProspect::Here) {
            Some(ExtentStanding::Repairable)
        } else if prospects()
            .any(|prospect| matches!(prospect, SlotProspect::Moves | SlotProspect::InLine))
        {
            Some(ExtentStanding::Moving)
        } else {
            Some(ExtentStanding::Waiting)
        };
        Assessment { lacking, away, spare: spare(lacking.union(away)), standing }
    }
}

/// Slots of disks that were given up.
pub(crate) fn lost_slots(map: &ClusterMap) -> impl Iterator<Item = (PgId, u8)> + '_ {
    let is_lost = |id: &DiskId| map.disk(*id).is_none_or(|disk| disk.state == DiskState::Out);
    map.pgs.iter().flat_map(move |pg| {
        let slots = (0u8..).zip(&pg.disks);
        slots.filter(move |(_, disk)| is_lost(disk)).map(move |(slot, _)| (pg.id, slot))
    })
}

/// Bytes that are stored for a slot of an extent.
pub(crate) fn slot_bytes(extent: &Extent, slot: u8) -> u64 {
    let bytes = |stripe| {
        extent.stripe_geometry(stripe).map_or(0, |geometry| geometry.stored_bytes(slot).into())
    };
    match extent.stripe_count() {
        0 => 0,
        // All but the last are alike.
        count => bytes(0) * u64::from(count - 1) + bytes(count - 1),
    }
}

/// Sums over extents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutstandingSums {
    /// All that lack shards, or whose shards are on disks that are down.
    pub all: Tally,
    /// The same by shards to spare now; below 0 they can't be read.
    pub by_spare: BTreeMap<i16, Tally>,
    /// The same by how they stand.
    pub by_standing: BTreeMap<ExtentStanding, Tally>,
    /// Bytes of shards that can be rebuilt, now or when it is their turn.
    pub shard_bytes: u64,
    /// Extents that wait for a disk that is down; by disk.
    pub down: BTreeMap<DiskId, Tally>,
    /// Extents that lack shards whose disk has no room for them; by disk.
    pub full: BTreeMap<DiskId, Tally>,
}

impl OutstandingSums {
    /// Those that stand so.
    pub fn standing(&self, standing: ExtentStanding) -> Tally {
        self.by_standing.get(&standing).copied().unwrap_or_default()
    }

    pub(super) fn count(&mut self, outlook: &Outlook<'_>, extent: &Extent) {
        let found = outlook.assess(extent);
        let Some(standing) = found.standing else { return };
        self.all.count(extent);
        self.by_spare.entry(found.spare).or_default().count(extent);
        self.by_standing.entry(standing).or_default().count(extent);
        let disk_of = |slot| outlook.map.disk_of(extent.id, slot).map(|disk| disk.id);
        let (mut down, mut full) = (BTreeSet::new(), BTreeSet::new());
        down.extend(found.away.iter().filter_map(disk_of));
        for slot in found.lacking.iter() {
            match outlook.prospect(extent.id.pg, slot) {
                SlotProspect::Down => down.extend(disk_of(slot)),
                SlotProspect::Full => full.extend(disk_of(slot)),
                SlotProspect::Homeless => {}
                SlotProspect::Here | SlotProspect::Moves | SlotProspect::InLine => {
                    if !matches!(standing, ExtentStanding::Lost | ExtentStanding::Waiting) {
                        self.shard_bytes =
                            self.shard_bytes.saturating_add(slot_bytes(extent, slot));
                    }
                }
            }
        }
        for disk in down {
            self.down.entry(disk).or_default().count(extent);
        }
        for disk in full {
            self.full.entry(disk).or_default().count(extent);
        }
    }
}

#[cfg(test)]
mod tests {
    use model::coding::Coding;
    use model::ids::ExtentId;
    use model::moves::{MoveReason, SlotMove};
    use model::time::Timestamp;

    use super::*;
    use crate::three_disks::in_order;

    fn extent(length: u64, missing: u32) -> Extent {
        let coding = Coding::parse("2+1").expect("valid");
        let id = ExtentId::default();
        Extent { id, coding, length, missing: SlotSet(missing), epoch: 0 }
    }

    #[test]
    fn extents_stand_as_their_disks_do() {
        use DiskState::{Down, Full, Out, Up};
        use ExtentStanding::{Lost, Moving, Repairable, Waiting};
        let check = |states: [DiskState; 3], missing, expected: (Option<ExtentStanding>, i16)| {
            let map = in_order(states);
            let planned = BTreeSet::from([(PgId(0), 1)]);
            let outlook = Outlook::new(&map, &planned);
            let found = outlook.assess(&extent(100_000, missing));
            assert_eq!((found.standing, found.spare), expected, "{states:?} {missing:b}");
        };
        check([Up; 3], 0, (None, 1));
        check([Up, Full, Up], 0, (None, 1));
        check([Up; 3], 0b001, (Some(Repairable), 0));
        check([Up; 3], 0b011, (Some(Lost), -1));
        check([Down, Up, Up], 0, (Some(Waiting), 0));
        check([Down, Up, Up], 0b001, (Some(Waiting), 0));
        check([Full, Up, Up], 0b001, (Some(Waiting), 0));
        // Readable again when the disk comes back.
        check([Down, Up, Up], 0b010, (Some(Waiting), -1));
        // Slot 1 will move; no disk takes slot 2.
        check([Up, Out, Up], 0, (Some(Moving), 0));
        check([Up, Up, Out], 0, (Some(Waiting), 0));
        check([Up, Out, Out], 0, (Some(Lost), -1));
    }

    #[test]
    fn short_extents_lack_only_what_they_use() {
        // Slots 0 and 2 only.
        let map = in_order([DiskState::Up, DiskState::Out, DiskState::Up]);
        let outlook = Outlook::new(&map, &BTreeSet::new());
        assert_eq!(outlook.assess(&extent(5, 0)).standing, None);
        assert_eq!(outlook.lost_slots.homeless, 1);
    }

    #[test]
    fn sums_count_each_extent_once_and_shards_by_their_bytes() {
        let mut map = in_order([DiskState::Up; 3]);
        let outlook = Outlook::new(&map, &BTreeSet::new());
        let mut sums = OutstandingSums::default();
        let large = extent((4 << 20) + 100_000, 0b100);
        sums.count(&outlook, &large);
        sums.count(&outlook, &extent(5, 0));
        let tally = Tally { extents: 1, bytes: (4 << 20) + 100_000 };
        assert_eq!(sums.all, tally);
        assert_eq!(sums.by_spare, BTreeMap::from([(0, tally)]));
        assert_eq!(sums.standing(ExtentStanding::Repairable), tally);
        assert_eq!(sums.shard_bytes, slot_bytes(&large, 2));
        let (half, shard) = (tally.bytes / 2, sums.shard_bytes);
        assert!((half..half + 4096).contains(&shard), "{shard}");
        // With its slot on the way the same bytes are to be rebuilt.
        map.disks[2].state = DiskState::Out;
        let (to, since) = (DiskId(7), Timestamp(3));
        map.pgs[0].moves.push(SlotMove {
            slot: 2,
            to,
            reason: MoveReason::Lost,
            since,
            fault: None,
        });
        let outlook = Outlook::new(&map, &BTreeSet::new());
        assert_eq!(outlook.lost_slots, LostSlots { moving: 1, in_line: 0, homeless: 0 });
        let mut moving = OutstandingSums::default();
        moving.count(&outlook, &large);
        assert_eq!(moving.standing(ExtentStanding::Moving), tally);
        assert_eq!(moving.shard_bytes, sums.shard_bytes);
        // A disk that is down is waited for.
        map.disks[0].state = DiskState::Down;
        let outlook = Outlook::new(&map, &BTreeSet::new());
        let mut waiting = OutstandingSums::default();
        waiting.count(&outlook, &large);
        assert_eq!(waiting.down, BTreeMap::from([(DiskId(map.pgs[0].disks[0].0), tally)]));
        assert_eq!((waiting.shard_bytes, waiting.by_spare[&-1]), (0, tally));
    }
}
