//! SetStorageClass, SetBucketClass, SetRecode: which class has which coding, who uses it, and what is
//! to be brought to one.
//!
//! What always holds: a bucket uses at most one class besides `STANDARD`, and only one that is there; a
//! class goes when no bucket uses it, and none is being recoded to it.

use model::class::{CLASSES_MAX, RecodeOrder, SetRecode, StorageClass};
use model::cluster_map::ClusterMap;
use model::coding::Coding;
use model::command::{Outcome, Refusal};
use model::limits::KEY_BYTES_MAX;
use model::names::{BucketName, ClassName};
use model::version::ObjectHeaders;

use super::{Step, Stop};

impl Step<'_, '_> {
    pub(super) fn set_storage_class(
        &mut self,
        name: &ClassName,
        coding: Option<Coding>,
    ) -> Result<Outcome, Stop> {
        let known = self.map()?;
        let mut map = ClusterMap::clone(&known);
        let place = map.classes.binary_search_by(|class| class.name.cmp(name));
        match (coding, place) {
            (Some(coding), _) if name.is_standard() => map.coding = coding,
            (None, _) if name.is_standard() => return Err(Refusal::ClassInUse.into()),
            (Some(coding), Ok(at)) => {
                if let Some(class) = map.classes.get_mut(at) {
                    class.coding = coding;
                }
            }
            (Some(_), Err(_)) if map.classes.len() >= CLASSES_MAX => {
                return Err(Refusal::TooManyClasses.into());
            }
            (Some(coding), Err(at)) => {
                let class = StorageClass { name: name.clone(), coding, buckets: Vec::new() };
                map.classes.insert(at, class);
            }
            (None, Err(_)) => return Err(Refusal::NoSuchClass.into()),
            (None, Ok(at)) => {
                let is_used = map.classes.get(at).is_some_and(|class| !class.buckets.is_empty());
                if is_used || self.is_recoded_to(name) {
                    return Err(Refusal::ClassInUse.into());
                }
                map.classes.remove(at);
            }
        }
        self.add_pgs(&mut map)?;
        self.change_map(&known, map);
        Ok(Outcome::Done)
    }

    /// Whether a bucket is being recoded to this class.
    fn is_recoded_to(&self, name: &ClassName) -> bool {
        let directory = self.memory.directory();
        let is_to = |order: &RecodeOrder| order.class == *name;
        directory.buckets.values().any(|bucket| bucket.recode.as_ref().is_some_and(is_to))
    }

    pub(super) fn set_bucket_class(
        &mut self,
        bucket: &BucketName,
        name: &ClassName,
    ) -> Result<Outcome, Stop> {
        self.bucket(bucket)?;
        let known = self.map()?;
        if !known.has_class(name) {
            return Err(Refusal::NoSuchClass.into());
        }
        let mut map = ClusterMap::clone(&known);
        for class in &mut map.classes {
            match (class.buckets.binary_search(bucket), class.name == *name) {
                (Ok(_), true) | (Err(_), false) => {}
                (Ok(at), false) => drop(class.buckets.remove(at)),
                (Err(at), true) => class.buckets.insert(at, bucket.clone()),
            }
        }
        self.change_map(&known, map);
        Ok(Outcome::Done)
    }

    /// A bucket that is gone uses no class any more.
    pub(super) fn forget_class_of(&mut self, bucket: &BucketName) {
        let Ok(known) = self.map() else { return };
        if known.class_of_bucket(bucket.as_str()).is_some() {
            let mut map = ClusterMap::clone(&known);
            map.classes.iter_mut().for_each(|class| class.buckets.retain(|name| name != bucket));
            self.change_map(&known, map);
        }
    }

    /// The headers as they are stored: with the class that the object has.
    pub(super) fn with_class(&self, bucket: &BucketName, headers: ObjectHeaders) -> ObjectHeaders {
        let directory = self.memory.directory();
        let Some(map) = &directory.map else { return headers };
        let of_bucket = || map.class_of_bucket(bucket.as_str()).map(|class| class.name.clone());
        // One that was taken away meanwhile counts as none.
        let asked = headers.class.filter(|class| map.has_class(class));
        let class = asked.or_else(of_bucket).filter(|class| !class.is_standard());
        ObjectHeaders { class, ..headers }
    }

    pub(super) fn set_recode(&mut self, set: &SetRecode) -> Result<Outcome, Stop> {
        self.bucket(&set.bucket)?;
        let map = self.map()?;
        let mut bucket = {
            let directory = self.memory.directory();
            let bucket = directory.buckets.get(set.bucket.as_str());
            bucket.cloned().ok_or(Refusal::NoSuchBucket)?
        };
        if bucket.recode.as_ref().map(|order| order.ordered) != set.known {
            return Err(Refusal::RecodeChanged.into());
        }
        bucket.recode = match (&set.order, &bucket.recode) {
            (None, _) => None,
            (Some(order), _) if !map.has_class(&order.class) => {
                return Err(Refusal::NoSuchClass.into());
            }
            (Some(order), Some(known)) if known.class == order.class => {
                if order.cursor.len() > KEY_BYTES_MAX {
                    return Err(Refusal::InvalidCommand.into());
                }
                let begun = known.begun.or(Some(self.now));
                Some(RecodeOrder { ordered: known.ordered, begun, ..order.clone() })
            }
            (Some(order), _) => {
                let fresh = RecodeOrder::new(order.class.clone());
                Some(RecodeOrder { ordered: self.now, ..fresh })
            }
        };
        self.tables.set(set.bucket.as_str().as_bytes(), &bucket)?;
        self.memory.directory_mut().buckets.insert(set.bucket.as_str().to_owned(), bucket);
        Ok(Outcome::Done)
    }
}
