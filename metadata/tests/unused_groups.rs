//! Which placement groups nobody uses: told by what the extents' table holds, and never while it may
//! not know all.

use metadata::session::Writer;
use model::cluster_map::{ClusterMap, Pg};
use model::coding::Coding;
use model::command::{Command, CommitObject, Outcome, WriteCondition};
use model::extent::{Extent, SlotSet};
use model::ids::{ManifestId, PgId};
use model::names::ClassName;
use model::query::{Answer, Query};
use model::version::{ETag, ObjectHeaders, Part};

use crate::harness::{TestCluster, bucket, create_bucket, key, put};
use crate::restore::{backup_of, held, restore_all};

async fn unused(cluster: &TestCluster) -> Vec<PgId> {
    match cluster.client.query(Query::UnusedGroups).await.expect("answered") {
        Answer::UnusedGroups(pgs) => pgs,
        other => panic!("{other:?}"),
    }
}

async fn set(cluster: &TestCluster, class: &str, coding: Option<&str>) -> ClusterMap {
    let name = ClassName::parse(class).expect("valid");
    let coding = coding.map(|coding| Coding::parse(coding).expect("valid"));
    let command = Command::SetStorageClass { name, coding };
    assert_eq!(cluster.client.propose_one(command).await, Ok(Outcome::Done));
    cluster.map().await
}

fn groups(map: &ClusterMap, coding: &str) -> Vec<Pg> {
    let of_coding = |pg: &&Pg| pg.coding.to_string() == coding;
    map.pgs.iter().filter(of_coding).cloned().collect()
}

/// Puts an object into a group.
async fn put_into(writer: &Writer, pg: &Pg, name: &str) {
    let session = writer.session().await.expect("open");
    let id = session.next_extent(pg.id).expect("left");
    let extent =
        Extent { id, coding: pg.coding, length: 100, missing: SlotSet::default(), epoch: 1 };
    let commit = CommitObject {
        bucket: bucket(),
        key: key(name),
        manifest: ManifestId(id.to_key()),
        size: 100,
        etag: ETag { md5: [1; 16], parts: None },
        headers: ObjectHeaders::default(),
        checksum: None,
        parts: vec![Part {
            number: 0,
            size: 100,
            md5: [1; 16],
            checksum: None,
            extents: vec![extent],
        }],
        condition: WriteCondition::Always,
        record: None,
    };
    let done = writer.propose(Command::CommitObject(commit)).await;
    assert!(matches!(done, Ok(Outcome::Committed(_))), "{done:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_of_a_coding_that_is_out_of_use_are_told_while_they_hold_nothing() {
    let mut cluster = TestCluster::new(1, 1).await;
    let writer = cluster.writer().await;
    create_bucket(&writer).await;
    let map = cluster.map().await;
    put(&writer, &map, "a", 1).await;
    assert_eq!(unused(&cluster).await, [], "the class is used, though most groups are empty");
    let map = set(&cluster, "WIDE", Some("1+3")).await;
    let wide = groups(&map, "1+3");
    assert!(wide.len() > 50);
    assert_eq!(unused(&cluster).await, [], "somebody may write to them now");
    for (at, name) in [(0, "first"), (7, "b"), (8, "c"), (wide.len() - 1, "last")] {
        put_into(&writer, &wide[at], name).await;
    }
    let map = set(&cluster, "WIDE", None).await;
    let empty: Vec<PgId> = map.pgs_out_of_use().iter().map(|pg| pg.id).collect();
    assert_eq!(empty, wide.iter().map(|pg| pg.id).collect::<Vec<_>>());
    let holds = |pg: &PgId| [0, 7, 8, wide.len() - 1].iter().any(|at| wide[*at].id == *pg);
    let expected: Vec<PgId> = empty.into_iter().filter(|pg| !holds(pg)).collect();
    assert_eq!(unused(&cluster).await, expected);
    // What is deleted is there until it is collected.
    let condition = WriteCondition::Always;
    let deleted = Command::DeleteObject { bucket: bucket(), key: key("b"), condition };
    writer.propose(deleted).await.expect("proposed");
    assert_eq!(unused(&cluster).await, expected);
    // The cluster's own coding changes: its groups stay but for those that hold nothing.
    let standard = groups(&map, &map.coding.to_string());
    set(&cluster, "STANDARD", Some("2+1")).await;
    let now = unused(&cluster).await;
    assert_eq!(now.len(), expected.len() + standard.len() - 1);

    // What was written after a backup may be anywhere.
    let bytes = backup_of(&cluster).await;
    restore_all(&mut cluster, &bytes).await;
    assert_eq!(unused(&cluster).await, []);
    let until = held(&cluster).await.expect("held").until();
    let release = Command::ReleaseHeld { until };
    assert_eq!(cluster.client.propose_one(release).await, Ok(Outcome::Done));
    assert_eq!(unused(&cluster).await, now);
    cluster.stop().await;
}
