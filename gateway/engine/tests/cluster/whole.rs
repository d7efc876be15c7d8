//! A cluster with disks in memory and the real metadata service, which can be lost and put back.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine::{
    BodyDigest, Engine, EngineOptions, Metadata, ObjectCommit, PartCommit, RecoverError,
    RecoverFigures, RecoverMeter, RecoverRequest, WriteTarget,
};
use md5::{Digest as _, Md5};
use metadata::backup::{BackupFile, BackupSink, RestoreSettings, found_for_recovery, restore};
use metadata::client::{MetadataClient, ReplicaBook};
use metadata::keeper::{Keeper, KeeperParts, MayFound, Placement};
use metadata::replica::{World, wipe};
use metadata::session::Writer;
use model::checksum::{ChecksumAlgorithm, ChecksumKind, StoredChecksum};
use model::cluster_map::{ClusterMap, Disk as MapDisk, DiskState, Standing};
use model::coding::Coding;
use model::command::{Command, CompleteUpload, CopyObject, Outcome, SourceObject, WriteCondition};
use model::ids::{ClusterId, DiskId, DiskUuid, NodeId, ReplicaId, UploadId};
use model::node::FEATURE_LEVEL;
use model::query::{Answer, Heartbeat, ListObjects, PlanWanted, Query};
use model::shard::{DiskReport, ShardRequest, ShardResponse};
use model::upload::{PartReference, Upload};
use model::version::{ETag, ObjectHeaders, UserMetadata, Version};
use wire::BoxFuture;
use wire::clock::{Clock, SystemClock};
use wire::disk::{Disk, DiskFile, OpenMode, RealDisk};
use wire::network::{InProcess, Peer, Service as _};

use super::disk::FakeDisk;
use super::{bucket, engine, key, quick};

const CLUSTER: ClusterId = ClusterId([1; 16]);

/// The cluster.
pub struct Whole {
    root: tempfile::TempDir,
    keeper: Option<Keeper>,
    client: Arc<MetadataClient>,
    network: Arc<InProcess<ShardRequest, ShardResponse>>,
    coding: Coding,
    /// By number, from 1.
    pub disks: Vec<Arc<FakeDisk>>,
    /// What an operator says is lost.
    pub lost: Vec<DiskId>,
    /// How many disks an operator says there were.
    pub disks_told: Option<u32>,
    pub engine: Engine,
}

/// Everything that there is to see of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub name: String,
    pub size: u64,
    pub etag: ETag,
    pub headers: ObjectHeaders,
    pub checksum: Option<StoredChecksum>,
    /// Numbers, sizes and MD5s.
    pub parts: Vec<(u16, u64, [u8; 16])>,
    pub body_md5: [u8; 16],
}

/// A digest whose checksum is one of its own: 8 bytes that every byte changes.
pub struct TestDigest {
    md5: Md5,
    sum: u64,
    algorithm: Option<ChecksumAlgorithm>,
}

impl TestDigest {
    pub fn new(algorithm: Option<ChecksumAlgorithm>) -> Self {
        Self { md5: Md5::new(), sum: 0, algorithm }
    }
}

impl BodyDigest for TestDigest {
    fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        for byte in bytes {
            self.sum = self.sum.wrapping_mul(31).wrapping_add(u64::from(*byte));
        }
    }

    fn finish(self: Box<Self>) -> ([u8; 16], Option<StoredChecksum>) {
        let checksum = self.algorithm.map(|algorithm| StoredChecksum {
            algorithm,
            kind: ChecksumKind::FullObject,
            digest: self.sum.to_be_bytes().to_vec(),
        });
        (self.md5.finalize().into(), checksum)
    }
}

pub fn digest(
    body: &[u8],
    algorithm: Option<ChecksumAlgorithm>,
) -> ([u8; 16], Option<StoredChecksum>) {
    let mut digest = Box::new(TestDigest::new(algorithm));
    digest.update(body);
    digest.finish()
}

pub fn headers(user_bytes: usize) -> ObjectHeaders {
    let item = UserMetadata { name: "colour".to_owned(), value: "g".repeat(user_bytes) };
    ObjectHeaders {
        content_type: Some("text/plain".to_owned()),
        user: vec![item],
        ..ObjectHeaders::default()
    }
}

struct Memory(Vec<u8>);

impl BackupSink for Memory {
    fn put(&mut self, piece: Bytes) -> BoxFuture<'_, io::Result<()>> {
        self.0.extend_from_slice(&piece);
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Nothing is collected while it is looked at.
fn patient() -> EngineOptions {
    EngineOptions { garbage_delay: Duration::from_hours(1), ..quick() }
}

impl Whole {
    pub async fn new(disks: u32, coding: &str) -> Self {
        Self::with(disks, coding, patient()).await
    }

    /// One whose engine has these limits.
    pub async fn with(disks: u32, coding: &str, options: EngineOptions) -> Self {
        let root = tempfile::tempdir().expect("made");
        std::fs::create_dir(root.path().join("metadata")).expect("made");
        let coding = Coding::parse(coding).expect("valid");
        let network = InProcess::<ShardRequest, ShardResponse>::new(Arc::new(SystemClock::new()));
        let disks: Vec<_> = (1..=disks).map(|id| Arc::new(FakeDisk::new(id))).collect();
        for (id, disk) in (1u64..).zip(&disks) {
            network.register(Peer(id), disk.clone());
        }
        let network = Arc::new(network);
        let (keeper, client) = start(&root, MayFound::Yes).await;
        let (replicas, level) = (ReplicaId(1), FEATURE_LEVEL);
        let init = Command::InitCluster { cluster: CLUSTER, coding, replicas, level };
        client.propose_one(init).await.expect("proposed");
        for id in 1..=disks.len() as u32 {
            let disk = map_disk(id);
            let (uuid, node, weight) = (disk.uuid, disk.node, disk.weight);
            let (rack, zone, path) = (String::new(), String::new(), String::new());
            let command = Command::RegisterDisk { uuid, node, rack, zone, weight, path };
            let outcome = client.propose_one(command).await;
            assert_eq!(outcome, Ok(Outcome::DiskRegistered(DiskId(id))));
        }
        let engine = open_engine(&client, &network, options).await;
        Self {
            root,
            keeper: Some(keeper),
            client,
            network,
            coding,
            disks_told: Some(disks.len() as u32),
            disks,
            lost: Vec::new(),
            engine,
        }
    }

    /// One more disk of this weight joins.
    pub async fn add_disk(&mut self, weight: u32) -> DiskId {
        let id = self.disks.len() as u32 + 1;
        let disk = Arc::new(FakeDisk::new(id));
        self.network.register(Peer(u64::from(id)), disk.clone());
        self.disks.push(disk);
        let MapDisk { uuid, node, .. } = map_disk(id);
        let (rack, zone, path) = (String::new(), String::new(), String::new());
        let command = Command::RegisterDisk { uuid, node, rack, zone, weight, path };
        assert_eq!(self.order(command).await, Outcome::DiskRegistered(DiskId(id)));
        DiskId(id)
    }

    pub fn client(&self) -> &Arc<MetadataClient> {
        &self.client
    }

    /// Has the metadata do something, in nobody's session.
    pub async fn order(&self, command: Command) -> Outcome {
        self.client.propose_one(command).await.expect("proposed")
    }

    pub async fn map(&self) -> ClusterMap {
        match self.query(Query::ClusterMap { known_epoch: 0 }).await {
            Answer::ClusterMap(Some(map)) => map,
            answer => panic!("no map: {answer:?}"),
        }
    }

    /// The engine of another gateway, or of this name's next process.
    pub async fn engine_of(&self, gateway: &str, options: EngineOptions) -> Engine {
        let writer = Writer::open(Arc::clone(&self.client), gateway).await.expect("opened");
        self.engine_by(Arc::new(writer), options)
    }

    /// An engine that sees the metadata so.
    pub fn engine_by(&self, metadata: Arc<dyn Metadata>, options: EngineOptions) -> Engine {
        engine(metadata, &self.network, options)
    }

    /// What the nodes of the disks that work tell the metadata every second.
    pub async fn heartbeat(&self) {
        for (number, disk) in (1u32..).zip(&self.disks) {
            if let ShardResponse::Status(reports) = disk.serve(ShardRequest::Status).await {
                let uuid = map_disk(number).uuid;
                let disks = reports.into_iter().map(|report| DiskReport { uuid, ..report });
                let heartbeat = Heartbeat { node: NodeId(number), disks: disks.collect() };
                let _ = self.client.heartbeat(heartbeat).await;
            }
        }
    }

    /// All metadata is lost. Its disks are known again; nothing else is.
    pub async fn lose_metadata(&mut self) {
        self.stop().await;
        found_for_recovery(self.coding, &self.directory(), &settings()).await.expect("founded");
        self.start(patient()).await;
        self.adopt_disks().await;
    }

    /// Has every disk come back under its number.
    pub async fn adopt_disks(&self) {
        for id in 1..=self.disks.len() as u32 {
            let outcome = self.client.propose_one(Command::AdoptDisk(map_disk(id))).await;
            assert_eq!(outcome, Ok(Outcome::DiskRegistered(DiskId(id))));
        }
    }

    /// Holds nothing any more.
    pub async fn release(&self) {
        let Answer::Held(Some(held)) = self.query(Query::Held).await else { panic!("held") };
        let release = Command::ReleaseHeld { until: held.until() };
        let released = self.engine.metadata().propose(release).await;
        assert_eq!(released, Ok(Outcome::Done));
    }

    pub async fn backup(&self) -> Vec<u8> {
        let mut sink = Memory(Vec::new());
        self.client.backup(&mut sink).await.expect("taken");
        sink.0
    }

    /// All metadata is lost, and a backup put back.
    pub async fn put_back(&mut self, backup: &[u8]) {
        self.stop().await;
        let disk = RealDisk::open(self.root.path()).expect("opened");
        let _ = disk.remove("backup");
        let file: Arc<dyn DiskFile> = disk.open("backup", OpenMode::CreateNew).expect("made");
        file.write_at(&[IoSlice::new(backup)], 0).expect("written");
        let backup = BackupFile::open(file).expect("sound");
        restore(backup, &self.directory(), &settings()).await.expect("restored");
        self.start(patient()).await;
    }

    /// Goes on with other limits.
    pub async fn restart(&mut self, options: EngineOptions) {
        self.engine.shutdown().await;
        self.engine = open_engine(&self.client, &self.network, options).await;
    }

    async fn stop(&mut self) {
        self.engine.shutdown().await;
        if let Some(keeper) = self.keeper.take() {
            keeper.shutdown().await;
        }
        wipe(&*self.directory()).expect("wiped");
    }

    async fn start(&mut self, options: EngineOptions) {
        let (keeper, client) = start(&self.root, MayFound::No).await;
        (self.keeper, self.client) = (Some(keeper), client);
        self.engine = open_engine(&self.client, &self.network, options).await;
    }

    fn directory(&self) -> Arc<dyn Disk> {
        Arc::new(RealDisk::open(&self.root.path().join("metadata")).expect("opened"))
    }

    pub async fn query(&self, query: Query) -> Answer {
        self.client.query(query).await.expect("answered")
    }

    /// Recovers, and tells what came of it.
    pub async fn recover(&self) -> Result<RecoverFigures, RecoverError> {
        let request = RecoverRequest {
            bucket_owner: "root".to_owned(),
            lost_disks: self.lost.clone(),
            disks: self.disks_told,
            bytes_per_second: 0,
            digests: Arc::new(|algorithm| Box::new(TestDigest::new(algorithm))),
        };
        let (meter, (_stop, stopping)) =
            (RecoverMeter::default(), tokio::sync::watch::channel(false));
        self.engine.recover(&request, &meter, stopping).await?;
        Ok(meter.figures())
    }

    pub async fn make_bucket(&self) {
        let (name, owner) = (bucket(), "root".to_owned());
        let command = Command::CreateBucket { name, owner, location: String::new() };
        let outcome = self.engine.metadata().propose(command).await;
        assert!(matches!(outcome, Ok(Outcome::BucketCreated(_))), "{outcome:?}");
    }

    pub fn target(&self, name: &str, body: &Bytes) -> WriteTarget {
        WriteTarget {
            bucket: bucket(),
            bucket_id: None,
            key: key(name),
            manifest: self.engine.new_manifest(),
            upload: None,
            part: 0,
            size_hint: Some(body.len() as u64),
            headers: None,
            checksum: Some(ChecksumAlgorithm::Crc64Nvme),
            class: None,
        }
    }

    pub async fn put(&self, name: &str, body: &Bytes, headers: ObjectHeaders) {
        let headers_too = Some(headers.clone());
        let target = WriteTarget { headers: headers_too, ..self.target(name, body) };
        let manifest = target.manifest;
        let mut writer = self.engine.writer(target);
        for chunk in body.chunks(1 << 20) {
            writer.write(Bytes::copy_from_slice(chunk)).await.expect("taken");
        }
        let written = writer.finish().await.expect("written");
        let (md5, checksum) = digest(body, Some(ChecksumAlgorithm::Crc64Nvme));
        let commit = ObjectCommit {
            bucket: bucket(),
            key: key(name),
            manifest,
            md5,
            headers,
            checksum,
            condition: WriteCondition::Always,
        };
        self.engine.put_object(written, commit).await.expect("committed");
    }

    pub async fn copy(&self, from: &str, to: &str, headers: Option<ObjectHeaders>) {
        let source = self.version(from).await;
        let copy = CopyObject {
            source: SourceObject { bucket: bucket(), key: key(from), manifest: source.manifest },
            bucket: bucket(),
            key: key(to),
            manifest: self.engine.new_manifest(),
            headers,
            condition: WriteCondition::Always,
            record: None,
        };
        self.engine.copy_object(copy).await.expect("copied");
    }

    pub async fn begin_upload(&self, name: &str) -> UploadId {
        let id = self.engine.new_upload();
        let upload = Upload {
            id,
            initiated: SystemClock::new().now(),
            headers: headers(7),
            checksum: None,
            owner: "root".to_owned(),
        };
        self.engine.create_upload(bucket(), key(name), upload).await.expect("begun");
        id
    }

    /// Gives the part's MD5.
    pub async fn put_part(
        &self,
        name: &str,
        upload: UploadId,
        number: u16,
        body: &Bytes,
    ) -> [u8; 16] {
        let target = WriteTarget {
            upload: Some(upload),
            part: number,
            checksum: None,
            ..self.target(name, body)
        };
        let mut writer = self.engine.writer(target);
        writer.write(body.clone()).await.expect("taken");
        let written = writer.finish().await.expect("written");
        let (md5, checksum) = digest(body, None);
        let commit = PartCommit { bucket: bucket(), key: key(name), upload, number, md5, checksum };
        self.engine.put_part(written, commit).await.expect("committed");
        md5
    }

    pub async fn complete(&self, name: &str, upload: UploadId, parts: &[(u16, u64, [u8; 16])]) {
        let references = parts.iter().map(|(number, _, md5)| PartReference {
            number: *number,
            md5: *md5,
            checksum: None,
        });
        let etag = ETag { md5: [parts.len() as u8; 16], parts: Some(parts.len() as u32) };
        let complete = CompleteUpload {
            bucket: bucket(),
            key: key(name),
            upload,
            parts: references.collect(),
            manifest: self.engine.new_manifest(),
            etag,
            size: parts.iter().map(|(_, size, _)| size).sum(),
            checksum: None,
            condition: WriteCondition::Always,
            record: None,
        };
        self.engine.complete_upload(complete).await.expect("completed");
    }

    pub async fn version(&self, name: &str) -> Version {
        let found = self.engine.open(bucket(), key(name), PlanWanted::Nothing).await;
        found.expect("opened").version
    }

    pub async fn delete(&self, name: &str) {
        let deleted = self.engine.delete_object(bucket(), key(name), WriteCondition::Always).await;
        assert_eq!(deleted, Ok(true));
    }

    /// Every object, with all that there is to see of it.
    pub async fn seen(&self) -> Vec<Seen> {
        let list = ListObjects {
            bucket: bucket(),
            prefix: String::new(),
            delimiter: String::new(),
            after: String::new(),
            limit: 1000,
        };
        let Answer::Objects(page) = self.query(Query::Objects(list)).await else {
            panic!("no listing");
        };
        let mut all = Vec::new();
        for object in page.objects {
            all.push(self.see(object.key.as_str()).await);
        }
        all
    }

    async fn see(&self, name: &str) -> Seen {
        let found = self.engine.open(bucket(), key(name), PlanWanted::Whole).await.expect("opened");
        let mut reader = self.engine.reader(&found);
        let mut md5 = Md5::new();
        while let Some(chunk) = reader.next().await {
            md5.update(chunk.expect("readable"));
        }
        let query = Query::ObjectParts { bucket: bucket(), key: key(name), after: 0, limit: 1000 };
        let Answer::ObjectParts(parts) = self.query(query).await else { panic!("no parts") };
        let version = found.version;
        Seen {
            name: name.to_owned(),
            size: version.size,
            etag: version.etag,
            headers: version.headers,
            checksum: version.checksum,
            parts: parts.parts.iter().map(|part| (part.number, part.size, part.md5)).collect(),
            body_md5: md5.finalize().into(),
        }
    }

    /// Shards on all disks.
    pub fn shards(&self) -> usize {
        self.disks.iter().map(|disk| disk.shards()).sum()
    }
}

fn map_disk(id: u32) -> MapDisk {
    MapDisk {
        id: DiskId(id),
        uuid: DiskUuid([id as u8; 16]),
        node: NodeId(id),
        rack: String::new(),
        zone: String::new(),
        weight: 10,
        state: DiskState::Up,
        path: String::new(),
        standing: Standing::default(),
    }
}

fn settings() -> RestoreSettings {
    RestoreSettings { cluster: CLUSTER, node: None, clock: Arc::new(SystemClock::new()) }
}

async fn open_engine(
    client: &Arc<MetadataClient>,
    network: &Arc<InProcess<ShardRequest, ShardResponse>>,
    options: EngineOptions,
) -> Engine {
    let writer = Writer::open(Arc::clone(client), "gateway").await.expect("opened");
    engine(Arc::new(writer), network, options)
}

async fn start(root: &tempfile::TempDir, may_found: MayFound) -> (Keeper, Arc<MetadataClient>) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let raft_peers = Arc::new(InProcess::new(Arc::clone(&clock)));
    let service_peers = Arc::new(InProcess::new(Arc::clone(&clock)));
    let client = Arc::new(MetadataClient::new(
        Arc::clone(&service_peers) as _,
        Arc::new(ReplicaBook::default()),
        Arc::clone(&clock),
    ));
    let path = root.path().join("metadata");
    let source = move || -> Vec<Arc<dyn Disk>> {
        RealDisk::open(&path).ok().map(|disk| Arc::new(disk) as Arc<dyn Disk>).into_iter().collect()
    };
    let parts = KeeperParts {
        world: World { cluster: CLUSTER, raft_network: Arc::clone(&raft_peers) as _, clock },
        placement: Placement::Alone,
        replicas: 1,
        disks: Arc::new(source),
        raft_peers,
        service_peers,
        client: Arc::clone(&client),
    };
    (Keeper::start(parts, may_found).await.expect("started"), client)
}
