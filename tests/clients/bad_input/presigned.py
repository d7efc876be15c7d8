"""Presigned URLs, wrong in every parameter."""

from dataclasses import replace
from datetime import datetime, timedelta, timezone

from harness.signer import Signing, presign, sign

PARAMETERS = "AuthorizationQueryParametersError"
MISMATCH = "SignatureDoesNotMatch"


def at(**delta):
    """A signer at another time."""
    return Signing(time=datetime.now(timezone.utc) + timedelta(**delta))


def changed(w, name, value):
    """A presigned GET with one parameter changed after signing (None: removed)."""
    request = presign(w.get())
    query = tuple((n, value if n == name else v) for n, v in request.query)
    return replace(request, query=tuple(pair for pair in query if pair[1] is not None))


def twice(w, name):
    """A presigned GET with one parameter repeated."""
    request = presign(w.get())
    return replace(request, query=request.query + ((name, dict(request.query)[name]),))


CASES = [
    ("presigned and right", 200, "", lambda w: presign(w.get())),
    ("presigned for a week", 200, "", lambda w: presign(w.get(), expires="604800")),
    ("expired", 403, "AccessDenied", lambda w: presign(w.get(), at(minutes=-5), expires="60")),
    ("expired long ago", 403, "AccessDenied", lambda w: presign(w.get(), at(days=-400), expires="604800")),
    ("not valid yet", 403, "AccessDenied", lambda w: presign(w.get(), at(hours=1))),
    ("expires in more than a week", 400, PARAMETERS, lambda w: presign(w.get(), expires="604801")),
    ("expires negative", 400, PARAMETERS, lambda w: presign(w.get(), expires="-1")),
    ("expires zero", 400, PARAMETERS, lambda w: presign(w.get(), expires="0")),
    ("expires empty", 400, PARAMETERS, lambda w: presign(w.get(), expires="")),
    ("expires a word", 400, PARAMETERS, lambda w: presign(w.get(), expires="soon")),
    ("expires a fraction", 400, PARAMETERS, lambda w: presign(w.get(), expires="1.5")),
    ("expires beyond 64 bits", 400, PARAMETERS, lambda w: presign(w.get(), expires="9" * 30)),
    ("no algorithm", 400, PARAMETERS, lambda w: presign(w.get(), Algorithm=None)),
    ("no credential parameter", 400, PARAMETERS, lambda w: presign(w.get(), Credential=None)),
    ("no date parameter", 400, PARAMETERS, lambda w: presign(w.get(), Date=None)),
    ("no expires parameter", 400, PARAMETERS, lambda w: presign(w.get(), Expires=None)),
    ("no signed headers parameter", 400, PARAMETERS, lambda w: presign(w.get(), SignedHeaders=None)),
    ("no signature parameter", 400, PARAMETERS, lambda w: presign(w.get(), Signature=None)),
    ("other algorithm", 400, PARAMETERS, lambda w: presign(w.get(), Algorithm="AWS4-HMAC-SHA1")),
    ("empty algorithm", 400, PARAMETERS, lambda w: presign(w.get(), Algorithm="")),
    ("date not in the long format", 400, PARAMETERS, lambda w: presign(w.get(), Date="2026-01-01")),
    ("credential without a scope", 400, PARAMETERS, lambda w: presign(w.get(), Credential="AKIA")),
    ("credential empty", 400, PARAMETERS, lambda w: presign(w.get(), Credential="")),
    ("presigned for another region", 400, PARAMETERS, lambda w: presign(w.get(), Signing(region="mars-1"))),
    ("presigned for another service", 400, PARAMETERS, lambda w: presign(w.get(), Signing(service="sqs"))),
    ("presigned scope of another day", 400, PARAMETERS,
     lambda w: presign(w.get(), Signing(scope_date="20200101"))),
    ("presigned terminator", 400, PARAMETERS,
     lambda w: presign(w.get(), Signing(terminator="aws4"))),
    ("presigned without host", 400, PARAMETERS, lambda w: presign(w.get(), SignedHeaders="date")),
    ("presigned by nobody", 403, "InvalidAccessKeyId",
     lambda w: presign(w.get(), Signing(access_key="AKIANOBODYHASTHISKEY"))),
    ("presigned with the wrong secret", 403, MISMATCH,
     lambda w: presign(w.get(), Signing(secret_key="wrong"))),
    ("presigned signature changed", 403, MISMATCH,
     lambda w: changed(w, "X-Amz-Signature", "0" * 64)),
    ("presigned signature too short", 400, PARAMETERS, lambda w: changed(w, "X-Amz-Signature", "abc")),
    ("presigned expiry changed", 403, MISMATCH, lambda w: changed(w, "X-Amz-Expires", "61")),
    ("presigned path changed", 403, MISMATCH,
     lambda w: replace(presign(w.get()), path=f"/{w.bucket}/other")),
    ("presigned method changed", 403, MISMATCH, lambda w: replace(presign(w.get()), method="DELETE")),
    ("presigned query added", 403, MISMATCH,
     lambda w: replace(presign(w.get()),
                       query=presign(w.get()).query + (("response-content-type", "a/b"),))),
    ("presigned header not sent", 403, MISMATCH,
     lambda w: presign(w.get(headers=(("x-amz-meta-a", "1"),))).without("x-amz-meta-a")),
    ("presigned, x-amz header not signed", 403, "AccessDenied",
     lambda w: presign(w.put()).added(("x-amz-meta-sneaked", "in"))),
    ("signature parameter twice", 400, PARAMETERS, lambda w: twice(w, "X-Amz-Signature")),
    ("expires parameter twice", 400, PARAMETERS, lambda w: twice(w, "X-Amz-Expires")),
    ("header and query both", 400, "InvalidArgument", lambda w: sign(presign(w.get()))),
    ("presigned by version 2", 400, "InvalidRequest",
     lambda w: w.get((("AWSAccessKeyId", "AKIA"), ("Signature", "abc"), ("Expires", "4000000000")))),
    ("presigned with a session token", 400, "InvalidToken",
     lambda w: presign(w.get((("X-Amz-Security-Token", "abc"),)))),
]
