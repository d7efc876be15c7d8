//! Objects get another coding while they are read, overwritten, copied and deleted, whenever the worker
//! dies.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use engine::{Engine, EngineOptions, Metadata, ObjectReader, PartCommit, RecodePause, WriteTarget};
use metadata::session::Writer;
use model::class::{RecodeOrder, RecodePage, SetRecode};
use model::cluster_map::UpkeepWish;
use model::coding::Coding;
use model::command::{Command, Outcome};
use model::extent::Extent;
use model::ids::{ExtentId, PgId, SessionId};
use model::names::ClassName;
use model::query::{Answer, MetadataError, PlanWanted, Query};
use model::version::ObjectHeaders;
use wire::BoxFuture;

use crate::cluster::disk::Fault;
use crate::cluster::never_worse::NeverWorse;
use crate::cluster::whole::{Seen, Whole, digest, headers};
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
    for turn in 0..12_000 {
        if pending(whole).await.is_none() {
            return;
        }
        beat(whole, turn).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (progress, jobs) = (engine.recode_progress(), engine.leased_jobs());
    panic!("never recoded: {:?} {progress:?} {jobs:?}", pending(whole).await);
}

/// Every second or so, that no disk is taken for down while the machine is slow.
async fn beat(whole: &Whole, turn: u32) {
    if turn.is_multiple_of(200) {
        whole.heartbeat().await;
    }
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

/// Metadata as a worker sees it that asks for its changes of objects in vain until they are let through;
/// and counts.
struct Gate {
    inner: Writer,
    is_open: tokio::sync::watch::Sender<bool>,
    /// Objects, or steps of one, that are to be recoded.
    recoded: AtomicU64,
    /// How often the beginning of a bucket was looked at, and how often all buckets were.
    passes: AtomicU64,
    looks: AtomicU64,
}

impl Gate {
    async fn new(whole: &Whole, is_open: bool) -> Arc<Self> {
        let inner = Writer::open(Arc::clone(whole.client()), "worker").await.expect("opened");
        let is_open = tokio::sync::watch::Sender::new(is_open);
        let count = AtomicU64::default;
        Arc::new(Self { inner, is_open, recoded: count(), passes: count(), looks: count() })
    }
}

impl Metadata for Gate {
    fn query(&self, query: Query) -> BoxFuture<'_, Result<Answer, MetadataError>> {
        let count = match &query {
            Query::ToRecode { after, .. } if after.is_empty() => Some(&self.passes),
            Query::Buckets { .. } => Some(&self.looks),
            _ => None,
        };
        count.map(|count| count.fetch_add(1, Ordering::SeqCst));
        Metadata::query(&self.inner, query)
    }

    fn propose(&self, command: Command) -> BoxFuture<'_, Result<Outcome, MetadataError>> {
        Box::pin(async move {
            if matches!(command, Command::RecodeObject(_)) {
                self.recoded.fetch_add(1, Ordering::SeqCst);
                let mut is_open = self.is_open.subscribe();
                is_open.wait_for(|is_open| *is_open).await.expect("kept");
            }
            Metadata::propose(&self.inner, command).await
        })
    }

    fn next_extent(&self, pg: PgId) -> BoxFuture<'_, Result<ExtentId, MetadataError>> {
        self.inner.next_extent(pg)
    }

    fn holder(&self) -> BoxFuture<'_, Result<SessionId, MetadataError>> {
        self.inner.holder()
    }
}

async fn until(whole: &Whole, what: &str, done: impl Fn() -> bool) {
    for turn in 0..12_000 {
        if done() {
            return;
        }
        beat(whole, turn).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("waited in vain: {what}");
}

/// Recodes until the first object is about to be put in place, then has an operator pause it; how many
/// more are recoded. In the end all are.
async fn recoded_after_a_pause(whole: &Whole) -> u64 {
    let gate = Gate::new(whole, false).await;
    order(whole, "MIRROR").await;
    let worker = whole.engine_by(gate.clone(), recoding());
    until(whole, "begun", || gate.recoded.load(Ordering::SeqCst) > 0).await;
    let pause = async |is_paused: bool| {
        let known = whole.map().await.upkeep;
        let wish = UpkeepWish { is_paused, ..known };
        let set = Command::SetUpkeep { known, wish };
        assert_eq!(whole.order(set).await, Outcome::Done);
    };
    pause(true).await;
    worker.newest_cluster_map().await.expect("asked");
    gate.is_open.send_replace(true);
    until(whole, "paused", || worker.recode_progress().paused == Some(RecodePause::Operator)).await;
    let recoded = gate.recoded.load(Ordering::SeqCst);
    assert!(pending(whole).await.is_some(), "it is to go on");
    pause(false).await;
    until_recoded(whole, &worker).await;
    assert_eq!(left(whole, "MIRROR").await, RecodePage::default());
    worker.shutdown().await;
    recoded
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_holds_before_the_next_object() {
    let whole = with_classes(idle()).await;
    for number in 0..30 {
        whole.put(&format!("object-{number:02}"), &body(20_000 + number), headers(3)).await;
    }
    let recoded = recoded_after_a_pause(&whole).await;
    assert!(recoded <= 8, "only what was under way: {recoded}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_holds_before_the_next_step_of_an_object() {
    let whole = with_classes(idle()).await;
    let upload = whole.begin_upload("joined").await;
    let mut parts = Vec::new();
    for (number, of_class) in [(1u16, None), (2, Some(class("MIRROR"))), (3, None)] {
        let body = body(5 << 20);
        let target = WriteTarget {
            upload: Some(upload),
            part: number,
            checksum: None,
            class: of_class,
            ..whole.target("joined", &body)
        };
        let mut writer = whole.engine.writer(target);
        writer.write(body.clone()).await.expect("taken");
        let written = writer.finish().await.expect("written");
        let (md5, checksum) = digest(&body, None);
        let (bucket, key) = (bucket(), key("joined"));
        let commit = PartCommit { bucket, key, upload, number, md5, checksum };
        whole.engine.put_part(written, commit).await.expect("committed");
        parts.push((number, 5 << 20, md5));
    }
    whole.complete("joined", upload, &parts).await;
    // What is in between has the coding: two steps.
    assert_eq!(recoded_after_a_pause(&whole).await, 1);
    let is_other = |extent: &Extent| extent.coding == coding("1+2");
    assert!(extents(&whole, "joined").await.iter().all(is_other));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_recoded_is_looked_at_less_and_less_often() {
    let whole = with_classes(idle()).await;
    whole.put("bad", &body(200_000), headers(3)).await;
    let bad = extents(&whole, "bad").await.remove(0);
    for disk in &whole.disks {
        disk.lose(|id| id.extent == bad.id && id.slot < 3);
    }
    let gate = Gate::new(&whole, true).await;
    order(&whole, "MIRROR").await;
    let worker = whole.engine_by(gate.clone(), recoding());
    until(&whole, "tried", || worker.recode_progress().failures > 0).await;
    let looks = gate.looks.load(Ordering::SeqCst);
    until(&whole, "idle", || gate.looks.load(Ordering::SeqCst) > looks + 100).await;
    // One counts what there is to do. The rests are of 6, 12, 24, 48 intervals, and so on.
    let passes = gate.passes.load(Ordering::SeqCst);
    assert!(passes < 16, "{passes}");
    // Whoever gives an order has it looked at now.
    whole.put("bad", &body(100_000), headers(3)).await;
    worker.wake_recode();
    until_recoded(&whole, &worker).await;
    worker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recoding_waits_for_repairs_and_not_for_ever() {
    let whole = with_classes(recoding()).await;
    whole.put("short", &body(200_000), headers(3)).await;
    let short = extents(&whole, "short").await.remove(0);
    let disk = whole.map().await.disk_of(short.id, 0).expect("in the map").id;
    let disk = &whole.disks[disk.0 as usize - 1];
    disk.lose(|id| id.extent == short.id);
    // It says that it took what is repaired, and never has it.
    disk.set(Fault::Forgets);
    let found = whole.engine.open(bucket(), key("short"), PlanWanted::Whole).await.expect("opened");
    read(&mut whole.engine.reader(&found)).await;
    until(&whole, "found", || whole.engine.repair_progress().failures > 0).await;
    order(&whole, "MIRROR").await;
    let is_told = || whole.engine.recode_progress().paused == Some(RecodePause::RepairsWaiting);
    until(&whole, "told", is_told).await;
    until_recoded(&whole, &whole.engine).await;
}
