//! What the SDK is asked to do, in the order of an object's life.
//!
//! In: a client and the name of a new bucket. Out: an error that says what differed, or nothing.

use anyhow::{Context, Result, ensure};
use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart, Delete, ObjectIdentifier,
};

const PART_BYTES: usize = 5 << 20;

/// Runs every scenario in a bucket that is made first and removed last.
pub async fn run(client: &Client, bucket: &str) -> Result<()> {
    let test = Scenarios { client, bucket };
    client.create_bucket().bucket(bucket).send().await.context("create_bucket")?;
    test.objects_come_back().await.context("objects_come_back")?;
    test.ranges_are_exact().await.context("ranges_are_exact")?;
    test.parts_make_a_whole().await.context("parts_make_a_whole")?;
    test.listings_have_every_key().await.context("listings_have_every_key")?;
    test.errors_have_their_names().await.context("errors_have_their_names")?;
    test.deleted_is_gone().await.context("deleted_is_gone")?;
    client.delete_bucket().bucket(bucket).send().await.context("delete_bucket")?;
    Ok(())
}

struct Scenarios<'a> {
    client: &'a Client,
    bucket: &'a str,
}

impl Scenarios<'_> {
    async fn objects_come_back(&self) -> Result<()> {
        for size in [0, 1, 4096, 65_537, 3 << 20] {
            let body = pattern(size, size as u64);
            self.put(&format!("size/{size}"), body.clone()).await?;
            let got = self.get(&format!("size/{size}"), None).await?;
            ensure!(got == body, "an object of {size} bytes came back different");
        }
        let request = self.client.put_object().bucket(self.bucket).key("with metadata/ü");
        let request = request.metadata("colour", "grey").content_type("text/plain");
        request.body(ByteStream::from_static(b"stone")).send().await?;
        let head = self.client.head_object().bucket(self.bucket).key("with metadata/ü");
        let head = head.send().await?;
        let colour = head.metadata().and_then(|all| all.get("colour"));
        ensure!(colour.map(String::as_str) == Some("grey"), "metadata: {colour:?}");
        ensure!(head.content_type() == Some("text/plain"), "type: {:?}", head.content_type());
        for algorithm in [
            ChecksumAlgorithm::Crc32,
            ChecksumAlgorithm::Crc32C,
            ChecksumAlgorithm::Crc64Nvme,
            ChecksumAlgorithm::Sha1,
            ChecksumAlgorithm::Sha256,
        ] {
            let body = pattern(100_000, 5);
            let key = format!("checksum/{algorithm}");
            let request = self.client.put_object().bucket(self.bucket).key(&key);
            let request = request.checksum_algorithm(algorithm);
            request.body(body.clone().into()).send().await?;
            ensure!(self.get(&key, None).await? == body, "{key} came back different");
        }
        println!("objects_come_back");
        Ok(())
    }

    async fn ranges_are_exact(&self) -> Result<()> {
        let size = 3 << 20;
        let body = pattern(size, size as u64);
        let key = format!("size/{size}");
        for (first, last) in [(0, 0), (1, 65_536), (65_535, 65_536), (1 << 20, size - 1)] {
            let got = self.get(&key, Some(format!("bytes={first}-{last}"))).await?;
            let expected = body.get(first..=last).context("a range within the body")?;
            ensure!(got == expected, "bytes {first} to {last} differ");
        }
        let tail = self.get(&key, Some("bytes=-7".to_owned())).await?;
        ensure!(body.ends_with(&tail) && tail.len() == 7, "the last seven bytes differ");
        println!("ranges_are_exact");
        Ok(())
    }

    async fn parts_make_a_whole(&self) -> Result<()> {
        let (client, bucket, key) = (self.client, self.bucket, "multipart");
        let upload = client.create_multipart_upload().bucket(bucket).key(key).send().await?;
        let id = upload.upload_id().context("no upload id")?;
        let mut whole = Vec::new();
        let mut parts = Vec::new();
        for number in 1..=3 {
            let size = if number == 3 { 12_345 } else { PART_BYTES };
            let body = pattern(size, number as u64);
            whole.extend_from_slice(&body);
            let part = client.upload_part().bucket(bucket).key(key).upload_id(id);
            let part = part.part_number(number).body(body.into()).send().await?;
            let done = CompletedPart::builder().part_number(number);
            let done = done.set_e_tag(part.e_tag).set_checksum_crc32(part.checksum_crc32);
            parts.push(done.build());
        }
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let complete = client.complete_multipart_upload().bucket(bucket).key(key).upload_id(id);
        complete.multipart_upload(parts).send().await?;
        ensure!(self.get(key, None).await? == whole, "the whole differs from its parts");

        let upload = client.create_multipart_upload().bucket(bucket).key("aborted").send().await?;
        let id = upload.upload_id().context("no upload id")?;
        let abort = client.abort_multipart_upload().bucket(bucket).key("aborted").upload_id(id);
        abort.send().await?;
        println!("parts_make_a_whole");
        Ok(())
    }

    async fn listings_have_every_key(&self) -> Result<()> {
        let mut keys: Vec<String> = (0..25).map(|n| format!("list/{}/{n:02}", n % 3)).collect();
        keys.sort();
        for key in &keys {
            self.put(key, key.clone().into_bytes()).await?;
        }
        let pages = self.client.list_objects_v2().bucket(self.bucket).prefix("list/").max_keys(7);
        let mut pages = pages.into_paginator().send();
        let mut listed = Vec::new();
        while let Some(page) = pages.next().await {
            listed.extend(page?.contents().iter().filter_map(|o| o.key().map(str::to_owned)));
        }
        ensure!(listed == keys, "listed {listed:?}");
        let folders = self.client.list_objects_v2().bucket(self.bucket);
        let folders = folders.prefix("list/").delimiter("/").send().await?;
        ensure!(folders.common_prefixes().len() == 3, "{:?}", folders.common_prefixes());
        println!("listings_have_every_key");
        Ok(())
    }

    async fn errors_have_their_names(&self) -> Result<()> {
        let missing = self.client.get_object().bucket(self.bucket).key("no such").send().await;
        let error = missing.err().context("a missing object was found")?.into_service_error();
        ensure!(error.is_no_such_key(), "{error:?}");
        let missing = self.client.list_objects_v2().bucket("no-such-bucket-at-all").send().await;
        let error = missing.err().context("a missing bucket was listed")?.into_service_error();
        ensure!(error.is_no_such_bucket(), "{error:?}");
        let put = self.client.put_object().bucket(self.bucket).key("multipart");
        let refused = put.if_none_match("*").body(ByteStream::from_static(b"x")).send().await;
        let error = refused.err().context("If-None-Match was ignored")?;
        ensure!(error.code() == Some("PreconditionFailed"), "{error:?}");
        println!("errors_have_their_names");
        Ok(())
    }

    async fn deleted_is_gone(&self) -> Result<()> {
        loop {
            let page = self.client.list_objects_v2().bucket(self.bucket).send().await?;
            let keys = page.contents().iter().filter_map(|object| object.key());
            let ids = keys.map(|key| ObjectIdentifier::builder().key(key).build());
            let ids = ids.collect::<Result<Vec<_>, _>>()?;
            if ids.is_empty() {
                break;
            }
            let delete = Delete::builder().set_objects(Some(ids)).build()?;
            let answer = self.client.delete_objects().bucket(self.bucket).delete(delete);
            let answer = answer.send().await?;
            ensure!(answer.errors().is_empty(), "{:?}", answer.errors());
        }
        println!("deleted_is_gone");
        Ok(())
    }

    async fn put(&self, key: &str, body: Vec<u8>) -> Result<()> {
        let request = self.client.put_object().bucket(self.bucket).key(key);
        request.body(body.into()).send().await.with_context(|| format!("put {key}"))?;
        Ok(())
    }

    async fn get(&self, key: &str, range: Option<String>) -> Result<Vec<u8>> {
        let request = self.client.get_object().bucket(self.bucket).key(key).set_range(range);
        let answer = request.send().await.with_context(|| format!("get {key}"))?;
        Ok(answer.body.collect().await?.to_vec())
    }
}

/// Bytes that differ with every seed and do not repeat.
fn pattern(size: usize, seed: u64) -> Vec<u8> {
    let mut state = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}
