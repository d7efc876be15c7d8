//! Writers that go by an old map: what they commit lacks the slots that moved, by the tables, at once.

use engine::{Engine, ObjectCommit, WrittenBody};
use model::command::{Refusal, WriteCondition};
use model::query::PlanWanted;

use super::scene::Scene;
use crate::cluster::whole::{digest, headers};
use crate::cluster::{body, bucket, key, quick};

/// Writes an object into the group of the largest extent, as if nothing had happened since; its commit
/// is left for later.
struct Stale {
    engine: Engine,
    name: &'static str,
    body: bytes::Bytes,
    written: Option<WrittenBody>,
    commit: Option<ObjectCommit>,
}

impl Stale {
    async fn write(scene: &Scene, name: &'static str, size: usize) -> Self {
        let engine = scene.whole.engine_of("stale", quick()).await;
        let body = body(size);
        let target = scene.whole.target(name, &body);
        let manifest = target.manifest;
        let mut writer = engine.writer(target);
        for chunk in body.chunks(1 << 20) {
            writer.write(body.slice_ref(chunk)).await.expect("taken");
        }
        let written = writer.finish().await.expect("written");
        let (md5, checksum) = digest(&body, Some(model::checksum::ChecksumAlgorithm::Crc64Nvme));
        let commit = ObjectCommit {
            bucket: bucket(),
            key: key(name),
            manifest,
            md5,
            headers: headers(1),
            checksum,
            condition: WriteCondition::Always,
        };
        Self { engine, name, body, written: Some(written), commit: Some(commit) }
    }

    fn group(&self) -> model::ids::PgId {
        self.written.as_ref().expect("written").extents()[0].id.pg
    }

    async fn commit(&mut self, scene: &mut Scene) -> Result<(), engine::CommitError> {
        let (written, commit) = (self.written.take(), self.commit.take());
        let (written, commit) = (written.expect("once"), commit.expect("once"));
        self.engine.put_object(written, commit).await?;
        scene.objects.insert(self.name.to_owned(), self.body.clone());
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_while_a_slot_moves_gets_there_before_the_move_ends() {
    let mut scene = Scene::new(8, "4+2").await;
    let mut stale = Stale::write(&scene, "stale", 5 << 20).await;
    let what = scene.move_in(stale.group(), 1).await;
    scene.begin(what).await;
    stale.commit(&mut scene).await.expect("taken");
    let lacking = scene.repairs().await;
    assert_eq!(lacking.len(), 1);
    assert!(lacking[0].extent.missing.contains(1), "{lacking:?}");
    scene.check("stale").await;
    scene.start().await;
    scene.until("moved", async |scene| scene.place(what).await == (what.to, None)).await;
    scene.settle().await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_after_a_slot_moved_is_repaired_there() {
    let mut scene = Scene::new(8, "4+2").await;
    let mut stale = Stale::write(&scene, "stale", 5 << 20).await;
    let what = scene.move_in(stale.group(), 1).await;
    scene.begin(what).await;
    scene.start().await;
    scene.until("moved", async |scene| scene.place(what).await == (what.to, None)).await;
    scene.kill_movers().await;
    stale.commit(&mut scene).await.expect("taken");
    let lacking = scene.repairs().await;
    assert!(lacking.iter().any(|item| item.extent.missing.contains(1)), "{lacking:?}");
    scene.check("stale").await;
    scene.start().await;
    scene.settle().await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_could_read_any_more_is_not_committed() {
    let mut scene = Scene::new(8, "2+1").await;
    let mut stale = Stale::write(&scene, "stale", 5 << 20).await;
    scene.start().await;
    for slot in [0, 2] {
        let what = scene.move_in(stale.group(), slot).await;
        scene.begin(what).await;
        scene.until("moved", async |scene| scene.place(what).await == (what.to, None)).await;
    }
    let refused = stale.commit(&mut scene).await;
    assert_eq!(refused, Err(engine::CommitError::Refused(Refusal::MovesOutdated)));
    let opened = scene.whole.engine.open(bucket(), key("stale"), PlanWanted::Nothing).await;
    assert!(opened.is_err());
    scene.settle().await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_with_an_old_map_reads_on() {
    let mut scene = Scene::new(8, "4+2").await;
    // Nobody tells it of the new map.
    let rarely = std::time::Duration::from_hours(1);
    let options = engine::EngineOptions { map_interval: rarely, ..quick() };
    let reader = scene.whole.engine_of("reader", options).await;
    reader.cluster_map().await.expect("a map");
    let old = std::mem::replace(&mut scene.whole.engine, reader);
    scene.start().await;
    let what = scene.a_move(0).await;
    scene.begin(what).await;
    scene.until("moved", async |scene| scene.place(what).await == (what.to, None)).await;
    scene.check_all().await;
    // Even when what it had there is gone.
    scene.until("cleared", async |scene| scene.strays().await.is_empty()).await;
    scene.check_all().await;
    old.shutdown().await;
    scene.finish().await;
}
