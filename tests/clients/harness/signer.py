"""Signature Version 4 by hand, so that every piece of it can be made wrong.

In: a `Request`. Out: the same request with an Authorization header, a presigned query or a signed
chunked body. It is checked against the examples that AWS publishes (test_signer.py).
"""

import hashlib
import hmac
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from urllib.parse import quote

from .server import ACCESS_KEY, SECRET_KEY

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


def sha256(data):
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def escape(text):
    """A query name or value as the canonical request writes it."""
    return quote(text, safe="-_.~")


@dataclass(frozen=True)
class Signing:
    """Who signs, for what and when; a wrong value in any field makes a wrong signature."""

    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY
    region: str = "us-east-1"
    service: str = "s3"
    terminator: str = "aws4_request"
    time: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    scope_date: str = ""

    @property
    def date(self):
        """The time as `x-amz-date` writes it."""
        return self.time.strftime("%Y%m%dT%H%M%SZ")

    @property
    def scope(self):
        """Date, region, service and terminator."""
        day = self.scope_date or self.date[:8]
        return f"{day}/{self.region}/{self.service}/{self.terminator}"

    def signature(self, text):
        """The signature of a string to sign."""
        key = b"AWS4" + self.secret_key.encode()
        for part in self.scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        return hmac.digest(key, text.encode(), "sha256").hex()

    def sign_canonical(self, canonical):
        """The signature of a canonical request."""
        return self.signature(
            f"AWS4-HMAC-SHA256\n{self.date}\n{self.scope}\n{sha256(canonical.encode())}"
        )


@dataclass(frozen=True)
class Request:
    """An HTTP request, written down literally: the path is escaped already, headers keep order."""

    method: str = "GET"
    path: str = "/"
    query: tuple = ()
    headers: tuple = ()
    body: bytes = b""

    def with_headers(self, *pairs):
        """The same request with these headers set: one of the same name is replaced."""
        names = {name.lower() for name, _ in pairs}
        kept = tuple(pair for pair in self.headers if pair[0].lower() not in names)
        return replace(self, headers=kept + pairs)

    def added(self, *pairs):
        """The same request with these headers added, even twice."""
        return replace(self, headers=self.headers + pairs)

    def without(self, *names):
        """The same request without these headers."""
        kept = tuple(pair for pair in self.headers if pair[0].lower() not in names)
        return replace(self, headers=kept)

    def header(self, name):
        """The value of a header, or nothing."""
        return next((value for known, value in self.headers if known.lower() == name), None)

    @property
    def target(self):
        """Path and query as they go on the wire."""
        pairs = [escape(name) + ("" if value is None else "=" + escape(value))
                 for name, value in self.query]
        return self.path + ("?" + "&".join(pairs) if pairs else "")

    def canonical(self, signed, payload_hash):
        """The canonical request."""
        pairs = sorted((escape(name), escape(value or "")) for name, value in self.query)
        query = "&".join(f"{name}={value}" for name, value in pairs)
        lines = "".join(f"{name}:{' '.join((self.header(name) or '').split())}\n" for name in signed)
        return "\n".join([self.method, self.path, query, lines, ";".join(signed), payload_hash])

    def wire(self):
        """The bytes to send; Content-Length is added unless a length is given or there is no body."""
        names = {name.lower() for name, _ in self.headers}
        headers = list(self.headers)
        if not names & {"content-length", "transfer-encoding"} and (
            self.body or self.method in ("PUT", "POST")
        ):
            headers.append(("content-length", str(len(self.body))))
        head = [f"{self.method} {self.target} HTTP/1.1"] + [f"{n}: {v}" for n, v in headers]
        return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + self.body


def signed_names(request):
    """Every header that has to be signed, sorted."""
    names = {name.lower() for name, _ in request.headers}
    wanted = {"host", "content-md5", "content-type", "range", "date"}
    return sorted(n for n in names if n in wanted or n.startswith("x-amz-"))


def sign(request, signing=None, payload_hash=None, signed=None):
    """Signs with an Authorization header."""
    signing = signing or Signing()
    if payload_hash is None:
        payload_hash = request.header("x-amz-content-sha256") or sha256(request.body)
    request = request.with_headers(
        ("x-amz-date", signing.date), ("x-amz-content-sha256", payload_hash)
    )
    signed = signed_names(request) if signed is None else signed
    signature = signing.sign_canonical(request.canonical(signed, payload_hash))
    value = (
        f"AWS4-HMAC-SHA256 Credential={signing.access_key}/{signing.scope},"
        f"SignedHeaders={';'.join(signed)},Signature={signature}"
    )
    return request.with_headers(("authorization", value))


def presign(request, signing=None, expires="60", signed=None, **changed):
    """Signs with query parameters; `changed` replaces parameters (None: leaves out) before signing."""
    signing = signing or Signing()
    signed = signed_names(request) if signed is None else signed
    parameters = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{signing.access_key}/{signing.scope}",
        "X-Amz-Date": signing.date,
        "X-Amz-Expires": expires,
        "X-Amz-SignedHeaders": ";".join(signed),
    }
    for name, value in changed.items():
        parameters["X-Amz-" + name] = value
    query = request.query + tuple((n, v) for n, v in parameters.items() if v is not None)
    request = replace(request, query=query)
    signature = signing.sign_canonical(request.canonical(signed, "UNSIGNED-PAYLOAD"))
    if "Signature" in changed:
        return request
    return replace(request, query=query + (("X-Amz-Signature", signature),))


@dataclass
class Chunks:
    """Writes the body of a signed chunked upload, chunk by chunk."""

    signing: Signing
    previous: str

    def chunk(self, data, signature=None):
        """One chunk; an empty one is the last."""
        text = "\n".join([
            "AWS4-HMAC-SHA256-PAYLOAD", self.signing.date, self.signing.scope, self.previous,
            EMPTY_SHA256, sha256(data),
        ])
        self.previous = self.signing.signature(text)
        head = f"{len(data):x};chunk-signature={signature or self.previous}\r\n".encode()
        return head + data + (b"\r\n" if data else b"")

    def trailer(self, name, value, signature=None):
        """The trailer and its signature, after the last chunk."""
        text = "\n".join([
            "AWS4-HMAC-SHA256-TRAILER", self.signing.date, self.signing.scope, self.previous,
            sha256(f"{name}:{value}\n".encode()),
        ])
        own = signature or self.signing.signature(text)
        return f"{name}:{value}\r\nx-amz-trailer-signature:{own}\r\n\r\n".encode()


def sign_chunked(request, length, form="STREAMING-AWS4-HMAC-SHA256-PAYLOAD", signing=None):
    """Signs the head of a chunked upload; returns it and the writer of its chunks."""
    signing = signing or Signing()
    request = request.with_headers(
        ("content-encoding", "aws-chunked"), ("x-amz-decoded-content-length", str(length))
    )
    request = sign(request, signing, payload_hash=form)
    seed = request.header("authorization").rpartition("Signature=")[2]
    return request, Chunks(signing, seed)
