"""The tests' own signer against the examples in the AWS documentation (API reference, SigV4)."""

from datetime import datetime, timezone

from harness.signer import Request, Signing, presign, sha256, sign, sign_chunked

SIGNING = Signing(
    access_key="AKIAIOSFODNN7EXAMPLE",
    secret_key="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    time=datetime(2013, 5, 24, tzinfo=timezone.utc),
)
HOST = ("host", "examplebucket.s3.amazonaws.com")


def signature(request):
    return request.header("authorization").rpartition("=")[2]


def test_get_with_range():
    request = Request("GET", "/test.txt", headers=(HOST, ("range", "bytes=0-9")))
    assert signature(sign(request, SIGNING)) == (
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )


def test_put():
    headers = (HOST, ("date", "Fri, 24 May 2013 00:00:00 GMT"),
               ("x-amz-storage-class", "REDUCED_REDUNDANCY"))
    request = Request("PUT", "/test%24file.text", headers=headers, body=b"Welcome to Amazon S3.")
    assert signature(sign(request, SIGNING)) == (
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
    )


def test_subresource_and_list():
    request = Request("GET", "/", (("lifecycle", None),), (HOST,))
    assert signature(sign(request, SIGNING)) == (
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
    )
    request = Request("GET", "/", (("max-keys", "2"), ("prefix", "J")), (HOST,))
    assert signature(sign(request, SIGNING)) == (
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
    )


def test_presigned_get():
    request = presign(Request("GET", "/test.txt", headers=(HOST,)), SIGNING, expires="86400")
    assert dict(request.query)["X-Amz-Signature"] == (
        "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )


def test_chunked_put():
    body = b"a" * 66560
    headers = (("host", "s3.amazonaws.com"), ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
               ("content-length", "66824"))
    request = Request("PUT", "/examplebucket/chunkObject.txt", headers=headers)
    # The example signs content-encoding and content-length too, which nobody has to.
    signed = ["content-encoding", "content-length", "host", "x-amz-content-sha256", "x-amz-date",
              "x-amz-decoded-content-length", "x-amz-storage-class"]
    form = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
    request, chunks = sign_chunked(request, len(body), form, SIGNING)
    request = sign(request, SIGNING, payload_hash=form, signed=signed)
    assert signature(request) == (
        "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
    )
    chunks.previous = signature(request)
    for data, expected in [
        (body[:65536], b"ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
        (body[65536:], b"0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
        (b"", b"b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
    ]:
        assert expected in chunks.chunk(data)
    assert sha256(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
