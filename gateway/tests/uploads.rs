//! Multipart uploads from beginning to end.

use md5::{Digest, Md5};

use crate::world::{World, noise};

const PART_BYTES: usize = 5 << 20;

async fn begin(world: &World, key: &str, headers: &[(&str, &str)]) -> String {
    let mut call = world.call("POST", &format!("/bucket/{key}?uploads"));
    for (name, value) in headers {
        call = call.header(name, value);
    }
    call.send().await.is(200).element("UploadId").expect("an id").to_owned()
}

async fn upload(world: &World, key: &str, id: &str, number: u32, body: Vec<u8>) -> String {
    let target = format!("/bucket/{key}?partNumber={number}&uploadId={id}");
    let put = world.call("PUT", &target).body(body).send().await.is(200);
    put.header("etag").expect("a tag").to_owned()
}

fn complete_body(parts: &[(u32, String)]) -> String {
    let parts = parts.iter().map(|(number, etag)| {
        format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
    });
    format!("<CompleteMultipartUpload>{}</CompleteMultipartUpload>", parts.collect::<String>())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_become_an_object() {
    let world = World::start().await;
    let headers = [("x-amz-meta-a", "1"), ("x-amz-checksum-algorithm", "CRC32")];
    let id = begin(&world, "key", &headers).await;
    let (first, second) = (noise(PART_BYTES), noise(1_000_000));
    let parts = vec![
        (1, upload(&world, "key", &id, 1, first.clone()).await),
        (3, upload(&world, "key", &id, 3, second.clone()).await),
    ];
    upload(&world, "key", &id, 2, b"never named".to_vec()).await;
    let listed =
        world.call("GET", &format!("/bucket/key?uploadId={id}&max-parts=2")).send().await.is(200);
    assert_eq!(listed.element("NextPartNumberMarker"), Some("2"));
    assert!(listed.element("ChecksumCRC32").is_some());
    let uploads = world.call("GET", "/bucket?uploads").send().await.is(200);
    assert_eq!(uploads.element("UploadId"), Some(id.as_str()));

    let target = format!("/bucket/key?uploadId={id}");
    let swapped = complete_body(&[parts[1].clone(), parts[0].clone()]);
    world.call("POST", &target).body(swapped).send().await.is_error(400, "InvalidPartOrder");
    let wrong = complete_body(&[(1, parts[1].1.clone())]);
    world.call("POST", &target).body(wrong).send().await.is_error(400, "InvalidPart");
    let sized = world.call("POST", &target).body(complete_body(&parts));
    sized.header("x-amz-mp-object-size", "7").send().await.is_error(400, "InvalidRequest");
    world.call("POST", &target).body("<x").send().await.is_error(400, "MalformedXML");

    let done = world.call("POST", &target).body(complete_body(&parts)).send().await.is(200);
    let mut whole = Md5::new();
    whole.update(Md5::digest(&first));
    whole.update(Md5::digest(&second));
    let etag = format!("\"{}-2\"", hex::encode(whole.finalize()));
    assert_eq!(done.element("ETag").map(|tag| tag.replace("&quot;", "\"")), Some(etag.clone()));
    assert_eq!(done.element("ChecksumType"), Some("COMPOSITE"));
    let again = world.call("POST", &target).body(complete_body(&parts)).send().await.is(200);
    assert_eq!(again.element("ETag"), done.element("ETag"));

    let get = world.call("GET", "/bucket/key").send().await.is(200);
    assert!(get.body == [first.as_slice(), second.as_slice()].concat());
    assert_eq!((get.header("etag"), get.header("x-amz-meta-a")), (Some(etag.as_str()), Some("1")));
    let part =
        world.call("GET", "/bucket/key?partNumber=3").header("x-amz-checksum-mode", "ENABLED");
    let part = part.send().await.is(206);
    assert!(part.body == second);
    assert_eq!(part.header("x-amz-mp-parts-count"), Some("2"));
    assert!(part.header("x-amz-checksum-crc32").is_some_and(|sum| !sum.contains('-')));
    world.call("GET", "/bucket/key?partNumber=9").send().await.is_error(416, "InvalidPartNumber");
    let attributes = world.call("GET", "/bucket/key?attributes");
    let attributes =
        attributes.header("x-amz-object-attributes", "ObjectParts").header("x-amz-max-parts", "1");
    let attributes = attributes.send().await.is(200);
    assert_eq!(attributes.element("PartsCount"), Some("2"));
    assert_eq!(attributes.element("IsTruncated"), Some("true"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_uploads() {
    let world = World::start().await;
    let id = begin(&world, "key", &[]).await;
    let put = world.call("PUT", &format!("/bucket/key?partNumber=10001&uploadId={id}")).body("x");
    put.send().await.is_error(400, "InvalidArgument");
    let none = "0".repeat(32);
    let put = world.call("PUT", &format!("/bucket/key?partNumber=1&uploadId={none}")).body("x");
    put.send().await.is_error(404, "NoSuchUpload");
    let parts = [
        (1, upload(&world, "key", &id, 1, b"small".to_vec()).await),
        (2, upload(&world, "key", &id, 2, b"last".to_vec()).await),
    ];
    let target = format!("/bucket/key?uploadId={id}");
    let small = world.call("POST", &target).body(complete_body(&parts)).send().await;
    small.is_error(400, "EntityTooSmall");
    world.call("DELETE", &target).send().await.is(204);
    world.call("DELETE", &target).send().await.is_error(404, "NoSuchUpload");
    world.call("GET", &target).send().await.is_error(404, "NoSuchUpload");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_by_copy() {
    let world = World::start().await;
    let body = noise(6_000_000);
    world.call("PUT", "/bucket/source").body(body.clone()).send().await.is(200);
    let id = begin(&world, "key", &[("x-amz-checksum-algorithm", "CRC64NVME")]).await;
    let copy = |number: u32| {
        let target = format!("/bucket/key?partNumber={number}&uploadId={id}");
        world.call("PUT", &target).header("x-amz-copy-source", "/bucket/source")
    };
    let whole = copy(1).send().await.is(200);
    assert!(whole.element("ChecksumCRC64NVME").is_some());
    let ranged = copy(2).header("x-amz-copy-source-range", "bytes=10-1009").send().await.is(200);
    let over = copy(3).header("x-amz-copy-source-range", "bytes=10-6000000").send().await;
    over.is_error(400, "InvalidArgument");
    let tag =
        |reply: &crate::world::client::Reply| reply.element("ETag").expect("a tag").to_owned();
    let parts = complete_body(&[(1, tag(&whole)), (2, tag(&ranged))]);
    let done =
        world.call("POST", &format!("/bucket/key?uploadId={id}")).body(parts).send().await.is(200);
    assert_eq!(done.element("ChecksumType"), Some("FULL_OBJECT"));
    let get = world.call("GET", "/bucket/key").send().await.is(200);
    assert!(get.body == [&body[..], &body[10..1010]].concat());
    // Without a checksum to compute, nothing is read or written.
    let id = begin(&world, "shared", &[]).await;
    let shards = world.shards.count();
    let target = format!("/bucket/shared?partNumber=1&uploadId={id}");
    world.call("PUT", &target).header("x-amz-copy-source", "/bucket/source").send().await.is(200);
    assert_eq!(world.shards.count(), shards);
}
