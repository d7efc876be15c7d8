//! Carries out a scrub, scope by scope.

use std::sync::Arc;

use model::extent::Extent;
use model::ids::PgId;
use model::names::{BucketName, ObjectKey};
use model::query::{Answer, ListObjects, MetadataError, PlanWanted, Query};
use model::upkeep::ExtentPage;
use tokio::sync::watch;

use super::disk::{ordered_to_stop, scrub_disk};
use super::extents::Verification;
use super::meter::ScrubMeter;
use super::{ScrubError, ScrubRequest, ScrubScope};
use crate::pace::Pace;
use crate::shared::Shared;

/// Extents that are verified together.
const PAGE: u32 = 1000;

/// Objects that are listed at a time.
const OBJECTS: u32 = 1000;

/// Scrubs until it is done or `stop` turns true.
pub(crate) async fn run(
    shared: &Shared,
    request: &ScrubRequest,
    meter: &ScrubMeter,
    mut stop: watch::Receiver<bool>,
) -> Result<(), ScrubError> {
    let map = shared.map.refresh().await?;
    if let ScrubScope::Disk(disk) = request.scope {
        return scrub_disk(shared, &map, disk, request, meter, stop).await;
    }
    let pace = Pace::new(Arc::clone(&shared.clock), request.bytes_per_second);
    let scrub = Scrub { work: Verification { shared, map: &map, meter, pace: &pace } };
    tokio::select! {
        done = scrub.scope(&request.scope) => done,
        () = ordered_to_stop(&mut stop) => Err(ScrubError::Stopped),
    }
}

/// A scrub that follows the metadata.
struct Scrub<'a> {
    work: Verification<'a>,
}

impl Scrub<'_> {
    async fn scope(&self, scope: &ScrubScope) -> Result<(), ScrubError> {
        match scope {
            ScrubScope::Disk(disk) => Err(ScrubError::NoSuchDisk(*disk)),
            ScrubScope::Pg(pg) => self.pg(*pg).await,
            ScrubScope::Bucket(bucket) => self.bucket(bucket).await,
            ScrubScope::Object(bucket, key) => self.object(bucket, key).await,
            ScrubScope::All => self.all().await,
        }
    }

    async fn pg(&self, pg: PgId) -> Result<(), ScrubError> {
        if self.work.map.pg(pg).is_none() {
            return Err(ScrubError::NoSuchPg(pg));
        }
        self.work.meter.set_total(self.count_extents(pg).await?);
        self.extents_of(pg, |verified| self.work.meter.advance(verified)).await
    }

    async fn all(&self) -> Result<(), ScrubError> {
        self.work.meter.set_total(self.work.map.pgs.len() as u64);
        for pg in &self.work.map.pgs {
            self.extents_of(pg.id, |_| {}).await?;
            self.work.meter.advance(1);
        }
        Ok(())
    }

    async fn bucket(&self, bucket: &BucketName) -> Result<(), ScrubError> {
        self.work.meter.set_total(self.count_objects(bucket).await?);
        let mut after = String::new();
        loop {
            let page = self.objects(bucket, after).await?;
            let mut extents: Vec<Extent> = Vec::new();
            let mut objects = 0;
            for key in page.keys {
                match self.extents_of_object(bucket, &key).await {
                    Ok(some) => extents.extend(some),
                    // Deleted since it was listed.
                    Err(ScrubError::Refused(_)) => {}
                    Err(error) => return Err(error),
                }
                objects += 1;
                if extents.len() >= PAGE as usize {
                    self.verify(&mut extents).await?;
                    self.work.meter.advance(std::mem::take(&mut objects));
                }
            }
            self.verify(&mut extents).await?;
            self.work.meter.advance(objects);
            match page.next {
                Some(next) => after = next,
                None => return Ok(()),
            }
        }
    }

    async fn object(&self, bucket: &BucketName, key: &ObjectKey) -> Result<(), ScrubError> {
        let extents = self.extents_of_object(bucket, key).await?;
        self.work.meter.set_total(extents.len() as u64);
        for page in extents.chunks(PAGE as usize) {
            self.work.of(page).await?;
            self.work.meter.advance(page.len() as u64);
        }
        Ok(())
    }

    /// Verifies the owned extents of a PG; `verified` hears of each page.
    async fn extents_of(&self, pg: PgId, verified: impl Fn(u64)) -> Result<(), ScrubError> {
        let mut after = None;
        loop {
            let page = self.page(Query::Extents { pg, after, limit: PAGE }).await?;
            let count = page.extents.len() as u64;
            let owned = page.extents.into_iter().filter(|entry| entry.is_owned);
            self.verify(&mut owned.map(|entry| entry.extent).collect()).await?;
            verified(count);
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Verifies and drops what was gathered.
    async fn verify(&self, extents: &mut Vec<Extent>) -> Result<(), ScrubError> {
        if !extents.is_empty() {
            self.work.of(extents).await?;
            extents.clear();
        }
        Ok(())
    }

    async fn count_extents(&self, pg: PgId) -> Result<u64, ScrubError> {
        let (mut count, mut after) = (0, None);
        loop {
            let page = self.page(Query::Extents { pg, after, limit: 10 * PAGE }).await?;
            count += page.extents.len() as u64;
            after = page.next;
            if after.is_none() {
                return Ok(count);
            }
        }
    }

    async fn count_objects(&self, bucket: &BucketName) -> Result<u64, ScrubError> {
        let (mut count, mut after) = (0, String::new());
        loop {
            let page = self.objects(bucket, after).await?;
            count += page.keys.len() as u64;
            match page.next {
                Some(next) => after = next,
                None => return Ok(count),
            }
        }
    }

    async fn objects(&self, bucket: &BucketName, after: String) -> Result<Keys, ScrubError> {
        let query = Query::Objects(ListObjects {
            bucket: bucket.clone(),
            prefix: String::new(),
            delimiter: String::new(),
            after,
            limit: OBJECTS,
        });
        match self.work.shared.metadata.query(query).await? {
            Answer::Objects(page) => Ok(Keys {
                keys: page.objects.into_iter().map(|object| object.key).collect(),
                next: page.next,
            }),
            Answer::Refused(refusal) => Err(ScrubError::Refused(refusal)),
            _ => Err(MetadataError::Unavailable.into()),
        }
    }

    async fn extents_of_object(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
    ) -> Result<Vec<Extent>, ScrubError> {
        let (bucket, key) = (bucket.clone(), key.clone());
        let query = Query::Object { bucket, key, plan: PlanWanted::Whole };
        match self.work.shared.metadata.query(query).await? {
            Answer::Object(found) => {
                let planned = found.extents.into_iter().map(|planned| planned.extent);
                Ok(planned.chain(found.version.record).collect())
            }
            Answer::Refused(refusal) => Err(ScrubError::Refused(refusal)),
            _ => Err(MetadataError::Unavailable.into()),
        }
    }

    async fn page(&self, query: Query) -> Result<ExtentPage, ScrubError> {
        match self.work.shared.metadata.query(query).await? {
            Answer::Extents(page) => Ok(page),
            _ => Err(MetadataError::Unavailable.into()),
        }
    }
}

/// A page of a bucket's keys.
struct Keys {
    keys: Vec<ObjectKey>,
    next: Option<String>,
}
