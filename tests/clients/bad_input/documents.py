"""XML documents that are broken, hostile, too long, or that ask for the impossible."""

import base64
import hashlib

from harness.signer import Request, sign

NAMESPACE = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
ETAG = '"00000000000000000000000000000000"'
BOMB = (
    '<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "aaaaaaaaaa">'
    '<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]>'
)
FILE = '<!DOCTYPE l [<!ENTITY x SYSTEM "file:///etc/passwd">]>'


def complete(w, body, upload=None):
    """CompleteMultipartUpload with this document."""
    query = (("uploadId", w.upload if upload is None else upload),)
    return w.post(query, body.encode() if isinstance(body, str) else body, key="upload")


def parts(*entries):
    """The document that completes an upload from (number, etag) pairs."""
    inner = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{e}</ETag></Part>" for n, e in entries)
    return f"<CompleteMultipartUpload{NAMESPACE}>{inner}</CompleteMultipartUpload>"


def delete(w, body, *headers):
    """DeleteObjects with this document and the Content-MD5 that it has to have."""
    body = body.encode() if isinstance(body, str) else body
    md5 = base64.b64encode(hashlib.md5(body).digest()).decode()
    return w.post((("delete", None),), body, headers or (("content-md5", md5),))


def objects(*keys):
    """The document that deletes these keys."""
    return f"<Delete{NAMESPACE}>" + "".join(f"<Object><Key>{k}</Key></Object>" for k in keys) + "</Delete>"


def create(w, body, name="new-bucket-that-is-refused"):
    """CreateBucket with this document."""
    return sign(Request("PUT", f"/{name}", (), (("host", w.host),), body.encode()))


def location(region):
    """The document that asks for a region."""
    return (f"<CreateBucketConfiguration{NAMESPACE}><LocationConstraint>{region}"
            "</LocationConstraint></CreateBucketConfiguration>")


BROKEN = "MalformedXML"
CASES = [
    ("complete with no document", 400, "MissingRequestBodyError", lambda w: complete(w, "")),
    ("complete with text", 400, BROKEN, lambda w: complete(w, "not xml")),
    ("complete cut off", 400, BROKEN, lambda w: complete(w, parts((1, ETAG))[:-9])),
    ("complete with tags that do not match", 400, BROKEN, lambda w: complete(w, "<CompleteMultipartUpload></Complete>")),
    ("complete with another root", 400, BROKEN, lambda w: complete(w, "<Delete><Part/></Delete>")),
    ("complete with two roots", 400, BROKEN, lambda w: complete(w, parts((1, ETAG)) * 2)),
    ("complete with no parts", 400, BROKEN, lambda w: complete(w, parts())),
    ("complete with a part without number", 400, BROKEN,
     lambda w: complete(w, "<CompleteMultipartUpload><Part><ETag>x</ETag></Part></CompleteMultipartUpload>")),
    ("complete with a part without etag", 400, BROKEN,
     lambda w: complete(w, "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber></Part></CompleteMultipartUpload>")),
    ("complete with part number a word", 400, BROKEN, lambda w: complete(w, parts(("one", ETAG)))),
    ("complete with part number negative", 400, BROKEN, lambda w: complete(w, parts((-1, ETAG)))),
    ("complete with part number beyond 64 bits", 400, BROKEN, lambda w: complete(w, parts(("9" * 30, ETAG)))),
    ("complete in latin-1", 400, BROKEN, lambda w: complete(w, "<CompleteMultipartUpload>é".encode("latin-1"))),
    # More than XML 1.0 allows is read: S3 has keys that can be named in no other way.
    ("complete with control characters", 400, "InvalidPart", lambda w: complete(w, parts((1, "\x01\x02")))),
    ("complete with an entity bomb", 400, BROKEN, lambda w: complete(w, BOMB + parts((1, "&c;")))),
    ("complete with a file entity", 400, BROKEN, lambda w: complete(w, FILE + parts((1, "&x;")))),
    ("complete nested deeply", 400, BROKEN, lambda w: complete(w, "<a>" * 5000 + "</a>" * 5000)),
    ("complete with a part that is not there", 400, "InvalidPart", lambda w: complete(w, parts((2, ETAG)))),
    ("complete with an etag of another part", 400, "InvalidPart", lambda w: complete(w, parts((1, ETAG)))),
    ("complete with an etag that is none", 400, "InvalidPart", lambda w: complete(w, parts((1, "x")))),
    ("complete in the wrong order", 400, "InvalidPartOrder", lambda w: complete(w, parts((2, ETAG), (1, ETAG)))),
    ("complete with a part twice", 400, "InvalidPartOrder", lambda w: complete(w, parts((1, ETAG), (1, ETAG)))),
    ("complete an upload that is not there", 404, "NoSuchUpload",
     lambda w: complete(w, parts((1, ETAG)), "0" * 32)),
    ("complete an upload with a strange id", 404, "NoSuchUpload",
     lambda w: complete(w, parts((1, ETAG)), "../../etc/passwd")),
    ("complete an upload with an empty id", 404, "NoSuchUpload", lambda w: complete(w, parts((1, ETAG)), "")),
    ("complete with a document of 8 MB", 400, "MaxMessageLengthExceeded",
     lambda w: complete(w, parts(*[(n % 10000 + 1, ETAG) for n in range(80_000)]))),
    ("delete with no document", 400, "MissingRequestBodyError", lambda w: delete(w, "")),
    ("delete with text", 400, BROKEN, lambda w: delete(w, "delete everything")),
    ("delete cut off", 400, BROKEN, lambda w: delete(w, objects("a")[:-4])),
    ("delete nothing", 400, BROKEN, lambda w: delete(w, objects())),
    ("delete without a key", 400, BROKEN, lambda w: delete(w, "<Delete><Object/></Delete>")),
    ("delete an empty key", 400, BROKEN, lambda w: delete(w, objects(""))),
    ("delete 1001 keys", 400, BROKEN, lambda w: delete(w, objects(*map(str, range(1001))))),
    ("delete with an entity bomb", 400, BROKEN, lambda w: delete(w, BOMB + objects("&c;"))),
    ("delete with an undefined entity", 400, BROKEN, lambda w: delete(w, objects("&nbsp;"))),
    ("delete of 5 MB", 400, "MaxMessageLengthExceeded", lambda w: delete(w, objects(*["k" * 5000] * 1000))),
    ("delete without a digest", 400, "InvalidRequest",
     lambda w: w.post((("delete", None),), objects("there").encode())),
    ("delete with a wrong md5", 400, "BadDigest",
     lambda w: delete(w, objects("there"), ("content-md5", base64.b64encode(bytes(16)).decode()))),
    ("delete with a wrong checksum", 400, "BadDigest",
     lambda w: delete(w, objects("there"), ("x-amz-checksum-crc32", "AAAAAA=="))),
    ("create with text", 400, BROKEN, lambda w: create(w, "eu-west-1, please")),
    ("create with another root", 400, BROKEN, lambda w: create(w, "<Bucket/>")),
    ("create in an unknown region", 400, "InvalidLocationConstraint", lambda w: create(w, location("mars-1"))),
    ("create with an entity bomb", 400, BROKEN, lambda w: create(w, BOMB + location("&c;"))),
    ("create with a document of 1 MB", 400, "MaxMessageLengthExceeded", lambda w: create(w, location("x" * (1 << 20)))),
]
