"""Listings through boto3: order, pages, prefixes, delimiters, encodings, and strange keys."""

import random

import pytest

from harness.sdk import list_keys, read, refused

STRANGE = [
    ".", "..", "./x", "../x", "a/../b", "a/./b", "/", "//", "/leading", "//two", "a//b", "a/", "a",
    "a/b", "a/b/", " ", " lead", "trail ", "a b", "a+b", "a%20b", "%", "%zz", "?", "#", "a?b=c#d",
    "&<>'\"", "ü", "u\u0308", "日本語", "😀", "\u0001", "tab\t", "new\nline", "cr\rx", "\u007f",
    "\u0085", "\ufffe", "\uffff", "a\u0000b", "\\", "a\\b", "*", "~", "-._~!$'()", "=", ";", ",",
    "@:", "[]{}|^`", "x" * 1024, "é" * 512, "日" * 341, "d/" * 512,
]


@pytest.fixture
def many(s3, bucket):
    """A bucket with keys in two levels, put in random order."""
    keys = [f"{folder}/{n:03}" for folder in ("a", "b", "c") for n in range(20)]
    keys += ["root1", "root2", "b"]
    shuffled = list(keys)
    random.Random(7).shuffle(shuffled)
    for key in shuffled:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    return sorted(keys)


def test_strange_keys_are_kept_apart(s3, bucket):
    for key in STRANGE:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    for key in STRANGE:
        assert read(s3, bucket, key) == key.encode(), repr(key)
        assert s3.head_object(Bucket=bucket, Key=key)["ContentLength"] == len(key.encode())
    expected = sorted(STRANGE, key=lambda key: key.encode())
    assert list_keys(s3, bucket) == expected
    assert list_keys(s3, bucket, PaginationConfig={"PageSize": 3}) == expected
    for key in STRANGE:
        s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": key})
        assert read(s3, bucket, "copy") == key.encode(), repr(key)
    for key in STRANGE[::2]:
        s3.delete_object(Bucket=bucket, Key=key)
    assert set(list_keys(s3, bucket)) == set(STRANGE[1::2]) | {"copy"}


def test_a_key_of_1025_bytes_is_too_long(s3, bucket):
    refused("KeyTooLongError", 400, s3.put_object, Bucket=bucket, Key="x" * 1025, Body=b"")


@pytest.mark.parametrize("size", [1, 2, 7, 20, 1000])
def test_pages_have_every_key_once(s3, bucket, many, size):
    assert list_keys(s3, bucket, PaginationConfig={"PageSize": size}) == many
    pages = s3.get_paginator("list_objects").paginate(
        Bucket=bucket, PaginationConfig={"PageSize": size}
    )
    assert [entry["Key"] for page in pages for entry in page.get("Contents", [])] == many


def test_the_fields_of_a_page(s3, bucket, many):
    page = s3.list_objects_v2(Bucket=bucket, MaxKeys=5, Prefix="a/", StartAfter="a/003")
    assert [entry["Key"] for entry in page["Contents"]] == [f"a/{n:03}" for n in range(4, 9)]
    assert page["IsTruncated"] is True
    assert (page["KeyCount"], page["MaxKeys"], page["Prefix"]) == (5, 5, "a/")
    assert (page["StartAfter"], page["Name"]) == ("a/003", bucket)
    entry = page["Contents"][0]
    head = s3.head_object(Bucket=bucket, Key="a/004")
    assert (entry["Size"], entry["ETag"], entry["StorageClass"]) == (5, head["ETag"], "STANDARD")
    assert entry["LastModified"].replace(microsecond=0) == head["LastModified"]
    assert "Owner" not in entry
    owned = s3.list_objects_v2(Bucket=bucket, MaxKeys=1, FetchOwner=True)
    assert owned["Contents"][0]["Owner"]["ID"]
    rest = s3.list_objects_v2(
        Bucket=bucket, Prefix="a/", ContinuationToken=page["NextContinuationToken"]
    )
    assert rest["Contents"][0]["Key"] == "a/009"
    assert rest["IsTruncated"] is False and "NextContinuationToken" not in rest
    assert rest["ContinuationToken"] == page["NextContinuationToken"]


def test_max_keys_zero_and_beyond(s3, bucket, many):
    none = s3.list_objects_v2(Bucket=bucket, MaxKeys=0)
    assert none["KeyCount"] == 0 and none["IsTruncated"] is False
    page = s3.list_objects_v2(Bucket=bucket, MaxKeys=5000)
    assert page["KeyCount"] == len(many) and page["MaxKeys"] == 1000


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_delimiters_roll_up(s3, bucket, many, size):
    contents, prefixes = [], []
    pages = s3.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, Delimiter="/", PaginationConfig={"PageSize": size}
    )
    for page in pages:
        contents += [entry["Key"] for entry in page.get("Contents", [])]
        prefixes += [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]
        assert page["KeyCount"] <= size
    assert contents == ["b", "root1", "root2"]
    assert prefixes == ["a/", "b/", "c/"]


def test_delimiter_with_prefix(s3, bucket, many):
    page = s3.list_objects_v2(Bucket=bucket, Delimiter="/", Prefix="b")
    assert [entry["Key"] for entry in page["Contents"]] == ["b"]
    assert page["CommonPrefixes"] == [{"Prefix": "b/"}]
    page = s3.list_objects_v2(Bucket=bucket, Delimiter="0", Prefix="a/")
    assert page["CommonPrefixes"] == [{"Prefix": "a/0"}]
    page = s3.list_objects_v2(Bucket=bucket, Delimiter="/00", Prefix="")
    assert [entry["Prefix"] for entry in page["CommonPrefixes"]] == ["a/00", "b/00", "c/00"]
    assert "CommonPrefixes" not in s3.list_objects_v2(Bucket=bucket, Delimiter="/", Prefix="a/")
    assert s3.list_objects_v2(Bucket=bucket, Prefix="zzz")["KeyCount"] == 0


def test_version_one_markers(s3, bucket, many):
    page = s3.list_objects(Bucket=bucket, MaxKeys=2, Delimiter="/")
    assert page["CommonPrefixes"] == [{"Prefix": "a/"}]
    assert [entry["Key"] for entry in page["Contents"]] == ["b"]
    assert page["IsTruncated"] is True and page["NextMarker"] == "b"
    page = s3.list_objects(Bucket=bucket, MaxKeys=2, Delimiter="/", Marker="b")
    assert page["CommonPrefixes"] == [{"Prefix": "b/"}, {"Prefix": "c/"}]
    assert page["NextMarker"] == "c/"
    page = s3.list_objects(Bucket=bucket, Delimiter="/", Marker="c/")
    assert [entry["Key"] for entry in page["Contents"]] == ["root1", "root2"]
    assert page["Contents"][0]["Owner"]["ID"]


def test_start_after_a_key_that_is_not_there(s3, bucket, many):
    page = s3.list_objects_v2(Bucket=bucket, StartAfter="b/010x")
    assert page["Contents"][0]["Key"] == "b/011"
    assert s3.list_objects_v2(Bucket=bucket, StartAfter="zzz")["KeyCount"] == 0


def test_url_encoding_is_for_keys_and_prefixes(s3, bucket):
    for key in ["ü/ä +%", "plain"]:
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
    page = s3.list_objects_v2(Bucket=bucket, EncodingType="url", Delimiter="/")
    assert page["EncodingType"] == "url"
    # A caller that asked for the encoding gets the names as the server wrote them.
    assert page["CommonPrefixes"] == [{"Prefix": "%C3%BC/"}]
    page = s3.list_objects_v2(Bucket=bucket, EncodingType="url", Prefix="ü/")
    assert page["Contents"][0]["Key"] in ("%C3%BC/%C3%A4+%2B%25", "%C3%BC/%C3%A4%20%2B%25")


def test_listing_sees_every_write_at_once(s3, bucket):
    for turn in range(50):
        s3.put_object(Bucket=bucket, Key=f"k{turn:02}", Body=b"")
        assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == turn + 1
    for turn in range(50):
        s3.delete_object(Bucket=bucket, Key=f"k{turn:02}")
        assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 49 - turn


def test_directory_markers(s3, bucket):
    s3.put_object(Bucket=bucket, Key="folder/", Body=b"")
    s3.put_object(Bucket=bucket, Key="folder/file", Body=b"1")
    s3.put_object(Bucket=bucket, Key="folder", Body=b"not a folder")
    assert list_keys(s3, bucket) == ["folder", "folder/", "folder/file"]
    s3.delete_object(Bucket=bucket, Key="folder/")
    assert list_keys(s3, bucket) == ["folder", "folder/file"]
    s3.delete_object(Bucket=bucket, Key="folder")
    assert read(s3, bucket, "folder/file") == b"1"
    s3.put_object(Bucket=bucket, Key="with bytes/", Body=b"markers may have bytes")
    assert read(s3, bucket, "with bytes/") == b"markers may have bytes"
