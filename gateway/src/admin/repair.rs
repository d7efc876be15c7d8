//! The document of `GET /repair`: everything that lacks redundancy, and what is done about it.
//!
//! The document is these types, field by field; fields are added, never renamed. What always holds:
//! numbers are counted from the metadata, never estimated; where counting was cut short, `exact` says
//! so and they are what there is at least.

use std::time::Duration;

use engine::{ExtentStanding, Obstacle, Outstanding, RebalanceProgress, RepairProgress, Tally};
use model::cluster_map::ClusterMap;
use model::ids::NodeId;
use model::moves::MoveReason;
use serde::{Deserialize, Serialize};

use crate::admin::inspect::PlaceDocument;
use crate::admin::status::RepairStatus;

/// The document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairDocument {
    /// Extents that lack shards, or whose shards are on disks that are down.
    pub extents: u64,
    /// Bytes of clients in them.
    pub bytes: u64,
    /// Whether everything was counted; if not, there is at least so much.
    pub exact: bool,
    /// Seconds since it was counted.
    pub age_seconds: u64,
    /// The same by shards to spare, the fewest first; below 0 an extent can't be read now.
    pub by_spare: Vec<SpareDocument>,
    /// Those of which more is lost than parity makes up for.
    pub lost: TallyDocument,
    /// Those whose shards can be rebuilt where they belong.
    pub repairable: TallyDocument,
    /// Those whose slots were lost with their disks and are rebuilt on others.
    pub moving: TallyDocument,
    /// Those that wait for a disk.
    pub waiting: TallyDocument,
    /// Slots of disks that were given up.
    pub lost_slots: LostSlotsDocument,
    /// Bytes of shards that were rebuilt since something began to lack shards; when nothing does, in
    /// the last round.
    pub bytes_done: u64,
    /// Bytes of shards that are left to be rebuilt, without those that wait for a disk or are lost.
    pub bytes_left: u64,
    /// Both.
    pub bytes_total: u64,
    /// Bytes of shards that were rebuilt in a second, over the last minute; `null` when none were.
    pub bytes_per_second: Option<u64>,
    /// How long that takes for what is left; `null` when nothing is left or no rate is known.
    pub seconds_left: Option<u64>,
    /// Lost slots that the gateway that was asked rebuilds now.
    pub rebuilding: Vec<RebuildDocument>,
    /// What the gateway that was asked has repaired in this run.
    pub this_gateway: RepairStatus,
    /// Whether it is the one that repairs, for the whole cluster.
    pub repairs_here: bool,
    /// Whether it is the one that moves slots.
    pub moves_here: bool,
    /// What keeps things from being repaired, and what is to be known of it.
    pub reasons: Vec<RepairReason>,
}

/// Extents with so many shards to spare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpareDocument {
    /// Shards to spare.
    pub spare: i16,
    /// Extents.
    pub extents: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Extents and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TallyDocument {
    /// Extents.
    pub extents: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Slots of disks that were given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostSlotsDocument {
    /// On their way to another disk.
    pub moving: u64,
    /// Yet to begin.
    pub in_line: u64,
    /// Taken by no disk.
    pub homeless: u64,
}

/// A lost slot that is rebuilt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebuildDocument {
    /// Its placement group.
    pub pg: u32,
    /// The slot.
    pub slot: u8,
    /// The disk that had it.
    pub from: u32,
    /// The disk that is to have it.
    pub to: u32,
    /// Extents whose shards the new disk has.
    pub extents_done: u64,
    /// Extents of the group; 0 while they are counted.
    pub extents_total: u64,
    /// Bytes that the new disk took.
    pub bytes: u64,
}

/// Something that is to be known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairReason {
    /// A word for programs: `lost`, `disk-down`, `disk-full`, `no-disk-takes`, `metadata-held`,
    /// `old-release`, `failing`, `moves-paused`, `elsewhere`.
    pub code: String,
    /// Sentences for people.
    pub text: String,
}

impl RepairDocument {
    /// What the engine counted; of `withheld` nodes no disk is given up without an operator.
    pub fn new(
        outstanding: &Outstanding,
        repaired: RepairProgress,
        moved: &RebalanceProgress,
        withheld: &[NodeId],
    ) -> Self {
        let sums = &outstanding.sums;
        let standing = |standing| TallyDocument::new(sums.standing(standing));
        let map = &*outstanding.map;
        let lost_slots = outstanding.lost_slots;
        let mut reasons: Vec<RepairReason> =
            outstanding.obstacles.iter().map(|obstacle| reason(map, obstacle, withheld)).collect();
        let is_elsewhere = !outstanding.repairs_here && sums.all.extents > 0;
        if is_elsewhere {
            reasons.push(RepairReason {
                code: "elsewhere".to_owned(),
                text: "Another gateway repairs: ask its admin listener for rates and failures."
                    .to_owned(),
            });
        }
        Self {
            extents: sums.all.extents,
            bytes: sums.all.bytes,
            exact: outstanding.is_whole,
            age_seconds: outstanding.age.as_secs(),
            by_spare: sums
                .by_spare
                .iter()
                .map(|(spare, tally)| SpareDocument {
                    spare: *spare,
                    extents: tally.extents,
                    bytes: tally.bytes,
                })
                .collect(),
            lost: standing(ExtentStanding::Lost),
            repairable: standing(ExtentStanding::Repairable),
            moving: standing(ExtentStanding::Moving),
            waiting: standing(ExtentStanding::Waiting),
            lost_slots: LostSlotsDocument {
                moving: lost_slots.moving,
                in_line: lost_slots.in_line,
                homeless: lost_slots.homeless,
            },
            bytes_done: outstanding.bytes_done,
            bytes_left: outstanding.bytes_left,
            bytes_total: outstanding.bytes_done.saturating_add(outstanding.bytes_left),
            bytes_per_second: outstanding.bytes_per_second,
            seconds_left: outstanding.time_left.map(|time| time.as_secs()),
            rebuilding: rebuilding(moved),
            this_gateway: RepairStatus::new(repaired),
            repairs_here: outstanding.repairs_here,
            moves_here: outstanding.moves_here,
            reasons,
        }
    }

    /// Whether nothing lacks redundancy.
    pub fn is_nothing(&self) -> bool {
        self.exact && self.extents == 0
    }
}

impl TallyDocument {
    const fn new(tally: Tally) -> Self {
        Self { extents: tally.extents, bytes: tally.bytes }
    }
}

fn rebuilding(moved: &RebalanceProgress) -> Vec<RebuildDocument> {
    let lost = moved.under_way.iter().filter(|moving| moving.what.reason == MoveReason::Lost);
    lost.map(|moving| RebuildDocument {
        pg: moving.what.pg.0,
        slot: moving.what.slot,
        from: moving.what.from.0,
        to: moving.what.to.0,
        extents_done: moving.extents_done,
        extents_total: moving.extents_total,
        bytes: moving.bytes,
    })
    .collect()
}

fn reason(map: &ClusterMap, obstacle: &Obstacle, withheld: &[NodeId]) -> RepairReason {
    let (code, text) = match obstacle {
        Obstacle::Lost(tally) => (
            "lost",
            format!(
                "{} lost more shards than parity makes up for: nothing can be done unless disks that have some come back.",
                several(tally.extents, "extent has", "extents have")
            ),
        ),
        Obstacle::DiskDown { disk, tally, out_in } => {
            let place = PlaceDocument::new(map, *disk);
            let is_withheld = withheld.contains(&NodeId(place.node));
            (
                "disk-down",
                format!(
                    "{} is down; {} waiting for it. {}",
                    capital(&place.to_string()),
                    several(tally.extents, "extent is", "extents are"),
                    given_up(*out_in, is_withheld)
                ),
            )
        }
        Obstacle::DiskFull { disk, tally } => (
            "disk-full",
            format!(
                "{} has no room for the shards of {}.",
                capital(&PlaceDocument::new(map, *disk).to_string()),
                extents(tally.extents)
            ),
        ),
        Obstacle::NoDiskTakes { slots } => (
            "no-disk-takes",
            format!(
                "{} of disks that were given up, and no other disk takes them: there are too few disks that are up, have room and aren't in the same groups. Add a disk.",
                several(*slots, "slot is", "slots are")
            ),
        ),
        Obstacle::MetadataHeld => (
            "metadata-held",
            "The metadata was put back or begun anew: no slot moves until `drystone admin metadata release-held`."
                .to_owned(),
        ),
        Obstacle::OldRelease => (
            "old-release",
            "Lost slots are rebuilt on other disks once every node is of a release that knows how."
                .to_owned(),
        ),
        Obstacle::Failing { extents: count, failure } => (
            "failing",
            format!(
                "{} not be repaired lately and will be tried again; mostly for this: {failure}.",
                several(*count, "extent could", "extents could")
            ),
        ),
        Obstacle::MovesPaused => (
            "moves-paused",
            "An operator has paused moves; what is lost is rebuilt all the same.".to_owned(),
        ),
    };
    RepairReason { code: code.to_owned(), text }
}

/// When a disk that is down is given up, as a sentence.
pub(super) fn given_up(out_in: Option<Duration>, is_withheld: bool) -> String {
    match out_in {
        _ if is_withheld => "So many nodes are silent at once that it is not given up by itself; an operator may do so with `drystone admin disk out`.".to_owned(),
        None => "It counts again as soon as it is back.".to_owned(),
        Some(Duration::ZERO) => "It counts again as soon as it is back; it is about to be given up, and then rebuilt elsewhere.".to_owned(),
        Some(time) => format!(
            "It counts again as soon as it is back; if it isn't within {}, it is given up and rebuilt elsewhere.",
            duration(time)
        ),
    }
}

/// A number of extents in words.
pub(super) fn extents(count: u64) -> String {
    several(count, "extent", "extents")
}

/// A number of things in words.
pub(super) fn several(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// A time, for people.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{} h", seconds.div_ceil(3600)),
    }
}

/// With a capital letter.
pub(super) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_ascii_uppercase().to_string() + letters.as_str(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_for_people() {
        let check = |seconds, expected: &str| {
            assert_eq!(duration(Duration::from_secs(seconds)), expected);
        };
        check(0, "0 s");
        check(119, "119 s");
        check(121, "3 min");
        check(7200, "2 h");
        check(100_000, "28 h");
    }

    #[test]
    fn a_disk_that_is_down_is_told_of_with_its_place_and_its_time() {
        use model::cluster_map::{Disk, DiskState, Standing};
        use model::coding::Coding;
        use model::ids::{ClusterId, DiskId, DiskUuid};
        let coding = Coding::new(4, 2).expect("valid");
        let disk = Disk {
            id: DiskId(3),
            uuid: DiskUuid::default(),
            node: NodeId(2),
            rack: "r7".to_owned(),
            zone: String::new(),
            weight: 1,
            state: DiskState::Down,
            path: "/data/3".to_owned(),
            standing: Standing::default(),
        };
        let map = ClusterMap { disks: vec![disk], ..ClusterMap::new(ClusterId::default(), coding) };
        let tally = Tally { extents: 1, bytes: 5 };
        let out_in = Some(Duration::from_secs(430));
        let down = Obstacle::DiskDown { disk: DiskId(3), tally, out_in };
        let told = reason(&map, &down, &[]);
        assert_eq!(told.code, "disk-down");
        assert_eq!(
            told.text,
            "Disk 3 (/data/3 on node 2, rack r7) is down; 1 extent is waiting for it. It counts again as soon as it is back; if it isn't within 8 min, it is given up and rebuilt elsewhere."
        );
        let told = reason(&map, &down, &[NodeId(2)]);
        assert!(told.text.contains("an operator may do so"), "{}", told.text);
        let told = reason(&map, &Obstacle::NoDiskTakes { slots: 1 }, &[]);
        assert!(told.text.starts_with("1 slot is of disks"), "{}", told.text);
    }
}
