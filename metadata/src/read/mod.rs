//! Queries, answered from a view of the tables.
//!
//! In: a query that was confirmed to reach the leader. Out: an answer from everything that Raft
//! counts as applied, be it kept in memory or in the tables (I-4). Reading changes nothing; a damaged row is an error that fences the replica.

mod buckets;
mod extents;
mod list;
mod objects;
mod queues;
mod recoding;
mod trust;
mod unused;
mod uploads;

use model::command::Refusal;
use model::ids::BucketId;
use model::names::BucketName;
use model::query::{Answer, Query};

use crate::limits::ANSWER_ROWS_MAX;
use crate::state::{StateError, StateMachine};
use crate::tables::View;

/// Answers a query. Blocks on the disk while the machine has something pending.
pub fn answer(machine: &StateMachine, query: &Query) -> Result<Answer, StateError> {
    machine.catch_up()?;
    let result = match query {
        Query::Bucket { name } => buckets::bucket(machine, name),
        Query::Buckets { prefix, after, limit } => {
            Ok(buckets::buckets(machine, prefix, after, rows(*limit)))
        }
        Query::ClusterMap { known_epoch } => Ok(buckets::cluster_map(machine, *known_epoch)),
        Query::Object { bucket, key, plan } => {
            in_bucket(machine, bucket, |view, id| objects::object(view, id, key, *plan))
        }
        Query::Objects(list) => {
            in_bucket(machine, &list.bucket, |view, id| list::objects(view, id, list))
        }
        Query::Upload { bucket, key, upload } => {
            in_bucket(machine, bucket, |view, id| uploads::upload(view, id, key, *upload))
        }
        Query::Uploads(list) => {
            in_bucket(machine, &list.bucket, |view, id| uploads::uploads(view, id, list))
        }
        Query::Parts { bucket, key, upload, after, limit } => {
            in_bucket(machine, bucket, |view, id| {
                uploads::parts(view, id, key, *upload, *after, rows(*limit))
            })
        }
        Query::ObjectParts { bucket, key, after, limit } => {
            in_bucket(machine, bucket, |view, id| {
                objects::object_parts(view, id, key, *after, rows(*limit))
            })
        }
        Query::Garbage { before, limit } => {
            machine.read(|view| queues::garbage(view, *before, rows(*limit))).map_err(Stop::from)
        }
        Query::Repairs { after, limit } => {
            machine.read(|view| queues::repairs(view, *after, rows(*limit))).map_err(Stop::from)
        }
        Query::Extents { pg, after, limit } => machine
            .read(|view| extents::extents(view, *pg, *after, rows(*limit)))
            .map_err(Stop::from),
        Query::Trust => machine.read(trust::trust).map_err(Stop::from),
        Query::Held => machine.read(extents::held).map_err(Stop::from),
        Query::UnusedGroups => unused::unused_groups(machine).map_err(Stop::from),
        Query::ToRecode { bucket, after, limit, class } => {
            recoding::to_recode(machine, bucket, after, rows(*limit), class.as_ref())
        }
        Query::ExtentStates { extents } if extents.len() > ANSWER_ROWS_MAX as usize => {
            Err(Stop::Refused(Refusal::InvalidCommand))
        }
        Query::ExtentStates { extents } => {
            machine.read(|view| extents::states(view, extents)).map_err(Stop::from)
        }
    };
    match result {
        Ok(answer) => Ok(answer),
        Err(Stop::Refused(refusal)) => Ok(Answer::Refused(refusal)),
        Err(Stop::Damaged(error)) => Err(error),
    }
}

/// Whether a query reads few rows, so that it may be answered on an async thread.
pub fn is_cheap(query: &Query) -> bool {
    match query {
        Query::Bucket { .. }
        | Query::Object { .. }
        | Query::Upload { .. }
        | Query::ClusterMap { .. } => true,
        Query::Objects(list) => list.limit <= 16,
        Query::Buckets { .. }
        | Query::Uploads(_)
        | Query::Parts { .. }
        | Query::ObjectParts { .. }
        | Query::Garbage { .. }
        | Query::Repairs { .. }
        | Query::Extents { .. }
        | Query::Trust
        | Query::Held
        | Query::UnusedGroups
        | Query::ToRecode { .. }
        | Query::ExtentStates { .. } => false,
    }
}

/// Why there is no answer.
enum Stop {
    Refused(Refusal),
    Damaged(StateError),
}

impl From<StateError> for Stop {
    fn from(error: StateError) -> Self {
        Self::Damaged(error)
    }
}

fn in_bucket(
    machine: &StateMachine,
    name: &BucketName,
    work: impl FnOnce(&View, BucketId) -> Result<Result<Answer, Refusal>, StateError>,
) -> Result<Answer, Stop> {
    let bucket = buckets::find(machine, name)?;
    machine.read(|view| work(view, bucket.id))?.map_err(Stop::Refused)
}

/// The first key behind `key`.
fn behind(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

/// Nobody gets more rows at once than this, whatever they ask for.
fn rows(limit: u32) -> usize {
    limit.min(ANSWER_ROWS_MAX) as usize
}
