//! Carries out orders about storage classes.
//!
//! In: orders. Out: proposals, and documents. What always holds: what an order names is looked up before
//! anything is proposed, so that a refusal says what was wrong.

use model::bucket::Bucket;
use model::class::{RecodeAmount, RecodeOrder, SetRecode};
use model::cluster_map::ClusterMap;
use model::coding::Coding;
use model::command::{Command, Refusal};
use model::names::{BucketName, ClassName};
use model::query::{Answer, Query};
use model::time::Timestamp;

use super::recode_orders::Ordered;
use super::tolerance::tolerance_of;
use super::{BucketClass, ClassDocument, RecodeRequest, RecodeStatus, Recoded};
use crate::admin::gather::StatusGatherer;
use crate::admin::orders::OrderError;
use crate::admin::upkeep::apart;

/// Rows that are asked for at a time.
const PAGE: u32 = 1000;

/// The word by which a gateway calls the job of recoding.
const RECODE_JOB: &str = "recode";

/// Carries orders out, by the gatherer's way to the metadata.
pub(super) struct ClassDesk<'a>(pub(super) &'a StatusGatherer);

impl ClassDesk<'_> {
    /// All classes, `STANDARD` first.
    pub(super) async fn list(&self) -> Result<Vec<ClassDocument>, OrderError> {
        let map = self.0.map().await?;
        let mut all = vec![document(&map, ClassName::STANDARD, map.coding, &[])];
        for class in &map.classes {
            all.push(document(&map, class.name.as_str(), class.coding, &class.buckets));
        }
        Ok(all)
    }

    /// Makes a class, or gives it another coding.
    pub(super) async fn set(&self, name: &str, coding: &str) -> Result<ClassDocument, OrderError> {
        let name = class_name(name)?;
        let coding =
            Coding::parse(coding).map_err(|error| OrderError::Invalid(format!("{error}.")))?;
        let map = self.0.map().await?;
        let disks = map.disks.iter().filter(|disk| disk.share() > 0).count();
        if usize::from(coding.width()) > disks {
            let text = format!(
                "{coding} needs {} disks, and {disks} of the cluster take data.",
                coding.width()
            );
            return Err(OrderError::Refused(text));
        }
        if coding.parity() == 0 && disks > 1 {
            let text = "A class without parity would lose objects with any one disk.";
            return Err(OrderError::Refused(text.to_owned()));
        }
        let command = Command::SetStorageClass { name: name.clone(), coding: Some(coding) };
        self.change(command).await?;
        let map = self.0.map().await?;
        let buckets = map.class(&name).map(|class| class.buckets.clone()).unwrap_or_default();
        let document = document(&map, name.as_str(), coding, &buckets);
        let tolerance = apart(move || tolerance_of(&map, coding)).await?;
        Ok(ClassDocument { tolerance: Some(tolerance), ..document })
    }

    /// Takes a class away.
    pub(super) async fn remove(&self, name: &str) -> Result<ClassDocument, OrderError> {
        let name = class_name(name)?;
        let map = self.0.map().await?;
        if name.is_standard() {
            let text = "Class STANDARD is the cluster's own, and stays.";
            return Err(OrderError::Refused(text.to_owned()));
        }
        let class = map.class(&name).ok_or_else(|| no_class(&name))?.clone();
        if let Some(bucket) = class.buckets.first() {
            let text = format!("Bucket {bucket} uses class {name}.");
            return Err(OrderError::Refused(text));
        }
        self.change(Command::SetStorageClass { name, coding: None }).await?;
        Ok(document(&map, class.name.as_str(), class.coding, &[]))
    }

    /// The class that a bucket uses.
    pub(super) async fn of_bucket(&self, bucket: &str) -> Result<BucketClass, OrderError> {
        let bucket = self.bucket(bucket).await?;
        let map = self.0.map().await?;
        Ok(BucketClass { class: used(&map, &bucket.name).as_str().to_owned() })
    }

    /// Has a bucket use a class.
    pub(super) async fn set_of_bucket(
        &self,
        bucket: &str,
        class: &str,
    ) -> Result<BucketClass, OrderError> {
        let bucket = self.bucket(bucket).await?.name;
        let class = self.known(&class_name(class)?).await?;
        self.change(Command::SetBucketClass { bucket, class: class.clone() }).await?;
        Ok(BucketClass { class: class.as_str().to_owned() })
    }

    /// Orders a bucket to be recoded, plans that, or takes the order back.
    pub(super) async fn recode(
        &self,
        bucket: &str,
        request: &RecodeRequest,
    ) -> Result<Recoded, OrderError> {
        let bucket = self.bucket(bucket).await?;
        let map = self.0.map().await?;
        let now_used = used(&map, &bucket.name);
        let class = match &request.class {
            Some(class) => self.known(&class_name(class)?).await?,
            None => now_used.clone(),
        };
        let coding = map.coding_of(Some(&class));
        let name = bucket.name.as_str().to_owned();
        let recoded = Recoded {
            bucket: name.clone(),
            class: class.as_str().to_owned(),
            coding: coding.to_string(),
            changed: false,
            objects: None,
            bytes: None,
            shard_bytes: None,
            sentence: String::new(),
        };
        let known = bucket.recode.as_ref().map(|order| order.ordered);
        if request.cancel {
            if known.is_some() {
                self.set_recode(&bucket.name, known, None).await?;
            }
            let sentence =
                format!("Bucket {name} is not recoded any further; what was recoded stays so.");
            return Ok(Recoded { changed: known.is_some(), sentence, ..recoded });
        }
        if request.plan {
            let RecodeAmount { objects, bytes } = self.to_do(&bucket.name, &class).await?;
            let shard_bytes =
                bytes.saturating_mul(u64::from(coding.width())) / u64::from(coding.data());
            let sentence = format!(
                "{objects} objects of bucket {name}, {bytes} bytes, don't have class {class} and its coding {coding}; some {shard_bytes} bytes of shards are to be written, and those that there are go."
            );
            let (objects, bytes) = (Some(objects), Some(bytes));
            return Ok(Recoded {
                objects,
                bytes,
                shard_bytes: Some(shard_bytes),
                sentence,
                ..recoded
            });
        }
        if class != now_used {
            let command =
                Command::SetBucketClass { bucket: bucket.name.clone(), class: class.clone() };
            self.change(command).await?;
        }
        if known.is_some() {
            // Another order in its place, which counts what was written since, too.
            self.set_recode(&bucket.name, known, None).await?;
        }
        self.set_recode(&bucket.name, None, Some(RecodeOrder::new(class.clone()))).await?;
        if let Some(engine) = self.0.engine() {
            engine.wake_recode();
        }
        let sentence = format!(
            "Bucket {name} uses class {class}, and what it holds is recoded to {coding} in the background."
        );
        Ok(Recoded { changed: true, sentence, ..recoded })
    }

    /// How far the buckets are that are being recoded.
    pub(super) async fn status(&self, now: Timestamp) -> Result<Vec<RecodeStatus>, OrderError> {
        let map = self.0.map().await?;
        let engine = self.0.engine();
        let is_here = engine.is_some_and(|engine| engine.leased_jobs().contains(&RECODE_JOB));
        let paused = engine
            .filter(|_| is_here)
            .and_then(|engine| engine.recode_progress().paused)
            .map(|reason| reason.sentence().to_owned());
        let ordered = self.ordered().await?;
        let told = ordered.iter().map(|(bucket, order)| RecodeStatus {
            paused: paused.clone(),
            ..status(&map, bucket, order, now)
        });
        Ok(told.collect())
    }

    /// Buckets with orders.
    async fn ordered(&self) -> Result<Ordered, OrderError> {
        let clock = self.0.client().clock();
        let mut turn = self.0.recode_orders().turn().await;
        let began = clock.monotonic();
        if let Some(known) = turn.recent(began) {
            return Ok(known);
        }
        let (mut found, mut after) = (Vec::new(), String::new());
        loop {
            let query = Query::Buckets { prefix: String::new(), after, limit: PAGE };
            let Answer::Buckets(page) = self.query(query).await? else { return Err(silent()) };
            let last = page.last().map(|bucket| bucket.name.as_str().to_owned());
            let is_last = page.len() < PAGE as usize;
            let with_order = |bucket: Bucket| Some((bucket.name, bucket.recode?));
            found.extend(page.into_iter().filter_map(with_order));
            match last {
                Some(last) if !is_last => after = last,
                Some(_) | None => return Ok(turn.keep(found, began, clock.monotonic())),
            }
        }
    }

    /// What of a bucket doesn't have a class and its coding.
    async fn to_do(
        &self,
        bucket: &BucketName,
        class: &ClassName,
    ) -> Result<RecodeAmount, OrderError> {
        let (mut total, mut after) = (RecodeAmount::default(), String::new());
        loop {
            let (bucket, class) = (bucket.clone(), Some(class.clone()));
            let query = Query::ToRecode { bucket, after: after.clone(), limit: PAGE, class };
            let Answer::ToRecode(page) = self.query(query).await? else { return Err(silent()) };
            total.objects += page.amount.objects;
            total.bytes += page.amount.bytes;
            match page.next {
                Some(next) => next.as_str().clone_into(&mut after),
                None => return Ok(total),
            }
        }
    }

    async fn set_recode(
        &self,
        bucket: &BucketName,
        known: Option<Timestamp>,
        order: Option<RecodeOrder>,
    ) -> Result<(), OrderError> {
        let set = SetRecode { bucket: bucket.clone(), known, order };
        let done = self.0.propose(Command::SetRecode(set)).await;
        self.0.recode_orders().turn().await.forget();
        done
    }

    /// Proposes, and has the gateway of this process know the map that comes of it.
    async fn change(&self, command: Command) -> Result<(), OrderError> {
        self.0.propose(command).await?;
        if let Some(engine) = self.0.engine() {
            // Whoever writes next by an older map is found by the next pass.
            let _ = engine.newest_cluster_map().await;
        }
        Ok(())
    }

    async fn bucket(&self, name: &str) -> Result<Bucket, OrderError> {
        let name = BucketName::parse(name)
            .map_err(|_| OrderError::Invalid("No bucket can have that name.".to_owned()))?;
        match self.query(Query::Bucket { name: name.clone() }).await? {
            Answer::Bucket(bucket) => Ok(bucket),
            Answer::Refused(Refusal::NoSuchBucket) => {
                Err(OrderError::NotFound(format!("There is no bucket {name}.")))
            }
            _ => Err(silent()),
        }
    }

    /// A class that the cluster has.
    async fn known(&self, name: &ClassName) -> Result<ClassName, OrderError> {
        let map = self.0.map().await?;
        if map.has_class(name) { Ok(name.clone()) } else { Err(no_class(name)) }
    }

    async fn query(&self, query: Query) -> Result<Answer, OrderError> {
        self.0.client().query(query).await.map_err(|_| silent())
    }
}

fn silent() -> OrderError {
    OrderError::Unavailable("The metadata does not answer now; ask again.".to_owned())
}

fn no_class(name: &ClassName) -> OrderError {
    OrderError::NotFound(format!(
        "There is no class {name}; `drystone admin class set {name} K+M` makes it."
    ))
}

fn class_name(text: &str) -> Result<ClassName, OrderError> {
    ClassName::parse(text).map_err(|error| OrderError::Invalid(format!("{error}.")))
}

/// The class that a bucket uses.
fn used(map: &ClusterMap, bucket: &BucketName) -> ClassName {
    let class = map.class_of_bucket(bucket.as_str()).map(|class| class.name.clone());
    class.unwrap_or_else(ClassName::standard)
}

fn document(map: &ClusterMap, name: &str, coding: Coding, buckets: &[BucketName]) -> ClassDocument {
    ClassDocument {
        name: name.to_owned(),
        coding: coding.to_string(),
        disks_to_lose: coding.parity(),
        bytes_per_hundred: 100 * u32::from(coding.width()) / u32::from(coding.data()),
        is_writable: map.pgs.iter().any(|pg| pg.coding == coding && map.is_open(pg)),
        buckets: buckets.iter().map(|bucket| bucket.as_str().to_owned()).collect(),
        tolerance: None,
    }
}

fn status(
    map: &ClusterMap,
    bucket: &BucketName,
    order: &RecodeOrder,
    now: Timestamp,
) -> RecodeStatus {
    let left = order.total.map(|total| total.bytes.saturating_sub(order.done.bytes));
    let nanos = order.begun.map_or(0, |begun| now.0.saturating_sub(begun.0));
    let seconds_left = left.filter(|_| order.done.bytes > 0).map(|left| {
        let wait = u128::from(nanos) * u128::from(left) / u128::from(order.done.bytes);
        u64::try_from(wait / 1_000_000_000).unwrap_or(u64::MAX)
    });
    RecodeStatus {
        bucket: bucket.as_str().to_owned(),
        class: order.class.as_str().to_owned(),
        coding: map.coding_of(Some(&order.class)).to_string(),
        objects_done: order.done.objects,
        objects_total: order.total.map(|total| total.objects),
        bytes_done: order.done.bytes,
        bytes_total: order.total.map(|total| total.bytes),
        failed: order.failed,
        seconds_left,
        paused: None,
    }
}

#[cfg(test)]
mod tests {
    use model::ids::ClusterId;

    use super::*;

    #[test]
    fn the_time_left_follows_from_the_speed_so_far() {
        let coding = Coding::parse("4+2").expect("valid");
        let map = ClusterMap::new(ClusterId::default(), coding);
        let bucket = BucketName::parse("abc").expect("valid");
        let amount = |objects, bytes| RecodeAmount { objects, bytes };
        let order = RecodeOrder {
            done: amount(1, 100),
            total: Some(amount(4, 400)),
            begun: Some(Timestamp(0)),
            ..RecodeOrder::new(ClassName::standard())
        };
        let found = status(&map, &bucket, &order, Timestamp(2_000_000_000));
        assert_eq!((found.seconds_left, found.coding.as_str()), (Some(6), "4+2"));
        let uncounted = RecodeOrder { total: None, ..order.clone() };
        assert_eq!(status(&map, &bucket, &uncounted, Timestamp(9)).seconds_left, None);
        let unbegun = RecodeOrder { done: amount(0, 0), ..order };
        assert_eq!(status(&map, &bucket, &unbegun, Timestamp(9)).seconds_left, None);
    }
}
