//! Storage classes and recoding: what commands about them leave in the tables.

use std::collections::BTreeMap;

use metadata::tables::extents::ExtentRecord;
use metadata::tables::pages::{self, Page};
use metadata::tables::{TableId, Walk, garbage};
use model::class::{RecodeObject, RecodeOrder, RecodedPart, SetRecode};
use model::cluster_map::{ClusterMap, DiskState};
use model::coding::Coding;
use model::command::{
    Command, CommitObject, CompleteUpload, CopyObject, Outcome, PutPart, Refusal, SourceObject,
    WriteCondition,
};
use model::extent::{Extent, SlotSet};
use model::ids::{DiskId, ExtentId, ManifestId, SessionId, UploadId};
use model::names::ClassName;
use model::time::Timestamp;
use model::upload::{PartReference, Upload};
use model::version::{ETag, ObjectHeaders, Part, Parts, Version};

use crate::harness::{bucket, key};
use crate::model_apply::Bare;

const PART_BYTES: u64 = 5 << 20;

fn class(name: &str) -> ClassName {
    ClassName::parse(name).expect("valid")
}

fn coding(text: &str) -> Coding {
    Coding::parse(text).expect("valid")
}

fn refused(refusal: Refusal) -> Outcome {
    Outcome::Refused(refusal)
}

fn map(bare: &Bare) -> ClusterMap {
    ClusterMap::clone(bare.memory.directory().map.as_ref().expect("made"))
}

/// An extent of this coding that nobody used before.
fn extent(bare: &Bare, k_and_m: &str, sequence: u32, length: u64) -> Extent {
    let coding = coding(k_and_m);
    let map = map(bare);
    let pg = *map.open_pgs_of(coding, &[]).first().expect("open");
    assert_eq!(pg.coding, coding);
    let id = ExtentId { pg: pg.id, session: SessionId(1), sequence };
    Extent { id, coding, length, missing: SlotSet::default(), epoch: map.epoch }
}

fn with_mirror() -> Bare {
    let mut bare = Bare::new();
    let set = Command::SetStorageClass { name: class("MIRROR"), coding: Some(coding("1+2")) };
    assert_eq!(bare.apply(set), Outcome::Done);
    bare
}

fn put(bare: &mut Bare, name: &str, manifest: u8, extents: Vec<Extent>, headers: ObjectHeaders) {
    let size = extents.iter().map(|extent| extent.length).sum();
    let part = Part { number: 0, size, md5: [1; 16], checksum: None, extents };
    let done = bare.apply(Command::CommitObject(CommitObject {
        bucket: bucket(),
        key: key(name),
        manifest: ManifestId([manifest; 16]),
        size,
        etag: ETag { md5: [1; 16], parts: None },
        headers,
        checksum: None,
        parts: vec![part],
        condition: WriteCondition::Always,
        record: None,
    }));
    assert!(matches!(done, Outcome::Committed(_)), "{done:?}");
}

fn version(bare: &Bare, name: &str) -> Version {
    let id = bare.memory.directory().buckets.get("bucket").expect("there").id;
    let row = metadata::tables::versions::key(id, name);
    bare.view().get(&row).expect("read").expect("there")
}

fn record(bare: &Bare, extent: &Extent) -> ExtentRecord {
    bare.view().get(&extent.id.to_key()).expect("read").expect("there")
}

/// What waits to be deleted.
fn garbage_ids(bare: &Bare) -> Vec<ExtentId> {
    let mut found = Vec::new();
    let walked = bare.view().walk(TableId::Garbage, b"", b"", |row, _| {
        found.push(garbage::read_key(row).expect("a key").extent);
        Ok(Walk::On)
    });
    walked.expect("read");
    found
}

fn recode(
    version: &Version,
    name: &str,
    recoded: u8,
    parts: Vec<RecodedPart>,
    record: Option<Extent>,
) -> Command {
    Command::RecodeObject(RecodeObject {
        bucket: bucket(),
        key: key(name),
        manifest: version.manifest,
        recoded: ManifestId([recoded; 16]),
        class: class("MIRROR"),
        parts,
        record,
    })
}

#[test]
fn a_class_has_groups_of_its_own_and_stays_while_it_is_used() {
    let mut bare = with_mirror();
    let of = |bare: &Bare, k_and_m: &str| {
        map(bare).pgs.iter().filter(|pg| pg.coding == coding(k_and_m)).count()
    };
    assert_eq!((of(&bare, "4+2"), of(&bare, "1+2")), (100, 200));
    let use_class = |name: &str| Command::SetBucketClass { bucket: bucket(), class: class(name) };
    assert_eq!(bare.apply(use_class("GONE")), refused(Refusal::NoSuchClass));
    assert_eq!(bare.apply(use_class("MIRROR")), Outcome::Done);
    assert_eq!(map(&bare).coding_for("bucket", None), coding("1+2"));
    let remove = || Command::SetStorageClass { name: class("MIRROR"), coding: None };
    assert_eq!(bare.apply(remove()), refused(Refusal::ClassInUse));
    assert_eq!(bare.apply(use_class("STANDARD")), Outcome::Done);
    // With a disk away each class has a stop-gap: of its own coding where that still fits.
    bare.apply(Command::SetDiskState { disk: DiskId(1), state: DiskState::Down });
    let now = map(&bare);
    let best = |k_and_m: &str| now.open_pgs_of(coding(k_and_m), &[])[0].coding;
    assert_eq!((best("4+2"), best("1+2")), (coding("3+2"), coding("1+2")));
    let set =
        SetRecode { bucket: bucket(), known: None, order: Some(RecodeOrder::new(class("MIRROR"))) };
    assert_eq!(bare.apply(Command::SetRecode(set)), Outcome::Done);
    assert_eq!(bare.apply(remove()), refused(Refusal::ClassInUse));
    let standard = |coding| Command::SetStorageClass { name: ClassName::standard(), coding };
    assert_eq!(bare.apply(standard(None)), refused(Refusal::ClassInUse));
    assert_eq!(bare.apply(standard(Some(coding("2+2")))), Outcome::Done);
    assert_eq!(map(&bare).coding, coding("2+2"));
    assert_eq!(bare.view().digests().expect("read"), bare.digests);
    // A bucket that is gone uses nothing.
    bare.apply(use_class("MIRROR"));
    assert_eq!(bare.apply(Command::DeleteBucket { name: bucket() }), Outcome::Done);
    assert_eq!(bare.apply(remove()), Outcome::Done);
    assert_eq!(bare.apply(remove()), refused(Refusal::NoSuchClass));
}

#[test]
fn an_object_has_the_class_that_was_asked_for_or_its_bucket_s() {
    let mut bare = with_mirror();
    let labelled = |class: Option<&str>| ObjectHeaders {
        class: class.map(self::class),
        ..ObjectHeaders::default()
    };
    let mut sequence = 0;
    let mut label = |bare: &mut Bare, asked: Option<&str>| {
        sequence += 1;
        let body = vec![extent(bare, "4+2", sequence, 9)];
        put(bare, "k", sequence as u8, body, labelled(asked));
        version(bare, "k").headers.class.map(|class| class.as_str().to_owned())
    };
    assert_eq!(label(&mut bare, None), None);
    assert_eq!(label(&mut bare, Some("MIRROR")).as_deref(), Some("MIRROR"));
    bare.apply(Command::SetBucketClass { bucket: bucket(), class: class("MIRROR") });
    assert_eq!(label(&mut bare, None).as_deref(), Some("MIRROR"));
    assert_eq!(label(&mut bare, Some("STANDARD")), None);
    // One that was taken away meanwhile.
    assert_eq!(label(&mut bare, Some("GONE")).as_deref(), Some("MIRROR"));
}

#[test]
fn a_recoded_object_is_the_same_in_other_extents() {
    let mut bare = with_mirror();
    let old = vec![extent(&bare, "4+2", 1, 9), extent(&bare, "4+2", 2, 5)];
    put(&mut bare, "k", 1, old.clone(), ObjectHeaders::default());
    let before = version(&bare, "k");
    // A copy shares the extents: recoding the one takes new ones for it alone.
    let source = SourceObject { bucket: bucket(), key: key("k"), manifest: before.manifest };
    let copy = |manifest: u8, to: &str, source: SourceObject| {
        Command::CopyObject(CopyObject {
            source,
            bucket: bucket(),
            key: key(to),
            manifest: ManifestId([manifest; 16]),
            headers: None,
            condition: WriteCondition::Always,
            record: None,
        })
    };
    bare.apply(copy(2, "copy", source.clone()));
    let mut new = extent(&bare, "1+2", 3, 14);
    new.missing = SlotSet(1);
    let parts = |extent: &Extent| vec![RecodedPart { number: 0, extents: vec![extent.clone()] }];
    // What doesn't fit changes nothing.
    let digests = bare.digests;
    let short = Extent { length: 13, ..new.clone() };
    let wrong = recode(&before, "k", 3, parts(&short), None);
    assert_eq!(bare.apply(wrong), refused(Refusal::InvalidCommand));
    let elsewhere = vec![RecodedPart { number: 1, extents: vec![new.clone()] }];
    let wrong = recode(&before, "k", 3, elsewhere, None);
    assert_eq!(bare.apply(wrong), refused(Refusal::InvalidCommand));
    let late = Extent { id: ExtentId { session: SessionId(9), ..new.id }, ..new.clone() };
    let wrong = recode(&before, "k", 3, parts(&late), None);
    assert_eq!(bare.apply(wrong), refused(Refusal::SessionEnded));
    for table in [TableId::Versions, TableId::Extents, TableId::Garbage, TableId::Repair] {
        assert_eq!(bare.digests.0[table as usize], digests.0[table as usize]);
    }
    let command = recode(&before, "k", 3, parts(&new), None);
    assert_eq!(bare.apply(command.clone()), Outcome::Done);
    let after = version(&bare, "k");
    let same = Version {
        manifest: before.manifest,
        headers: before.headers.clone(),
        parts: before.parts.clone(),
        ..after.clone()
    };
    assert_eq!(same, before, "size, entity tag, time and checksum stay");
    assert_eq!(after.headers.class, Some(class("MIRROR")));
    let Parts::Inline(found) = &after.parts else { panic!("inline") };
    assert_eq!(found[0].extents, [new.clone()]);
    assert_eq!((record(&bare, &new).references, record(&bare, &new).lacking), (1, SlotSet(1)));
    assert_eq!(record(&bare, &old[0]).references, 1, "the copy has it still");
    assert!(garbage_ids(&bare).is_empty());
    // Again under another name it is done (I-5); what was read before doesn't count any more.
    assert_eq!(bare.apply(command), Outcome::Done);
    let other = extent(&bare, "1+2", 4, 14);
    let clash = recode(&before, "k", 3, parts(&other), None);
    assert_eq!(bare.apply(clash), refused(Refusal::SourceChanged), "not what was done");
    let outdated = recode(&before, "k", 4, parts(&other), None);
    assert_eq!(bare.apply(outdated), refused(Refusal::SourceChanged));
    assert_eq!(bare.apply(copy(5, "late", source)), refused(Refusal::SourceChanged));
    let copied = version(&bare, "copy");
    let command = recode(&copied, "copy", 6, parts(&other), None);
    assert_eq!(bare.apply(command), Outcome::Done);
    assert_eq!(garbage_ids(&bare), [old[0].id, old[1].id]);
    // Its class alone.
    let label = recode(&after, "k", 7, Vec::new(), None);
    assert_eq!(bare.apply(label), Outcome::Done);
    assert_eq!(version(&bare, "k"), after);
    bare.apply(Command::DeleteObject {
        bucket: bucket(),
        key: key("k"),
        condition: WriteCondition::Always,
    });
    let gone = recode(&after, "k", 8, parts(&extent(&bare, "1+2", 9, 14)), None);
    assert_eq!(bare.apply(gone), refused(Refusal::SourceChanged));
    assert_eq!(bare.view().digests().expect("read"), bare.digests);
}

#[test]
fn a_large_object_is_recoded_part_by_part() {
    let mut bare = with_mirror();
    let id = UploadId([1; 16]);
    let upload = Upload {
        id,
        initiated: Timestamp(0),
        headers: ObjectHeaders::default(),
        checksum: None,
        owner: String::new(),
    };
    bare.apply(Command::CreateUpload { bucket: bucket(), key: key("k"), upload });
    let mut old = BTreeMap::new();
    for number in 1..=300u16 {
        let extents = vec![extent(&bare, "4+2", u32::from(number), PART_BYTES)];
        old.insert(number, extents[0].clone());
        let part = Part { number, size: PART_BYTES, md5: [1; 16], checksum: None, extents };
        let (bucket, key) = (bucket(), key("k"));
        let put = PutPart { bucket, key, upload: id, part, shared_with: None };
        assert!(matches!(bare.apply(Command::PutPart(put)), Outcome::Committed(_)));
    }
    let record_of = |bare: &Bare, sequence| Some(extent(bare, "1+2", sequence, 500));
    let parts = (1..=300).map(|number| PartReference { number, md5: [1; 16], checksum: None });
    let first_record = extent(&bare, "4+2", 1000, 500);
    let done = bare.apply(Command::CompleteUpload(CompleteUpload {
        bucket: bucket(),
        key: key("k"),
        upload: id,
        parts: parts.collect(),
        manifest: ManifestId([1; 16]),
        etag: ETag { md5: [1; 16], parts: Some(300) },
        size: 300 * PART_BYTES,
        checksum: None,
        condition: WriteCondition::Always,
        record: Some(first_record.clone()),
    }));
    assert!(matches!(done, Outcome::Committed(_)), "{done:?}");
    let mut known = version(&bare, "k");
    for (round, numbers) in [(2u8, 1..=200u16), (3, 201..=300)] {
        let fresh = numbers.clone().map(|number| RecodedPart {
            number,
            extents: vec![extent(&bare, "1+2", 2000 + u32::from(number), PART_BYTES)],
        });
        let fresh: Vec<RecodedPart> = fresh.collect();
        let without = recode(&known, "k", round, fresh.clone(), None);
        assert_eq!(bare.apply(without), refused(Refusal::InvalidCommand), "it has a record");
        let record = record_of(&bare, 3000 + u32::from(round));
        let command = recode(&known, "k", round, fresh, record);
        assert_eq!(bare.apply(command), Outcome::Done);
        let after = version(&bare, "k");
        assert_eq!(
            (after.etag, after.modified, after.size),
            (known.etag, known.modified, known.size)
        );
        let mut found = Vec::new();
        for page in 0..2 {
            let row = pages::key(after.manifest, page);
            let page: Page = bare.view().get(&row).expect("read").expect("there");
            found.extend(page.parts);
            let gone: Option<Page> = bare.view().get(&pages::key(known.manifest, 0)).expect("read");
            assert_eq!(gone, None, "pages of the old name");
        }
        assert_eq!(found.len(), 300);
        for part in found {
            let is_recoded = part.number <= *numbers.end();
            assert_eq!(part.extents[0].coding == coding("1+2"), is_recoded, "{}", part.number);
        }
        known = after;
    }
    let garbage = garbage_ids(&bare);
    assert_eq!(garbage.len(), 302, "all parts, and two records");
    assert!(old.values().all(|extent| garbage.contains(&extent.id)));
    assert!(garbage.contains(&first_record.id));
    assert_eq!(bare.view().digests().expect("read"), bare.digests);
}

#[test]
fn an_order_is_changed_by_who_knows_it() {
    let mut bare = with_mirror();
    let order =
        |bare: &Bare| bare.memory.directory().buckets.get("bucket").expect("there").recode.clone();
    let set = |bare: &mut Bare, known, order| {
        bare.apply(Command::SetRecode(SetRecode { bucket: bucket(), known, order }))
    };
    let fresh = || Some(RecodeOrder::new(class("MIRROR")));
    let gone = Some(RecodeOrder::new(class("GONE")));
    assert_eq!(set(&mut bare, None, gone), refused(Refusal::NoSuchClass));
    assert_eq!(set(&mut bare, None, fresh()), Outcome::Done);
    let given = order(&bare).expect("there");
    assert_eq!((given.ordered > Timestamp(0), given.begun), (true, None));
    assert_eq!(set(&mut bare, None, None), refused(Refusal::RecodeChanged));
    let progress = RecodeOrder { cursor: "k".to_owned(), changed: 4, ..given.clone() };
    assert_eq!(set(&mut bare, Some(given.ordered), Some(progress.clone())), Outcome::Done);
    let told = order(&bare).expect("there");
    assert_eq!(told, RecodeOrder { begun: told.begun, ..progress });
    assert!(told.begun.is_some());
    let long = RecodeOrder { cursor: "k".repeat(1025), ..given.clone() };
    let refused_long = set(&mut bare, Some(given.ordered), Some(long));
    assert_eq!(refused_long, refused(Refusal::InvalidCommand));
    // Another class is another order, from its beginning.
    let back =
        Some(RecodeOrder { cursor: "z".to_owned(), ..RecodeOrder::new(ClassName::standard()) });
    assert_eq!(set(&mut bare, Some(given.ordered), back), Outcome::Done);
    let other = order(&bare).expect("there");
    assert!(other.ordered > given.ordered && other.cursor.is_empty());
    assert_eq!(set(&mut bare, Some(other.ordered), None), Outcome::Done);
    assert_eq!(order(&bare), None);
    assert_eq!(bare.view().digests().expect("read"), bare.digests);
}
