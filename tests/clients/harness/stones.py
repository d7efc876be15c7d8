"""What is in the store that fixtures are made of. Never changed: old images hold it as it is."""

import pytest
from botocore.exceptions import ClientError

BODIES = {"small": b"stone", "empty": b"", "a/b/nested ü": b"wall" * 5_000, "again": b"second"}
DELETED = "gone"
PARTS = [bytes([65 + number]) * 20 for number in range(3)]


def write(s3):
    """Buckets, objects, an overwrite, a deletion, a copy, an upload that isn't finished."""
    s3.create_bucket(Bucket="stones")
    s3.create_bucket(Bucket="bare")
    for key, body in BODIES.items():
        if key == "again":
            s3.put_object(Bucket="stones", Key=key, Body=b"first")
        s3.put_object(
            Bucket="stones", Key=key, Body=body, ContentType="text/stone", Metadata={"kind": "dry"}
        )
    s3.put_object(Bucket="stones", Key=DELETED, Body=b"gone")
    s3.delete_object(Bucket="stones", Key=DELETED)
    s3.copy_object(Bucket="stones", Key="copy", CopySource={"Bucket": "stones", "Key": "small"})
    upload = s3.create_multipart_upload(Bucket="stones", Key="unfinished")["UploadId"]
    s3.upload_part(
        Bucket="stones", Key="unfinished", UploadId=upload, PartNumber=1, Body=PARTS[0]
    )


def check(s3):
    """Everything is there as it was written."""
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["bare", "stones"]
    keys = {entry["Key"] for entry in s3.list_objects_v2(Bucket="stones")["Contents"]}
    assert keys >= {*BODIES, "copy"} and DELETED not in keys
    for key, body in (BODIES | {"copy": BODIES["small"]}).items():
        found = s3.get_object(Bucket="stones", Key=key)
        assert found["Body"].read() == body, key
        assert found["ContentType"] == "text/stone" and found["Metadata"] == {"kind": "dry"}
    with pytest.raises(ClientError) as refused:
        s3.get_object(Bucket="stones", Key=DELETED)
    assert refused.value.response["Error"]["Code"] == "NoSuchKey"
    (upload,) = s3.list_multipart_uploads(Bucket="stones")["Uploads"]
    assert upload["Key"] == "unfinished"
    (part,) = s3.list_parts(Bucket="stones", Key="unfinished", UploadId=upload["UploadId"])["Parts"]
    assert part["Size"] == len(PARTS[0])


def write_more(s3):
    """A store that was opened goes on."""
    s3.put_object(Bucket="stones", Key="new", Body=b"new")
    assert s3.get_object(Bucket="stones", Key="new")["Body"].read() == b"new"
