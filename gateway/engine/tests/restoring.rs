//! A backup is put back that is older than what was recoded or moved: what the tables name isn't where
//! they say, and everything is there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use engine::{EngineOptions, RecoverError};
use model::class::{RecodeOrder, SetRecode};
use model::cluster_map::ClusterMap;
use model::coding::Coding;
use model::command::{Command, Outcome};
use model::extent::Extent;
use model::ids::{ExtentId, PgId};
use model::names::ClassName;
use model::query::{Answer, PlanWanted, Query};
use model::version::ObjectHeaders;

use crate::cluster::disk::Fault;
use crate::cluster::whole::{Seen, Whole, headers};
use crate::cluster::{body, bucket, key, moving, quick, repairing};
use crate::rebalancing::scene::Scene;

const MIB: usize = 1 << 20;

async fn extents(whole: &Whole, name: &str) -> Vec<Extent> {
    let found = whole.engine.open(bucket(), key(name), PlanWanted::Whole).await.expect("opened");
    found.extents.into_iter().map(|planned| planned.extent).collect()
}

/// Waits until something in the background is done.
async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    for _ in 0..12_000 {
        if done().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("waited in vain: {what}");
}

/// Everything that there is to see, but for the storage class.
async fn seen(whole: &Whole) -> Vec<Seen> {
    let classless =
        |seen: Seen| Seen { headers: ObjectHeaders { class: None, ..seen.headers }, ..seen };
    whole.seen().await.into_iter().map(classless).collect()
}

/// Extents that disks have shards of.
fn on_disks(whole: &Whole) -> BTreeSet<ExtentId> {
    let shards = whole.disks.iter().flat_map(|disk| disk.owners());
    shards.map(|(id, _)| id.extent).collect()
}

/// Has the bucket recoded, and what was before deleted.
async fn recode(whole: &Whole, name: &str, known: &[&str]) {
    let class = ClassName::parse(name).expect("valid");
    let mut before = BTreeSet::new();
    for name in known {
        before.extend(extents(whole, name).await.into_iter().map(|extent| extent.id));
    }
    assert!(!before.is_empty());
    let set = Command::SetBucketClass { bucket: bucket(), class: class.clone() };
    assert_eq!(whole.order(set).await, Outcome::Done);
    let order = Some(RecodeOrder::new(class));
    let set = SetRecode { bucket: bucket(), known: None, order };
    assert_eq!(whole.order(Command::SetRecode(set)).await, Outcome::Done);
    whole.engine.newest_cluster_map().await.expect("asked");
    whole.engine.wake_recode();
    until("recoded", async || {
        let answer = whole.query(Query::Bucket { name: bucket() }).await;
        matches!(answer, Answer::Bucket(bucket) if bucket.recode.is_none())
    })
    .await;
    until("collected", async || on_disks(whole).is_disjoint(&before)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_recoded_after_the_backup_is_found_where_it_is() {
    let recoding = EngineOptions {
        recode_interval: Some(Duration::from_millis(20)),
        garbage_delay: Duration::ZERO,
        ..repairing()
    };
    for recoded_before in [false, true] {
        let mut whole = Whole::with(6, "4+2", recoding.clone()).await;
        whole.make_bucket().await;
        for (name, k_and_m) in [("MIRROR", "1+2"), ("LEAN", "2+1")] {
            let name = ClassName::parse(name).expect("valid");
            let coding = Some(Coding::parse(k_and_m).expect("valid"));
            let set = Command::SetStorageClass { name, coding };
            assert_eq!(whole.order(set).await, Outcome::Done);
        }
        whole.put("large", &body(9 * MIB), headers(3)).await;
        whole.put("small", &body(5000), headers(3)).await;
        whole.put("told", &body(70_000), headers(1900)).await;
        whole.put("empty", &Bytes::new(), headers(3)).await;
        whole.copy("large", "copied", Some(headers(5))).await;
        let upload = whole.begin_upload("joined").await;
        let mut parts = Vec::new();
        for (number, size) in [(1u16, 5 * MIB), (2, 6 * MIB), (5, 1000)] {
            let md5 = whole.put_part("joined", upload, number, &body(size)).await;
            parts.push((number, size as u64, md5));
        }
        whole.complete("joined", upload, &parts).await;
        let known = ["large", "small", "told", "copied", "joined"];
        if recoded_before {
            recode(&whole, "LEAN", &known).await;
        }
        let before = seen(&whole).await;
        let modified = whole.version("small").await.modified;
        let backup = whole.backup().await;
        recode(&whole, "MIRROR", &known).await;
        assert_eq!(seen(&whole).await, before);

        whole.put_back(&backup).await;
        let figures = whole.recover().await.expect("recovered");
        assert_eq!(figures.problems, []);
        assert_eq!(figures.adopted, before.len() as u64);
        assert_eq!(seen(&whole).await, before);
        assert_eq!(whole.version("small").await.modified, modified, "nobody wrote it");
        // Again, and with nothing held any more: it stays readable. Where a worker wrote a body twice, as
        // somebody else was faster, the other one may be taken now.
        let again = whole.recover().await.expect("recovered");
        assert_eq!(again.problems, []);
        assert_eq!(seen(&whole).await, before);
        whole.release().await;
        whole.restart(quick()).await;
        let garbage = Query::Garbage { before: model::time::Timestamp(u64::MAX), limit: 10 };
        until("collected", async || {
            whole.query(garbage.clone()).await == Answer::Garbage(Vec::new())
        })
        .await;
        assert_eq!(seen(&whole).await, before);
        whole.engine.shutdown().await;
    }
}

/// A cluster that grew to twice its disks after the backup, with objects of before and after.
struct Grown {
    whole: Whole,
    backup: Vec<u8>,
    /// The map of the backup.
    then: ClusterMap,
    objects: BTreeMap<String, Bytes>,
}

impl Grown {
    /// With what moves leave behind, or without.
    async fn new(is_cleared: bool) -> Self {
        let mut scene = Scene::new(6, "4+2").await;
        let backup = scene.whole.backup().await;
        let then = scene.map().await;
        for _ in 0..6 {
            scene.add_disk(10).await;
        }
        let stray_grace = if is_cleared { moving().stray_grace } else { Duration::from_hours(1) };
        scene.start_with("mover", EngineOptions { stray_grace, ..moving() }).await;
        scene.until("quiet", async |scene| scene.is_quiet().await).await;
        if is_cleared {
            scene.until("cleared", async |scene| scene.strays().await.is_empty()).await;
        }
        scene.whole.engine.newest_cluster_map().await.expect("asked");
        for number in 0..40 {
            scene.put(3000 + number * 30_000).await;
        }
        scene.kill_movers().await;
        let Scene { whole, watch, objects, .. } = scene;
        watch.finish().await;
        Self { whole, backup, then, objects }
    }

    /// How many slots of its group an extent has on other disks than the backup says.
    fn moved(&self, now: &ClusterMap, pg: PgId) -> Option<usize> {
        let (then, now) = (self.then.pg(pg)?, now.pg(pg)?);
        Some(then.disks.iter().zip(&now.disks).filter(|(then, now)| then != now).count())
    }

    /// Puts the backup back, and has the disks come back. More slots of some groups than they have
    /// parity moved, and what is newer lies there, too.
    async fn put_back(&mut self) {
        let now = self.whole.map().await;
        let mut beyond_parity = 0;
        for name in self.objects.keys() {
            let moved = extents(&self.whole, name).await;
            let moved = moved.iter().filter_map(|extent| self.moved(&now, extent.id.pg));
            beyond_parity += moved.filter(|moved| *moved > 2).count();
        }
        assert!(beyond_parity > 5, "{beyond_parity} extents couldn't be read by the old map");
        self.whole.put_back(&self.backup).await;
        self.whole.adopt_disks().await;
    }

    async fn put(&mut self, name: &str, size: usize) {
        self.whole.put(name, &body(size), headers(3)).await;
        self.objects.insert(name.to_owned(), body(size));
    }

    async fn is_readable(&self, name: &str) -> bool {
        let engine = &self.whole.engine;
        let found = engine.open(bucket(), key(name), PlanWanted::Whole).await.expect("opened");
        let mut reader = engine.reader(&found);
        let mut read = Vec::new();
        while let Some(chunk) = reader.next().await {
            let Ok(chunk) = chunk else { return false };
            read.extend_from_slice(&chunk);
        }
        assert!(read == self.objects[name][..], "{name} reads back as it was written");
        true
    }

    async fn check(&self) {
        for name in self.objects.keys() {
            assert!(self.is_readable(name).await, "{name}");
        }
    }

    /// Lets go of what is held, has everything repaired, cleared and collected, and looks again.
    async fn finish(mut self) {
        self.whole.release().await;
        self.whole.restart(moving()).await;
        until("readable", async || {
            for name in self.objects.keys() {
                if !self.is_readable(name).await {
                    return false;
                }
            }
            true
        })
        .await;
        until("whole", async || {
            let repairs = self.whole.query(Query::Repairs { after: None, limit: 1 }).await;
            matches!(repairs, Answer::Repairs(page) if page.total == 0)
        })
        .await;
        // Several times the grace of what is left over.
        tokio::time::sleep(moving().stray_grace * 4).await;
        self.check().await;
        // Any two disks may be lost.
        for disk in [0, 11] {
            self.whole.disks[disk].set(Fault::Dead);
        }
        self.check().await;
        self.whole.engine.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_moved_after_the_backup_is_found_where_it_is() {
    for is_cleared in [true, false] {
        let mut grown = Grown::new(is_cleared).await;
        let now = grown.whole.map().await;
        grown.put_back().await;
        let figures = grown.whole.recover().await.expect("recovered");
        assert_eq!(figures.problems, []);
        assert_eq!(figures.adopted, 40);
        assert!(figures.settled_slots > 10, "{}", figures.settled_slots);
        assert_eq!(figures.misplaced_shards + figures.brought_home, 0, "nothing has to be copied");
        grown.check().await;
        if is_cleared {
            // Every group that something was written to is as it was.
            let settled = grown.whole.map().await;
            for disk in &grown.whole.disks {
                for pg in disk.groups() {
                    let (now, settled) =
                        (now.pg(pg).expect("known"), settled.pg(pg).expect("known"));
                    let pairs = (0u8..).zip(now.disks.iter().zip(&settled.disks));
                    for (slot, (was, is)) in pairs {
                        let on_was = &grown.whole.disks[was.0 as usize - 1];
                        let has_any = on_was
                            .owners()
                            .iter()
                            .any(|(id, _)| id.extent.pg == pg && id.slot == slot);
                        assert!(was == is || !has_any, "slot {slot} of group {pg}");
                    }
                }
            }
        }
        assert_eq!(grown.whole.recover().await.expect("recovered").adopted, 0);
        grown.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_written_before_the_recovery_stays_readable() {
    let mut grown = Grown::new(true).await;
    grown.put_back().await;
    for number in 0..30 {
        grown.put(&format!("since-{number}"), 2000 + number * 20_000).await;
    }
    let figures = grown.whole.recover().await.expect("recovered");
    assert_eq!(figures.problems, []);
    assert_eq!(figures.adopted, 40);
    assert!(figures.settled_slots > 10 && figures.brought_home > 0, "{figures:?}");
    grown.check().await;
    grown.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_groups_that_are_settled_already_shards_are_brought_where_the_map_has_them() {
    let mut grown = Grown::new(true).await;
    grown.put_back().await;
    // As an older release does it, or a recovery before those disks came back.
    let groups = Command::AdoptPgs { pgs: Vec::new(), slots: Vec::new() };
    assert_eq!(grown.whole.order(groups).await, Outcome::Done);
    let before = grown.whole.map().await;
    // A disk that takes nothing is told of, and what it should have is there the next time.
    let full = &grown.whole.disks[..6];
    for disk in full {
        disk.set(Fault::Full);
    }
    let figures = grown.whole.recover().await.expect("it came to its end");
    assert_eq!(figures.settled_slots + figures.brought_home, 0);
    assert!(figures.misplaced_shards > 0 && figures.incomplete > 0, "{figures:?}");
    for disk in full {
        disk.set(Fault::None);
    }
    let first = figures.adopted;
    let figures = grown.whole.recover().await.expect("recovered");
    assert_eq!(figures.problems, []);
    assert_eq!(first + figures.adopted, 40);
    assert!(figures.brought_home > 0);
    let after = grown.whole.map().await;
    let known = before.pgs.len();
    assert_eq!(after.pgs[..known], before.pgs, "the map stays as it is");
    grown.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_slot_is_settled_while_a_disk_is_away() {
    let mut grown = Grown::new(true).await;
    grown.put_back().await;
    let before = grown.whole.map().await;
    grown.whole.disks[8].set(Fault::KeepsSilent);
    let disk = before.disks[8].id;
    assert_eq!(grown.whole.recover().await, Err(RecoverError::DiskAway(disk)));
    assert_eq!(grown.whole.map().await, before);
    grown.whole.disks[8].set(Fault::None);
    assert_eq!(grown.whole.recover().await.expect("recovered").adopted, 40);
    grown.check().await;
    grown.whole.engine.shutdown().await;
}
