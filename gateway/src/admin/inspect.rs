//! The documents of `GET /objects/BUCKET/KEY`: where an object's shards are, and in what state.
//!
//! The documents are these types, field by field; fields are added, never renamed.

use engine::{ExtentReport, MoveReport, ObjectReport, SlotProspect, SlotReport, SlotState, Stray};
use model::cluster_map::ClusterMap;
use model::ids::DiskId;
use model::names::{BucketName, ObjectKey};
use s3::date;
use serde::{Deserialize, Serialize};

/// An object's shards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectDocument {
    /// Its bucket.
    pub bucket: String,
    /// Its key.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// Its entity tag.
    pub etag: String,
    /// When it was committed, ISO 8601.
    pub modified: String,
    /// Parts of the upload that made it; `null` when it was put in one piece.
    pub parts: Option<u32>,
    /// The epoch of the cluster map that it was looked at by.
    pub map_epoch: u64,
    /// Whether disks read and verified every byte.
    pub verified: bool,
    /// Its extents, in order; the last may be that of its recovery record.
    pub extents: Vec<ExtentDocument>,
    /// Where to go on with `from=`, when there are more extents.
    pub next: Option<u64>,
    /// Whether everything that was looked at is there, and nothing lacks redundancy.
    pub whole: bool,
}

/// An extent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtentDocument {
    /// Its name.
    pub id: String,
    /// Where its first byte lies in the object; `null` for the recovery record.
    pub offset: Option<u64>,
    /// Bytes.
    pub length: u64,
    /// Its coding, as `K+M`.
    pub coding: String,
    /// Its placement group.
    pub pg: u32,
    /// The epoch of the cluster map that its writer went by; 0 where that isn't known.
    pub epoch: u64,
    /// Whether the metadata's tables know it; if not, it was deleted a moment ago.
    pub known: bool,
    /// Shards to spare now; below 0 it can't be read unless some come back.
    pub spare: i16,
    /// `lost`, `repairable`, `moving` or `waiting`; `null` when it lacks nothing by the metadata.
    pub standing: Option<String>,
    /// The last attempt to repair it, if that failed and was made by the gateway that was asked.
    pub failed_repair: Option<FailedRepairDocument>,
    /// Its slots.
    pub slots: Vec<SlotDocument>,
    /// Shards on disks that have no right to them.
    pub strays: Vec<StrayDocument>,
}

/// An attempt to repair an extent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedRepairDocument {
    /// Attempts in a row that failed.
    pub attempts: u32,
    /// Why the last one did.
    pub failure: String,
    /// Seconds until the next one.
    pub next_try_seconds: u64,
}

/// A slot of an extent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotDocument {
    /// The slot.
    pub slot: u8,
    /// The disk that it is on.
    pub disk: PlaceDocument,
    /// Shards that it should have.
    pub shards: u32,
    /// Their bytes.
    pub bytes: u64,
    /// What the disk says: `present`, `missing`, `damaged`, `unreachable`, or `unused` when the extent
    /// is too short to use the slot.
    pub state: String,
    /// Why the disk is unreachable.
    pub reason: Option<String>,
    /// Shards that are there, and not known to be damaged.
    pub present: u32,
    /// Shards that are damaged.
    pub damaged: u32,
    /// Whether the metadata has it in the repair queue.
    pub queued: bool,
    /// What becomes of what it lacks: `here`, `moves`, `in-line`, `homeless`, `down` or `full`; `null`
    /// when it lacks nothing by the metadata.
    pub prospect: Option<String>,
    /// Seconds until its disk is given up, at the earliest, if that is down.
    pub out_in_seconds: Option<u64>,
    /// The move of the slot that is under way.
    pub moving: Option<MoveDocument>,
}

/// Where a disk is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceDocument {
    /// Its number.
    pub id: u32,
    /// Where it is on its node.
    pub path: String,
    /// Its node.
    pub node: u32,
    /// Its rack; empty when there is but one.
    pub rack: String,
    /// `up`, `full`, `down`, `out`, or `unknown`.
    pub state: String,
}

/// A move of a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveDocument {
    /// The disk that is to have it.
    pub to: PlaceDocument,
    /// `lost`, `drain`, `spread` or `balance`.
    pub reason: String,
    /// When it began, ISO 8601.
    pub since: String,
    /// Shards of the extent that are on the new disk; `null` when it doesn't answer.
    pub present: Option<u32>,
    /// Extents of the group that the new disk has, where the gateway that was asked moves it.
    pub extents_done: Option<u64>,
    /// All extents of the group, likewise.
    pub extents_total: Option<u64>,
}

/// Shards of a slot where they don't belong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StrayDocument {
    /// The disk.
    pub disk: PlaceDocument,
    /// The slot.
    pub slot: u8,
    /// Shards.
    pub shards: u32,
}

impl ObjectDocument {
    /// What the engine found of `bucket`/`key`.
    pub fn new(
        bucket: &BucketName,
        key: &ObjectKey,
        verified: bool,
        report: &ObjectReport,
    ) -> Self {
        let extents: Vec<ExtentDocument> =
            report.extents.iter().map(|extent| ExtentDocument::new(&report.map, extent)).collect();
        let version = &report.version;
        Self {
            bucket: bucket.to_string(),
            key: key.to_string(),
            size: version.size,
            etag: version.etag.to_string(),
            modified: date::iso8601(version.modified),
            parts: version.multipart_count(),
            map_epoch: report.map.epoch,
            verified,
            whole: extents.iter().all(ExtentDocument::is_whole),
            extents,
            next: report.next,
        }
    }
}

impl ExtentDocument {
    fn new(map: &ClusterMap, report: &ExtentReport) -> Self {
        let ExtentReport { extent, .. } = report;
        Self {
            id: extent.id.to_string(),
            offset: report.offset,
            length: extent.length,
            coding: extent.coding.to_string(),
            pg: extent.id.pg.0,
            epoch: extent.epoch,
            known: report.is_known,
            spare: report.spare,
            standing: report.standing.map(|standing| standing.as_str().to_owned()),
            failed_repair: report.failed.as_ref().map(|failed| FailedRepairDocument {
                attempts: failed.attempts,
                failure: failed.failure.clone(),
                next_try_seconds: failed.next_try.as_secs(),
            }),
            slots: report.slots.iter().map(|slot| SlotDocument::new(map, slot)).collect(),
            strays: report.strays.iter().map(|stray| StrayDocument::new(map, stray)).collect(),
        }
    }

    /// Whether every shard is there and nothing lacks redundancy.
    pub fn is_whole(&self) -> bool {
        let is_there = |slot: &SlotDocument| matches!(slot.state.as_str(), "present" | "unused");
        self.standing.is_none() && self.slots.iter().all(is_there)
    }
}

impl SlotDocument {
    fn new(map: &ClusterMap, report: &SlotReport) -> Self {
        let (state, reason) = match &report.state {
            SlotState::Unused => ("unused", None),
            SlotState::Present => ("present", None),
            SlotState::Missing => ("missing", None),
            SlotState::Damaged => ("damaged", None),
            SlotState::Unreachable(why) => ("unreachable", Some(why.clone())),
        };
        let prospect = report.prospect.map(|prospect| match prospect {
            SlotProspect::Here => "here",
            SlotProspect::Moves => "moves",
            SlotProspect::InLine => "in-line",
            SlotProspect::Homeless => "homeless",
            SlotProspect::Down => "down",
            SlotProspect::Full => "full",
        });
        Self {
            slot: report.slot,
            disk: PlaceDocument::new(map, report.disk),
            shards: report.shards,
            bytes: report.bytes,
            state: state.to_owned(),
            reason,
            present: report.present,
            damaged: report.damaged,
            queued: report.is_lacking,
            prospect: prospect.map(str::to_owned),
            out_in_seconds: report.out_in.map(|time| time.as_secs()),
            moving: report.moving.as_ref().map(|moving| MoveDocument::new(map, moving)),
        }
    }
}

impl MoveDocument {
    fn new(map: &ClusterMap, report: &MoveReport) -> Self {
        Self {
            to: PlaceDocument::new(map, report.what.to),
            reason: report.what.reason.as_str().to_owned(),
            since: date::iso8601(report.what.since),
            present: report.present,
            extents_done: report.progress.map(|(done, _)| done),
            extents_total: report.progress.map(|(_, total)| total),
        }
    }
}

impl StrayDocument {
    fn new(map: &ClusterMap, stray: &Stray) -> Self {
        let Stray { disk, slot, shards } = *stray;
        Self { disk: PlaceDocument::new(map, disk), slot, shards }
    }
}

impl PlaceDocument {
    /// Where the map has a disk.
    pub fn new(map: &ClusterMap, id: DiskId) -> Self {
        match map.disk(id) {
            Some(disk) => Self {
                id: id.0,
                path: disk.path.clone(),
                node: disk.node.0,
                rack: disk.rack.clone(),
                state: disk.state.as_str().to_owned(),
            },
            None => Self { id: id.0, state: "unknown".to_owned(), ..Self::default() },
        }
    }
}

impl std::fmt::Display for PlaceDocument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "disk {}", self.id)?;
        match (self.path.as_str(), self.rack.as_str()) {
            ("", "") => write!(f, " (node {})", self.node),
            (path, "") => write!(f, " ({path} on node {})", self.node),
            ("", rack) => write!(f, " (node {}, rack {rack})", self.node),
            (path, rack) => write!(f, " ({path} on node {}, rack {rack})", self.node),
        }
    }
}
