"""Objects through boto3: bytes, metadata, headers, ranges, copies, deletes."""

import hashlib
import urllib.request
from datetime import datetime, timezone

import pytest

from harness.content import MIB, pattern
from harness.sdk import connect, read, refused

SIZES = [0, 1, 15, 16, 17, 4095, 16 * 1024, 16 * 1024 + 1, 65_535, 65_536, 65_537, 262_144,
         MIB, 4 * MIB - 1, 4 * MIB, 4 * MIB + 1, 9 * MIB + 7]


@pytest.mark.parametrize("size", SIZES)
def test_every_byte_comes_back(s3, bucket, size):
    body = pattern(size, "whole")
    put = s3.put_object(Bucket=bucket, Key="k", Body=body)
    assert put["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["ContentLength"] == size
    assert got["ETag"] == put["ETag"]
    assert got["Body"].read() == body
    head = s3.head_object(Bucket=bucket, Key="k")
    assert (head["ContentLength"], head["ETag"]) == (size, put["ETag"])
    assert abs((head["LastModified"] - datetime.now(timezone.utc)).total_seconds()) < 60


def test_ranges_across_every_boundary(s3, bucket):
    size = 9 * MIB + 7
    body = pattern(size, "range")
    s3.put_object(Bucket=bucket, Key="k", Body=body)
    edges = [0, 1, 65_535, 65_536, 65_537, MIB, 4 * MIB - 1, 4 * MIB, 4 * MIB + 1, 8 * MIB, size - 1]
    for first in edges:
        for last in [first, first + 1, first + 100_000, size - 1]:
            last = min(last, size - 1)
            got = s3.get_object(Bucket=bucket, Key="k", Range=f"bytes={first}-{last}")
            assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
            assert got["ContentRange"] == f"bytes {first}-{last}/{size}"
            assert got["Body"].read() == body[first : last + 1], (first, last)
    assert read(s3, bucket, "k", Range="bytes=-5") == body[-5:]
    assert read(s3, bucket, "k", Range=f"bytes=-{size * 2}") == body
    assert read(s3, bucket, "k", Range=f"bytes={size - 3}-") == body[-3:]
    assert read(s3, bucket, "k", Range=f"bytes=10-{size * 9}") == body[10:]
    head = s3.head_object(Bucket=bucket, Key="k", Range="bytes=1-2")
    assert head["ContentLength"] == 2
    refused("InvalidRange", 416, s3.get_object, Bucket=bucket, Key="k", Range=f"bytes={size}-")


def test_metadata_and_system_headers_are_kept(s3, bucket):
    sent = {
        "ContentType": "text/x-stone; charset=utf-8",
        "CacheControl": "max-age=60, private",
        "ContentDisposition": 'attachment; filename="a b.txt"',
        "ContentEncoding": "x-none",
        "ContentLanguage": "de, en",
        "Metadata": {"colour": "grey", "with-dash": "x y  z", "empty": ""},
        "Expires": datetime(2031, 2, 3, 4, 5, 6, tzinfo=timezone.utc),
    }
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", **sent)
    expires = sent.pop("Expires")
    for answer in (s3.head_object(Bucket=bucket, Key="k"), s3.get_object(Bucket=bucket, Key="k")):
        assert {name: answer[name] for name in sent} == sent
        assert answer["ExpiresString"] == expires.strftime("%a, %d %b %Y %H:%M:%S GMT")
        assert answer["AcceptRanges"] == "bytes"
    s3.put_object(Bucket=bucket, Key="plain", Body=b"x")
    head = s3.head_object(Bucket=bucket, Key="plain")
    assert head["ContentType"] == "binary/octet-stream"
    assert head["Metadata"] == {}


def test_metadata_of_two_kib_fits_and_more_does_not(s3, bucket):
    fits = {"k": "v" * 2047}
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Metadata=fits)
    assert s3.head_object(Bucket=bucket, Key="k")["Metadata"] == fits
    refused("MetadataTooLarge", 400, s3.put_object, Bucket=bucket, Key="k", Body=b"y",
            Metadata={"k": "v" * 2048})
    assert read(s3, bucket, "k") == b"x"


def test_response_overrides(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ContentType="text/plain")
    answer = s3.get_object(
        Bucket=bucket, Key="k", ResponseContentType="application/x-other",
        ResponseCacheControl="no-store", ResponseContentDisposition="inline",
        ResponseContentEncoding="x-enc", ResponseContentLanguage="fr",
        ResponseExpires=datetime(2030, 1, 1, tzinfo=timezone.utc),
    )
    assert answer["ContentType"] == "application/x-other"
    assert answer["CacheControl"] == "no-store"
    assert answer["ContentDisposition"] == "inline"
    assert answer["ContentEncoding"] == "x-enc"
    assert answer["ContentLanguage"] == "fr"
    assert answer["ResponseMetadata"]["HTTPHeaders"]["expires"].startswith("Tue, 01 Jan 2030")


def test_an_overwrite_replaces_bytes_and_metadata(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"a" * 100, Metadata={"old": "1"})
    s3.put_object(Bucket=bucket, Key="k", Body=b"bb")
    answer = s3.get_object(Bucket=bucket, Key="k")
    assert answer["Body"].read() == b"bb"
    assert answer["Metadata"] == {}


def test_delete_is_idempotent(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    for _ in range(2):
        answer = s3.delete_object(Bucket=bucket, Key="k")
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
        refused("NoSuchKey", 404, s3.get_object, Bucket=bucket, Key="k")
        refused("404", 404, s3.head_object, Bucket=bucket, Key="k")


def test_delete_many(s3, bucket):
    keys = [f"k{n:04}" for n in range(40)] + ["ü &<>'\"", "a//b", "tab\there"]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    entries = [{"Key": key} for key in [*keys[5:], "never there"]]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": entries})
    assert sorted(entry["Key"] for entry in answer["Deleted"]) == sorted([*keys[5:], "never there"])
    assert "Errors" not in answer
    listed = s3.list_objects_v2(Bucket=bucket)
    assert [entry["Key"] for entry in listed["Contents"]] == keys[:5]
    answer = s3.delete_objects(
        Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys[:5]], "Quiet": True}
    )
    assert "Deleted" not in answer and "Errors" not in answer


def test_copy_keeps_or_replaces_metadata(s3, bucket):
    body = pattern(5 * MIB + 3, "copy")
    s3.put_object(Bucket=bucket, Key="from ü+%", Body=body, Metadata={"a": "1"}, ContentType="x/y")
    source = {"Bucket": bucket, "Key": "from ü+%"}
    answer = s3.copy_object(Bucket=bucket, Key="to", CopySource=source)
    assert answer["CopyObjectResult"]["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    got = s3.get_object(Bucket=bucket, Key="to")
    assert (got["Body"].read(), got["Metadata"], got["ContentType"]) == (body, {"a": "1"}, "x/y")
    s3.copy_object(Bucket=bucket, Key="replaced", CopySource=source, MetadataDirective="REPLACE",
                   Metadata={"b": "2"}, ContentType="z/z")
    head = s3.head_object(Bucket=bucket, Key="replaced")
    assert (head["Metadata"], head["ContentType"]) == ({"b": "2"}, "z/z")
    s3.delete_object(Bucket=bucket, Key="from ü+%")
    assert read(s3, bucket, "to") == body, "the copy must outlive its source"


def test_copy_onto_itself_needs_a_change(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"same", Metadata={"a": "1"})
    source = {"Bucket": bucket, "Key": "k"}
    refused("InvalidRequest", 400, s3.copy_object, Bucket=bucket, Key="k", CopySource=source)
    s3.copy_object(Bucket=bucket, Key="k", CopySource=source, MetadataDirective="REPLACE",
                   Metadata={"a": "2"})
    answer = s3.get_object(Bucket=bucket, Key="k")
    assert (answer["Body"].read(), answer["Metadata"]) == (b"same", {"a": "2"})


def test_copy_between_buckets_and_from_nowhere(s3, bucket):
    other = bucket + "-other"
    s3.create_bucket(Bucket=other)
    s3.put_object(Bucket=other, Key="k", Body=b"across")
    s3.copy_object(Bucket=bucket, Key="k", CopySource=f"{other}/k")
    assert read(s3, bucket, "k") == b"across"
    s3.delete_object(Bucket=other, Key="k")
    s3.delete_bucket(Bucket=other)
    refused("NoSuchKey", 404, s3.copy_object, Bucket=bucket, Key="x", CopySource=f"{bucket}/none")
    refused("NoSuchBucket", 404, s3.copy_object, Bucket=bucket, Key="x", CopySource=f"{other}/k")


def test_attributes_of_a_plain_object(s3, bucket):
    body = pattern(1000, "attributes")
    s3.put_object(Bucket=bucket, Key="k", Body=body, ChecksumAlgorithm="SHA256")
    wanted = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"]
    answer = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=wanted)
    assert answer["ETag"] == hashlib.md5(body).hexdigest()
    assert answer["ObjectSize"] == 1000
    assert answer["StorageClass"] == "STANDARD"
    assert "ChecksumSHA256" in answer["Checksum"]
    assert "ObjectParts" not in answer
    only = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["ObjectSize"])
    assert only["ObjectSize"] == 1000 and "ETag" not in only
    refused("NoSuchKey", 404, s3.get_object_attributes, Bucket=bucket, Key="none",
            ObjectAttributes=["ETag"])


def test_presigned_put_and_get_without_an_sdk(server, bucket):
    # Left alone, boto3 signs URLs by Signature Version 2, which S3 has retired.
    s3 = connect(server.endpoint, signature_version="s3v4")
    url = s3.generate_presigned_url("put_object", {"Bucket": bucket, "Key": "p ü"}, 60)
    request = urllib.request.Request(url, data=b"by url", method="PUT")
    request.add_header("Content-Type", "")
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200
    url = s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "p ü"}, 60)
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"by url"


def test_every_answer_names_its_request(s3, bucket):
    ids = set()
    for _ in range(3):
        meta = s3.list_objects_v2(Bucket=bucket)["ResponseMetadata"]
        ids.add(meta["RequestId"])
    error = refused("NoSuchKey", 404, s3.get_object, Bucket=bucket, Key="none")
    ids.add(error["ResponseMetadata"]["RequestId"])
    assert len(ids) == 4 and all(ids)
