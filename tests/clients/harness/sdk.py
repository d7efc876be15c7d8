"""boto3 clients as applications make them, and what the tests ask of them again and again."""

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from .server import ACCESS_KEY, SECRET_KEY


def connect(endpoint, credentials=(ACCESS_KEY, SECRET_KEY), **options):
    """A client with default retries and default checksums, path-style."""
    settings = {"s3": {"addressing_style": "path"}, "read_timeout": 120, "max_pool_connections": 32}
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=credentials[0],
        aws_secret_access_key=credentials[1],
        config=Config(**(settings | options)),
    )


def read(s3, bucket, key, **arguments):
    """The whole body of one GetObject."""
    return s3.get_object(Bucket=bucket, Key=key, **arguments)["Body"].read()


def list_keys(s3, bucket, **arguments):
    """Every key of a bucket, page by page."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, **arguments)
    return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


def fits_xml(key):
    """Whether boto3 can name the key in an XML document: XML 1.0 has no way to write the others."""
    return all(char >= " " or char in "\t\n\r" for char in key) and not set(key) & {"\ufffe", "\uffff"}


def empty(s3, bucket):
    """Removes the uploads and objects of a bucket."""
    for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket):
        for upload in page.get("Uploads", []):
            s3.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    keys = list_keys(s3, bucket)
    for key in keys:
        if not fits_xml(key):
            s3.delete_object(Bucket=bucket, Key=key)
    keys = [key for key in keys if fits_xml(key)]
    for start in range(0, len(keys), 1000):
        entries = [{"Key": key} for key in keys[start : start + 1000]]
        answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": entries, "Quiet": True})
        assert not answer.get("Errors"), answer["Errors"]


def refused(code, status, call, *positional, **arguments):
    """Asserts that the call fails with this S3 code and status, and returns the error."""
    with pytest.raises(ClientError) as caught:
        call(*positional, **arguments)
    answer = caught.value.response
    seen = answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]
    assert seen == (code, status), f"{seen} instead of {(code, status)}: {answer['Error']}"
    return answer


def multipart(s3, bucket, key, parts, **arguments):
    """Uploads the parts (a list of bodies) and completes; returns the completion's answer."""
    upload = s3.create_multipart_upload(Bucket=bucket, Key=key, **arguments)["UploadId"]
    algorithm = arguments.get("ChecksumAlgorithm")
    checksum = {"ChecksumAlgorithm": algorithm} if algorithm else {}
    done = []
    for number, body in enumerate(parts, 1):
        part = s3.upload_part(
            Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=body, **checksum
        )
        entry = {"PartNumber": number, "ETag": part["ETag"]}
        if algorithm:
            entry[f"Checksum{algorithm}"] = part[f"Checksum{algorithm}"]
        done.append(entry)
    return s3.complete_multipart_upload(
        Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": done}
    )
