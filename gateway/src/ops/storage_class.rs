//! Which storage class a write gets, and whether a copy can share its source's bytes.
//!
//! In: what a request names, and the cluster map. Out: a class that the cluster has. What always holds: a
//! class that was made before the request came is known, however old the map was.

use model::names::{BucketName, ClassName};
use model::version::ObjectHeaders;
use s3::S3Error;
use s3::unsupported::unknown_storage_class;

use crate::{Gateway, refusal};

impl Gateway {
    /// The class that a request names, if the cluster has it. `STANDARD` is only said where buckets
    /// can have another one.
    pub(crate) async fn known_class(
        &self,
        asked: Option<ClassName>,
    ) -> Result<Option<ClassName>, S3Error> {
        let Some(asked) = asked else { return Ok(None) };
        let mut map = self.engine.cluster_map().await.map_err(refusal::of_metadata)?;
        if asked.is_standard() {
            return Ok((!map.classes.is_empty()).then_some(asked));
        }
        if !map.has_class(&asked) {
            map = self.engine.newest_cluster_map().await.map_err(refusal::of_metadata)?;
        }
        if map.has_class(&asked) {
            Ok(Some(asked))
        } else {
            Err(unknown_storage_class(asked.as_str()))
        }
    }

    /// The headers of a write, with a class that the cluster has.
    pub(crate) async fn with_known_class(
        &self,
        headers: ObjectHeaders,
    ) -> Result<ObjectHeaders, S3Error> {
        let class = self.known_class(headers.class).await?;
        Ok(ObjectHeaders { class, ..headers })
    }

    /// The class that something gets in a bucket: the one that was asked for, or the bucket's; `None`
    /// for `STANDARD`.
    pub(crate) async fn class_in(
        &self,
        bucket: &BucketName,
        asked: Option<&ClassName>,
    ) -> Result<Option<ClassName>, S3Error> {
        let map = self.engine.cluster_map().await.map_err(refusal::of_metadata)?;
        let of_bucket = || map.class_of_bucket(bucket.as_str()).map(|class| class.name.clone());
        let class = asked.cloned().or_else(of_bucket);
        Ok(class.filter(|class| !class.is_standard()))
    }

    /// Whether bytes of one class are coded as another one's are.
    pub(crate) async fn have_one_coding(
        &self,
        one: Option<&ClassName>,
        other: Option<&ClassName>,
    ) -> Result<bool, S3Error> {
        let map = self.engine.cluster_map().await.map_err(refusal::of_metadata)?;
        Ok(map.coding_of(one) == map.coding_of(other))
    }
}
