//! What gateways would do: commits of small objects with an extent, headers and a checksum each,
//! and reads of them.
//!
//! In: numbers of objects. Out: the objects, and how long each commit or read took. Keys come in
//! random order and a version's rows have the sizes that they have in a store, but no shard exists.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use metadata::client::MetadataClient;
use metadata::session::Writer;
use model::checksum::{ChecksumAlgorithm, ChecksumKind, StoredChecksum};
use model::coding::Coding;
use model::command::{Command, CommitObject, Outcome, WriteCondition};
use model::extent::{Extent, SlotSet};
use model::ids::{ManifestId, PgId};
use model::names::{BucketName, ObjectKey};
use model::query::{Answer, PlanWanted, Query};
use model::version::{ETag, ObjectHeaders, Part, UserMetadata};
use serde_json::{Value, json};
use tokio::sync::watch;
use wire::clock::{Clock, SystemClock};

use crate::meter::rounded;

use super::cluster::Cluster;

const BYTES_MAX: u64 = 8 << 20;
/// The first number of objects that are written beside other work.
const BESIDE: u64 = 1 << 40;

/// A gateway.
#[derive(Clone)]
pub struct Load {
    writer: Arc<Writer>,
    client: Arc<MetadataClient>,
    bucket: BucketName,
    pgs: Arc<Vec<(PgId, Coding)>>,
    /// The cluster map's epoch that these are of.
    epoch: u64,
    /// Objects that there are, and the number of the next.
    objects: Arc<AtomicU64>,
    /// Those that were written beside other work; they have numbers of their own.
    beside: Arc<AtomicU64>,
}

impl Load {
    /// Opens a session, and makes a bucket.
    pub async fn open(cluster: &Cluster) -> Result<Self> {
        let map = cluster.map().await?;
        let pgs: Vec<_> = map.open_pgs(&[]).into_iter().map(|pg| (pg.id, pg.coding)).collect();
        let client = Arc::clone(&cluster.client);
        let writer = Arc::new(Writer::open(Arc::clone(&client), "bench").await?);
        let bucket = BucketName::parse("bench")?;
        let (owner, location) = (String::new(), String::new());
        let create = Command::CreateBucket { name: bucket.clone(), owner, location };
        writer.propose(create).await.context("a bucket")?;
        Ok(Self {
            writer,
            client,
            bucket,
            pgs: Arc::new(pgs),
            epoch: map.epoch,
            objects: Arc::default(),
            beside: Arc::default(),
        })
    }

    /// How many versions there are.
    pub fn versions(&self) -> u64 {
        self.objects() + self.beside.load(Ordering::Relaxed)
    }

    fn objects(&self) -> u64 {
        self.objects.load(Ordering::Relaxed)
    }

    /// Commits so many more objects, of which so many at a time.
    pub async fn put_many(&self, count: u64, writers: u64) -> Result<()> {
        let first = self.objects();
        let load = self.clone();
        each(first..first + count, writers, move |number| {
            let load = load.clone();
            async move { load.put(number).await }
        })
        .await?;
        self.objects.store(first + count, Ordering::Relaxed);
        Ok(())
    }

    /// Reads so many random objects, of which so many at a time.
    pub async fn get_many(&self, count: u64, readers: u64) -> Result<()> {
        let (load, objects) = (self.clone(), self.objects());
        each(0..count, readers, move |number| {
            let load = load.clone();
            async move { load.get(mixed(number) % objects).await }
        })
        .await
    }

    /// Commits one more object after the other, until it is told to stop.
    pub async fn write_until(self, stop: watch::Receiver<bool>) -> Result<Latencies> {
        let mut latencies = Latencies::default();
        while !*stop.borrow() {
            let clock = SystemClock::new();
            self.put(BESIDE + self.beside.fetch_add(1, Ordering::Relaxed)).await?;
            latencies.0.push(clock.monotonic());
        }
        Ok(latencies)
    }

    /// Reads one random object after the other, until it is told to stop.
    pub async fn read_until(self, stop: watch::Receiver<bool>) -> Result<Latencies> {
        let mut latencies = Latencies::default();
        while !*stop.borrow() {
            let number = mixed(latencies.0.len() as u64) % self.objects();
            let clock = SystemClock::new();
            self.get(number).await?;
            latencies.0.push(clock.monotonic());
        }
        Ok(latencies)
    }

    async fn put(&self, number: u64) -> Result<()> {
        let commit = self.commit(number).await?;
        match self.writer.propose(Command::CommitObject(commit)).await? {
            Outcome::Committed(_) => Ok(()),
            other => bail!("{other:?}"),
        }
    }

    async fn commit(&self, number: u64) -> Result<CommitObject> {
        let session = self.writer.session().await?;
        let seed = mixed(number);
        let size = seed % BYTES_MAX + 1;
        let at = seed as usize % self.pgs.len().max(1);
        let (pg, coding) = *self.pgs.get(at).context("an open placement group")?;
        let id = session.next_extent(pg).context("an extent's name")?;
        let mut name = [0; 16];
        name[..8].copy_from_slice(&number.to_be_bytes());
        name[8..].copy_from_slice(&seed.to_be_bytes());
        let checksum = Some(StoredChecksum {
            algorithm: ChecksumAlgorithm::Crc64Nvme,
            kind: ChecksumKind::FullObject,
            digest: seed.to_be_bytes().to_vec(),
        });
        let missing = SlotSet::default();
        let extent = Extent { id, coding, length: size, missing, epoch: self.epoch };
        let extents = vec![extent];
        let part = Part { number: 0, size, md5: name, checksum: checksum.clone(), extents };
        Ok(CommitObject {
            bucket: self.bucket.clone(),
            key: key(number)?,
            manifest: ManifestId(name),
            size,
            etag: ETag { md5: name, parts: None },
            headers: headers(number),
            checksum,
            parts: vec![part],
            condition: WriteCondition::Always,
            record: None,
        })
    }

    async fn get(&self, number: u64) -> Result<()> {
        let (bucket, key) = (self.bucket.clone(), key(number)?);
        let query = Query::Object { bucket, key, plan: PlanWanted::Whole };
        let Answer::Object(_) = self.client.query(query).await? else {
            bail!("object {number} isn't there")
        };
        Ok(())
    }
}

/// Does `work` for each number, for so many at a time.
async fn each<F: Future<Output = Result<()>> + Send + 'static>(
    numbers: Range<u64>,
    at_once: u64,
    work: impl Fn(u64) -> F + Clone + Send + 'static,
) -> Result<()> {
    let next = Arc::new(AtomicU64::new(numbers.start));
    let tasks: Vec<_> = (0..at_once)
        .map(|_| {
            let (next, work) = (Arc::clone(&next), work.clone());
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= numbers.end {
                        return anyhow::Ok(());
                    }
                    work(number).await?;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    Ok(())
}

/// A key of 48 bytes; those of numbers that follow each other lie far apart.
fn key(number: u64) -> Result<ObjectKey> {
    let seed = mixed(number);
    let (folder, month) = (seed % 1000, seed / 1000 % 12 + 1);
    Ok(ObjectKey::parse(&format!(
        "uploads/{folder:03}/2026/{month:02}/{seed:016x}-{number:07}.jpg"
    ))?)
}

/// What a browser or rclone sends along.
fn headers(number: u64) -> ObjectHeaders {
    let user = UserMetadata { name: "mtime".to_owned(), value: format!("17635{number:05}.25") };
    let content_type = Some("image/jpeg".to_owned());
    ObjectHeaders { content_type, user: vec![user], ..ObjectHeaders::default() }
}

/// A number that looks random and is another for each (the finaliser of SplitMix64).
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// How long each took.
#[derive(Default)]
pub struct Latencies(Vec<Duration>);

impl Latencies {
    /// How many, the usual, the slow, and the longest.
    pub fn told(mut self) -> Value {
        self.0.sort_unstable();
        let at = |part: f64| {
            let place = (self.0.len() as f64 * part) as usize;
            let one = self.0.get(place.min(self.0.len().saturating_sub(1)));
            rounded(one.copied().unwrap_or_default().as_secs_f64() * 1e3)
        };
        json!({ "count": self.0.len(), "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1.0) })
    }
}
