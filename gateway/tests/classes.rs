//! x-amz-storage-class: which one a write gets, and who is told.

use engine::EngineOptions;
use gateway::http::listener::ListenerOptions;
use model::class::StorageClass;
use model::coding::Coding;
use model::names::{BucketName, ClassName};
use model::placement::pgs_to_add;

use crate::world::{World, cluster_map, noise};

const NAME: &str = "x-amz-storage-class";

/// A cluster with a class of three copies, which the bucket `mirrored` uses.
async fn with_mirror() -> World {
    let mut map = cluster_map();
    map.classes.push(StorageClass {
        name: ClassName::parse("MIRROR").expect("valid"),
        coding: Coding::parse("1+2").expect("valid"),
        buckets: vec![BucketName::parse("mirrored").expect("valid")],
    });
    map.pgs.extend(pgs_to_add(&map));
    let world = World::start_of(map, EngineOptions::default(), ListenerOptions::default()).await;
    world.call("PUT", "/mirrored").send().await.is(200);
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_class_decides_how_bytes_are_coded() {
    let world = with_mirror().await;
    let body = noise(400_000);
    let mut before = 0;
    // Shards take three bytes of 2 with 4+2, and three of 1 with 1+2.
    for (target, class, thirds) in [
        ("/bucket/usual", None, 2),
        ("/bucket/named", Some("MIRROR"), 1),
        ("/mirrored/usual", None, 1),
        ("/mirrored/standard", Some("STANDARD"), 2),
    ] {
        let put = world.call("PUT", target).body(body.clone());
        let put = class.iter().fold(put, |put, class| put.header(NAME, class));
        put.send().await.is(200);
        let now = world.shards.bytes();
        let expected = body.len() * 3 / thirds;
        let written = now - before;
        assert!(written >= expected && written < expected + 40_000, "{target}: {written}");
        before = now;
        assert!(world.call("GET", target).send().await.is(200).body == body, "{target}");
    }
    let head = world.call("HEAD", "/bucket/named").send().await.is(200);
    assert_eq!(head.header(NAME), Some("MIRROR"));
    let head = world.call("HEAD", "/bucket/usual").send().await.is(200);
    assert_eq!(head.header(NAME), None);
    let list = world.call("GET", "/bucket?list-type=2&prefix=n").send().await.is(200);
    assert_eq!(list.element("StorageClass"), Some("MIRROR"));
    let attributes = world
        .call("GET", "/bucket/named?attributes")
        .header("x-amz-object-attributes", "StorageClass");
    let attributes = attributes.send().await.is(200);
    assert_eq!(attributes.element("StorageClass"), Some("MIRROR"));
    // A copy into a class of another coding has bytes of its own; into its own it shares them.
    let copy = |to: &str, class: &str| {
        world.call("PUT", to).header("x-amz-copy-source", "bucket/usual").header(NAME, class)
    };
    copy("/bucket/shared", "STANDARD").send().await.is(200);
    assert!(world.shards.bytes() < before + 10_000);
    copy("/bucket/usual", "MIRROR").send().await.is(200);
    assert!(world.shards.bytes() > before + body.len() * 3);
    assert!(world.call("GET", "/bucket/usual").send().await.is(200).body == body);
    let head = world.call("HEAD", "/bucket/usual").send().await.is(200);
    assert_eq!(head.header(NAME), Some("MIRROR"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_classes_are_refused() {
    let world = with_mirror().await;
    let put = |class: &str| world.call("PUT", "/bucket/k").body("x").header(NAME, class);
    put("FAST").send().await.is_error(400, "InvalidStorageClass");
    put("mirror").send().await.is_error(400, "InvalidStorageClass");
    put("").send().await.is_error(400, "InvalidStorageClass");
    put("GLACIER").send().await.is_error(501, "NotImplemented");
    let upload = world.call("POST", "/bucket/k?uploads").header(NAME, "FAST");
    upload.send().await.is_error(400, "InvalidStorageClass");
    let copy = world.call("PUT", "/bucket/k").header("x-amz-copy-source", "bucket/k");
    copy.header(NAME, "FAST").send().await.is_error(400, "InvalidStorageClass");
    // Without classes the usual one may be named.
    let plain = World::start().await;
    let put = plain.call("PUT", "/bucket/k").body("x").header(NAME, "STANDARD");
    put.send().await.is(200);
}
