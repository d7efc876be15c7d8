//! PutObject, GetObject, HeadObject, DeleteObject, DeleteObjects, GetObjectAttributes.

use std::sync::atomic::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};

use crate::world::{World, noise};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_read_back_at_all_sizes() {
    let world = World::start().await;
    for size in [0usize, 1, 4096, 65_536, 200_000, 1 << 20, 9_000_001] {
        let body = noise(size);
        let etag = format!("\"{}\"", hex::encode(Md5::digest(&body)));
        let target = format!("/bucket/size-{size}");
        let put = world.call("PUT", &target).body(body.clone()).send().await.is(200);
        assert_eq!(put.header("etag"), Some(etag.as_str()));
        let get = world.call("GET", &target).send().await.is(200);
        assert!(get.body == body, "{size}");
        assert_eq!(get.header("etag"), Some(etag.as_str()));
        assert_eq!(get.header("content-length"), Some(size.to_string().as_str()));
        assert_eq!(get.header("content-type"), Some("binary/octet-stream"));
        assert_eq!(get.header("accept-ranges"), Some("bytes"));
        assert_eq!(get.header("server"), Some("Drystone"));
        assert_eq!(get.header("x-amz-request-id").map(str::len), Some(16));
        let head = world.call("HEAD", &target).send().await.is(200);
        assert_eq!(head.header("content-length"), Some(size.to_string().as_str()));
        assert!(head.body.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_and_overrides() {
    let world = World::start().await;
    let put = world.call("PUT", "/bucket/key").body("hello");
    let put = put.header("x-amz-meta-color", "blue").header("content-type", "text/plain");
    put.header("cache-control", "max-age=1").send().await.is(200);
    let get = world.call("GET", "/bucket/key").send().await.is(200);
    assert_eq!(get.header("x-amz-meta-color"), Some("blue"));
    assert_eq!(get.header("content-type"), Some("text/plain"));
    assert_eq!(get.header("cache-control"), Some("max-age=1"));
    let get = world.call("GET", "/bucket/key?response-content-type=text%2Fx").send().await.is(200);
    assert_eq!(get.header("content-type"), Some("text/x"));
    let null = world.call("GET", "/bucket/key?versionId=null").send().await.is(200);
    assert_eq!(null.text(), "hello");
    world.call("GET", "/bucket/key?versionId=x").send().await.is_error(404, "NoSuchVersion");
    // A key is opaque: nothing of it is a path.
    for key in ["..", "a/../b", "a//b", "%01", "%C3%A4"] {
        world.call("PUT", &format!("/bucket/{key}")).body(key.to_owned()).send().await.is(200);
        let get = world.call("GET", &format!("/bucket/{key}")).send().await.is(200);
        assert_eq!(get.text(), key);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges() {
    let world = World::start().await;
    let body = noise(5_000_000);
    world.call("PUT", "/bucket/key").body(body.clone()).send().await.is(200);
    for (range, first, last) in [
        ("bytes=0-0", 0, 0),
        ("bytes=100-199999", 100, 199_999),
        ("bytes=4194300-4194310", 4_194_300, 4_194_310),
        ("bytes=4999999-", 4_999_999, 4_999_999),
        ("bytes=-10", 4_999_990, 4_999_999),
        ("bytes=1000-99999999", 1000, 4_999_999),
    ] {
        let get = world.call("GET", "/bucket/key").header("range", range).send().await.is(206);
        assert!(get.body == body[first..=last], "{range}");
        let expected = format!("bytes {first}-{last}/5000000");
        assert_eq!(get.header("content-range"), Some(expected.as_str()));
        let head = world.call("HEAD", "/bucket/key").header("range", range).send().await.is(206);
        assert_eq!(head.header("content-range"), Some(expected.as_str()));
    }
    let bad = world.call("GET", "/bucket/key").header("range", "bytes=5000000-").send().await;
    bad.is_error(416, "InvalidRange");
    assert_eq!(bad.header("content-range"), Some("bytes */5000000"));
    let odd = world.call("GET", "/bucket/key").header("range", "lines=1-2").send().await.is(200);
    assert_eq!(odd.body.len(), 5_000_000);
    let part = world.call("GET", "/bucket/key?partNumber=1").send().await.is(206);
    assert_eq!(part.body.len(), 5_000_000);
    world.call("GET", "/bucket/key?partNumber=2").send().await.is_error(416, "InvalidPartNumber");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conditions() {
    let world = World::start().await;
    let put = world.call("PUT", "/bucket/key").body("one").header("if-none-match", "*");
    let etag = put.send().await.is(200).header("etag").expect("a tag").to_owned();
    let again = world.call("PUT", "/bucket/key").body("two").header("if-none-match", "*");
    again.send().await.is_error(412, "PreconditionFailed");
    let wrong = world.call("PUT", "/bucket/key").body("two").header("if-match", "\"x\"");
    wrong.send().await.is_error(412, "PreconditionFailed");
    let gone = world.call("PUT", "/bucket/none").body("two").header("if-match", &etag);
    gone.send().await.is_error(404, "NoSuchKey");
    let get = world.call("GET", "/bucket/key").header("if-none-match", &etag).send().await.is(304);
    assert_eq!(get.header("etag"), Some(etag.as_str()));
    assert!(get.body.is_empty() && get.header("last-modified").is_some());
    let get = world.call("GET", "/bucket/key").header("if-match", "\"no\"").send().await;
    get.is_error(412, "PreconditionFailed");
    let right = world.call("PUT", "/bucket/key").body("two").header("if-match", &etag);
    right.send().await.is(200);
    let stale = world.call("DELETE", "/bucket/key").header("if-match", &etag).send().await;
    stale.is_error(412, "PreconditionFailed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletes() {
    let world = World::start().await;
    world.call("DELETE", "/bucket/none").send().await.is(204);
    for key in ["a", "b"] {
        world.call("PUT", &format!("/bucket/{key}")).body("x").send().await.is(200);
    }
    let body = format!(
        "<Delete><Object><Key>a</Key></Object><Object><Key>b</Key><VersionId>z</VersionId></Object><Object><Key>{}</Key></Object></Delete>",
        "k".repeat(1025)
    );
    let md5 = STANDARD.encode(Md5::digest(body.as_bytes()));
    let bare = world.call("POST", "/bucket?delete").body(body.clone()).send().await;
    bare.is_error(400, "InvalidRequest");
    let deleted = world.call("POST", "/bucket?delete").body(body).header("content-md5", &md5);
    let deleted = deleted.send().await.is(200);
    assert!(deleted.text().contains("<Deleted><Key>a</Key>"));
    assert!(deleted.text().contains("<Code>NoSuchVersion</Code>"));
    assert!(deleted.text().contains("<Code>KeyTooLongError</Code>"));
    world.call("GET", "/bucket/a").send().await.is_error(404, "NoSuchKey");
    world.call("GET", "/bucket/b").send().await.is(200);
    let quiet = "<Delete><Quiet>true</Quiet><Object><Key>b</Key></Object></Delete>";
    let md5 = STANDARD.encode(Md5::digest(quiet));
    let quiet = world.call("POST", "/bucket?delete").body(quiet).header("content-md5", &md5);
    assert!(!quiet.send().await.is(200).text().contains("<Deleted>"));
    world.call("GET", "/bucket/b").send().await.is_error(404, "NoSuchKey");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attributes() {
    let world = World::start().await;
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, b"123456789") as u32;
    let crc = STANDARD.encode(crc.to_be_bytes());
    let put =
        world.call("PUT", "/bucket/key").body("123456789").header("x-amz-checksum-crc32", &crc);
    assert_eq!(put.send().await.is(200).header("x-amz-checksum-crc32"), Some(crc.as_str()));
    let get = world.call("GET", "/bucket/key?attributes");
    let get =
        get.header("x-amz-object-attributes", "ETag,Checksum,ObjectSize").send().await.is(200);
    assert_eq!(get.element("ObjectSize"), Some("9"));
    assert_eq!(get.element("ChecksumCRC32"), Some(crc.as_str()));
    world.call("GET", "/bucket/key?attributes").send().await.is_error(400, "InvalidRequest");
    let plain = world.call("HEAD", "/bucket/key").send().await.is(200);
    assert_eq!(plain.header("x-amz-checksum-crc32"), None);
    let asked = world.call("GET", "/bucket/key").header("x-amz-checksum-mode", "ENABLED");
    let asked = asked.send().await.is(200);
    assert_eq!(asked.header("x-amz-checksum-crc32"), Some(crc.as_str()));
    assert_eq!(asked.header("x-amz-checksum-type"), Some("FULL_OBJECT"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_disks() {
    let world = World::start().await;
    let body = noise(9_000_000);
    world.call("PUT", "/bucket/key").body(body.clone()).send().await.is(200);
    world.shards.lose(0..2);
    let get = world.call("GET", "/bucket/key").send().await.is(200);
    assert!(get.body == body);
    world.shards.lose(0..6);
    let get = world.call("GET", "/bucket/key").send().await;
    assert!(get.status.is_server_error(), "{get:?}");
    assert!(get.element("Code").is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_outcome_is_not_called_a_failure() {
    let world = World::start().await;
    world.metadata.silent.store(true, Ordering::Relaxed);
    let put = world.call("PUT", "/bucket/key").body("x").send().await;
    put.is_error(503, "ServiceUnavailable");
    assert!(put.text().contains("known whether"));
    assert_eq!(put.header("retry-after"), Some("1"));
}
