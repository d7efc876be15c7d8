//! Which objects the shards that were found make. Pure.
//!
//! In: extents with what their disks hold of them and what their owners say. Out: bodies that are
//! whole, and what isn't, with the reason. What always holds: a body comes out only when extents that
//! can be read hold all of it, from its first byte to one that is proved to be its last: the length
//! that its writer announced, or a stripe that is shorter than all but the last one are.

use std::collections::{BTreeMap, BTreeSet};

use model::checksum::ChecksumAlgorithm;
use model::coding::{Coding, StripeGeometry};
use model::extent::{Extent, SlotSet};
use model::ids::{ExtentId, ManifestId, UploadId};
use model::limits::{EXTENT_BYTES_MAX, STRIPE_BYTES_MAX};
use model::owner::OwnerKind;
use model::time::Timestamp;

const STRIPE: u64 = STRIPE_BYTES_MAX as u64;

/// An extent that the tables don't know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) id: ExtentId,
    pub(super) coding: Coding,
    /// For each stripe, from 0, the slots whose shards are there.
    pub(super) stripes: Vec<SlotSet>,
    /// Bytes of the last of them.
    pub(super) last_stripe_bytes: u32,
    pub(super) owner: FoundOwner,
    /// The epoch of the map by which its slots are told; 0 while a release doesn't know that.
    pub(super) epoch: u64,
}

/// What its owner says, without what is only needed in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FoundOwner {
    pub(super) place: Place,
    pub(super) body: BodyName,
    pub(super) offset: u64,
    pub(super) started: Timestamp,
    pub(super) part_bytes: Option<u64>,
    pub(super) checksum: Option<ChecksumAlgorithm>,
}

/// Where an object is, as its owner has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) bucket: String,
    pub(super) key: String,
}

/// Which body it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BodyName {
    pub(super) manifest: ManifestId,
    pub(super) upload: Option<UploadId>,
    pub(super) part: u16,
    pub(super) is_record: bool,
}

impl BodyName {
    pub(super) fn new(
        manifest: ManifestId,
        upload: Option<UploadId>,
        part: u16,
        kind: OwnerKind,
    ) -> Self {
        let is_record = match kind {
            OwnerKind::Body => false,
            OwnerKind::Record => true,
        };
        Self { manifest, upload, part, is_record }
    }
}

/// A whole body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Body {
    pub(super) place: Place,
    pub(super) name: BodyName,
    pub(super) started: Timestamp,
    pub(super) checksum: Option<ChecksumAlgorithm>,
    /// Its extents, in order.
    pub(super) extents: Vec<Extent>,
}

impl Body {
    pub(super) fn size(&self) -> u64 {
        self.extents.iter().map(|extent| extent.length).sum()
    }
}

/// Why a body isn't whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IncompleteReason {
    /// Its end was never written, or is lost: nothing tells which.
    NoEnd,
    /// Some of it, before its end, is lost or was never written.
    Lost,
}

/// A body that isn't whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Incomplete {
    pub(super) place: Place,
    pub(super) name: BodyName,
    pub(super) reason: IncompleteReason,
}

/// What was made of everything that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Bodies put in one request: of each key the newest whole one.
    pub(super) objects: Vec<Body>,
    /// Whole bodies of keys that have a newer one.
    pub(super) superseded: u64,
    /// Parts of uploads: of each number the newest whole one.
    pub(super) parts: BTreeMap<(Place, UploadId), BTreeMap<u16, Body>>,
    /// Recovery records, the oldest first.
    pub(super) records: Vec<Body>,
    pub(super) incomplete: Vec<Incomplete>,
}

/// Puts bodies together out of what was found.
pub(super) fn plan(found: Vec<Found>) -> Plan {
    let mut bodies: BTreeMap<(BodyName, Place), Vec<Found>> = BTreeMap::new();
    for extent in found {
        let name = (extent.owner.body, extent.owner.place.clone());
        bodies.entry(name).or_default().push(extent);
    }
    let mut plan = Plan::default();
    let mut newest: BTreeMap<Place, Body> = BTreeMap::new();
    for ((name, place), extents) in bodies {
        match chain(&extents) {
            Err(reason) => plan.incomplete.push(Incomplete { place, name, reason }),
            Ok(extents_in_order) => {
                let first = extents.first().map(|extent| &extent.owner);
                let body = Body {
                    place: place.clone(),
                    name,
                    started: first.map_or(Timestamp(0), |owner| owner.started),
                    checksum: first.and_then(|owner| owner.checksum),
                    extents: extents_in_order,
                };
                if name.is_record {
                    plan.records.push(body);
                } else if let Some(upload) = name.upload {
                    let parts = plan.parts.entry((place, upload)).or_default();
                    plan.superseded += u64::from(keep_newer(parts, name.part, body));
                } else {
                    plan.superseded += u64::from(keep_newer(&mut newest, place, body));
                }
            }
        }
    }
    plan.objects = newest.into_values().collect();
    plan.records.sort_by_key(|body| (body.started, body.name));
    plan
}

/// Whether there were two.
fn keep_newer<K: Ord>(bodies: &mut BTreeMap<K, Body>, key: K, body: Body) -> bool {
    match bodies.entry(key) {
        std::collections::btree_map::Entry::Vacant(entry) => {
            entry.insert(body);
            false
        }
        std::collections::btree_map::Entry::Occupied(mut entry) => {
            let known = entry.get();
            if (known.started, known.name) < (body.started, body.name) {
                entry.insert(body);
            }
            true
        }
    }
}

/// The extents that hold a body, in order. Several may begin at the same place, when one was given up
/// and written again; and one that was ended early may hold more than counts.
fn chain(extents: &[Found]) -> Result<Vec<Extent>, IncompleteReason> {
    let announced = extents.iter().filter_map(|extent| extent.owner.part_bytes).max();
    let mut by_offset: BTreeMap<u64, Vec<&Found>> = BTreeMap::new();
    for extent in extents {
        by_offset.entry(extent.owner.offset).or_default().push(extent);
    }
    let ends: BTreeSet<u64> = match announced {
        Some(bytes) => BTreeSet::from([bytes]),
        None => extents.iter().filter_map(proved_end).collect(),
    };
    if ends.is_empty() {
        return Err(IncompleteReason::NoEnd);
    }
    let borders: BTreeSet<u64> = by_offset.keys().chain(&ends).copied().collect();
    // From the end to the beginning: from which offsets the end can be reached, and how.
    let mut good: BTreeMap<u64, Extent> = BTreeMap::new();
    for (offset, candidates) in by_offset.iter().rev() {
        let mut candidates = candidates.clone();
        candidates.sort_by_key(|extent| std::cmp::Reverse((extent.id.session, extent.id.sequence)));
        let reachable =
            borders.range(offset.saturating_add(1)..=offset.saturating_add(EXTENT_BYTES_MAX)).rev();
        let next = reachable
            .filter(|border| ends.contains(border) || good.contains_key(border))
            .find_map(|border| {
                let length = border - offset;
                candidates.iter().find_map(|extent| extent.cut(length))
            });
        if let Some(extent) = next {
            good.insert(*offset, extent);
        }
    }
    let mut chained = Vec::new();
    let mut at = 0;
    while !(ends.contains(&at) && (announced.is_some() || !good.contains_key(&at))) {
        let has_end = announced.is_none_or(|bytes| reach(extents) >= bytes);
        let why = if has_end { IncompleteReason::Lost } else { IncompleteReason::NoEnd };
        let extent = good.remove(&at).ok_or(why)?;
        at += extent.length;
        chained.push(extent);
    }
    if chained.is_empty() { Err(IncompleteReason::NoEnd) } else { Ok(chained) }
}

/// Where the body ends, if this extent's last stripe shows it.
fn proved_end(extent: &Found) -> Option<u64> {
    let is_short = extent.last_stripe_bytes < STRIPE_BYTES_MAX;
    is_short.then(|| extent.owner.offset.saturating_add(extent.bytes()))
}

/// The end of what was found of a body.
fn reach(extents: &[Found]) -> u64 {
    let end = |extent: &Found| extent.owner.offset.saturating_add(extent.bytes());
    extents.iter().map(end).max().unwrap_or(0)
}

impl Found {
    /// Bytes of the stripes.
    fn bytes(&self) -> u64 {
        match self.stripes.len() as u64 {
            0 => 0,
            stripes => (stripes - 1) * STRIPE + u64::from(self.last_stripe_bytes),
        }
    }

    /// The extent with this length, if it can have ended after `length` bytes and so much of it can be read.
    pub(super) fn cut(&self, length: u64) -> Option<Extent> {
        let all = self.bytes();
        let fits = length == all || (length < all && length.is_multiple_of(STRIPE));
        if !fits {
            return None;
        }
        let missing = SlotSet::default();
        // Which map its writer went by isn't known, but by which it was found.
        let (id, coding, epoch) = (self.id, self.coding, self.epoch);
        let mut extent = Extent { id, coding, length, missing, epoch };
        if !extent.is_valid() {
            return None;
        }
        let mut lacking = [0u32; 32];
        for stripe in 0..extent.stripe_count() {
            let geometry = extent.stripe_geometry(stripe)?;
            let there = self.stripes.get(usize::from(stripe))?;
            if !is_readable(&geometry, *there) {
                return None;
            }
            for slot in geometry.slots().filter(|slot| !there.contains(*slot)) {
                *lacking.get_mut(usize::from(slot))? += 1;
            }
        }
        extent.missing = most_lacking(&lacking, self.coding);
        Some(extent)
    }
}

/// The slots that lack a shard. Stripes may lack different ones, and a record has room for as many as
/// the parity: then those that lack the most, and the comparison of disks and metadata finds the rest.
fn most_lacking(lacking: &[u32; 32], coding: Coding) -> SlotSet {
    let slots = (0u8..).zip(lacking).filter(|(_, count)| **count > 0);
    let mut slots: Vec<(u8, u32)> = slots.map(|(slot, count)| (slot, *count)).collect();
    slots.sort_by_key(|(slot, count)| (std::cmp::Reverse(*count), *slot));
    let mut missing = SlotSet::default();
    slots.iter().take(usize::from(coding.parity())).for_each(|(slot, _)| missing.insert(*slot));
    missing
}

fn is_readable(geometry: &StripeGeometry, there: SlotSet) -> bool {
    let count = geometry.slots().filter(|slot| there.contains(*slot)).count();
    count >= usize::from(geometry.data_shards())
}

#[cfg(test)]
mod tests;
