//! CreateBucket, DeleteBucket.

use model::bucket::Bucket;
use model::command::{Outcome, Refusal};
use model::ids::BucketId;
use model::limits::BUCKETS_MAX;
use model::names::BucketName;

use super::{Step, Stop};
use crate::limits::OWNER_NAME_BYTES_MAX;
use crate::tables::{TableId, keys};

impl Step<'_, '_> {
    pub(super) fn create_bucket(
        &mut self,
        name: &BucketName,
        owner: &str,
        location: &str,
    ) -> Result<Outcome, Stop> {
        // A name that was decoded, not parsed, may be anything.
        let is_valid = BucketName::parse(name.as_str()).is_ok()
            && owner.len() <= OWNER_NAME_BYTES_MAX
            && location.len() <= OWNER_NAME_BYTES_MAX;
        if !is_valid {
            return Err(Refusal::InvalidCommand.into());
        }
        {
            let directory = self.memory.directory();
            match directory.buckets.get(name.as_str()) {
                Some(bucket) if bucket.owner == owner => {
                    return Err(Refusal::BucketAlreadyOwned.into());
                }
                Some(_) => return Err(Refusal::BucketTaken.into()),
                None if directory.buckets.len() >= BUCKETS_MAX => {
                    return Err(Refusal::TooManyBuckets.into());
                }
                None => {}
            }
        }
        self.memory.counters.bucket += 1;
        let bucket = Bucket {
            id: BucketId(self.memory.counters.bucket),
            name: name.clone(),
            created: self.now,
            owner: owner.to_owned(),
            location: location.to_owned(),
            recode: None,
        };
        self.tables.set(name.as_str().as_bytes(), &bucket)?;
        let id = bucket.id;
        self.memory.directory_mut().buckets.insert(name.as_str().to_owned(), bucket);
        Ok(Outcome::BucketCreated(id))
    }

    pub(super) fn delete_bucket(&mut self, name: &BucketName) -> Result<Outcome, Stop> {
        let bucket = self.bucket(name)?;
        let all = keys::bucket_key(bucket);
        for table in [TableId::Versions, TableId::Uploads] {
            if !self.tables.scan(table, &all, 1)?.is_empty() {
                return Err(Refusal::BucketNotEmpty.into());
            }
        }
        self.tables.remove(TableId::Buckets, name.as_str().as_bytes())?;
        self.memory.directory_mut().buckets.remove(name.as_str());
        self.forget_class_of(name);
        Ok(Outcome::Done)
    }

    /// The number of a bucket.
    pub(super) fn bucket(&self, name: &BucketName) -> Result<BucketId, Stop> {
        let directory = self.memory.directory();
        let bucket = directory.buckets.get(name.as_str());
        bucket.map(|bucket| bucket.id).ok_or(Stop::Refused(Refusal::NoSuchBucket))
    }
}
