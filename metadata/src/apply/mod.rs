//! Commands, applied: deterministic, without clock, randomness or I/O of their own (I-10).
//!
//! In: one command at a time with the tables of a transaction and what is kept in memory. Out: its
//! outcome. What always holds: a refused command has changed nothing but the session's memory of
//! it; a command that was applied before is answered with its first outcome (I-5).

mod buckets;
mod classes;
mod cluster;
mod elsewhere;
mod extents;
mod held;
mod leases;
mod memory;
mod moves;
mod nodes;
mod objects;
mod recode;
mod sessions;
mod settled;
mod tokens;
mod uploads;

pub use memory::{Directory, Memory};

use std::sync::Arc;

use model::cluster_map::ClusterMap;
use model::command::{Command, CommandEnvelope, Outcome, Refusal};
use model::time::Timestamp;

use crate::state::StateError;
use crate::tables::Tables;

/// What a command's application gives: an outcome, a refusal (which is an outcome too), or damage.
pub(crate) enum Stop {
    /// The command changes nothing.
    Refused(Refusal),
    /// The state can't be trusted.
    Damaged(StateError),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<StateError> for Stop {
    fn from(error: StateError) -> Self {
        Self::Damaged(error)
    }
}

/// One command under way.
pub(crate) struct Step<'a, 'txn> {
    /// The tables.
    pub tables: &'a mut Tables<'txn>,
    /// What is kept in memory.
    pub memory: &'a mut Memory,
    /// The time that the command takes effect.
    pub now: Timestamp,
}

/// Applies one command.
pub fn apply(
    tables: &mut Tables<'_>,
    memory: &mut Memory,
    envelope: &CommandEnvelope,
) -> Result<Outcome, StateError> {
    if let Some(outcome) = memory.recall(envelope) {
        return Ok(outcome);
    }
    let now = memory.advance_time(envelope.proposed);
    let mut step = Step { tables, memory, now };
    let outcome = match step.carry_out(&envelope.command) {
        Ok(outcome) => outcome,
        Err(Stop::Refused(refusal)) => Outcome::Refused(refusal),
        Err(Stop::Damaged(error)) => return Err(error),
    };
    memory.remember(envelope, &outcome);
    Ok(outcome)
}

impl Step<'_, '_> {
    fn carry_out(&mut self, command: &Command) -> Result<Outcome, Stop> {
        let is_beyond = |map: &Arc<ClusterMap>| !map.allows(command);
        if self.memory.directory().map.as_ref().is_some_and(is_beyond) {
            return Err(Refusal::LevelTooLow.into());
        }
        match command {
            Command::InitCluster { cluster, coding, replicas, level } => {
                self.init_cluster(*cluster, *coding, *replicas, *level)
            }
            Command::RegisterDisk { uuid, node, rack, zone, weight, path } => {
                self.register_disk(&cluster::NewDisk {
                    uuid: *uuid,
                    node: *node,
                    rack,
                    zone,
                    weight: *weight,
                    path,
                })
            }
            Command::SetDiskState { disk, state } => self.set_disk_state(*disk, *state),
            Command::AllocateReplica => Ok(self.allocate_replica()),
            Command::OpenSession { gateway } => self.open_session(gateway),
            Command::EndSession { session } => Ok(self.end_session(*session)),
            Command::CreateBucket { name, owner, location } => {
                self.create_bucket(name, owner, location)
            }
            Command::DeleteBucket { name } => self.delete_bucket(name),
            Command::CommitObject(commit) => self.commit_object(commit),
            Command::CopyObject(copy) => self.copy_object(copy),
            Command::DeleteObject { bucket, key, condition } => {
                self.delete_object(bucket, key, *condition)
            }
            Command::CreateUpload { bucket, key, upload } => {
                self.create_upload(bucket, key, upload)
            }
            Command::PutPart(put) => self.put_part(put),
            Command::CompleteUpload(complete) => self.complete_upload(complete),
            Command::AbortUpload { bucket, key, upload } => self.abort_upload(bucket, key, *upload),
            Command::QueueRepair { lacking } => self.queue_repair(lacking),
            Command::CollectGarbage { collected } => self.collect_garbage(collected),
            Command::ShardsRepaired { repaired } => self.shards_repaired(repaired),
            Command::RegisterNode(node) => self.register_node(node),
            Command::JoinNode { token, secret_sha256, node, proven } => {
                self.join_node(*token, secret_sha256, node, *proven)
            }
            Command::RemoveNode { node } => self.remove_node(*node),
            Command::SetAuthority(authority) => self.set_authority(authority),
            Command::CreateToken(token) => self.create_token(token),
            Command::RevokeToken { token } => self.revoke_token(*token),
            Command::PlaceReplica(place) => self.place_replica(*place),
            Command::ForgetReplica { replica, taken_from } => {
                self.forget_replica(*replica, *taken_from)
            }
            Command::TakeLease { job, holder, duration_ms, node } => {
                self.take_lease(*job, *holder, *duration_ms, *node)
            }
            Command::AdoptObject(adopt) => self.adopt_object(adopt),
            Command::AdoptPart(put) => self.adopt_part(put),
            Command::AdoptDisk(disk) => self.adopt_disk(disk),
            Command::AdoptNode(node) => self.adopt_node(node),
            Command::AdoptPgs { pgs, slots } => self.adopt_pgs(pgs, slots),
            Command::ReleaseHeld { until } => self.release_held(*until),
            Command::BeginMoves { moves } => self.begin_moves(moves),
            Command::EndMove(end) => self.end_move(end),
            Command::DrainDisk { disk, is_draining } => self.drain_disk(*disk, *is_draining),
            Command::WeighDisk { disk, weight } => self.weigh_disk(*disk, *weight),
            Command::PlaceNode { node, place } => self.place_node(*node, place),
            Command::SetUpkeep { known, wish } => self.set_upkeep(known, *wish),
            Command::MuteHealth(mute) => self.mute_health(mute),
            Command::GiveUpDisk { disk, is_out } => self.give_up_disk(*disk, *is_out),
            Command::SetStorageClass { name, coding } => self.set_storage_class(name, *coding),
            Command::SetBucketClass { bucket, class } => self.set_bucket_class(bucket, class),
            Command::SetRecode(set) => self.set_recode(set),
            Command::RecodeObject(recode) => self.recode_object(recode),
        }
    }
}
