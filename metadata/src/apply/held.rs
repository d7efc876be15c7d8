//! AdoptObject, AdoptPart, AdoptDisk, AdoptPgs, ReleaseHeld: what tables that were put back from a
//! backup, or rebuilt from the disks, don't know and take in again.
//!
//! What always holds: an extent is adopted only when it is unknown to the tables and of a held
//! session, so that nothing that these tables gave out can be replaced by what they did not; a
//! recovery record may share known ones besides, garbage too, which is not collected meanwhile.

use std::collections::{HashMap, HashSet};

use model::cluster_map::{ClusterMap, Disk, DiskState, Pg};
use model::coding::Coding;
use model::command::{Outcome, PutPart, Refusal};
use model::extent::Extent;
use model::ids::{BucketId, ExtentId, SessionId};
use model::limits::{OBJECT_BYTES_MAX, PARTS_MAX, PUT_BYTES_MAX};
use model::names::BucketName;
use model::placement;
use model::rebuild::{NO_DISK, PGS_MAX, SlotFound};
use model::recovery::{AdoptObject, Held};
use model::upload::{Upload, UploadedPart};
use model::version::{Part, Version};

use super::cluster::has_node;
use super::objects::{check_key, record_part};
use super::uploads::committed_part;
use super::{Step, Stop};
use crate::limits::DISK_TEXT_BYTES_MAX;
use crate::state::StateError;
use crate::tables::extents::{ExtentOwner, ExtentRecord};
use crate::tables::{TableId, garbage as garbage_table, held, parts, uploads};

/// Rows of the garbage table that are looked through at a time.
const GARBAGE_PAGE: usize = 1000;

/// The extents of what is to be adopted, by what the tables know of them.
#[derive(Default)]
pub(super) struct Told {
    /// Those that they don't know.
    new: Vec<Part>,
    /// Those that have an owner, or will have one once the others are taken in.
    shared: Vec<Part>,
    /// Those that lost their last owner.
    garbage: Vec<Extent>,
}

impl Step<'_, '_> {
    /// What is held, if anything is.
    pub(super) fn held(&mut self) -> Result<Option<Held>, StateError> {
        self.tables.get(held::KEY)
    }

    fn must_hold(&mut self) -> Result<Held, Stop> {
        self.held()?.ok_or(Stop::Refused(Refusal::NotHeld))
    }

    pub(super) fn adopt_object(&mut self, adopt: &AdoptObject) -> Result<Outcome, Stop> {
        check_body(adopt)?;
        let bucket = self.bucket(&adopt.bucket).ok();
        if let (Some(bucket), Some(held)) = (bucket, self.held()?)
            && let Some(outcome) = self.adopt_elsewhere(bucket, adopt, &held)?
        {
            return Ok(outcome);
        }
        let row = bucket.map(|bucket| Self::version_row(bucket, &adopt.key));
        if let Some(row) = &row
            && let Some(outcome) = self.committed_as(row, adopt.manifest)?
        {
            return Ok(outcome);
        }
        let held = self.must_hold()?;
        let told = self.tell(&held, adopt)?;
        if self.has_pages(adopt.manifest)? {
            return Err(Refusal::InvalidCommand.into());
        }
        let modified = adopt.modified.min(self.now);
        if let Some(row) = &row
            && let Some(current) = self.tables.get::<Version>(row)?
            && current.modified >= modified
        {
            return Err(Refusal::Superseded.into());
        }
        // From here on nothing is refused.
        let bucket = match bucket {
            Some(bucket) => bucket,
            None => self.make_bucket(&adopt.bucket, &adopt.owner)?,
        };
        self.take_in(&held, bucket, adopt, &told)?;
        let version = Version {
            manifest: adopt.manifest,
            size: adopt.size,
            etag: adopt.etag,
            modified,
            headers: self.with_class(&adopt.bucket, adopt.headers.clone()),
            checksum: adopt.checksum.clone(),
            parts: self.store_parts(adopt.manifest, adopt.parts.clone())?,
            record: adopt.record.clone(),
        };
        self.replace_version(&Self::version_row(bucket, &adopt.key), &version)
    }

    /// What the tables know of what is to be adopted; refused where that can't be taken in.
    pub(super) fn tell(&mut self, held: &Held, adopt: &AdoptObject) -> Result<Told, Stop> {
        let told = match adopt.record {
            Some(_) => self.tell_known_apart(&adopt.parts)?,
            None => Told { new: adopt.parts.clone(), ..Told::default() },
        };
        // Together: none may be named twice.
        let record = record_part(adopt.record.as_ref());
        let all: Vec<Part> = told.new.iter().chain(&record).cloned().collect();
        self.check_held_extents(held, &all)?;
        Ok(told)
    }

    /// Gives the extents of what is adopted their owner.
    pub(super) fn take_in(
        &mut self,
        held: &Held,
        bucket: BucketId,
        adopt: &AdoptObject,
        told: &Told,
    ) -> Result<(), StateError> {
        let owner = ExtentOwner::Manifest(adopt.manifest);
        self.bring_back(held, bucket, owner, &told.garbage)?;
        self.add_extents(bucket, owner, &told.new)?;
        self.add_extents(bucket, owner, &record_part(adopt.record.as_ref()))?;
        // What is named twice is shared with what was added or brought back just now.
        self.share_extents(&told.shared)
    }

    /// The extents of parts that a recovery record names: those that the tables don't know, and those
    /// that they do, which must be the same ones. One that is named again, as by a copy of one whole
    /// source into two parts, is shared with its first mention.
    fn tell_known_apart(&mut self, parts: &[Part]) -> Result<Told, Stop> {
        let mut told = Told::default();
        let mut seen: HashMap<ExtentId, (Coding, u64)> = HashMap::new();
        for part in parts {
            let (mut of_new, mut of_shared) = (Vec::new(), Vec::new());
            for extent in &part.extents {
                let known = self.tables.get::<ExtentRecord>(&extent.id.to_key())?;
                let form = (extent.coding, extent.length);
                let first = seen.insert(extent.id, form);
                let wanted = known.as_ref().map(|known| (known.coding, known.length)).or(first);
                if wanted.is_some_and(|wanted| wanted != form) {
                    return Err(Refusal::InvalidCommand.into());
                }
                match known {
                    _ if first.is_some() => of_shared.push(extent.clone()),
                    None => of_new.push(extent.clone()),
                    Some(known) if known.references > 0 => of_shared.push(extent.clone()),
                    Some(_) if self.is_well_placed(extent) => told.garbage.push(extent.clone()),
                    Some(_) => return Err(Refusal::InvalidCommand.into()),
                }
            }
            told.new.push(Part { extents: of_new, ..part.clone() });
            told.shared.push(Part { extents: of_shared, ..part.clone() });
        }
        Ok(told)
    }

    /// Gives garbage an owner again. It lost its last one since the tables were put back, which knew
    /// nothing of this one, and nothing was collected since (I-9).
    fn bring_back(
        &mut self,
        held: &Held,
        bucket: BucketId,
        owner: ExtentOwner,
        garbage: &[Extent],
    ) -> Result<(), StateError> {
        if garbage.is_empty() {
            return Ok(());
        }
        let mut wanted: HashSet<ExtentId> = garbage.iter().map(|extent| extent.id).collect();
        // The newest are the likeliest, but rows only come in their order; older ones than what was
        // put back can't be meant.
        let mut from = garbage_table::since(held.since).to_vec();
        while !wanted.is_empty() {
            let rows = self.tables.scan_from(TableId::Garbage, &from, GARBAGE_PAGE)?;
            let Some((last, _)) = rows.last() else { break };
            from = [last.as_slice(), &[0]].concat();
            for (row, _) in rows {
                if garbage_table::read_key(&row).is_some_and(|key| wanted.remove(&key.extent)) {
                    self.tables.remove(TableId::Garbage, &row)?;
                }
            }
        }
        if let Some(lost) = wanted.iter().next() {
            return Err(StateError::Damaged(format!("extent {lost} is garbage without a row")));
        }
        let parts =
            [Part { number: 0, size: 0, md5: [0; 16], checksum: None, extents: garbage.to_vec() }];
        self.add_extents(bucket, owner, &parts)
    }

    /// Refused when it can't be made, which changes nothing.
    fn make_bucket(&mut self, name: &BucketName, owner: &str) -> Result<BucketId, Stop> {
        self.create_bucket(name, owner, "")?;
        self.bucket(name)
    }

    pub(super) fn adopt_part(&mut self, put: &PutPart) -> Result<Outcome, Stop> {
        let bucket = self.bucket(&put.bucket)?;
        let row = uploads::key(bucket, put.key.as_str(), put.upload);
        self.tables.get::<Upload>(&row)?.ok_or(Refusal::NoSuchUpload)?;
        let part = &put.part;
        let is_valid = part.is_valid()
            && put.shared_with.is_none()
            && !part.extents.is_empty()
            && (1..=PARTS_MAX).contains(&u32::from(part.number))
            && part.size <= PUT_BYTES_MAX;
        if !is_valid {
            return Err(Refusal::InvalidCommand.into());
        }
        let row = parts::key(&row, part.number);
        if let Some(known) = self.tables.get::<UploadedPart>(&row)? {
            return Ok(committed_part(&known));
        }
        let held = self.must_hold()?;
        let only = std::slice::from_ref(part);
        self.check_held_extents(&held, only)?;
        self.add_extents(bucket, ExtentOwner::Upload(put.upload), only)?;
        let uploaded = UploadedPart { part: part.clone(), modified: self.now };
        self.tables.set(&row, &uploaded)?;
        Ok(committed_part(&uploaded))
    }

    /// Refuses extents that can't be taken in: malformed ones, known ones, and those whose session
    /// isn't held.
    fn check_held_extents(&mut self, held: &Held, parts: &[Part]) -> Result<(), Stop> {
        let mut seen = HashSet::new();
        for extent in parts.iter().flat_map(|part| &part.extents) {
            if !seen.insert(extent.id) || !self.is_well_placed(extent) {
                return Err(Refusal::InvalidCommand.into());
            }
            if !held.covers(extent.id.session) || self.memory.is_open(extent.id.session) {
                return Err(Refusal::NotHeld.into());
            }
            if self.tables.get::<ExtentRecord>(&extent.id.to_key())?.is_some() {
                return Err(Refusal::InvalidCommand.into());
            }
        }
        Ok(())
    }

    pub(super) fn adopt_disk(&mut self, disk: &Disk) -> Result<Outcome, Stop> {
        let known = self.map()?;
        if let Some(known) = known.disks.iter().find(|known| known.uuid == disk.uuid) {
            return Ok(Outcome::DiskRegistered(known.id));
        }
        let held = self.must_hold()?;
        if !has_node(&known, disk.node) {
            return Err(Refusal::NoSuchNode.into());
        }
        let is_text = |text: &str| text.len() <= DISK_TEXT_BYTES_MAX;
        let is_valid = [&disk.rack, &disk.zone, &disk.path].into_iter().all(|text| is_text(text))
            && disk.weight > 0
            && disk.id != NO_DISK
            && disk.id <= held.disks
            && known.disk(disk.id).is_none();
        if !is_valid {
            return Err(Refusal::InvalidCommand.into());
        }
        // Its places in the groups are others' by now: its shards would be taken for misplaced.
        if held.has_pgs {
            return Err(Refusal::GroupsSettled.into());
        }
        let mut map = ClusterMap::clone(&known);
        map.disks.push(disk.clone());
        map.disks.sort_by_key(|disk| disk.id);
        self.add_pgs(&mut map)?;
        self.change_map(&known, map);
        Ok(Outcome::DiskRegistered(disk.id))
    }

    pub(super) fn adopt_pgs(&mut self, pgs: &[Pg], slots: &[SlotFound]) -> Result<Outcome, Stop> {
        let known = self.map()?;
        let mut held = self.must_hold()?;
        let mut map = ClusterMap::clone(&known);
        if !slots.is_empty() {
            // Once the groups are settled, slots are what moves make of them.
            if held.has_pgs {
                return Err(Refusal::GroupsSettled.into());
            }
            self.settle_slots(&mut map, slots)?;
            self.change_map(&known, map);
            return Ok(Outcome::Done);
        }
        for pg in pgs.iter().filter(|pg| known.pg(pg.id).is_none()) {
            if pg.id.0 as usize != map.pgs.len() || pg.id.0 >= PGS_MAX || !is_group(&map, pg) {
                return Err(Refusal::InvalidCommand.into());
            }
            map.pgs.push(pg.clone());
        }
        held.has_pgs = true;
        self.tables.set(held::KEY, &held)?;
        self.add_pgs(&mut map)?;
        self.change_map(&known, map);
        Ok(Outcome::Done)
    }

    /// Adds the groups that writes need, unless there may be some on the disks whose numbers these
    /// would take. Tables from a backup don't let writes wait for that, though, once every disk is
    /// up or out: with the same disks the same groups come out as did then. While one is down, its
    /// node may only be starting yet, and groups without it would be others.
    pub(super) fn add_pgs(&mut self, map: &mut ClusterMap) -> Result<(), StateError> {
        let may_add = match self.held()? {
            Some(held) if !held.has_pgs => {
                let is_settled = map.disks.iter().all(|disk| disk.state != DiskState::Down);
                !held.from_shards && is_settled && map.open_pgs(&[]).is_empty()
            }
            Some(_) | None => true,
        };
        if may_add {
            let more = placement::pgs_to_add(map);
            map.pgs.extend(more);
        }
        Ok(())
    }

    /// The number that a new disk must be above, besides those in the map.
    pub(super) fn disks_reserved(&mut self) -> Result<u32, StateError> {
        Ok(self.held()?.map_or(0, |held| held.disks.0))
    }

    pub(super) fn release_held(&mut self, until: SessionId) -> Result<Outcome, Stop> {
        match self.held()? {
            None => Ok(Outcome::Done),
            Some(held) if held.until() == until => {
                self.tables.remove(TableId::Counters, held::KEY)?;
                Ok(Outcome::Done)
            }
            Some(_) => Err(Refusal::NotHeld.into()),
        }
    }
}

fn check_body(adopt: &AdoptObject) -> Result<(), Stop> {
    check_key(&adopt.key)?;
    let size = adopt.parts.iter().try_fold(0u64, |sum, part| sum.checked_add(part.size));
    let is_upload = adopt.parts.first().is_some_and(|part| part.number > 0);
    let is_ordered = adopt.parts.windows(2).all(|two| two[0].number < two[1].number);
    let has_record = adopt.record.is_some();
    let is_valid = size == Some(adopt.size)
        && (adopt.size > 0 || has_record)
        && adopt.parts.iter().all(Part::is_valid)
        && (has_record || adopt.parts.iter().all(|part| !part.extents.is_empty()))
        && adopt.record.as_ref().is_none_or(Extent::is_valid)
        && is_ordered
        && (is_upload || adopt.parts.len() == 1 || (has_record && adopt.parts.is_empty()))
        && adopt.parts.len() <= PARTS_MAX as usize
        && adopt.parts.iter().all(|part| u32::from(part.number) <= PARTS_MAX);
    if !is_valid {
        return Err(Refusal::InvalidCommand.into());
    }
    if adopt.size > OBJECT_BYTES_MAX {
        return Err(Refusal::ObjectTooLarge.into());
    }
    Ok(())
}

/// Whether a group can be one of this map.
pub(super) fn is_group(map: &ClusterMap, pg: &Pg) -> bool {
    let mut seen = HashSet::new();
    pg.disks.len() == usize::from(pg.coding.width())
        && pg
            .disks
            .iter()
            .filter(|disk| **disk != NO_DISK)
            .all(|disk| map.disk(*disk).is_some() && seen.insert(*disk))
}
