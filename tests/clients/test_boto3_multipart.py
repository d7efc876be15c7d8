"""Multipart uploads through boto3: parts, copies of parts, listings, limits, ten thousand parts."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.content import MIB, pattern
from harness.sdk import multipart, read, refused


@pytest.fixture
def upload(s3, bucket):
    """A new upload: what names it in every call."""
    answer = s3.create_multipart_upload(Bucket=bucket, Key="k")
    return {"Bucket": bucket, "Key": "k", "UploadId": answer["UploadId"]}


def completion(*parts):
    """The list of parts that CompleteMultipartUpload takes."""
    return {"Parts": [{name: part[name] for name in ("PartNumber", "ETag")} for part in parts]}


def put_part(s3, upload, number, body):
    """Uploads one part and returns its entry."""
    return s3.upload_part(**upload, PartNumber=number, Body=body) | {"PartNumber": number}


def test_parts_become_one_object(s3, bucket):
    parts = [pattern(5 * MIB, 1), pattern(6 * MIB + 1, 2), pattern(77, 3)]
    done = multipart(s3, bucket, "k", parts, Metadata={"a": "1"}, ContentType="x/y")
    inner = b"".join(hashlib.md5(part).digest() for part in parts)
    assert done["ETag"] == f'"{hashlib.md5(inner).hexdigest()}-3"'
    answer = s3.get_object(Bucket=bucket, Key="k")
    assert answer["Body"].read() == b"".join(parts)
    assert (answer["Metadata"], answer["ContentType"]) == ({"a": "1"}, "x/y")


def test_part_numbers_read_single_parts(s3, bucket):
    parts = [pattern(5 * MIB, 1), pattern(5 * MIB + 1, 2), pattern(9, 3)]
    multipart(s3, bucket, "k", parts)
    size = sum(map(len, parts))
    start = 0
    for number, part in enumerate(parts, 1):
        answer = s3.get_object(Bucket=bucket, Key="k", PartNumber=number)
        assert answer["Body"].read() == part
        assert answer["PartsCount"] == 3
        assert answer["ContentRange"] == f"bytes {start}-{start + len(part) - 1}/{size}"
        assert s3.head_object(Bucket=bucket, Key="k", PartNumber=number)["ContentLength"] == len(part)
        start += len(part)
    refused("InvalidPartNumber", 416, s3.get_object, Bucket=bucket, Key="k", PartNumber=4)
    s3.put_object(Bucket=bucket, Key="plain", Body=b"x")
    assert read(s3, bucket, "plain", PartNumber=1) == b"x"
    refused("InvalidPartNumber", 416, s3.get_object, Bucket=bucket, Key="plain", PartNumber=2)


def test_ranges_across_parts(s3, bucket):
    parts = [pattern(5 * MIB, 1), pattern(5 * MIB, 2), pattern(MIB, 3)]
    multipart(s3, bucket, "k", parts)
    whole = b"".join(parts)
    for first, last in [(5 * MIB - 1, 5 * MIB), (0, len(whole) - 1), (4 * MIB, 10 * MIB + 5)]:
        assert read(s3, bucket, "k", Range=f"bytes={first}-{last}") == whole[first : last + 1]


def test_parts_out_of_order_gaps_and_replaced(s3, bucket, upload):
    last = put_part(s3, upload, 900, b"the end")
    put_part(s3, upload, 7, pattern(5 * MIB, "replaced"))
    first = put_part(s3, upload, 7, pattern(5 * MIB, "kept"))
    put_part(s3, upload, 8, pattern(5 * MIB, "left out"))
    s3.complete_multipart_upload(**upload, MultipartUpload=completion(first, last))
    assert read(s3, bucket, "k") == pattern(5 * MIB, "kept") + b"the end"
    refused("NoSuchUpload", 404, s3.list_parts, **upload)


def test_completing_twice_succeeds_or_says_no_such_upload(s3, bucket, upload):
    part = put_part(s3, upload, 1, b"only")
    first = s3.complete_multipart_upload(**upload, MultipartUpload=completion(part))
    try:
        again = s3.complete_multipart_upload(**upload, MultipartUpload=completion(part))
        assert again["ETag"] == first["ETag"]
    except s3.exceptions.NoSuchUpload:
        pass
    assert read(s3, bucket, "k") == b"only"


def test_an_upload_is_invisible_until_it_is_complete(s3, bucket, upload):
    put_part(s3, upload, 1, b"part")
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    refused("NoSuchKey", 404, s3.get_object, Bucket=bucket, Key="k")
    s3.abort_multipart_upload(**upload)
    refused("NoSuchUpload", 404, s3.abort_multipart_upload, **upload)
    refused("NoSuchUpload", 404, s3.upload_part, **upload, PartNumber=2, Body=b"late")
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def test_wrong_completions(s3, bucket, upload):
    one = put_part(s3, upload, 1, pattern(5 * MIB, 1))
    two = put_part(s3, upload, 2, b"small")
    three = put_part(s3, upload, 3, b"small too")
    complete = s3.complete_multipart_upload

    def wrong(code, *parts):
        refused(code, 400, complete, **upload, MultipartUpload=completion(*parts))

    wrong("InvalidPartOrder", two, one)
    wrong("InvalidPartOrder", one, one)
    wrong("InvalidPart", one, {"PartNumber": 5, "ETag": two["ETag"]})
    wrong("InvalidPart", one | {"ETag": two["ETag"]})
    wrong("EntityTooSmall", one, two, three)
    s3.complete_multipart_upload(**upload, MultipartUpload=completion(one, two))


def test_part_listings(s3, bucket, upload):
    parts = [put_part(s3, upload, number, bytes([number]) * number) for number in range(1, 8)]
    answer = s3.list_parts(**upload)
    assert [(p["PartNumber"], p["Size"], p["ETag"]) for p in answer["Parts"]] == [
        (n, n, part["ETag"]) for n, part in enumerate(parts, 1)
    ]
    assert answer["StorageClass"] == "STANDARD" and answer["Initiator"]["ID"]
    page = s3.list_parts(**upload, MaxParts=3)
    assert page["IsTruncated"] is True and page["NextPartNumberMarker"] == 3
    page = s3.list_parts(**upload, MaxParts=3, PartNumberMarker=3)
    assert [part["PartNumber"] for part in page["Parts"]] == [4, 5, 6]
    pages = s3.get_paginator("list_parts").paginate(**upload, PaginationConfig={"PageSize": 2})
    assert [p["PartNumber"] for page in pages for p in page["Parts"]] == list(range(1, 8))


def test_upload_listings(s3, bucket):
    made = []
    for key in ["a/1", "a/2", "b", "a/1", "ü+ /x"]:
        made.append((key, s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]))
    for size in [1, 2, 1000]:
        pages = s3.get_paginator("list_multipart_uploads").paginate(
            Bucket=bucket, PaginationConfig={"PageSize": size}
        )
        listed = [(u["Key"], u["UploadId"]) for page in pages for u in page.get("Uploads", [])]
        assert sorted(listed) == sorted(made)
        assert [key for key, _ in listed] == sorted(key for key, _ in made)
    page = s3.list_multipart_uploads(Bucket=bucket, Delimiter="/")
    assert [u["Key"] for u in page["Uploads"]] == ["b"]
    assert [p["Prefix"] for p in page["CommonPrefixes"]] == ["a/", "ü+ /"]
    page = s3.list_multipart_uploads(Bucket=bucket, Prefix="a/")
    assert [u["Key"] for u in page["Uploads"]] == ["a/1", "a/1", "a/2"]


def test_copied_parts(s3, bucket, upload):
    body = pattern(11 * MIB, "source")
    s3.put_object(Bucket=bucket, Key="source ü", Body=body)
    source = {"Bucket": bucket, "Key": "source ü"}
    ranges = [(0, 5 * MIB - 1), (100, 5 * MIB + 99), (11 * MIB - 5, 11 * MIB - 1)]
    parts = []
    for number, (first, last) in enumerate(ranges, 1):
        answer = s3.upload_part_copy(
            **upload, PartNumber=number, CopySource=source, CopySourceRange=f"bytes={first}-{last}"
        )
        expected = hashlib.md5(body[first : last + 1]).hexdigest()
        assert answer["CopyPartResult"]["ETag"] == f'"{expected}"'
        parts.append({"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]})
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    s3.delete_object(Bucket=bucket, Key="source ü")
    whole = b"".join(body[first : last + 1] for first, last in ranges)
    assert read(s3, bucket, "k") == whole


def test_copied_part_errors(s3, bucket, upload):
    s3.put_object(Bucket=bucket, Key="small", Body=b"0123456789")
    where = upload | {"PartNumber": 1, "CopySource": f"{bucket}/small"}
    for text in ["bytes=5-2", "bytes=a-b", "0-5", "bytes=-5", "bytes=5-", "bytes=5-10"]:
        refused("InvalidArgument", 400, s3.upload_part_copy, **where, CopySourceRange=text)
    missing = where | {"CopySource": f"{bucket}/none"}
    refused("NoSuchKey", 404, s3.upload_part_copy, **missing)


def test_attributes_tell_the_parts(s3, bucket):
    parts = [pattern(5 * MIB, 1), pattern(5 * MIB, 2), pattern(5, 3)]
    multipart(s3, bucket, "k", parts, ChecksumAlgorithm="SHA256")
    answer = s3.get_object_attributes(
        Bucket=bucket, Key="k", ObjectAttributes=["ObjectParts", "ObjectSize", "Checksum"], MaxParts=2
    )
    assert answer["ObjectSize"] == sum(map(len, parts))
    listed = answer["ObjectParts"]
    assert listed["TotalPartsCount"] == 3 and listed["IsTruncated"] is True
    assert [(p["PartNumber"], p["Size"]) for p in listed["Parts"]] == [(1, 5 * MIB), (2, 5 * MIB)]
    assert all(part["ChecksumSHA256"] for part in listed["Parts"])


def test_parallel_parts_of_parallel_uploads(s3, bucket):
    def one(number):
        parts = [pattern(5 * MIB, f"{number}/{part}") for part in range(3)]
        multipart(s3, bucket, f"k{number}", parts)
        return b"".join(parts)

    with ThreadPoolExecutor(6) as pool:
        for number, body in enumerate(pool.map(one, range(6))):
            assert read(s3, bucket, f"k{number}") == body


@pytest.mark.slow
def test_ten_thousand_parts(s3, bucket, upload):
    body = pattern(5 * MIB, "shared")
    s3.put_object(Bucket=bucket, Key="source", Body=body)
    source = {"Bucket": bucket, "Key": "source"}

    def copy(number):
        answer = s3.upload_part_copy(**upload, PartNumber=number, CopySource=source)
        return {"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]}

    with ThreadPoolExecutor(16) as pool:
        parts = list(pool.map(copy, range(1, 10_001)))
    done = s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    assert done["ETag"].endswith('-10000"')
    size = 10_000 * 5 * MIB
    head = s3.head_object(Bucket=bucket, Key="k")
    assert head["ContentLength"] == size
    for first in [0, 5 * MIB - 3, 5 * MIB, size // 2 + 17, size - 5 * MIB - 1, size - 9]:
        last = min(first + 70_000, size - 1)
        expected = (body + body)[first % (5 * MIB) :][: last - first + 1]
        assert read(s3, bucket, "k", Range=f"bytes={first}-{last}") == expected
    assert read(s3, bucket, "k", PartNumber=10_000) == body
    attributes = s3.get_object_attributes(
        Bucket=bucket, Key="k", ObjectAttributes=["ObjectParts"], PartNumberMarker=9_998
    )["ObjectParts"]
    assert attributes["TotalPartsCount"] == 10_000
