"""The table of malformed requests: what is sent, and the exact status and S3 code of the answer.

A row is `(name, status, code, request)`, where `request(world)` makes a `Request` or raw bytes. A
code of `None` stands for a request that is refused below S3 (broken HTTP): its answer needs no
document, but the connection must be closed. A status of 200 stands for input that S3 ignores.
"""

from dataclasses import dataclass

from harness.signer import Request, sign


@dataclass(frozen=True)
class World:
    """What the requests are about: a server, a bucket, an object of ten bytes, an upload."""

    host: str
    bucket: str
    upload: str

    key = "there"

    def request(self, method="GET", key=None, query=(), headers=(), body=b""):
        """A request for the bucket or for a key in it, not signed yet."""
        path = f"/{self.bucket}" + (f"/{key}" if key is not None else "")
        return Request(method, path, tuple(query), (("host", self.host), *headers), body)

    def get(self, query=(), headers=()):
        """GET of the object."""
        return self.request("GET", self.key, query, headers)

    def put(self, headers=(), body=b"0123456789", query=()):
        """PUT of a new object."""
        return self.request("PUT", "new", query, headers, body)

    def list(self, *query):
        """A signed listing of the bucket."""
        return sign(self.request("GET", None, query))

    def post(self, query, body, headers=(), key=None):
        """A signed POST."""
        return sign(self.request("POST", key, query, headers, body))


def raw(request, *changes):
    """The bytes of a request after replacing bytes in them; every change must apply."""
    data = request.wire() if isinstance(request, Request) else request
    for old, new in changes:
        assert old in data, old
        data = data.replace(old, new, 1)
    return data
