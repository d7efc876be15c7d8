"""`drystone storage-node …` on the disks that a server has left: whose shards they hold, and that
they are sound; after a clean stop and after a kill."""

import json
import subprocess

import pytest

from harness.sdk import connect

PART = 5 << 20


def tool(binary, *arguments, status=0):
    """Runs one of the tools; returns what it printed."""
    done = subprocess.run(
        [binary, "storage-node", *map(str, arguments)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == status, f"{arguments}: status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def fill(s3):
    """Puts objects of every kind; returns the stored bytes of each key."""
    s3.create_bucket(Bucket="stones")
    sizes = {"small": 5, "a/b/nested ü": 40_000, "large": 9 << 20}
    for key, size in sizes.items():
        s3.put_object(Bucket="stones", Key=key, Body=b"s" * size)
    upload = s3.create_multipart_upload(Bucket="stones", Key="parts")["UploadId"]
    parts = []
    for number in (1, 2):
        tag = s3.upload_part(
            Bucket="stones", Key="parts", UploadId=upload, PartNumber=number, Body=b"p" * PART
        )["ETag"]
        parts.append({"PartNumber": number, "ETag": tag})
    s3.complete_multipart_upload(
        Bucket="stones", Key="parts", UploadId=upload, MultipartUpload={"Parts": parts}
    )
    return sizes | {"parts": 2 * PART}


@pytest.mark.parametrize("end", ["stopped", "killed"])
def test_every_object_can_be_told_from_the_disks_alone(new_server, binary, end):
    server = new_server()
    sizes = fill(connect(server.endpoint))
    if end == "stopped":
        assert server.stop() == 0
    else:
        server.kill()
    owners, stripes = {}, {}
    for directory in server.directories:
        found = json.loads(tool(binary, "verify", directory, "--json"))
        assert found["sound"] and found["index"]["agrees"], found
        summary = json.loads(tool(binary, "inspect", directory, "--json"))
        assert summary["live_shards"] == found["live_shards"] > 0
        for line in tool(binary, "export-owners", directory).splitlines():
            extent = json.loads(line)
            owner = extent["owner"]
            assert owner["bucket"] == "stones" and extent["coding"] == "4+2", extent
            known = owners.setdefault(extent["extent"], owner)
            assert known == owner
            for stripe in extent["stripes"]:
                place = (extent["extent"], stripe["stripe"])
                bytes_known, slots = stripes.setdefault(place, (stripe["bytes"], set()))
                assert bytes_known == stripe["bytes"]
                here = {shard["slot"] for shard in stripe["shards"]}
                assert not slots & here, "two disks hold the same shard"
                slots |= here
    told = dict.fromkeys(sizes, 0)
    for (extent, _), (size, slots) in stripes.items():
        assert {4, 5} <= slots, "both parity shards are somewhere"
        if owners[extent]["kind"] == "body":
            told[owners[extent]["key"]] += size
    assert told == sizes
    parts = {owner["part"] for owner in owners.values() if owner["key"] == "parts" and owner["kind"] == "body"}
    assert parts == {1, 2}
    # That an upload was completed, and with which parts, is told beside its bodies.
    assert [owner["key"] for owner in owners.values() if owner["kind"] == "record"] == ["parts"]


def test_a_rebuilt_index_serves_the_same(new_server, binary):
    server = new_server()
    sizes = fill(connect(server.endpoint))
    assert "in use" in subprocess.run(
        [binary, "storage-node", "rebuild-index", server.directories[0]], capture_output=True, text=True
    ).stderr
    assert server.stop() == 0
    for directory in server.directories:
        before = json.loads(tool(binary, "inspect", directory, "--json"))
        assert f"{before['live_shards']} live shards" in tool(binary, "rebuild-index", directory)
    server.start()
    s3 = connect(server.endpoint)
    for key, size in sizes.items():
        body = s3.get_object(Bucket="stones", Key=key)["Body"].read()
        assert len(body) == size and len(set(body)) == 1
