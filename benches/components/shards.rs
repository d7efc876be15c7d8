//! One disk: appending shards with a sync each, and reading them back.

use std::sync::Arc;

use anyhow::{Result, bail};
use bytes::Bytes;
use model::checksum::block_checksums;
use model::coding::Coding;
use model::ids::{ClusterId, DiskId, DiskUuid, ExtentId, NodeId, PgId, SessionId, ShardId};
use model::shard::{ShardAppend, ShardRead, ShardRequest, ShardResponse};
use storage_node::{DiskIdentity, StorageNode, StoreOptions};
use wire::clock::SystemClock;
use wire::disk::RealDisk;
use wire::entropy::SystemEntropy;
use wire::network::Service as _;

use crate::meter::Meter;

const DISK: DiskId = DiskId(1);

/// Measures small and large shards, alone and many at a time.
pub async fn measure() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let identity =
        DiskIdentity { cluster: ClusterId([1; 16]), disk: DISK, uuid: DiskUuid([2; 16]) };
    let disk = Arc::new(RealDisk::create(&directory.path().join("disk"))?);
    let (node, errors) = StorageNode::open(
        NodeId(1),
        vec![(disk, identity)],
        StoreOptions::default(),
        Arc::new(SystemClock::new()),
        Arc::new(SystemEntropy::new()),
    );
    if let Some(error) = errors.into_iter().next() {
        return Err(error.into());
    }
    for (session, (bytes, writers, each)) in
        [(4 << 10, 1, 500), (4 << 10, 64, 200), (1 << 20, 1, 100), (1 << 20, 8, 50)]
            .into_iter()
            .enumerate()
    {
        let id = move |writer: u32, number: u32| ShardId {
            extent: ExtentId {
                pg: PgId(1),
                session: SessionId(session as u64 + 1),
                sequence: writer * 10_000 + number,
            },
            stripe: 0,
            slot: 0,
        };
        let count = u64::from(writers) * u64::from(each);
        let meter = Meter::start();
        let tasks = (0..writers).map(|writer| {
            let node = Arc::clone(&node);
            tokio::spawn(
                async move { append(&node, bytes, (0..each).map(|n| id(writer, n))).await },
            )
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await??;
        }
        meter.print(
            &format!("shards/append+sync/{bytes}/x{writers}"),
            count,
            count * u64::from(bytes),
        );
        let meter = Meter::start();
        let tasks = (0..writers).map(|writer| {
            let node = Arc::clone(&node);
            tokio::spawn(async move { read(&node, bytes, (0..each).map(|n| id(writer, n))).await })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await??;
        }
        meter.print(&format!("shards/read/{bytes}/x{writers}"), count, count * u64::from(bytes));
    }
    node.shutdown().await;
    Ok(())
}

async fn append(node: &StorageNode, bytes: u32, ids: impl Iterator<Item = ShardId>) -> Result<()> {
    let payload = Bytes::from(vec![7u8; bytes as usize]);
    for id in ids {
        let shard = ShardAppend {
            id,
            coding: Coding::new(1, 0)?,
            stripe_bytes: bytes,
            payload: payload.clone(),
            checksums: block_checksums(id, &payload).into(),
            owner: Bytes::new(),
        };
        let request = ShardRequest::Append { disk: DISK, shards: vec![shard], sync: true };
        match node.serve(request).await {
            ShardResponse::Appended { .. } => {}
            other => bail!("{other:?}"),
        }
    }
    Ok(())
}

async fn read(node: &StorageNode, bytes: u32, ids: impl Iterator<Item = ShardId>) -> Result<()> {
    for id in ids {
        let reads = vec![ShardRead { id, offset: 0, length: bytes }];
        match node.serve(ShardRequest::Read { disk: DISK, reads }).await {
            ShardResponse::Read(answers) if answers.iter().all(Result::is_ok) => {}
            other => bail!("{other:?}"),
        }
    }
    Ok(())
}
