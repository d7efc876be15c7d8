//! When recoding waits, and what of an object goes into one step. Pure.

use std::collections::BTreeSet;
use std::ops::Range;

use model::cluster_map::{ClusterMap, DiskState};
use model::coding::Coding;
use model::ids::DiskId;
use model::level::MOVING;
use model::moves::MoveReason;
use model::version::Part;

/// Bytes of parts that are recoded before the metadata hears of them: what a crash may cost. Each step
/// writes the object's recovery record again, which is small beside this.
const STEP_BYTES: u64 = 1 << 30;

/// Why nothing is recoded now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecodePause {
    /// An operator has paused all work of this kind.
    Operator,
    /// Slots of disks that were given up are not rebuilt yet.
    SlotsLost,
    /// Extents wait for repair.
    RepairsWaiting,
    /// A disk is down, and may come back.
    DiskDown,
    /// Not enough disks take shards for the coding.
    NoPlace,
    /// Not every node is of a release that knows this.
    OldRelease,
    /// The metadata was put back from a backup, or begun anew, and holds what it doesn't know.
    MetadataHeld,
}

impl RecodePause {
    /// The word used in metrics and `/status`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::SlotsLost => "slots-lost",
            Self::RepairsWaiting => "repairs-waiting",
            Self::DiskDown => "disk-down",
            Self::NoPlace => "no-place",
            Self::OldRelease => "old-release",
            Self::MetadataHeld => "metadata-held",
        }
    }

    /// One sentence for people.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Operator => "An operator has paused moves and recoding.",
            Self::SlotsLost => "Slots of disks that were given up are rebuilt first.",
            Self::RepairsWaiting => "Extents that lack shards are repaired first.",
            Self::DiskDown => "A disk is down: recoding waits until it is back, or out.",
            Self::NoPlace => "Too few disks take new shards for the coding of the class.",
            Self::OldRelease => "Recoding waits until every node is of a release that knows it.",
            Self::MetadataHeld => {
                "Recoding waits until what the restored metadata doesn't know is recovered and released."
            }
        }
    }
}

/// Why nothing is recoded by this map.
pub(super) fn pause(map: &ClusterMap) -> Option<RecodePause> {
    let used: BTreeSet<DiskId> = map.pgs.iter().flat_map(|pg| pg.disks.iter().copied()).collect();
    let is_used_and = |state: DiskState| {
        map.disks.iter().any(|disk| disk.state == state && used.contains(&disk.id))
    };
    let is_rebuilding = map
        .pgs
        .iter()
        .flat_map(|pg| &pg.moves)
        .any(|under_way| under_way.reason == MoveReason::Lost);
    if map.level_in_use() < MOVING {
        Some(RecodePause::OldRelease)
    } else if map.upkeep.is_paused {
        Some(RecodePause::Operator)
    } else if is_rebuilding || is_used_and(DiskState::Out) {
        Some(RecodePause::SlotsLost)
    } else if is_used_and(DiskState::Down) {
        Some(RecodePause::DiskDown)
    } else {
        None
    }
}

/// Whether new extents can have this coding now.
pub(super) fn has_place(map: &ClusterMap, coding: Coding) -> bool {
    map.pgs.iter().any(|pg| pg.coding == coding && map.is_open(pg))
}

/// Whether a part has an extent with another coding.
pub(super) fn is_other(part: &Part, coding: Coding) -> bool {
    part.extents.iter().any(|extent| extent.coding != coding)
}

/// The parts with another coding, as runs of their places that are recoded together.
pub(super) fn steps(parts: &[Part], coding: Coding) -> Vec<Range<usize>> {
    let mut steps: Vec<Range<usize>> = Vec::new();
    let mut bytes = 0u64;
    for (at, part) in parts.iter().enumerate().filter(|(_, part)| is_other(part, coding)) {
        match steps.last_mut() {
            Some(last) if last.end == at && bytes + part.size <= STEP_BYTES => {
                last.end = at + 1;
                bytes += part.size;
            }
            Some(_) | None => {
                steps.push(at..at + 1);
                bytes = part.size;
            }
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use model::cluster_map::UpkeepWish;
    use model::extent::{Extent, SlotSet};
    use model::ids::ExtentId;

    use super::*;
    use crate::three_disks::in_order;

    fn coding(text: &str) -> Coding {
        Coding::parse(text).expect("valid")
    }

    fn part(number: u16, size: u64, k_and_m: &str) -> Part {
        let extent = Extent {
            id: ExtentId::default(),
            coding: coding(k_and_m),
            length: size,
            missing: SlotSet::default(),
            epoch: 0,
        };
        Part { number, size, md5: [0; 16], checksum: None, extents: vec![extent] }
    }

    #[test]
    fn steps_are_runs_of_what_has_another_coding() {
        let parts = [
            part(1, 5, "4+2"),
            part(2, 5, "4+2"),
            part(3, 5, "1+2"),
            part(4, STEP_BYTES, "4+2"),
            part(5, 1, "4+2"),
        ];
        assert_eq!(steps(&parts, coding("1+2")), [0..2, 3..4, 4..5]);
        assert_eq!(steps(&parts, coding("4+2")), std::iter::once(2..3).collect::<Vec<_>>());
        assert_eq!(steps(&[], coding("4+2")), [0..0; 0]);
    }

    #[test]
    fn recoding_waits_while_redundancy_is_short() {
        use DiskState::{Down, Full, Out, Up};
        let paused = |states| pause(&in_order(states));
        assert_eq!(paused([Up; 3]), None);
        assert_eq!(paused([Up, Full, Up]), None);
        assert_eq!(paused([Up, Down, Up]), Some(RecodePause::DiskDown));
        assert_eq!(paused([Down, Out, Up]), Some(RecodePause::SlotsLost));
        let mut map = in_order([Up; 3]);
        map.upkeep = UpkeepWish { is_paused: true, ..UpkeepWish::default() };
        assert_eq!(pause(&map), Some(RecodePause::Operator));
        assert!(has_place(&in_order([Up; 3]), in_order([Up; 3]).coding));
        assert!(!has_place(&in_order([Up, Full, Up]), map.coding));
        assert!(!has_place(&in_order([Up; 3]), coding("4+2")));
    }
}
