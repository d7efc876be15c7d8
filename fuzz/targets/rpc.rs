//! Everything that crosses the network or rests in a log as CBOR: commands, outcomes, heartbeats,
//! reports, owners, Raft's stored forms.
//!
//! Whatever is accepted reads back the same when it is written again.

#![no_main]

use std::fmt::Debug;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use metadata::raft::types::{Batch, EntryKind, LogId, StoredConfig, StoredLogId, decode_entry};
use minicbor::{Decode, Encode};
use model::bucket::Bucket;
use model::cluster_map::ClusterMap;
use model::command::{Command, CommandEnvelope, Outcome};
use model::extent::Extent;
use model::owner::Owner;
use model::query::Heartbeat;
use model::shard::DiskReport;
use model::upload::{Upload, UploadedPart};
use model::version::Version;

fn check<T: Encode<()> + for<'b> Decode<'b, ()> + PartialEq + Debug>(bytes: &[u8]) {
    let Ok(first) = minicbor::decode::<T>(bytes) else { return };
    let written = minicbor::to_vec(&first).expect("memory takes everything");
    let second: T = minicbor::decode(&written).expect("what was encoded can be decoded");
    assert_eq!(first, second);
}

fuzz_target!(|data: &[u8]| {
    let Some((which, bytes)) = data.split_first() else { return };
    match which % 16 {
        0 => check::<CommandEnvelope>(bytes),
        1 => check::<Command>(bytes),
        2 => check::<Outcome>(bytes),
        3 => check::<Heartbeat>(bytes),
        4 => check::<DiskReport>(bytes),
        5 => check::<Owner>(bytes),
        6 => check::<ClusterMap>(bytes),
        7 => check::<Version>(bytes),
        8 => check::<Upload>(bytes),
        9 => check::<UploadedPart>(bytes),
        10 => check::<Bucket>(bytes),
        11 => check::<Extent>(bytes),
        12 => check::<StoredLogId>(bytes),
        13 => check::<StoredConfig>(bytes),
        14 => {
            if let Ok(batch) = Batch::decode(Bytes::copy_from_slice(bytes)) {
                let again = Batch::encode(batch.commands());
                let again = Batch::decode(again).expect("what was encoded can be decoded");
                assert_eq!(again.commands(), batch.commands());
            }
        }
        _ => {
            let id = LogId::from(StoredLogId { term: 1, node: 2, index: 3 });
            let _ = decode_entry(id, EntryKind::Membership, Bytes::copy_from_slice(bytes));
        }
    }
});
