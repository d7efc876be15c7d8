//! The extents of recovery records: kept and let go with the version that names them.

use std::sync::Arc;

use metadata::session::Writer;
use model::command::{
    Command, CommitObject, CompleteUpload, CopyObject, Outcome, PutPart, Refusal, SourceObject,
    WriteCondition,
};
use model::extent::{Extent, SlotSet};
use model::ids::{ExtentId, ManifestId, UploadId};
use model::query::{Answer, PlanWanted, Query};
use model::time::Timestamp;
use model::upkeep::ExtentState::{self, Garbage, InFlight, Owned};
use model::upload::{PartReference, Upload};
use model::version::{ETag, ObjectHeaders, Part};

use crate::harness::{TestCluster, bucket, create_bucket, key};

struct World {
    cluster: TestCluster,
    writer: Writer,
}

impl World {
    async fn new() -> Self {
        let cluster = TestCluster::new(1, 1).await;
        let writer = cluster.writer().await;
        create_bucket(&writer).await;
        Self { cluster, writer }
    }

    async fn extent(&self, length: u64) -> Extent {
        let map = self.cluster.map().await;
        let pg = map.open_pgs(&[])[0].clone();
        let session = self.writer.session().await.expect("open");
        let id = session.next_extent(pg.id).expect("left");
        Extent { id, coding: pg.coding, length, missing: SlotSet::default(), epoch: 0 }
    }

    async fn propose(&self, command: Command) -> Outcome {
        self.writer.propose(command).await.expect("proposed")
    }

    async fn states(&self, extents: &[&Extent]) -> Vec<ExtentState> {
        let extents: Vec<ExtentId> = extents.iter().map(|extent| extent.id).collect();
        match self.cluster.client.query(Query::ExtentStates { extents }).await.expect("answered") {
            Answer::ExtentStates(states) => states,
            other => panic!("{other:?}"),
        }
    }

    async fn record_of(&self, name: &str) -> Option<Extent> {
        let query = Query::Object { bucket: bucket(), key: key(name), plan: PlanWanted::Nothing };
        match self.cluster.client.query(query).await.expect("answered") {
            Answer::Object(found) => found.version.record,
            other => panic!("{other:?}"),
        }
    }
}

fn empty(name: &str, manifest: u8, record: Option<&Extent>) -> Command {
    Command::CommitObject(CommitObject {
        bucket: bucket(),
        key: key(name),
        manifest: ManifestId([manifest; 16]),
        size: 0,
        etag: ETag { md5: [1; 16], parts: None },
        headers: ObjectHeaders::default(),
        checksum: None,
        parts: Vec::new(),
        condition: WriteCondition::Always,
        record: record.cloned(),
    })
}

fn copy(from: u8, to: &str, manifest: u8, record: &Extent) -> Command {
    let source =
        SourceObject { bucket: bucket(), key: key("source"), manifest: ManifestId([from; 16]) };
    Command::CopyObject(CopyObject {
        source,
        bucket: bucket(),
        key: key(to),
        manifest: ManifestId([manifest; 16]),
        headers: None,
        condition: WriteCondition::Always,
        record: Some(record.clone()),
    })
}

fn delete(name: &str) -> Command {
    Command::DeleteObject { bucket: bucket(), key: key(name), condition: WriteCondition::Always }
}

fn is_committed(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Committed(_))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_goes_with_its_version() {
    let world = World::new().await;
    let (first, second, third) =
        (world.extent(50).await, world.extent(50).await, world.extent(50).await);
    assert!(is_committed(&world.propose(empty("source", 1, Some(&first))).await));
    // Again under another name: the same effect (I-5).
    assert!(is_committed(&world.propose(empty("source", 1, Some(&first))).await));
    assert_eq!(world.record_of("source").await.as_ref(), Some(&first));
    assert!(is_committed(&world.propose(copy(1, "copy", 2, &second)).await));
    assert_eq!(world.record_of("copy").await.as_ref(), Some(&second));
    assert_eq!(world.states(&[&first, &second, &third]).await, [Owned, Owned, InFlight]);
    assert!(is_committed(&world.propose(empty("source", 3, Some(&third))).await));
    assert_eq!(world.states(&[&first, &second, &third]).await, [Garbage, Owned, Owned]);
    for name in ["source", "copy"] {
        assert_eq!(world.propose(delete(name)).await, Outcome::Deleted { existed: true });
    }
    assert_eq!(world.states(&[&first, &second, &third]).await, [Garbage; 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_cannot_be_new_is_refused_and_changes_nothing() {
    let world = World::new().await;
    let record = world.extent(50).await;
    assert!(is_committed(&world.propose(empty("source", 1, Some(&record))).await));
    let invalid = Outcome::Refused(Refusal::InvalidCommand);
    assert_eq!(world.propose(empty("other", 2, Some(&record))).await, invalid);
    assert_eq!(world.propose(copy(1, "copy", 2, &record)).await, invalid);
    let too_long = Extent { length: u64::MAX, ..world.extent(1).await };
    assert_eq!(world.propose(copy(1, "copy", 2, &too_long)).await, invalid);
    let mut elsewhere = world.extent(1).await;
    elsewhere.id.pg = model::ids::PgId(u32::MAX);
    assert_eq!(world.propose(copy(1, "copy", 2, &elsewhere)).await, invalid);
    // Of a session that has ended: the caller must write it again.
    let late = world.extent(50).await;
    let again = Writer::open(Arc::clone(&world.cluster.client), "gateway").await.expect("opened");
    let outcome = again.propose(copy(1, "copy", 2, &late)).await;
    assert_eq!(outcome, Ok(Outcome::Refused(Refusal::SessionEnded)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_completed_upload_keeps_its_record() {
    let world = World::new().await;
    let upload = Upload {
        id: UploadId([7; 16]),
        initiated: Timestamp(0),
        headers: ObjectHeaders::default(),
        checksum: None,
        owner: "me".to_owned(),
    };
    let id = upload.id;
    let create = Command::CreateUpload { bucket: bucket(), key: key("parts"), upload };
    assert_eq!(world.propose(create).await, Outcome::Done);
    let body = world.extent(9).await;
    let part =
        Part { number: 1, size: 9, md5: [1; 16], checksum: None, extents: vec![body.clone()] };
    let (upload, shared_with) = (id, None);
    let put = PutPart { bucket: bucket(), key: key("parts"), upload, part, shared_with };
    assert!(is_committed(&world.propose(Command::PutPart(put)).await));
    let (record, unused) = (world.extent(50).await, world.extent(50).await);
    let complete = |manifest: u8, record: &Extent| {
        Command::CompleteUpload(CompleteUpload {
            bucket: bucket(),
            key: key("parts"),
            upload: id,
            parts: vec![PartReference { number: 1, md5: [1; 16], checksum: None }],
            manifest: ManifestId([manifest; 16]),
            etag: ETag { md5: [2; 16], parts: Some(1) },
            size: 9,
            checksum: None,
            condition: WriteCondition::Always,
            record: Some(record.clone()),
        })
    };
    assert!(is_committed(&world.propose(complete(1, &record)).await));
    // The same completion by another request is answered; what it wrote is nobody's.
    assert!(is_committed(&world.propose(complete(2, &unused)).await));
    assert_eq!(world.states(&[&body, &record, &unused]).await, [Owned, Owned, InFlight]);
    assert!(is_committed(&world.propose(empty("parts", 3, None)).await));
    assert_eq!(world.states(&[&body, &record]).await, [Garbage; 2]);
}
