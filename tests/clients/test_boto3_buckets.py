"""Buckets through boto3: make, find, list, locate, remove."""

import uuid
from datetime import datetime, timezone

from harness.sdk import refused


def test_a_bucket_is_made_found_and_removed(s3):
    name = f"test-{uuid.uuid4().hex[:20]}"
    before = datetime.now(timezone.utc)
    answer = s3.create_bucket(Bucket=name)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert answer["Location"].endswith(name)
    s3.head_bucket(Bucket=name)
    entries = {entry["Name"]: entry for entry in s3.list_buckets()["Buckets"]}
    assert abs((entries[name]["CreationDate"] - before).total_seconds()) < 60
    answer = s3.delete_bucket(Bucket=name)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    refused("404", 404, s3.head_bucket, Bucket=name)
    assert name not in {entry["Name"] for entry in s3.list_buckets()["Buckets"]}


def test_buckets_are_listed_in_order_with_an_owner(s3):
    names = sorted(f"test-{uuid.uuid4().hex[:20]}" for _ in range(5))
    for name in reversed(names):
        s3.create_bucket(Bucket=name)
    answer = s3.list_buckets()
    listed = [entry["Name"] for entry in answer["Buckets"]]
    assert [name for name in listed if name in names] == names
    assert answer["Owner"]["ID"]
    for name in names:
        s3.delete_bucket(Bucket=name)


def test_the_location_is_the_region(s3, bucket):
    assert s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] in (None, "us-east-1")


def test_making_a_bucket_again_changes_nothing(s3, bucket):
    s3.put_object(Bucket=bucket, Key="kept", Body=b"kept")
    try:
        s3.create_bucket(Bucket=bucket)
    except s3.exceptions.BucketAlreadyOwnedByYou as error:
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 409
    assert s3.get_object(Bucket=bucket, Key="kept")["Body"].read() == b"kept"


def test_a_bucket_with_objects_is_not_removed(s3, bucket):
    s3.put_object(Bucket=bucket, Key="inside", Body=b"1")
    refused("BucketNotEmpty", 409, s3.delete_bucket, Bucket=bucket)
    s3.delete_object(Bucket=bucket, Key="inside")


def test_a_missing_bucket_is_named_by_every_operation(s3):
    name = f"missing-{uuid.uuid4().hex[:20]}"
    # Well-formed, so that nothing but the bucket is wrong.
    none = "0" * 32
    parts = {"Parts": [{"PartNumber": 1, "ETag": none}]}
    upload = {"Key": "k", "UploadId": none}
    calls = [
        (s3.delete_bucket, {}),
        (s3.get_bucket_location, {}),
        (s3.list_objects, {}),
        (s3.list_objects_v2, {}),
        (s3.list_multipart_uploads, {}),
        (s3.get_object, {"Key": "k"}),
        (s3.put_object, {"Key": "k", "Body": b"x"}),
        (s3.delete_object, {"Key": "k"}),
        (s3.delete_objects, {"Delete": {"Objects": [{"Key": "k"}]}}),
        (s3.create_multipart_upload, {"Key": "k"}),
        (s3.get_object_attributes, {"Key": "k", "ObjectAttributes": ["ETag"]}),
        (s3.copy_object, {"Key": "k", "CopySource": {"Bucket": name, "Key": "source"}}),
        (s3.upload_part, {**upload, "PartNumber": 1, "Body": b"x"}),
        (s3.list_parts, upload),
        (s3.complete_multipart_upload, {**upload, "MultipartUpload": parts}),
        (s3.abort_multipart_upload, upload),
    ]
    for call, arguments in calls:
        refused("NoSuchBucket", 404, call, Bucket=name, **arguments)
    refused("404", 404, s3.head_object, Bucket=name, Key="k")


def test_a_removed_bucket_leaves_no_objects_to_the_next_one(s3):
    name = f"test-{uuid.uuid4().hex[:20]}"
    for _ in range(2):
        s3.create_bucket(Bucket=name)
        assert s3.list_objects_v2(Bucket=name)["KeyCount"] == 0
        s3.put_object(Bucket=name, Key="k", Body=b"x")
        s3.delete_object(Bucket=name, Key="k")
        s3.delete_bucket(Bucket=name)
