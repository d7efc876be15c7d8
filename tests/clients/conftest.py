"""Fixtures: the server that a whole run shares, a bucket for every test, servers of a test's own.

`--endpoint URL` runs the tests against a server that is there already (with the harness' keys);
tests that need a process of their own are skipped then.
"""

import os
import random
import shutil
import uuid
from pathlib import Path

import pytest

from harness import sdk
from harness.programs import Programs
from harness.server import Remote, Server

ROOT = Path(__file__).resolve().parents[2]


def pytest_addoption(parser):
    """The options of this suite."""
    binary = os.environ.get("DRYSTONE_BINARY", ROOT / "target/release/drystone")
    parser.addoption("--binary", default=str(binary), help="the server program")
    parser.addoption("--endpoint", help="use this running server instead")
    parser.addoption("--load", default=os.environ.get("DRYSTONE_LOAD"), help="the s3_load program")
    parser.addoption("--rust-sdk", default=os.environ.get("DRYSTONE_RUST_SDK"), help="rust-sdk-client")
    parser.addoption("--rounds", type=int, default=50, help="rounds of the crash test")
    parser.addoption("--seed", default=None, help="repeats what was random in an earlier run")


@pytest.fixture(scope="session")
def seed(request):
    """Everything random comes from it; it is printed when a test fails."""
    return request.config.getoption("--seed") or str(random.SystemRandom().randrange(1 << 32))


@pytest.fixture(scope="session")
def binary(request):
    """Path of the server program."""
    if request.config.getoption("--endpoint"):
        pytest.skip("needs a server process of its own")
    path = Path(request.config.getoption("--binary"))
    if not path.exists():
        pytest.fail(f"{path} is missing: cargo build --release")
    return path.resolve()


@pytest.fixture(scope="session")
def load_program(request):
    """Path of the load program."""
    path = request.config.getoption("--load")
    if not path:
        pytest.skip("no load program: give --load or DRYSTONE_LOAD")
    return Path(path).resolve()


@pytest.fixture(scope="session")
def server(request, tmp_path_factory):
    """The server that tests share when they do it no harm."""
    endpoint = request.config.getoption("--endpoint")
    if endpoint:
        yield Remote(endpoint)
        return
    program = request.getfixturevalue("binary")
    running = Server(program, tmp_path_factory.mktemp("shared-server")).start()
    yield running
    if running.alive():
        status = running.stop()
        running.remove()
        assert status == 0, f"SIGTERM gave status {status}\n{running.tail()}"


@pytest.fixture
def new_server(binary, tmp_path):
    """Starts servers that the test may hurt; they are killed and removed after it."""
    made = []

    def make(name="server", **options):
        made.append(Server(binary, tmp_path / name, **options))
        return made[-1].start()

    yield make
    for one in made:
        one.remove()


@pytest.fixture(scope="session")
def s3(server):
    """A boto3 client of the shared server."""
    return sdk.connect(server.endpoint)


@pytest.fixture
def bucket(s3):
    """A new bucket, emptied and removed after the test."""
    name = f"test-{uuid.uuid4().hex[:20]}"
    s3.create_bucket(Bucket=name)
    yield name
    sdk.empty(s3, name)
    s3.delete_bucket(Bucket=name)


@pytest.fixture
def programs(server, tmp_path):
    """The command-line clients, pointed at the shared server."""
    return Programs(server.endpoint, tmp_path / "home")


@pytest.fixture
def scratch(tmp_path):
    """A directory that is deleted even when the test fails: it may hold gigabytes."""
    path = tmp_path / "scratch"
    path.mkdir()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    """Shows the seed and the end of the servers' logs beside a failure."""
    report = (yield).get_result()
    if not report.failed:
        return
    if "seed" in item.funcargs:
        report.sections.append(("seed", f"--seed {item.funcargs['seed']}"))
    logs = []
    if "server" in item.funcargs and item.funcargs["server"].log:
        logs.append(item.funcargs["server"].log)
    if "tmp_path" in item.funcargs:
        logs.extend(item.funcargs["tmp_path"].rglob("server.log"))
    for log in logs:
        if log.exists():
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-40:])
            report.sections.append((str(log), tail))
