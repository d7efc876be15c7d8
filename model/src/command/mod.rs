//! Commands: everything that changes metadata. Each is one atomic step of the state machine.
//!
//! A command is proposed under a [`CommandId`]; proposing it again after a time-out has the effect
//! of one (I-5), and is answered with the first outcome.

mod objects;
mod outcome;

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::class::{RecodeObject, SetRecode};
use crate::cluster_map::{Disk, DiskState, Mute, Pg, UpkeepWish};
use crate::coding::Coding;
use crate::extent::SlotSet;
use crate::ids::{
    ClusterId, DiskId, DiskUuid, ExtentId, NodeId, ReplicaId, SessionId, TokenId, UploadId,
};
use crate::moves::{Move, MoveEnd};
use crate::names::{BucketName, ClassName, ObjectKey};
use crate::node::{Authority, Job, JoinToken, Node, NodePlace, NodeRegistration, ReplicaPlace};
use crate::rebuild::SlotFound;
use crate::recovery::AdoptObject;
use crate::time::Timestamp;
use crate::upload::Upload;

pub use objects::{
    CommitObject, CompleteUpload, CopyObject, PutPart, SourceObject, WriteCondition,
};
pub use outcome::{Committed, Outcome, Refusal};

/// Names one proposal for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct CommandId {
    /// The proposer's session; [`SessionId`] 0 for the few commands that may be repeated without
    /// harm and so aren't remembered (opening a session, cluster map changes).
    #[n(0)]
    pub session: SessionId,
    /// Counts up within the session.
    #[n(1)]
    pub sequence: u64,
}

/// A command with what belongs to its proposal.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct CommandEnvelope {
    /// Its name.
    #[n(0)]
    pub id: CommandId,
    /// The proposer has the outcome of every command of its session below this sequence number:
    /// they need no longer be remembered.
    #[n(1)]
    pub acknowledged_below: u64,
    /// The proposer's time. The state machine uses the greater of this and the last time + 1 ns.
    #[n(2)]
    pub proposed: Timestamp,
    /// The command.
    #[n(3)]
    pub command: Command,
}

/// A change of the metadata.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Command {
    /// Makes the cluster: its identity and coding. Repeating it with the same identity changes
    /// nothing but the level of a cluster that is one process, and is of an older release.
    #[n(0)]
    InitCluster {
        /// The cluster's identity.
        #[n(0)]
        cluster: ClusterId,
        /// The coding of new extents.
        #[n(1)]
        coding: Coding,
        /// The greatest replica id in use at the start.
        #[n(2)]
        replicas: ReplicaId,
        /// The feature level of who proposes it, which the cluster has from then on while it is one
        /// process alone; 0 where the first release proposed it.
        #[n(3)]
        #[cbor(default)]
        level: u32,
    },
    /// Adds a disk to the cluster map, up. Repeating it with the same uuid answers the same id
    /// and updates node, path and weight.
    #[n(1)]
    RegisterDisk {
        /// Its identity.
        #[n(0)]
        uuid: DiskUuid,
        /// The node that keeps it.
        #[n(1)]
        node: NodeId,
        /// The node's rack.
        #[n(2)]
        rack: String,
        /// The rack's zone.
        #[n(3)]
        zone: String,
        /// Relative share of the data.
        #[n(4)]
        weight: u32,
        /// Where it is, for people.
        #[n(5)]
        path: String,
    },
    /// Sets a disk's state; PGs are added where none of the best coding is left open.
    #[n(2)]
    SetDiskState {
        /// The disk.
        #[n(0)]
        disk: DiskId,
        /// Its new state.
        #[n(1)]
        state: DiskState,
    },
    /// Gives out a replica id that was never used.
    #[n(3)]
    AllocateReplica,
    /// Opens a writer session, and ends all earlier ones of the same gateway.
    #[n(4)]
    OpenSession {
        /// The gateway's stable name.
        #[n(0)]
        gateway: String,
    },
    /// Ends a session: no extent of it can be committed any more.
    #[n(5)]
    EndSession {
        /// The session.
        #[n(0)]
        session: SessionId,
    },
    /// CreateBucket.
    #[n(6)]
    CreateBucket {
        /// The name.
        #[n(0)]
        name: BucketName,
        /// The identity that makes it.
        #[n(1)]
        owner: String,
        /// The location constraint; empty for the default region.
        #[n(2)]
        location: String,
    },
    /// DeleteBucket: refused while it has objects or uploads.
    #[n(7)]
    DeleteBucket {
        /// The name.
        #[n(0)]
        name: BucketName,
    },
    /// PutObject.
    #[n(8)]
    CommitObject(#[n(0)] CommitObject),
    /// CopyObject.
    #[n(9)]
    CopyObject(#[n(0)] CopyObject),
    /// DeleteObject; deleting what isn't there is no error.
    #[n(10)]
    DeleteObject {
        /// The bucket.
        #[n(0)]
        bucket: BucketName,
        /// The key.
        #[n(1)]
        key: ObjectKey,
        /// The condition.
        #[n(2)]
        condition: WriteCondition,
    },
    /// CreateMultipartUpload. The upload's `initiated` is set by the state machine.
    #[n(11)]
    CreateUpload {
        /// The bucket.
        #[n(0)]
        bucket: BucketName,
        /// The key.
        #[n(1)]
        key: ObjectKey,
        /// The upload.
        #[n(2)]
        upload: Upload,
    },
    /// UploadPart and UploadPartCopy.
    #[n(12)]
    PutPart(#[n(0)] PutPart),
    /// CompleteMultipartUpload. Remembered for 7 days: the same completion again is answered the
    /// same.
    #[n(13)]
    CompleteUpload(#[n(0)] CompleteUpload),
    /// AbortMultipartUpload: its parts become garbage.
    #[n(14)]
    AbortUpload {
        /// The bucket.
        #[n(0)]
        bucket: BucketName,
        /// The key.
        #[n(1)]
        key: ObjectKey,
        /// The upload.
        #[n(2)]
        upload: UploadId,
    },
    /// Puts extents into the repair queue, with slots found missing or damaged. Extents that have
    /// no owner any more are left out.
    #[n(15)]
    QueueRepair {
        /// Extents and their lacking slots.
        #[n(0)]
        lacking: Vec<LackingExtent>,
    },
    /// The shards of these garbage extents are deleted from every disk: forget them.
    #[n(16)]
    CollectGarbage {
        /// Entries of the garbage table.
        #[n(0)]
        collected: Vec<GarbageKey>,
    },
    /// The shards of these slots are whole again, on stable storage: take the slots out of the
    /// repair queue. Extents that aren't there any more, and slots that don't lack anything, are
    /// left alone.
    #[n(17)]
    ShardsRepaired {
        /// Extents and their repaired slots.
        #[n(0)]
        repaired: Vec<RepairedExtent>,
    },
    /// Adds a node to the cluster map. Repeating it with the same uuid answers the same id and
    /// updates the rest. Only for the founder, and for nodes that were let in before.
    #[n(18)]
    RegisterNode(#[n(0)] NodeRegistration),
    /// Lets a node in by a token: checks it, counts it down, and does what `RegisterNode` does.
    /// Repeating it with the same uuid uses up nothing more. A uuid that is known already is refused
    /// unless this token let it in, or it has proven to be that node.
    #[n(19)]
    JoinNode {
        /// The token.
        #[n(0)]
        token: TokenId,
        /// SHA-256 of the secret that was shown.
        #[n(1)]
        secret_sha256: ByteVec,
        /// Who asks.
        #[n(2)]
        node: NodeRegistration,
        /// The node that it has proven to be, by its earlier certificate.
        #[n(3)]
        proven: Option<NodeId>,
    },
    /// Takes a node out of the cluster map; refused while it keeps disks that aren't out, or
    /// replicas.
    #[n(20)]
    RemoveNode {
        /// The node.
        #[n(0)]
        node: NodeId,
    },
    /// Gives the cluster its certificate authority. Refused when it has another.
    #[n(21)]
    SetAuthority(#[n(0)] Authority),
    /// Makes a join token known.
    #[n(22)]
    CreateToken(#[n(0)] JoinToken),
    /// Forgets a join token.
    #[n(23)]
    RevokeToken {
        /// The token.
        #[n(0)]
        token: TokenId,
    },
    /// Says that a metadata replica is on this node.
    #[n(24)]
    PlaceReplica(#[n(0)] ReplicaPlace),
    /// Forgets where a metadata replica was: it is no member any more.
    #[n(25)]
    ForgetReplica {
        /// The replica.
        #[n(0)]
        replica: ReplicaId,
        /// The node that an operator took it away from: it keeps no other until one is placed there.
        #[n(1)]
        taken_from: Option<NodeId>,
    },
    /// Takes or renews the lease of a job for the holder's session; answered with whoever holds it
    /// now. A lease ends with its holder's session, or with its time.
    #[n(26)]
    TakeLease {
        /// The job.
        #[n(0)]
        job: Job,
        /// Who wants to do it.
        #[n(1)]
        holder: SessionId,
        /// For how long; 0 gives it back.
        #[n(2)]
        duration_ms: u32,
        /// The node that it is about, for a job that is done for each node by itself.
        #[n(3)]
        node: Option<NodeId>,
    },
    /// Makes an object again from the owner records of its shards: see [`AdoptObject`]. Only while
    /// sessions are held.
    #[n(27)]
    AdoptObject(#[n(0)] AdoptObject),
    /// Puts a part into an upload that the tables know, from the owner records of its shards. As
    /// `PutPart`, but its extents are of a held session; a part of that number that is there already
    /// stays, and is answered. Only while sessions are held.
    #[n(28)]
    AdoptPart(#[n(0)] PutPart),
    /// Puts a disk into the map under the number that it has on itself: one that the tables don't
    /// know, because they are older than it. Answered like `RegisterDisk`; a disk whose uuid is in
    /// the map keeps the number that it has there. Refused when the number is another disk's. Only
    /// while sessions are held.
    #[n(29)]
    AdoptDisk(#[n(0)] Disk),
    /// Adds placement groups that the tables don't know, as [`crate::rebuild`] finds them on the
    /// disks: ascending by number, without a gap behind those in the map. Groups whose number is in
    /// the map already stay as they are. From then on, groups are added as they are needed: so it is
    /// to be proposed once, with all there are, even if that is none. Only while sessions are held.
    ///
    /// With slots, it gives those to the disks that have their shards, and does nothing else: that is
    /// what has to come first, in as many commands as it takes. Refused when one is on another disk
    /// than it says by the map.
    #[n(30)]
    AdoptPgs {
        /// The groups.
        #[n(0)]
        pgs: Vec<Pg>,
        /// Slots of groups that are in the map already.
        #[n(1)]
        #[cbor(default)]
        slots: Vec<SlotFound>,
    },
    /// Holds nothing any more: what was written under held sessions and wasn't adopted is ownerless
    /// from now on, and is collected. Done when nothing is held; refused when something else is.
    #[n(31)]
    ReleaseHeld {
        /// What `Held::until` gives of what is to be released.
        #[n(0)]
        until: SessionId,
    },
    /// Enters a node that these tables don't know, under the number that its certificate proves: it
    /// joined after the backup was taken, or everything was lost. Repeating it answers the same.
    /// Only while sessions are held.
    #[n(32)]
    AdoptNode(#[n(0)] Node),
    /// Begins moves: their groups take no new extents until they have ended. Those that don't fit
    /// the map any more are left out; refused when none is left.
    #[n(33)]
    BeginMoves {
        /// The moves, the most urgent first.
        #[n(0)]
        moves: Vec<Move>,
    },
    /// Ends a move; a slot is given to its new disk only when nothing is lost by it (I-12). Repeating
    /// it changes nothing.
    #[n(34)]
    EndMove(#[n(0)] MoveEnd),
    /// Has a disk drained, or no longer.
    #[n(35)]
    DrainDisk {
        /// The disk.
        #[n(0)]
        disk: DiskId,
        /// Whether it is to be empty.
        #[n(1)]
        is_draining: bool,
    },
    /// Gives a disk another share of the data than its size says.
    #[n(36)]
    WeighDisk {
        /// The disk.
        #[n(0)]
        disk: DiskId,
        /// The share, like `Disk::weight`; `None` goes back to that.
        #[n(1)]
        weight: Option<u32>,
    },
    /// Says that a node is in another rack or zone, whatever it says of itself.
    #[n(37)]
    PlaceNode {
        /// The node.
        #[n(0)]
        node: NodeId,
        /// Where it is.
        #[n(1)]
        place: NodePlace,
    },
    /// Sets how the cluster keeps itself whole; refused when that was changed meanwhile. Repeating it
    /// changes nothing.
    #[n(38)]
    SetUpkeep {
        /// What this goes by.
        #[n(0)]
        known: UpkeepWish,
        /// What is wanted.
        #[n(1)]
        wish: UpkeepWish,
    },
    /// Mutes a health code until then; a time that has passed unmutes it.
    #[n(39)]
    MuteHealth(#[n(0)] Mute),
    /// Gives a disk up, or takes it back, by an operator's order: as `SetDiskState` does.
    #[n(40)]
    GiveUpDisk {
        /// The disk.
        #[n(0)]
        disk: DiskId,
        /// Whether it is out.
        #[n(1)]
        is_out: bool,
    },
    /// Makes a storage class, gives it another coding, or takes it away. What is there keeps the coding
    /// that it has until it is recoded.
    #[n(41)]
    SetStorageClass {
        /// Its name; `STANDARD` for the cluster's own coding.
        #[n(0)]
        name: ClassName,
        /// Its coding; `None` takes it away, unless buckets use it.
        #[n(1)]
        coding: Option<Coding>,
    },
    /// Says which class a bucket uses: what is written to it from now on without a class of its own.
    #[n(42)]
    SetBucketClass {
        /// The bucket.
        #[n(0)]
        bucket: BucketName,
        /// The class.
        #[n(1)]
        class: ClassName,
    },
    /// Has a bucket recoded, or no longer, or tells how far it is.
    #[n(43)]
    SetRecode(#[n(0)] SetRecode),
    /// Gives an object other extents with the same bytes.
    #[n(44)]
    RecodeObject(#[n(0)] RecodeObject),
}

/// An extent with slots that have their shards again.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RepairedExtent {
    /// The extent.
    #[n(0)]
    pub extent: ExtentId,
    /// The slots.
    #[n(1)]
    pub slots: SlotSet,
    /// The epoch of the cluster map whose disks have them. Slots that were given to other disks
    /// since then are left alone.
    #[n(2)]
    #[cbor(skip_if = "crate::encoding::is_default")]
    pub epoch: u64,
    /// For a slot that moves: the disk that it moves to, which has the shards.
    #[n(3)]
    pub moving_to: Option<DiskId>,
    /// For a slot that moves: when that move was begun, as its group says.
    #[n(4)]
    #[cbor(skip_if = "crate::encoding::is_default")]
    pub since: Timestamp,
}

/// An extent with slots that lack their shards.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LackingExtent {
    /// The extent.
    #[n(0)]
    pub extent: ExtentId,
    /// The slots.
    #[n(1)]
    pub slots: SlotSet,
}

/// The key of an entry in the garbage table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct GarbageKey {
    /// When the extent lost its last owner.
    #[n(0)]
    pub since: Timestamp,
    /// The extent.
    #[n(1)]
    pub extent: ExtentId,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::PgId;

    #[test]
    fn the_form_of_repaired_shards_is_pinned() {
        let extent = ExtentId { pg: PgId(1), session: SessionId(2), sequence: 3 };
        let repaired = vec![RepairedExtent {
            extent,
            slots: SlotSet(5),
            epoch: 7,
            moving_to: None,
            since: Timestamp::default(),
        }];
        let command = Command::ShardsRepaired { repaired };
        let bytes = minicbor::to_vec(&command).expect("encoded");
        assert_eq!(bytes, [0x82, 17, 0x81, 0x81, 0x83, 0x83, 1, 2, 3, 5, 7]);
        assert_eq!(minicbor::decode::<Command>(&bytes).expect("decoded"), command);
    }
}
