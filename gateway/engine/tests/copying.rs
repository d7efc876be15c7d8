//! Copies by sharing extents, and by reading and writing.

use engine::{Engine, PartShare};
use model::command::SourceObject;
use model::ids::UploadId;
use model::query::PlanWanted;

use crate::cluster::{Cluster, body, bucket, key};

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_body_is_shared_and_a_range_is_copied() {
    let cluster = Cluster::new(6, "4+2");
    let body = body(9 << 20);
    cluster.put("source", &body).await;
    let shards = cluster.shards();
    let found = cluster.open("source", PlanWanted::Whole).await;
    let manifest = found.version.manifest;
    let share = PartShare {
        source: SourceObject { bucket: bucket(), key: key("source"), manifest },
        bucket: bucket(),
        key: key("target"),
        upload: UploadId([2; 16]),
        number: 3,
        checksum: None,
    };
    let shared = cluster.engine.share_part(share.clone(), &found).await;
    shared.expect("a whole body").expect("committed");
    let parts = cluster.metadata.parts();
    assert_eq!((parts[0].number, parts[0].size, parts[0].md5), (3, 9 << 20, [1; 16]));
    assert!(parts[0].is_valid());
    assert_eq!(cluster.shards(), shards);

    let range = cluster.open("source", PlanWanted::Between(1000, 4_999_999)).await;
    assert!(Engine::shareable(&range).is_none());
    assert!(cluster.engine.share_part(share, &range).await.is_none());
    let mut seen = Vec::new();
    let target = cluster.target("copy", Some(4_999_000));
    let written = cluster
        .engine
        .copy_range(&range, target, &mut |chunk| seen.extend_from_slice(chunk))
        .await
        .expect("copied");
    assert!(seen == body[1000..5_000_000]);
    cluster.commit("copy", written).await.expect("committed");
    cluster.check("copy", &body.slice(1000..5_000_000)).await;
}
