"""Every malformed request of the table gets its exact answer, and the server is none the worse.

The table lies in bad_input/. A refusal below S3 (broken HTTP) may come without a document, and as
any of the statuses that HTTP has for it, but the connection must end with it.
"""

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from bad_input import World, authorization, bodies, documents, names, parameters, presigned, protocol
from harness import sdk
from harness.rawhttp import everything, exchange
from harness.signer import Request

TABLES = [authorization, presigned, bodies, documents, names, parameters, protocol]
CASES = [(f"{table.__name__.rpartition('.')[2]}: {row[0]}", *row[1:]) for table in TABLES
         for row in table.CASES]
# What HTTP has to say to a request that cannot be read: bad, no length that counts, too long a
# target, too large headers.
HTTP_REFUSALS = {400, 411, 414, 431, 501, 505}
# These are cut off, and the client says so by ending its side.
CUT_OFF = {"bodies: short body"}


@pytest.fixture(scope="module")
def world(server, s3):
    """A bucket with an object of ten bytes, an empty one, and an upload of one part."""
    bucket = f"bad-{uuid.uuid4().hex[:20]}"
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key=World.key, Body=b"0123456789")
    s3.put_object(Bucket=bucket, Key="empty", Body=b"")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="upload")["UploadId"]
    s3.upload_part(Bucket=bucket, Key="upload", UploadId=upload, PartNumber=1, Body=b"part")
    yield World(server.endpoint.partition("//")[2], bucket, upload)
    sdk.empty(s3, bucket)
    s3.delete_bucket(Bucket=bucket)


def send(server, world, name, make, watch_end=False):
    """Sends one row's request and returns the answer."""
    request = make(world)
    data = request.wire() if isinstance(request, Request) else request
    method = data.split(b" ", 1)[0].decode("latin-1")
    return exchange(server.endpoint, data, name in CUT_OFF, method=method, watch_end=watch_end)


def test_the_table_is_long_enough_and_names_are_unique():
    assert len(CASES) >= 150
    assert len({case[0] for case in CASES}) == len(CASES)


@pytest.mark.parametrize("name, status, code, make", CASES, ids=[case[0] for case in CASES])
def test_answer(server, world, name, status, code, make):
    answer = send(server, world, name, make, watch_end=code is None)
    seen = f"{answer.status} {answer.code}: {answer.body[:600]!r}"
    if code is None:
        assert answer.closed, f"the connection stayed open after {seen}"
        assert answer.status in HTTP_REFUSALS, seen
        return
    assert (answer.status, answer.code) == (status, code), seen
    if status >= 300:
        assert answer.headers["content-type"] == "application/xml", answer.headers
        assert b"<RequestId>" in answer.body and b"<Message>" in answer.body, seen
        assert answer.headers["x-amz-request-id"].encode() in answer.body, seen


@pytest.mark.parametrize("make", [
    protocol.smuggling(b"content-length: 5", b"transfer-encoding: chunked"),
    protocol.smuggling(b"transfer-encoding: chunked", b"content-length: 5"),
    protocol.smuggling_behind_success,
], ids=["length first", "length last", "behind success"])
def test_nothing_behind_two_framings_is_answered(server, world, make):
    said = everything(server.endpoint, make(world))
    assert said.count(b"HTTP/1.1 ") == 1 and b"smuggled" not in said, said


def test_nothing_was_changed(server, s3, world):
    assert sdk.read(s3, world.bucket, World.key) == b"0123456789"
    parts = s3.list_parts(Bucket=world.bucket, Key="upload", UploadId=world.upload)["Parts"]
    assert [(part["PartNumber"], part["Size"]) for part in parts] == [(1, 4)]
    # "new" is what the few right requests among the wrong ones put.
    assert set(sdk.list_keys(s3, world.bucket)) <= {World.key, "empty", "new"}
    buckets = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    assert "new-bucket-that-is-refused" not in buckets


def test_memory_stays_flat(server, world):
    if server.process is None:
        pytest.skip("the server's memory cannot be seen")

    def send_all():
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda case: send(server, world, case[0], case[3]), CASES))

    for _ in range(2):
        send_all()
    before = server.rss_bytes()
    for _ in range(5):
        send_all()
    grown = server.rss_bytes() - before
    assert server.alive() and server.ready()[0] == 200
    assert grown < 32 << 20, f"{grown} bytes more after {5 * len(CASES)} refused requests"
