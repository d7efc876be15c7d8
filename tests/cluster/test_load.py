"""The load itself: over a store that is right it finds nothing, and every lie of a store is found."""

import hashlib
import io
import random
import threading

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from lab.load import Load, verify

META = {"HTTPStatusCode": 200, "RetryAttempts": 0}


def refuse(status, code):
    """What boto3 raises."""
    meta = {"HTTPStatusCode": status, "RetryAttempts": 0}
    raise ClientError({"Error": {"Code": code}, "ResponseMetadata": meta}, "x")


class Memory:
    """A store in memory that lies as it is told."""

    def __init__(self, lie=None):
        self.lie = lie
        self.objects = {}
        self.before = {}
        self.lock = threading.RLock()
        self.rng = random.Random(1)

    def lies(self, lie):
        """Whether it is time for a lie."""
        return self.lie == lie and self.rng.random() < 0.2

    def _set(self, key, body):
        with self.lock:
            self.before[key] = self.objects.pop(key, None)
            if body is not None:
                self.objects[key] = body

    def put_object(self, Bucket, Key, Body, IfMatch=None, IfNoneMatch=None):
        """As boto3's."""
        with self.lock:
            there = self.objects.get(Key)
            if not self.lies("conditions"):
                if IfNoneMatch and there is not None:
                    refuse(412, "PreconditionFailed")
                if IfMatch and there is None:
                    refuse(404, "NoSuchKey")
                if IfMatch and etag(there) != IfMatch:
                    refuse(412, "PreconditionFailed")
            if IfMatch and self.lies("refuses what fits"):
                refuse(412, "PreconditionFailed")
            if not self.lies("loses writes"):
                self._set(Key, Body)
        if self.lie == "fails" and self.rng.random() < 0.02:
            raise EndpointConnectionError(endpoint_url="http://nowhere")
        return {"ETag": etag(Body), "ResponseMetadata": META}

    def get_object(self, Bucket, Key):
        """As boto3's."""
        with self.lock:
            body = self.objects.get(Key)
            if self.lies("reads the past") and self.before.get(Key):
                body = self.before[Key]
        if body is None:
            refuse(404, "NoSuchKey")
        if self.lies("spoils bytes"):
            body = body[:-1] + bytes([body[-1] ^ 1])
        return {"ETag": etag(body), "Body": io.BytesIO(body), "ResponseMetadata": META}

    def delete_object(self, Bucket, Key):
        """As boto3's."""
        if not self.lies("keeps what is deleted") and Key in self.objects:
            self._set(Key, None)
        return {"ResponseMetadata": META}

    def create_multipart_upload(self, Bucket, Key):
        """As boto3's."""
        return {"UploadId": object()}

    def upload_part(self, UploadId, PartNumber, Body, **_):
        """As boto3's."""
        with self.lock:
            self.before.setdefault(UploadId, {})[PartNumber] = Body
        return {"ETag": etag(Body)}

    def complete_multipart_upload(self, Bucket, Key, UploadId, MultipartUpload):
        """As boto3's."""
        self._set(Key, b"".join(body for _, body in sorted(self.before[UploadId].items())))
        return {"ResponseMetadata": META}

    def get_paginator(self, _):
        """As boto3's."""
        return self

    def paginate(self, Bucket):
        """As boto3's."""
        keys = sorted(self.objects)
        if self.lie == "lists too little":
            keys.pop()
        return [{"Contents": [{"Key": key} for key in keys]}]


def etag(body):
    """As S3's."""
    return f'"{hashlib.md5(body).hexdigest()}"'


def run(lie, monkeypatch):
    """A load on a store with this vice, and its verification."""
    monkeypatch.setattr("lab.load.THINK_SECONDS", 0.001)
    store = Memory(lie)
    with Load(store, "b", 7) as load:
        load.wait_for(600)
    verify(load, [store, store])
    return load.history


def test_a_right_store_passes(monkeypatch):
    assert not run(None, monkeypatch).errors()


def test_errors_are_counted_and_nothing_else_is_wrong(monkeypatch):
    assert run("fails", monkeypatch).errors()


@pytest.mark.parametrize("lie", [
    "loses writes", "reads the past", "spoils bytes", "conditions", "refuses what fits",
    "keeps what is deleted", "lists too little",
])
def test_a_lie_is_found(monkeypatch, lie):
    with pytest.raises(AssertionError, match="no right history|nobody wrote|lists other keys"):
        run(lie, monkeypatch)
