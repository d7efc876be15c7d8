//! Bucket, Buckets, ClusterMap: answered from memory.

use std::ops::Bound;

use model::bucket::Bucket;
use model::cluster_map::ClusterMap;
use model::command::Refusal;
use model::names::BucketName;
use model::query::Answer;

use super::Stop;
use crate::state::StateMachine;

/// A bucket by name.
pub(super) fn find(machine: &StateMachine, name: &BucketName) -> Result<Bucket, Stop> {
    let directory = machine.directory();
    directory.buckets.get(name.as_str()).cloned().ok_or(Stop::Refused(Refusal::NoSuchBucket))
}

pub(super) fn bucket(machine: &StateMachine, name: &BucketName) -> Result<Answer, Stop> {
    find(machine, name).map(Answer::Bucket)
}

pub(super) fn buckets(machine: &StateMachine, prefix: &str, after: &str, limit: usize) -> Answer {
    let directory = machine.directory();
    let start = if after >= prefix && !after.is_empty() {
        Bound::Excluded(after)
    } else {
        Bound::Included(prefix)
    };
    let found = directory
        .buckets
        .range::<str, _>((start, Bound::Unbounded))
        .take_while(|(name, _)| name.starts_with(prefix))
        .take(limit)
        .map(|(_, bucket)| bucket.clone());
    Answer::Buckets(found.collect())
}

pub(super) fn cluster_map(machine: &StateMachine, known_epoch: u64) -> Answer {
    let map = machine.directory().map.clone();
    let newer = map.filter(|map| map.epoch != known_epoch);
    Answer::ClusterMap(newer.map(|map| ClusterMap::clone(&map)))
}
