//! CopyObject and its rules.

use crate::world::{World, noise};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_share_bytes() {
    let world = World::start().await;
    let body = noise(500_000);
    let put = world.call("PUT", "/bucket/source").body(body.clone()).header("x-amz-meta-a", "1");
    let etag = put.send().await.is(200).header("etag").expect("a tag").to_owned();
    let bytes = world.shards.bytes();
    let copy = world.call("PUT", "/bucket/copy").header("x-amz-copy-source", "/bucket/source");
    let copy = copy.send().await.is(200);
    assert!(copy.text().contains("CopyObjectResult"));
    assert_eq!(copy.element("ETag").map(|tag| tag.replace("&quot;", "\"")), Some(etag.clone()));
    // Only what tells whose it is, should the metadata be lost, is stored for the copy.
    assert!(world.shards.bytes() < bytes + 10_000, "{bytes} before");
    let get = world.call("GET", "/bucket/copy").send().await.is(200);
    assert!(get.body == body && get.header("x-amz-meta-a") == Some("1"));

    let replace = world.call("PUT", "/bucket/source").header("x-amz-copy-source", "bucket/source");
    let replace = replace.header("x-amz-metadata-directive", "REPLACE").header("x-amz-meta-b", "2");
    replace.send().await.is(200);
    let get = world.call("HEAD", "/bucket/source").send().await.is(200);
    assert_eq!((get.header("x-amz-meta-a"), get.header("x-amz-meta-b")), (None, Some("2")));

    let sum = world.call("PUT", "/bucket/sum").header("x-amz-copy-source", "bucket/source");
    let sum = sum.header("x-amz-checksum-algorithm", "SHA256").send().await.is(200);
    assert!(sum.element("ChecksumSHA256").is_some());
    assert!(world.call("GET", "/bucket/sum").send().await.is(200).body == body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_copies() {
    let world = World::start().await;
    world.call("PUT", "/bucket/source").body("x").send().await.is(200);
    let copy = |source: &str| world.call("PUT", "/bucket/copy").header("x-amz-copy-source", source);
    copy("bucket/none").send().await.is_error(404, "NoSuchKey");
    copy("missing/source").send().await.is_error(404, "NoSuchBucket");
    copy("bucket").send().await.is_error(400, "InvalidArgument");
    let matched = copy("bucket/source").header("x-amz-copy-source-if-match", "\"no\"");
    matched.send().await.is_error(412, "PreconditionFailed");
    let itself = world.call("PUT", "/bucket/source").header("x-amz-copy-source", "bucket/source");
    itself.send().await.is_error(400, "InvalidRequest");
    copy("bucket/source").send().await.is(200);
    let taken = copy("bucket/source").header("if-none-match", "*");
    taken.send().await.is_error(412, "PreconditionFailed");
}
