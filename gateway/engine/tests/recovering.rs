//! Recovery: the metadata is lost, or older than the disks, and found again by what lies on them.

use bytes::Bytes;
use engine::{IncompleteReason, RecoverError, RecoverPhase, RecoverProblem};
use model::ids::DiskId;
use model::query::{Answer, Query};
use model::time::Timestamp;
use model::upkeep::ExtentState;

use crate::cluster::disk::Fault;
use crate::cluster::whole::{Whole, headers};
use crate::cluster::{body, bucket, key, quick};

const MIB: usize = 1 << 20;

/// An object of each kind, none of which was ever replaced.
async fn put_all(cluster: &Whole) {
    cluster.make_bucket().await;
    cluster.put("small", &body(100), headers(5)).await;
    cluster.put("stripes", &body(9 * MIB + 5), headers(0)).await;
    cluster.put("exactly two stripes", &body(8 * MIB), headers(5)).await;
    cluster.put("empty", &Bytes::new(), headers(9)).await;
    cluster.put("long headers", &body(70_000), headers(2000)).await;
    let upload = cluster.begin_upload("of parts").await;
    let mut parts = Vec::new();
    for (number, size) in [(1, 5 * MIB), (3, 6 * MIB + 1), (7, 10)] {
        let md5 = cluster.put_part("of parts", upload, number, &body(size)).await;
        parts.push((number, size as u64, md5));
    }
    cluster.complete("of parts", upload, &parts).await;
    cluster.copy("small", "copy of small", None).await;
    cluster.copy("of parts", "copy of parts", Some(headers(3))).await;
    cluster.copy("empty", "copy of empty", None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everything_comes_back_when_all_metadata_is_lost() {
    let mut cluster = Whole::new(9, "4+2").await;
    put_all(&cluster).await;
    // A disk dies in the middle of a body, which goes on in another extent; and comes back.
    cluster.disks[3].set(Fault::DiesAfter(3));
    cluster.put("of several extents", &body(30 * MIB), headers(1)).await;
    let extents = cluster.query(Query::Object {
        bucket: bucket(),
        key: key("of several extents"),
        plan: model::query::PlanWanted::Whole,
    });
    let Answer::Object(found) = extents.await else { panic!("it was put") };
    cluster.disks[3].set(Fault::None);
    let before = cluster.seen().await;
    assert_eq!(before.len(), 10);
    assert_eq!(cluster.recover().await, Err(RecoverError::NothingHeld));

    cluster.lose_metadata().await;
    let figures = cluster.recover().await.expect("recovered");
    assert_eq!(figures.problems, []);
    assert_eq!((figures.phase, figures.adopted), (RecoverPhase::Done, 10));
    assert_eq!(figures.superseded + figures.without_headers + figures.misplaced_shards, 0);
    assert_eq!(cluster.seen().await, before, "{} extents", found.extents.len());

    // Again: everything is known.
    let again = cluster.recover().await.expect("recovered");
    assert_eq!((again.adopted, again.bodies, again.problems.len()), (0, 0, 0));
    assert_eq!(again.known_extents, again.extents);
    assert_eq!(cluster.seen().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_recovered_is_collected_with_its_records() {
    let mut cluster = Whole::new(6, "4+2").await;
    put_all(&cluster).await;
    cluster.lose_metadata().await;
    cluster.recover().await.expect("recovered");
    for object in cluster.seen().await {
        cluster.delete(&object.name).await;
    }
    // Not before: what isn't adopted yet may name it.
    let all = Query::Garbage { before: Timestamp(u64::MAX), limit: 10 };
    assert_eq!(cluster.query(all).await, Answer::Garbage(Vec::new()));
    cluster.release().await;
    cluster.restart(quick()).await;
    for _ in 0..1000 {
        if cluster.shards() == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{} shards are left", cluster.shards());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_newest_body_of_a_key_comes_back() {
    let mut cluster = Whole::new(6, "4+2").await;
    cluster.make_bucket().await;
    for (size, header) in [(100, 1), (5 * MIB, 2), (300, 3)] {
        cluster.put("bodies", &body(size), headers(header)).await;
        cluster.put("ends empty", &body(size), headers(header)).await;
    }
    cluster.put("ends empty", &Bytes::new(), headers(4)).await;
    cluster.put("begins empty", &Bytes::new(), headers(4)).await;
    cluster.put("begins empty", &body(10), headers(5)).await;
    let before = cluster.seen().await;
    cluster.lose_metadata().await;
    let figures = cluster.recover().await.expect("recovered");
    assert_eq!((figures.adopted, figures.superseded), (3, 2 + 3 + 1));
    assert_eq!(cluster.seen().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lost_shards_are_read_around_and_queued_for_repair() {
    let mut cluster = Whole::new(6, "4+2").await;
    put_all(&cluster).await;
    let before = cluster.seen().await;
    cluster.lose_metadata().await;
    for disk in [1, 4] {
        cluster.disks[disk].wipe();
    }
    let figures = cluster.recover().await.expect("recovered");
    assert_eq!((figures.adopted, figures.problems.len()), (9, 0));
    assert_eq!(cluster.seen().await, before);
    let Answer::Repairs(queue) = cluster.query(Query::Repairs { after: None, limit: 9 }).await
    else {
        panic!("no queue");
    };
    assert!(queue.total > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_not_whole_is_told_and_left_out() {
    let mut cluster = Whole::new(6, "4+2").await;
    cluster.make_bucket().await;
    cluster.put("whole", &body(100), headers(1)).await;
    cluster.put("lost", &body(9 * MIB), headers(1)).await;
    let lost = cluster.query(Query::Object {
        bucket: bucket(),
        key: key("lost"),
        plan: model::query::PlanWanted::Whole,
    });
    let Answer::Object(found) = lost.await else { panic!("it was put") };
    // A body whose client went away, half-way; and parts of an upload that was never completed.
    let whole = body(20 * MIB);
    let mut writer = cluster.engine.writer(cluster.target("half", &whole));
    writer.write(whole.slice(..12 * MIB)).await.expect("taken");
    let upload = cluster.begin_upload("parts").await;
    cluster.put_part("parts", upload, 1, &body(100)).await;
    let settled = cluster.shards();
    // What was written of it stays, as after a crash.
    std::mem::forget(writer);
    assert!(settled > 0);

    cluster.lose_metadata().await;
    let extent = found.extents[0].extent.id;
    for disk in &cluster.disks[..3] {
        disk.lose(|id| id.extent == extent && id.stripe == 1);
    }
    let figures = cluster.recover().await.expect("recovered");
    let names: Vec<String> = cluster.seen().await.into_iter().map(|object| object.name).collect();
    assert_eq!(names, ["whole"]);
    assert_eq!((figures.incomplete, figures.unfinished_uploads), (2, 1));
    let told = |name: &str, why: IncompleteReason| {
        figures.problems.iter().any(|problem| {
            matches!(problem, RecoverProblem::Incomplete { key, reason, .. }
                if key == name && *reason == why)
        })
    };
    assert!(told("lost", IncompleteReason::Lost), "{:?}", figures.problems);
    assert!(told("half", IncompleteReason::NoEnd), "{:?}", figures.problems);
    // Nothing of it may be collected: an operator may want it yet.
    let states = Query::ExtentStates { extents: vec![extent] };
    let Answer::ExtentStates(states) = cluster.query(states).await else { panic!("no states") };
    assert_eq!(states, [ExtentState::Held]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_a_backup_is_put_back_what_is_newer_is_adopted() {
    let mut cluster = Whole::new(6, "4+2").await;
    cluster.make_bucket().await;
    cluster.put("old", &body(100), headers(1)).await;
    cluster.put("replaced", &body(5 * MIB), headers(1)).await;
    let completed = cluster.begin_upload("completed").await;
    let first = cluster.put_part("completed", completed, 1, &body(5 * MIB)).await;
    let going_on = cluster.begin_upload("going on").await;
    let early = cluster.put_part("going on", going_on, 1, &body(5 * MIB)).await;
    let backup = cluster.backup().await;
    cluster.put("new", &body(200), headers(2)).await;
    cluster.put("replaced", &body(300), headers(3)).await;
    cluster.put("empty", &Bytes::new(), headers(3)).await;
    let second = cluster.put_part("completed", completed, 2, &body(30)).await;
    let parts = [(1, 5 * MIB as u64, first), (2, 30, second)];
    cluster.complete("completed", completed, &parts).await;
    cluster.copy("old", "copy", Some(headers(8))).await;
    let late = cluster.put_part("going on", going_on, 2, &body(40)).await;
    let before = cluster.seen().await;

    cluster.put_back(&backup).await;
    assert_eq!(cluster.seen().await.len(), 2);
    let figures = cluster.recover().await.expect("recovered");
    assert_eq!(figures.problems, []);
    assert_eq!((figures.adopted, figures.adopted_parts), (5, 1));
    assert_eq!(cluster.seen().await, before);
    // The upload that was completed is over; the other goes on.
    let upload = |name: &str, upload| Query::Upload { bucket: bucket(), key: key(name), upload };
    let over = cluster.query(upload("completed", completed)).await;
    assert!(matches!(over, Answer::Refused(_)), "{over:?}");
    let parts = [(1, 5 * MIB as u64, early), (2, 40, late)];
    cluster.complete("going on", going_on, &parts).await;
    assert_eq!(cluster.seen().await.len(), before.len() + 1);

    // Once it is released, nothing is recovered any more, and what nobody adopted may go.
    cluster.release().await;
    assert_eq!(cluster.recover().await, Err(RecoverError::NothingHeld));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_group_is_placed_anew_while_a_disk_is_away() {
    let mut cluster = Whole::new(9, "4+2").await;
    put_all(&cluster).await;
    let before = cluster.seen().await;
    cluster.lose_metadata().await;
    for fault in [Fault::Dead, Fault::KeepsSilent] {
        cluster.disks[2].set(fault);
        assert_eq!(cluster.recover().await, Err(RecoverError::DiskAway(DiskId(3))));
        assert_eq!(cluster.engine.cluster_map().await.expect("known").pgs.len(), 0);
    }
    cluster.disks_told = Some(10);
    assert_eq!(cluster.recover().await, Err(RecoverError::DiskUnknown(DiskId(10))));
    cluster.disks_told = None;
    assert_eq!(cluster.recover().await, Err(RecoverError::DisksNotTold));
    cluster.disks_told = Some(9);
    // It doesn't come back: whoever knows that says so.
    cluster.lost = vec![DiskId(3)];
    let figures = cluster.recover().await.expect("recovered");
    assert_eq!((figures.adopted, figures.incomplete, figures.unreadable), (9, 0, 0));
    assert_eq!(cluster.seen().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_disk_that_is_away_is_told_and_found_the_next_time() {
    let mut cluster = Whole::new(6, "4+2").await;
    cluster.make_bucket().await;
    cluster.put("object", &body(9 * MIB), headers(1)).await;
    let before = cluster.seen().await;
    cluster.lose_metadata().await;
    // Nothing is there to be found, and the groups are the first ones again.
    let wiped: Vec<_> = cluster.disks.iter().map(|disk| disk.wipe()).collect();
    assert_eq!(cluster.recover().await.expect("recovered").extents, 0);
    for (disk, shards) in cluster.disks.iter().zip(wiped) {
        disk.restore(shards);
    }
    for disk in &cluster.disks[..3] {
        disk.set(Fault::KeepsSilent);
    }
    let figures = cluster.recover().await.expect("it came to its end");
    assert_eq!((figures.adopted, figures.incomplete), (0, 1));
    let away = |problem: &&RecoverProblem| matches!(problem, RecoverProblem::DiskUnreached(_));
    assert_eq!(figures.problems.iter().filter(away).count(), 3);
    for disk in &cluster.disks[..3] {
        disk.set(Fault::None);
    }
    let figures = cluster.recover().await.expect("recovered");
    assert_eq!((figures.adopted, figures.problems.len()), (1, 0));
    assert_eq!(cluster.seen().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_copy_shares_outlives_its_source() {
    for is_overwritten_after in [false, true] {
        let mut cluster = Whole::new(6, "4+2").await;
        cluster.make_bucket().await;
        cluster.put("source", &body(5 * MIB), headers(1)).await;
        let backup = cluster.backup().await;
        cluster.copy("source", "copy", None).await;
        cluster.put("source", &body(300), headers(2)).await;
        let before = cluster.seen().await;
        cluster.put_back(&backup).await;
        if is_overwritten_after {
            // By a client, before the recovery: its newer body is the one that stays.
            cluster.put("source", &body(300), headers(2)).await;
        }
        let figures = cluster.recover().await.expect("recovered");
        assert_eq!(figures.problems, []);
        cluster.release().await;
        cluster.restart(quick()).await;
        let all = Query::Garbage { before: Timestamp(u64::MAX), limit: 10 };
        for _ in 0..1000 {
            if cluster.query(all.clone()).await == Answer::Garbage(Vec::new()) {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let now = cluster.seen().await;
        let of = |seen: &[crate::cluster::whole::Seen], name: &str| {
            seen.iter().find(|object| object.name == name).cloned()
        };
        assert_eq!(of(&now, "copy"), of(&before, "copy"));
        assert_eq!(now.len(), 2);
    }
}
