"""Lengths, digests and checksums that do not fit the body, and broken chunk framing."""

import base64
import binascii
import hashlib
import struct
from dataclasses import replace

from harness.signer import sign, sign_chunked

from . import raw

SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
BODY = b"0123456789"
CRC32 = base64.b64encode(struct.pack(">I", binascii.crc32(BODY))).decode()
WRONG_CRC32 = "AAAAAA=="  # Well formed, but of other bytes.
MD5 = base64.b64encode(hashlib.md5(b"other").digest()).decode()


def lying(w, length, body=BODY):
    """A PUT that announces this length and sends this body."""
    return sign(replace(w.put(), body=body).added(("content-length", length)))


def short(w):
    """A PUT that ends before its length."""
    return lying(w, "100").wire()


def digest(w, name, value, *more):
    """A PUT with a header about its body."""
    return sign(w.put(((name, value), *more)))


def unsigned(w, body, decoded="10", trailer="x-amz-checksum-crc32"):
    """A PUT in unsigned chunks with a trailer."""
    headers = (("content-encoding", "aws-chunked"), ("x-amz-decoded-content-length", decoded))
    headers = tuple(pair for pair in headers if pair[1] is not None)
    if trailer:
        headers += (("x-amz-trailer", trailer),)
    return sign(w.put(headers, body), payload_hash=UNSIGNED_TRAILER)


def signed(w, write, length=10):
    """A PUT in signed chunks; `write` makes the body."""
    request, chunks = sign_chunked(w.put(body=b""), length)
    return replace(request, body=write(chunks))


def signed_trailer(w, write, length=10, trailer="x-amz-checksum-crc32"):
    """A PUT in signed chunks with a signed trailer."""
    request = w.put((("x-amz-trailer", trailer),), b"")
    request, chunks = sign_chunked(request, length, SIGNED_TRAILER)
    return replace(request, body=write(chunks))


def end(checksum=CRC32):
    """The end of an unsigned chunked body."""
    return f"0\r\nx-amz-checksum-crc32:{checksum}\r\n\r\n".encode()


GOOD = b"a\r\n" + BODY + b"\r\n"
ZEROS = "0" * 64

CASES = [
    ("right unsigned chunks", 200, "", lambda w: unsigned(w, GOOD + end())),
    ("right signed chunks", 200, "", lambda w: signed(w, lambda c: c.chunk(BODY) + c.chunk(b"") + b"\r\n")),
    ("right signed trailer", 200, "", lambda w: signed_trailer(
        w, lambda c: c.chunk(BODY) + c.chunk(b"") + c.trailer("x-amz-checksum-crc32", CRC32))),
    # Lengths.
    ("no length", 411, "MissingContentLength",
     lambda w: raw(sign(w.put()), (b"content-length: 10\r\n", b""), (BODY, b""))),
    ("no length of a part", 411, "MissingContentLength",
     lambda w: raw(sign(w.put(query=(("partNumber", "1"), ("uploadId", w.upload)))),
                   (b"content-length: 10\r\n", b""), (BODY, b""))),
    ("short body", 400, "IncompleteBody", short),
    ("more than 5 GiB", 400, "EntityTooLarge", lambda w: lying(w, str((5 << 30) + 1)).wire()),
    ("a part of more than 5 GiB", 400, "EntityTooLarge",
     lambda w: sign(w.put((("content-length", str((5 << 30) + 1)),),
                          query=(("partNumber", "1"), ("uploadId", w.upload)))).wire()),
    ("decoded length of more than 5 GiB", 400, "EntityTooLarge",
     lambda w: unsigned(w, GOOD + end(), decoded=str((5 << 30) + 1))),
    ("no decoded length", 411, "MissingContentLength", lambda w: unsigned(w, GOOD + end(), decoded=None)),
    ("decoded length a word", 400, "InvalidArgument", lambda w: unsigned(w, GOOD + end(), decoded="ten")),
    ("decoded length negative", 400, "InvalidArgument", lambda w: unsigned(w, GOOD + end(), decoded="-1")),
    ("decoded length too large", 400, "IncompleteBody", lambda w: unsigned(w, GOOD + end(), decoded="11")),
    ("decoded length too small", 400, "IncompleteBody", lambda w: unsigned(w, GOOD + end(), decoded="9")),
    # Digests.
    ("md5 of other bytes", 400, "BadDigest", lambda w: digest(w, "content-md5", MD5)),
    ("md5 too short", 400, "InvalidDigest", lambda w: digest(w, "content-md5", "YWJj")),
    ("md5 not base64", 400, "InvalidDigest", lambda w: digest(w, "content-md5", "!!not base64!!")),
    ("md5 empty", 400, "InvalidDigest", lambda w: digest(w, "content-md5", "")),
    ("md5 in hexadecimal", 400, "InvalidDigest",
     lambda w: digest(w, "content-md5", hashlib.md5(BODY).hexdigest())),
    ("crc32 of other bytes", 400, "BadDigest", lambda w: digest(w, "x-amz-checksum-crc32", WRONG_CRC32)),
    ("crc32c of other bytes", 400, "BadDigest", lambda w: digest(w, "x-amz-checksum-crc32c", WRONG_CRC32)),
    ("crc64nvme of other bytes", 400, "BadDigest",
     lambda w: digest(w, "x-amz-checksum-crc64nvme", "AAAAAAAAAAA=")),
    ("sha1 of other bytes", 400, "BadDigest",
     lambda w: digest(w, "x-amz-checksum-sha1", base64.b64encode(bytes(20)).decode())),
    ("sha256 of other bytes", 400, "BadDigest",
     lambda w: digest(w, "x-amz-checksum-sha256", base64.b64encode(bytes(32)).decode())),
    ("crc32 too long", 400, "InvalidRequest", lambda w: digest(w, "x-amz-checksum-crc32", "AAAAAAAA")),
    ("crc32 not base64", 400, "InvalidRequest", lambda w: digest(w, "x-amz-checksum-crc32", "%%%%")),
    ("crc32 empty", 400, "InvalidRequest", lambda w: digest(w, "x-amz-checksum-crc32", "")),
    ("two checksums", 400, "InvalidRequest",
     lambda w: digest(w, "x-amz-checksum-crc32", CRC32, ("x-amz-checksum-crc32c", WRONG_CRC32))),
    ("announced algorithm is another", 400, "InvalidRequest",
     lambda w: digest(w, "x-amz-checksum-crc32", CRC32, ("x-amz-sdk-checksum-algorithm", "SHA1"))),
    ("announced algorithm without a checksum", 400, "InvalidRequest",
     lambda w: digest(w, "x-amz-sdk-checksum-algorithm", "CRC32")),
    ("announced algorithm unknown", 400, "InvalidRequest",
     lambda w: digest(w, "x-amz-checksum-crc32", CRC32, ("x-amz-sdk-checksum-algorithm", "MD4"))),
    ("trailer without a framing for it", 400, "InvalidRequest",
     lambda w: digest(w, "x-amz-trailer", "x-amz-checksum-crc32")),
    # Chunk framing.
    ("chunk size not hexadecimal", 400, "IncompleteBody", lambda w: unsigned(w, b"zz\r\n" + BODY + b"\r\n" + end())),
    ("chunk size empty", 400, "IncompleteBody", lambda w: unsigned(w, b"\r\n" + BODY + b"\r\n" + end())),
    ("chunk size negative", 400, "IncompleteBody", lambda w: unsigned(w, b"-a\r\n" + BODY + b"\r\n" + end())),
    ("chunk size beyond 64 bits", 400, "IncompleteBody",
     lambda w: unsigned(w, b"f" * 20 + b"\r\n" + BODY + b"\r\n" + end())),
    ("chunk size line endless", 400, "IncompleteBody", lambda w: unsigned(w, b"0" * 5000)),
    ("chunk longer than it says", 400, "IncompleteBody", lambda w: unsigned(w, b"9\r\n" + BODY + b"\r\n" + end())),
    ("chunk shorter than it says", 400, "IncompleteBody", lambda w: unsigned(w, b"b\r\n" + BODY + b"\r\n" + end())),
    ("no end of line behind a chunk", 400, "IncompleteBody", lambda w: unsigned(w, b"a\r\n" + BODY + end())),
    ("no last chunk", 400, "IncompleteBody", lambda w: unsigned(w, GOOD)),
    ("cut off in a chunk", 400, "IncompleteBody", lambda w: unsigned(w, b"a\r\n01234")),
    ("bytes behind the end", 400, "IncompleteBody", lambda w: unsigned(w, GOOD + end() + b"more")),
    ("nothing but the head", 400, "IncompleteBody", lambda w: unsigned(w, b"")),
    # Trailers.
    ("trailer of other bytes", 400, "BadDigest", lambda w: unsigned(w, GOOD + end(WRONG_CRC32))),
    ("trailer not base64", 400, "InvalidRequest", lambda w: unsigned(w, GOOD + end("%%%%"))),
    ("trailer that was announced is missing", 400, "MalformedTrailerError",
     lambda w: unsigned(w, GOOD + b"0\r\n\r\n")),
    ("trailer that was not announced", 400, "MalformedTrailerError",
     lambda w: unsigned(w, GOOD + b"0\r\nx-amz-checksum-crc32c:AAAAAA==\r\n\r\n")),
    ("trailer without a colon", 400, "MalformedTrailerError",
     lambda w: unsigned(w, GOOD + b"0\r\nx-amz-checksum-crc32\r\n\r\n")),
    ("trailer of an unknown checksum", 400, "InvalidRequest",
     lambda w: unsigned(w, GOOD + b"0\r\n\r\n", trailer="x-amz-checksum-md4")),
    # Chunk signatures.
    ("first chunk signature wrong", 403, "SignatureDoesNotMatch",
     lambda w: signed(w, lambda c: c.chunk(BODY, ZEROS) + c.chunk(b"") + b"\r\n")),
    ("last chunk signature wrong", 403, "SignatureDoesNotMatch",
     lambda w: signed(w, lambda c: c.chunk(BODY) + c.chunk(b"", ZEROS) + b"\r\n")),
    ("chunk changed", 403, "SignatureDoesNotMatch",
     lambda w: signed(w, lambda c: c.chunk(BODY).replace(b"0123", b"3210") + c.chunk(b"") + b"\r\n")),
    ("chunks swapped", 403, "SignatureDoesNotMatch", lambda w: signed(
        w, lambda c: b"".join(reversed([c.chunk(b"x" * 9000), c.chunk(b"y" * 9000)])) + c.chunk(b""), 18000)),
    ("chunk without a signature", 400, "IncompleteBody", lambda w: signed(w, lambda c: GOOD + b"0\r\n\r\n")),
    ("signed chunks without an end", 400, "IncompleteBody", lambda w: signed(w, lambda c: c.chunk(BODY))),
    ("signed trailer of other bytes", 400, "BadDigest", lambda w: signed_trailer(
        w, lambda c: c.chunk(BODY) + c.chunk(b"") + c.trailer("x-amz-checksum-crc32", WRONG_CRC32))),
    ("trailer signature wrong", 403, "SignatureDoesNotMatch", lambda w: signed_trailer(
        w, lambda c: c.chunk(BODY) + c.chunk(b"") + c.trailer("x-amz-checksum-crc32", CRC32, ZEROS))),
    ("trailer not signed", 400, "MalformedTrailerError", lambda w: signed_trailer(
        w, lambda c: c.chunk(BODY) + c.chunk(b"") + f"x-amz-checksum-crc32:{CRC32}\r\n\r\n".encode())),
]
