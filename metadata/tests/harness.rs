//! A cluster of replicas in this process, on directories that go away with it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use metadata::client::{MetadataClient, ReplicaBook};
use metadata::keeper::{Keeper, KeeperParts, MayFound, Placement};
use metadata::replica::World;
use metadata::session::Writer;
use model::cluster_map::ClusterMap;
use model::coding::Coding;
use model::command::{Command, CommitObject, Outcome, WriteCondition};
use model::extent::{Extent, SlotSet};
use model::ids::{ClusterId, DiskUuid, ManifestId, NodeId, ReplicaId};
use model::names::{BucketName, ObjectKey};
use model::node::FEATURE_LEVEL;
use model::query::{Answer, Query};
use model::version::{ETag, ObjectHeaders, Part};
use wire::clock::{Clock, SystemClock};
use wire::disk::{Disk, RealDisk};
use wire::network::InProcess;

pub const CLUSTER: ClusterId = ClusterId([7; 16]);

/// A cluster.
pub struct TestCluster {
    pub root: tempfile::TempDir,
    pub disks: usize,
    pub replicas: usize,
    pub keeper: Option<Keeper>,
    pub client: Arc<MetadataClient>,
}

impl TestCluster {
    /// A new cluster of `replicas` on `disks` directories, with six registered disks.
    pub async fn new(replicas: usize, disks: usize) -> Self {
        let root = tempfile::tempdir().expect("made");
        for disk in 0..disks {
            std::fs::create_dir(root.path().join(format!("d{disk}"))).expect("made");
        }
        let (keeper, client) = start(&root, replicas, disks, MayFound::Yes).await;
        let cluster = Self { root, disks, replicas, keeper: Some(keeper), client };
        let coding = Coding::parse("4+2").expect("valid");
        let founded = ReplicaId(replicas as u64);
        let (replicas, level) = (founded, FEATURE_LEVEL);
        let command = Command::InitCluster { cluster: CLUSTER, coding, replicas, level };
        cluster.client.propose_one(command).await.expect("proposed");
        for disk in 1..=6u8 {
            let command = Command::RegisterDisk {
                uuid: DiskUuid([disk; 16]),
                node: NodeId(1),
                rack: String::new(),
                zone: String::new(),
                weight: 10,
                path: String::new(),
            };
            cluster.client.propose_one(command).await.expect("proposed");
        }
        cluster
    }

    pub async fn stop(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            keeper.shutdown().await;
        }
    }

    pub async fn restart(&mut self) {
        self.stop().await;
        let (keeper, client) = start(&self.root, self.replicas, self.disks, MayFound::No).await;
        self.keeper = Some(keeper);
        self.client = client;
    }

    pub fn keeper(&self) -> &Keeper {
        self.keeper.as_ref().expect("running")
    }

    /// Deletes a directory in which a replica is at work: what it makes while the tree is being
    /// deleted is deleted by the next try.
    pub fn delete(path: &Path) {
        for _ in 0..1000 {
            match std::fs::remove_dir_all(path) {
                Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {}
                done => return done.expect("removed"),
            }
        }
        panic!("{} can't be emptied", path.display());
    }

    pub fn disk_path(&self, disk: usize) -> PathBuf {
        self.root.path().join(format!("d{disk}"))
    }

    pub async fn map(&self) -> ClusterMap {
        match self.client.query(Query::ClusterMap { known_epoch: 0 }).await.expect("answered") {
            Answer::ClusterMap(Some(map)) => map,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until `done`; fails after half a minute.
    pub async fn until(&self, what: &str, mut done: impl AsyncFnMut(&Self) -> bool) {
        let clock = SystemClock::new();
        while !done(self).await {
            assert!(clock.monotonic() < Duration::from_secs(40), "{what}");
            clock.sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until all replicas have the same tables.
    pub async fn until_equal(&self) {
        self.until("equal digests", async |cluster| {
            let mut all = Vec::new();
            for replica in cluster.keeper().replicas() {
                let Ok(status) = cluster.client.status(replica.id()).await else {
                    return false;
                };
                all.push((status.last_applied_index, status.tables, status.voters));
            }
            all.len() == cluster.replicas
                && all.windows(2).all(|two| two[0] == two[1])
                && all[0].2.len() == cluster.replicas
        })
        .await;
    }

    pub async fn writer(&self) -> Writer {
        Writer::open(Arc::clone(&self.client), "gateway").await.expect("opened")
    }
}

async fn start(
    root: &tempfile::TempDir,
    replicas: usize,
    disks: usize,
    may_found: MayFound,
) -> (Keeper, Arc<MetadataClient>) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let raft_peers = Arc::new(InProcess::new(Arc::clone(&clock)));
    let service_peers = Arc::new(InProcess::new(Arc::clone(&clock)));
    let client = Arc::new(MetadataClient::new(
        Arc::clone(&service_peers) as _,
        Arc::new(ReplicaBook::default()),
        Arc::clone(&clock),
    ));
    let path = root.path().to_owned();
    let source = move || -> Vec<Arc<dyn Disk>> {
        let open = |disk: usize| RealDisk::open(&path.join(format!("d{disk}"))).ok();
        (0..disks).filter_map(open).map(|disk| Arc::new(disk) as Arc<dyn Disk>).collect()
    };
    let parts = KeeperParts {
        world: World { cluster: CLUSTER, raft_network: Arc::clone(&raft_peers) as _, clock },
        placement: Placement::Alone,
        replicas,
        disks: Arc::new(source),
        raft_peers,
        service_peers,
        client: Arc::clone(&client),
    };
    (Keeper::start(parts, may_found).await.expect("started"), client)
}

pub fn bucket() -> BucketName {
    BucketName::parse("bucket").expect("valid")
}

pub fn key(text: &str) -> ObjectKey {
    ObjectKey::parse(text).expect("valid")
}

/// Puts an object of one small extent.
pub async fn put(writer: &Writer, map: &ClusterMap, name: &str, number: u64) -> Outcome {
    let pg = map.open_pgs(&[])[number as usize % 50].clone();
    let session = writer.session().await.expect("open");
    let extent = Extent {
        id: session.next_extent(pg.id).expect("left"),
        coding: pg.coding,
        length: 100,
        missing: SlotSet::default(),
        epoch: map.epoch,
    };
    let mut manifest = [0; 16];
    manifest[..8].copy_from_slice(&number.to_le_bytes());
    manifest[8..].copy_from_slice(&session.id().0.to_le_bytes());
    let part = Part { number: 0, size: 100, md5: [1; 16], checksum: None, extents: vec![extent] };
    let commit = CommitObject {
        bucket: bucket(),
        key: key(name),
        manifest: ManifestId(manifest),
        size: 100,
        etag: ETag { md5: [number as u8; 16], parts: None },
        headers: ObjectHeaders::default(),
        checksum: None,
        parts: vec![part],
        condition: WriteCondition::Always,
        record: None,
    };
    writer.propose(Command::CommitObject(commit)).await.expect("proposed")
}

pub async fn create_bucket(writer: &Writer) {
    let command =
        Command::CreateBucket { name: bucket(), owner: "me".into(), location: String::new() };
    let outcome = writer.propose(command).await.expect("proposed");
    assert!(matches!(outcome, Outcome::BucketCreated(_)), "{outcome:?}");
}
