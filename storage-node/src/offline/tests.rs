//! Scenarios of the offline tools, on disks that a store has written.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::checksum::block_checksums;
use model::ids::{ClusterId, DiskId, DiskUuid, ExtentId, PgId, SessionId, ShardId};
use model::shard::ShardAppend;
use twox_hash::XxHash3_64;
use wire::clock::SystemClock;
use wire::disk::{Disk, DiskFile, DiskSpace, OpenMode, SimulatedDisk};

use super::*;
use crate::index::{Change, Checkpoint, INDEX_NAME, Index};
use crate::segment::segment_name;
use crate::{DiskIdentity, Store, StoreOptions};

const SUPERBLOCK: &str = "superblock";

fn identity() -> DiskIdentity {
    DiskIdentity { cluster: ClusterId([0xc1; 16]), disk: DiskId(7), uuid: DiskUuid([0xd2; 16]) }
}

fn open(disk: &SimulatedDisk) -> Store {
    let options = StoreOptions {
        segment_bytes: 16 << 10,
        index_cache_bytes: 1 << 20,
        ..StoreOptions::default()
    };
    let (clock, never) = (Arc::new(SystemClock::new()), Duration::from_hours(1));
    let disk = Arc::new(disk.clone());
    Store::open(disk, identity(), options, clock, never, Arc::default()).expect("opened")
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(work)
}

fn extent(sequence: u32) -> ExtentId {
    ExtentId { pg: PgId(sequence % 3), session: SessionId(1), sequence }
}

fn id(sequence: u32) -> ShardId {
    ShardId { extent: extent(sequence), stripe: 0, slot: 0 }
}

fn put(store: &Store, sequence: u32, length: usize) {
    let id = id(sequence);
    let payload = Bytes::from(vec![sequence as u8; length]);
    let shard = ShardAppend {
        id,
        coding: model::coding::Coding::new(1, 0).expect("valid"),
        stripe_bytes: length as u32,
        checksums: block_checksums(id, &payload).into(),
        payload,
        owner: Bytes::from(format!("owner of {sequence}")),
    };
    wait(store.append(vec![shard], true)).expect("appended");
}

/// Thirty shards over several segments, every third one deleted; closed.
fn example() -> SimulatedDisk {
    let disk = SimulatedDisk::new(1);
    let store = open(&disk);
    for sequence in 1..=30 {
        put(&store, sequence, 1000 + sequence as usize);
    }
    wait(store.delete((1..=10).map(|n| extent(3 * n)).collect())).expect("deleted");
    store.close();
    disk
}

fn live_ones() -> Vec<ShardId> {
    let mut ids: Vec<ShardId> = (1..=30).filter(|n| n % 3 != 0).map(id).collect();
    ids.sort_unstable();
    ids
}

/// A directory that must not be changed, with a page of one file that can't be read.
struct Untouchable {
    inner: Arc<dyn Disk>,
    bad: Option<(String, u64)>,
}

struct UntouchableFile {
    inner: Arc<dyn DiskFile>,
    bad: Option<u64>,
}

impl Disk for Untouchable {
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        assert_eq!(mode, OpenMode::Read, "{name} is opened for writing");
        let bad = self.bad.as_ref().filter(|(bad, _)| bad == name).map(|(_, page)| *page);
        Ok(Arc::new(UntouchableFile { inner: self.inner.open(name, mode)?, bad }))
    }
    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        panic!("{name} is removed")
    }
    fn rename(&self, from: &str, _: &str) -> io::Result<()> {
        panic!("{from} is renamed")
    }
    fn sync_directory(&self) -> io::Result<()> {
        panic!("the directory is synced")
    }
    fn subdirectory(&self, name: &str) -> io::Result<Arc<dyn Disk>> {
        panic!("{name} may be made")
    }
    fn space(&self) -> io::Result<DiskSpace> {
        self.inner.space()
    }
    fn is_present(&self) -> bool {
        true
    }
    fn path(&self) -> &Path {
        self.inner.path()
    }
}

impl DiskFile for UntouchableFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let end = offset + buffer.len() as u64;
        match self.bad {
            Some(page) if offset < (page + 1) * 4096 && end > page * 4096 => {
                Err(io::Error::other("the medium is bad"))
            }
            _ => self.inner.read_at(buffer, offset),
        }
    }
    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.read_at(buffer, offset).map(Some)
    }
    fn write_at(&self, _: &[IoSlice<'_>], _: u64) -> io::Result<()> {
        panic!("a write")
    }
    fn sync_data(&self) -> io::Result<()> {
        panic!("a sync")
    }
    fn forget_cached(&self, _: u64, _: u64) {}
    fn length(&self) -> io::Result<u64> {
        self.inner.length()
    }
    fn set_length(&self, _: u64) -> io::Result<()> {
        panic!("a cut")
    }
    fn allocate(&self, _: u64, _: u64) -> io::Result<()> {
        panic!("an allocation")
    }
}

fn shards(disk: &SimulatedDisk) -> Arc<dyn Disk> {
    disk.subdirectory("shards").expect("there")
}

fn untouchable(disk: &SimulatedDisk) -> Arc<dyn Disk> {
    Arc::new(Untouchable { inner: shards(disk), bad: None })
}

fn look(disk: &SimulatedDisk) -> Result<ShardsDirectory, OfflineError> {
    ShardsDirectory::open(untouchable(disk))
}

fn whole(disk: &SimulatedDisk) -> (ShardsDirectory, Survey) {
    let directory = look(disk).expect("a directory of shards");
    let seen = std::cell::Cell::new(0);
    let found = survey(&directory, Depth::Whole, &|bytes| seen.set(seen.get() + bytes));
    assert_eq!(seen.get(), directory.bytes());
    (directory, found.expect("surveyed"))
}

fn index_of(directory: &ShardsDirectory, survey: &Survey) -> IndexReport {
    report_index(directory, survey, Arc::new(SystemClock::new()))
}

/// Content of a file of the directory of shards.
fn content(disk: &SimulatedDisk, name: &str) -> Vec<u8> {
    let file = shards(disk).open(name, OpenMode::Read).expect("there");
    let mut bytes = vec![0; file.length().expect("length") as usize];
    file.read_exact_at(&mut bytes, 0).expect("read");
    bytes
}

fn overwrite(disk: &SimulatedDisk, name: &str, at: u64, bytes: &[u8]) {
    let file = shards(disk).open(name, OpenMode::Write).expect("there");
    file.write_at(&[IoSlice::new(bytes)], at).expect("written");
}

#[test]
fn a_survey_finds_what_the_store_serves() {
    let disk = example();
    let (directory, survey) = whole(&disk);
    assert_eq!(directory.identity(), identity());
    assert!(matches!(directory.superblock(), SuperblockState::Sound { .. }));
    assert!(survey.segments.len() > 2, "{} segments", survey.segments.len());
    assert_eq!(survey.live.keys().copied().collect::<Vec<_>>(), live_ones());
    assert_eq!(survey.findings, []);
    assert_eq!(survey.segments.iter().map(|s| s.records.tombstones).sum::<u64>(), 10);
    assert_eq!(survey.segments.iter().map(|s| s.live_shards).sum::<u64>(), 20);
    let index = index_of(&directory, &survey);
    assert!(index.agrees(), "{index:?}");
    assert!(matches!(index.state, IndexState::Usable(_)), "{index:?}");

    let headers = super::survey(&directory, Depth::Headers, &|_| {}).expect("surveyed");
    assert_eq!((&headers.live, &headers.segments), (&survey.live, &survey.segments));
}

#[test]
fn an_index_that_is_behind_or_gone_does_no_harm() {
    let disk = example();
    let store = open(&disk);
    put(&store, 31, 700);
    wait(store.delete(vec![extent(1)])).expect("deleted");
    store.abort();
    let (directory, survey) = whole(&disk);
    assert!(survey.live.contains_key(&id(31)) && !survey.live.contains_key(&id(1)));
    assert!(index_of(&directory, &survey).agrees());
    shards(&disk).remove(INDEX_NAME).expect("removed");
    let (directory, survey) = whole(&disk);
    let index = index_of(&directory, &survey);
    assert_eq!(index.state, IndexState::Absent);
    assert!(index.agrees(), "{index:?}");
}

#[test]
fn an_index_that_lies_is_told_and_made_anew() {
    let disk = example();
    let directory = shards(&disk);
    let (index, saved) = Index::open(&*directory, identity().uuid, 1 << 20).expect("opened");
    index.apply([Change::Shard(id(1), None)]);
    index.freeze();
    index.commit(&saved).expect("committed");
    index.close();
    drop(directory);
    let (directory, survey) = whole(&disk);
    let report = index_of(&directory, &survey);
    assert_eq!(report.difference_count, 1, "{report:?}");
    let difference = report.differences[0];
    assert_eq!((difference.id, difference.indexed), (id(1), None));

    let writable = ShardsDirectory::open(shards(&disk)).expect("a directory of shards");
    let rebuilt = rebuild_index(&writable, Arc::new(SystemClock::new()), &|_| {}).expect("rebuilt");
    assert_eq!((rebuilt.shards, rebuilt.damaged_regions), (20, 0));
    assert_eq!(rebuilt.missing, []);
    let (directory, survey) = whole(&disk);
    assert!(index_of(&directory, &survey).agrees());
    assert_eq!(open(&disk).report().shards, 20);
}

#[test]
fn a_damaged_index_is_told_and_made_anew() {
    let disk = example();
    let length = content(&disk, INDEX_NAME).len();
    overwrite(&disk, INDEX_NAME, 0, &vec![0xa5; length]);
    let (directory, survey) = whole(&disk);
    let report = index_of(&directory, &survey);
    assert!(matches!(report.state, IndexState::Unusable(_)), "{report:?}");
    assert!(report.agrees(), "the next start makes it anew: {report:?}");
    let writable = ShardsDirectory::open(shards(&disk)).expect("a directory of shards");
    let rebuilt = rebuild_index(&writable, Arc::new(SystemClock::new()), &|_| {}).expect("rebuilt");
    assert_eq!(rebuilt.shards, 20);
    let (directory, survey) = whole(&disk);
    assert!(matches!(index_of(&directory, &survey).state, IndexState::Usable(_)));
}

#[test]
fn damage_is_found_where_it_is() {
    let disk = example();
    let (_, before) = whole(&disk);
    let place = before.live[&id(2)];
    let name = segment_name(place.segment);
    // Content, then header, of a live shard's record.
    for (at, seen) in [(place.record_bytes - 20, true), (30, false)] {
        let at = place.offset + at;
        let byte = content(&disk, &name)[at as usize];
        overwrite(&disk, &name, at, &[byte ^ 4]);
        let (directory, survey) = whole(&disk);
        assert_eq!(survey.damage().count(), 1, "{:?}", survey.findings);
        let finding = survey.findings[0];
        assert_eq!((finding.segment, finding.offset), (place.segment, place.offset));
        let expected =
            if seen { FindingKind::Record { id: id(2), live: true } } else { FindingKind::Region };
        assert_eq!(finding.kind, expected);
        assert_eq!(survey.live.contains_key(&id(2)), seen);
        assert!(!seen || index_of(&directory, &survey).agrees());
        overwrite(&disk, &name, at, &[byte]);
    }
}

#[test]
fn a_missing_segment_and_a_cut_one_are_told() {
    let disk = example();
    let (_, before) = whole(&disk);
    let place = before.live[&id(2)];
    let directory = shards(&disk);
    let file = directory.open(&segment_name(place.segment), OpenMode::Write).expect("there");
    let length = file.length().expect("length");
    file.set_length(length - 8).expect("cut");
    let (_, survey) = whole(&disk);
    assert!(survey.damage().any(|f| f.kind == FindingKind::Cut), "{:?}", survey.findings);
    directory.remove(&segment_name(place.segment)).expect("removed");
    let (directory, survey) = whole(&disk);
    let report = index_of(&directory, &survey);
    assert_eq!(report.missing.len(), 1, "{report:?}");
    assert_eq!(report.missing[0].segment, place.segment);
    assert!(!report.agrees());
}

#[test]
fn a_torn_tail_is_no_damage() {
    let disk = example();
    let (_, before) = whole(&disk);
    let last = before.segments.last().expect("segments");
    overwrite(&disk, &segment_name(last.file.number), last.end, b"half a record");
    let (directory, survey) = whole(&disk);
    assert_eq!(survey.damage().count(), 0, "{:?}", survey.findings);
    let torn = survey.findings[0];
    assert_eq!((torn.kind, torn.offset), (FindingKind::TornTail, last.end));
    assert_eq!(survey.live, before.live);
    assert!(index_of(&directory, &survey).agrees());
}

#[test]
fn what_the_device_can_not_read_costs_no_more_than_that() {
    let disk = example();
    let (_, before) = whole(&disk);
    let place = before.live[&id(2)];
    let bad = (segment_name(place.segment), place.offset / 4096);
    let inner = shards(&disk);
    let broken = Untouchable { inner, bad: Some(bad) };
    let directory = ShardsDirectory::open(Arc::new(broken)).expect("a directory of shards");
    let survey = survey(&directory, Depth::Whole, &|_| {}).expect("surveyed");
    let unreadable = survey.damage().find(|finding| finding.kind == FindingKind::Unreadable);
    assert_eq!(unreadable.map(|finding| finding.bytes), Some(4096));
    let others = |survey: &Survey| {
        let elsewhere = survey.live.iter().filter(|(_, other)| other.segment != place.segment);
        elsewhere.map(|(id, _)| *id).collect::<Vec<_>>()
    };
    assert_eq!(others(&survey), others(&before));
}

#[test]
fn owners_are_given_for_every_live_extent() {
    let disk = example();
    let (directory, survey) = whole(&disk);
    let mut given = Vec::new();
    owners::<OfflineError>(&directory, &survey, &|_| {}, &mut |owner| {
        let expected = format!("owner of {}", owner.extent.sequence);
        assert_eq!(owner.sealed.as_deref(), Some(expected.as_bytes()));
        assert_eq!((owner.coding.to_string().as_str(), owner.shards.len()), ("1+0", 1));
        given.push(owner.shards[0].id);
        Ok(())
    })
    .expect("read");
    assert_eq!(given, live_ones());

    let place = survey.live[&id(2)];
    overwrite(&disk, &segment_name(place.segment), place.offset + 90, b"X");
    let (directory, survey) = whole(&disk);
    let mut damaged = Vec::new();
    owners::<OfflineError>(&directory, &survey, &|_| {}, &mut |owner| {
        damaged.extend(owner.sealed.is_none().then_some(owner.extent));
        Ok(())
    })
    .expect("read");
    assert_eq!(damaged, [extent(2)]);
}

#[test]
fn every_record_is_dumped_with_its_state() {
    let disk = example();
    let (directory, survey) = whole(&disk);
    let (mut live, mut dead, mut control) = (0, 0, 0);
    dump::<OfflineError>(&directory, &survey, None, true, &mut |record| {
        let checked = record.checked.expect("was asked for");
        assert!(checked.is_sound && checked.checksums.is_some());
        match record.state {
            RecordState::Live => live += 1,
            RecordState::Dead => dead += 1,
            RecordState::Control => control += 1,
        }
        Ok(())
    })
    .expect("dumped");
    assert_eq!((live, dead), (20, 10));
    assert!(control >= 10);
    let first = survey.segments[0].file.number;
    dump::<OfflineError>(&directory, &survey, Some(first), false, &mut |record| {
        assert_eq!((record.segment, record.checked), (first, None));
        Ok(())
    })
    .expect("dumped");
}

/// What seeds the checksums of a segment's records, as FORMAT.md has it.
fn seal_seed(segment: u64) -> u64 {
    let identity = identity();
    let parts = [&identity.cluster.0[..], &identity.uuid.0, &segment.to_le_bytes()];
    XxHash3_64::oneshot(&parts.concat())
}

/// Raises a version that is followed by a checksum, so that it passes for a newer format.
fn newer(bytes: &mut [u8], version_at: usize, checksum_at: usize, seed: u64) {
    bytes[version_at] = 9;
    let sum = XxHash3_64::oneshot_with_seed(seed, &bytes[..checksum_at]);
    bytes[checksum_at..checksum_at + 8].copy_from_slice(&sum.to_le_bytes());
}

#[test]
fn newer_formats_are_refused_and_nothing_is_changed() {
    let (_, survey) = whole(&example());
    let place = survey.live[&id(2)];
    let name = segment_name(place.segment);
    let seed = seal_seed(place.segment);
    let cases = [
        (SUPERBLOCK, 0, 128, 8, 0, "superblock version 9"),
        (name.as_str(), 0, 128, 8, 0, "format version 9"),
        (name.as_str(), place.offset as usize, 88, 4, seed, "record format version 9"),
    ];
    for (name, from, bytes, version_at, seed, because) in cases {
        let disk = example();
        let mut changed = content(&disk, name)[from..from + bytes].to_vec();
        newer(&mut changed, version_at, bytes - 8, seed);
        overwrite(&disk, name, from as u64, &changed);
        let names = shards(&disk).list().expect("names");
        let state: Vec<Vec<u8>> = names.iter().map(|name| content(&disk, name)).collect();
        let refused = match look(&disk) {
            Err(error) => error.to_string(),
            Ok(directory) => {
                let found = super::survey(&directory, Depth::Headers, &|_| {});
                found.expect_err("refused").to_string()
            }
        };
        assert!(refused.contains(because), "{refused}");
        assert!(refused.contains("newer"), "{refused}");
        // The store refuses it as well: without its index it reads every segment.
        let options = StoreOptions::default();
        let over = root::Root::new(Arc::new(overlay::Overlay::new(shards(&disk))), Arc::default());
        over.remove(INDEX_NAME).expect("removed in memory");
        let clock = Arc::new(SystemClock::new());
        let opened = Store::open(
            Arc::new(over),
            identity(),
            options,
            clock,
            Duration::from_hours(1),
            Arc::default(),
        );
        let refused = opened.err().expect("refused").to_string();
        assert!(refused.contains("version 9 is newer"), "{refused}");
        let now: Vec<Vec<u8>> = names.iter().map(|name| content(&disk, name)).collect();
        assert!(now == state && shards(&disk).list().expect("names") == names);
    }
}

#[test]
fn an_index_of_a_newer_version_is_no_index() {
    let checkpoint = Checkpoint { uuid: identity().uuid, segment: 1, offset: 128, position: 128 };
    let mut bytes = checkpoint.encode();
    assert_eq!(Checkpoint::decode(&bytes), Some(checkpoint));
    // A cache is made anew, whoever wrote it: the segments decide whether the disk may be opened.
    newer(&mut bytes, 20, Checkpoint::BYTES - 8, 0);
    assert_eq!(Checkpoint::decode(&bytes), None);
}

#[test]
fn wrong_directories_are_refused_by_what_is_wrong() {
    let empty = SimulatedDisk::new(1);
    assert!(matches!(look(&empty), Err(OfflineError::NotShards(_))));
    // A segment under another's name.
    let disk = example();
    shards(&disk).rename(&segment_name(1), &segment_name(99)).expect("renamed");
    assert!(matches!(look(&disk), Err(OfflineError::Foreign { number: 1, .. })));
    // Without its superblock the segments still say whose they are, and the tools go on.
    let disk = example();
    overwrite(&disk, SUPERBLOCK, 0, &[0; 128]);
    overwrite(&disk, SUPERBLOCK, 4096, &[0; 128]);
    let (directory, survey) = whole(&disk);
    assert_eq!(directory.superblock(), SuperblockState::Damaged);
    assert_eq!((directory.identity(), survey.live.len()), (identity(), 20));
    shards(&disk).remove(SUPERBLOCK).expect("removed");
    let (directory, survey) = whole(&disk);
    assert_eq!(directory.superblock(), SuperblockState::Missing);
    let report = index_of(&directory, &survey);
    assert!(report.refusal.is_some_and(|why| why.contains("no superblock")));
}

#[test]
fn a_rebuild_that_fails_leaves_the_old_index() {
    let disk = example();
    let store = open(&disk);
    put(&store, 40, 5000);
    store.abort();
    let before = content(&disk, INDEX_NAME);
    let directory = ShardsDirectory::open(shards(&disk)).expect("a directory of shards");
    let last = directory.segments().last().expect("a segment").number;
    let name = format!("shards/{}", segment_name(last));
    disk.break_sectors(&name, 128..5000).expect("there");
    let failed = rebuild_index(&directory, Arc::new(SystemClock::new()), &|_| {});
    assert!(matches!(failed, Err(RebuildError::Open(_))), "{failed:?}");
    assert_eq!(content(&disk, INDEX_NAME), before);
    disk.mend_sectors();
    rebuild_index(&directory, Arc::new(SystemClock::new()), &|_| {}).expect("rebuilt");
    let names = shards(&disk).list().expect("names");
    assert!(names.iter().all(|name| !name.contains("old")), "{names:?}");
    assert_eq!(open(&disk).report().shards, 21);
}
