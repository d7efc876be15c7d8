"""HTTP that is broken, or that two servers in a row could understand differently.

Each must be refused and its connection closed, so that nothing behind it is taken for a request. A
bare LF at the end of a header line is neither: RFC 9112 lets a recipient take it for a line's end.
"""

from harness.signer import sign

from . import raw

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"


def signed_put(w, *changes):
    """The bytes of a right PUT after changes."""
    return raw(sign(w.put()), *changes)


def signed_get(w, *changes):
    """The bytes of a right GET after changes."""
    return raw(sign(w.get()), *changes)


LENGTH = b"content-length: 10"


def chunked(w, body, encoding=b"chunked"):
    """A PUT with a Transfer-Encoding instead of a length."""
    return signed_put(w, (LENGTH, b"transfer-encoding: " + encoding), (b"0123456789", body))


def chunked_and_read(w, body):
    """The same with the length of what it carries, so that the server has to read the body."""
    put = w.put((("x-amz-decoded-content-length", "10"), ("x-amz-trailer", "x-amz-checksum-crc32")))
    request = sign(put, payload_hash="STREAMING-UNSIGNED-PAYLOAD-TRAILER")
    lines = (b"\r\n" + LENGTH, b"\r\ntransfer-encoding: chunked")
    return raw(request, lines, (b"0123456789", body))


def smuggling(*lines):
    """A PUT with these headers instead of its length, and another request where the chunks end."""
    return lambda w: signed_put(w, (LENGTH, b"\r\n".join(lines)), (b"0123456789", b"0\r\n\r\n" + SMUGGLED))


def smuggling_behind_success(w):
    """A right GET with both framings, and another request where its chunks end."""
    both = b"\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    return signed_get(w, (b"\r\n\r\n", both + SMUGGLED))


CASES = [
    ("length and transfer-encoding", 411, None, smuggling(b"content-length: 5", b"transfer-encoding: chunked")),
    ("transfer-encoding and length", 411, None, smuggling(b"transfer-encoding: chunked", b"content-length: 5")),
    ("two lengths", 400, None, lambda w: signed_put(w, (LENGTH, b"content-length: 10\r\ncontent-length: 9"))),
    ("two lengths in one header", 400, None, lambda w: signed_put(w, (LENGTH, b"content-length: 10, 9"))),
    ("length a word", 400, None, lambda w: signed_put(w, (LENGTH, b"content-length: ten"))),
    ("length negative", 400, None, lambda w: signed_put(w, (LENGTH, b"content-length: -10"))),
    ("length with a plus", 400, None, lambda w: signed_put(w, (LENGTH, b"content-length: +10"))),
    ("length in hexadecimal", 400, None, lambda w: signed_put(w, (LENGTH, b"content-length: 0xa"))),
    ("length with a fraction", 400, None, lambda w: signed_put(w, (LENGTH, b"content-length: 10.0"))),
    ("length empty", 400, None, lambda w: signed_put(w, (LENGTH, b"content-length: "))),
    ("length beyond 64 bits", 400, None, lambda w: signed_put(w, (LENGTH, b"content-length: " + b"9" * 25))),
    ("unknown transfer-encoding", 400, None, lambda w: chunked(w, b"0\r\n\r\n", b"xchunked")),
    ("chunked not last", 400, None, lambda w: chunked(w, b"0\r\n\r\n", b"chunked, identity")),
    ("space before the colon", 400, None, lambda w: signed_put(w, (LENGTH, b"content-length : 10"))),
    ("folded header", 400, None, lambda w: signed_get(w, (b"\r\n\r\n", b"\r\nx-a: 1\r\n  2\r\n\r\n"))),
    ("header without a colon", 400, None, lambda w: signed_get(w, (b"\r\n\r\n", b"\r\nnonsense\r\n\r\n"))),
    ("header without a name", 400, None, lambda w: signed_get(w, (b"\r\n\r\n", b"\r\n: 1\r\n\r\n"))),
    ("header name with a space", 400, None, lambda w: signed_get(w, (b"\r\n\r\n", b"\r\nx a: 1\r\n\r\n"))),
    ("header name in utf-8", 400, None, lambda w: signed_get(w, (b"\r\n\r\n", b"\r\nx-\xc3\xbc: 1\r\n\r\n"))),
    ("nul in a header", 400, None, lambda w: signed_get(w, (b"\r\n\r\n", b"\r\nx-a: 1\x002\r\n\r\n"))),
    ("bare cr in a header", 400, None, lambda w: signed_get(w, (b"\r\n\r\n", b"\r\nx-a: 1\r2\r\n\r\n"))),
    ("bare lf behind a header", 200, "", lambda w: signed_get(w, (b"\r\n\r\n", b"\nx-a: 1\r\n\r\n"))),
    ("bare lf everywhere", 200, "", lambda w: raw(sign(w.get())).replace(b"\r\n", b"\n")),
    ("no host", 400, None, lambda w: raw(sign(w.get()).without("host"))),
    ("two hosts", 400, None, lambda w: raw(sign(w.get()).added(("host", "localhost")))),
    ("target of another host", 400, None, lambda w: signed_get(w, (b"GET /", b"GET http://elsewhere.example/"))),
    ("version 9.9", 400, None, lambda w: signed_get(w, (b"HTTP/1.1", b"HTTP/9.9"))),
    ("no version", 400, None, lambda w: signed_get(w, (b" HTTP/1.1", b""))),
    ("not http at all", 400, None, lambda w: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200 + b"\r\n\r\n"),
    ("method in brackets", 400, None, lambda w: signed_get(w, (b"GET", b"G{}T"))),
    ("nul in the target", 400, None, lambda w: signed_get(w, (b" HTTP/1.1", b"\x00 HTTP/1.1"))),
    ("headers of 2 MB", 400, None, lambda w: signed_get(w, (b"\r\n\r\n", b"\r\nx-a: " + b"v" * (2 << 20) + b"\r\n\r\n"))),
    ("one header of 100 KB", 400, None, lambda w: signed_get(w, (b"\r\n\r\n", b"\r\nx-a: " + b"v" * 100_000 + b"\r\n\r\n"))),
    ("a thousand headers", 400, None,
     lambda w: signed_get(w, (b"\r\n\r\n", b"\r\n" + b"".join(b"x-%d: 1\r\n" % n for n in range(1000)) + b"\r\n"))),
    ("target of 100 KB", 400, None, lambda w: signed_get(w, (b" HTTP/1.1", b"?" + b"a" * 100_000 + b" HTTP/1.1"))),
    ("chunk size not hexadecimal in http", 400, None, lambda w: chunked_and_read(w, b"zz\r\n0123456789\r\n0\r\n\r\n")),
    ("chunk size beyond 64 bits in http", 400, None, lambda w: chunked_and_read(w, b"f" * 17 + b"\r\n0123456789\r\n0\r\n\r\n")),
    ("chunk extension of 100 KB", 400, None, lambda w: chunked_and_read(w, b"a;" + b"x" * 100_000 + b"\r\n0123456789\r\n0\r\n\r\n")),
]
