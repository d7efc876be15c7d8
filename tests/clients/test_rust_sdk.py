"""The AWS SDK for Rust: runs the program of tests/rust-sdk, which compares every byte itself."""

import uuid
from pathlib import Path

import pytest


def test_rust_sdk(request, programs):
    program = request.config.getoption("--rust-sdk")
    if not program:
        pytest.skip("no rust-sdk-client: give --rust-sdk or DRYSTONE_RUST_SDK")
    bucket = f"test-{uuid.uuid4().hex[:20]}"
    command = [Path(program).resolve(), "--endpoint", programs.endpoint, "--bucket", bucket]
    done = programs.run(*command)
    assert done.stdout.split() == [
        "objects_come_back", "ranges_are_exact", "parts_make_a_whole", "listings_have_every_key",
        "errors_have_their_names", "deleted_is_gone",
    ]
