//! What is held is adopted: the state machine against a model.

use std::collections::{BTreeMap, BTreeSet};

use metadata::tables::{TableId, held};
use model::cluster_map::{ClusterMap, Disk, DiskState, Pg, Standing};
use model::coding::Coding;
use model::command::{
    Command, CommitObject, CompleteUpload, Outcome, PutPart, Refusal, WriteCondition,
};
use model::extent::{Extent, SlotSet};
use model::ids::{DiskId, DiskUuid, ExtentId, ManifestId, NodeId, PgId, SessionId, UploadId};
use model::names::BucketName;
use model::rebuild::NO_DISK;
use model::recovery::{AdoptObject, Held, SessionRange};
use model::time::Timestamp;
use model::upload::{PartReference, Upload};
use model::version::{ETag, ObjectHeaders, Part, Parts, Version};
use wire::entropy::{Entropy, SeededEntropy};

use crate::harness::{bucket, key};
use crate::model_apply::Bare;

/// Held, of a history whose one session is 1.
pub const HELD: u64 = 7;
pub const UNTIL: u64 = 1000;

pub fn what_is_held(has_pgs: bool, from_shards: bool) -> Held {
    Held {
        sessions: vec![SessionId(HELD)],
        ranges: vec![SessionRange { above: SessionId(100), until: SessionId(UNTIL) }],
        has_pgs,
        from_shards,
        disks: DiskId(50),
        ..Held::default()
    }
}

/// A state machine with something held.
pub fn restored() -> Bare {
    let mut bare = Bare::new();
    bare.memory.counters.session = UNTIL;
    // Not at the beginning of time, so that there is a before.
    bare.time = 1_000_000;
    bare.set(held::KEY, &what_is_held(true, false));
    bare
}

pub fn extent(session: u64, sequence: u32, length: u64) -> Extent {
    let id = ExtentId { pg: PgId(3), session: SessionId(session), sequence };
    let coding = Coding::parse("4+2").expect("valid");
    Extent { id, coding, length, missing: SlotSet::default(), epoch: 0 }
}

pub fn part(number: u16, extents: Vec<Extent>) -> Part {
    let size = extents.iter().map(|extent| extent.length).sum();
    Part { number, size, md5: [number as u8; 16], checksum: None, extents }
}

pub fn adoption(name: &str, manifest: u8, modified: u64, parts: Vec<Part>) -> AdoptObject {
    AdoptObject {
        bucket: bucket(),
        owner: "me".to_owned(),
        key: key(name),
        manifest: ManifestId([manifest; 16]),
        size: parts.iter().map(|part| part.size).sum(),
        etag: ETag { md5: [manifest; 16], parts: None },
        headers: ObjectHeaders { content_type: Some("a/b".to_owned()), ..Default::default() },
        checksum: None,
        parts,
        modified: Timestamp(modified),
        record: None,
    }
}

pub fn refused(refusal: Refusal) -> Outcome {
    Outcome::Refused(refusal)
}

pub fn adopt(bare: &mut Bare, adopt: &AdoptObject) -> Outcome {
    let before = bare.digests;
    let outcome = bare.apply(Command::AdoptObject(adopt.clone()));
    if matches!(outcome, Outcome::Refused(_)) {
        // The time goes on; nothing else may have changed.
        let tables = TableId::ALL.into_iter().filter(|table| *table != TableId::Counters);
        for table in tables {
            assert_eq!(bare.digests.0[table as usize], before.0[table as usize], "{adopt:?}");
        }
    }
    assert_eq!(bare.view().digests().expect("read"), bare.digests);
    outcome
}

pub fn version(bare: &Bare, name: &str) -> Option<Version> {
    let id = bare.memory.directory().buckets.get("bucket").expect("there").id;
    bare.view().get(&metadata::tables::versions::key(id, name)).expect("read")
}

#[test]
fn an_adopted_object_is_one_like_any_other() {
    let mut bare = restored();
    let lacking = Extent { missing: SlotSet(0b11), ..extent(HELD, 2, 50) };
    let whole = adoption("a", 1, 5000, vec![part(0, vec![extent(HELD, 1, 50), lacking.clone()])]);
    let done = adopt(&mut bare, &whole);
    let Outcome::Committed(committed) = &done else { panic!("{done:?}") };
    assert_eq!((committed.modified, committed.etag), (Timestamp(5000), whole.etag));
    assert_eq!(adopt(&mut bare, &whole), done, "once and again");
    let found = version(&bare, "a").expect("there");
    assert_eq!((found.size, &found.headers), (100, &whole.headers));
    assert_eq!(found.parts, Parts::Inline(whole.parts.clone()));
    assert_eq!(bare.queue(), BTreeMap::from([(lacking.id, (128, SlotSet(0b11)))]));
    assert_eq!((bare.memory.counters.objects, bare.memory.counters.object_bytes), (1, 100));
    // Deleted like any other, and not adopted once more.
    let condition = WriteCondition::Always;
    bare.apply(Command::DeleteObject { bucket: bucket(), key: key("a"), condition });
    assert_eq!(bare.garbage().len(), 2);
    assert_eq!(adopt(&mut bare, &whole), refused(Refusal::InvalidCommand));

    // Of an upload, with more parts than a version's row holds.
    let parts: Vec<Part> = (1..=40).map(|n| part(n, vec![extent(500, n.into(), 9)])).collect();
    let large = adoption("large", 2, 6000, parts.clone());
    let done = adopt(&mut bare, &large);
    assert!(matches!(done, Outcome::Committed(_)), "{done:?}");
    assert_eq!(adopt(&mut bare, &large), done);
    let found = version(&bare, "large").expect("there");
    assert!(matches!(found.parts, Parts::Paged(index) if index.count == 40));
    // A time to come is now.
    let late = adoption("late", 3, u64::MAX, vec![part(0, vec![extent(HELD, 9, 1)])]);
    adopt(&mut bare, &late);
    assert!(version(&bare, "late").expect("there").modified <= Timestamp(bare.time));
}

#[test]
fn a_bucket_that_is_not_there_is_made() {
    let mut bare = restored();
    let other = BucketName::parse("other").expect("valid");
    let mut one = adoption("a", 1, 1, vec![part(0, vec![extent(1, 1, 5)])]);
    one.bucket = other.clone();
    assert_eq!(adopt(&mut bare, &one), refused(Refusal::NotHeld), "its session is open");
    assert!(!bare.memory.directory().buckets.contains_key("other"));
    one.parts = vec![part(0, vec![extent(HELD, 1, 5)])];
    assert!(matches!(adopt(&mut bare, &one), Outcome::Committed(_)));
    let made = bare.memory.directory().buckets.get("other").cloned().expect("made");
    assert_eq!((made.owner.as_str(), made.name), ("me", other));
}

#[test]
fn what_is_not_held_or_not_well_formed_is_refused() {
    let mut bare = restored();
    let good = |session, sequence| vec![part(0, vec![extent(session, sequence, 5)])];
    let check = |bare: &mut Bare, parts: Vec<Part>, refusal: Refusal| {
        assert_eq!(adopt(bare, &adoption("a", 1, 9, parts)), refused(refusal));
    };
    for session in [0, 1, 2, HELD - 1, HELD + 1, 100, UNTIL + 1, u64::MAX] {
        check(&mut bare, good(session, 1), Refusal::NotHeld);
    }
    let invalid = Refusal::InvalidCommand;
    check(&mut bare, Vec::new(), invalid);
    check(&mut bare, vec![part(0, Vec::new())], invalid);
    check(&mut bare, vec![part(0, vec![extent(HELD, 1, 5), extent(HELD, 1, 5)])], invalid);
    let numbered = |n, sequence| part(n, vec![extent(HELD, sequence, 5)]);
    check(&mut bare, vec![numbered(0, 1), numbered(1, 2)], invalid);
    check(&mut bare, vec![numbered(2, 1), numbered(1, 2)], invalid);
    check(&mut bare, vec![numbered(3, 1), numbered(3, 2)], invalid);
    check(&mut bare, vec![numbered(10_001, 1)], invalid);
    let mut elsewhere = extent(HELD, 1, 5);
    elsewhere.id.pg = PgId(5000);
    check(&mut bare, vec![part(0, vec![elsewhere])], invalid);
    let coding = Coding::parse("3+2").expect("valid");
    check(&mut bare, vec![part(0, vec![Extent { coding, ..extent(HELD, 1, 5) }])], invalid);
    let missing = SlotSet(0b111);
    check(&mut bare, vec![part(0, vec![Extent { missing, ..extent(HELD, 1, 5) }])], invalid);
    let mut wrong_size = adoption("a", 1, 9, good(HELD, 1));
    wrong_size.size += 1;
    assert_eq!(adopt(&mut bare, &wrong_size), refused(invalid));
    // And once nothing is held any more, what would have been good is not.
    let wrong = Command::ReleaseHeld { until: SessionId(UNTIL - 1) };
    assert_eq!(bare.apply(wrong), refused(Refusal::NotHeld));
    assert_eq!(bare.apply(Command::ReleaseHeld { until: SessionId(UNTIL) }), Outcome::Done);
    check(&mut bare, good(HELD, 1), Refusal::NotHeld);
    let pgs = Command::AdoptPgs { pgs: Vec::new(), slots: Vec::new() };
    assert_eq!(bare.apply(pgs), refused(Refusal::NotHeld));
    assert_eq!(bare.apply(Command::ReleaseHeld { until: SessionId(1) }), Outcome::Done);
}

/// The newest body of each key stays, whatever the order in which they are adopted and written.
#[test]
fn in_any_order_the_newest_body_stays() {
    for seed in 0..30 {
        let entropy = SeededEntropy::new(seed);
        let mut bare = restored();
        let mut newest: BTreeMap<&str, (u64, u8)> = BTreeMap::new();
        let mut owned: BTreeSet<ExtentId> = BTreeSet::new();
        for number in 1..=60u8 {
            let name = ["a", "b", "c"][entropy.below(3) as usize];
            if entropy.below(8) == 0 {
                let part = part(0, vec![extent(1, number.into(), 5)]);
                let id = part.extents[0].id;
                let write = CommitObject {
                    bucket: bucket(),
                    key: key(name),
                    manifest: ManifestId([number; 16]),
                    size: 5,
                    etag: ETag { md5: [number; 16], parts: None },
                    headers: ObjectHeaders::default(),
                    checksum: None,
                    parts: vec![part],
                    condition: WriteCondition::Always,
                    record: None,
                };
                let done = bare.apply(Command::CommitObject(write));
                assert!(matches!(done, Outcome::Committed(_)), "{done:?}");
                newest.insert(name, (bare.time, number));
                owned.insert(id);
                continue;
            }
            let modified = 500_000 + entropy.below(400_000);
            let session = if entropy.below(2) == 0 { HELD } else { 101 + entropy.below(900) };
            let extents = vec![extent(session, number.into(), 5)];
            let id = extents[0].id;
            let adoption = adoption(name, number, modified, vec![part(0, extents)]);
            let outcome = adopt(&mut bare, &adoption);
            let is_newest = newest.get(name).is_none_or(|(known, _)| *known < modified);
            if is_newest {
                assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
                newest.insert(name, (modified, number));
                owned.insert(id);
            } else {
                assert_eq!(outcome, refused(Refusal::Superseded));
            }
        }
        for (name, (_, number)) in &newest {
            assert_eq!(version(&bare, name).expect("there").manifest, ManifestId([*number; 16]));
        }
        let known: BTreeSet<ExtentId> = bare.extents().into_keys().collect();
        assert_eq!(known, owned, "what was refused stays unknown, and so held");
        assert_eq!(bare.garbage().len(), owned.len() - newest.len());
        assert_eq!(bare.memory.counters.objects, newest.len() as u64);
    }
}

#[test]
fn parts_are_adopted_into_uploads_that_are_known() {
    let mut bare = restored();
    let upload = |id| Upload {
        id: UploadId([id; 16]),
        initiated: Timestamp(0),
        headers: ObjectHeaders::default(),
        checksum: None,
        owner: String::new(),
    };
    bare.apply(Command::CreateUpload { bucket: bucket(), key: key("u"), upload: upload(1) });
    let put = |id, number, session| PutPart {
        bucket: bucket(),
        key: key("u"),
        upload: UploadId([id; 16]),
        part: part(number, vec![extent(session, number.into(), 6 << 20)]),
        shared_with: None,
    };
    let adopt = |bare: &mut Bare, put: PutPart| bare.apply(Command::AdoptPart(put));
    assert_eq!(adopt(&mut bare, put(2, 1, HELD)), refused(Refusal::NoSuchUpload));
    assert_eq!(adopt(&mut bare, put(1, 1, 1)), refused(Refusal::NotHeld));
    assert_eq!(adopt(&mut bare, put(1, 0, HELD)), refused(Refusal::InvalidCommand));
    let done = adopt(&mut bare, put(1, 1, HELD));
    assert!(matches!(done, Outcome::Committed(_)), "{done:?}");
    assert_eq!(adopt(&mut bare, put(1, 1, HELD)), done);
    // One that is there stays.
    let again = PutPart { part: part(1, vec![extent(HELD, 77, 6 << 20)]), ..put(1, 1, HELD) };
    assert_eq!(adopt(&mut bare, again), done);
    assert_eq!(bare.extents().len(), 1);
    assert!(matches!(bare.apply(Command::PutPart(put(1, 2, 1))), Outcome::Committed(_)));
    let complete = CompleteUpload {
        bucket: bucket(),
        key: key("u"),
        upload: UploadId([1; 16]),
        parts: [1u16, 2]
            .map(|number| PartReference { number, md5: [number as u8; 16], checksum: None })
            .to_vec(),
        manifest: ManifestId([1; 16]),
        etag: ETag { md5: [5; 16], parts: Some(2) },
        size: 12 << 20,
        checksum: None,
        condition: WriteCondition::Always,
        record: None,
    };
    let done = bare.apply(Command::CompleteUpload(complete));
    assert!(matches!(done, Outcome::Committed(_)), "{done:?}");
    assert_eq!(bare.view().digests().expect("read"), bare.digests);
}

fn map(bare: &Bare) -> ClusterMap {
    ClusterMap::clone(bare.memory.directory().map.as_ref().expect("made"))
}

#[test]
fn disks_and_groups_come_back_under_their_numbers() {
    let mut bare = Bare::new();
    bare.set(held::KEY, &what_is_held(false, false));
    let known = map(&bare);
    let disk = |id: u32, uuid: u8| Disk {
        id: DiskId(id),
        uuid: DiskUuid([uuid; 16]),
        node: NodeId(1),
        rack: String::new(),
        zone: String::new(),
        weight: 1,
        state: DiskState::Up,
        path: String::new(),
        standing: Standing::default(),
    };
    let adopt = |bare: &mut Bare, disk: Disk| bare.apply(Command::AdoptDisk(disk));
    // Known by its uuid; another's number; above all that may come back; no number.
    let known_id = Outcome::DiskRegistered(DiskId(2));
    assert_eq!(adopt(&mut bare, disk(30, 2)), known_id);
    for id in [0, 3, 51, u32::MAX] {
        assert_eq!(adopt(&mut bare, disk(id, 99)), refused(Refusal::InvalidCommand));
    }
    assert_eq!(adopt(&mut bare, disk(9, 99)), Outcome::DiskRegistered(DiskId(9)));
    let ids: Vec<u32> = map(&bare).disks.iter().map(|disk| disk.id.0).collect();
    assert_eq!(ids, [1, 2, 3, 4, 5, 6, 9]);
    // A new one gets a number that none of them can have.
    let new = Command::RegisterDisk {
        uuid: DiskUuid([100; 16]),
        node: NodeId(1),
        rack: String::new(),
        zone: String::new(),
        weight: 1,
        path: String::new(),
    };
    assert_eq!(bare.apply(new), Outcome::DiskRegistered(DiskId(51)));
    assert_eq!(map(&bare).pgs, known.pgs, "no group is added before those of the disks are known");

    let next = known.pgs.len() as u32;
    let coding = known.coding;
    let group = |id: u32, disks: [u32; 6]| Pg::new(PgId(id), coding, disks.map(DiskId).to_vec());
    let pgs = |pgs: Vec<Pg>| Command::AdoptPgs { pgs, slots: Vec::new() };
    let invalid = refused(Refusal::InvalidCommand);
    let gap = group(next + 1, [1, 2, 3, 4, 5, 9]);
    assert_eq!(bare.apply(pgs(vec![gap])), invalid, "a gap");
    let twice = group(next, [1, 2, 3, 4, 5, 5]);
    assert_eq!(bare.apply(pgs(vec![twice])), invalid, "a disk twice");
    let unknown = group(next, [1, 2, 3, 4, 5, 40]);
    assert_eq!(bare.apply(pgs(vec![unknown])), invalid, "an unknown disk");
    let mut narrow = group(next, [1, 2, 3, 4, 5, 9]);
    narrow.disks.pop();
    assert_eq!(bare.apply(pgs(vec![narrow])), invalid, "too few");
    let all = vec![
        group(0, [9, 9, 9, 9, 9, 9]),
        group(next, [9, 5, 4, 3, 2, 1]),
        group(next + 1, [9, NO_DISK.0, NO_DISK.0, 3, 2, 1]),
    ];
    for _ in 0..2 {
        assert_eq!(bare.apply(pgs(all.clone())), Outcome::Done);
        let now = map(&bare);
        assert_eq!(now.pgs[..known.pgs.len()], known.pgs, "those that are known stay");
        assert_eq!(now.pgs[known.pgs.len()..known.pgs.len() + 2], all[1..]);
        assert!(!now.is_open(&now.pgs[known.pgs.len() + 1]));
    }
    // A disk that comes back now has lost its places to others; known ones stay known.
    assert_eq!(adopt(&mut bare, disk(10, 98)), refused(Refusal::GroupsSettled));
    assert_eq!(adopt(&mut bare, disk(9, 99)), Outcome::DiskRegistered(DiskId(9)));
}

#[test]
fn groups_are_only_added_when_writes_could_not_go_on() {
    for from_shards in [false, true] {
        let mut bare = Bare::new();
        bare.set(held::KEY, &what_is_held(false, from_shards));
        let known = map(&bare).pgs.len();
        let down = Command::SetDiskState { disk: DiskId(2), state: DiskState::Down };
        assert_eq!(bare.apply(down), Outcome::Done);
        assert_eq!(map(&bare).pgs.len(), known, "its node may only be starting yet");
        let out = Command::SetDiskState { disk: DiskId(2), state: DiskState::Out };
        assert_eq!(bare.apply(out), Outcome::Done);
        let added = map(&bare).pgs.len() - known;
        assert_eq!(added > 0, !from_shards, "{added} groups");
        assert_eq!(map(&bare).open_pgs(&[]).is_empty(), from_shards);
        bare.apply(Command::AdoptPgs { pgs: Vec::new(), slots: Vec::new() });
        assert!(!map(&bare).open_pgs(&[]).is_empty(), "from now on as always");
    }
}

pub fn with_record(adopt: AdoptObject, sequence: u32) -> AdoptObject {
    AdoptObject { record: Some(extent(HELD, sequence, 70)), ..adopt }
}

#[test]
fn a_record_may_name_one_extent_twice() {
    let mut bare = restored();
    let source = || vec![extent(HELD, 1, 50)];
    let parts = vec![part(1, source()), part(2, source())];
    let twice = with_record(adoption("a", 1, 5000, parts), 2);
    let done = adopt(&mut bare, &twice);
    assert!(matches!(done, Outcome::Committed(_)), "{done:?}");
    let references = |bare: &Bare| bare.extents()[&extent(HELD, 1, 50).id].references;
    assert_eq!(references(&bare), 2);
    let other = vec![part(1, source()), part(2, vec![extent(HELD, 1, 51)])];
    let differing = with_record(adoption("b", 2, 5000, other), 3);
    assert_eq!(adopt(&mut bare, &differing), refused(Refusal::InvalidCommand));
    let condition = WriteCondition::Always;
    bare.apply(Command::DeleteObject { bucket: bucket(), key: key("a"), condition });
    assert_eq!(bare.garbage().len(), 2, "the extent and the record");
}

#[test]
fn garbage_that_a_record_names_comes_back_and_is_not_collected_before() {
    let mut bare = restored();
    let shared = Extent { missing: SlotSet::default(), ..extent(HELD, 1, 50) };
    let whole = adoption("k", 1, 5000, vec![part(0, vec![shared.clone()])]);
    assert!(matches!(adopt(&mut bare, &whole), Outcome::Committed(_)));
    let noise = adoption("noise", 9, 5000, vec![part(0, vec![extent(HELD, 99, 50)])]);
    assert!(matches!(adopt(&mut bare, &noise), Outcome::Committed(_)));
    for name in ["noise", "k"] {
        let condition = WriteCondition::Always;
        bare.apply(Command::DeleteObject { bucket: bucket(), key: key(name), condition });
    }
    let collected = bare.garbage();
    assert_eq!(collected.len(), 2);
    assert_eq!(bare.apply(Command::CollectGarbage { collected: collected.clone() }), Outcome::Done);
    assert_eq!(bare.garbage(), collected, "nothing is collected while something is held");

    let twice = vec![part(1, vec![shared.clone()]), part(2, vec![shared.clone()])];
    let copy = with_record(adoption("l", 2, 6000, twice), 2);
    let done = adopt(&mut bare, &copy);
    assert!(matches!(done, Outcome::Committed(_)), "{done:?}");
    assert_eq!(bare.extents()[&shared.id].references, 2);
    let left: Vec<_> = bare.garbage().into_iter().map(|key| key.extent).collect();
    assert_eq!(left, [extent(HELD, 99, 50).id]);
    bare.apply(Command::ReleaseHeld { until: SessionId(UNTIL) });
    assert_eq!(bare.apply(Command::CollectGarbage { collected }), Outcome::Done);
    assert_eq!((bare.garbage().len(), bare.extents().len()), (0, 2));
}
