//! One of each message, so that every variant is tried.

use bytes::Bytes;
use minicbor::bytes::ByteVec;

use crate::bucket::Bucket;
use crate::checksum::{ChecksumAlgorithm, ChecksumKind, StoredChecksum, block_checksums};
use crate::class::*;
use crate::cluster_map::{ClusterMap, Disk, DiskState, Mute, Pg, UpkeepWish};
use crate::coding::Coding;
use crate::command::*;
use crate::extent::{Extent, SlotSet};
use crate::ids::*;
use crate::membership::*;
use crate::moves::*;
use crate::names::{BucketName, ClassName, ObjectKey};
use crate::node::*;
use crate::query::*;
use crate::rebuild::SlotFound;
use crate::recovery::{AdoptObject, BackupBegun, BackupPiece, Held};
use crate::shard::*;
use crate::time::Timestamp;
use crate::upkeep::*;
use crate::upload::{PartReference, Upload, UploadChecksum, UploadedPart};
use crate::version::*;

pub fn extent_id() -> ExtentId {
    ExtentId { pg: PgId(7), session: SessionId(300), sequence: 9 }
}

pub fn shard(stripe: u16, slot: u8) -> ShardId {
    ShardId { extent: extent_id(), stripe, slot }
}

pub fn coding() -> Coding {
    Coding::new(4, 2).expect("valid")
}

fn bucket_name() -> BucketName {
    BucketName::parse("photos").expect("valid")
}

fn object_key() -> ObjectKey {
    ObjectKey::parse("2026/ä/\u{0}.jpg").expect("valid")
}

fn etag() -> ETag {
    ETag { md5: [3; 16], parts: Some(2) }
}

fn checksum() -> StoredChecksum {
    StoredChecksum {
        algorithm: ChecksumAlgorithm::Crc64Nvme,
        kind: ChecksumKind::FullObject,
        digest: vec![1, 2, 3, 4, 5, 6, 7, 8],
    }
}

fn extent() -> Extent {
    Extent { id: extent_id(), coding: coding(), length: 5_000_000, missing: SlotSet(2), epoch: 4 }
}

fn part() -> Part {
    let extents = vec![extent()];
    Part { number: 1, size: 5_000_000, md5: [9; 16], checksum: Some(checksum()), extents }
}

fn headers() -> ObjectHeaders {
    let item = UserMetadata { name: "colour".to_owned(), value: "grün".to_owned() };
    ObjectHeaders {
        content_type: Some("image/jpeg".to_owned()),
        user: vec![item],
        ..ObjectHeaders::default()
    }
}

fn version() -> Version {
    Version {
        manifest: ManifestId([5; 16]),
        size: 5_000_000,
        etag: etag(),
        modified: Timestamp(1 << 60),
        headers: headers(),
        checksum: None,
        parts: Parts::Inline(vec![part()]),
        record: None,
    }
}

fn upload() -> Upload {
    let wanted =
        UploadChecksum { algorithm: ChecksumAlgorithm::Sha256, kind: ChecksumKind::Composite };
    Upload {
        id: UploadId([6; 16]),
        initiated: Timestamp(77),
        headers: headers(),
        checksum: Some(wanted),
        owner: "root".to_owned(),
    }
}

fn source() -> SourceObject {
    SourceObject { bucket: bucket_name(), key: object_key(), manifest: ManifestId([8; 16]) }
}

pub fn registration() -> NodeRegistration {
    NodeRegistration {
        uuid: NodeUuid([1; 16]),
        name: "alpha".to_owned(),
        address: "10.0.0.1:7000".to_owned(),
        roles: Roles::STORAGE_NODE.and(Roles::GATEWAY),
        rack: "r1".to_owned(),
        zone: String::new(),
        level: 1,
    }
}

fn report() -> DiskReport {
    DiskReport {
        disk: DiskId(3),
        uuid: DiskUuid([4; 16]),
        cluster: ClusterId([5; 16]),
        health: DiskHealth::Full,
        reason: Some("no space".to_owned()),
        capacity_bytes: 1 << 40,
        free_bytes: 5,
        live_bytes: 6,
        garbage_bytes: 7,
        shards: 8,
        incarnation: Incarnation(9),
        reserve_bytes: 10,
        damaged_shards: 11,
        scrub: ScrubReport { began: Timestamp(1), on_demand: true, ..ScrubReport::default() },
        compaction: CompactionReport { moved_bytes: 2, ..CompactionReport::default() },
    }
}

pub fn append(slot: u8, payload: &'static [u8]) -> ShardAppend {
    ShardAppend {
        id: shard(0, slot),
        coding: coding(),
        stripe_bytes: 40,
        payload: Bytes::from_static(payload),
        checksums: block_checksums(shard(0, slot), payload).into(),
        owner: Bytes::from_static(b"sealed"),
    }
}

pub fn shard_requests() -> Vec<ShardRequest> {
    let disk = DiskId(2);
    let extents = vec![extent_id(), ExtentId::default()];
    vec![
        ShardRequest::Append {
            disk,
            shards: vec![append(0, b"one"), append(1, b""), append(4, b"three")],
            sync: true,
        },
        ShardRequest::Sync { disk, incarnation: Incarnation(4), position: u64::MAX },
        ShardRequest::Read {
            disk,
            reads: vec![ShardRead { id: shard(1, 5), offset: 65_536, length: 100 }],
        },
        ShardRequest::Delete { disk, extents: extents.clone() },
        ShardRequest::Inventory { disk, pg: PgId(1), after: Some(shard(2, 2)), limit: 10 },
        ShardRequest::Verify { disk, extents },
        ShardRequest::Damaged { disk, after: None, limit: 10_000 },
        ShardRequest::Scrub { disk, order: ScrubOrder::Begin { bytes_per_second: 1 << 40 } },
        ShardRequest::Status,
        ShardRequest::Scrub { disk, order: ScrubOrder::End },
        ShardRequest::Groups { disk, after: Some(PgId(3)), limit: 10 },
    ]
}

pub fn shard_responses() -> Vec<ShardResponse> {
    let blocks = ShardBlocks {
        first_block: 1,
        payload: Bytes::from_static(b"payload"),
        checksums: vec![1, u64::MAX],
        shard_bytes: 65_543,
        owner: Bytes::from_static(b"sealed"),
        coding: coding(),
        stripe_bytes: 100_000,
    };
    let (disk, id) = (DiskId(1), shard(1, 1));
    let mut responses = vec![
        ShardResponse::Appended { incarnation: Incarnation(1), position: 2 },
        ShardResponse::Synced,
        ShardResponse::Read(vec![
            Ok(blocks.clone()),
            Err(ShardError::Corrupt(disk, id)),
            Ok(ShardBlocks { payload: Bytes::new(), ..blocks }),
        ]),
        ShardResponse::Deleted,
        ShardResponse::Inventory(vec![(id, 5), (shard(2, 1), u32::MAX)]),
        ShardResponse::Verified(vec![(id, ShardState::Sound), (id, ShardState::Damaged)]),
        ShardResponse::Damaged(vec![id]),
        ShardResponse::ScrubOrdered,
        ShardResponse::Status(vec![report()]),
        ShardResponse::Groups(vec![PgId(1), PgId(70_000)]),
    ];
    let errors = [
        ShardError::NotFound(disk, id),
        ShardError::Corrupt(disk, id),
        ShardError::Invalid("a checksum fails".into()),
        ShardError::Exists(id),
        ShardError::WrongIncarnation(disk),
        ShardError::Full(disk),
        ShardError::ReadOnly(disk),
        ShardError::Failed(disk),
        ShardError::NoSuchDisk(disk),
        ShardError::Overloaded(disk),
    ];
    responses.extend(errors.map(ShardResponse::Failed));
    responses
}

/// One of each command, in the order of their numbers, with the roles that may propose it.
pub fn commands() -> Vec<(Command, Roles)> {
    let (object, users) = ((bucket_name(), object_key()), Roles::METADATA.and(Roles::GATEWAY));
    let keepers = Roles::METADATA.and(Roles::STORAGE_NODE);
    let (bucket, key) = object;
    let manifest = ManifestId([2; 16]);
    let lacking = LackingExtent { extent: extent_id(), slots: SlotSet(5) };
    let repaired = RepairedExtent {
        extent: extent_id(),
        slots: SlotSet(6),
        epoch: 5,
        moving_to: Some(DiskId(3)),
        since: Timestamp(4),
    };
    let reference = PartReference { number: 1, md5: [9; 16], checksum: Some(checksum()) };
    let token = JoinToken {
        id: TokenId([1; 16]),
        secret_sha256: ByteVec::from(vec![1; 32]),
        roles: Roles::STORAGE_NODE,
        expires: Timestamp(5),
        uses_left: 2,
    };
    vec![
        (
            Command::InitCluster {
                cluster: ClusterId([1; 16]),
                coding: coding(),
                replicas: ReplicaId(3),
                level: 2,
            },
            Roles::METADATA,
        ),
        (
            Command::RegisterDisk {
                uuid: DiskUuid([1; 16]),
                node: NodeId(1),
                rack: "r".to_owned(),
                zone: "z".to_owned(),
                weight: 100,
                path: "/disk".to_owned(),
            },
            keepers,
        ),
        (Command::SetDiskState { disk: DiskId(1), state: DiskState::Out }, Roles::METADATA),
        (Command::AllocateReplica, Roles::METADATA),
        (Command::OpenSession { gateway: "gateway".to_owned() }, users),
        (Command::EndSession { session: SessionId(1) }, users),
        (
            Command::CreateBucket {
                name: bucket.clone(),
                owner: "root".to_owned(),
                location: String::new(),
            },
            users,
        ),
        (Command::DeleteBucket { name: bucket.clone() }, users),
        (
            Command::CommitObject(CommitObject {
                bucket: bucket.clone(),
                key: key.clone(),
                manifest,
                size: 5_000_000,
                etag: etag(),
                headers: headers(),
                checksum: Some(checksum()),
                parts: vec![part()],
                condition: WriteCondition::Matches(etag()),
                record: None,
            }),
            users,
        ),
        (
            Command::CopyObject(CopyObject {
                source: source(),
                bucket: bucket.clone(),
                key: key.clone(),
                manifest,
                headers: Some(headers()),
                condition: WriteCondition::Absent,
                record: None,
            }),
            users,
        ),
        (
            Command::DeleteObject {
                bucket: bucket.clone(),
                key: key.clone(),
                condition: WriteCondition::Present,
            },
            users,
        ),
        (
            Command::CreateUpload { bucket: bucket.clone(), key: key.clone(), upload: upload() },
            users,
        ),
        (
            Command::PutPart(PutPart {
                bucket: bucket.clone(),
                key: key.clone(),
                upload: UploadId([6; 16]),
                part: part(),
                shared_with: Some(source()),
            }),
            users,
        ),
        (
            Command::CompleteUpload(CompleteUpload {
                bucket: bucket.clone(),
                key: key.clone(),
                upload: UploadId([6; 16]),
                parts: vec![reference],
                manifest,
                etag: etag(),
                size: 5_000_000,
                checksum: None,
                condition: WriteCondition::Always,
                record: None,
            }),
            users,
        ),
        (Command::AbortUpload { bucket, key, upload: UploadId([6; 16]) }, users),
        (Command::QueueRepair { lacking: vec![lacking] }, users),
        (
            Command::CollectGarbage {
                collected: vec![GarbageKey { since: Timestamp(1), extent: extent_id() }],
            },
            users,
        ),
        (Command::ShardsRepaired { repaired: vec![repaired] }, users),
        (Command::RegisterNode(registration()), Roles::METADATA),
        (
            Command::JoinNode {
                token: TokenId([1; 16]),
                secret_sha256: ByteVec::from(vec![2; 32]),
                node: registration(),
                proven: Some(NodeId(3)),
            },
            Roles::METADATA,
        ),
        (Command::RemoveNode { node: NodeId(1) }, Roles::METADATA),
        (Command::SetAuthority(authority()), Roles::METADATA),
        (Command::CreateToken(token), Roles::METADATA),
        (Command::RevokeToken { token: TokenId([1; 16]) }, Roles::METADATA),
        (Command::PlaceReplica(place()), Roles::METADATA),
        (
            Command::ForgetReplica { replica: ReplicaId(4), taken_from: Some(NodeId(2)) },
            Roles::METADATA,
        ),
        (
            Command::TakeLease {
                job: Job::Backup,
                holder: SessionId(3),
                duration_ms: 1000,
                node: Some(NodeId(2)),
            },
            users,
        ),
        (Command::AdoptObject(adopted()), users),
        (
            Command::AdoptPart(PutPart {
                bucket: bucket_name(),
                key: object_key(),
                upload: UploadId([6; 16]),
                part: part(),
                shared_with: None,
            }),
            users,
        ),
        (Command::AdoptDisk(disk()), keepers),
        (
            Command::AdoptPgs {
                pgs: vec![Pg::new(PgId(1), coding(), vec![DiskId(1)])],
                slots: vec![SlotFound { pg: PgId(1), slot: 2, from: DiskId(3), to: DiskId(4) }],
            },
            users,
        ),
        (Command::ReleaseHeld { until: SessionId(9) }, users),
        (Command::AdoptNode(Node::new(NodeId(4), registration())), Roles::METADATA),
        (Command::BeginMoves { moves: vec![a_move()] }, users),
        (Command::EndMove(move_end(MoveResult::Done { unrecoverable: vec![extent_id()] })), users),
        (Command::DrainDisk { disk: DiskId(1), is_draining: true }, users),
        (Command::WeighDisk { disk: DiskId(1), weight: Some(3) }, users),
        (Command::PlaceNode { node: NodeId(2), place: node_place() }, users),
        (
            Command::SetUpkeep {
                known: UpkeepWish { is_paused: true, ..UpkeepWish::default() },
                wish: UpkeepWish {
                    is_paused: true,
                    bytes_per_second: Some(1 << 20),
                    suspect_after_seconds: Some(1),
                    down_after_seconds: Some(2),
                    out_after_seconds: Some(3),
                    nearfull_percent: Some(90),
                },
            },
            users,
        ),
        (Command::MuteHealth(mute()), users),
        (Command::GiveUpDisk { disk: DiskId(1), is_out: true }, users),
        (Command::SetStorageClass { name: class_name(), coding: Some(coding()) }, users),
        (Command::SetBucketClass { bucket: bucket_name(), class: class_name() }, users),
        (
            Command::SetRecode(SetRecode {
                bucket: bucket_name(),
                known: Some(Timestamp(4)),
                order: Some(recode_order()),
            }),
            users,
        ),
        (
            Command::RecodeObject(RecodeObject {
                bucket: bucket_name(),
                key: object_key(),
                manifest: ManifestId([1; 16]),
                recoded: ManifestId([2; 16]),
                class: class_name(),
                parts: vec![RecodedPart { number: 1, extents: vec![extent()] }],
                record: Some(extent()),
            }),
            users,
        ),
    ]
}

fn class_name() -> ClassName {
    ClassName::parse("MIRROR").expect("valid")
}

fn recode_order() -> RecodeOrder {
    let amount = RecodeAmount { objects: 3, bytes: 4 };
    RecodeOrder {
        ordered: Timestamp(4),
        cursor: "k".to_owned(),
        done: amount,
        total: Some(amount),
        failed: 1,
        changed: 2,
        begun: Some(Timestamp(5)),
        ..RecodeOrder::new(class_name())
    }
}

fn a_move() -> Move {
    let (from, to) = (DiskId(2), DiskId(3));
    Move { pg: PgId(0), slot: 1, from, to, reason: MoveReason::Drain }
}

fn slot_move() -> SlotMove {
    SlotMove {
        slot: 1,
        to: DiskId(3),
        reason: MoveReason::Balance,
        since: Timestamp(4),
        fault: Some(MoveFault::Sources),
    }
}

fn move_end(result: MoveResult) -> MoveEnd {
    MoveEnd { pg: PgId(0), slot: 1, to: DiskId(3), result, since: Timestamp(4) }
}

fn node_place() -> NodePlace {
    NodePlace { rack: "b".to_owned(), zone: "z".to_owned() }
}

fn mute() -> Mute {
    Mute { code: "DISK_DOWN".to_owned(), until: Timestamp(8) }
}

fn adopted() -> AdoptObject {
    AdoptObject {
        bucket: bucket_name(),
        owner: "root".to_owned(),
        key: object_key(),
        manifest: ManifestId([5; 16]),
        size: 5_000_000,
        etag: etag(),
        headers: headers(),
        checksum: None,
        parts: vec![part()],
        modified: Timestamp(5),
        record: None,
    }
}

fn authority() -> Authority {
    Authority { certificate: ByteVec::from(vec![1, 2]), sealed_key: ByteVec::from(vec![3]) }
}

fn place() -> ReplicaPlace {
    ReplicaPlace { replica: ReplicaId(4), node: NodeId(2) }
}

pub fn envelope(command: Command) -> CommandEnvelope {
    CommandEnvelope {
        id: CommandId { session: SessionId(3), sequence: 4 },
        acknowledged_below: 2,
        proposed: Timestamp(1 << 60),
        command,
    }
}

/// One of each query, in the order of their numbers, with the roles that may ask it.
pub fn queries() -> Vec<(Query, Roles)> {
    let users = Roles::METADATA.and(Roles::GATEWAY);
    let (bucket, key, upload) = (bucket_name(), object_key(), UploadId([6; 16]));
    let (prefix, delimiter) = ("a".to_owned(), "/".to_owned());
    vec![
        (Query::Bucket { name: bucket.clone() }, users),
        (Query::Buckets { prefix: prefix.clone(), after: String::new(), limit: 5 }, users),
        (
            Query::Object {
                bucket: bucket.clone(),
                key: key.clone(),
                plan: PlanWanted::Between(1, u64::MAX),
            },
            users,
        ),
        (
            Query::Objects(ListObjects {
                bucket: bucket.clone(),
                prefix: prefix.clone(),
                delimiter: delimiter.clone(),
                after: String::new(),
                limit: 1000,
            }),
            users,
        ),
        (Query::Upload { bucket: bucket.clone(), key: key.clone(), upload }, users),
        (
            Query::Uploads(ListUploads {
                bucket: bucket.clone(),
                prefix,
                delimiter,
                key_marker: "k".to_owned(),
                upload_marker: Some(upload),
                limit: 3,
            }),
            users,
        ),
        (
            Query::Parts { bucket: bucket.clone(), key: key.clone(), upload, after: 1, limit: 2 },
            users,
        ),
        (Query::ObjectParts { bucket, key, after: 9, limit: 1 }, users),
        (Query::Garbage { before: Timestamp(8), limit: 1 }, users),
        (Query::Repairs { after: Some(cursor()), limit: 1 }, users),
        (Query::Extents { pg: PgId(1), after: Some(extent_id()), limit: 1 }, users),
        (Query::ExtentStates { extents: vec![extent_id()] }, users),
        (Query::ClusterMap { known_epoch: 4 }, Roles::ALL),
        (Query::Trust, Roles::METADATA),
        (Query::Held, users),
        (Query::UnusedGroups, Roles::ALL),
        (
            Query::ToRecode {
                bucket: bucket_name(),
                after: "k".to_owned(),
                limit: 9,
                class: Some(class_name()),
            },
            users,
        ),
    ]
}

fn cursor() -> RepairCursor {
    RepairCursor { priority: 129, extent: extent_id() }
}

pub fn metadata_requests() -> Vec<MetadataRequest> {
    let mut requests = vec![
        MetadataRequest::Propose(Vec::new()),
        MetadataRequest::Heartbeat(Heartbeat { node: NodeId(1), disks: vec![report()] }),
        MetadataRequest::Status,
        MetadataRequest::BeginBackup,
        MetadataRequest::ReadBackup { id: 3, offset: 1 << 20 },
        MetadataRequest::EndBackup { id: 3 },
        MetadataRequest::Transfer { to: Some(ReplicaId(2)) },
        MetadataRequest::Digest { at: 77 },
    ];
    let plans = [
        PlanWanted::Nothing,
        PlanWanted::Whole,
        PlanWanted::From(1),
        PlanWanted::Last(2),
        PlanWanted::Part(3),
    ];
    requests.extend(plans.map(|plan| {
        MetadataRequest::Query(Query::Object { bucket: bucket_name(), key: object_key(), plan })
    }));
    requests.extend(
        commands()
            .into_iter()
            .map(|(command, _)| MetadataRequest::Propose(vec![envelope(command)])),
    );
    requests.extend(queries().into_iter().map(|(query, _)| MetadataRequest::Query(query)));
    requests
}

fn disk() -> Disk {
    Disk {
        id: DiskId(1),
        uuid: DiskUuid([1; 16]),
        node: NodeId(1),
        rack: String::new(),
        zone: String::new(),
        weight: 10,
        state: DiskState::Up,
        path: "/disk".to_owned(),
        standing: crate::cluster_map::Standing {
            is_draining: true,
            weight: Some(7),
            since: Timestamp(9),
            flaps: 2,
            is_given_up: true,
        },
    }
}

fn map() -> ClusterMap {
    let mut map = ClusterMap::new(ClusterId([1; 16]), coding());
    map.disks.push(disk());
    map.pgs.push(Pg {
        moves: vec![slot_move()],
        moved: vec![SlotMoved { slot: 1, epoch: 2 }],
        ..Pg::new(PgId(0), coding(), vec![DiskId(1); 6])
    });
    map.nodes.push(Node { place: Some(node_place()), ..Node::new(NodeId(1), registration()) });
    map.replicas.push(place());
    map.without_metadata.push(NodeId(1));
    let class = StorageClass { name: class_name(), coding: coding(), buckets: vec![bucket_name()] };
    map.classes.push(class);
    map
}

fn answers() -> Vec<Answer> {
    let bucket = Bucket {
        id: BucketId(1),
        name: bucket_name(),
        created: Timestamp(5),
        owner: "root".to_owned(),
        location: String::new(),
        recode: Some(recode_order()),
    };
    let found = ObjectFound {
        version: version(),
        range: Some(5..10),
        extents: vec![PlannedExtent { offset: 1, extent: extent() }],
    };
    let summary = ObjectSummary {
        key: object_key(),
        size: 9,
        etag: etag(),
        modified: Timestamp(4),
        checksum: upload().checksum,
        class: Some(class_name()),
    };
    let paged = PartIndex { count: 600, page_offsets: vec![0, 9], page_numbers: vec![1, 300] };
    vec![
        Answer::Bucket(bucket.clone()),
        Answer::Buckets(vec![bucket]),
        Answer::Object(found.clone()),
        Answer::Object(ObjectFound {
            version: Version { parts: Parts::Paged(paged), ..version() },
            range: None,
            extents: Vec::new(),
        }),
        Answer::Objects(ObjectPage {
            objects: vec![summary],
            common_prefixes: vec!["p/".to_owned()],
            next: Some("p/".to_owned()),
        }),
        Answer::Upload(upload()),
        Answer::Uploads(UploadPage {
            uploads: vec![(object_key(), upload())],
            common_prefixes: Vec::new(),
            next: Some(("k".to_owned(), None)),
        }),
        Answer::Parts(PartPage {
            upload: upload(),
            parts: vec![UploadedPart { part: part(), modified: Timestamp(1) }],
            truncated: true,
        }),
        Answer::ObjectParts(ObjectPartPage {
            version: version(),
            parts: vec![part()],
            truncated: false,
        }),
        Answer::Garbage(vec![GarbageItem {
            key: GarbageKey { since: Timestamp(1), extent: extent_id() },
            coding: coding(),
            length: 5,
        }]),
        Answer::Repairs(RepairPage {
            total: 1,
            items: vec![RepairItem { extent: extent(), spare: -1 }],
            next: Some(cursor()),
        }),
        Answer::Extents(ExtentPage {
            extents: vec![ExtentEntry { extent: extent(), is_owned: true }],
            next: Some(extent_id()),
        }),
        Answer::ExtentStates(vec![
            ExtentState::Owned,
            ExtentState::Garbage,
            ExtentState::InFlight,
            ExtentState::Ownerless,
            ExtentState::Foreign,
            ExtentState::Held,
        ]),
        Answer::ClusterMap(None),
        Answer::ClusterMap(Some(map())),
        Answer::Trust(Box::new(Trust { authority: Some(authority()), tokens: Vec::new() })),
        Answer::Held(None),
        Answer::UnusedGroups(vec![PgId(1), PgId(7)]),
        Answer::ToRecode(RecodePage {
            keys: vec![object_key()],
            amount: RecodeAmount { objects: 1, bytes: 9 },
            next: Some(object_key()),
        }),
        Answer::Held(Some(Held { sessions: vec![SessionId(1)], ..Held::default() })),
        Answer::Refused(Refusal::PartTooSmall { number: 3 }),
    ]
}

pub fn metadata_responses() -> Vec<MetadataResponse> {
    let committed = Committed { etag: etag(), modified: Timestamp(1), checksum: Some(checksum()) };
    let lease = Lease { job: Job::Collect, holder: SessionId(1), until: Timestamp(9), node: None };
    let outcomes = vec![
        Outcome::Done,
        Outcome::DiskRegistered(DiskId(1)),
        Outcome::ReplicaAllocated(ReplicaId(1)),
        Outcome::SessionOpened(SessionId(1)),
        Outcome::BucketCreated(BucketId(1)),
        Outcome::Committed(committed),
        Outcome::Deleted { existed: true },
        Outcome::Refused(Refusal::InvalidPart { number: 2 }),
        Outcome::NodeRegistered(NodeId(1)),
        Outcome::Leased(lease),
    ];
    let status = MetadataStatus {
        replica: ReplicaId(1),
        leader: Some(ReplicaId(2)),
        term: 3,
        state: "follower".to_owned(),
        voters: vec![ReplicaId(1)],
        tables: vec![TableDigest { table: "versions".to_owned(), rows: 1, digest: u64::MAX }],
        disks: vec![report()],
        ..MetadataStatus::default()
    };
    let digest = ReplicaDigest {
        replica: ReplicaId(2),
        term: 3,
        index: 77,
        tables: vec![CheckedTable {
            digest: TableDigest { table: "versions".to_owned(), rows: 1, digest: 5 },
            damage: Some("a row fails its checksum".to_owned()),
        }],
    };
    let mut responses = vec![
        MetadataResponse::Outcomes(outcomes),
        MetadataResponse::HeartbeatTaken { epoch: 9 },
        MetadataResponse::Status(Box::new(status)),
        MetadataResponse::BackupBegun(BackupBegun { replica: ReplicaId(1), id: 3, index: 9 }),
        MetadataResponse::BackupPiece(BackupPiece { bytes: vec![1, 2].into(), length: Some(2) }),
        MetadataResponse::BackupEnded,
        MetadataResponse::Transferred(ReplicaId(2)),
        MetadataResponse::Digest(Box::new(digest)),
    ];
    let errors = [
        MetadataError::NotLeader { leader: Some(ReplicaId(1)) },
        MetadataError::NotLeader { leader: None },
        MetadataError::Unavailable,
        MetadataError::Unknown,
        MetadataError::Overloaded,
        MetadataError::Fenced,
    ];
    responses.extend(errors.map(MetadataResponse::Failed));
    responses
        .extend(answers().into_iter().map(|answer| MetadataResponse::Answer(Box::new(answer))));
    responses
}

pub fn membership_requests() -> Vec<MembershipRequest> {
    let certificate_request = ByteVec::from(vec![0x30, 0x82]);
    vec![
        MembershipRequest::Join {
            token: TokenId([1; 16]),
            secret: ByteVec::from(vec![7; 32]),
            node: registration(),
            certificate_request: certificate_request.clone(),
            certificate: None,
        },
        MembershipRequest::Join {
            token: TokenId([1; 16]),
            secret: ByteVec::from(vec![7; 32]),
            node: registration(),
            certificate_request: certificate_request.clone(),
            certificate: Some(ByteVec::from(vec![0x30, 0x81])),
        },
        MembershipRequest::Renew { certificate_request },
        MembershipRequest::Register { node: registration() },
    ]
}

pub fn membership_responses() -> Vec<MembershipResponse> {
    let members = Members {
        epoch: 3,
        nodes: vec![Node { place: Some(node_place()), ..Node::new(NodeId(1), registration()) }],
        replicas: vec![place()],
        last_node: NodeId(4),
    };
    let joined = Joined {
        cluster: ClusterId([1; 16]),
        node: NodeId(2),
        certificate: ByteVec::from(vec![1]),
        authority: ByteVec::from(vec![2]),
        secrets: Some("[secrets]".to_owned()),
        members: members.clone(),
    };
    let mut responses = vec![
        MembershipResponse::Joined(Box::new(joined)),
        MembershipResponse::Renewed(ByteVec::from(vec![1, 2, 3])),
        MembershipResponse::Registered(Box::new(members)),
    ];
    let errors = [
        MembershipError::TokenInvalid,
        MembershipError::Invalid("no".to_owned()),
        MembershipError::Unavailable,
        MembershipError::Removed,
        MembershipError::NoAuthority,
    ];
    responses.extend(errors.map(MembershipResponse::Failed));
    responses
}
