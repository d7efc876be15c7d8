//! Bodies in every form, and bodies that aren't what they should be.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::world::{World, noise};

const FORMS: [&str; 3] = [
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
    "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
];

fn crc32c(bytes: &[u8]) -> String {
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32;
    STANDARD.encode(crc.to_be_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_form() {
    let world = World::start().await;
    for size in [0, 100, 300_000, 6_000_000] {
        let body = noise(size);
        let plain = world.call("PUT", "/bucket/plain").payload("UNSIGNED-PAYLOAD");
        plain.body(body.clone()).send().await.is(200);
        assert!(world.call("GET", "/bucket/plain").send().await.is(200).body == body);
        for form in FORMS {
            let sum = crc32c(&body);
            let trailer =
                form.ends_with("TRAILER").then_some(("x-amz-checksum-crc32c", sum.as_str()));
            let put = world.call("PUT", "/bucket/chunked").payload(form).body(body.clone());
            let put = put.header("content-encoding", "aws-chunked,gzip");
            let put = put.send_chunked(65_536, trailer, false).await.is(200);
            if trailer.is_some() {
                assert_eq!(put.header("x-amz-checksum-crc32c"), Some(sum.as_str()));
            }
            let get = world.call("GET", "/bucket/chunked").send().await.is(200);
            assert!(get.body == body, "{form} {size}");
            assert_eq!(get.header("content-encoding"), Some("gzip"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_bodies_are_never_committed() {
    let world = World::start().await;
    for size in [100, 6_000_000] {
        let body = noise(size);
        let wrong = "0".repeat(64);
        let put = world.call("PUT", "/bucket/key").payload(&wrong).body(body.clone());
        put.send().await.is_error(400, "XAmzContentSHA256Mismatch");
        let put = world.call("PUT", "/bucket/key").body(body.clone());
        let put = put.header("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==");
        put.send().await.is_error(400, "BadDigest");
        let put = world.call("PUT", "/bucket/key").body(body.clone());
        put.header("x-amz-checksum-crc32c", "AAAAAA==").send().await.is_error(400, "BadDigest");
        let put = world.call("PUT", "/bucket/key").body(body.clone());
        put.header("x-amz-checksum-crc32c", "?").send().await.is_error(400, "InvalidRequest");
        for form in &FORMS[..2] {
            let sum = crc32c(&body);
            let trailer =
                form.ends_with("TRAILER").then_some(("x-amz-checksum-crc32c", sum.as_str()));
            let put = world.call("PUT", "/bucket/key").payload(form).body(body.clone());
            let put = put.send_chunked(65_536, trailer, true).await;
            put.is_error(403, "SignatureDoesNotMatch");
        }
        let put = world.call("PUT", "/bucket/key").payload(FORMS[2]).body(body.clone());
        let put =
            put.send_chunked(65_536, Some(("x-amz-checksum-crc32c", "AAAAAA==")), false).await;
        put.is_error(400, "BadDigest");
        world.call("GET", "/bucket/key").send().await.is_error(404, "NoSuchKey");
    }
    // What was written of them is deleted again, in the background.
    for _ in 0..500 {
        if world.shards.count() == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("{} shards are left", world.shards.count());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not() {
    let world = World::start().await;
    world.call("GET", "/bucket").send_unsigned().await.is_error(403, "AccessDenied");
    let wrong = world.call("GET", "/bucket").secret("another").send().await;
    wrong.is_error(403, "SignatureDoesNotMatch");
    let text = wrong.text();
    assert!(!text.contains("a secret for tests"));
    let put = world.call("PUT", "/bucket/key").secret("another").body(noise(1 << 20)).send().await;
    put.is_error(403, "SignatureDoesNotMatch");
    assert_eq!(world.shards.count(), 0);
}
