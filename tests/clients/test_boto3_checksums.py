"""The five checksum algorithms through boto3: given, calculated, full-object, composite, wrong."""

import base64
import binascii
import hashlib
import struct

import pytest

from harness.content import MIB, pattern
from harness.sdk import connect, multipart, refused

ALGORITHMS = ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"]
# boto3 calculates these without the awscrt package.
BUILT_IN = ["CRC32", "SHA1", "SHA256"]


def reflected_crc(polynomial, bits):
    """A table-driven reflected CRC with all-ones start and end, as an independent oracle."""
    ones = (1 << bits) - 1
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (polynomial if byte & 1 else 0)
        table.append(byte)

    def crc(data):
        state = ones
        for byte in data:
            state = (state >> 8) ^ table[(state ^ byte) & 0xFF]
        return state ^ ones

    return crc


CRC32C = reflected_crc(0x82F63B78, 32)
CRC64NVME = reflected_crc(0x9A6C9329AC4BC9B5, 64)

SUM = {
    "CRC32": lambda data: struct.pack(">I", binascii.crc32(data)),
    "CRC32C": lambda data: struct.pack(">I", CRC32C(data)),
    "CRC64NVME": lambda data: struct.pack(">Q", CRC64NVME(data)),
    "SHA1": lambda data: hashlib.sha1(data).digest(),
    "SHA256": lambda data: hashlib.sha256(data).digest(),
}


def encoded(algorithm, data):
    """The checksum as S3 writes it."""
    return base64.b64encode(SUM[algorithm](data)).decode()


def composite(algorithm, parts):
    """The checksum of the parts' checksums."""
    inner = b"".join(SUM[algorithm](part) for part in parts)
    return f"{encoded(algorithm, inner)}-{len(parts)}"


def test_the_oracle_knows_the_published_check_values():
    assert CRC32C(b"123456789") == 0xE3069283
    assert CRC64NVME(b"123456789") == 0xAE8B14860A799888


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_given_checksum_is_verified_kept_and_told(s3, bucket, algorithm):
    body = pattern(70_001, algorithm)
    name = f"Checksum{algorithm}"
    put = s3.put_object(Bucket=bucket, Key="k", Body=body, **{name: encoded(algorithm, body)})
    assert put[name] == encoded(algorithm, body)
    for call in (s3.get_object, s3.head_object):
        answer = call(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
        assert answer[name] == encoded(algorithm, body)
        assert answer["ChecksumType"] == "FULL_OBJECT"
    listed = s3.list_objects_v2(Bucket=bucket)["Contents"][0]
    assert listed["ChecksumAlgorithm"] == [algorithm]
    wrong = {name: encoded(algorithm, b"something else")}
    refused("BadDigest", 400, s3.put_object, Bucket=bucket, Key="k", Body=body, **wrong)
    refused("BadDigest", 400, s3.put_object, Bucket=bucket, Key="new", Body=body, **wrong)
    refused("NoSuchKey", 404, s3.get_object, Bucket=bucket, Key="new")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == body


@pytest.mark.parametrize("algorithm", BUILT_IN)
@pytest.mark.parametrize("size", [0, 1, 65_536, 5 * MIB + 1])
def test_a_trailer_is_verified_and_kept(s3, bucket, algorithm, size):
    body = pattern(size, algorithm)
    s3.put_object(Bucket=bucket, Key="k", Body=body, ChecksumAlgorithm=algorithm)
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert head[f"Checksum{algorithm}"] == encoded(algorithm, body)


def test_the_default_is_a_crc32_trailer(s3, bucket):
    answer = s3.put_object(Bucket=bucket, Key="k", Body=b"default")
    assert answer["ChecksumCRC32"] == encoded("CRC32", b"default")
    assert answer["ChecksumType"] == "FULL_OBJECT"


def test_without_mode_no_checksum_is_told(server, bucket):
    quiet = connect(server.endpoint, response_checksum_validation="when_required")
    quiet.put_object(Bucket=bucket, Key="k", Body=b"x", ChecksumCRC32=encoded("CRC32", b"x"))
    answer = quiet.head_object(Bucket=bucket, Key="k")
    assert not [name for name in answer if name.startswith("Checksum")]


def test_an_object_without_any_checksum_gets_crc64nvme(server, bucket):
    plain = connect(server.endpoint, request_checksum_calculation="when_required")
    plain.put_object(Bucket=bucket, Key="k", Body=b"plain")
    head = plain.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert head["ChecksumCRC64NVME"] == encoded("CRC64NVME", b"plain")


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA1", "SHA256"])
def test_composite_multipart(s3, bucket, algorithm):
    parts = [pattern(5 * MIB, 1), pattern(5 * MIB, 2), pattern(1234, 3)]
    done = multipart(s3, bucket, "k", parts, ChecksumAlgorithm=algorithm)
    expected = composite(algorithm, parts)
    assert done[f"Checksum{algorithm}"] == expected
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert head[f"Checksum{algorithm}"] == expected
    assert head["ChecksumType"] == "COMPOSITE"
    part = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED", PartNumber=2)
    assert part[f"Checksum{algorithm}"] == encoded(algorithm, parts[1])


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME"])
def test_full_object_multipart(s3, bucket, algorithm):
    # Small enough for the oracle, which is written in Python.
    parts = [pattern(5 * MIB, 1), pattern(100, 2)]
    name = f"Checksum{algorithm}"
    upload = s3.create_multipart_upload(
        Bucket=bucket, Key="k", ChecksumAlgorithm=algorithm, ChecksumType="FULL_OBJECT"
    )
    assert (upload["ChecksumAlgorithm"], upload["ChecksumType"]) == (algorithm, "FULL_OBJECT")
    where = {"Bucket": bucket, "Key": "k", "UploadId": upload["UploadId"]}
    done = []
    for number, body in enumerate(parts, 1):
        part = s3.upload_part(**where, PartNumber=number, Body=body, **{name: encoded(algorithm, body)})
        done.append({"PartNumber": number, "ETag": part["ETag"], name: encoded(algorithm, body)})
    whole = encoded(algorithm, b"".join(parts))
    listed = {"MultipartUpload": {"Parts": done}, "ChecksumType": "FULL_OBJECT"}
    refused("BadDigest", 400, s3.complete_multipart_upload, **where, **listed,
            **{name: encoded(algorithm, b"other")})
    answer = s3.complete_multipart_upload(**where, **listed, **{name: whole})
    assert (answer[name], answer["ChecksumType"]) == (whole, "FULL_OBJECT")
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert (head[name], head["ChecksumType"]) == (whole, "FULL_OBJECT")


def test_a_wrong_part_checksum_stores_no_part(s3, bucket):
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k", ChecksumAlgorithm="SHA256")
    where = {"Bucket": bucket, "Key": "k", "UploadId": upload["UploadId"]}
    refused("BadDigest", 400, s3.upload_part, **where, PartNumber=1, Body=b"part",
            ChecksumSHA256=encoded("SHA256", b"other"))
    assert "Parts" not in s3.list_parts(**where)


def test_the_checksum_in_complete_must_be_that_of_the_part(s3, bucket):
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k", ChecksumAlgorithm="SHA256")
    where = {"Bucket": bucket, "Key": "k", "UploadId": upload["UploadId"]}
    part = s3.upload_part(**where, PartNumber=1, Body=b"part", ChecksumAlgorithm="SHA256")
    wrong = {"PartNumber": 1, "ETag": part["ETag"], "ChecksumSHA256": encoded("SHA256", b"other")}
    refused("InvalidPart", 400, s3.complete_multipart_upload, **where,
            MultipartUpload={"Parts": [wrong]})


def test_a_copy_carries_or_changes_the_checksum(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"copied", ChecksumAlgorithm="SHA1")
    same = s3.copy_object(Bucket=bucket, Key="same", CopySource=f"{bucket}/k")
    assert same["CopyObjectResult"]["ChecksumSHA1"] == encoded("SHA1", b"copied")
    other = s3.copy_object(
        Bucket=bucket, Key="other", CopySource=f"{bucket}/k", ChecksumAlgorithm="SHA256"
    )
    assert other["CopyObjectResult"]["ChecksumSHA256"] == encoded("SHA256", b"copied")


def test_content_md5(s3, bucket):
    right = base64.b64encode(hashlib.md5(b"body").digest()).decode()
    s3.put_object(Bucket=bucket, Key="k", Body=b"body", ContentMD5=right)
    refused("BadDigest", 400, s3.put_object, Bucket=bucket, Key="k", Body=b"other", ContentMD5=right)
    refused("InvalidDigest", 400, s3.put_object, Bucket=bucket, Key="k", Body=b"x", ContentMD5="short")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"body"
