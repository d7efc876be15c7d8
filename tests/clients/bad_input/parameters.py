"""Parameters and headers that are no numbers, beyond their limits, or ask for what is not there."""

from harness.signer import Request, sign

ARGUMENT = "InvalidArgument"
NOT_HERE = "NotImplemented"


def part(w, number, upload=None, method="PUT"):
    """UploadPart with this part number."""
    query = (("partNumber", number), ("uploadId", w.upload if upload is None else upload))
    return sign(w.request(method, "upload", query, (), b"part"))


def get_part(w, number, *headers):
    """GetObject of one part."""
    return sign(w.get((("partNumber", number),), headers))


def ranged(w, value, key=None):
    """GetObject with a Range header."""
    return sign(w.request("GET", key or w.key, (), (("range", value),)))


def copy(w, *headers, query=()):
    """CopyObject, or UploadPartCopy with a query."""
    return sign(w.request("PUT", "upload" if query else "copied", query, headers))


def put_header(w, name, value):
    """PutObject with one header."""
    return sign(w.put(((name, value),)))


def upload(w, *headers):
    """CreateMultipartUpload with headers."""
    return w.post((("uploads", None),), b"", headers, key="fresh")


def method(w, name, target):
    """A signed request of any method for the service, the bucket or the object."""
    path = {"service": "/", "bucket": f"/{w.bucket}", "object": f"/{w.bucket}/{w.key}"}[target]
    return sign(Request(name, path, (), (("host", w.host),)))


def source(w):
    """The object as the source of a copy."""
    return "x-amz-copy-source", f"/{w.bucket}/{w.key}"


def subresource(w, verb, name, key=None):
    """A request for something that S3 has and this server does not."""
    return sign(w.request(verb, key, ((name, None),), (), b"<x/>" if verb in ("PUT", "POST") else b""))


LISTINGS = [
    ("max-keys", "-1"), ("max-keys", "abc"), ("max-keys", "1.5"), ("max-keys", "2147483648"),
    ("max-keys", "9" * 30), ("encoding-type", "base64"), ("encoding-type", "URL "),
    ("continuation-token", "!!!"), ("continuation-token", ""), ("continuation-token", "AAAA"),
]
BAD_PARTS = ["0", "10001", "-1", "abc", "", "1.0", "+1", "99999999999999999999", "٣"]
RANGES = [
    (416, "InvalidRange", "bytes=10-"), (416, "InvalidRange", "bytes=10-20"),
    (416, "InvalidRange", "bytes=-0"), (416, "InvalidRange", "bytes=99999999999999999999999-"),
    # S3 ignores a range that it cannot read, as RFC 9110 allows, and sends the whole object.
    (200, "", "bytes=5-2"), (200, "", "bytes=a-b"), (200, "", "bytes"), (200, "", "bytes=--1"),
    (200, "", "lines=1-2"), (200, "", "bytes=0-1,3-4"), (200, "", "bytes=" + "0-1," * 1000 + "1-2"),
]
ABSENT = [
    ("PUT", "versioning", None), ("PUT", "policy", None), ("PUT", "acl", None), ("PUT", "cors", None),
    ("PUT", "lifecycle", None), ("PUT", "tagging", None), ("PUT", "encryption", None),
    ("PUT", "replication", None), ("PUT", "website", None), ("PUT", "logging", None),
    ("PUT", "notification", None), ("PUT", "object-lock", None), ("PUT", "accelerate", None),
    ("PUT", "requestPayment", None), ("PUT", "publicAccessBlock", None), ("GET", "versions", None),
    ("GET", "inventory", None), ("GET", "analytics", None), ("GET", "metrics", None),
    ("PUT", "acl", "there"), ("PUT", "tagging", "there"), ("PUT", "retention", "there"),
    ("PUT", "legal-hold", "there"), ("POST", "restore", "there"), ("GET", "torrent", "there"),
    ("PUT", "something-new", "there"), ("GET", "something-new", None),
]
ASKS = [
    ("x-amz-server-side-encryption", "aws:kms"), ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
    ("x-amz-tagging", "a=b"), ("x-amz-object-lock-mode", "GOVERNANCE"), ("x-amz-acl", "public-read"),
    ("x-amz-grant-read", "id=1"), ("x-amz-storage-class", "GLACIER"), ("x-amz-website-redirect-location", "/x"),
]
METHODS = [
    ("POST", "service"), ("PUT", "service"), ("DELETE", "service"), ("PATCH", "bucket"), ("PATCH", "object"),
    ("POST", "object"), ("PROPFIND", "bucket"), ("TRACE", "object"), ("LOCK", "object"), ("FOO", "object"),
]

CASES = [
    *[(f"list with {n}={v[:12]!r}", 400, ARGUMENT, lambda w, n=n, v=v: w.list(("list-type", "2"), (n, v)))
      for n, v in LISTINGS],
    ("list of type 3", 400, ARGUMENT, lambda w: w.list(("list-type", "3"))),
    ("uploads with max-uploads=-1", 400, ARGUMENT, lambda w: w.list(("uploads", None), ("max-uploads", "-1"))),
    ("uploads with max-uploads=x", 400, ARGUMENT, lambda w: w.list(("uploads", None), ("max-uploads", "x"))),
    ("uploads after a strange id", 400, ARGUMENT,
     lambda w: w.list(("uploads", None), ("key-marker", "k"), ("upload-id-marker", "../x"))),
    ("parts with max-parts=-1", 400, ARGUMENT,
     lambda w: sign(w.request("GET", "upload", (("uploadId", w.upload), ("max-parts", "-1"))))),
    ("parts after a word", 400, ARGUMENT,
     lambda w: sign(w.request("GET", "upload", (("uploadId", w.upload), ("part-number-marker", "x"))))),
    ("parts of an upload that is not there", 404, "NoSuchUpload",
     lambda w: sign(w.request("GET", "upload", (("uploadId", "0" * 32),)))),
    ("parts of an upload of another key", 404, "NoSuchUpload",
     lambda w: sign(w.request("GET", "other", (("uploadId", w.upload),)))),
    ("list with a prefix that is not utf-8", 400, "InvalidURI",
     lambda w: sign(Request("GET", f"/{w.bucket}", (), (("host", w.host),))).wire()
     .replace(b" HTTP/1.1", b"?prefix=%FF HTTP/1.1", 1)),
    *[(f"part number {n!r}", 400, ARGUMENT, lambda w, n=n: part(w, n)) for n in BAD_PARTS],
    *[(f"get of part {n!r}", 400, ARGUMENT, lambda w, n=n: get_part(w, n)) for n in BAD_PARTS[:5]],
    ("get of a part beyond the last", 416, "InvalidPartNumber", lambda w: get_part(w, "2")),
    ("get of a part and a range", 400, "InvalidRequest", lambda w: get_part(w, "1", ("range", "bytes=0-1"))),
    ("part of an upload that is not there", 404, "NoSuchUpload", lambda w: part(w, "1", "0" * 32)),
    ("part of an upload with a strange id", 404, "NoSuchUpload", lambda w: part(w, "1", "x" * 5000)),
    ("part of an upload of nul bytes", 404, "NoSuchUpload", lambda w: part(w, "1", "\0\0\0")),
    ("abort of an upload that is not there", 404, "NoSuchUpload",
     lambda w: sign(w.request("DELETE", "upload", (("uploadId", "0" * 32),)))),
    *[(f"range {v[:30]}", status, code, lambda w, v=v: ranged(w, v)) for status, code, v in RANGES],
    ("range of an empty object", 416, "InvalidRange", lambda w: ranged(w, "bytes=0-0", "empty")),
    ("copy of nothing", 400, ARGUMENT, lambda w: copy(w, ("x-amz-copy-source", ""))),
    ("copy without a key", 400, ARGUMENT, lambda w: copy(w, ("x-amz-copy-source", w.bucket))),
    ("copy of a missing key", 404, "NoSuchKey", lambda w: copy(w, ("x-amz-copy-source", f"{w.bucket}/none"))),
    ("copy from a bad bucket name", 400, "InvalidBucketName", lambda w: copy(w, ("x-amz-copy-source", "UP/k"))),
    ("copy with broken escapes", 400, "InvalidURI", lambda w: copy(w, ("x-amz-copy-source", f"{w.bucket}/%ff"))),
    ("copy with an unknown directive", 400, ARGUMENT,
     lambda w: copy(w, source(w), ("x-amz-metadata-directive", "MERGE"))),
    *[(f"part copied from range {v}", 400, ARGUMENT,
       lambda w, v=v: copy(w, source(w), ("x-amz-copy-source-range", v),
                           query=(("partNumber", "1"), ("uploadId", w.upload))))
      for v in ["bytes=0-10", "bytes=5-2", "bytes=-5", "0-5"]],
    ("metadata of 3 KB", 400, "MetadataTooLarge", lambda w: put_header(w, "x-amz-meta-a", "v" * 3000)),
    ("metadata without a name", 400, ARGUMENT, lambda w: put_header(w, "x-amz-meta-", "v")),
    ("unknown storage class", 400, "InvalidStorageClass", lambda w: put_header(w, "x-amz-storage-class", "FAST")),
    ("unknown canned acl", 400, ARGUMENT, lambda w: put_header(w, "x-amz-acl", "everybody")),
    ("unknown encryption", 400, "InvalidEncryptionAlgorithmError",
     lambda w: put_header(w, "x-amz-server-side-encryption", "ROT13")),
    *[(f"put that asks for {n}", 501, NOT_HERE, lambda w, n=n, v=v: put_header(w, n, v)) for n, v in ASKS],
    ("upload with an unknown checksum", 400, "InvalidRequest", lambda w: upload(w, ("x-amz-checksum-algorithm", "MD4"))),
    ("upload with full-object sha256", 400, "InvalidRequest",
     lambda w: upload(w, ("x-amz-checksum-algorithm", "SHA256"), ("x-amz-checksum-type", "FULL_OBJECT"))),
    ("upload with composite crc64nvme", 400, "InvalidRequest",
     lambda w: upload(w, ("x-amz-checksum-algorithm", "CRC64NVME"), ("x-amz-checksum-type", "COMPOSITE"))),
    ("upload with an unknown checksum type", 400, "InvalidRequest",
     lambda w: upload(w, ("x-amz-checksum-algorithm", "CRC32"), ("x-amz-checksum-type", "HALF"))),
    ("attributes without names", 400, "InvalidRequest",
     lambda w: sign(w.get((("attributes", None),)))),
    ("attributes of an unknown name", 400, ARGUMENT,
     lambda w: sign(w.get((("attributes", None),), (("x-amz-object-attributes", "Colour"),)))),
    ("version that is not there", 404, "NoSuchVersion", lambda w: sign(w.get((("versionId", "abc"),)))),
    ("version that is empty", 400, ARGUMENT, lambda w: sign(w.get((("versionId", ""),)))),
    *[(f"{verb} ?{name} of {'an object' if key else 'a bucket'}", 501, NOT_HERE,
       lambda w, verb=verb, name=name, key=key: subresource(w, verb, name, key)) for verb, name, key in ABSENT],
    *[(f"{name} on the {target}", 405, "MethodNotAllowed", lambda w, name=name, target=target: method(w, name, target))
      for name, target in METHODS],
]
