"""Storage classes: what is written with one says so, and a bucket is recoded to another while clients go on,
with the same bodies, entity tags and times.
"""

import json
import subprocess
import threading
import time

import pytest
from botocore.exceptions import ClientError

from harness.content import pattern
from harness.sdk import connect, read

SECONDS_MAX = 120
OBJECTS = 40
MIB = 1 << 20


def admin(server, *words, status=0):
    """Runs `drystone admin …`; what it prints."""
    command = [str(server.binary), "admin", "--endpoint", server.admin, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == status, f"{command}: {done}\n{server.tail()}"
    return done.stdout + done.stderr


def document(server, *words):
    """The same, as JSON."""
    return json.loads(admin(server, *words, "--json"))


def until_recoded(server, bucket):
    """Waits until nothing of the bucket is left to recode."""
    deadline = time.monotonic() + SECONDS_MAX
    while any(status["bucket"] == bucket for status in document(server, "recode", "status")):
        assert time.monotonic() < deadline, f"{document(server, 'recode', 'status')}\n{server.tail()}"
        time.sleep(0.1)


def left(server, bucket):
    """Objects that don't have the bucket's class and coding."""
    return document(server, "recode", bucket, "--plan")["objects"]


def test_a_write_gets_the_class_that_it_names(new_server):
    """By header, by bucket, in copies and uploads; a class that isn't there is refused."""
    server = new_server()
    s3 = connect(server.endpoint)
    s3.create_bucket(Bucket="plain")
    s3.create_bucket(Bucket="mirrored")
    with pytest.raises(ClientError) as refused:
        s3.put_object(Bucket="plain", Key="k", Body=b"x", StorageClass="MIRROR")
    assert refused.value.response["Error"]["Code"] == "InvalidStorageClass"
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert "1+2" in admin(server, "class", "set", "MIRROR", "1+2")
    assert "needs" in admin(server, "class", "set", "WIDE", "12+4", status=1)
    assert "mirrored uses class MIRROR" in admin(server, "bucket", "class", "mirrored", "MIRROR")
    assert document(server, "bucket", "class", "mirrored")["class"] == "MIRROR"
    listed = {entry["name"]: entry for entry in document(server, "class", "list")}
    assert listed["STANDARD"]["coding"] == "4+2"
    assert (listed["MIRROR"]["coding"], listed["MIRROR"]["buckets"]) == ("1+2", ["mirrored"])
    assert listed["MIRROR"]["is_writable"]

    def told(bucket, key):
        return s3.head_object(Bucket=bucket, Key=key).get("StorageClass")

    body = pattern(3 * MIB, 1)
    s3.put_object(Bucket="plain", Key="named", Body=body, StorageClass="MIRROR")
    s3.put_object(Bucket="plain", Key="usual", Body=body)
    s3.put_object(Bucket="mirrored", Key="usual", Body=body)
    s3.put_object(Bucket="mirrored", Key="standard", Body=body, StorageClass="STANDARD")
    s3.copy_object(Bucket="plain", Key="copied", CopySource="mirrored/usual")
    s3.copy_object(Bucket="mirrored", Key="copied", CopySource="plain/usual")
    s3.copy_object(Bucket="plain", Key="usual2", CopySource="plain/usual", StorageClass="MIRROR")
    upload = s3.create_multipart_upload(Bucket="plain", Key="joined", StorageClass="MIRROR")["UploadId"]
    uploads = s3.list_multipart_uploads(Bucket="plain")["Uploads"]
    assert [entry["StorageClass"] for entry in uploads] == ["MIRROR"]
    part = s3.upload_part(Bucket="plain", Key="joined", UploadId=upload, PartNumber=1, Body=body)
    assert s3.list_parts(Bucket="plain", Key="joined", UploadId=upload)["StorageClass"] == "MIRROR"
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    s3.complete_multipart_upload(Bucket="plain", Key="joined", UploadId=upload, MultipartUpload=parts)
    expected = {
        ("plain", "named"): "MIRROR", ("plain", "usual"): None, ("plain", "copied"): None,
        ("plain", "usual2"): "MIRROR", ("plain", "joined"): "MIRROR",
        ("mirrored", "usual"): "MIRROR", ("mirrored", "standard"): None, ("mirrored", "copied"): "MIRROR",
    }
    assert {place: told(*place) for place in expected} == expected
    for (bucket, key), _ in expected.items():
        assert read(s3, bucket, key) == body, (bucket, key)
    for bucket in ("plain", "mirrored"):
        entries = {entry["Key"]: entry["StorageClass"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]}
        assert entries == {key: told or "STANDARD" for (of, key), told in expected.items() if of == bucket}
    # Only what says STANDARD isn't as its bucket's class has it: the copy has bytes of its own.
    assert left(server, "mirrored") == 1
    attributes = s3.get_object_attributes(Bucket="plain", Key="named", ObjectAttributes=["StorageClass"])
    assert attributes["StorageClass"] == "MIRROR"
    assert "uses class MIRROR" in admin(server, "class", "remove", "MIRROR", status=1)
    admin(server, "bucket", "class", "mirrored", "STANDARD")
    assert "removed" in admin(server, "class", "remove", "MIRROR")


def test_a_bucket_is_recoded_under_load(new_server):
    """To copies, and back: nobody notices but by the storage class."""
    server = new_server()
    s3 = connect(server.endpoint)
    s3.create_bucket(Bucket="store")
    bodies = {f"o{number:03}": pattern(1 + number * 60_000, number) for number in range(OBJECTS)}
    for key, body in bodies.items():
        s3.put_object(Bucket="store", Key=key, Body=body, Metadata={"colour": "green"})
    upload = s3.create_multipart_upload(Bucket="store", Key="joined")["UploadId"]
    joined = [pattern(5 * MIB, 7), pattern(2 * MIB, 8)]
    tags = []
    for number, body in enumerate(joined, 1):
        part = s3.upload_part(Bucket="store", Key="joined", UploadId=upload, PartNumber=number, Body=body)
        tags.append({"PartNumber": number, "ETag": part["ETag"]})
    s3.complete_multipart_upload(Bucket="store", Key="joined", UploadId=upload, MultipartUpload={"Parts": tags})
    s3.put_object(Bucket="store", Key="empty", Body=b"")
    bodies |= {"joined": b"".join(joined), "empty": b""}
    kept = ("ETag", "LastModified", "ContentLength", "Metadata", "ContentType")

    def seen(key):
        head = s3.head_object(Bucket="store", Key=key)
        return {name: head.get(name) for name in kept}

    before = {key: seen(key) for key in bodies}
    ends, wrong, rounds = threading.Event(), [], [0]

    def go_on():
        other = connect(server.endpoint)
        while not ends.is_set():
            for key, body in bodies.items():
                if read(other, "store", key) != body:
                    wrong.append(key)
            number = rounds[0] = rounds[0] + 1
            fresh = pattern(200_000 + number, number)
            other.put_object(Bucket="store", Key=f"new{number}", Body=fresh)
            if read(other, "store", f"new{number}") != fresh:
                wrong.append(number)
            other.delete_object(Bucket="store", Key=f"new{number - 1}")

    client = threading.Thread(target=go_on)
    client.start()
    try:
        admin(server, "class", "set", "MIRROR", "1+2")
        admin(server, "class", "set", "LEAN", "2+1")
        for name in ("MIRROR", "LEAN", "STANDARD"):
            plan = document(server, "recode", "store", "--class", name, "--plan")
            assert plan["objects"] >= len(bodies) and not plan["changed"], plan
            assert name in admin(server, "recode", "store", "--class", name)
            until_recoded(server, "store")
            assert document(server, "bucket", "class", "store")["class"] == name
            assert left(server, "store") == 0, name
            told = {s3.head_object(Bucket="store", Key=key).get("StorageClass", "STANDARD") for key in bodies}
            assert told == {name}
            assert {key: seen(key) for key in bodies} == before, name
    finally:
        ends.set()
        client.join()
    assert not wrong and rounds[0] > 0, (wrong, rounds)
    assert admin(server, "recode", "status") == "Nothing is left to recode.\n"
    for key, body in bodies.items():
        assert read(s3, "store", key) == body, key


def test_a_recoding_outlives_the_server(new_server):
    """Killed in the middle, it goes on where it was."""
    server = new_server()
    s3 = connect(server.endpoint)
    s3.create_bucket(Bucket="store")
    bodies = {f"o{number:03}": pattern(700_000 + number, number) for number in range(60)}
    for key, body in bodies.items():
        s3.put_object(Bucket="store", Key=key, Body=body)
    tags = {key: s3.head_object(Bucket="store", Key=key)["ETag"] for key in bodies}
    admin(server, "class", "set", "MIRROR", "1+2")
    admin(server, "recode", "store", "--class", "MIRROR")
    server.kill()
    server.start()
    s3 = connect(server.endpoint)
    until_recoded(server, "store")
    assert left(server, "store") == 0
    for key, body in bodies.items():
        head = s3.head_object(Bucket="store", Key=key)
        assert (head["ETag"], head["StorageClass"]) == (tags[key], "MIRROR")
        assert read(s3, "store", key) == body, key
