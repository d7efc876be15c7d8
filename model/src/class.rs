//! Storage classes: which coding an object's bytes get, and how they are given another one.
//!
//! The cluster's own coding is that of class `STANDARD`, which is always there. Operators add other
//! classes, and say which buckets use one: what is written there without a class of its own gets the
//! bucket's. All of that is in the cluster map, so that a writer knows the coding without asking.
//! A [`RecodeOrder`] has the objects that a bucket holds already brought to a class.
//!
//! What always holds: an extent keeps its coding for ever; another coding means other extents. The
//! bytes, the entity tag, the time and the headers of an object don't change by it.

use minicbor::{Decode, Encode};

use crate::cluster_map::{ClusterMap, Pg};
use crate::coding::Coding;
use crate::extent::Extent;
use crate::ids::ManifestId;
use crate::names::{BucketName, ClassName, ObjectKey};
use crate::time::Timestamp;

/// Classes besides `STANDARD`: each has placement groups of its own on every disk.
pub const CLASSES_MAX: usize = 16;

/// A storage class besides `STANDARD`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct StorageClass {
    /// Its name.
    #[n(0)]
    pub name: ClassName,
    /// The coding of what is written in it.
    #[n(1)]
    pub coding: Coding,
    /// The buckets that use it, ascending.
    #[n(2)]
    pub buckets: Vec<BucketName>,
}

/// An order to bring what a bucket holds to a class. It stays with the bucket until a whole pass found
/// nothing to do.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RecodeOrder {
    /// The class. What was written after the order keeps its own class, and is coded as that says.
    #[n(0)]
    pub class: ClassName,
    /// When it was given; names the order.
    #[n(1)]
    pub ordered: Timestamp,
    /// The pass over the bucket has come to this key; empty at its beginning.
    #[n(2)]
    pub cursor: String,
    /// What has been done, over all passes.
    #[n(3)]
    pub done: RecodeAmount,
    /// What was found to be done when it began; nothing before it was counted.
    #[n(4)]
    pub total: Option<RecodeAmount>,
    /// Objects that this pass could not recode.
    #[n(5)]
    pub failed: u64,
    /// Objects that this pass recoded.
    #[n(6)]
    pub changed: u64,
    /// When the first object was recoded, or looked at.
    #[n(7)]
    pub begun: Option<Timestamp>,
}

/// An amount of objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct RecodeAmount {
    /// How many.
    #[n(0)]
    pub objects: u64,
    /// Their bytes.
    #[n(1)]
    pub bytes: u64,
}

impl RecodeOrder {
    /// A new order; the metadata sets its time.
    pub fn new(class: ClassName) -> Self {
        Self {
            class,
            ordered: Timestamp::default(),
            cursor: String::new(),
            done: RecodeAmount::default(),
            total: None,
            failed: 0,
            changed: 0,
            begun: None,
        }
    }

    /// The class that an object is to have: the order's, unless it is newer than that.
    pub fn class_of<'a>(
        &'a self,
        modified: Timestamp,
        own: Option<&'a ClassName>,
    ) -> Option<&'a ClassName> {
        let class = if modified > self.ordered { own } else { Some(&self.class) };
        class.filter(|class| !class.is_standard())
    }
}

/// Gives a bucket an order, takes it away, or tells how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SetRecode {
    /// The bucket.
    #[n(0)]
    pub bucket: BucketName,
    /// The order that is there, by its time: refused when it is another one.
    #[n(1)]
    pub known: Option<Timestamp>,
    /// The order that is to be there. One in place of none, or of one for another class, is new: the
    /// metadata sets its time.
    #[n(2)]
    pub order: Option<RecodeOrder>,
}

/// New extents for parts of an object, with the same bytes; refused with
/// [`crate::command::Refusal::SourceChanged`] if it has another body by now.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RecodeObject {
    /// The bucket.
    #[n(0)]
    pub bucket: BucketName,
    /// The key.
    #[n(1)]
    pub key: ObjectKey,
    /// The body that was read.
    #[n(2)]
    pub manifest: ManifestId,
    /// The body's name from now on, where any extent changes: whoever read the old one for a copy finds
    /// out.
    #[n(3)]
    pub recoded: ManifestId,
    /// The class that it has from now on.
    #[n(4)]
    pub class: ClassName,
    /// The parts whose extents change, ascending by number.
    #[n(5)]
    pub parts: Vec<RecodedPart>,
    /// The extent of the new [`crate::record::RecoveryRecord`], where there was one.
    #[n(6)]
    pub record: Option<Extent>,
}

/// A part's new extents.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RecodedPart {
    /// The number of the part.
    #[n(0)]
    pub number: u16,
    /// Its extents; together as long as those before.
    #[n(1)]
    pub extents: Vec<Extent>,
}

/// What of a bucket is to be recoded, as far as it was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct RecodePage {
    /// Keys of objects, ascending.
    #[n(0)]
    pub keys: Vec<ObjectKey>,
    /// How much they are.
    #[n(1)]
    pub amount: RecodeAmount,
    /// When more follow: the last key that was looked at.
    #[n(2)]
    pub next: Option<ObjectKey>,
}

impl ClusterMap {
    /// The class with this name; `None` for `STANDARD`, and when there is none.
    pub fn class(&self, name: &ClassName) -> Option<&StorageClass> {
        self.classes.iter().find(|class| class.name == *name)
    }

    /// Whether there is such a class.
    pub fn has_class(&self, name: &ClassName) -> bool {
        name.is_standard() || self.class(name).is_some()
    }

    /// The class that a bucket uses; `None` for `STANDARD`.
    pub fn class_of_bucket(&self, bucket: &str) -> Option<&StorageClass> {
        let uses = |class: &&StorageClass| {
            class.buckets.binary_search_by(|name| name.as_str().cmp(bucket)).is_ok()
        };
        self.classes.iter().find(uses)
    }

    /// The coding of a class; that of `STANDARD` for none, and for one that isn't there any more.
    pub fn coding_of(&self, class: Option<&ClassName>) -> Coding {
        class.and_then(|name| self.class(name)).map_or(self.coding, |class| class.coding)
    }

    /// The coding of what is written to a bucket with this class, or with none of its own.
    pub fn coding_for(&self, bucket: &str, class: Option<&ClassName>) -> Coding {
        match class {
            Some(class) => self.coding_of(Some(class)),
            None => self.class_of_bucket(bucket).map_or(self.coding, |class| class.coding),
        }
    }

    /// The codings of all classes, that of `STANDARD` first, each once.
    pub fn codings(&self) -> Vec<Coding> {
        let mut codings = vec![self.coding];
        for class in &self.classes {
            if !codings.contains(&class.coding) {
                codings.push(class.coding);
            }
        }
        codings
    }

    /// The PGs that get no new extents as the map is: of a coding that no class has, and that doesn't
    /// stand in for one of a class which has no open PG. What they hold stays until it is recoded; with
    /// those that hold nothing nothing can be lost.
    pub fn pgs_out_of_use(&self) -> Vec<&Pg> {
        let mut used = self.codings();
        let is_unused = |used: &[Coding], pg: &Pg| !used.contains(&pg.coding);
        if !self.pgs.iter().any(|pg| is_unused(&used, pg)) {
            return Vec::new();
        }
        for wanted in self.codings() {
            let open = self.open_pgs_of(wanted, &[]);
            used.extend(open.first().map(|pg| pg.coding));
        }
        self.pgs.iter().filter(|pg| is_unused(&used, pg)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ClusterId;

    fn name(text: &str) -> ClassName {
        ClassName::parse(text).expect("valid")
    }

    fn coding(text: &str) -> Coding {
        Coding::parse(text).expect("valid")
    }

    fn map() -> ClusterMap {
        let class = |text: &str, k_and_m: &str, buckets: &[&str]| StorageClass {
            name: name(text),
            coding: coding(k_and_m),
            buckets: buckets.iter().map(|b| BucketName::parse(b).expect("valid")).collect(),
        };
        let mut map = ClusterMap::new(ClusterId::default(), coding("4+2"));
        map.classes = vec![class("MIRROR", "1+2", &["abc", "def"]), class("WIDE", "4+2", &["xyz"])];
        map
    }

    #[test]
    fn a_bucket_has_the_coding_of_its_class() {
        let map = map();
        assert_eq!(map.coding_for("def", None), coding("1+2"));
        assert_eq!(map.coding_for("other", None), coding("4+2"));
        assert_eq!(map.coding_for("def", Some(&ClassName::standard())), coding("4+2"));
        assert_eq!(map.coding_for("other", Some(&name("MIRROR"))), coding("1+2"));
        assert_eq!(map.coding_of(Some(&name("GONE"))), coding("4+2"));
        assert_eq!(map.codings(), [coding("4+2"), coding("1+2")]);
        assert!(map.has_class(&ClassName::standard()) && !map.has_class(&name("GONE")));
    }

    #[test]
    fn what_is_newer_than_an_order_keeps_its_class() {
        let order = RecodeOrder { ordered: Timestamp(5), ..RecodeOrder::new(name("MIRROR")) };
        let (mirror, wide) = (name("MIRROR"), name("WIDE"));
        assert_eq!(order.class_of(Timestamp(5), Some(&wide)), Some(&mirror));
        assert_eq!(order.class_of(Timestamp(6), Some(&wide)), Some(&wide));
        assert_eq!(order.class_of(Timestamp(6), None), None);
        let back = RecodeOrder { class: ClassName::standard(), ..order };
        assert_eq!(back.class_of(Timestamp(1), Some(&wide)), None);
    }
}
