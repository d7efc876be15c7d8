"""Conditional requests through boto3: on reads, on copies, and on writes that race."""

import threading
from datetime import timedelta

import pytest
from botocore.exceptions import ClientError

from harness.content import pattern
from harness.sdk import read, refused


@pytest.fixture
def stored(s3, bucket):
    """An object: its ETag and the time it was modified."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"body")
    head = s3.head_object(Bucket=bucket, Key="k")
    return head["ETag"], head["LastModified"]


@pytest.mark.parametrize("operation", ["get_object", "head_object"])
def test_conditional_reads(s3, bucket, stored, operation):
    etag, modified = stored
    earlier, later = modified - timedelta(hours=1), modified + timedelta(hours=1)
    call = getattr(s3, operation)
    head = operation == "head_object"
    failed = "412" if head else "PreconditionFailed"
    where = {"Bucket": bucket, "Key": "k"}
    for passing in [
        {"IfMatch": etag}, {"IfMatch": etag.strip('"')}, {"IfMatch": "*"}, {"IfNoneMatch": '"other"'},
        {"IfModifiedSince": earlier}, {"IfUnmodifiedSince": later},
        # A true If-Match outranks a false If-Unmodified-Since.
        {"IfMatch": etag, "IfUnmodifiedSince": earlier},
        # A true If-None-Match outranks a false If-Modified-Since.
        {"IfNoneMatch": '"other"', "IfModifiedSince": modified},
        {"IfMatch": f'"other", {etag}'},
    ]:
        assert call(**where, **passing)["ETag"] == etag, passing
    for condition in [{"IfMatch": '"other"'}, {"IfUnmodifiedSince": earlier}]:
        refused(failed, 412, call, **where, **condition)
    for condition in [
        {"IfNoneMatch": etag}, {"IfNoneMatch": "*"}, {"IfModifiedSince": modified},
        {"IfNoneMatch": etag, "IfModifiedSince": earlier},
    ]:
        refused("304", 304, call, **where, **condition)
    missing = {"Bucket": bucket, "Key": "none", "IfMatch": etag}
    refused("404" if head else "NoSuchKey", 404, call, **missing)


def test_not_modified_tells_the_etag(s3, bucket, stored):
    etag, _ = stored
    answer = refused("304", 304, s3.get_object, Bucket=bucket, Key="k", IfNoneMatch=etag)
    assert answer["ResponseMetadata"]["HTTPHeaders"]["etag"] == etag


def test_put_if_absent(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"first", IfNoneMatch="*")
    refused("PreconditionFailed", 412, s3.put_object, Bucket=bucket, Key="k", Body=b"second",
            IfNoneMatch="*")
    assert read(s3, bucket, "k") == b"first"
    s3.delete_object(Bucket=bucket, Key="k")
    s3.put_object(Bucket=bucket, Key="k", Body=b"again", IfNoneMatch="*")
    assert read(s3, bucket, "k") == b"again"


def test_put_if_unchanged(s3, bucket, stored):
    etag, _ = stored
    refused("PreconditionFailed", 412, s3.put_object, Bucket=bucket, Key="k", Body=b"x",
            IfMatch='"0123456789abcdef0123456789abcdef"')
    second = s3.put_object(Bucket=bucket, Key="k", Body=b"second", IfMatch=etag)["ETag"]
    refused("PreconditionFailed", 412, s3.put_object, Bucket=bucket, Key="k", Body=b"third",
            IfMatch=etag)
    s3.put_object(Bucket=bucket, Key="k", Body=b"third", IfMatch=second)
    assert read(s3, bucket, "k") == b"third"
    refused("NoSuchKey", 404, s3.put_object, Bucket=bucket, Key="none", Body=b"x", IfMatch=etag)


def start_upload(s3, bucket, key, body):
    """An upload of one part, ready to be completed: the arguments of CompleteMultipartUpload."""
    upload = s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    where = {"Bucket": bucket, "Key": key, "UploadId": upload}
    part = s3.upload_part(**where, PartNumber=1, Body=body)
    return where | {"MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}}


def test_complete_if_absent_and_if_unchanged(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"there")
    etag = s3.head_object(Bucket=bucket, Key="k")["ETag"]
    upload = start_upload(s3, bucket, "k", b"by parts")
    refused("PreconditionFailed", 412, s3.complete_multipart_upload, **upload, IfNoneMatch="*")
    refused("PreconditionFailed", 412, s3.complete_multipart_upload, **upload, IfMatch='"other"')
    assert read(s3, bucket, "k") == b"there"
    s3.complete_multipart_upload(**upload, IfMatch=etag)
    assert read(s3, bucket, "k") == b"by parts"
    upload = start_upload(s3, bucket, "new", b"new")
    s3.complete_multipart_upload(**upload, IfNoneMatch="*")
    assert read(s3, bucket, "new") == b"new"


def race(count, attempt):
    """Runs `attempt(n)` in threads that begin together; returns the numbers that succeeded."""
    won, barrier = [], threading.Barrier(count)

    def run(number):
        barrier.wait()
        try:
            attempt(number)
            won.append(number)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            assert code in ("PreconditionFailed", "ConditionalRequestConflict"), error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return won


def test_exactly_one_of_many_creators_wins(s3, bucket):
    for turn in range(10):
        key = f"k{turn}"
        bodies = [pattern(10_000, f"{turn}/{n}") for n in range(8)]
        won = race(8, lambda n: s3.put_object(Bucket=bucket, Key=key, Body=bodies[n], IfNoneMatch="*"))
        assert len(won) == 1
        assert read(s3, bucket, key) == bodies[won[0]]


def test_a_counter_loses_no_increment(s3, bucket):
    s3.put_object(Bucket=bucket, Key="counter", Body=b"0")

    def increment(_):
        while True:
            answer = s3.get_object(Bucket=bucket, Key="counter")
            body = str(int(answer["Body"].read()) + 1).encode()
            try:
                s3.put_object(Bucket=bucket, Key="counter", Body=body, IfMatch=answer["ETag"])
                return
            except ClientError as error:
                assert error.response["ResponseMetadata"]["HTTPStatusCode"] in (409, 412), error

    assert len(race(8, increment)) == 8
    assert read(s3, bucket, "counter") == b"8"


def test_copy_conditions_on_the_source(s3, bucket, stored):
    etag, modified = stored
    earlier, later = modified - timedelta(hours=1), modified + timedelta(hours=1)
    to = {"Bucket": bucket, "Key": "copy", "CopySource": f"{bucket}/k"}
    for passing in [
        {"CopySourceIfMatch": etag}, {"CopySourceIfNoneMatch": '"other"'},
        {"CopySourceIfModifiedSince": earlier}, {"CopySourceIfUnmodifiedSince": later},
    ]:
        s3.copy_object(**to, **passing)
    for failing in [
        {"CopySourceIfMatch": '"other"'}, {"CopySourceIfNoneMatch": etag},
        {"CopySourceIfModifiedSince": modified}, {"CopySourceIfUnmodifiedSince": earlier},
    ]:
        refused("PreconditionFailed", 412, s3.copy_object, **to, **failing)
