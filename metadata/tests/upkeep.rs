//! What the jobs of the engine ask: pages of the repair queue and of a PG's extents, and whether an
//! extent can ever have an owner.

use model::command::{Command, LackingExtent, Outcome, RepairedExtent, WriteCondition};
use model::extent::SlotSet;
use model::ids::{ExtentId, PgId, SessionId};
use model::query::{Answer, PlanWanted, Query};
use model::upkeep::{ExtentEntry, ExtentState, RepairItem};

use crate::harness::{TestCluster, bucket, create_bucket, key, put};

async fn extent_of(cluster: &TestCluster, name: &str) -> ExtentId {
    let query = Query::Object { bucket: bucket(), key: key(name), plan: PlanWanted::Whole };
    match cluster.client.query(query).await.expect("answered") {
        Answer::Object(found) => found.extents[0].extent.id,
        other => panic!("{other:?}"),
    }
}

/// The whole queue, page by page.
async fn queue(cluster: &TestCluster, limit: u32) -> Vec<RepairItem> {
    let (mut items, mut after) = (Vec::new(), None);
    loop {
        let answer = cluster.client.query(Query::Repairs { after, limit }).await;
        let Ok(Answer::Repairs(page)) = answer else { panic!("{answer:?}") };
        assert!(page.items.len() <= limit as usize);
        items.extend(page.items);
        after = page.next;
        if after.is_none() {
            assert_eq!(page.total, items.len() as u64);
            return items;
        }
    }
}

async fn extents(cluster: &TestCluster, pg: PgId, limit: u32) -> Vec<ExtentEntry> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let answer = cluster.client.query(Query::Extents { pg, after, limit }).await;
        let Ok(Answer::Extents(page)) = answer else { panic!("{answer:?}") };
        assert!(page.extents.len() <= limit as usize);
        found.extend(page.extents);
        after = page.next;
        if after.is_none() {
            return found;
        }
    }
}

async fn states(cluster: &TestCluster, extents: &[ExtentId]) -> Vec<ExtentState> {
    let query = Query::ExtentStates { extents: extents.to_vec() };
    match cluster.client.query(query).await.expect("answered") {
        Answer::ExtentStates(states) => states,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_is_paged_by_urgency_and_empties() {
    let mut cluster = TestCluster::new(1, 1).await;
    let writer = cluster.writer().await;
    create_bucket(&writer).await;
    let map = cluster.map().await;
    let mut lacking = Vec::new();
    for (number, slots) in (0u64..).zip([0b1, 0b11, 0b111, 0b1, 0b110_000]) {
        put(&writer, &map, &format!("o{number}"), number).await;
        let extent = extent_of(&cluster, &format!("o{number}")).await;
        lacking.push(LackingExtent { extent, slots: SlotSet(slots) });
    }
    let command = Command::QueueRepair { lacking: lacking.clone() };
    assert_eq!(cluster.client.propose_one(command).await, Ok(Outcome::Done));
    let all = queue(&cluster, 100).await;
    assert_eq!(all.iter().map(|item| item.spare).collect::<Vec<_>>(), [-1, 0, 0, 1, 1]);
    for item in &all {
        let told = lacking.iter().find(|told| told.extent == item.extent.id).expect("told");
        assert_eq!((item.extent.missing, item.extent.length), (told.slots, 100));
    }
    for limit in 1..=5 {
        assert_eq!(queue(&cluster, limit).await, all);
    }
    let repaired = lacking
        .iter()
        .map(|item| RepairedExtent {
            extent: item.extent,
            slots: item.slots,
            epoch: u64::MAX,
            moving_to: None,
            since: model::time::Timestamp::default(),
        })
        .collect();
    let outcome = writer.propose(Command::ShardsRepaired { repaired }).await;
    assert_eq!(outcome, Ok(Outcome::Done));
    assert!(queue(&cluster, 2).await.is_empty());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_extents_of_a_group_are_its_own() {
    let mut cluster = TestCluster::new(1, 1).await;
    let writer = cluster.writer().await;
    create_bucket(&writer).await;
    let map = cluster.map().await;
    // Numbers that differ by 50 share a PG.
    for number in [3, 53, 103, 153, 4, 54] {
        put(&writer, &map, &format!("o{number}"), number).await;
    }
    let ids = [extent_of(&cluster, "o3").await, extent_of(&cluster, "o4").await];
    let condition = WriteCondition::Always;
    let gone = Command::DeleteObject { bucket: bucket(), key: key("o53"), condition };
    writer.propose(gone).await.expect("proposed");
    let lacking = vec![LackingExtent { extent: ids[0], slots: SlotSet(0b100) }];
    cluster.client.propose_one(Command::QueueRepair { lacking }).await.expect("proposed");
    let all = extents(&cluster, ids[0].pg, 100).await;
    assert_eq!(all.len(), 4);
    assert_eq!(all.iter().filter(|entry| entry.is_owned).count(), 3);
    assert!(all.windows(2).all(|pair| pair[0].extent.id < pair[1].extent.id));
    assert_eq!(all[0].extent.missing, SlotSet(0b100), "what it lacks now");
    for limit in 1..=4 {
        assert_eq!(extents(&cluster, ids[0].pg, limit).await, all);
    }
    assert_eq!(extents(&cluster, ids[1].pg, 1).await.len(), 2);
    assert!(extents(&cluster, PgId(u32::MAX), 1).await.is_empty());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_extents_of_ended_sessions_are_ownerless() {
    let mut cluster = TestCluster::new(1, 1).await;
    let writer = cluster.writer().await;
    create_bucket(&writer).await;
    let map = cluster.map().await;
    for number in [1, 2] {
        put(&writer, &map, &format!("o{number}"), number).await;
    }
    let owned = extent_of(&cluster, "o1").await;
    let garbage = extent_of(&cluster, "o2").await;
    let condition = WriteCondition::Always;
    let gone = Command::DeleteObject { bucket: bucket(), key: key("o2"), condition };
    writer.propose(gone).await.expect("proposed");
    let session = writer.session().await.expect("open").id();
    let written = ExtentId { sequence: 1_000_000, ..owned };
    let of = |session: u64| ExtentId { session: SessionId(session), ..written };
    // No session, and one that this metadata never opened: they prove nothing.
    let asked = [owned, garbage, written, of(0), of(session.0 + 1000), of(u64::MAX)];
    use ExtentState::{Foreign, Garbage, InFlight, Owned, Ownerless};
    let expected = [Owned, Garbage, InFlight, InFlight, Foreign, Foreign];
    assert_eq!(states(&cluster, &asked).await, expected);
    cluster.client.propose_one(Command::EndSession { session }).await.expect("proposed");
    let expected = [Owned, Garbage, Ownerless, InFlight, Foreign, Foreign];
    assert_eq!(states(&cluster, &asked).await, expected);
    // More than one answer holds are refused, not cut short.
    let query = Query::ExtentStates { extents: vec![owned; 10_001] };
    let answer = cluster.client.query(query).await.expect("answered");
    assert!(matches!(answer, Answer::Refused(_)), "{answer:?}");
    cluster.stop().await;
}
