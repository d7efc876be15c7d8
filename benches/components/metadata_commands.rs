//! The metadata: five replicas in one process; committing, finding and listing objects.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use metadata::client::{MetadataClient, ReplicaBook};
use metadata::keeper::{Keeper, KeeperParts, MayFound, Placement};
use metadata::replica::World;
use metadata::session::Writer;
use model::coding::Coding;
use model::command::{Command, CommitObject, Outcome, WriteCondition};
use model::ids::{ClusterId, ManifestId, ReplicaId};
use model::names::{BucketName, ObjectKey};
use model::node::FEATURE_LEVEL;
use model::query::{Answer, ListObjects, PlanWanted, Query};
use model::version::{ETag, ObjectHeaders};
use wire::clock::{Clock, SystemClock};
use wire::disk::{Disk, RealDisk};
use wire::network::InProcess;

use crate::meter::Meter;

const REPLICAS: usize = 5;
const OBJECTS_EACH: u64 = 250;

/// Measures empty objects (a version's row without extents), one and many at a time.
pub async fn measure() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let raft_peers = Arc::new(InProcess::new(Arc::clone(&clock)));
    let service_peers = Arc::new(InProcess::new(Arc::clone(&clock)));
    let client = Arc::new(MetadataClient::new(
        Arc::clone(&service_peers) as _,
        Arc::new(ReplicaBook::default()),
        Arc::clone(&clock),
    ));
    let mut disks: Vec<Arc<dyn Disk>> = Vec::new();
    for number in 0..REPLICAS {
        disks.push(Arc::new(RealDisk::create(&directory.path().join(number.to_string()))?));
    }
    let cluster = ClusterId([1; 16]);
    let keeper = Keeper::start(
        KeeperParts {
            world: World { cluster, raft_network: Arc::clone(&raft_peers) as _, clock },
            placement: Placement::Alone,
            replicas: REPLICAS,
            disks: Arc::new(move || disks.clone()),
            raft_peers,
            service_peers,
            client: Arc::clone(&client),
        },
        MayFound::Yes,
    )
    .await?;
    let coding = Coding::parse("4+2")?;
    let (replicas, level) = (ReplicaId(REPLICAS as u64), FEATURE_LEVEL);
    client.propose_one(Command::InitCluster { cluster, coding, replicas, level }).await?;
    let writer = Arc::new(Writer::open(Arc::clone(&client), "bench").await?);
    let bucket = BucketName::parse("bench")?;
    let (owner, location) = (String::new(), String::new());
    writer.propose(Command::CreateBucket { name: bucket.clone(), owner, location }).await?;
    for concurrency in [1, 16, 32] {
        measure_at(&writer, &client, &bucket, concurrency).await?;
    }
    drop(writer);
    keeper.shutdown().await;
    Ok(())
}

async fn measure_at(
    writer: &Arc<Writer>,
    client: &Arc<MetadataClient>,
    bucket: &BucketName,
    concurrency: u64,
) -> Result<()> {
    let count = concurrency * OBJECTS_EACH;
    let key = move |task: u64, number: u64| format!("{concurrency}/{task}/{number}");

    let meter = Meter::start();
    let tasks = (0..concurrency).map(|task| {
        let (writer, bucket) = (Arc::clone(writer), bucket.clone());
        tokio::spawn(async move {
            for number in 0..OBJECTS_EACH {
                let id = (u128::from(concurrency) << 64) | u128::from(task << 32 | number);
                put(&writer, &bucket, &key(task, number), ManifestId(id.to_be_bytes())).await?;
            }
            anyhow::Ok(())
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await??;
    }
    meter.print(&format!("metadata/put/x{concurrency}"), count, 0);

    let meter = Meter::start();
    let tasks = (0..concurrency).map(|task| {
        let (client, bucket) = (Arc::clone(client), bucket.clone());
        tokio::spawn(async move {
            for number in 0..OBJECTS_EACH {
                let key = ObjectKey::parse(&key(task, number))?;
                let query = Query::Object { bucket: bucket.clone(), key, plan: PlanWanted::Whole };
                let Answer::Object(_) = client.query(query).await? else { bail!("not found") };
            }
            Ok(())
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await??;
    }
    meter.print(&format!("metadata/get/x{concurrency}"), count, 0);

    let meter = Meter::start();
    let mut after = String::new();
    let mut listed = 0;
    loop {
        let list = ListObjects {
            bucket: bucket.clone(),
            prefix: format!("{concurrency}/"),
            delimiter: String::new(),
            after,
            limit: 1000,
        };
        let Answer::Objects(page) = client.query(Query::Objects(list)).await? else {
            bail!("no listing")
        };
        listed += page.objects.len() as u64;
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    meter.print(&format!("metadata/list/x{concurrency}"), listed, 0);
    (listed == count).then_some(()).context("the listing is not whole")
}

async fn put(writer: &Writer, bucket: &BucketName, key: &str, manifest: ManifestId) -> Result<()> {
    let commit = CommitObject {
        bucket: bucket.clone(),
        key: ObjectKey::parse(key)?,
        manifest,
        size: 0,
        etag: ETag { md5: manifest.0, parts: None },
        headers: ObjectHeaders::default(),
        checksum: None,
        parts: Vec::new(),
        condition: WriteCondition::Always,
        record: None,
    };
    match writer.propose(Command::CommitObject(commit)).await? {
        Outcome::Committed(_) => Ok(()),
        other => bail!("{other:?}"),
    }
}
