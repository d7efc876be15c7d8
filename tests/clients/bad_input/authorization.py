"""Signatures in the Authorization header, wrong in every way."""

from dataclasses import replace
from datetime import datetime, timedelta, timezone

from harness.signer import Request, Signing, sign, signed_names

MALFORMED = "AuthorizationHeaderMalformed"
MISMATCH = "SignatureDoesNotMatch"


def later(**delta):
    """A signer whose clock is wrong by so much."""
    return Signing(time=datetime.now(timezone.utc) + timedelta(**delta))


def with_authorization(w, value):
    """A signed GET with another Authorization header."""
    return sign(w.get()).with_headers(("authorization", value))


def edited(w, old, new):
    """A signed GET with its Authorization header changed."""
    request = sign(w.get())
    value = request.header("authorization")
    assert old in value, value
    return request.with_headers(("authorization", value.replace(old, new, 1)))


def cut(w, name):
    """A signed GET without one of the three components."""
    request = sign(w.get())
    scheme, _, fields = request.header("authorization").partition(" ")
    kept = [field for field in fields.split(",") if not field.startswith(name)]
    return request.with_headers(("authorization", f"{scheme} {','.join(kept)}"))


def signature_as(w, change):
    """A signed GET with its signature rewritten."""
    request = sign(w.get())
    head, _, signature = request.header("authorization").rpartition("=")
    return request.with_headers(("authorization", f"{head}={change(signature)}"))


def flipped(signature):
    """The same signature but for its last digit."""
    return signature[:-1] + ("0" if signature[-1] != "0" else "1")


def unsigned_date(w, *headers):
    """A signed GET whose x-amz-date was replaced by these headers."""
    return sign(w.get()).without("x-amz-date").added(*headers)


CASES = [
    ("no signature at all", 403, "AccessDenied", lambda w: w.get()),
    ("no signature on a put", 403, "AccessDenied", lambda w: w.put()),
    ("no signature on a list of buckets", 403, "AccessDenied",
     lambda w: Request(headers=(("host", w.host),))),
    ("wrong secret", 403, MISMATCH, lambda w: sign(w.get(), Signing(secret_key="wrong"))),
    ("empty secret", 403, MISMATCH, lambda w: sign(w.get(), Signing(secret_key=""))),
    ("unknown access key", 403, "InvalidAccessKeyId",
     lambda w: sign(w.get(), Signing(access_key="AKIANOBODYHASTHISKEY"))),
    ("access key in other case", 403, "InvalidAccessKeyId",
     lambda w: sign(w.get(), Signing(access_key=Signing().access_key.lower()))),
    ("empty access key", 400, MALFORMED, lambda w: sign(w.get(), Signing(access_key=""))),
    ("wrong region", 400, MALFORMED, lambda w: sign(w.get(), Signing(region="eu-west-9"))),
    ("empty region", 400, MALFORMED, lambda w: sign(w.get(), Signing(region=""))),
    ("wrong service", 400, MALFORMED, lambda w: sign(w.get(), Signing(service="ec2"))),
    ("wrong terminator", 400, MALFORMED,
     lambda w: sign(w.get(), Signing(terminator="aws5_request"))),
    ("scope of another day", 400, MALFORMED,
     lambda w: sign(w.get(), Signing(scope_date="20200101"))),
    ("scope with a date that is none", 400, MALFORMED,
     lambda w: sign(w.get(), Signing(scope_date="2020"))),
    ("clock 20 minutes late", 403, "RequestTimeTooSkewed", lambda w: sign(w.get(), later(minutes=-20))),
    ("clock 20 minutes early", 403, "RequestTimeTooSkewed", lambda w: sign(w.get(), later(minutes=20))),
    ("clock two days late", 403, "RequestTimeTooSkewed", lambda w: sign(w.get(), later(days=-2))),
    ("clock two years early", 403, "RequestTimeTooSkewed", lambda w: sign(w.get(), later(days=730))),
    ("credential of one word", 400, MALFORMED,
     lambda w: with_authorization(
         w, "AWS4-HMAC-SHA256 Credential=HAHAHA,SignedHeaders=host,Signature=" + "0" * 64)),
    ("empty authorization", 400, "InvalidArgument", lambda w: with_authorization(w, "")),
    ("only the algorithm", 400, "InvalidArgument", lambda w: with_authorization(w, "AWS4-HMAC-SHA256")),
    ("garbage behind the algorithm", 400, MALFORMED,
     lambda w: with_authorization(w, "AWS4-HMAC-SHA256 garbage")),
    ("basic authorization", 400, "InvalidArgument", lambda w: with_authorization(w, "Basic dTpw")),
    ("bearer token", 400, "InvalidArgument", lambda w: with_authorization(w, "Bearer abc")),
    ("unknown algorithm", 400, "InvalidArgument",
     lambda w: edited(w, "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA512")),
    ("signature version 2", 400, "InvalidRequest",
     lambda w: with_authorization(w, "AWS AKIATESTSROOT0000001:AAAAAAAAAAAAAAAAAAAAAAAAAAA=")),
    ("no credential", 400, MALFORMED, lambda w: cut(w, "Credential")),
    ("no signed headers", 400, MALFORMED, lambda w: cut(w, "SignedHeaders")),
    ("no signature component", 400, MALFORMED, lambda w: cut(w, "Signature")),
    ("credential twice", 400, MALFORMED,
     lambda w: edited(w, "Credential=", "Credential=a/20200101/us-east-1/s3/aws4_request,Credential=")),
    ("unknown component", 400, MALFORMED, lambda w: edited(w, "Credential=", "Colour=grey,Credential=")),
    ("flipped signature digit", 403, MISMATCH, lambda w: signature_as(w, flipped)),
    ("signature of zeros", 403, MISMATCH, lambda w: signature_as(w, lambda s: "0" * 64)),
    ("short signature", 400, MALFORMED, lambda w: signature_as(w, lambda s: s[:-1])),
    ("long signature", 400, MALFORMED, lambda w: signature_as(w, lambda s: s + "0")),
    ("empty signature", 400, MALFORMED, lambda w: signature_as(w, lambda s: "")),
    ("signature that is not hexadecimal", 400, MALFORMED, lambda w: signature_as(w, lambda s: "x" * 64)),
    ("host not signed", 400, MALFORMED,
     lambda w: sign(w.get(), signed=["x-amz-content-sha256", "x-amz-date"])),
    ("signed headers not sorted", 400, MALFORMED,
     lambda w: edited(w, "host;x-amz-content-sha256", "x-amz-content-sha256;host")),
    ("x-amz header not signed", 403, "AccessDenied",
     lambda w: sign(w.put()).added(("x-amz-meta-sneaked", "in"))),
    ("x-amz-date not signed", 403, "AccessDenied",
     lambda w: sign(w.get(), signed=["host", "x-amz-content-sha256"])),
    ("signed header not sent", 403, MISMATCH,
     lambda w: sign(w.get(headers=(("x-amz-meta-a", "1"),))).without("x-amz-meta-a")),
    ("signed header changed", 403, MISMATCH,
     lambda w: sign(w.put((("x-amz-meta-a", "1"),))).with_headers(("x-amz-meta-a", "2"))),
    ("host changed", 403, MISMATCH,
     lambda w: sign(w.get()).with_headers(("host", "localhost:1"))),
    ("path changed", 403, MISMATCH, lambda w: replace(sign(w.get()), path=f"/{w.bucket}/other")),
    ("method changed", 403, MISMATCH, lambda w: replace(sign(w.get()), method="DELETE")),
    ("query changed", 403, MISMATCH,
     lambda w: replace(w.list(("prefix", "a")), query=(("prefix", "b"),))),
    ("query added", 403, MISMATCH, lambda w: replace(w.list(), query=(("prefix", "b"),))),
    ("date changed", 403, MISMATCH,
     lambda w: sign(w.get(), later(minutes=-2)).with_headers(("x-amz-date", Signing().date))),
    ("no date", 403, "AccessDenied", lambda w: unsigned_date(w)),
    ("empty date", 403, "AccessDenied", lambda w: unsigned_date(w, ("x-amz-date", ""))),
    ("date that is none", 403, "AccessDenied", lambda w: unsigned_date(w, ("x-amz-date", "yesterday"))),
    ("date of the thirteenth month", 403, "AccessDenied",
     lambda w: unsigned_date(w, ("x-amz-date", "20261301T000000Z"))),
    ("date header that is not signed", 403, "AccessDenied",
     lambda w: unsigned_date(w, ("date", "Fri, 24 May 2013 00:00:00 GMT"))),
    ("no content hash", 400, "InvalidRequest", lambda w: sign(w.get()).without("x-amz-content-sha256")),
    ("content hash that is none", 400, "InvalidArgument", lambda w: sign(w.get(), payload_hash="abc")),
    ("unknown streaming form", 400, "InvalidArgument",
     lambda w: sign(w.put(), payload_hash="STREAMING-AWS5-HMAC-SHA256-PAYLOAD")),
    ("content hash of other bytes", 400, "XAmzContentSHA256Mismatch",
     lambda w: sign(w.put(), payload_hash="0" * 64)),
    ("content hash of an empty body", 400, "XAmzContentSHA256Mismatch",
     lambda w: replace(sign(replace(w.put(), body=b"")), body=b"0123456789")),
    ("two authorization headers", 400, "InvalidArgument",
     lambda w: sign(w.get()).added(("authorization", "AWS4-HMAC-SHA256 x"))),
    ("session token", 400, "InvalidToken",
     lambda w: sign(w.get(headers=(("x-amz-security-token", "abc"),)))),
    ("signed names are those that the tests sign", 200, "",
     lambda w: sign(w.get(), signed=signed_names(sign(w.get())))),
]
