//! Buckets and listings.

use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buckets_come_and_go() {
    let world = World::start().await;
    world.call("PUT", "/bucket").send().await.is(200);
    world.call("HEAD", "/bucket").send().await.is(200);
    let missing = world.call("HEAD", "/missing").send().await.is(404);
    assert!(missing.body.is_empty());
    world.call("DELETE", "/missing").send().await.is_error(404, "NoSuchBucket");
    world.call("GET", "/missing").send().await.is_error(404, "NoSuchBucket");
    world.call("PUT", "/missing/key").body("x").send().await.is_error(404, "NoSuchBucket");
    world.call("PUT", "/Bad_Name").send().await.is_error(400, "InvalidBucketName");
    let location = world.call("GET", "/bucket?location").send().await.is(200);
    assert!(location.text().contains("LocationConstraint"));
    world.call("PUT", "/bucket/key").body("x").send().await.is(200);
    world.call("DELETE", "/bucket").send().await.is_error(409, "BucketNotEmpty");
    world.call("DELETE", "/bucket/key").send().await.is(204);
    world.call("DELETE", "/bucket").send().await.is(204);
    let list = world.call("GET", "/").send().await.is(200);
    assert!(!list.text().contains("<Bucket>"));
    world
        .call("PUT", "/other")
        .body("<CreateBucketConfiguration><LocationConstraint>eu-x</LocationConstraint></CreateBucketConfiguration>")
        .send()
        .await
        .is_error(400, "InvalidLocationConstraint");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_of_buckets_have_pages() {
    let world = World::start().await;
    for name in ["aaa", "aab", "aac"] {
        world.call("PUT", &format!("/{name}")).send().await.is(200);
    }
    let first = world.call("GET", "/?max-buckets=2&prefix=aa").send().await.is(200);
    assert!(first.text().contains("aab") && !first.text().contains("aac"));
    let token = first.element("ContinuationToken").expect("a token");
    let target = format!("/?continuation-token={token}&max-buckets=2&prefix=aa");
    let second = world.call("GET", &target).send().await.is(200);
    assert!(second.text().contains("aac") && second.element("ContinuationToken").is_none());
    world.call("GET", "/?max-buckets=0").send().await.is_error(400, "InvalidArgument");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_of_objects() {
    let world = World::start().await;
    for key in ["a", "b/1", "b/2", "c"] {
        world.call("PUT", &format!("/bucket/{key}")).body("x").send().await.is(200);
    }
    let rolled = world.call("GET", "/bucket?delimiter=%2F&list-type=2").send().await.is(200);
    assert_eq!(rolled.element("KeyCount"), Some("3"));
    assert!(rolled.text().contains("<CommonPrefixes><Prefix>b/</Prefix>"));
    let first = world.call("GET", "/bucket?list-type=2&max-keys=2").send().await.is(200);
    assert_eq!(first.element("IsTruncated"), Some("true"));
    let token = first.element("NextContinuationToken").expect("a token");
    let target = format!("/bucket?continuation-token={token}&list-type=2");
    let second = world.call("GET", &target).send().await.is(200);
    assert!(second.text().contains("<Key>b/2</Key>") && second.text().contains("<Key>c</Key>"));
    assert!(!second.text().contains("<Key>b/1</Key>"));
    let old = world.call("GET", "/bucket?marker=b%2F2&prefix=").send().await.is(200);
    assert_eq!(old.element("Key"), Some("c"));
    let none = world.call("GET", "/bucket?max-keys=0").send().await.is(200);
    assert_eq!(none.element("IsTruncated"), Some("false"));
    world.call("GET", "/bucket?max-keys=x").send().await.is_error(400, "InvalidArgument");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_configured_says_so() {
    let world = World::start().await;
    world.call("GET", "/bucket?policy").send().await.is_error(404, "NoSuchBucketPolicy");
    world.call("GET", "/missing?policy").send().await.is_error(404, "NoSuchBucket");
    world.call("GET", "/bucket?versioning").send().await.is(200);
    let acl = world.call("GET", "/bucket?acl").send().await.is(200);
    assert!(acl.text().contains("FULL_CONTROL"));
    world
        .call("PUT", "/bucket?versioning")
        .body("<x/>")
        .send()
        .await
        .is_error(501, "NotImplemented");
    world.call("GET", "/bucket/key?acl").send().await.is_error(404, "NoSuchKey");
    world.call("PATCH", "/bucket/key").send().await.is_error(405, "MethodNotAllowed");
}
