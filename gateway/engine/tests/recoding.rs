//! Objects get another coding while they are read, overwritten, copied and deleted, whenever the worker
//! dies.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use engine::{Engine, EngineOptions, Metadata, ObjectReader};
use metadata::session::Writer;
use model::class::{RecodeOrder, RecodePage, SetRecode};
use model::coding::Coding;
use model::command::{Command, Outcome};
use model::extent::Extent;
use model::ids::{ExtentId, PgId, SessionId};
use model::names::ClassName;
use model::query::{Answer, MetadataError, PlanWanted, Query};
use model::version::ObjectHeaders;
use wire::BoxFuture;

use crate::cluster::never_worse::NeverWorse;
use crate::cluster::whole::{Seen, Whole, headers};
use crate::cluster::{body, bucket, key, repairing};

fn class(name: &str) -> ClassName {
    ClassName::parse(name).expect("valid")
}

fn coding(text: &str) -> Coding {
    Coding::parse(text).expect("valid")
}

/// Recodes at once; what it leaves is kept for readers.
fn recoding() -> EngineOptions {
    EngineOptions {
        recode_interval: Some(Duration::from_millis(20)),
        garbage_delay: Duration::from_hours(1),
        // What is written while the machine is slow may lack a shard, which is repaired first.
        ..repairing()
    }
}

/// Nothing is recoded.
fn idle() -> EngineOptions {
    EngineOptions { recode_interval: None, ..recoding() }
}

async fn with_classes(options: EngineOptions) -> Whole {
    let whole = Whole::with(6, "4+2", options).await;
    whole.make_bucket().await;
    for (name, k_and_m) in [("MIRROR", "1+2"), ("LEAN", "2+1")] {
        let coding = Some(coding(k_and_m));
        let set = Command::SetStorageClass { name: class(name), coding };
        assert_eq!(whole.order(set).await, Outcome::Done);
    }
    whole
}

/// Gives the bucket a class and orders that what it holds gets it.
async fn order(whole: &Whole, name: &str) {
    let set = Command::SetBucketClass { bucket: bucket(), class: class(name) };
    assert_eq!(whole.order(set).await, Outcome::Done);
    let order = Some(RecodeOrder::new(class(name)));
    let set = SetRecode { bucket: bucket(), known: None, order };
    assert_eq!(whole.order(Command::SetRecode(set)).await, Outcome::Done);
    whole.engine.newest_cluster_map().await.expect("asked");
    whole.engine.wake_recode();
}

async fn pending(whole: &Whole) -> Option<RecodeOrder> {
    match whole.query(Query::Bucket { name: bucket() }).await {
        Answer::Bucket(bucket) => bucket.recode,
        answer => panic!("no bucket: {answer:?}"),
    }
}

async fn until_recoded(whole: &Whole, engine: &Engine) {
    for _ in 0..12_000 {
        if pending(whole).await.is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (progress, jobs) = (engine.recode_progress(), engine.leased_jobs());
    panic!("never recoded: {:?} {progress:?} {jobs:?}", pending(whole).await);
}

/// What isn't as this class would have it.
async fn left(whole: &Whole, name: &str) -> RecodePage {
    let class = Some(class(name));
    let query = Query::ToRecode { bucket: bucket(), after: String::new(), limit: 1000, class };
    match whole.query(query).await {
        Answer::ToRecode(page) => page,
        answer => panic!("no page: {answer:?}"),
    }
}

async fn extents(whole: &Whole, name: &str) -> Vec<Extent> {
    let found = whole.engine.open(bucket(), key(name), PlanWanted::Whole).await.expect("opened");
    found.extents.into_iter().map(|planned| planned.extent).collect()
}

/// What is seen, but for the storage class.
async fn seen(whole: &Whole) -> Vec<Seen> {
    let classless =
        |seen: Seen| Seen { headers: ObjectHeaders { class: None, ..seen.headers }, ..seen };
    whole.seen().await.into_iter().map(classless).collect()
}

/// Objects of all kinds.
async fn fill(whole: &Whole) {
    whole.put("large", &body(9 << 20), headers(3)).await;
    whole.put("small", &body(5000), headers(3)).await;
    whole.put("told", &body(70_000), headers(1900)).await;
    whole.put("empty", &Bytes::new(), headers(3)).await;
    whole.copy("large", "copied", Some(headers(5))).await;
    whole.copy("copied", "twice", None).await;
    let upload = whole.begin_upload("joined").await;
    let mut parts = Vec::new();
    for (number, size) in [(1u16, 5 << 20), (2, 6 << 20), (5, 1000)] {
        let md5 = whole.put_part("joined", upload, number, &body(size)).await;
        parts.push((number, size as u64, md5));
    }
    whole.complete("joined", upload, &parts).await;
}

async fn read(reader: &mut ObjectReader) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(chunk) = reader.next().await {
        bytes.extend_from_slice(&chunk.expect("readable"));
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_goes_from_class_to_class_and_back() {
    let mut whole = with_classes(recoding()).await;
    fill(&whole).await;
    let before = seen(&whole).await;
    let modified = whole.version("joined").await.modified;
    let watch = NeverWorse::new(whole.client(), &whole.disks);
    // Begun before, ended after: what it reads is kept as long as what was deleted.
    let found = whole.engine.open(bucket(), key("large"), PlanWanted::Whole).await.expect("opened");
    let mut old_reader = whole.engine.reader(&found);
    let first = old_reader.next().await.expect("some").expect("readable");
    for (name, k_and_m) in [("MIRROR", "1+2"), ("LEAN", "2+1"), ("STANDARD", "4+2")] {
        assert_eq!(left(&whole, name).await.keys.len(), before.len(), "{name}");
        order(&whole, name).await;
        until_recoded(&whole, &whole.engine).await;
        assert_eq!(left(&whole, name).await, RecodePage::default(), "{name}");
        assert_eq!(seen(&whole).await, before, "{name}");
        for object in &before {
            let version = whole.version(&object.name).await;
            let label = Some(class(name)).filter(|class| !class.is_standard());
            assert_eq!(version.headers.class, label, "{}", object.name);
            let codings = extents(&whole, &object.name).await.into_iter().map(|one| one.coding);
            assert!(codings.into_iter().all(|one| one == coding(k_and_m)), "{}", object.name);
        }
    }
    assert_eq!(whole.version("joined").await.modified, modified);
    let rest = read(&mut old_reader).await;
    assert_eq!([&first[..], &rest].concat(), body(9 << 20), "an old reader ends well");
    watch.finish().await;
    // What was recoded can be told from the disks alone, by the records that were written anew.
    whole.lose_metadata().await;
    whole.recover().await.expect("recovered");
    assert_eq!(seen(&whole).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_go_on_while_a_bucket_is_recoded() {
    let whole = with_classes(recoding()).await;
    for number in 0..40 {
        whole.put(&format!("object-{number:02}"), &body(300_000 + number), headers(3)).await;
    }
    order(&whole, "MIRROR").await;
    for number in 0..10 {
        whole.put(&format!("object-{number:02}"), &body(900_000 + number), headers(4)).await;
        whole.delete(&format!("object-{:02}", number + 10)).await;
        let (from, to) = (format!("object-{:02}", number + 20), format!("copy-{number:02}"));
        // A copy whose source is recoded meanwhile is told so, and asked for again.
        let copied = copy(&whole, &from, &to).await;
        assert!(copied, "{from}");
    }
    until_recoded(&whole, &whole.engine).await;
    for object in seen(&whole).await {
        let number: usize = object.name.split('-').nth(1).expect("a number").parse().expect("one");
        let length = match (object.name.starts_with("copy"), number) {
            (true, number) => 300_020 + number,
            (false, number) if number < 10 => 900_000 + number,
            (false, number) => 300_000 + number,
        };
        assert_eq!(object.size, length as u64, "{}", object.name);
        assert!(!(10..20).contains(&number) || object.name.starts_with("copy"));
        let is_mirrored = |extent: &Extent| extent.coding == coding("1+2");
        assert!(extents(&whole, &object.name).await.iter().all(is_mirrored), "{}", object.name);
        let found = whole.engine.open(bucket(), key(&object.name), PlanWanted::Whole).await;
        let read = read(&mut whole.engine.reader(&found.expect("opened"))).await;
        assert!(read == body(length), "{}", object.name);
    }
    assert_eq!(left(&whole, "MIRROR").await, RecodePage::default());
}

/// A copy as the gateway makes it; the engine says when the source has another body by now.
async fn copy(whole: &Whole, from: &str, to: &str) -> bool {
    for _ in 0..8 {
        let source = whole.version(from).await;
        let copy = model::command::CopyObject {
            source: model::command::SourceObject {
                bucket: bucket(),
                key: key(from),
                manifest: source.manifest,
            },
            bucket: bucket(),
            key: key(to),
            manifest: whole.engine.new_manifest(),
            // As the gateway does it: the copy gets the class of its bucket.
            headers: Some(ObjectHeaders { class: None, ..source.headers }),
            condition: model::command::WriteCondition::Always,
            record: None,
        };
        match whole.engine.copy_object(copy).await {
            Ok(_) => return true,
            Err(engine::CommitError::Refused(model::command::Refusal::SourceChanged)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    false
}

/// Metadata as a worker sees it that dies at its n-th change of an object or an order: right before the
/// metadata hears of it, or right after.
struct Mortal {
    inner: Writer,
    lives: AtomicU64,
    /// Whether the last change is still done.
    is_done: bool,
    died: tokio::sync::Notify,
}

impl Metadata for Mortal {
    fn query(&self, query: Query) -> BoxFuture<'_, Result<Answer, MetadataError>> {
        Metadata::query(&self.inner, query)
    }

    fn propose(&self, command: Command) -> BoxFuture<'_, Result<Outcome, MetadataError>> {
        Box::pin(async move {
            if !matches!(command, Command::RecodeObject(_) | Command::SetRecode(_)) {
                return Metadata::propose(&self.inner, command).await;
            }
            let left = self
                .lives
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |lives| lives.checked_sub(1));
            match left {
                Ok(1) if self.is_done => {
                    Metadata::propose(&self.inner, command).await.expect("proposed");
                }
                Ok(1) | Err(_) => {}
                Ok(_) => return Metadata::propose(&self.inner, command).await,
            }
            self.died.notify_one();
            std::future::pending().await
        })
    }

    fn next_extent(&self, pg: PgId) -> BoxFuture<'_, Result<ExtentId, MetadataError>> {
        self.inner.next_extent(pg)
    }

    fn holder(&self) -> BoxFuture<'_, Result<SessionId, MetadataError>> {
        self.inner.holder()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_may_die_at_any_point() {
    let whole = with_classes(idle()).await;
    fill(&whole).await;
    let before = seen(&whole).await;
    let names = ["MIRROR", "LEAN"];
    for (round, name) in (0u64..8).zip(names.into_iter().cycle()) {
        order(&whole, name).await;
        let inner = Writer::open(Arc::clone(whole.client()), "worker").await.expect("opened");
        let mortal = Arc::new(Mortal {
            inner,
            lives: AtomicU64::new(round / 2 * 2 + 1),
            is_done: round % 2 == 0,
            died: tokio::sync::Notify::new(),
        });
        let worker: Engine = whole.engine_by(mortal.clone(), recoding());
        // Engines of tests draw the same numbers.
        for _ in 0..round * 1000 {
            let _ = worker.new_manifest();
        }
        tokio::time::timeout(Duration::from_mins(1), mortal.died.notified())
            .await
            .expect("it comes that far");
        // Two processes of one name would end each other's sessions.
        worker.shutdown().await;
        assert_eq!(seen(&whole).await, before, "{round}");
        // Whoever takes over goes on where it was.
        let successor = whole.engine_of("worker", recoding()).await;
        for _ in 0..round * 1000 + 500 {
            let _ = successor.new_manifest();
        }
        until_recoded(&whole, &successor).await;
        successor.shutdown().await;
        assert_eq!(left(&whole, name).await, RecodePage::default(), "{round}");
        assert_eq!(seen(&whole).await, before, "{round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_recoded_while_a_disk_is_down_and_one_bad_object_stops_no_other() {
    let whole = with_classes(recoding()).await;
    for name in ["a", "b", "c"] {
        whole.put(name, &body(200_000), headers(3)).await;
    }
    // Three shards of one object are lost: more than its parity makes up for.
    let bad = extents(&whole, "b").await.remove(0);
    let map = whole.map().await;
    for slot in 0..3 {
        let disk = map.disk_of(bad.id, slot).expect("in the map");
        whole.disks[disk.id.0 as usize - 1].lose(|id| id.extent == bad.id);
    }
    order(&whole, "MIRROR").await;
    let is_other = |extent: &Extent| extent.coding == coding("1+2");
    for name in ["a", "c"] {
        for _ in 0..2000 {
            if extents(&whole, name).await.iter().all(is_other) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(extents(&whole, name).await.iter().all(is_other), "{name}");
    }
    assert!(pending(&whole).await.is_some(), "what could not be done stays ordered");
    assert_eq!(left(&whole, "MIRROR").await.keys, [key("b")]);
    // It is written anew: then there is nothing left to do.
    whole.put("b", &body(100_000), headers(3)).await;
    whole.engine.wake_recode();
    until_recoded(&whole, &whole.engine).await;
}
