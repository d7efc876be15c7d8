//! The document of `GET /repair/why/BUCKET/KEY`: what an object lacks and why it isn't repaired yet,
//! in sentences.
//!
//! In: what was found of the object's shards. Out: sentences. Where the metadata and a disk say
//! different things, both are told.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::admin::inspect::{ExtentDocument, ObjectDocument, SlotDocument};
use crate::admin::repair::{capital, duration, extents, given_up, several};

/// Extents that are told of one by one.
const EXTENTS_TOLD: usize = 20;

/// The document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyDocument {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// Extents that were looked at.
    pub extents: u64,
    /// Those that aren't whole.
    pub lacking: u64,
    /// Where to go on with `from=`, when there are more extents.
    pub next: Option<u64>,
    /// The answer, for people; never empty.
    pub sentences: Vec<String>,
}

/// What is known beside the object.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// Whether the gateway that was asked repairs.
    pub repairs_here: bool,
    /// Nodes whose disks aren't given up without an operator.
    pub withheld: &'a [u32],
}

impl WhyDocument {
    /// Tells why.
    pub fn new(found: &ObjectDocument, circumstances: Circumstances<'_>) -> Self {
        let lacking: Vec<&ExtentDocument> =
            found.extents.iter().filter(|extent| !extent.is_whole()).collect();
        let told = lacking.iter().take(EXTENTS_TOLD);
        let mut sentences: Vec<String> =
            told.flat_map(|extent| tell(found, extent, circumstances)).collect();
        if let Some(more) = lacking.len().checked_sub(EXTENTS_TOLD).filter(|more| *more > 0) {
            sentences.push(format!("{} more of the object lack shards.", extents(more as u64)));
        }
        if sentences.is_empty() {
            sentences.push(all_is_well(found));
        }
        if let Some(next) = found.next {
            sentences.push(format!(
                "There are more extents, from byte {next} on; they were not looked at."
            ));
        }
        Self {
            bucket: found.bucket.clone(),
            key: found.key.clone(),
            extents: found.extents.len() as u64,
            lacking: lacking.len() as u64,
            next: found.next,
            sentences,
        }
    }
}

fn all_is_well(found: &ObjectDocument) -> String {
    let name = format!("{}/{}", found.bucket, found.key);
    let Some(spare) = found.extents.iter().map(|extent| extent.spare).min() else {
        return format!("{name} is empty: it has no shards, and lacks none.");
    };
    format!(
        "{name} lacks nothing: all shards of its {} are where they belong, and {} more may be lost of any extent.",
        extents(found.extents.len() as u64),
        spare
    )
}

fn tell(
    found: &ObjectDocument,
    extent: &ExtentDocument,
    circumstances: Circumstances<'_>,
) -> Vec<String> {
    let place = match extent.offset {
        Some(offset) if extent.length > 0 => {
            format!("bytes {offset} to {}", offset + extent.length - 1)
        }
        Some(offset) => format!("from byte {offset}"),
        None => "its recovery record".to_owned(),
    };
    let mut sentences = Vec::new();
    if !extent.known {
        let id = &extent.id;
        sentences.push(format!("Extent {id} ({place}) was deleted or replaced a moment ago."));
        return sentences;
    }
    sentences.push(head(extent, &place));
    for slot in &extent.slots {
        sentences.extend(tell_slot(found, slot, circumstances));
    }
    let is_queued = extent.slots.iter().any(|slot| slot.prospect.as_deref() == Some("here"));
    match &extent.failed_repair {
        Some(failed) => sentences.push(format!(
            "  Its repair failed {}, the last time for this: {}. The next attempt is in {}.",
            several(failed.attempts.into(), "time", "times"),
            failed.failure,
            duration(Duration::from_secs(failed.next_try_seconds))
        )),
        None if is_queued && circumstances.repairs_here => sentences.push(
            "  It is in the repair queue, and no attempt has failed: its turn comes, the most endangered extents first."
                .to_owned(),
        ),
        None if is_queued => sentences.push(
            "  It is in the repair queue. Another gateway repairs: ask its admin listener whether attempts have failed."
                .to_owned(),
        ),
        None => {}
    }
    sentences
}

fn head(extent: &ExtentDocument, place: &str) -> String {
    let (id, coding) = (&extent.id, &extent.coding);
    let spare = match extent.spare {
        spare if spare < 0 => format!(
            "{} too few to be read now",
            several(u64::from(spare.unsigned_abs()), "shard", "shards")
        ),
        0 => "no shard to spare".to_owned(),
        spare => {
            format!("{} to spare", several(u64::from(spare.unsigned_abs()), "shard", "shards"))
        }
    };
    match extent.standing.as_deref() {
        Some("lost") => format!(
            "Extent {id} ({place}, {coding}) has lost more shards than its parity makes up for: it can be repaired only if a disk that has some of them comes back."
        ),
        Some(_) => format!("Extent {id} ({place}, {coding}) lacks shards and has {spare}."),
        None => format!(
            "Extent {id} ({place}, {coding}) lacks nothing by the metadata, but its disks say otherwise."
        ),
    }
}

/// What is wrong with a slot, if anything is.
fn tell_slot(
    found: &ObjectDocument,
    slot: &SlotDocument,
    circumstances: Circumstances<'_>,
) -> Vec<String> {
    let disk = &slot.disk;
    let said = match slot.state.as_str() {
        "missing" => {
            let missing = slot.shards.saturating_sub(slot.present + slot.damaged);
            let damaged = match slot.damaged {
                0 => String::new(),
                damaged => format!(", and {damaged} are damaged"),
            };
            format!("{disk} does not have {missing} of its {} shards{damaged}", slot.shards)
        }
        "damaged" => {
            format!("on {disk}, {} of its {} shards are damaged", slot.damaged, slot.shards)
        }
        "unreachable" => {
            let why = slot.reason.as_deref().unwrap_or("it does not answer");
            format!("{disk} could not be asked: {why}")
        }
        _ => format!("{disk} has its shards"),
    };
    let follows = match slot.prospect.as_deref() {
        Some("here") if slot.state == "present" => {
            "The metadata calls them lacking; repair has them verified, and takes the slot off its queue."
                .to_owned()
        }
        Some("here") => "The disk is up, and gets them back.".to_owned(),
        Some("moves") => moves(slot),
        Some("in-line") => "The disk was given up, and the slot will be rebuilt on another one; other slots of given-up disks come first.".to_owned(),
        Some("homeless") => "The disk was given up, and no other disk takes the slot: there are too few that are up, have room and aren't in the group already. Add a disk.".to_owned(),
        Some("down") => {
            let out_in = slot.out_in_seconds.map(Duration::from_secs);
            let is_withheld = circumstances.withheld.contains(&disk.node);
            format!("The disk is down. {}", given_up(out_in, is_withheld))
        }
        Some("full") => "The disk has no room for them.".to_owned(),
        _ if matches!(slot.state.as_str(), "present" | "unused") => return Vec::new(),
        _ if slot.state == "unreachable" => {
            "The cluster map calls the disk well, so whether it has them isn't known.".to_owned()
        }
        _ if slot.state == "damaged" => {
            "The disk knows, and the metadata does not yet: the gateway that repairs asks disks for damage every few seconds."
                .to_owned()
        }
        _ => format!(
            "The metadata does not know yet: `drystone admin scrub object {}/{}` tells it now.",
            found.bucket, found.key
        ),
    };
    vec![format!("  Slot {}: {}. {follows}", slot.slot, capital(&said))]
}

fn moves(slot: &SlotDocument) -> String {
    let Some(moving) = &slot.moving else {
        return "The slot is on its way to another disk.".to_owned();
    };
    let why = match moving.reason.as_str() {
        "lost" => "as its disk was given up",
        "drain" => "as its disk is drained",
        "spread" => "to spread its group better",
        _ => "to even out the disks",
    };
    let progress = match (moving.extents_done, moving.extents_total) {
        (Some(done), Some(total)) => format!(" {done} of {total} extents of the group are there."),
        _ => String::new(),
    };
    let here = match moving.present {
        Some(present) => format!(" Of this extent it has {present} of {} shards.", slot.shards),
        None => String::new(),
    };
    format!("The slot is on its way to {}, {why}.{progress}{here}", moving.to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::inspect::{FailedRepairDocument, MoveDocument, PlaceDocument};

    fn place(id: u32) -> PlaceDocument {
        let (path, state) = (format!("/d{id}"), "up".to_owned());
        PlaceDocument { id, path, node: 1, rack: String::new(), state }
    }

    fn slot(number: u8, state: &str, prospect: Option<&str>) -> SlotDocument {
        SlotDocument {
            slot: number,
            disk: place(u32::from(number)),
            shards: 2,
            bytes: 100,
            state: state.to_owned(),
            reason: (state == "unreachable").then(|| "its node does not answer".to_owned()),
            present: if state == "present" { 2 } else { 0 },
            damaged: if state == "damaged" { 2 } else { 0 },
            queued: prospect.is_some(),
            prospect: prospect.map(str::to_owned),
            out_in_seconds: (prospect == Some("down")).then_some(90),
            moving: None,
        }
    }

    fn object(slots: Vec<SlotDocument>, standing: Option<&str>) -> ObjectDocument {
        let extent = ExtentDocument {
            id: "0-1-2".to_owned(),
            offset: Some(0),
            length: 100,
            coding: "2+1".to_owned(),
            pg: 0,
            epoch: 1,
            known: true,
            spare: i16::from(standing.is_none()),
            standing: standing.map(str::to_owned),
            failed_repair: None,
            slots,
            strays: Vec::new(),
        };
        ObjectDocument {
            bucket: "photos".to_owned(),
            key: "a b".to_owned(),
            size: 100,
            etag: String::new(),
            modified: String::new(),
            parts: None,
            map_epoch: 3,
            verified: false,
            whole: extent.is_whole(),
            extents: vec![extent],
            next: None,
        }
    }

    fn why(found: &ObjectDocument, repairs_here: bool) -> WhyDocument {
        WhyDocument::new(found, Circumstances { repairs_here, withheld: &[7] })
    }

    #[track_caller]
    fn check(slots: Vec<SlotDocument>, standing: Option<&str>, expected: &[&str]) {
        let told = why(&object(slots, standing), true);
        assert_eq!(told.sentences, expected);
    }

    #[test]
    fn what_is_well_is_told_in_a_sentence() {
        let told = "photos/a b lacks nothing: all shards of its 1 extent are where they belong, and 1 more may be lost of any extent.";
        check(vec![slot(0, "present", None), slot(1, "unused", None)], None, &[told]);
        let empty = ObjectDocument { extents: Vec::new(), ..object(Vec::new(), None) };
        assert!(why(&empty, true).sentences[0].contains("is empty"));
    }

    #[test]
    fn each_prospect_has_its_sentence() {
        let head = "Extent 0-1-2 (bytes 0 to 99, 2+1) lacks shards and has no shard to spare.";
        check(
            vec![slot(0, "missing", Some("here")), slot(1, "present", None)],
            Some("repairable"),
            &[
                head,
                "  Slot 0: Disk 0 (/d0 on node 1) does not have 2 of its 2 shards. The disk is up, and gets them back.",
                "  It is in the repair queue, and no attempt has failed: its turn comes, the most endangered extents first.",
            ],
        );
        check(
            vec![slot(0, "unreachable", Some("down"))],
            Some("waiting"),
            &[
                head,
                "  Slot 0: Disk 0 (/d0 on node 1) could not be asked: its node does not answer. The disk is down. It counts again as soon as it is back; if it isn't within 90 s, it is given up and rebuilt elsewhere.",
            ],
        );
        let moving = MoveDocument {
            to: place(9),
            reason: "lost".to_owned(),
            since: String::new(),
            present: Some(1),
            extents_done: Some(3),
            extents_total: Some(10),
        };
        let moved = SlotDocument { moving: Some(moving), ..slot(0, "missing", Some("moves")) };
        check(
            vec![moved],
            Some("moving"),
            &[
                head,
                "  Slot 0: Disk 0 (/d0 on node 1) does not have 2 of its 2 shards. The slot is on its way to disk 9 (/d9 on node 1), as its disk was given up. 3 of 10 extents of the group are there. Of this extent it has 1 of 2 shards.",
            ],
        );
        for (prospect, words) in
            [("in-line", "will be rebuilt"), ("homeless", "Add a disk"), ("full", "no room")]
        {
            let told =
                why(&object(vec![slot(0, "missing", Some(prospect))], Some("waiting")), true);
            assert!(told.sentences[1].contains(words), "{:?}", told.sentences);
        }
    }

    #[test]
    fn disks_and_metadata_may_disagree() {
        check(
            vec![slot(0, "damaged", None)],
            None,
            &[
                "Extent 0-1-2 (bytes 0 to 99, 2+1) lacks nothing by the metadata, but its disks say otherwise.",
                "  Slot 0: On disk 0 (/d0 on node 1), 2 of its 2 shards are damaged. The disk knows, and the metadata does not yet: the gateway that repairs asks disks for damage every few seconds.",
            ],
        );
        let told = why(&object(vec![slot(0, "present", Some("here"))], Some("repairable")), true);
        assert!(told.sentences[1].contains("repair has them verified"), "{:?}", told.sentences);
        let told = why(&object(vec![slot(0, "missing", None)], None), true);
        assert!(
            told.sentences[1].contains("`drystone admin scrub object photos/a b` tells it now"),
            "{:?}",
            told.sentences
        );
        let told = why(&object(vec![slot(0, "unreachable", None)], None), true);
        assert!(told.sentences[1].contains("isn't known"), "{:?}", told.sentences);
    }

    #[test]
    fn failures_and_other_gateways_are_told_of() {
        let mut found = object(vec![slot(0, "missing", Some("here"))], Some("repairable"));
        assert!(why(&found, false).sentences[2].contains("Another gateway repairs"));
        let failure = "too few of its shards can be read now".to_owned();
        found.extents[0].failed_repair =
            Some(FailedRepairDocument { attempts: 1, failure, next_try_seconds: 7 });
        assert_eq!(
            why(&found, true).sentences[2],
            "  Its repair failed 1 time, the last time for this: too few of its shards can be read now. The next attempt is in 7 s."
        );
    }

    #[test]
    fn a_long_object_is_told_of_in_bounds() {
        let mut found = object(vec![slot(0, "missing", Some("full"))], Some("waiting"));
        found.extents = vec![found.extents[0].clone(); 30];
        found.next = Some(3000);
        let told = why(&found, true);
        assert_eq!((told.extents, told.lacking), (30, 30));
        assert_eq!(told.sentences.len(), EXTENTS_TOLD * 2 + 2);
        assert_eq!(told.sentences[EXTENTS_TOLD * 2], "10 extents more of the object lack shards.");
        assert!(told.sentences[EXTENTS_TOLD * 2 + 1].contains("from byte 3000 on"));
    }
}
