"""Bucket names, keys and paths that no store may accept."""

from harness.signer import Request, sign

from . import raw

BAD_BUCKETS = [
    "ab", "a", "x" * 64, "Upper", "under_score", "-start", "end-", "a..b", ".start", "end.",
    "192.168.1.1", "xn--punycode", "name-s3alias", "sthree-name", "name--ol-s3", "with%20space",
    "a%2Fb-encoded", "%C3%BCmlaut", "with%00nul", "semi;colon", "per%25cent", "..%2f..%2fetc", "star*",
]


def make(w, name):
    """CreateBucket with this (escaped) name."""
    return sign(Request("PUT", f"/{name}", (), (("host", w.host),)))


def path(w, escaped, method="GET"):
    """A request with this literal path behind the bucket."""
    return sign(Request(method, f"/{w.bucket}/{escaped}", (), (("host", w.host),)))


CASES = [
    (f"bucket named {name[:20]}", 400, "InvalidBucketName", lambda w, name=name: make(w, name))
    for name in BAD_BUCKETS
] + [
    ("key of 1025 bytes", 400, "KeyTooLongError", lambda w: path(w, "k" * 1025, "PUT")),
    ("key of 1026 bytes in two-byte characters", 400, "KeyTooLongError", lambda w: path(w, "%C3%A9" * 513, "PUT")),
    ("key of 6000 bytes", 400, "KeyTooLongError", lambda w: path(w, "k" * 6000, "PUT")),
    ("get of a key that is too long", 400, "KeyTooLongError", lambda w: path(w, "k" * 1025)),
    ("key that is not utf-8", 400, "InvalidURI", lambda w: path(w, "%FF%FE", "PUT")),
    ("key of half a character", 400, "InvalidURI", lambda w: path(w, "%C3", "PUT")),
    ("key with a surrogate", 400, "InvalidURI", lambda w: path(w, "%ED%A0%80", "PUT")),
    ("key in overlong utf-8", 400, "InvalidURI", lambda w: path(w, "%C0%AF", "PUT")),
    ("percent without digits", 400, "InvalidURI", lambda w: path(w, "%", "PUT")),
    ("percent with one digit", 400, "InvalidURI", lambda w: path(w, "a%4", "PUT")),
    ("percent with letters", 400, "InvalidURI", lambda w: path(w, "%zz", "PUT")),
    ("missing key", 404, "NoSuchKey", lambda w: path(w, "missing")),
    ("key like a path to a file", 404, "NoSuchKey", lambda w: path(w, "../../../../etc/passwd")),
    ("key like an escaped path", 404, "NoSuchKey", lambda w: path(w, "%2e%2e%2f%2e%2e%2fetc%2fpasswd")),
    ("key like a path of the server's own", 404, "NoSuchKey", lambda w: path(w, "../disk0/")),
    ("key with a nul", 404, "NoSuchKey", lambda w: path(w, "a%00b")),
    ("missing bucket", 404, "NoSuchBucket",
     lambda w: sign(Request("GET", "/no-such-bucket-here", (), (("host", w.host),)))),
    ("target without a slash", 400, None,
     lambda w: raw(w.get(), (b"GET /", b"GET "))),
    ("target with a space", 400, None, lambda w: raw(w.get(), (b" HTTP/1.1", b" x HTTP/1.1"))),
]
